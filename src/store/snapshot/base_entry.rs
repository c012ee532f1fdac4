//! Entries of a baseline, and going through them in their order.

use super::baseline::Baseline;
use super::manifest::NO_PARENT;
use super::siblings::KnownSiblings;
use super::table_header::Facts;
use super::table_record::Record;
use crate::model::{Digest, EntryKind, Text};
use crate::sys::walk::Stat;
use crate::sys::xattr::Xattrs;

/// One object of a baseline.
#[derive(Clone, Copy, Debug)]
pub struct BaseEntry<'a> {
    pub(super) baseline: &'a Baseline,
    pub(super) index: u32,
    pub(super) record: Record,
}

/// A directory of a baseline.
#[derive(Clone, Copy, Debug)]
pub struct BaseDir<'a> {
    pub(super) baseline: &'a Baseline,
    pub(super) index: u32,
}

/// What stands in one directory, or the roots, sorted by name; what is below is passed over.
#[derive(Clone, Copy, Debug)]
pub struct Siblings<'a> {
    pub(super) baseline: &'a Baseline,
    pub(super) known: KnownSiblings<'a>,
}

impl<'a> BaseEntry<'a> {
    /// Its name in its directory; of a root its name in the listing.
    pub fn name(&self) -> &'a [u8] {
        self.baseline.table.name(&self.record)
    }

    /// Its place among all entries, which is that of the manifest's.
    pub fn index(&self) -> u32 {
        self.index
    }

    /// Its listing path.
    pub fn path(&self) -> Text {
        let mut names = vec![self.name()];
        let mut above = self.record.parent;
        while above != NO_PARENT
            && let Some(dir) = self.baseline.entry(above)
        {
            names.push(dir.name());
            above = dir.record.parent;
        }
        names.reverse();
        Text(names.join(&b'/'))
    }

    /// What it was.
    pub fn kind(&self) -> EntryKind {
        self.record.kind().unwrap_or(EntryKind::File)
    }

    /// What stat said of it (but for link counts and blocks); none where only the manifest is left.
    pub fn stat(&self) -> Option<Stat> {
        (!self.baseline.table.header.facts.has(Facts::NO_STATS)).then_some(self.record.stat)
    }

    /// Permission bits.
    pub fn mode(&self) -> u32 {
        self.record.stat.permissions()
    }

    /// Owner.
    pub fn uid(&self) -> u32 {
        self.record.stat.uid
    }

    /// Group.
    pub fn gid(&self) -> u32 {
        self.record.stat.gid
    }

    /// Last modification, seconds and nanoseconds.
    pub fn mtime(&self) -> (i64, u32) {
        self.record.stat.mtime
    }

    /// The listing's hash.
    pub fn digest(&self) -> Digest {
        self.record.digest
    }

    /// Bytes that the hash is taken over.
    pub fn size(&self) -> u64 {
        self.record.size
    }

    /// Whether it had holes.
    pub fn is_sparse(&self) -> bool {
        self.record.sparse
    }

    /// Whether an equal stat means an equal content: not for what changed in the tick in which it was read.
    pub fn is_trusted(&self) -> bool {
        self.record.trusted
    }

    /// Target of a symbolic link, empty for anything else.
    pub fn target(&self) -> Box<[u8]> {
        self.baseline.table.extras(&self.record).map_or_else(Box::default, |extras| extras.target)
    }

    /// Extended attributes, sorted by name.
    pub fn xattrs(&self) -> Xattrs {
        self.baseline.table.extras(&self.record).map_or_else(Vec::new, |extras| extras.xattrs)
    }

    /// The entry as a directory, if it is one.
    pub fn dir(&self) -> Option<BaseDir<'a>> {
        (self.kind() == EntryKind::Directory).then_some(BaseDir { baseline: self.baseline, index: self.index })
    }
}

impl<'a> BaseDir<'a> {
    /// What stands directly in it.
    pub fn children(&self) -> Siblings<'a> {
        let known = KnownSiblings::of(Some(&self.baseline.table), Some(self.index));
        Siblings { baseline: self.baseline, known }
    }

    /// The directory's own entry.
    pub fn entry(&self) -> Option<BaseEntry<'a>> {
        self.baseline.entry(self.index)
    }
}

impl<'a> Siblings<'a> {
    /// One entry alone.
    pub(super) fn only(entry: &BaseEntry<'a>) -> Self {
        let baseline = entry.baseline;
        Self { baseline, known: KnownSiblings::only(&baseline.table, entry.index) }
    }

    /// The entry of this name. Names must be asked for in their order: earlier ones are passed over.
    pub fn advance_to(&mut self, name: &[u8]) -> Option<BaseEntry<'a>> {
        let (index, record) = self.known.advance_to(name)?;
        Some(BaseEntry { baseline: self.baseline, index, record })
    }
}

impl<'a> Iterator for Siblings<'a> {
    type Item = BaseEntry<'a>;

    fn next(&mut self) -> Option<BaseEntry<'a>> {
        let (index, record) = self.known.next()?;
        Some(BaseEntry { baseline: self.baseline, index, record })
    }
}

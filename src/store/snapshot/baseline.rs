//! `Baseline`: what a capture saw, entry by entry, for whoever asks later what has changed since.
//!
//! It is the stat table of that very capture (mapped, so that it costs no memory of its own), valid although a later
//! capture replaces the file; or a manifest, where nothing but the manifest is left.

use std::collections::HashMap;

use super::manifest::{Manifest, ManifestEntry, NO_PARENT};
use super::siblings::KnownSiblings;
use super::table::{StatTable, TableWriter};
use super::table_header::{Facts, Header};
use super::table_record::Record;
use crate::model::event::SnapshotRef;
use crate::model::{Digest, EntryKind, Text};
use crate::sys::walk::{ObjectKind, Stat};
use crate::sys::xattr::Xattrs;

/// What some trees were.
#[derive(Debug)]
pub struct Baseline {
    pub(super) table: StatTable,
}

impl PartialEq for Baseline {
    fn eq(&self, other: &Self) -> bool {
        self.table.bytes() == other.table.bytes()
    }
}

impl Eq for Baseline {}

/// One object of a baseline.
#[derive(Clone, Copy, Debug)]
pub struct BaseEntry<'a> {
    baseline: &'a Baseline,
    index: u32,
    record: Record,
}

/// A directory of a baseline.
#[derive(Clone, Copy, Debug)]
pub struct BaseDir<'a> {
    baseline: &'a Baseline,
    index: u32,
}

/// What stands in one directory, or the roots, sorted by name; what is below is passed over.
#[derive(Clone, Copy, Debug)]
pub struct Siblings<'a> {
    baseline: &'a Baseline,
    known: KnownSiblings<'a>,
}

/// Whether an object is what it was, as far as its stat tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SameNow {
    /// It is. Of a directory this says nothing about what is in it.
    Same,
    /// It is not.
    Differs,
    /// Its content must be read (of a link its target, of a directory its attributes).
    NeedsHash,
}

/// A file that stands in the trees under several names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkGroup {
    /// Its paths, in the order of the listing.
    pub paths: Vec<Text>,
    /// Bytes of its content.
    pub size: u64,
}

impl Baseline {
    pub(super) fn of(table: StatTable) -> Self {
        Self { table }
    }

    /// The baseline of a snapshot of which only the manifest is left: every file's content has to be read to know
    /// whether it is the same.
    pub fn from_manifest(manifest: &Manifest) -> Self {
        let entries = manifest.entries();
        let has_links = entries.iter().any(|entry| entry.link_group != 0);
        let facts = if has_links { Facts::NO_STATS.with(Facts::LINKS) } else { Facts::NO_STATS };
        let (files, bytes) = manifest.totals();
        let nothing = Digest([0; 32]);
        let header = Header {
            key: nothing,
            input_hash: manifest.root_digest(),
            manifest: manifest.digest(),
            pack: manifest.own_pack.unwrap_or(nothing),
            entries: entries.len() as u64,
            packs: 0,
            files,
            bytes,
            skipped: 0,
            untrusted: entries.len() as u64,
            left_out: 0,
            // Nobody has this id (chown(2) takes it for "unchanged"): what is foreign is counted when it is asked.
            owner: (u32::MAX, u32::MAX),
            foreign: 0,
            facts,
            watched: 0,
            watched_bytes: 0,
        };
        let write = || {
            let mut writer = TableWriter::begin(Vec::new(), header, &[], &[])?;
            for entry in entries {
                writer.push(record_of(entry), &entry.name, entry.extras.as_deref())?;
            }
            writer.finish()
        };
        let table = write().ok().and_then(StatTable::from_memory);
        Self { table: table.expect("writing to memory cannot fail, and what was written has its own shape") }
    }

    /// The snapshot whose baseline this is.
    pub fn snapshot(&self) -> SnapshotRef {
        self.table.header.snapshot()
    }

    /// Number of entries.
    pub fn len(&self) -> u64 {
        self.table.header.entries
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Names that were left out of the capture; 0 where only the manifest is left.
    pub fn left_out(&self) -> u64 {
        self.table.header.left_out
    }

    /// The roots, sorted by name.
    pub fn roots(&self) -> Siblings<'_> {
        Siblings { baseline: self, known: KnownSiblings::of(Some(&self.table), None) }
    }

    /// The root of this name, if it is a directory.
    pub fn root(&self, name: &[u8]) -> Option<BaseDir<'_>> {
        self.roots().advance_to(name)?.dir()
    }

    /// The entry with this listing path.
    pub fn find(&self, path: &[u8]) -> Option<BaseEntry<'_>> {
        self.roots().find_map(|root| {
            let rest = path.strip_prefix(root.name()).filter(|rest| rest.is_empty() || rest[0] == b'/')?;
            rest.split(|byte| *byte == b'/')
                .skip(1)
                .try_fold(root, |above, name| above.dir()?.children().advance_to(name))
        })
    }

    /// How many entries belong to another user or another group.
    pub fn foreign_owners(&self, uid: u32, gid: u32) -> u64 {
        if self.table.header.owner == (uid, gid) {
            return self.table.header.foreign;
        }
        self.entries().filter(|entry| (entry.uid(), entry.gid()) != (uid, gid)).count() as u64
    }

    /// Whether a file stands in the trees under several names.
    pub fn has_link_groups(&self) -> bool {
        self.table.header.facts.has(Facts::LINKS)
    }

    /// The files that stand in the trees under several names, in the order of their first ones.
    pub fn link_groups(&self) -> Vec<LinkGroup> {
        if !self.has_link_groups() {
            return Vec::new();
        }
        let mut names = HashMap::<(u64, u64), Vec<BaseEntry<'_>>>::new();
        let linkable = |entry: &BaseEntry<'_>| entry.kind() == EntryKind::File && entry.record.stat.ino != 0;
        for entry in self.entries().filter(linkable) {
            names.entry((entry.record.stat.dev, entry.record.stat.ino)).or_default().push(entry);
        }
        let mut groups: Vec<_> = names.into_values().filter(|names| names.len() > 1).collect();
        groups.sort_unstable_by_key(|names| names[0].index);
        let group = |names: Vec<BaseEntry<'_>>| LinkGroup {
            size: names[0].size(),
            paths: names.iter().map(BaseEntry::path).collect(),
        };
        groups.into_iter().map(group).collect()
    }

    /// All entries, in the order of the manifest.
    pub fn entries(&self) -> impl Iterator<Item = BaseEntry<'_>> {
        (0..self.table.len()).filter_map(|index| self.entry(index))
    }

    /// The entry at a place.
    pub fn entry(&self, index: u32) -> Option<BaseEntry<'_>> {
        Some(BaseEntry { baseline: self, index, record: self.table.record(index)? })
    }

    /// Whether an object whose stat is `now` is the entry.
    pub fn is_same_now(&self, entry: &BaseEntry<'_>, now: &Stat) -> SameNow {
        let Record { stat, trusted, .. } = &entry.record;
        let key = |stat: &Stat| (stat.kind(), stat.uid, stat.gid);
        let same_mode = stat.kind() == ObjectKind::Symlink || stat.permissions() == now.permissions();
        if key(stat) != key(now) || !same_mode || stat.kind() == ObjectKind::File && stat.size != now.size {
            SameNow::Differs
        } else if *trusted && stat.same_as(now) || stat.kind() == ObjectKind::Fifo {
            SameNow::Same
        } else {
            SameNow::NeedsHash
        }
    }
}

/// What a manifest knows, as a record: the number of a group of links stands for the inode.
fn record_of(entry: &ManifestEntry) -> Record {
    let kind = match entry.kind {
        EntryKind::Directory => 0o040_000,
        EntryKind::Symlink => 0o120_000,
        EntryKind::Fifo => 0o010_000,
        _ => 0o100_000,
    };
    let stat = Stat {
        dev: u64::MAX,
        ino: entry.link_group.into(),
        nlink: 0,
        mode: kind | entry.mode,
        uid: entry.uid,
        gid: entry.gid,
        size: entry.size,
        rdev: 0,
        allocated: 0,
        mtime: entry.mtime,
        ctime: (0, 0),
    };
    let ManifestEntry { digest, size, parent, end, sparse, .. } = *entry;
    Record { digest, size, parent, end, sparse, ..Record::of_stat(stat) }
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

//! `Baseline`: what a capture saw, entry by entry, for whoever asks later what has changed since.
//!
//! It is the stat table of that very capture (mapped, so that it costs no memory of its own), valid although a later
//! capture replaces the file; or a manifest, where nothing but the manifest is left.

use std::collections::HashMap;
use std::sync::OnceLock;

use super::base_entry::{BaseDir, BaseEntry, Siblings};
use super::drift::{self, Drift};
use super::error::CaptureError;
use super::manifest::{Manifest, ManifestEntry};
use super::policy::{CapturePolicy, CaptureRoot};
use super::siblings::KnownSiblings;
use super::table::{StatTable, TableWriter};
use super::table_header::{Facts, Header};
use super::table_record::Record;
use crate::model::event::SnapshotRef;
use crate::model::{Digest, EntryKind, Text};
use crate::sys::walk::{ObjectKind, Stat};

/// What some trees were.
#[derive(Debug)]
pub struct Baseline {
    pub(super) table: StatTable,
    /// What is known of the live tree, where `table` holds no stats.
    seen: Option<StatTable>,
    /// Where in `seen` an object is that is no directory, by device and inode.
    seen_at: OnceLock<HashMap<(u64, u64), u32>>,
}

impl PartialEq for Baseline {
    fn eq(&self, other: &Self) -> bool {
        self.table.bytes() == other.table.bytes()
    }
}

impl Eq for Baseline {}

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
        Self { table, seen: None, seen_at: OnceLock::new() }
    }

    /// The same with a table that knows of the live tree what this one does not: contents that were read since.
    pub(super) fn seen_by(self, seen: Option<StatTable>) -> Self {
        Self { seen, ..self }
    }

    /// What is known of the live tree by its stat.
    pub(super) fn known(&self) -> &StatTable {
        self.seen.as_ref().unwrap_or(&self.table)
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
            pack: manifest.own_pack.map_or(nothing, |(_, pack)| pack),
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
        Self {
            seen: None,
            seen_at: OnceLock::new(),
            table: table.expect("writing to memory cannot fail, and what was written has its own shape"),
        }
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
        let linkable = |entry: &BaseEntry<'_>| entry.kind() != EntryKind::Directory && entry.record.stat.ino != 0;
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

    /// What differs now: the same roots are looked at under the same policy, and what stat does not vouch for is read.
    /// An unchanged tree costs what an unchanged capture costs.
    pub fn drift(&self, roots: &[CaptureRoot], policy: &CapturePolicy) -> Result<Drift, CaptureError> {
        drift::drift(self, roots, policy)
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
            self.was_read_as(entry, now)
        }
    }

    /// The same of an object that some capture has read since, where its stat is still what it was then.
    fn was_read_as(&self, entry: &BaseEntry<'_>, now: &Stat) -> SameNow {
        let Some(seen) = &self.seen else { return SameNow::NeedsHash };
        let places = || {
            let records = (0..seen.len()).filter_map(|index| Some((index, seen.record(index)?)));
            let others = records.filter(|(_, record)| record.stat.kind() != ObjectKind::Directory);
            others.map(|(index, record)| ((record.stat.dev, record.stat.ino), index)).collect()
        };
        let at = self.seen_at.get_or_init(places).get(&(now.dev, now.ino));
        let read = at.and_then(|at| seen.record(*at)).filter(|read| read.trusted && read.stat.same_as(now));
        let Some(read) = read else { return SameNow::NeedsHash };
        let xattrs = seen.extras(&read).map(|extras| extras.xattrs).unwrap_or_default();
        let is_same = (read.digest, read.size) == (entry.digest(), entry.size()) && xattrs == entry.xattrs();
        if is_same { SameNow::Same } else { SameNow::Differs }
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

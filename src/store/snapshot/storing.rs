//! What the threads of one capture share about the store: the packs that are there and the one being written.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use super::layout::{Layout, Shelf, StoreError, sync_dir};
use super::manifest::Location;
use super::pack::Pack;
use super::pack_writer::PackWriter;
use super::policy::Durability;
use crate::model::Digest;

/// Most packs that are searched for a content when there is no stat table.
const SEARCHED_PACKS: usize = 32;

pub(super) struct Storing<'a> {
    pub(super) layout: &'a Layout,
    pub(super) writer: PackWriter<'a>,
    /// Name, size, and whether a file of that size is there.
    pub(super) packs: Vec<KnownPack>,
    new_bytes: AtomicU64,
    new_large: AtomicU64,
}

pub(super) struct KnownPack {
    pub(super) name: Digest,
    pub(super) size: u64,
    pub(super) is_there: bool,
    opened: OnceLock<Option<Pack>>,
}

impl<'a> Storing<'a> {
    pub(super) fn new(layout: &'a Layout, packs: Vec<(Digest, u64)>) -> Self {
        let known = |(name, size): (Digest, u64)| {
            let is_there = std::fs::metadata(layout.pack(name)).is_ok_and(|found| found.len() == size);
            KnownPack { name, size, is_there, opened: OnceLock::new() }
        };
        Self {
            layout,
            writer: PackWriter::new(layout, Shelf::Packs, Durability::Synced),
            packs: packs.into_iter().map(known).collect(),
            new_bytes: AtomicU64::new(0),
            new_large: AtomicU64::new(0),
        }
    }

    /// For a seal: its pack stands alone.
    pub(super) fn keeping(layout: &'a Layout, durability: Durability) -> Self {
        Self { writer: PackWriter::new(layout, Shelf::Kept, durability), ..Self::new(layout, Vec::new()) }
    }

    /// The pack that holds a content already.
    pub(super) fn find_known(&self, digest: &Digest) -> Option<u32> {
        let holds = |pack: &KnownPack| {
            pack.is_there && pack.open(self.layout).is_some_and(|opened| opened.find(digest).is_some())
        };
        // The newest packs are last, and the likeliest.
        let number = self.packs.iter().rposition(holds)?;
        u32::try_from(number).ok()
    }

    /// Whether what a stat table says about a content's place is still so.
    pub(super) fn is_available(&self, location: Location, digest: Digest, size: u64) -> bool {
        match location {
            Location::Nothing => size == 0,
            Location::Large => std::fs::metadata(self.layout.large(digest)).is_ok_and(|found| found.len() == size),
            Location::Own => false,
            Location::Pack(number) => self.packs.get(number as usize).is_some_and(|pack| pack.is_there),
        }
    }

    pub(super) fn note_new(&self, bytes: u64) {
        self.new_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn note_large(&self, is_new: bool, size: u64) {
        if is_new {
            self.new_large.fetch_add(1, Ordering::Relaxed);
            self.note_new(size);
        }
    }

    /// Bytes of content that were not in the store.
    pub(super) fn new_bytes(&self) -> u64 {
        self.new_bytes.load(Ordering::Relaxed)
    }

    /// Makes the names of new large contents durable.
    pub(super) fn sync_large(&self) -> Result<(), StoreError> {
        if self.new_large.load(Ordering::Relaxed) > 0 { sync_dir(&self.layout.large) } else { Ok(()) }
    }
}

impl KnownPack {
    fn open(&self, layout: &Layout) -> Option<&Pack> {
        self.opened.get_or_init(|| Pack::open(&layout.pack(self.name), self.name).ok()?.ok()).as_ref()
    }
}

/// Packs of the store, newest last, for a capture that has no stat table.
pub(super) fn newest_packs(layout: &Layout) -> Vec<(Digest, u64)> {
    let Ok(entries) = std::fs::read_dir(&layout.packs) else { return Vec::new() };
    let mut found: Vec<_> = entries
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let name: Digest = entry.file_name().to_str()?.strip_suffix(".pack")?.parse().ok()?;
            let metadata = entry.metadata().ok()?;
            Some((metadata.modified().ok()?, name, metadata.len()))
        })
        .collect();
    found.sort_unstable();
    let from = found.len().saturating_sub(SEARCHED_PACKS);
    found.drain(from..).map(|(_, name, size)| (name, size)).collect()
}

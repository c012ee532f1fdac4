//! Writing one pack from several threads: each gathers contents in its own buffer and writes it at an offset that
//! an atomic counter hands out.

use std::collections::HashSet;
use std::os::fd::AsFd as _;
use std::os::unix::fs::FileExt as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use sha2::{Digest as _, Sha256};

use super::layout::{Layout, Shelf, StoreError, Temporary, make_dir, pack_in, sync_dir};
use super::pack::{MAGIC, Slot, encode_index};
use super::policy::Durability;
use crate::model::Digest;
use crate::sys::copy::start_writeback;
use crate::sys::crash;

/// A buffer is written out once it holds this much.
const FLUSH_BYTES: usize = 1 << 20;

/// A pack in the making. The file is created with the first flush; nothing new means no file.
pub(super) struct PackWriter<'a> {
    layout: &'a Layout,
    shelf: Shelf,
    durability: Durability,
    temporary: OnceLock<Temporary>,
    creating: Mutex<()>,
    next_at: AtomicU64,
    seen: Mutex<HashSet<Digest>>,
    slots: Mutex<Vec<Slot>>,
}

impl<'a> PackWriter<'a> {
    pub(super) fn new(layout: &'a Layout, shelf: Shelf, durability: Durability) -> Self {
        Self {
            layout,
            shelf,
            durability,
            temporary: OnceLock::new(),
            creating: Mutex::new(()),
            next_at: AtomicU64::new(MAGIC.len() as u64),
            seen: Mutex::default(),
            slots: Mutex::default(),
        }
    }

    /// Whether nothing has been added.
    pub(super) fn is_empty(&self) -> bool {
        lock(&self.seen).is_empty()
    }

    /// Claims a content: true for the first thread that has it.
    pub(super) fn claim(&self, digest: Digest) -> bool {
        lock(&self.seen).insert(digest)
    }

    fn file(&self) -> Result<&Temporary, StoreError> {
        if let Some(temporary) = self.temporary.get() {
            return Ok(temporary);
        }
        let _creating = lock(&self.creating);
        if self.temporary.get().is_none() {
            // Before any content: making a directory durable also waits for data that is on its way.
            make_dir(self.layout.shelf(self.shelf))?;
            let _ = self.temporary.set(self.layout.temporary()?);
        }
        Ok(self.temporary.get().expect("set above, under the lock"))
    }

    fn write(&self, batch: &Batch) -> Result<(), StoreError> {
        let temporary = self.file()?;
        let len = batch.bytes.len() as u64;
        let at = self.next_at.fetch_add(len, Ordering::Relaxed);
        temporary.file.write_all_at(&batch.bytes, at).map_err(StoreError::at("write", &temporary.path))?;
        start_writeback(temporary.file.as_fd(), at, len);
        lock(&self.slots).extend(batch.slots.iter().map(|slot| Slot { at: at + slot.at, ..*slot }));
        Ok(())
    }

    /// Adds the manifest, writes the index, makes the pack durable (if that is not the caller's to do)
    /// and publishes it. A crash before the rename
    /// leaves a temporary file and nothing else.
    pub(super) fn publish(self, manifest: &[u8]) -> Result<Published, StoreError> {
        let temporary = self.file()?;
        let failed = |step| StoreError::at(step, &temporary.path);
        let at = self.next_at.load(Ordering::Relaxed);
        temporary.file.write_all_at(MAGIC, 0).map_err(failed("write"))?;
        temporary.file.write_all_at(manifest, at).map_err(failed("write"))?;
        let manifest_slot = Slot { digest: Digest(Sha256::digest(manifest).into()), at, len: manifest.len() as u64 };
        let mut slots = std::mem::take(&mut *lock(&self.slots));
        slots.push(manifest_slot);
        let (index, name) = encode_index(&mut slots);
        let index_at = at + manifest.len() as u64;
        temporary.file.write_all_at(&index, index_at).map_err(failed("write"))?;
        crash::point("snapshot.contents_written").map_err(failed("write"))?;
        if self.durability == Durability::Synced {
            temporary.file.sync_data().map_err(failed("sync"))?;
        }
        crash::point("snapshot.synced").map_err(failed("sync"))?;
        let shelf = self.layout.shelf(self.shelf);
        self.temporary.into_inner().expect("created above").publish(&pack_in(shelf, name))?;
        if self.durability == Durability::Synced {
            sync_dir(shelf)?;
        }
        crash::point("snapshot.published").map_err(StoreError::at("publish", shelf))?;
        Ok(Published { name, size: index_at + index.len() as u64 })
    }
}

/// A pack that is in the store.
#[derive(Clone, Copy, Debug)]
pub(super) struct Published {
    pub(super) name: Digest,
    pub(super) size: u64,
}

/// Contents of one thread that are not written yet.
#[derive(Default)]
pub(super) struct Batch {
    /// Contents so far; a reader appends to it and takes back what was not new.
    pub(super) bytes: Vec<u8>,
    slots: Vec<Slot>,
}

impl Batch {
    /// Keeps the bytes from `start` on as a new content.
    pub(super) fn keep(&mut self, start: usize, digest: Digest, writer: &PackWriter<'_>) -> Result<(), StoreError> {
        self.slots.push(Slot { digest, at: start as u64, len: (self.bytes.len() - start) as u64 });
        if self.bytes.len() >= FLUSH_BYTES { self.flush(writer) } else { Ok(()) }
    }

    /// Writes out what is gathered.
    pub(super) fn flush(&mut self, writer: &PackWriter<'_>) -> Result<(), StoreError> {
        if !self.slots.is_empty() {
            writer.write(self)?;
            self.bytes.clear();
            self.slots.clear();
        }
        Ok(())
    }
}

/// A poisoned lock means that another thread panicked, which aborts the process anyway.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

//! Contents and manifests that come from elsewhere: each is hashed while it is written, and all of them become one pack
//! (and large files) of this store.

use std::io::{self, Read};

use sha2::{Digest as _, Sha256};

use super::large::{self, LARGE_BYTES};
use super::layout::{Layout, Shelf, StoreError, make_dir, sync_dir};
use super::manifest::{Location, Manifest, ManifestEntry};
use super::pack_writer::{Batch, PackWriter};
use super::policy::Durability;
use crate::model::event::SnapshotRef;
use crate::model::{Digest, EntryKind};

/// A user and a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// A pack in the making. Dropped before [`Intake::finish`], it leaves no pack; large contents stay.
pub struct Intake<'a> {
    layout: &'a Layout,
    writer: PackWriter<'a>,
    batch: Batch,
}

impl<'a> Intake<'a> {
    pub(super) fn new(layout: &'a Layout) -> Self {
        Self { layout, writer: PackWriter::new(layout, Shelf::Packs, Durability::Synced), batch: Batch::default() }
    }

    /// Takes one content of `size` bytes. The inner error is the stream's, or says that its hash is another.
    pub fn take(&mut self, digest: Digest, size: u64, from: &mut dyn Read) -> Result<io::Result<()>, StoreError> {
        if size >= LARGE_BYTES {
            return self.take_large(digest, size, from);
        }
        let start = self.batch.bytes.len();
        let read = from.take(size).read_to_end(&mut self.batch.bytes);
        let is_right = Sha256::digest(&self.batch.bytes[start..])[..] == digest.0[..];
        if read.is_err() || !is_right || !self.writer.claim(digest) {
            self.batch.bytes.truncate(start);
            return Ok(read.and_then(|_| if is_right { Ok(()) } else { Err(io::ErrorKind::InvalidData.into()) }));
        }
        self.batch.keep(start, digest, &self.writer)?;
        Ok(Ok(()))
    }

    fn take_large(&self, digest: Digest, size: u64, from: &mut dyn Read) -> Result<io::Result<()>, StoreError> {
        make_dir(&self.layout.large)?;
        let mut temporary = self.layout.temporary()?;
        let found = match large::copy_out(from, size, &mut temporary.file) {
            Err(source) => return Ok(Err(source)),
            Ok(written) => written.map_err(StoreError::at("write", &temporary.path))?,
        };
        if found != digest {
            return Ok(Err(io::ErrorKind::InvalidData.into()));
        }
        temporary.file.sync_data().map_err(StoreError::at("sync", &temporary.path))?;
        temporary.publish(&self.layout.large(digest))?;
        Ok(Ok(()))
    }

    /// Writes the manifests, and with them the pack; durable on return. `owner` says whose an entry becomes. None of no
    /// manifests.
    pub fn finish(
        mut self,
        manifests: Vec<Manifest>,
        owner: &dyn Fn(Owner) -> Owner,
    ) -> Result<Vec<SnapshotRef>, StoreError> {
        let mut names = Vec::with_capacity(manifests.len());
        let mut last = None;
        for manifest in manifests {
            let bytes = manifest.placed(|entry| place(entry, owner)).to_bytes();
            let name = Digest(Sha256::digest(&bytes).into());
            names.push(name);
            if let Some(before) = last.replace((name, bytes)) {
                self.keep(before)?;
            }
        }
        let Some((_, last)) = last else { return Ok(Vec::new()) };
        self.batch.flush(&self.writer)?;
        if self.layout.large.is_dir() {
            sync_dir(&self.layout.large)?;
        }
        make_dir(&self.layout.packs)?;
        let pack = self.writer.publish(&last)?.name;
        Ok(names.into_iter().map(|manifest| SnapshotRef { manifest, pack }).collect())
    }

    /// A manifest that is not the pack's last content.
    fn keep(&mut self, (name, bytes): (Digest, Vec<u8>)) -> Result<(), StoreError> {
        if self.writer.claim(name) {
            let start = self.batch.bytes.len();
            self.batch.bytes.extend_from_slice(&bytes);
            self.batch.keep(start, name, &self.writer)?;
        }
        Ok(())
    }
}

fn place(entry: &mut ManifestEntry, owner: &dyn Fn(Owner) -> Owner) {
    let is_kept = entry.location != Location::Nothing;
    entry.location = match entry.kind {
        EntryKind::File if entry.size >= LARGE_BYTES && is_kept => Location::Large,
        EntryKind::File if entry.size > 0 && is_kept => Location::Own,
        _ => Location::Nothing,
    };
    Owner { uid: entry.uid, gid: entry.gid } = owner(Owner { uid: entry.uid, gid: entry.gid });
}

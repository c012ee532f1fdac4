//! The stat table: what stat(2) said about every entry when it was read, and what was read.
//!
//! It answers for unchanged files, so that they are not read again. As a file (`cache/<key>.stat`) it is derived
//! data: whatever is wrong with it, it is ignored and the files are read.
//!
//! On disk: a header of 192 bytes (magic, key, input hash, manifest, pack, counts), the packs (name and size, 40
//! bytes each), one record of 132 bytes per entry in the manifest's order, names and extras, and last the SHA-256
//! of everything before.

use std::io::{self, Write};

use sha2::{Digest as _, Sha256};

use super::manifest::{Extras, Location};
use super::wire::Fields;
use crate::model::event::SnapshotRef;
use crate::model::{Digest, EntryKind};
use crate::sys::mmap::Mapped;
use crate::sys::walk::{ObjectKind, Stat};

const MAGIC: &[u8; 16] = b"agentguard-stat1";
const HEADER_BYTES: usize = 192;
const PACK_BYTES: usize = 40;
const RECORD_BYTES: usize = 132;
const FLAG_UNTRUSTED: u32 = 1;
const FLAG_SPARSE: u32 = 2;

/// What the whole table says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    /// What was captured: project, roots, excludes.
    pub(super) key: Digest,
    pub(super) input_hash: Digest,
    pub(super) manifest: Digest,
    pub(super) pack: Digest,
    pub(super) entries: u64,
    pub(super) packs: u64,
    pub(super) files: u64,
    pub(super) bytes: u64,
    pub(super) skipped: u64,
    /// Entries that cannot be trusted: changed in the same tick, or while they were read.
    pub(super) untrusted: u64,
}

impl Header {
    pub(super) fn snapshot(&self) -> SnapshotRef {
        SnapshotRef { manifest: self.manifest, pack: self.pack }
    }

    fn to_bytes(self) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        for digest in [self.key, self.input_hash, self.manifest, self.pack] {
            out.extend_from_slice(&digest.0);
        }
        for count in [self.entries, self.packs, self.files, self.bytes, self.skipped, self.untrusted] {
            out.extend_from_slice(&count.to_le_bytes());
        }
        out.resize(HEADER_BYTES, 0);
        out
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let mut fields = Fields(bytes.get(..HEADER_BYTES)?);
        fields.bytes(MAGIC.len()).filter(|magic| magic == MAGIC)?;
        Some(Self {
            key: fields.digest()?,
            input_hash: fields.digest()?,
            manifest: fields.digest()?,
            pack: fields.digest()?,
            entries: fields.u64()?,
            packs: fields.u64()?,
            files: fields.u64()?,
            bytes: fields.u64()?,
            skipped: fields.u64()?,
            untrusted: fields.u64()?,
        })
    }
}

/// What is known of one entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) stat: Stat,
    pub(super) digest: Digest,
    /// Bytes of the content (stat's size may differ on special filesystems).
    pub(super) size: u64,
    pub(super) parent: u32,
    pub(super) end: u32,
    pub(super) location: Location,
    pub(super) sparse: bool,
    pub(super) trusted: bool,
    pub(super) name: (u64, u32),
    pub(super) extras_bytes: u32,
}

impl Record {
    fn to_bytes(self) -> [u8; RECORD_BYTES] {
        let mut out = [0; RECORD_BYTES];
        let mut rest = &mut out[..];
        let mut put = |bytes: &[u8]| {
            let (field, after) = std::mem::take(&mut rest).split_at_mut(bytes.len());
            field.copy_from_slice(bytes);
            rest = after;
        };
        let Stat { dev, ino, size, mtime, ctime, .. } = self.stat;
        put(&self.digest.0);
        for wide in [dev, ino, size, mtime.0.cast_unsigned(), ctime.0.cast_unsigned(), self.size, self.name.0] {
            put(&wide.to_le_bytes());
        }
        let untrusted = if self.trusted { 0 } else { FLAG_UNTRUSTED };
        let flags = untrusted | if self.sparse { FLAG_SPARSE } else { 0 };
        let Stat { mode, uid, gid, .. } = self.stat;
        let ends = [self.parent, self.end, self.location.to_wire(), flags, self.name.1, self.extras_bytes];
        for field in [mtime.1, ctime.1, mode, uid, gid].into_iter().chain(ends) {
            put(&field.to_le_bytes());
        }
        out
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let mut fields = Fields(bytes);
        let digest = fields.digest()?;
        let (dev, ino, stat_size) = (fields.u64()?, fields.u64()?, fields.u64()?);
        let (mtime_s, ctime_s, size, name_at) = (fields.i64()?, fields.i64()?, fields.u64()?, fields.u64()?);
        let (mtime, ctime) = ((mtime_s, fields.u32()?), (ctime_s, fields.u32()?));
        let (mode, uid, gid) = (fields.u32()?, fields.u32()?, fields.u32()?);
        let (parent, end, location, flags) = (fields.u32()?, fields.u32()?, fields.u32()?, fields.u32()?);
        Some(Self {
            stat: Stat { dev, ino, nlink: 0, mode, uid, gid, size: stat_size, allocated: 0, mtime, ctime },
            digest,
            size,
            parent,
            end,
            location: Location::from_wire(location),
            sparse: flags & FLAG_SPARSE != 0,
            trusted: flags & FLAG_UNTRUSTED == 0,
            name: (name_at, fields.u32()?),
            extras_bytes: fields.u32()?,
        })
    }

    /// The listing's kind; none for what cannot be an entry.
    pub(super) fn kind(&self) -> Option<EntryKind> {
        entry_kind(self.stat.kind())
    }
}

/// The kind of an object as a listing has it; none for sockets and devices.
pub(super) fn entry_kind(kind: ObjectKind) -> Option<EntryKind> {
    match kind {
        ObjectKind::File => Some(EntryKind::File),
        ObjectKind::Directory => Some(EntryKind::Directory),
        ObjectKind::Symlink => Some(EntryKind::Symlink),
        ObjectKind::Fifo => Some(EntryKind::Fifo),
        ObjectKind::Socket | ObjectKind::Device => None,
    }
}

#[derive(Debug)]
enum Bytes {
    Mapped(Mapped),
    Owned(Vec<u8>),
}

impl std::ops::Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Mapped(mapped) => mapped,
            Self::Owned(owned) => owned,
        }
    }
}

/// A table whose bytes have been checked as a whole.
#[derive(Debug)]
pub(super) struct StatTable {
    bytes: Bytes,
    pub(super) header: Header,
    records_at: usize,
    blob_at: usize,
}

impl StatTable {
    /// The table in a mapped file; none unless it is whole and made for `key`.
    pub(super) fn from_file(mapped: Mapped, key: Digest) -> Option<Self> {
        let (content, sum) = mapped.split_last_chunk::<32>()?;
        if Header::parse(content)?.key != key || Sha256::digest(content)[..] != sum[..] {
            return None;
        }
        Self::new(Bytes::Mapped(mapped))
    }

    /// A table that was just written to memory.
    pub(super) fn from_memory(bytes: Vec<u8>) -> Option<Self> {
        Self::new(Bytes::Owned(bytes))
    }

    fn new(bytes: Bytes) -> Option<Self> {
        let header = Header::parse(&bytes)?;
        let (packs, entries) = (usize::try_from(header.packs).ok()?, usize::try_from(header.entries).ok()?);
        let records_at = HEADER_BYTES.checked_add(packs.checked_mul(PACK_BYTES)?)?;
        let blob_at = records_at.checked_add(entries.checked_mul(RECORD_BYTES)?)?;
        (blob_at + 32 <= bytes.len()).then_some(Self { bytes, header, records_at, blob_at })
    }

    /// Number of records.
    pub(super) fn len(&self) -> u32 {
        u32::try_from(self.header.entries).unwrap_or(u32::MAX)
    }

    pub(super) fn record(&self, index: u32) -> Option<Record> {
        if index >= self.len() {
            return None;
        }
        let at = self.records_at + index as usize * RECORD_BYTES;
        Record::parse(self.bytes.get(at..at + RECORD_BYTES)?)
    }

    pub(super) fn name(&self, record: &Record) -> &[u8] {
        let at = self.blob_at + usize::try_from(record.name.0).unwrap_or(usize::MAX / 2);
        self.bytes.get(at..at + record.name.1 as usize).unwrap_or_default()
    }

    pub(super) fn extras(&self, record: &Record) -> Option<Box<Extras>> {
        let at = self.blob_at + usize::try_from(record.name.0).unwrap_or(usize::MAX / 2) + record.name.1 as usize;
        Extras::parse(self.bytes.get(at..at + record.extras_bytes as usize)?)?
    }

    /// The packs that locations number: name and size.
    pub(super) fn packs(&self) -> Vec<(Digest, u64)> {
        let mut fields = Fields(&self.bytes[HEADER_BYTES..self.records_at]);
        std::iter::from_fn(|| Some((fields.digest()?, fields.u64()?))).collect()
    }
}

/// Writes a table front to back: header, packs, records, then names; `finish` adds the sum.
pub(super) struct TableWriter<W: Write> {
    out: W,
    sum: Sha256,
    blob: Vec<u8>,
}

impl<W: Write> TableWriter<W> {
    pub(super) fn begin(out: W, header: Header, packs: &[(Digest, u64)]) -> io::Result<Self> {
        let mut writer = Self { out, sum: Sha256::new(), blob: Vec::new() };
        writer.put(&header.to_bytes())?;
        for (pack, size) in packs {
            writer.put(&pack.0)?;
            writer.put(&size.to_le_bytes())?;
        }
        Ok(writer)
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.sum.update(bytes);
        self.out.write_all(bytes)
    }

    /// Adds the next record; where its name goes is decided here.
    pub(super) fn push(&mut self, mut record: Record, name: &[u8], extras: Option<&Extras>) -> io::Result<()> {
        record.name = (self.blob.len() as u64, u32::try_from(name.len()).unwrap_or(u32::MAX));
        self.blob.extend_from_slice(name);
        let before = self.blob.len();
        if let Some(extras) = extras {
            extras.write_to(&mut self.blob);
        }
        record.extras_bytes = u32::try_from(self.blob.len() - before).unwrap_or(u32::MAX);
        self.put(&record.to_bytes())
    }

    pub(super) fn finish(mut self) -> io::Result<W> {
        let blob = std::mem::take(&mut self.blob);
        self.put(&blob)?;
        self.out.write_all(&self.sum.finalize())?;
        Ok(self.out)
    }
}

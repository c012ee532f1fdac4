//! The stat table: what stat(2) said about every entry when it was read, and what was read.
//!
//! It answers for unchanged files, so that they are not read again. As a file (`cache/<key>.stat`) it is derived
//! data: whatever is wrong with it, it is ignored and the files are read.
//!
//! On disk: a header of 256 bytes (`table_header`), the packs (name and size, 40 bytes each), files elsewhere that
//! decided what was captured (path counted, then what stat said), one record of 132 bytes per entry in the manifest's
//! order, names and extras, and last the SHA-256 of everything before.

use std::io::{self, Write};

use sha2::{Digest as _, Sha256};

use super::manifest::Extras;
use super::table_header::{HEADER_BYTES, Header};
use super::table_record::{RECORD_BYTES, Record};
use super::wire::{Fields, put_counted};
use crate::model::Digest;
use crate::store::ignore::{Watched, WatchedState};
use crate::sys::mmap::Mapped;

const PACK_BYTES: usize = 40;

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
    watched_at: usize,
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

    /// A table that was just written to a file: its sum is not computed again.
    pub(super) fn from_written(mapped: Mapped) -> Option<Self> {
        Self::new(Bytes::Mapped(mapped))
    }

    /// The whole table, for comparing two.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    fn new(bytes: Bytes) -> Option<Self> {
        let header = Header::parse(&bytes)?;
        let (packs, entries) = (usize::try_from(header.packs).ok()?, usize::try_from(header.entries).ok()?);
        let watched_at = HEADER_BYTES.checked_add(packs.checked_mul(PACK_BYTES)?)?;
        let records_at = watched_at.checked_add(usize::try_from(header.watched_bytes).ok()?)?;
        let blob_at = records_at.checked_add(entries.checked_mul(RECORD_BYTES)?)?;
        (blob_at + 32 <= bytes.len()).then_some(Self { bytes, header, watched_at, records_at, blob_at })
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
        let mut fields = Fields(&self.bytes[HEADER_BYTES..self.watched_at]);
        std::iter::from_fn(|| Some((fields.digest()?, fields.u64()?))).collect()
    }

    /// Files elsewhere that decided what was captured; none if that part makes no sense.
    pub(super) fn watched(&self) -> Option<Vec<Watched>> {
        let mut fields = Fields(&self.bytes[self.watched_at..self.records_at]);
        (0..self.header.watched).map(|_| parse_watched(&mut fields)).collect()
    }
}

fn parse_watched(fields: &mut Fields<'_>) -> Option<Watched> {
    use std::os::unix::ffi::OsStringExt as _;
    let path = std::ffi::OsString::from_vec(fields.counted()?.to_vec()).into();
    let state = match fields.byte()? {
        0 => WatchedState::Absent,
        _ => WatchedState::Is(Record::parse(fields.bytes(RECORD_BYTES)?)?.stat),
    };
    Some(Watched { path, state })
}

fn encode_watched(watched: &[Watched]) -> Vec<u8> {
    use std::os::unix::ffi::OsStrExt as _;
    let mut out = Vec::new();
    for Watched { path, state } in watched {
        put_counted(&mut out, path.as_os_str().as_bytes());
        match state {
            WatchedState::Absent => out.push(0),
            WatchedState::Is(stat) => {
                out.push(1);
                out.extend_from_slice(&Record::of_stat(*stat).to_bytes());
            }
        }
    }
    out
}

/// Writes a table front to back: header, packs, records, then names; `finish` adds the sum.
pub(super) struct TableWriter<W: Write> {
    out: W,
    sum: Sha256,
    blob: Vec<u8>,
}

impl<W: Write> TableWriter<W> {
    /// What the header says of the files elsewhere is filled in here.
    pub(super) fn begin(out: W, header: Header, packs: &[(Digest, u64)], watched: &[Watched]) -> io::Result<Self> {
        let mut writer = Self { out, sum: Sha256::new(), blob: Vec::new() };
        let elsewhere = encode_watched(watched);
        let header = Header { watched: watched.len() as u64, watched_bytes: elsewhere.len() as u64, ..header };
        writer.put(&header.to_bytes())?;
        for (pack, size) in packs {
            writer.put(&pack.0)?;
            writer.put(&size.to_le_bytes())?;
        }
        writer.put(&elsewhere)?;
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

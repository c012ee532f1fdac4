//! The index file: a header, then a row for each letter in the order of the log.
//!
//! ```text
//! header (128 bytes)   magic "agletter", version, rows, how far the log and `acks.jsonl` were read, the place and the
//!                      SHA-256 of the last line of the log that was read, checksum
//! rows (96 bytes each) see `row`
//! ```
//!
//! Rows are written and flushed before the header that counts them: a crash leaves a header from before, and what is read
//! again from there changes nothing that was counted (`rules::letters::receive`). The caller holds the lock.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use super::row::{self, ROW_BYTES, checksum};
use crate::model::letter::Letter;
use crate::model::{Digest, RunId};
use crate::sys::append_file;

const HEADER_BYTES: usize = 128;
const MAGIC: &[u8; 8] = b"agletter";
const VERSION: u64 = 1;

/// How far the log and the acknowledgements were read, and the last line that was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Read {
    pub(super) log: u64,
    pub(super) acks: u64,
    pub(super) last_line: u64,
    pub(super) last_hash: Option<Digest>,
}

/// An open index. What is changed is in memory until it is saved.
#[derive(Debug)]
pub(super) struct Index {
    file: Option<File>,
    pub(super) read: Read,
    /// Rows in the file.
    saved: u64,
    /// Those rows, once somebody asked for them, then the new ones.
    rows: Option<Vec<u8>>,
    added: Vec<u8>,
    changed: Vec<u64>,
}

impl Index {
    /// One that has read nothing; it is only looked at where there is no file.
    pub(super) fn empty(file: Option<File>) -> Self {
        Self { file, read: Read::default(), saved: 0, rows: Some(Vec::new()), added: Vec::new(), changed: Vec::new() }
    }

    /// Opens the file; `None` where its header is not one that was written.
    pub(super) fn open(path: &Path) -> io::Result<(File, Option<Self>)> {
        let file = append_file::open_for_update(path)?;
        let header = read_header(&file)?;
        let index = header.and_then(|(read, saved)| {
            let file = file.try_clone().ok()?;
            let rows = None;
            Some(Self { file: Some(file), read, saved, rows, added: Vec::new(), changed: Vec::new() })
        });
        Ok((file, index))
    }

    pub(super) fn count(&self) -> u64 {
        self.saved + (self.added.len() / ROW_BYTES) as u64
    }

    /// Adds a letter after all others; no row needs to be read for that.
    pub(super) fn push(&mut self, letter: &Letter) {
        let place = self.count();
        self.added.extend_from_slice(&row::encode(letter, place));
    }

    /// The place of a run's letter. Looked for from the newest.
    pub(super) fn find(&mut self, run_id: RunId) -> io::Result<Option<u64>> {
        self.load()?;
        let is_it = |row: &&[u8]| row::id_in(row) == run_id.as_bytes();
        let at = |rows: &[u8]| rows.chunks_exact(ROW_BYTES).rposition(|row| is_it(&row)).map(|at| at as u64);
        Ok(at(&self.added).map(|at| at + self.saved).or_else(|| at(self.rows.as_deref().unwrap_or_default())))
    }

    /// The letter at a place; an error where the row is damaged.
    pub(super) fn get(&mut self, place: u64) -> io::Result<Letter> {
        self.load()?;
        row::decode(self.slot(place), place).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "a damaged row"))
    }

    pub(super) fn set(&mut self, place: u64, letter: &Letter) {
        let encoded = row::encode(letter, place);
        self.slot(place).copy_from_slice(&encoded);
        if place < self.saved {
            self.changed.push(place);
        }
    }

    /// All letters that wait, in the order of the log.
    pub(super) fn waiting(&mut self) -> io::Result<Vec<Letter>> {
        self.load()?;
        let mut found = Vec::new();
        let rows = self.rows.as_deref().unwrap_or_default().chunks_exact(ROW_BYTES);
        for (place, one) in rows.chain(self.added.chunks_exact(ROW_BYTES)).enumerate() {
            if row::is_waiting(one) {
                let letter = row::decode(one, place as u64);
                found.push(letter.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "a damaged row"))?);
            }
        }
        Ok(found)
    }

    fn slot(&mut self, place: u64) -> &mut [u8] {
        let (rows, place) = match place.checked_sub(self.saved) {
            Some(added) => (&mut self.added, added),
            None => (self.rows.get_or_insert_default(), place),
        };
        let at = usize::try_from(place).unwrap_or(usize::MAX).saturating_mul(ROW_BYTES);
        &mut rows[at..at + ROW_BYTES]
    }

    fn load(&mut self) -> io::Result<()> {
        if self.rows.is_some() {
            return Ok(());
        }
        let file = self.file.as_ref().ok_or(io::ErrorKind::NotFound)?;
        let mut rows = vec![0; usize::try_from(self.saved).map_err(io::Error::other)? * ROW_BYTES];
        file.read_exact_at(&mut rows, HEADER_BYTES as u64)?;
        self.rows = Some(rows);
        Ok(())
    }

    /// Writes what has changed.
    pub(super) fn save(&mut self) -> io::Result<()> {
        let Some(file) = &self.file else { return Ok(()) };
        let start = |place: u64| HEADER_BYTES as u64 + place * ROW_BYTES as u64;
        for place in std::mem::take(&mut self.changed) {
            let at = usize::try_from(place).map_err(io::Error::other)? * ROW_BYTES;
            let rows = self.rows.as_deref().unwrap_or_default();
            file.write_all_at(&rows[at..at + ROW_BYTES], start(place))?;
        }
        file.write_all_at(&self.added, start(self.saved))?;
        // The header relies on them.
        file.sync_data()?;
        self.write_header()?;
        self.saved = self.count();
        if let Some(rows) = &mut self.rows {
            rows.append(&mut self.added);
        }
        self.added.clear();
        Ok(())
    }

    /// Notes how far was read, where no row has changed.
    pub(super) fn write_header(&self) -> io::Result<()> {
        let Some(file) = &self.file else { return Ok(()) };
        file.write_all_at(&header_bytes(&self.read, self.count()), 0)
    }

    pub(super) fn is_changed(&self) -> bool {
        !self.added.is_empty() || !self.changed.is_empty()
    }
}

fn header_bytes(read: &Read, count: u64) -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    header[..8].copy_from_slice(MAGIC);
    for (at, word) in [VERSION, count, read.log, read.acks, read.last_line].into_iter().enumerate() {
        header[8 + at * 8..16 + at * 8].copy_from_slice(&word.to_le_bytes());
    }
    if let Some(hash) = read.last_hash {
        header[48..80].copy_from_slice(&hash.0);
    }
    let check = checksum(&header[..HEADER_BYTES - 8], 0);
    header[HEADER_BYTES - 8..].copy_from_slice(&check.to_le_bytes());
    header
}

pub(super) fn read_header(file: &File) -> io::Result<Option<(Read, u64)>> {
    let mut header = [0; HEADER_BYTES];
    if file.read_at(&mut header, 0)? < HEADER_BYTES {
        return Ok(None);
    }
    let word = |at: usize| header[at..at + 8].try_into().map(u64::from_le_bytes).unwrap_or(0);
    let is_ours = header.starts_with(MAGIC) && word(8) == VERSION;
    if !is_ours || word(HEADER_BYTES - 8) != checksum(&header[..HEADER_BYTES - 8], 0) {
        return Ok(None);
    }
    let count = word(16);
    if file.metadata()?.len() < (HEADER_BYTES as u64).saturating_add(count.saturating_mul(ROW_BYTES as u64)) {
        return Ok(None);
    }
    let mut hash = [0; 32];
    hash.copy_from_slice(&header[48..80]);
    let (log, acks, last_line) = (word(24), word(32), word(40));
    Ok(Some((Read { log, acks, last_line, last_hash: (log > 0).then_some(Digest(hash)) }, count)))
}

//! Lines of the log as readers see them, oldest first; see `backward.rs` for newest first.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom, Take};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::RunLog;
use super::append::line_hash;
use super::facts::facts;
use super::find::line_in;
use super::segments::Segment;
use crate::model::breaker::Ending;
use crate::model::facts::{Facts, Wanted};
use crate::model::{Digest, ErrorClass, RunId, RunRecord, Status, Text, Timestamp};
use crate::rules::letters::Posted;

/// The log could not be read.
#[derive(Debug, thiserror::Error)]
#[error("read the run log {path}")]
pub struct ReadError {
    /// The log.
    pub path: PathBuf,
    /// What the kernel said.
    pub source: io::Error,
}

impl ReadError {
    pub(super) fn at(path: &Path) -> impl Fn(io::Error) -> Self + '_ {
        |source| Self { path: path.to_path_buf(), source }
    }
}

/// A line that is not a record: the rest of the log is still good.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the line at byte {offset} is damaged: {what}")]
pub struct Damage {
    /// Offset of the line's first byte in the log.
    pub offset: u64,
    /// What is wrong with it; holds no control character.
    pub what: String,
}

/// One whole line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Offset of its first byte in the log.
    pub offset: u64,
    /// Its bytes, without the newline.
    pub bytes: Vec<u8>,
}

/// What is needed to tell a run from others.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct LineHead {
    /// Which run.
    pub run_id: RunId,
    /// When it began.
    pub start_time: Timestamp,
    /// When it ended.
    pub end_time: Timestamp,
    /// How.
    pub status: Status,
    /// The recovery pattern of its failure.
    pub error_class: Option<ErrorClass>,
    /// Whose it was.
    pub agent: Text,
}

/// What a run cost, and when.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct LineCost {
    /// When it ended.
    pub end_time: Timestamp,
    /// Whose it was.
    pub agent: Text,
    /// US dollars.
    pub cost_usd: Option<f64>,
}

impl Line {
    /// Offset just past the line's newline.
    pub fn end(&self) -> u64 {
        self.offset + self.bytes.len() as u64 + 1
    }

    /// The record.
    pub fn record(&self) -> Result<RunRecord, Damage> {
        self.parse()
    }

    /// The part of the record that runs are filtered by; much cheaper than the whole.
    pub fn facts(&self, wanted: Wanted) -> Result<Facts<'_>, Damage> {
        facts(&self.bytes, self.offset, wanted)
    }

    /// The part of the record that tells runs apart: cheaper than the whole, and the whole line must still be JSON.
    pub fn head(&self) -> Result<LineHead, Damage> {
        self.parse()
    }

    /// The part of the record that a day's budget looks at.
    pub fn cost(&self) -> Result<LineCost, Damage> {
        self.parse()
    }

    /// The SHA-256 that the next line has as its `prev`.
    pub fn hash(&self) -> Digest {
        line_hash(&self.bytes)
    }

    /// The part of the record that dead letters look at.
    pub fn posted(&self) -> Result<Posted, Damage> {
        self.parse()
    }

    /// The part of the record that breakers look at.
    pub fn ending(&self) -> Result<Ending, Damage> {
        self.parse()
    }

    pub(super) fn parse<T: DeserializeOwned>(&self) -> Result<T, Damage> {
        serde_json::from_slice(&self.bytes)
            .map_err(|error| Damage { offset: self.offset, what: printable(&error.to_string()) })
    }
}

/// The message without what a terminal would obey: it quotes the damaged line.
pub(super) fn printable(message: &str) -> String {
    let mut shown = String::with_capacity(message.len());
    for letter in message.chars() {
        match letter {
            '"' | '\'' | '\\' => shown.push(letter),
            letter => shown.extend(letter.escape_debug()),
        }
    }
    shown
}

/// The whole lines of the log, oldest first.
#[derive(Debug)]
pub struct InOrder {
    path: PathBuf,
    /// Files that were not read yet, the next one last.
    segments: Vec<Segment>,
    reader: Option<BufReader<Take<File>>>,
    offset: u64,
}

impl RunLog {
    /// The whole lines that are in the log now, oldest first, one in memory at a time; none where there is no log.
    pub fn in_order(&self) -> Result<InOrder, ReadError> {
        self.in_order_from(0)
    }

    /// The same from an offset on that is just past a newline. A log that ends before it has no lines there.
    pub fn in_order_from(&self, offset: u64) -> Result<InOrder, ReadError> {
        let mut segments = self.segments()?;
        segments.retain(|segment| segment.base + segment.whole > offset);
        segments.reverse();
        Ok(InOrder { path: self.path.clone(), segments, reader: None, offset })
    }

    /// The line that begins at this offset; `None` where no whole line does.
    pub fn line_at(&self, offset: u64) -> Result<Option<Line>, ReadError> {
        let segments = self.segments()?;
        let end = segments.last().map_or(0, |newest| newest.base + newest.whole);
        if offset >= end {
            return Ok(None);
        }
        line_in(&segments, offset).map(Some).map_err(ReadError::at(&self.path))
    }

    /// How long the log is, an unfinished last line included; 0 where there is none.
    pub fn byte_len(&self) -> u64 {
        self.segments().ok().and_then(|segments| segments.last().map(|newest| newest.base + newest.len)).unwrap_or(0)
    }
}

impl InOrder {
    fn read_line(&mut self) -> io::Result<Option<Line>> {
        loop {
            if let Some(reader) = self.reader.as_mut() {
                let mut bytes = Vec::new();
                reader.read_until(b'\n', &mut bytes)?;
                if bytes.pop() == Some(b'\n') {
                    let line = Line { offset: self.offset, bytes };
                    self.offset = line.end();
                    return Ok(Some(line));
                }
            }
            let Some(next) = self.segments.pop() else { return Ok(None) };
            // Of the first file perhaps only what follows an offset is wanted.
            let skipped = self.offset.saturating_sub(next.base);
            self.offset = next.base + skipped;
            self.path = next.path;
            let mut file = next.file;
            file.seek(SeekFrom::Start(skipped))?;
            self.reader = Some(BufReader::with_capacity(1 << 18, file.take(next.whole.saturating_sub(skipped))));
        }
    }
}

impl Iterator for InOrder {
    type Item = Result<Line, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.read_line().map_err(ReadError::at(&self.path)).transpose()
    }
}

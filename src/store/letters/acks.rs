//! `acks.jsonl`: which failed runs somebody has declared done with, when, and why. The one part of the dead letters that no
//! log knows: append-only and durable. A torn line is passed over; the next one begins on a line of its own.

use std::collections::HashSet;
use std::io::{self, BufRead as _, BufReader, Seek as _, SeekFrom};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::model::{RunId, Text, Timestamp};
use crate::store::state_dir::StateDir;
use crate::sys::append_file;

/// One line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ack {
    /// The failed run.
    pub run_id: RunId,
    /// When it was acknowledged.
    pub time: Timestamp,
    /// By whom.
    pub user: Text,
    /// Why it needs no redrive.
    pub reason: String,
}

/// Adds lines, durable on return. The caller holds the lock.
pub(super) fn append(path: &Path, acks: &[Ack]) -> io::Result<()> {
    let file = append_file::open(path)?;
    let len = file.metadata()?.len();
    let mut bytes = Vec::new();
    let mut last = [b'\n'];
    if len > 0 {
        file.read_exact_at(&mut last, len - 1)?;
    }
    if last != *b"\n" {
        bytes.push(b'\n');
    }
    for ack in acks {
        serde_json::to_writer(&mut bytes, ack)?;
        bytes.push(b'\n');
    }
    append_file::append_whole(&file, &bytes, len)?;
    file.sync_all()?;
    match path.parent().filter(|_| len == 0) {
        Some(dir) => std::fs::File::open(dir)?.sync_all(),
        None => Ok(()),
    }
}

/// What was acknowledged from an offset on, and the offset past the last whole line. No file: nothing was.
pub(super) fn read_from(path: &Path, offset: u64) -> io::Result<(Vec<Ack>, u64)> {
    let mut file = match std::fs::File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((Vec::new(), 0)),
        opened => opened?,
    };
    let mut at = offset;
    file.seek(SeekFrom::Start(at))?;
    let mut reader = BufReader::new(file);
    let (mut acks, mut line) = (Vec::new(), Vec::new());
    loop {
        line.clear();
        reader.read_until(b'\n', &mut line)?;
        if !line.ends_with(b"\n") {
            return Ok((acks, at));
        }
        at += line.len() as u64;
        acks.extend(serde_json::from_slice::<Ack>(&line));
    }
}

/// Every run that was acknowledged.
pub fn acknowledged(state: &StateDir) -> io::Result<HashSet<RunId>> {
    let (acks, _) = read_from(&state.acks(), 0)?;
    Ok(acks.into_iter().map(|ack| ack.run_id).collect())
}

/// How long the file is; 0 where there is none.
pub(super) fn byte_len(path: &Path) -> u64 {
    std::fs::metadata(path).map_or(0, |metadata| metadata.len())
}

/// Lines that tell nothing, each in words.
pub(super) fn check(path: &Path) -> Vec<String> {
    let Ok(bytes) = std::fs::read(path) else { return Vec::new() };
    let lines = bytes.split(|byte| *byte == b'\n').enumerate().filter(|(_, line)| !line.is_empty());
    let damaged = lines.filter(|(_, line)| serde_json::from_slice::<Ack>(line).is_err());
    damaged.map(|(at, _)| format!("{path:?}: line {} is damaged: what it acknowledged waits again", at + 1)).collect()
}

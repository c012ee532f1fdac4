//! All lines of the log, folded into a value by two threads: each reads half of the file in chunks, so that memory does not
//! grow with the log. Read with `pread`, not mapped: a map would kill the reader where a writer shortens the log.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;

use super::facts::facts;
use super::read::{Damage, ReadError};
use super::{RunLog, scan};
use crate::model::facts::{Facts, Wanted};
use crate::sys::beside::both;

/// Stays in the processor's cache between the copy from the kernel and the scan.
const CHUNK: usize = 1 << 18;

/// Below this, a second thread costs more than it saves.
const WORTH_A_THREAD: u64 = 1 << 20;

/// So many damaged lines are named; the rest is counted.
const NAMED: usize = 20;

/// Lines that are no records.
#[derive(Debug, Default)]
pub struct Damaged {
    /// How many there are.
    pub count: u64,
    /// The first of them.
    pub named: Vec<Damage>,
}

impl Damaged {
    fn add(&mut self, damage: Damage) {
        self.count += 1;
        if self.named.len() < NAMED {
            self.named.push(damage);
        }
    }
}

/// What is read of the lines, and which lines are of no interest.
#[derive(Debug)]
pub struct Reading {
    /// What is wanted of them.
    pub wanted: Wanted,
    /// Only lines that hold these bytes are read.
    pub needle: Option<Vec<u8>>,
}

impl RunLog {
    /// Folds the facts of every whole line, oldest first in each of the two values (the second is that of the newer half).
    pub fn fold<S: Send>(
        &self,
        reading: &Reading,
        new: impl Fn() -> S + Sync,
        visit: impl Fn(&mut S, &Facts<'_>) + Sync,
    ) -> Result<(S, S, Damaged), ReadError> {
        let segments = self.segments()?;
        let end = segments.last().map_or(0, |newest| newest.base + newest.whole);
        let half = |range: Range<u64>| -> io::Result<(S, Damaged)> {
            let (mut state, mut damaged) = (new(), Damaged::default());
            let finder = reading.needle.as_deref().map(memchr::memmem::Finder::new);
            for segment in segments.iter().filter(|segment| segment.base < range.end) {
                let within = range.start.saturating_sub(segment.base)..range.end - segment.base;
                lines(&segment.file, within, segment.whole, &mut |offset, line| {
                    let offset = segment.base + offset;
                    let is_of_interest = finder.as_ref().is_none_or(|finder| finder.find(line).is_some());
                    if !is_of_interest && scan::looks_whole(line) {
                        return;
                    }
                    match facts(line, offset, reading.wanted) {
                        Ok(facts) if is_of_interest => visit(&mut state, &facts),
                        Ok(_) => {}
                        Err(damage) => damaged.add(damage),
                    }
                })?;
            }
            Ok((state, damaged))
        };
        let middle = if end < WORTH_A_THREAD { 0 } else { end / 2 };
        let (older, newer) = both(|| half(0..middle), || half(middle..end));
        let ((older, mut damaged), (newer, more)) =
            older.and_then(|older| Ok((older, newer?))).map_err(ReadError::at(self.path()))?;
        damaged.count += more.count;
        damaged.named.extend(more.named);
        damaged.named.truncate(NAMED);
        Ok((older, newer, damaged))
    }
}

/// Calls `visit` with each line that begins within the range, and its offset. `end`: past the last whole line.
fn lines(file: &File, range: Range<u64>, end: u64, visit: &mut dyn FnMut(u64, &[u8])) -> io::Result<()> {
    let mut buffer = vec![0; CHUNK];
    // The byte before says whether a line begins at the range's first.
    let mut offset = range.start.saturating_sub(1);
    let mut is_line_start = range.start == 0;
    let mut held = 0;
    while offset < range.end {
        let left = usize::try_from(end.saturating_sub(offset)).unwrap_or(usize::MAX);
        if left <= held {
            return Ok(());
        }
        if held == buffer.len() {
            buffer.resize(buffer.len() * 2, 0);
        }
        let want = buffer.len().min(left);
        file.read_exact_at(&mut buffer[held..want], offset + held as u64)?;
        let mut start = 0;
        for newline in memchr::memchr_iter(b'\n', &buffer[..want]) {
            let line_offset = offset + start as u64;
            if is_line_start {
                if line_offset >= range.end {
                    return Ok(());
                }
                visit(line_offset, &buffer[start..newline]);
            }
            is_line_start = true;
            start = newline + 1;
        }
        buffer.copy_within(start..want, 0);
        held = want - start;
        offset += start as u64;
    }
    Ok(())
}

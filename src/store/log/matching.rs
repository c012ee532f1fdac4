//! The lines of the log that hold certain bytes, newest first: most of the log is searched, not read.

use std::io;
use std::os::unix::fs::FileExt as _;

use memchr::memmem::Finder;

use super::read::{Line, ReadError};
use super::segments::Segment;
use super::{RunLog, scan};

/// Stays in the processor's cache between the copy from the kernel and the search.
const CHUNK: usize = 1 << 18;

/// Lines that hold the needle, and those that cannot be whole records: it is not known what they held.
#[derive(Debug)]
pub struct Matching {
    /// Files that were not searched through yet, oldest first; the last one is being searched.
    segments: Vec<Segment>,
    finder: Finder<'static>,
    /// Everything from here on was searched; 0 or just past a newline.
    end: u64,
    chunk: Vec<u8>,
    /// Found in the last chunk and not given yet, oldest first.
    found: Vec<Line>,
}

impl RunLog {
    /// The whole lines that hold the bytes, newest first.
    pub fn newest_with(&self, needle: &[u8]) -> Result<Matching, ReadError> {
        let segments = self.segments()?;
        let finder = Finder::new(needle).into_owned();
        let end = segments.last().map_or(0, |newest| newest.whole);
        Ok(Matching { segments, finder, end, chunk: vec![0; CHUNK], found: Vec::new() })
    }
}

impl Matching {
    /// Searches the chunk before `end`; a line that is longer makes it grow.
    fn search(&mut self) -> io::Result<()> {
        let Some(segment) = self.segments.last() else { return Ok(()) };
        let (file, base) = (&segment.file, segment.base);
        let want = self.chunk.len().min(usize::try_from(self.end).unwrap_or(usize::MAX));
        let start = self.end - want as u64;
        let bytes = &mut self.chunk[..want];
        file.read_exact_at(bytes, start)?;
        let first = match start {
            0 => 0,
            // The chunk begins within a line, which is the last of the chunk before.
            _ => memchr::memchr(b'\n', bytes).map_or(want, |newline| newline + 1),
        };
        if first == want {
            let longer = self.chunk.len() * 2;
            self.chunk.resize(longer, 0);
            return Ok(());
        }
        let mut hit = self.finder.find(&bytes[first..]).map(|at| at + first);
        let mut at = first;
        for newline in memchr::memchr_iter(b'\n', &bytes[first..]).map(|newline| newline + first) {
            let line = &bytes[at..newline];
            let is_hit = hit.is_some_and(|hit| hit < newline);
            if is_hit || !scan::looks_whole(line) {
                self.found.push(Line { offset: base + start + at as u64, bytes: line.to_vec() });
            }
            at = newline + 1;
            if is_hit {
                hit = self.finder.find(&bytes[at..]).map(|found| found + at);
            }
        }
        self.end = start + first as u64;
        Ok(())
    }
}

impl Iterator for Matching {
    type Item = Result<Line, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        while self.found.is_empty() && !self.segments.is_empty() {
            if self.end == 0 {
                self.segments.pop();
                self.end = self.segments.last().map_or(0, |older| older.whole);
            } else if let Err(error) = self.search() {
                let path = self.segments.pop().map(|searched| searched.path).unwrap_or_default();
                self.segments.clear();
                return Some(Err(ReadError::at(&path)(error)));
            }
        }
        self.found.pop().map(Ok)
    }
}

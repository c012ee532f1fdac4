//! The log from its end: the newest runs of a log of any size are answered by its last pages.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;

use super::segments::Segment;
use super::{Line, ReadError, RunLog};

/// First read from the end: holds the twenty newest lines of a usual log.
const FIRST_CHUNK: usize = 1 << 15;

/// The whole lines of the log, newest first.
#[derive(Debug)]
pub struct NewestFirst {
    path: PathBuf,
    /// Files that were not read yet, the next one last.
    segments: Vec<Segment>,
    lines: Option<(u64, Backward)>,
}

impl RunLog {
    /// The whole lines that are in the log now, newest first, read in chunks from the end; none where there is no
    /// log. A last line without its newline is being written, or torn, and is not given.
    pub fn newest_first(&self) -> Result<NewestFirst, ReadError> {
        Ok(NewestFirst { path: self.path().to_path_buf(), segments: self.segments()?, lines: None })
    }

    /// The same for the lines before one of them.
    pub fn before(&self, line: &Line) -> Result<NewestFirst, ReadError> {
        let mut segments = self.segments()?;
        segments.retain(|segment| segment.base < line.offset);
        if let Some(last) = segments.last_mut() {
            last.whole = last.whole.min(line.offset - last.base);
        }
        Ok(NewestFirst { path: self.path().to_path_buf(), segments, lines: None })
    }
}

impl NewestFirst {
    fn next_line(&mut self) -> io::Result<Option<Line>> {
        loop {
            if let Some((base, lines)) = &mut self.lines
                && let Some(line) = lines.next_line()?
            {
                return Ok(Some(Line { offset: *base + line.offset, ..line }));
            }
            let Some(next) = self.segments.pop() else { return Ok(None) };
            self.path = next.path;
            self.lines = Some((next.base, Backward::new(next.file, next.whole)));
        }
    }
}

impl Iterator for NewestFirst {
    type Item = Result<Line, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_line().transpose().map(|line| line.map_err(ReadError::at(&self.path)))
    }
}

/// Offset just past the last newline within the first `len` bytes; 0 where there is none.
pub(super) fn whole_lines_end(file: &File, len: u64) -> io::Result<u64> {
    // Nearly always the last byte is the newline.
    let mut chunk = vec![0_u8; 64];
    let mut end = len;
    while end > 0 {
        let take = chunk.len().min(usize::try_from(end).unwrap_or(usize::MAX));
        let start = end - take as u64;
        file.read_exact_at(&mut chunk[..take], start)?;
        if let Some(at) = memchr::memrchr(b'\n', &chunk[..take]) {
            return Ok(start + at as u64 + 1);
        }
        end = start;
        chunk.resize(FIRST_CHUNK, 0);
    }
    Ok(0)
}

/// Lines before an offset that is 0 or just past a newline.
#[derive(Debug)]
pub(super) struct Backward {
    file: File,
    /// Bytes of the file from `start` on, up to and including the newline of the next line to give.
    buffer: Vec<u8>,
    start: u64,
    /// Length of the part at the front of `buffer` in which a newline has not been looked for.
    unsearched: usize,
    chunk: usize,
}

impl Backward {
    pub(super) fn new(file: File, end: u64) -> Self {
        Self { file, buffer: Vec::new(), start: end, unsearched: 0, chunk: FIRST_CHUNK }
    }

    pub(super) fn next_line(&mut self) -> io::Result<Option<Line>> {
        loop {
            if let Some(at) = memchr::memrchr(b'\n', &self.buffer[..self.unsearched]) {
                return Ok(Some(self.split_line(at + 1)));
            }
            if self.start == 0 {
                return Ok((!self.buffer.is_empty()).then(|| self.split_line(0)));
            }
            self.read_before()?;
        }
    }

    /// Takes the line that begins at `at` of the buffer.
    fn split_line(&mut self, at: usize) -> Line {
        let mut bytes = self.buffer.split_off(at);
        bytes.pop();
        self.unsearched = at.saturating_sub(1);
        self.chunk = FIRST_CHUNK;
        Line { offset: self.start + at as u64, bytes }
    }

    /// Puts the chunk before `start` in front; each one twice the last, so that a long line costs its length.
    fn read_before(&mut self) -> io::Result<()> {
        let take = self.chunk.min(usize::try_from(self.start).unwrap_or(usize::MAX));
        let mut longer = vec![0_u8; take];
        self.file.read_exact_at(&mut longer, self.start - take as u64)?;
        // The buffer's last byte ends the line that is wanted; only newlines before it end another.
        self.unsearched = if self.buffer.is_empty() { take - 1 } else { take };
        longer.append(&mut self.buffer);
        self.buffer = longer;
        self.start -= take as u64;
        self.chunk = self.chunk.saturating_mul(2);
        Ok(())
    }
}

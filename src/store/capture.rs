//! Captured output: the head in a file as it comes (so a killed supervisor leaves it), the tail in a bounded ring
//! that is written at the end. What fell between is counted, never guessed.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Bytes kept of the beginning of a stream, and again of its end.
pub const KEPT_BYTES: usize = 8 * 1024 * 1024;

/// A stream being captured.
#[derive(Debug)]
pub struct Capture {
    head: Option<File>,
    path: PathBuf,
    head_left: usize,
    ring: Vec<u8>,
    /// Where the next byte of a full ring goes.
    next: usize,
    limit: usize,
    total: u64,
}

impl Capture {
    /// Will capture into `path` (and `path` + `.tail`), at most `limit` bytes each; the files are made with the first
    /// byte.
    pub fn into(path: &Path, limit: usize) -> Self {
        Self { head: None, path: path.to_path_buf(), head_left: limit, ring: Vec::new(), next: 0, limit, total: 0 }
    }

    /// Takes the next bytes of the stream.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.total += bytes.len() as u64;
        let (head, tail) = bytes.split_at(bytes.len().min(self.head_left));
        if !head.is_empty() {
            if self.head.is_none() {
                let create = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&self.path)?;
                self.head = Some(create);
            }
            if let Some(file) = &mut self.head {
                file.write_all(head)?;
            }
            self.head_left -= head.len();
        }
        self.keep(tail);
        Ok(())
    }

    fn keep(&mut self, bytes: &[u8]) {
        let bytes = &bytes[bytes.len().saturating_sub(self.limit)..];
        let grown = bytes.len().min(self.limit - self.ring.len());
        self.ring.extend_from_slice(&bytes[..grown]);
        let mut rest = &bytes[grown..];
        while !rest.is_empty() {
            let count = rest.len().min(self.limit - self.next);
            self.ring[self.next..self.next + count].copy_from_slice(&rest[..count]);
            self.next = (self.next + count) % self.limit;
            rest = &rest[count..];
        }
    }

    /// Writes the tail. Returns how many bytes the stream had.
    pub fn finish(self) -> io::Result<u64> {
        if !self.ring.is_empty() {
            let path = tail_path(&self.path);
            let mut tail = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
            tail.write_all(&self.ring[self.next..])?;
            tail.write_all(&self.ring[..self.next])?;
        }
        Ok(self.total)
    }
}

/// Where the tail of a capture is.
pub fn tail_path(head: &Path) -> PathBuf {
    let mut name = head.as_os_str().to_owned();
    name.push(".tail");
    PathBuf::from(name)
}

/// Writes a capture to `out`: the head, a line saying how much is missing (if `total` says that anything is), the
/// tail.
pub fn copy_to(path: &Path, total: Option<u64>, out: &mut dyn Write) -> io::Result<()> {
    let mut kept = match File::open(path) {
        Ok(mut head) => io::copy(&mut head, out)?,
        // Nothing was printed.
        Err(error) if error.kind() == io::ErrorKind::NotFound && total == Some(0) => return Ok(()),
        Err(error) => return Err(error),
    };
    let tail = match File::open(tail_path(path)) {
        Ok(tail) => Some(tail),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(error),
    };
    kept += tail.as_ref().map_or(Ok(0), |tail| tail.metadata().map(|metadata| metadata.len()))?;
    if let Some(missing) = total.and_then(|total| total.checked_sub(kept)).filter(|missing| *missing > 0) {
        writeln!(out, "\n[agentguard: {missing} bytes were not kept here]")?;
    }
    if let Some(mut tail) = tail {
        io::copy(&mut tail, out)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn captured(chunks: &[&[u8]], limit: usize) -> (Vec<u8>, u64) {
        let dir = tempfile::tempdir().expect("temporary directory");
        let path = dir.path().join("stdout");
        let mut capture = Capture::into(&path, limit);
        for chunk in chunks {
            capture.write(chunk).expect("written");
        }
        let total = capture.finish().expect("finished");
        let mut out = Vec::new();
        copy_to(&path, Some(total), &mut out).expect("read");
        (out, total)
    }

    #[test]
    fn head_and_tail_are_kept_exactly_and_what_fell_between_is_counted() {
        assert_eq!(captured(&[b"abc", b"d"], 4), (b"abcd".to_vec(), 4));
        assert_eq!(captured(&[b"abcdefgh"], 4), (b"abcdefgh".to_vec(), 8));
        let (text, total) = captured(&[b"abcdef", b"g", b"hij", b"klmnopqrs", b"t"], 4);
        assert_eq!(total, 20);
        assert_eq!(text, b"abcd\n[agentguard: 12 bytes were not kept here]\nqrst");
    }

    #[test]
    fn any_chunking_keeps_the_same_bytes() {
        let bytes: Vec<u8> = (0..200_u8).collect();
        let whole = captured(&[&bytes], 16);
        for size in [1, 3, 15, 16, 17, 64] {
            let chunks: Vec<&[u8]> = bytes.chunks(size).collect();
            assert_eq!(captured(&chunks, 16), whole, "chunks of {size}");
        }
    }
}

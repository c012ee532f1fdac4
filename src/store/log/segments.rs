//! The files of the log: whole segments `runs-<n>.jsonl`, oldest first, and `runs.jsonl`, which lines are added to.
//!
//! An offset in the log counts from the first byte of the oldest segment, so that it stays what it is when `gc` makes a
//! segment of the newest file. Readers take no lock: what they have opened is looked at again, and opened anew if a
//! segment came meanwhile.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use super::{ReadError, RunLog, backward};

const PREFIX: &str = "runs-";
const SUFFIX: &str = ".jsonl";

/// One file of the log, as it was when it was opened.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) path: PathBuf,
    pub(super) file: File,
    /// Offset of its first byte in the log.
    pub(super) base: u64,
    /// Its length; only the newest one still grows.
    pub(super) len: u64,
    /// Just past its last newline.
    pub(super) whole: u64,
}

/// Where a line stands: in which file, and at which byte of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The file.
    pub path: PathBuf,
    /// The byte in it.
    pub offset: u64,
}

impl RunLog {
    /// The closed segments with their numbers, oldest first; `runs.jsonl` follows them.
    pub(super) fn closed(&self) -> io::Result<Vec<(u64, PathBuf)>> {
        let entries = match std::fs::read_dir(&self.state_dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            read => read?,
        };
        let mut found = Vec::new();
        for entry in entries {
            let name = entry?.file_name();
            if let Some(number) = name.to_str().and_then(number_of) {
                found.push((number, self.state_dir.join(&name)));
            }
        }
        found.sort_unstable();
        Ok(found)
    }

    /// The path of a closed segment.
    pub(super) fn segment_path(&self, number: u64) -> PathBuf {
        self.state_dir.join(format!("{PREFIX}{number}{SUFFIX}"))
    }

    /// Every file of the log that is there, oldest first.
    pub fn files(&self) -> Result<Vec<PathBuf>, ReadError> {
        Ok(self.segments()?.into_iter().map(|segment| segment.path).collect())
    }

    /// Every file of the log, opened, oldest first; one moment of it.
    pub(super) fn segments(&self) -> Result<Vec<Segment>, ReadError> {
        loop {
            let closed = self.closed().map_err(ReadError::at(&self.state_dir))?;
            let mut segments = Vec::with_capacity(closed.len() + 1);
            let mut base = 0;
            for path in closed.iter().map(|(_, path)| path).chain([&self.path]) {
                if let Some(segment) = open(path, base)? {
                    base += segment.len;
                    segments.push(segment);
                }
            }
            // What was `runs.jsonl` when the directory was read may be a segment by now, and its lines would be missed.
            if self.closed().map_err(ReadError::at(&self.state_dir))?.len() == closed.len() {
                return Ok(segments);
            }
        }
    }

    /// The file and the byte in it that an offset in the log means.
    pub fn locate(&self, offset: u64) -> Place {
        let segments = self.segments().unwrap_or_default();
        let holding = segments.iter().rev().find(|segment| segment.base <= offset);
        match holding {
            Some(segment) => Place { path: segment.path.clone(), offset: offset - segment.base },
            None => Place { path: self.path.clone(), offset },
        }
    }
}

/// The number in the name of a closed segment.
fn number_of(name: &str) -> Option<u64> {
    let digits = name.strip_prefix(PREFIX)?.strip_suffix(SUFFIX)?;
    let is_number = !digits.starts_with('0') && digits.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| digits.parse().ok()).flatten()
}

fn open(path: &Path, base: u64) -> Result<Option<Segment>, ReadError> {
    let failed = ReadError::at(path);
    loop {
        let file = match File::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            opened => opened.map_err(&failed)?,
        };
        let len = file.metadata().map_err(&failed)?.len();
        match backward::whole_lines_end(&file, len) {
            // A writer set a torn tail aside since the length was read.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {}
            Err(error) => return Err(failed(error)),
            Ok(whole) => return Ok(Some(Segment { path: path.to_path_buf(), file, base, len, whole })),
        }
    }
}

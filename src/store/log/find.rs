//! From a reference to the one line it names.

use std::io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom};
use std::path::Path;

use super::scan::{self, Hits};
use super::segments::Segment;
use super::{Line, LineHead, NewestFirst, ReadError, RunLog};
use crate::model::{RunId, Timestamp};
use crate::rules::run_ref::{RunRef, is_failure};

/// A run that may have been meant.
pub type Candidate = LineHead;

/// How many of the newest runs are offered instead of one that is not there.
const OFFERED: usize = 5;

/// The reference names no run, or several.
#[derive(Debug, thiserror::Error)]
pub enum FindError {
    /// The log cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// More than one.
    #[error("{reference} may be any of {count} runs")]
    Ambiguous {
        /// As it was given.
        reference: RunRef,
        /// How many runs match.
        count: u64,
        /// The newest ten of them, newest first.
        candidates: Vec<Candidate>,
    },
    /// None.
    #[error("no run {reference} in {log}")]
    Unknown {
        /// As it was given.
        reference: RunRef,
        /// The log.
        log: std::path::PathBuf,
        /// The newest runs there are, newest first.
        recent: Vec<Candidate>,
    },
}

impl RunLog {
    /// The line of the run that is meant. Damaged lines are passed over, except that a run is found by an id that
    /// can still be read at the start of its line.
    pub fn find(&self, reference: &RunRef) -> Result<Line, FindError> {
        let found = match reference {
            RunRef::Back(steps) => nth(self.newest_first()?, |_| true, *steps)?,
            RunRef::NewestFailed => nth(self.newest_first()?, |head| is_failure(head.status), 0)?,
            RunRef::Id(id) => self.find_id(id)?,
            RunRef::Part(_) => return self.find_part(reference),
        };
        found.ok_or_else(|| self.unknown(reference))
    }

    /// Whether the log holds a line of this run.
    pub fn contains(&self, id: &RunId) -> Result<bool, ReadError> {
        Ok(self.find_id(id)?.is_some())
    }

    fn find_id(&self, id: &RunId) -> Result<Option<Line>, ReadError> {
        let started = Timestamp::from_unix_micros(i64::try_from(id.unix_millis() * 1000).unwrap_or(i64::MAX));
        let segments = self.segments()?;
        let text = id.to_string();
        // Where it should be in each file first: a file is only read through if the clock has jumped.
        for search in [scan::find_near, scan::find_far] {
            for segment in segments.iter().rev() {
                let found = search(&segment.file, segment.whole, &text, started);
                let line = found.and_then(|offset| offset.map(|offset| line_at(segment, offset)).transpose());
                if let Some(line) = line.map_err(ReadError::at(&segment.path))? {
                    return Ok(Some(line));
                }
            }
        }
        Ok(None)
    }

    fn find_part(&self, reference: &RunRef) -> Result<Line, FindError> {
        let RunRef::Part(part) = reference else { return Err(self.unknown(reference)) };
        let segments = self.segments()?;
        let mut hits = Hits::default();
        for segment in &segments {
            let found = scan::find_all(&segment.file, segment.whole, |id| part.names(id));
            hits.absorb(&found.map_err(ReadError::at(&segment.path))?, segment.base);
        }
        match hits.count {
            0 => Err(self.unknown(reference)),
            1 => Ok(line_in(&segments, hits.newest[0]).map_err(ReadError::at(self.path()))?),
            count => {
                let candidates = candidates(&segments, &hits, self.path())?;
                if let Some(id) = the_only_run(&candidates, count) {
                    return self.find_id(&id)?.ok_or_else(|| self.unknown(reference));
                }
                Err(FindError::Ambiguous { reference: reference.clone(), count, candidates })
            }
        }
    }

    fn unknown(&self, reference: &RunRef) -> FindError {
        let recent =
            self.newest_first().map(|lines| lines.filter_map(|line| line.ok()?.head().ok()).take(OFFERED).collect());
        let recent = recent.unwrap_or_default();
        FindError::Unknown { reference: reference.clone(), log: self.path().to_path_buf(), recent }
    }
}

/// The newest line but `skip` of those that are wanted.
fn nth(lines: NewestFirst, wanted: impl Fn(&LineHead) -> bool, skip: usize) -> Result<Option<Line>, ReadError> {
    let mut left = skip;
    for line in lines {
        let line = line?;
        if !line.head().is_ok_and(|head| wanted(&head)) {
            continue;
        }
        if left == 0 {
            return Ok(Some(line));
        }
        left -= 1;
    }
    Ok(None)
}

/// The whole line that begins at this byte of a file.
fn line_at(segment: &Segment, offset: u64) -> io::Result<Line> {
    let mut reader = BufReader::new(segment.file.try_clone()?);
    reader.seek(SeekFrom::Start(offset))?;
    let mut bytes = Vec::new();
    reader.by_ref().read_until(b'\n', &mut bytes)?;
    bytes.pop();
    Ok(Line { offset: segment.base + offset, bytes })
}

/// The whole line that begins at this offset of the log.
pub(super) fn line_in(segments: &[Segment], offset: u64) -> io::Result<Line> {
    let holding = segments.iter().rev().find(|segment| segment.base <= offset);
    let segment = holding.ok_or(io::ErrorKind::UnexpectedEof)?;
    line_at(segment, offset - segment.base)
}

/// The run, where all the lines are of the same one: a duplicate line is for `check` to report.
fn the_only_run(candidates: &[Candidate], lines: u64) -> Option<RunId> {
    let first = candidates.first()?.run_id;
    let same = candidates.iter().filter(|run| run.run_id == first).count() as u64;
    (same == lines).then_some(first)
}

fn candidates(segments: &[Segment], hits: &Hits, path: &Path) -> Result<Vec<Candidate>, ReadError> {
    let mut runs = Vec::with_capacity(Hits::KEPT);
    for offset in hits.newest.iter().rev() {
        let line = line_in(segments, *offset).map_err(ReadError::at(path))?;
        runs.extend(line.head());
    }
    Ok(runs)
}

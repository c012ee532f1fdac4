//! Is the log what was written? Every line a record, every `prev` the hash of the line before, no run twice, no
//! torn tail. Reports; repairs nothing.

use std::collections::HashSet;

use serde::Deserialize;

use super::append::line_hash;
use super::segments::Place;
use super::{Damage, Line, ReadError, RunLog};
use crate::model::record::RECORD_SCHEMA;
use crate::model::{Digest, RunId, RunRecord};
use crate::sys::append_lock::AppendLock;

/// What was looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Checked {
    /// Whole lines.
    pub lines: u64,
    /// Problems that were reported.
    pub problems: u64,
}

/// Something that is not as it was written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the line at byte {offset} {kind}")]
pub struct Problem {
    /// Offset of the line's first byte in the log.
    pub offset: u64,
    /// What is wrong with it.
    pub kind: ProblemKind,
}

/// What can be wrong with a line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProblemKind {
    /// No record.
    #[error("is damaged: {0}")]
    Damaged(String),
    /// Its `prev` is not the hash of the line before: either was changed, or lines between are gone.
    #[error("does not follow the line at byte {previous_offset}: one of them was changed, or a line between is gone")]
    ChainBroken {
        /// Offset of the line before.
        previous_offset: u64,
    },
    /// The first line has a `prev`: lines before it are gone.
    #[error("is the first and names one before it")]
    BeginningGone,
    /// The run has a line already.
    #[error("is a second one of run {0}")]
    Duplicate(RunId),
    /// The end is no whole line; the next append moves it aside.
    #[error("is torn: {bytes} bytes without an end")]
    TornTail {
        /// How many.
        bytes: u64,
    },
}

/// What every version of a record has.
#[derive(Deserialize)]
struct Chained {
    run_id: RunId,
    schema: u32,
    prev: Option<Digest>,
}

impl RunLog {
    /// Looks at every line once, oldest first, and reports problems as they are met. Memory: 16 bytes or so for each
    /// line, and the longest line.
    pub fn check(&self, report: &mut dyn FnMut(Problem)) -> Result<Checked, ReadError> {
        let torn = self.torn_tails()?;
        let mut check = Check { report, seen: HashSet::new(), before: None, checked: Checked::default() };
        for line in self.in_order()? {
            check.line(&line?);
        }
        for torn in torn {
            check.found(torn.offset, torn.kind);
        }
        Ok(check.checked)
    }

    /// The bytes after the last newline of each file. Seen under the lock, so that a line that is being written is not
    /// one.
    fn torn_tails(&self) -> Result<Vec<Problem>, ReadError> {
        let failed = ReadError::at(&self.lock_path);
        let _lock = AppendLock::shared(&self.lock_path).map_err(failed)?;
        let torn = self.segments()?.into_iter().filter(|segment| segment.whole < segment.len).map(|segment| Problem {
            offset: segment.base + segment.whole,
            kind: ProblemKind::TornTail { bytes: segment.len - segment.whole },
        });
        Ok(torn.collect())
    }

    /// A problem in words, with the file that it is in and offsets in that file.
    pub fn describe(&self, problem: &Problem) -> String {
        let place = self.locate(problem.offset);
        let name = |place: &Place| place.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let mut kind = problem.kind.clone();
        if let ProblemKind::ChainBroken { previous_offset } = &mut kind {
            let previous = self.locate(*previous_offset);
            if previous.path != place.path {
                return format!(
                    "{}: the line at byte {} does not follow the last line of {}: one of them was changed, or lines \
                     between are gone",
                    name(&place),
                    place.offset,
                    name(&previous)
                );
            }
            *previous_offset = previous.offset;
        }
        format!("{}: {}", name(&place), Problem { offset: place.offset, kind })
    }
}

struct Check<'a> {
    report: &'a mut dyn FnMut(Problem),
    seen: HashSet<RunId>,
    /// Offset and hash of the line before.
    before: Option<(u64, Digest)>,
    checked: Checked,
}

impl Check<'_> {
    fn found(&mut self, offset: u64, kind: ProblemKind) {
        self.checked.problems += 1;
        (self.report)(Problem { offset, kind });
    }

    fn line(&mut self, line: &Line) {
        self.checked.lines += 1;
        match judge(line) {
            Err(damage) => self.found(line.offset, ProblemKind::Damaged(damage.what)),
            Ok(chained) => {
                if !self.seen.insert(chained.run_id) {
                    self.found(line.offset, ProblemKind::Duplicate(chained.run_id));
                }
                self.link(line.offset, chained.prev);
            }
        }
        self.before = Some((line.offset, line_hash(&line.bytes)));
    }

    fn link(&mut self, offset: u64, prev: Option<Digest>) {
        match self.before {
            None if prev.is_some() => self.found(offset, ProblemKind::BeginningGone),
            Some((previous_offset, hash)) if prev != Some(hash) => {
                self.found(offset, ProblemKind::ChainBroken { previous_offset });
            }
            _ => {}
        }
    }
}

/// A line of this version must be a whole record; of a newer one only the chain is known.
fn judge(line: &Line) -> Result<Chained, Damage> {
    match line.record() {
        Ok(RunRecord { run_id, schema, prev, .. }) => Ok(Chained { run_id, schema, prev }),
        Err(damage) => line.parse().ok().filter(|newer: &Chained| newer.schema > RECORD_SCHEMA).ok_or(damage),
    }
}

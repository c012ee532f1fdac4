//! The run log, `runs.jsonl`: one line per ended run, append-only, a hash chain. `gc` closes it from time to time: it
//! becomes the segment `runs-<n>.jsonl`, and the chain goes on in a new file.
//!
//! Each line is one `RunRecord` as compact JSON in the contract's field order, `run_id` first and `prev` last.
//! `prev` is the SHA-256 of the line before, its newline included: `sed -n 7p runs.jsonl | sha256sum` is what line
//! 8 says. Writers hold `runs.lock` while a line is added; readers never take it, and read a line only up to the
//! last newline that was there when they began.
//!
//! Knows nothing of how a run went, of run directories, or of terminals.

mod append;
mod backward;
mod check;
mod facts;
mod find;
mod fold;
mod matching;
mod read;
mod rotate;
mod scan;
mod segments;
mod tail;

use std::path::{Path, PathBuf};

pub use append::{AppendError, Appended};
pub use backward::NewestFirst;
pub use check::{Checked, Problem, ProblemKind};
pub use find::{Candidate, FindError};
pub use fold::{Damaged, Reading};
pub use matching::Matching;
pub use read::{Damage, InOrder, Line, LineHead, ReadError};
pub use rotate::Rotated;
pub use segments::Place;

/// The run log of one state directory. Opens its files anew for each operation, so one value may serve threads.
#[derive(Clone, Debug)]
pub struct RunLog {
    state_dir: PathBuf,
    path: PathBuf,
    lock_path: PathBuf,
}

impl RunLog {
    /// The log in this state directory; the directory must exist before a line is appended, the log need not.
    pub fn at(state_dir: &Path) -> Self {
        Self {
            state_dir: state_dir.to_path_buf(),
            path: state_dir.join("runs.jsonl"),
            lock_path: state_dir.join("runs.lock"),
        }
    }

    /// The file that lines are added to.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

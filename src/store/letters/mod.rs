//! The dead letters of one state directory: failed runs that wait until they are redriven or acknowledged.
//!
//! ```text
//! acks.jsonl       (in the state directory) what was acknowledged, and why: the only part that is in no log
//! letters/
//!   index          every letter in a row of fixed size (see `index`): to list the dead letters costs the same however long
//!                  the log is
//!   lock           held while the index is read or written
//!   claims/<run>   held while that letter is redriven
//! ```
//!
//! The index is a fold of the log and of `acks.jsonl`. It knows how far it has read both and the hash of the last line of
//! the log that it read, and goes on from there: when a run ends that is a letter or the redrive of one, when it has fallen
//! behind by [`LAG`], and whenever it is asked. Where it is missing, damaged or of another log, it is made anew.

mod acks;
mod claim;
mod index;
mod row;

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

pub use acks::{Ack, acknowledged};
pub use claim::Claim;

use crate::model::letter::{Fate, Letter};
use crate::model::{RunId, RunRecord, Text};
use crate::rules::letters::{Role, receive};
use crate::rules::run_ref::is_failure;
use crate::sys::append_lock::AppendLock;

use super::log::{Line, ReadError, RunLog};
use super::state_dir::{StateDir, make_private_directory};
use index::{Index, Read};

/// So many bytes of the log may be unread before a run that is no letter goes on with them.
const LAG: u64 = 1 << 20;

/// Every line begins with its run's id and times; where the status is not that of a success it may be a letter.
const STATUS_WITHIN: usize = 200;

/// The dead letters of one state directory.
#[derive(Clone, Debug)]
pub struct Letters {
    log: RunLog,
    dir: PathBuf,
    acks: PathBuf,
}

/// Why the dead letters cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum LettersError {
    /// The kernel said no.
    #[error("{step} {path:?}")]
    Io {
        /// What was being done.
        step: &'static str,
        /// To what.
        path: PathBuf,
        /// The kernel's words.
        source: io::Error,
    },
    /// The log, which the index is read from.
    #[error(transparent)]
    Log(#[from] ReadError),
}

fn io_error(step: &'static str, path: &Path) -> impl FnOnce(io::Error) -> LettersError {
    let path = path.to_path_buf();
    move |source| LettersError::Io { step, path, source }
}

/// Tells agents apart without their names.
pub fn agent_mark(agent: &Text) -> u64 {
    let mut first = [0; 8];
    first.copy_from_slice(&Sha256::digest(&agent.0)[..8]);
    u64::from_le_bytes(first)
}

impl Letters {
    /// Those of this state directory.
    pub fn at(state: &StateDir) -> Self {
        Self { log: RunLog::at(state.path()), dir: state.letters(), acks: state.acks() }
    }

    /// All that wait, in the order in which they failed.
    pub fn waiting(&self) -> Result<Vec<Letter>, LettersError> {
        self.ask(Index::waiting)
    }

    /// One run's letter, whatever became of it; `None` if the run is none.
    pub fn find(&self, run_id: RunId) -> Result<Option<Letter>, LettersError> {
        self.ask(|index| match index.find(run_id)? {
            Some(place) => index.get(place).map(Some),
            None => Ok(None),
        })
    }

    /// The line of the log at an offset that a letter names.
    pub fn line(&self, offset: u64) -> Result<Option<Line>, LettersError> {
        Ok(self.log.line_at(offset)?)
    }

    /// Goes on reading where the run that has just ended is of interest, or much has come together.
    pub fn note(&self, record: &RunRecord) -> Result<(), LettersError> {
        let is_of_interest = is_failure(record.status) || record.redrive_of.is_some();
        if !is_of_interest && self.log.byte_len().saturating_sub(self.read_so_far()) < LAG {
            return Ok(());
        }
        self.ask(|_| Ok(()))
    }

    fn read_so_far(&self) -> u64 {
        let file = File::open(self.index_path());
        file.ok().and_then(|file| index::read_header(&file).ok()?).map_or(0, |(read, _)| read.log)
    }

    /// Adds acknowledgements, durably.
    pub fn acknowledge(&self, acknowledged: &[Ack]) -> Result<(), LettersError> {
        let _lock = self.lock()?;
        acks::append(&self.acks, acknowledged).map_err(io_error("cannot write", &self.acks))
    }

    /// Waits until nobody else redrives the letter.
    pub fn claim(&self, letter: RunId) -> Result<Claim, LettersError> {
        let claims = self.claims();
        make_private_directory(&self.dir).map_err(io_error("cannot make", &self.dir))?;
        make_private_directory(&claims).map_err(io_error("cannot make", &claims))?;
        Claim::take(&claims, letter).map_err(io_error("cannot claim a letter in", &claims))
    }

    /// Whether somebody redrives the letter at this moment.
    pub fn is_claimed(&self, letter: RunId) -> bool {
        Claim::is_held(&self.claims(), letter)
    }

    /// What is wrong with what cannot be made anew, each in words.
    pub fn check(&self) -> Vec<String> {
        acks::check(&self.acks)
    }

    fn claims(&self) -> PathBuf {
        self.dir.join("claims")
    }

    fn index_path(&self) -> PathBuf {
        self.dir.join("index")
    }

    fn lock(&self) -> Result<AppendLock, LettersError> {
        make_private_directory(&self.dir).map_err(io_error("cannot make", &self.dir))?;
        let path = self.dir.join("lock");
        AppendLock::exclusive(&path).map_err(io_error("cannot lock", &path))
    }

    /// Asks an index that has read everything. Where nothing can be written the log is read for the one question.
    fn ask<T>(&self, question: impl Fn(&mut Index) -> io::Result<T>) -> Result<T, LettersError> {
        let path = self.index_path();
        let failed = |error| io_error("cannot read", &path)(error);
        let _lock = match self.lock() {
            Ok(lock) => lock,
            Err(LettersError::Io { source, .. }) if is_read_only(&source) => {
                let mut index = Index::empty(None);
                self.catch_up(&mut index)?;
                return question(&mut index).map_err(failed);
            }
            Err(error) => return Err(error),
        };
        let (file, opened) = Index::open(&path).map_err(io_error("cannot open", &path))?;
        if let Some(mut index) = opened.filter(|index| self.is_of_this_log(&index.read)) {
            match self.catch_up(&mut index).and_then(|()| question(&mut index).map_err(failed)) {
                Err(LettersError::Io { source, .. }) if source.kind() == io::ErrorKind::InvalidData => {}
                answered => return answered,
            }
        }
        let mut anew = Index::empty(Some(file));
        self.catch_up(&mut anew)?;
        question(&mut anew).map_err(failed)
    }

    /// Whether the last line that was read stands where it stood, and no acknowledgement was taken away.
    fn is_of_this_log(&self, read: &Read) -> bool {
        if acks::byte_len(&self.acks) < read.acks {
            return false;
        }
        let Some(hash) = read.last_hash else { return read.log == 0 };
        let line = self.log.line_at(read.last_line);
        line.is_ok_and(|line| line.is_some_and(|line| line.end() == read.log && line.hash() == hash))
    }

    /// Reads on, and saves what came of it.
    fn catch_up(&self, index: &mut Index) -> Result<(), LettersError> {
        let path = self.index_path();
        let before = index.read;
        let mut last: Option<Line> = None;
        for line in self.log.in_order_from(index.read.log)? {
            let line = line?;
            take(index, &line).map_err(io_error("cannot read", &path))?;
            index.read.log = line.end();
            last = Some(line);
        }
        if let Some(line) = last {
            (index.read.last_line, index.read.last_hash) = (line.offset, Some(line.hash()));
        }
        // Only what is in the log is ever acknowledged.
        if before.acks < acks::byte_len(&self.acks) {
            let read = acks::read_from(&self.acks, before.acks);
            let (found, end) = read.map_err(io_error("cannot read", &self.acks))?;
            for ack in found {
                acknowledge(index, ack.run_id).map_err(io_error("cannot read", &path))?;
            }
            index.read.acks = end;
        }
        match (index.is_changed(), index.read == before) {
            (true, _) => index.save().map_err(io_error("cannot write", &path)),
            (false, false) => index.write_header().map_err(io_error("cannot write", &path)),
            (false, true) => Ok(()),
        }
    }
}

fn is_read_only(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem)
}

/// What a line of the log does to the letters. A damaged one tells nothing; `fsck` reports it.
fn take(index: &mut Index, line: &Line) -> io::Result<()> {
    let start = &line.bytes[..line.bytes.len().min(STATUS_WITHIN)];
    let has = |part: &[u8], text: &str| memchr::memmem::find(part, text.as_bytes()).is_some();
    // Most lines, and cheaper than to read them: strings in them cannot look so, their quotes are escaped.
    if has(start, "\"status\":\"succeeded\"") && has(&line.bytes, "\"redrive_of\":null") {
        return Ok(());
    }
    let Ok(posted) = line.posted() else { return Ok(()) };
    match posted.role() {
        Role::None => Ok(()),
        Role::Letter => {
            index.push(&posted.letter(line.offset, agent_mark(&posted.agent)));
            Ok(())
        }
        Role::Redrive(letter) => {
            let Some(place) = index.find(letter)? else { return Ok(()) };
            let mut letter = index.get(place)?;
            receive(&mut letter, &posted, line.offset);
            index.set(place, &letter);
            Ok(())
        }
    }
}

fn acknowledge(index: &mut Index, run_id: RunId) -> io::Result<()> {
    let Some(place) = index.find(run_id)? else { return Ok(()) };
    let mut letter = index.get(place)?;
    if letter.fate == Fate::Waiting {
        letter.fate = Fate::Acknowledged;
        index.set(place, &letter);
    }
    Ok(())
}

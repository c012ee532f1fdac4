//! A run's journal: one JSON event per line, appended with one write each, judged by the lifecycle table as it grows.
//!
//! It is synced only where something is about to be relied on (`commit_intended`); a torn last line is what a power
//! cut may leave and is ignored by the reader, because nothing was relied on after it.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::model::Event;
use crate::rules::lifecycle::{IllegalTransition, Phase, phase_after};
use crate::sys::durable;

/// The journal of a live run.
#[derive(Debug)]
pub struct Journal {
    file: File,
    path: PathBuf,
    events: Vec<Event>,
    phase: Phase,
}

/// Why a journal cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The kernel said no.
    #[error("{step} the journal {path:?}")]
    Io {
        /// What was being done.
        step: &'static str,
        /// The file.
        path: PathBuf,
        /// The kernel's words.
        source: io::Error,
    },
    /// A line in the middle is not an event.
    #[error("line {line} of the journal {path:?} is damaged")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// The parser's words.
        source: serde_json::Error,
    },
    /// An event came where the lifecycle table has no arrow.
    #[error("the journal {path:?} is not the life of a run")]
    Illegal {
        /// The file.
        path: PathBuf,
        /// Which event came where.
        source: IllegalTransition,
    },
}

impl JournalError {
    /// Whether there is no journal.
    pub fn is_missing(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }
}

impl Journal {
    /// A new, empty journal.
    pub fn create(path: &Path) -> Result<Self, JournalError> {
        let file = OpenOptions::new()
            .append(true)
            .create_new(true)
            .mode(0o600)
            .open(path)
            .map_err(|source| io_error("cannot create", path, source))?;
        Ok(Self { file, path: path.to_path_buf(), events: Vec::new(), phase: Phase::Absent })
    }

    /// Opens the journal of a dead run to complete it; a torn last line is cut off.
    pub fn reopen(path: &Path) -> Result<Self, JournalError> {
        let (events, whole) = read_lines(path)?;
        let file =
            OpenOptions::new().append(true).open(path).map_err(|source| io_error("cannot open", path, source))?;
        file.set_len(whole).map_err(|source| io_error("cannot repair", path, source))?;
        let phase =
            phase_after(&events).map_err(|source| JournalError::Illegal { path: path.to_path_buf(), source })?;
        Ok(Self { file, path: path.to_path_buf(), events, phase })
    }

    /// Appends an event. If this fails the run must stop: what follows would have no shadow.
    pub fn append(&mut self, event: Event) -> Result<(), JournalError> {
        let phase =
            self.phase.next(&event).map_err(|source| JournalError::Illegal { path: self.path.clone(), source })?;
        let mut line =
            serde_json::to_vec(&event).map_err(|source| io_error("cannot write", &self.path, source.into()))?;
        line.push(b'\n');
        let before = self.file.metadata().map(|metadata| metadata.len());
        if let Err(source) = self.file.write_all(&line) {
            // A short write on a full disk: the reader would ignore the torn line, a later event must not join it.
            if let Ok(length) = before {
                let _ = self.file.set_len(length);
            }
            return Err(io_error("cannot write", &self.path, source));
        }
        self.events.push(event);
        self.phase = phase;
        Ok(())
    }

    /// Makes everything appended so far durable.
    pub fn sync(&self) -> Result<(), JournalError> {
        durable::sync_data(&self.file).map_err(|source| io_error("cannot sync", &self.path, source))
    }

    /// The events so far.
    pub fn events(&self) -> &[Event] {
        &self.events
    }

    /// Where the run is.
    pub fn phase(&self) -> Phase {
        self.phase
    }
}

/// The events of a journal; a torn last line is left out.
pub fn read(path: &Path) -> Result<Vec<Event>, JournalError> {
    read_lines(path).map(|(events, _)| events)
}

/// The events, and how many bytes the whole lines take.
fn read_lines(path: &Path) -> Result<(Vec<Event>, u64), JournalError> {
    let bytes = std::fs::read(path).map_err(|source| io_error("cannot read", path, source))?;
    let mut events = Vec::new();
    let mut whole = 0;
    let lines: Vec<&[u8]> = bytes.split_inclusive(|byte| *byte == b'\n').collect();
    for (at, line) in lines.iter().enumerate() {
        match serde_json::from_slice(line) {
            Ok(event) if line.ends_with(b"\n") => events.push(event),
            // Only the last line can be torn: by a power cut, or because its writer died within the write.
            _ if at + 1 == lines.len() && !line.ends_with(b"\n") => break,
            Ok(_) => break,
            Err(source) => {
                return Err(JournalError::Damaged { path: path.to_path_buf(), line: at + 1, source });
            }
        }
        whole += line.len() as u64;
    }
    Ok((events, whole))
}

fn io_error(step: &'static str, path: &Path, source: io::Error) -> JournalError {
    JournalError::Io { step, path: path.to_path_buf(), source }
}

//! `Life`, what every stage of a run owns while it lasts, and `Ended`, how any stage gives it up.

use crate::model::error_kind::{ErrorKind, Failure, Status};
use crate::model::{Event, RunSpec};
use crate::rules::exit_code::AgentExit;
use crate::store::journal::Journal;
use crate::store::run_dir::{Alive, RunDir};
use crate::store::state_dir::StateDir;
use crate::sys::crash;

/// A live run: its specification, its directory, its journal, its mark among the living. Stages hand it on.
#[derive(Debug)]
pub struct Life {
    /// The state directory.
    pub state: StateDir,
    /// The run's directory.
    pub dir: RunDir,
    /// The run's mark: its lock is held until the run is settled.
    pub alive: Alive,
    /// The run's events.
    pub journal: Journal,
    /// What was asked.
    pub spec: RunSpec,
}

/// A run that goes no further.
#[derive(Debug)]
#[must_use = "an ended run is settled, or it is not in the log"]
pub struct Ended {
    /// The run.
    pub life: Life,
    /// How it ended.
    pub status: Status,
    /// Why, where an event does not say so already.
    pub failure: Option<Failure>,
    /// How the agent ended.
    pub agent: AgentExit,
}

/// What a stage returns.
pub type Stage<T> = Result<T, Box<Ended>>;

impl Life {
    /// Ends the run with a failure that no event has told yet.
    pub fn fail(self, kind: ErrorKind, error: &dyn std::error::Error) -> Box<Ended> {
        self.end(Status::Failed, Some(Failure::new(kind, chain(error))), AgentExit::default())
    }

    /// Ends the run.
    pub fn end(self, status: Status, failure: Option<Failure>, agent: AgentExit) -> Box<Ended> {
        Box::new(Ended { life: self, status, failure, agent })
    }

    /// Appends an event and passes the crash point behind it. The run ends here if the journal cannot be written:
    /// what would follow has no shadow.
    pub fn note(mut self, event: Event, point: &'static str) -> Stage<Self> {
        if let Err(error) = self.journal.append(event) {
            return Err(self.fail(ErrorKind::PublishIo, &error));
        }
        match crash::point(point) {
            Ok(()) => Ok(self),
            Err(error) => Err(self.fail(ErrorKind::PublishIo, &error)),
        }
    }
}

/// An error and its sources, as one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

//! Breakers on disk: what is remembered of agents between runs.
//!
//! ```text
//! breakers/
//!   agents          JSON lines: agents that have run, and what each needed in its newest run; the last line of an agent
//!                   counts. That this file is there says that the directory was built.
//!   <agent>.json    an agent's breaker and its hash (see `file`); none where the agent never failed
//!   lock            held while anything here is changed
//! ```
//!
//! All of it is a fold of the run log (`rebuild`): where the directory is missing, or a file is damaged, it is made anew
//! from there. What a person decided (`trip`, `reset`) and what probes of dependents found is in no log and is lost with
//! the file. A file that is removed alone is a reset. Readers take no lock: files are replaced by rename.

mod agents;
mod file;
mod rebuild;

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;

use crate::model::breaker::Breaker;
use crate::model::{RunId, Text};
use crate::rules::upstream::Needs;
use crate::sys::append_lock::AppendLock;
use crate::sys::durable;

use super::log::ReadError;
use super::run_dir::Alive;
use super::state_dir::{StateDir, make_private_directory};

/// The breakers of one state directory.
#[derive(Clone, Debug)]
pub struct Breakers {
    state: StateDir,
    dir: PathBuf,
}

/// Breakers that nobody else changes meanwhile.
#[derive(Debug)]
#[must_use = "the lock is released when this is dropped"]
pub struct Locked<'a> {
    breakers: &'a Breakers,
    rebuilt: Vec<Text>,
    _lock: AppendLock,
}

/// Why breakers cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum BreakerError {
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
    /// Its bytes are not those that were written: it is to be rebuilt.
    #[error("{path:?} is damaged: {what}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// In which way.
        what: String,
    },
    /// It was written by a newer agentguard.
    #[error("{path:?} has the newer format {found}")]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u32,
    },
    /// The log, from which breakers are rebuilt.
    #[error("cannot rebuild breakers from the run log")]
    Log(#[source] ReadError),
}

/// A failed step of the kernel's, named.
fn io_error(step: &'static str, path: &std::path::Path) -> impl FnOnce(io::Error) -> BreakerError {
    let path = path.to_path_buf();
    move |source| BreakerError::Io { step, path, source }
}

impl Breakers {
    /// Those in this state directory.
    pub fn at(state: &StateDir) -> Self {
        Self { state: state.clone(), dir: state.breakers() }
    }

    /// Whether they were ever needed here. Where not, the log knows all that they would.
    pub fn is_built(&self) -> bool {
        agents::exists(&self.dir)
    }

    /// An agent's breaker, as it is at this moment; `None` if nothing is remembered.
    pub fn read(&self, agent: &Text) -> Result<Option<Breaker>, BreakerError> {
        file::read(&self.dir, agent)
    }

    /// What each agent that ever ran needed in its newest run. Builds the directory where it is missing.
    pub fn needs(&self) -> Result<Needs, BreakerError> {
        if !self.is_built() {
            drop(self.lock()?);
        }
        agents::read(&self.dir)
    }

    /// All that is remembered, looked at without a lock and without anything being written, not even what is missing.
    pub fn peek(&self) -> Result<Peek<'_>, BreakerError> {
        if self.is_built() {
            return Ok(Peek { breakers: self, needs: agents::read(&self.dir)?, folded: None });
        }
        let (folded, needs) = rebuild::look(&self.state)?;
        Ok(Peek { breakers: self, needs, folded: Some(folded) })
    }

    /// Whether it is known that the agent ran, and needed this.
    pub fn knows(&self, agent: &Text, needs: &[String]) -> bool {
        agents::says(&self.dir, agent, needs)
    }

    /// Whether the supervisor of the run is alive, and so its lease.
    pub fn is_alive(&self, run: RunId) -> bool {
        Alive::is_held(&self.state, run)
    }

    /// Waits until nobody else changes anything. Builds the directory where it is missing.
    pub fn lock(&self) -> Result<Locked<'_>, BreakerError> {
        make_private_directory(&self.dir).map_err(io_error("cannot make", &self.dir))?;
        let path = self.dir.join("lock");
        let lock = AppendLock::exclusive(&path).map_err(io_error("cannot lock", &path))?;
        if !self.is_built() {
            rebuild::all(&self.state, &self.dir)?;
        }
        Ok(Locked { breakers: self, rebuilt: Vec::new(), _lock: lock })
    }

    /// The agents of which something is remembered, by name; one whose file is damaged is missing.
    pub fn agents(&self) -> Result<Vec<Text>, BreakerError> {
        file::agents(&self.dir)
    }

    /// What is wrong with the files, each in words.
    pub fn check(&self) -> Vec<String> {
        file::check_all(&self.dir)
    }
}

/// What is remembered at one moment, and what the log says of what is not.
#[derive(Debug)]
pub struct Peek<'a> {
    breakers: &'a Breakers,
    needs: Needs,
    /// Where nothing was built yet.
    folded: Option<BTreeMap<Text, Breaker>>,
}

impl Peek<'_> {
    /// What each agent that ever ran needed in its newest run.
    pub fn needs(&self) -> &Needs {
        &self.needs
    }

    /// An agent's breaker.
    pub fn read(&self, agent: &Text) -> Result<Breaker, BreakerError> {
        let found = match &self.folded {
            Some(folded) => folded.get(agent).cloned(),
            None => match self.breakers.read(agent) {
                Err(BreakerError::Damaged { .. }) => Some(rebuild::one(&self.breakers.state, agent)?),
                read => read?,
            },
        };
        Ok(found.unwrap_or_else(|| Breaker::closed(agent.clone())))
    }
}

impl Locked<'_> {
    /// An agent's breaker. A damaged one is rebuilt from the log.
    pub fn read(&mut self, agent: &Text) -> Result<Breaker, BreakerError> {
        match self.breakers.read(agent) {
            Ok(found) => Ok(found.unwrap_or_else(|| Breaker::closed(agent.clone()))),
            Err(BreakerError::Damaged { .. }) => {
                let breaker = rebuild::one(&self.breakers.state, agent)?;
                self.write(breaker.clone())?;
                self.rebuilt.push(agent.clone());
                Ok(breaker)
            }
            Err(error) => Err(error),
        }
    }

    /// Replaces an agent's breaker, durably: a crash leaves the old one or the new one.
    pub fn write(&self, mut breaker: Breaker) -> Result<(), BreakerError> {
        let live = self.breakers.state.live();
        // What is done with is never counted again: this keeps the list as short as that of the living.
        breaker.counted.retain(|counted| live.join(counted.mark.to_string()).exists());
        let dir = &self.breakers.dir;
        file::write(dir, &breaker)?;
        durable::sync_directory(dir).map_err(io_error("cannot sync", dir))
    }

    /// Notes that an agent ran, and what it needed. Not durable: the next run of the agent notes it again.
    pub fn note(&self, agent: &Text, needs: &[String]) -> Result<(), BreakerError> {
        agents::note(&self.breakers.dir, agent, needs)
    }

    /// Agents whose damaged breakers were rebuilt under this lock.
    pub fn rebuilt(&self) -> &[Text] {
        &self.rebuilt
    }
}

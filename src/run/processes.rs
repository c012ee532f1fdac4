//! What the processes of a run are started with: the zygote, and an init process that was made before anybody knew what
//! for.

use std::io;

use tokio::time::Instant;

use crate::model::RunSpec;
use crate::model::record::Isolation;
use crate::sys::clock;
use crate::sys::inside::{Running, Starter, Waiting};
use crate::sys::process::Launch;

use super::scene::{self, Scene};
use super::supervise::StartError;

/// See the module.
#[derive(Debug)]
pub struct Processes {
    starter: Starter,
    /// What the first attempt will most likely need; it makes its namespaces while the inputs are read.
    early: Option<Waiting>,
    /// When the run's time is over.
    deadline: Option<Instant>,
}

impl Processes {
    /// For a run of this specification. Quickest while the process has one thread.
    pub fn for_run(spec: &RunSpec) -> io::Result<Self> {
        let starter = Starter::new()?;
        let likely = scene::ways(spec, None).into_iter().next();
        let opening = likely.map(|way| scene::opening(way, spec.view.isolation, spec.view.network));
        // What stands in the way is told when it is really needed.
        let early = opening.and_then(|opening| starter.start(&opening).ok());
        let deadline = spec.time.deadline.and_then(|deadline| Instant::now().checked_add(deadline));
        Ok(Self { starter, early, deadline })
    }

    /// The zygote, which is no part of what an agent leaves behind.
    pub fn starter(&self) -> &Starter {
        &self.starter
    }

    /// When every process must have ended: `--deadline`.
    pub fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// Starts a process in its scene; what was in force comes with it.
    pub fn start_in(&mut self, scene: &Scene, launch: &Launch<'_>) -> Result<(Running, Isolation), StartError> {
        let opening = scene.opening();
        let waiting = match self.early.take().filter(|early| early.opening() == opening) {
            Some(early) => early,
            None => self.starter.start(&opening)?,
        };
        let steps = scene.steps()?;
        // The process is busy with its own beginning meanwhile.
        let _ = scene.not_before.map(clock::wait_past);
        let (running, entered) = waiting.go(launch, &steps)?;
        Ok((running, scene.isolation(&entered)))
    }
}

//! `agentguard recover`: finish or take back interrupted commits, write missing records, sweep what was left.

use std::io::Write;
use std::time::Duration;

use crate::run::recover::{Outcome, recover as recover_all, sweep_temporaries};
use crate::run::resolve::Surroundings;
use crate::store::state_dir::StateDir;
use crate::store::trash;

use super::run::describe;

/// Whether everything was put right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// Nothing is left to do.
    Well,
    /// Something could not be recovered; it was named.
    Unwell,
}

/// Recovers, and says of each run what was done.
pub fn recover(at: &Surroundings, out: &mut dyn Write) -> anyhow::Result<Health> {
    let state = StateDir::open_or_create(&at.state)?;
    let recovered = recover_all(&state);
    sweep_temporaries(&state);
    trash::sweep(&state, trash::Sweep::All, Duration::MAX);
    let mut health = Health::Well;
    for one in &recovered {
        if matches!(one.what, Outcome::Stuck(_)) {
            health = Health::Unwell;
        }
        writeln!(out, "run {}: {}", one.run, describe(&one.what))?;
    }
    if recovered.is_empty() {
        writeln!(out, "nothing to recover")?;
    }
    Ok(health)
}

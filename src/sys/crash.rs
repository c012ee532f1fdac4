//! Named crash points: places where tests stop the process, or make the next step fail, exactly once.
//!
//! `AGENTGUARD_FAULT=name:what[@N]` arms one point: at its N-th hit (from 1, the default) `kill` sends SIGKILL to
//! the own process, `abort` aborts it, `enospc` and `eio` make [`point`] return that error. Anything else arms
//! nothing. Unarmed, a point costs one load.

use std::io;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::io::Errno;
use rustix::process::{Signal, getpid, kill_process};

/// The variable that arms a point; read once, at the first point that is reached.
pub const FAULT_VARIABLE: &str = "AGENTGUARD_FAULT";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Effect {
    Kill,
    Abort,
    Fail(Errno),
}

#[derive(Debug)]
struct Fault {
    name: String,
    effect: Effect,
    at_hit: u64,
    hits: AtomicU64,
}

/// Passes, unless this point is armed. A step that this stands before must be undone or redone by recovery when
/// the process ends here, and must be reported like a failure of its own when an error is returned.
pub fn point(name: &'static str) -> io::Result<()> {
    static ARMED: OnceLock<Option<Fault>> = OnceLock::new();
    match ARMED.get_or_init(|| parse(&std::env::var(FAULT_VARIABLE).ok()?)) {
        Some(fault) if fault.name == name => fault.hit(),
        _ => Ok(()),
    }
}

impl Fault {
    fn hit(&self) -> io::Result<()> {
        if self.hits.fetch_add(1, Ordering::Relaxed) + 1 != self.at_hit {
            return Ok(());
        }
        match self.effect {
            Effect::Kill => loop {
                // The signal is delivered before the system call returns; the loop only satisfies the type.
                let _ = kill_process(getpid(), Signal::KILL);
            },
            Effect::Abort => std::process::abort(),
            Effect::Fail(errno) => Err(errno.into()),
        }
    }
}

fn parse(text: &str) -> Option<Fault> {
    let (name, what) = text.split_once(':')?;
    let (what, at_hit) = match what.split_once('@') {
        Some((what, number)) => (what, number.parse().ok()?),
        None => (what, 1),
    };
    let effect = match what {
        "kill" => Effect::Kill,
        "abort" => Effect::Abort,
        "enospc" => Effect::Fail(Errno::NOSPC),
        "eio" => Effect::Fail(Errno::IO),
        _ => return None,
    };
    Some(Fault { name: name.to_owned(), effect, at_hit, hits: AtomicU64::new(0) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_armed_hit_fails() {
        let fault = parse("snapshot.begun:enospc@2").expect("armed");
        assert_eq!(fault.name, "snapshot.begun");
        assert!(fault.hit().is_ok());
        assert_eq!(fault.hit().expect_err("the second hit").raw_os_error(), Some(Errno::NOSPC.raw_os_error()));
        assert!(fault.hit().is_ok());
    }

    #[test]
    fn what_is_not_understood_arms_nothing() {
        for text in ["", "name", "name:later", "name:kill@x"] {
            assert!(parse(text).is_none(), "{text:?}");
        }
    }
}

//! Named crash points: the places between two effects where a power cut or a full disk may strike.
//!
//! `AGENTGUARD_FAULT=name:kind[@N]` makes the N-th passage (default: the first) through a point fail: `kill` raises
//! SIGKILL, `abort` aborts, `stop` stops the process until it is continued, `enospc` and `eio` return that error. It is
//! in the shipped binary, so that the tested program is the one people run; without the variable a point costs one
//! comparison.

use std::io;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::io::Errno;
use rustix::process::{Signal, getpid, kill_process};

/// The variable that arms a point.
pub const VARIABLE: &str = "AGENTGUARD_FAULT";

/// Every point, in the order a run passes them.
pub const POINTS: [&str; 42] = [
    "run.marked",
    "run.started",
    "snapshot.begun",
    "snapshot.contents_written",
    "snapshot.synced",
    "snapshot.published",
    "snapshot.cache_written",
    "snapshot.taken",
    "attempt.started",
    "attempt.ended",
    "sealed",
    "verify.ended",
    "judged",
    "commit.flushed",
    "commit.written",
    "commit.intended",
    "commit.target",
    "commit.two_step",
    "commit.applied",
    "apply.checked",
    "apply.step",
    "apply.moved",
    "apply.directory",
    "apply.applied",
    "apply.taking_back",
    "apply.taken_back",
    "commit.done",
    "commit.aborted",
    "settle.event",
    "log.appended",
    "settle.recorded",
    "settle.swept",
    "log.rotating",
    "log.rotated",
    "gc.marked",
    "gc.run_moved",
    "gc.runs_moved",
    "gc.swept",
    "import.verified",
    "import.intended",
    "import.placed",
    "import.logged",
];

struct Armed {
    name: String,
    kind: String,
    passage: u32,
    passed: AtomicU32,
}

/// Passes a point: nothing, unless this one is armed.
pub fn point(name: &'static str) -> io::Result<()> {
    debug_assert!(POINTS.contains(&name), "{name} is not in the list of points");
    static ARMED: OnceLock<Option<Armed>> = OnceLock::new();
    let armed = ARMED.get_or_init(|| std::env::var(VARIABLE).ok().as_deref().and_then(parse));
    match armed {
        Some(armed) if armed.name == name && armed.passed.fetch_add(1, Ordering::SeqCst) + 1 == armed.passage => {
            strike(&armed.kind)
        }
        _ => Ok(()),
    }
}

fn parse(text: &str) -> Option<Armed> {
    let (name, how) = text.split_once(':')?;
    let (kind, passage) = how.split_once('@').unwrap_or((how, "1"));
    Some(Armed {
        name: name.to_owned(),
        kind: kind.to_owned(),
        passage: passage.parse().ok()?,
        passed: AtomicU32::new(0),
    })
}

fn strike(kind: &str) -> io::Result<()> {
    match kind {
        "kill" => {
            let _ = kill_process(getpid(), Signal::KILL);
            // SIGKILL to oneself is delivered before the call returns to this thread; another thread may have asked.
            std::process::abort()
        }
        "abort" => std::process::abort(),
        "stop" => {
            // SAFETY: raise(3) takes no pointers; the signal stops the whole process before the call returns here.
            unsafe { libc::raise(libc::SIGSTOP) };
            Ok(())
        }
        "enospc" => Err(Errno::NOSPC.into()),
        "eio" => Err(Errno::IO.into()),
        _ => Ok(()),
    }
}

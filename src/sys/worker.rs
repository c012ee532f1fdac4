//! Processes of this same program that do a part of its work: what they print is kept, they end when it ends, and a signal
//! that tells it to stop is noticed instead of ending it at once.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Seek as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicI32, Ordering};

use rustix::process::{Pid, Signal, kill_process, set_parent_process_death_signal};

/// The running program, even where its file was replaced meanwhile.
const OWN_PROGRAM: &str = "/proc/self/exe";

/// A worker, and where its output goes.
#[derive(Debug)]
pub struct Worker {
    child: Child,
    stdout: File,
    stderr: File,
}

/// What a worker has printed, each from its beginning.
#[derive(Debug)]
pub struct Printed {
    /// On standard output.
    pub stdout: File,
    /// On standard error.
    pub stderr: File,
}

/// Starts this program with other arguments and nothing to read. Its output goes to files without a name in `room`. It is
/// told to terminate when the thread that has started it ends.
pub fn start<S: AsRef<OsStr>>(arguments: &[S], room: &Path) -> io::Result<Worker> {
    let (stdout, stderr) = (tempfile::tempfile_in(room)?, tempfile::tempfile_in(room)?);
    let mut command = Command::new(OWN_PROGRAM);
    command.args(arguments).stdin(Stdio::null()).stdout(stdout.try_clone()?).stderr(stderr.try_clone()?);
    // SAFETY: between fork and exec only one system call is made, which allocates nothing and takes no lock.
    unsafe { command.pre_exec(|| Ok(set_parent_process_death_signal(Some(Signal::TERM))?)) };
    Ok(Worker { child: command.spawn()?, stdout, stderr })
}

impl Worker {
    /// Its process.
    pub fn pid(&self) -> Option<Pid> {
        Pid::from_raw(self.child.id().cast_signed())
    }

    /// Waits for its end: its exit code (none if it died of a signal) and what it has printed.
    pub fn wait(mut self) -> io::Result<(Option<i32>, Printed)> {
        let status = self.child.wait()?;
        self.stdout.rewind()?;
        self.stderr.rewind()?;
        Ok((status.code(), Printed { stdout: self.stdout, stderr: self.stderr }))
    }
}

/// Tells a worker that has not been waited for to stop.
pub fn tell_to_stop(worker: Pid) {
    // One that has just ended needs to be told nothing.
    let _ = kill_process(worker, Signal::TERM);
}

static NOTICED: AtomicI32 = AtomicI32::new(0);

extern "C" fn notice(signal: libc::c_int) {
    NOTICED.store(signal, Ordering::Relaxed);
}

/// From now on INT, TERM and HUP are noticed and nothing else; workers are not affected. What is ignored stays so.
pub fn notice_signals() {
    for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
        let handler = notice as extern "C" fn(libc::c_int);
        // SAFETY: the handler stores one number, which is safe in any signal handler.
        let previous = unsafe { libc::signal(signal.as_raw(), handler as libc::sighandler_t) };
        if previous == libc::SIG_IGN {
            // SAFETY: as it was.
            unsafe { libc::signal(signal.as_raw(), libc::SIG_IGN) };
        }
    }
}

/// The signal that was noticed.
pub fn noticed() -> Option<i32> {
    Some(NOTICED.load(Ordering::Relaxed)).filter(|signal| *signal != 0)
}

//! Processes: what one is started with, and this one's own signals.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::process::Signal;
use serde::{Deserialize, Serialize};

use super::terminal::Terminal;

/// Where a child reads from.
#[derive(Debug)]
pub enum ChildStdin {
    /// The guard's own standard input.
    Inherit,
    /// Nothing.
    Null,
    /// A pipe that the guard feeds.
    Pipe,
    /// A file, from where its offset stands.
    File(File),
}

/// Where a child's output goes.
#[derive(Debug)]
pub enum ChildStdout {
    /// Standard output and standard error each to a pipe of their own.
    Pipes,
    /// Both to one file.
    File(File),
    /// All three streams are a pseudoterminal, which the child controls; this is its end.
    Terminal(OwnedFd),
}

/// What to start.
#[derive(Debug)]
pub struct Launch<'a> {
    /// The argument vector, byte for byte; the first is looked up in `PATH` as `execvp` does.
    pub argv: &'a [OsString],
    /// Working directory.
    pub cwd: &'a Path,
    /// Variables to set (or, with `None`, to remove) in the guard's own environment.
    pub environment: &'a [(OsString, Option<OsString>)],
    /// Standard input.
    pub stdin: ChildStdin,
    /// Standard output and error.
    pub stdout: ChildStdout,
    /// How the child is placed towards the terminal.
    pub terminal: &'a Terminal,
    /// How much it may use.
    pub limits: Limits,
}

/// What the kernel limits for a process and all that it starts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Added to its niceness.
    pub nice: Option<i32>,
    /// Bytes of address space of each process (`RLIMIT_AS`).
    pub memory: Option<u64>,
    /// Processes of its user (`RLIMIT_NPROC`), which root is not held to.
    pub pids: Option<u64>,
}

/// How a process ended: exactly one of the two is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    /// Exit code.
    pub code: Option<i32>,
    /// The signal it died of.
    pub signal: Option<i32>,
}

/// Where `execvp` would find a program: itself if it has a slash, else the first executable file of that name in
/// `PATH`.
pub fn find_program(program: &OsStr) -> Option<PathBuf> {
    let path = Path::new(program);
    if program.as_encoded_bytes().contains(&b'/') {
        return path.exists().then(|| path.to_path_buf());
    }
    let executable = |path: &PathBuf| path.is_file() && rustix::fs::access(path, rustix::fs::Access::EXEC_OK).is_ok();
    std::env::split_paths(&std::env::var_os("PATH")?).map(|dir| dir.join(path)).find(executable)
}

/// Whether the guard was started with a signal ignored (`nohup`, a background job of a script): then it stays ignored.
pub fn is_ignored(signal: i32) -> bool {
    // SAFETY: sigaction with a null new action only reads; `current` is a plain struct the kernel fills in.
    unsafe {
        let mut current: libc::sigaction = std::mem::zeroed();
        libc::sigaction(signal, std::ptr::null(), &raw mut current) == 0 && current.sa_sigaction == libc::SIG_IGN
    }
}

/// Runs `body` with one signal blocked in this thread.
pub fn with_signal_blocked<T>(signal: Signal, body: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    // SAFETY: the sets are plain structs initialised by sigemptyset before use; pthread_sigmask only changes the
    // mask of this thread, and it is put back on every way out of `body` that returns.
    unsafe {
        let mut blocked: libc::sigset_t = std::mem::zeroed();
        let mut before: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut blocked);
        libc::sigaddset(&raw mut blocked, signal.as_raw());
        libc::pthread_sigmask(libc::SIG_BLOCK, &raw const blocked, &raw mut before);
        let result = body();
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const before, std::ptr::null_mut());
        result
    }
}

/// Stops the guard itself as Ctrl-Z would; returns when it is continued.
pub fn stop_self() {
    let _ = rustix::process::kill_process(rustix::process::getpid(), Signal::STOP);
}

//! One child process in a process group of its own: spawned unchanged, waited for by pidfd, killed as a group.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::fs::Mode;
use rustix::io::retry_on_intr;
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, kill_process, kill_process_group, pidfd_open, umask, waitid,
};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::host;
use super::terminal::{Foreground, Terminal};

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
}

/// A started child. Dropping it neither kills nor reaps.
#[derive(Debug)]
pub struct Running {
    pid: Pid,
    group: Group,
    pidfd: OwnedFd,
    /// The guard's end of the child's standard input, if a pipe was asked for.
    pub stdin: Option<OwnedFd>,
    /// The guard's end of its standard output.
    pub stdout: Option<OwnedFd>,
    /// The guard's end of its standard error.
    pub stderr: Option<OwnedFd>,
}

/// Whether a child leads a process group or lives in the guard's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Group {
    Own,
    Shared,
}

/// How a process ended: exactly one of the two is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    /// Exit code.
    pub code: Option<i32>,
    /// The signal it died of.
    pub signal: Option<i32>,
}

/// Starts a child. `NotFound`: no such command; anything else: it cannot be executed.
pub fn launch(launch: &Launch<'_>) -> io::Result<Running> {
    let Some((program, arguments)) = launch.argv.split_first() else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let child = match command(launch, program, arguments)?.spawn() {
        // A script without a `#!` line: `execvp` hands it to the shell, `posix_spawnp` does not.
        Err(error) if error.raw_os_error() == Some(libc::ENOEXEC) => {
            let script = find_program(program).ok_or(error)?;
            let with_script: Vec<OsString> =
                std::iter::once(script.into_os_string()).chain(arguments.iter().cloned()).collect();
            command(launch, OsStr::new("/bin/sh"), &with_script)?.spawn()?
        }
        spawned => spawned?,
    };
    Running::of(child, launch.terminal)
}

/// What is spawned for a launch, with a program and arguments of its own.
pub(super) fn command(launch: &Launch<'_>, program: &OsStr, arguments: &[OsString]) -> io::Result<Command> {
    let mut command = Command::new(program);
    command.args(arguments).current_dir(launch.cwd);
    if !matches!(launch.terminal, Terminal::Shared) {
        command.process_group(0);
    }
    for (name, value) in launch.environment {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command.stdin(match &launch.stdin {
        ChildStdin::Inherit => Stdio::inherit(),
        ChildStdin::Null => Stdio::null(),
        ChildStdin::Pipe => Stdio::piped(),
        ChildStdin::File(file) => Stdio::from(file.try_clone()?),
    });
    match &launch.stdout {
        ChildStdout::Pipes => command.stdout(Stdio::piped()).stderr(Stdio::piped()),
        ChildStdout::File(file) => {
            command.stdout(Stdio::from(file.try_clone()?)).stderr(Stdio::from(file.try_clone()?))
        }
    };
    if let Terminal::Given(foreground) = launch.terminal {
        become_foreground(&mut command, foreground.for_child()?);
    }
    if let Some(mask) = host::callers_umask() {
        give_umask(&mut command, mask);
    }
    Ok(command)
}

fn give_umask(command: &mut Command, mask: Mode) {
    let give = move || {
        umask(mask);
        Ok(())
    };
    // SAFETY: between fork and exec only umask is called, which is async-signal-safe.
    unsafe { command.pre_exec(give) };
}

/// Before the agent can read from the terminal its group must be in the foreground, or it is stopped by SIGTTIN.
fn become_foreground(command: &mut Command, foreground: Foreground) {
    // Never dropped: the command may outlive the agent, and dropping would take the terminal back.
    let foreground = std::mem::ManuallyDrop::new(foreground);
    let make_foreground = move || foreground.give_to(rustix::process::getpid());
    // SAFETY: between fork and exec only async-signal-safe system calls are made: sigprocmask, getpid and an ioctl.
    unsafe { command.pre_exec(make_foreground) };
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

impl Running {
    /// A child that has just been spawned, with the ends of its pipes.
    pub(super) fn of(mut child: Child, terminal: &Terminal) -> io::Result<Self> {
        let pid = Pid::from_child(&child);
        Ok(Self {
            pid,
            group: if matches!(terminal, Terminal::Shared) { Group::Shared } else { Group::Own },
            pidfd: pidfd_open(pid, PidfdFlags::empty())?,
            stdin: child.stdin.take().map(OwnedFd::from),
            stdout: child.stdout.take().map(OwnedFd::from),
            stderr: child.stderr.take().map(OwnedFd::from),
        })
    }

    /// Readable when the child has ended; to be waited for in an event loop.
    pub fn ending(&self) -> io::Result<AsyncFd<OwnedFd>> {
        let own = self.pidfd.try_clone()?;
        // SAFETY: the descriptor is owned by the AsyncFd and stays open as long as it is registered.
        Ok(unsafe { AsyncFd::register_with_interest(own, Interest::READABLE) }?)
    }

    /// Whether the child has ended; it stays a zombie, so that its group's number cannot be reused.
    pub fn has_ended(&self) -> io::Result<Option<Ended>> {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
        Ok(waitid(WaitId::PidFd(self.pidfd.as_fd()), options)?.map(|status| ended(&status)))
    }

    /// Waits until the child has ended; it stays a zombie.
    pub fn wait_end(&self) -> io::Result<Ended> {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        let status = retry_on_intr(|| waitid(WaitId::PidFd(self.pidfd.as_fd()), options))?;
        status.map(|status| ended(&status)).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// Sends a signal to the child's whole group; to the child alone where the group is the guard's own. A group that is
    /// gone is fine.
    pub fn signal_group(&self, signal: Signal) {
        let _ = match self.group {
            Group::Own => kill_process_group(self.pid, signal),
            Group::Shared => kill_process(self.pid, signal),
        };
    }

    /// Takes the ended child's status away, so that it is no zombie any more.
    pub fn reap(&self) {
        let _ = waitid(WaitId::PidFd(self.pidfd.as_fd()), WaitIdOptions::EXITED);
    }

    /// Whether the child was stopped (Ctrl-Z) since this was last asked.
    pub fn was_stopped(&self) -> bool {
        let options = WaitIdOptions::STOPPED | WaitIdOptions::NOHANG;
        matches!(waitid(WaitId::PidFd(self.pidfd.as_fd()), options), Ok(Some(_)))
    }

    /// The child's process group.
    pub fn group(&self) -> Pid {
        self.pid
    }
}

fn ended(status: &rustix::process::WaitIdStatus) -> Ended {
    Ended { code: status.exit_status(), signal: status.terminating_signal() }
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

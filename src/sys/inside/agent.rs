//! Becoming the agent.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::fs::Mode;
use rustix::process::{Pid, Resource, Rlimit, getpid, getrlimit, ioctl_tiocsctty, setpgid, setrlimit, setsid, umask};
use rustix::termios::tcsetpgrp;

use crate::sys::process::{Limits, find_program};

use super::init::{Birth, say};
use super::plan::{Agent, Answer, Entered, FailedStep, Step, errno_of};
use super::renames::Helper;
use super::steps;

/// What is known when the process is made.
pub(super) struct Making<'a> {
    pub(super) socket: &'a UnixStream,
    pub(super) agent: &'a Agent,
    /// The steps that are the agent's own.
    pub(super) steps: &'a [Step],
    pub(super) entered: Entered,
    pub(super) helper: Option<&'a Helper>,
    pub(super) birth: Birth,
}

/// Lives the process's life up to the agent's; the value is what to exit with where there is none. `descriptors`: the
/// standard streams, and where it is told why the agent cannot be executed.
pub(super) fn live(making: Making<'_>, descriptors: Vec<OwnedFd>) -> i32 {
    const ALONE: i32 = 125;
    let Making { socket, agent, steps, mut entered, helper, birth } = making;
    let Ok([input, output, errors, verdict]) = <[OwnedFd; 4]>::try_from(descriptors) else { return ALONE };
    let mut prepare = || -> Result<(), FailedStep> {
        let failed = FailedStep::plain;
        if agent.controls {
            setsid().map_err(failed("session"))?;
            ioctl_tiocsctty(&input).map_err(failed("controlling terminal"))?;
        } else if agent.leads {
            setpgid(None, None).map_err(failed("process group"))?;
        }
        rustix::stdio::dup2_stdin(&input).map_err(failed("standard input"))?;
        rustix::stdio::dup2_stdout(&output).map_err(failed("standard output"))?;
        rustix::stdio::dup2_stderr(&errors).map_err(failed("standard error"))?;
        limit(&agent.limits)?;
        steps::perform(steps, birth, &mut entered, helper)
    };
    if let Err(failed) = prepare() {
        say(socket, &Answer::Failed(failed));
        return ALONE;
    }
    if agent.foreground {
        // Before it can read from the terminal its group must be in the foreground, or it is stopped by SIGTTIN. The
        // terminal may be gone by now; the agent then reads its end.
        let _ = take_terminal(getpid());
    }
    set_surroundings(agent);
    say(socket, &Answer::Entered(entered));
    hear_signals();
    let argv: Vec<OsString> = agent.argv.iter().map(|argument| argument.as_os_str().to_owned()).collect();
    let error = become_agent(&argv);
    let _ = rustix::io::write(&verdict, &errno_of(&error).to_le_bytes());
    ALONE
}

fn limit(limits: &Limits) -> Result<(), FailedStep> {
    let failed = FailedStep::plain;
    if let Some(nice) = limits.nice {
        rustix::process::nice(nice).map_err(failed("--nice"))?;
    }
    let lower = |resource: Resource, to: u64| {
        // Never more than it was.
        let now = getrlimit(resource);
        let least = |limit: Option<u64>| Some(limit.map_or(to, |limit| limit.min(to)));
        setrlimit(resource, Rlimit { current: least(now.current), maximum: least(now.maximum) })
    };
    if let Some(bytes) = limits.memory {
        lower(Resource::As, bytes).map_err(failed("--memory"))?;
    }
    if let Some(count) = limits.pids {
        lower(Resource::Nproc, count).map_err(failed("--pids"))?;
    }
    Ok(())
}

fn set_surroundings(agent: &Agent) {
    for (name, value) in &agent.environment {
        // SAFETY: this process has one thread.
        unsafe {
            match value {
                Some(value) => std::env::set_var(name.as_os_str(), value.as_os_str()),
                None => std::env::remove_var(name.as_os_str()),
            }
        }
    }
    if let Some(mask) = agent.umask {
        umask(Mode::from_raw_mode(mask));
    }
}

/// Makes a group the terminal's foreground group; every signal is blocked here, SIGTTOU too.
pub(super) fn take_terminal(group: Pid) -> io::Result<()> {
    let terminal = File::options().read(true).write(true).open("/dev/tty")?;
    Ok(tcsetpgrp(terminal.as_fd(), group)?)
}

/// No signal is blocked any more, and SIGPIPE is as an agent expects it: the Rust runtime ignores it.
fn hear_signals() {
    // SAFETY: the set is a plain struct that sigemptyset initialises; only this process's mask and handler are changed.
    unsafe {
        libc::signal(libc::SIGPIPE, libc::SIG_DFL);
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
    }
}

/// Executes the agent in the place of this process, looked up as `execvp` does. Returns only what went wrong.
fn become_agent(argv: &[OsString]) -> io::Error {
    let Some((program, arguments)) = argv.split_first() else {
        return io::ErrorKind::InvalidInput.into();
    };
    let error = Command::new(program).args(arguments).exec();
    // A script without a `#!` line is handed to the shell, also where the C library leaves that to the caller.
    match find_program(program) {
        Some(script) if error.raw_os_error() == Some(libc::ENOEXEC) => {
            Command::new(OsStr::new("/bin/sh")).arg(script).args(arguments).exec()
        }
        _ => error,
    }
}

//! The process that makes init processes. It has one thread, so it may be copied at any time, which a guard with threads
//! may not; and what it makes is the guard's child, not its own.

use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::process::ExitCode;

use rustix::io::{Errno, FdFlags, fcntl_getfd};
use rustix::process::{Signal, getppid, set_parent_process_death_signal, setpgid};
use rustix::thread::set_name;
use serde::{Deserialize, Serialize};

use super::init::{self, Birth};
use super::namespaces::last_errno;
use super::plan::Step;
use super::wire;

/// What the guard wants: an init process, with its socket.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Request {
    /// What it does first.
    pub(super) opening: Vec<Step>,
}

/// Lives the life of the zygote, in a process of its own. Returns when nobody wants anything more.
pub(super) fn live(socket: &UnixStream) -> ExitCode {
    // Its group is its own from both sides: the guard looks who shares its group.
    let _ = setpgid(None, None);
    let _ = set_name(c"agentguard-zyg");
    if prepare(socket.as_raw_fd()).is_err() {
        return ExitCode::FAILURE;
    }
    while let Some((body, descriptors)) = wire::receive(socket) {
        let Ok(request) = serde_json::from_slice::<Request>(&body) else { return ExitCode::FAILURE };
        let Some(own) = descriptors.into_iter().next() else { return ExitCode::FAILURE };
        let made = copy(&request, own);
        if wire::send(socket, &made.to_le_bytes(), &[]).is_err() {
            break;
        }
    }
    ExitCode::SUCCESS
}

/// The copy's process number, or the negative number of an error.
fn copy(request: &Request, socket: OwnedFd) -> i32 {
    let birth = birth(&request.opening);
    let flags = match birth {
        Birth::InNamespaces => request.opening.iter().fold(0, |flags, step| flags | flag(step)),
        Birth::Plain => 0,
    };
    // The parent of what it makes is the guard.
    let flags = u64::try_from(flags | libc::CLONE_PARENT | libc::SIGCHLD).unwrap_or_default();
    // SAFETY: without a stack and without shared memory this is fork(2); this process has one thread, so the copy may do
    // whatever this one could have done.
    let made = unsafe { libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0) };
    match i32::try_from(made).unwrap_or(-1) {
        -1 => -last_errno().raw_os_error(),
        0 => {
            let code = init::live(UnixStream::from(socket), &request.opening, birth);
            // SAFETY: ends this copy without running anything that belongs to the original.
            unsafe { libc::_exit(code) }
        }
        pid => pid,
    }
}

/// A process id namespace begins with its first process; the others come with it.
fn birth(opening: &[Step]) -> Birth {
    if opening.contains(&Step::PidNamespace) { Birth::InNamespaces } else { Birth::Plain }
}

fn flag(step: &Step) -> i32 {
    match step {
        Step::UserNamespace { .. } => libc::CLONE_NEWUSER,
        Step::MountNamespace => libc::CLONE_NEWNS,
        Step::NetworkNamespace => libc::CLONE_NEWNET,
        Step::PidNamespace => libc::CLONE_NEWPID,
        _ => 0,
    }
}

/// Nothing of the guard's is kept but what an agent inherits, and no signal but KILL is heard: what comes to the guard
/// is the guard's to answer.
fn prepare(socket: RawFd) -> rustix::io::Result<()> {
    let parent = getppid();
    set_parent_process_death_signal(Some(Signal::KILL))?;
    if parent.is_none() || getppid() != parent {
        return Err(Errno::SRCH);
    }
    block_signals();
    let null = rustix::fs::open("/dev/null", rustix::fs::OFlags::RDWR, rustix::fs::Mode::empty())?;
    rustix::stdio::dup2_stdin(&null)?;
    rustix::stdio::dup2_stdout(&null)?;
    rustix::stdio::dup2_stderr(&null)?;
    drop(null);
    close_own(socket);
    Ok(())
}

fn block_signals() {
    // SAFETY: the set is a plain struct that sigfillset initialises; only the mask of this thread is changed.
    unsafe {
        let mut all: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&raw mut all);
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const all, std::ptr::null_mut());
    }
}

/// Closes what an exec would have closed: the guard's own descriptors, with the locks that they hold. What the caller
/// handed down (a process substitution) is the agent's.
fn close_own(kept: RawFd) {
    let open: Vec<RawFd> = std::fs::read_dir("/proc/self/fd")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect();
    for number in open.into_iter().filter(|number| *number > 2 && *number != kept) {
        // SAFETY: only looked at; a number that is closed by now (the listing's own) answers EBADF.
        let flags = fcntl_getfd(unsafe { std::os::fd::BorrowedFd::borrow_raw(number) });
        if flags.is_ok_and(|flags| flags.contains(FdFlags::CLOEXEC)) {
            // SAFETY: whatever owned it in the guard is never used or dropped in this copy, which leaves by `_exit`.
            drop(unsafe { OwnedFd::from_raw_fd(number) });
        }
    }
}

/// What [`copy`] came to, as the guard reads it.
pub(super) fn pid_of(reply: &[u8]) -> i32 {
    reply.try_into().map_or(-libc::EIO, i32::from_le_bytes)
}

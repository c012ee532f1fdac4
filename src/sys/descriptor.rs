//! Open descriptors: what kind standard input is, and an event descriptor that wakes a poll.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use rustix::fs::{FileType, fstat};
use rustix::io::{Errno, retry_on_intr};

/// What standard input is, as far as capturing it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StdinKind {
    /// A terminal: inherited, not captured.
    Terminal,
    /// A regular file: inherited, captured by reading it beside the agent.
    File,
    /// A pipe or socket: passed through, captured on the way.
    Stream,
    /// `/dev/null`, closed, or another device: inherited, nothing to capture.
    Nothing,
}

/// Looks at descriptor 0.
pub fn stdin_kind() -> StdinKind {
    let stdin = rustix::stdio::stdin();
    if rustix::termios::isatty(stdin) {
        return StdinKind::Terminal;
    }
    match fstat(stdin).map(|stat| FileType::from_raw_mode(stat.st_mode)) {
        Ok(FileType::RegularFile) => StdinKind::File,
        Ok(FileType::Fifo | FileType::Socket) => StdinKind::Stream,
        _ => StdinKind::Nothing,
    }
}

/// A flag that other threads can wait for in a poll; raised once and for all.
#[derive(Debug)]
pub struct Flag(OwnedFd);

impl Flag {
    /// A flag that is not raised.
    pub fn new() -> io::Result<Self> {
        Ok(Self(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?))
    }

    /// Raises it.
    pub fn raise(&self) {
        // The counter cannot overflow by ones in the life of a process.
        let _ = rustix::io::write(&self.0, &1_u64.to_ne_bytes());
    }
}

/// What a wait came back with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ready {
    /// The descriptor is ready (or at its end).
    Descriptor,
    /// The flag was raised, whatever the descriptor is.
    Flag,
}

/// Waits until `descriptor` is ready for `wanted` or the flag is raised.
pub fn wait(descriptor: BorrowedFd<'_>, wanted: PollFlags, flag: &Flag) -> io::Result<Ready> {
    let mut waits =
        [PollFd::from_borrowed_fd(descriptor, wanted), PollFd::from_borrowed_fd(flag.0.as_fd(), PollFlags::IN)];
    retry_on_intr(|| poll(&mut waits, None))?;
    // The flag first: a descriptor that somebody keeps ready for ever must not hide it.
    Ok(if waits[1].revents().is_empty() { Ready::Descriptor } else { Ready::Flag })
}

/// Reads, retrying when interrupted. `Ok(0)`: the end.
pub fn read(descriptor: impl AsFd, buffer: &mut [u8]) -> io::Result<usize> {
    Ok(retry_on_intr(|| rustix::io::read(descriptor.as_fd(), &mut *buffer))?)
}

/// Whether an error says that nobody reads the other end any more.
pub fn is_broken_pipe(error: &io::Error) -> bool {
    error.raw_os_error() == Some(Errno::PIPE.raw_os_error()) || error.raw_os_error() == Some(Errno::IO.raw_os_error())
}

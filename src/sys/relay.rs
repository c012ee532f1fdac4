//! Moving bytes between an agent and the guard's own standard streams: byte-exact, unbuffered, never waiting for a
//! pipe that an orphan holds open.
//!
//! Each stream has a thread with blocking reads and writes: the guard's descriptors may be shared with other
//! processes, so they are never made non-blocking, and a slow reader downstream must not stop the supervision.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use rustix::event::PollFlags;
use rustix::fs::OFlags;
use rustix::io::Errno;

use super::descriptor::{Flag, Ready, is_broken_pipe, read, wait};

/// One read's worth; below 16 KiB a relay loses to `tee`, above 64 KiB nothing is gained.
const CHUNK_BYTES: usize = 64 * 1024;

/// Asked of the kernel for each pipe: fewer switches between the agent and the relay.
const PIPE_BYTES: usize = 1024 * 1024;

/// How a relay ended.
#[derive(Debug)]
pub struct RelayEnd {
    /// Bytes the agent wrote to the stream.
    pub bytes: u64,
    /// Whether somebody still held the stream open when the relay was told to stop.
    pub held_open: bool,
    /// Why the bytes could not be passed on, where they could not (a reader that went away is not an error).
    pub error: Option<io::Error>,
}

/// Where relayed bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Passing {
    /// To the guard's standard output.
    ToStdout,
    /// To the guard's standard error.
    ToStderr,
    /// Nowhere: only to the sink.
    Withheld,
}

/// Relays an agent's output until its end, or until `stop` is raised: then what the agent had written by its death is
/// still in the pipe, and that much is passed on, but nothing that somebody else writes after it. `sink` sees every
/// byte in order; an error of its own ends the relay.
///
/// When the guard's own stream has no reader any more the agent's pipe is closed, so that the agent is told by
/// SIGPIPE as it would have been without the guard.
pub fn relay_output(
    from: OwnedFd,
    passing: Passing,
    stop: &Arc<Flag>,
    mut sink: impl FnMut(&[u8]) -> io::Result<()>,
) -> RelayEnd {
    let _ = rustix::pipe::fcntl_setpipe_size(&from, PIPE_BYTES);
    let mut buffer = vec![0_u8; CHUNK_BYTES];
    let mut end = RelayEnd { bytes: 0, held_open: false, error: None };
    let mut left = None;
    loop {
        if left.is_none() && matches!(wait(from.as_fd(), PollFlags::IN, stop), Ok(Ready::Flag)) {
            left = Some(in_pipe(&from));
        }
        let most = left.map_or(CHUNK_BYTES as u64, |left| left.min(CHUNK_BYTES as u64)) as usize;
        let read = match (most, left) {
            (0, _) => ended_by_writer(&from).map(|ended| if ended { 0 } else { usize::MAX }),
            (most, _) => read(&from, &mut buffer[..most]),
        };
        let count = match read {
            Ok(0) => return end,
            Ok(usize::MAX) => {
                end.held_open = true;
                return end;
            }
            Ok(count) => count,
            Err(error) => {
                end.error = Some(error);
                return end;
            }
        };
        end.bytes += count as u64;
        left = left.map(|left| left - count as u64);
        if let Err(error) = pass_on(passing, &buffer[..count]) {
            end.error = (!is_broken_pipe(&error)).then_some(error);
            return end;
        }
        if let Err(error) = sink(&buffer[..count]) {
            end.error = Some(error);
            return end;
        }
    }
}

/// Bytes that wait in a pipe; all of them are from before this call.
fn in_pipe(pipe: &OwnedFd) -> u64 {
    rustix::io::ioctl_fionread(pipe).unwrap_or(0)
}

/// Whether nobody has the other end of an empty pipe open any more.
fn ended_by_writer(pipe: &OwnedFd) -> io::Result<bool> {
    let mut state = [rustix::event::PollFd::from_borrowed_fd(pipe.as_fd(), PollFlags::IN)];
    let at_once = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
    rustix::io::retry_on_intr(|| rustix::event::poll(&mut state, Some(&at_once)))?;
    Ok(state[0].revents().contains(PollFlags::HUP) && in_pipe(pipe) == 0)
}

pub(super) fn pass_on(passing: Passing, bytes: &[u8]) -> io::Result<()> {
    match passing {
        Passing::ToStdout => write_all(rustix::stdio::stdout(), bytes),
        Passing::ToStderr => write_all(rustix::stdio::stderr(), bytes),
        Passing::Withheld => Ok(()),
    }
}

/// Writes everything, also to a descriptor that somebody else has made non-blocking.
fn write_all(to: std::os::fd::BorrowedFd<'_>, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match rustix::io::write(to, bytes) {
            Ok(count) => bytes = &bytes[count..],
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => {
                let mut ready = [rustix::event::PollFd::from_borrowed_fd(to, PollFlags::OUT)];
                rustix::io::retry_on_intr(|| rustix::event::poll(&mut ready, None))?;
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Passes `before`, and then the guard's standard input, to an agent's pipe until the end of either, or until `stop` is
/// raised. `sink` sees every byte that was passed on. What was taken and not passed on comes back.
pub fn relay_input(
    to: OwnedFd,
    before: Vec<u8>,
    stop: &Arc<Flag>,
    mut sink: impl FnMut(&[u8]),
) -> (Vec<u8>, io::Result<()>) {
    // A pipe that nobody reads must not hold this thread: written only when the poll says there is room.
    if let Err(errno) = rustix::fs::fcntl_setfl(&to, OFlags::NONBLOCK) {
        return (before, Err(errno.into()));
    }
    let mut taken = before;
    loop {
        let mut passed = 0;
        let written = write_while_wanted(&to, &taken, stop, |bytes| {
            passed += bytes.len();
            sink(bytes);
        });
        if !matches!(written, Ok(Wanted::More)) {
            return (taken.split_off(passed), written.map(drop));
        }
        taken.resize(CHUNK_BYTES, 0);
        match read_input(&mut taken, stop) {
            Ok(0) => return (Vec::new(), Ok(())),
            Ok(count) => taken.truncate(count),
            Err(error) => return (Vec::new(), Err(error)),
        }
    }
}

/// Nothing: the end, or told to stop.
fn read_input(buffer: &mut [u8], stop: &Arc<Flag>) -> io::Result<usize> {
    if wait(rustix::stdio::stdin(), PollFlags::IN, stop)? == Ready::Flag {
        return Ok(0);
    }
    read(rustix::stdio::stdin(), buffer)
}

#[derive(PartialEq, Eq)]
enum Wanted {
    More,
    /// The agent has closed its end, or there was a word to stop.
    NoMore,
}

fn write_while_wanted(
    to: &OwnedFd,
    mut rest: &[u8],
    stop: &Arc<Flag>,
    mut passed: impl FnMut(&[u8]),
) -> io::Result<Wanted> {
    while !rest.is_empty() {
        match rustix::io::write(to, rest) {
            Ok(written) => {
                passed(&rest[..written]);
                rest = &rest[written..];
            }
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => {
                if wait(to.as_fd(), PollFlags::OUT, stop)? == Ready::Flag {
                    return Ok(Wanted::NoMore);
                }
            }
            Err(Errno::PIPE) => return Ok(Wanted::NoMore),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(Wanted::More)
}

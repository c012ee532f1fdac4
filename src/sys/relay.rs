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

/// Relays an agent's output until its end, or until `stop` is raised and nothing is left in the pipe. `sink` sees
/// every byte in order.
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
    let mut stopping = false;
    loop {
        if !stopping && matches!(wait(from.as_fd(), PollFlags::IN, stop), Ok(Ready::Flag)) {
            // What was written before the agent's death is in the pipe by now: drain it without waiting.
            stopping = true;
            if let Err(error) = rustix::fs::fcntl_setfl(&from, OFlags::NONBLOCK) {
                end.error = Some(error.into());
                return end;
            }
        }
        let count = match read(&from, &mut buffer) {
            Ok(0) => return end,
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                end.held_open = true;
                return end;
            }
            Err(error) => {
                end.error = Some(error);
                return end;
            }
        };
        end.bytes += count as u64;
        let passed = pass_on(passing, &buffer[..count]).and_then(|()| sink(&buffer[..count]));
        if let Err(error) = passed {
            end.error = (!is_broken_pipe(&error)).then_some(error);
            return end;
        }
    }
}

fn pass_on(passing: Passing, bytes: &[u8]) -> io::Result<()> {
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

/// Passes the guard's standard input to an agent's pipe until the end of either, or until `stop` is raised. `sink`
/// sees every byte that was passed on.
pub fn relay_input(to: OwnedFd, stop: &Arc<Flag>, mut sink: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<u64> {
    let mut buffer = vec![0_u8; CHUNK_BYTES];
    let mut passed = 0;
    // A pipe that nobody reads must not hold this thread: written only when the poll says there is room.
    rustix::fs::fcntl_setfl(&to, OFlags::NONBLOCK)?;
    loop {
        if wait(rustix::stdio::stdin(), PollFlags::IN, stop)? == Ready::Flag {
            return Ok(passed);
        }
        let count = read(rustix::stdio::stdin(), &mut buffer)?;
        let mut rest = &buffer[..count];
        if rest.is_empty() {
            return Ok(passed);
        }
        while !rest.is_empty() {
            match rustix::io::write(&to, rest) {
                Ok(written) => {
                    sink(&rest[..written])?;
                    passed += written as u64;
                    rest = &rest[written..];
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => {
                    if wait(to.as_fd(), PollFlags::OUT, stop)? == Ready::Flag {
                        return Ok(passed);
                    }
                }
                // The agent has closed its end: it wants no more.
                Err(Errno::PIPE) => return Ok(passed),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

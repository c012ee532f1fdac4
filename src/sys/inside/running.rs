//! An agent that runs: what its init process tells, and what can be told to it.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, kill_process, pidfd_open, waitid};
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};

use crate::sys::process::Ended;

use super::plan::{Answer, Order};
use super::wire;

/// A started agent with its init process. Dropping it ends and reaps both, with everything that the agent has started;
/// what is not dead by then dies without being waited for.
#[derive(Debug)]
pub struct Running {
    init: Pid,
    pidfd: OwnedFd,
    socket: UnixStream,
    is_over: bool,
    /// The guard's end of the agent's standard input, if a pipe was asked for.
    pub stdin: Option<OwnedFd>,
    /// The guard's end of its standard output.
    pub stdout: Option<OwnedFd>,
    /// The guard's end of its standard error.
    pub stderr: Option<OwnedFd>,
}

/// What the init process tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// The agent was stopped (Ctrl-Z).
    Stopped,
    /// The agent has ended; what it has started may not have.
    Ended(Ended),
    /// Nothing of the run lives any more; so many processes outlived the agent and were killed.
    Done(u64),
    /// The init process has ended without a word: it was killed, or there is something left that cannot be killed.
    Lost,
}

/// What it tells, as it comes.
#[derive(Debug)]
pub struct Voice(Lines<BufReader<tokio::net::UnixStream>>);

impl Running {
    pub(super) fn of(
        init: Pid,
        socket: UnixStream,
        stdin: Option<OwnedFd>,
        stdout: Option<OwnedFd>,
        stderr: Option<OwnedFd>,
    ) -> io::Result<Self> {
        Ok(Self { pidfd: pidfd_open(init, PidfdFlags::empty())?, init, socket, is_over: false, stdin, stdout, stderr })
    }

    /// What it tells, in an event loop.
    pub fn voice(&self) -> io::Result<Voice> {
        let socket = self.socket.try_clone()?;
        socket.set_nonblocking(true)?;
        Ok(Voice(BufReader::new(tokio::net::UnixStream::from_std(socket)?).lines()))
    }

    /// The init process.
    pub fn init(&self) -> Pid {
        self.init
    }

    /// Asks everything that the agent has started to end (TERM), whatever group or session it is in.
    pub fn terminate(&self) {
        self.tell(&Order::Terminate);
    }

    /// Kills everything.
    pub fn kill(&self) {
        self.tell(&Order::Kill);
    }

    /// Stops the agent's group.
    pub fn stop(&self) {
        self.tell(&Order::Stop);
    }

    /// The agent goes on after a stop, with the terminal if it had it.
    pub fn resume(&self) {
        self.tell(&Order::Resume);
    }

    fn tell(&self, order: &Order) {
        let body = serde_json::to_vec(order).unwrap_or_default();
        // One that has ended needs no orders. An order fits into the socket's buffer many times over.
        let _ = wire::send(&self.socket, &body, &[]);
    }

    /// Nothing lives any more but the init process itself, which is ending: the kernel takes its time with the mounts, and
    /// nobody needs to wait for that.
    pub fn let_go(mut self) {
        let _ = waitid(WaitId::PidFd(self.pidfd.as_fd()), WaitIdOptions::EXITED | WaitIdOptions::NOHANG);
        self.is_over = true;
    }

    /// Waits until the init process has ended and takes its status away. False: it has not in time; whatever lives of
    /// it has been killed as far as the kernel does that.
    pub fn finish(&mut self, patience: Duration) -> bool {
        if !self.has_ended_within(patience) {
            let _ = kill_process(self.init, Signal::KILL);
            if !self.has_ended_within(patience) {
                return false;
            }
        }
        let _ = waitid(WaitId::PidFd(self.pidfd.as_fd()), WaitIdOptions::EXITED);
        self.is_over = true;
        true
    }

    fn has_ended_within(&self, patience: Duration) -> bool {
        let time = Timespec {
            tv_sec: i64::try_from(patience.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(patience.subsec_nanos()),
        };
        let mut waits = [PollFd::new(&self.pidfd, PollFlags::IN)];
        let _ = rustix::io::retry_on_intr(|| poll(&mut waits, Some(&time)));
        !waits[0].revents().is_empty()
    }

    /// Waits until everything has ended; how the agent did.
    pub fn wait_end(mut self) -> io::Result<Ended> {
        use std::io::BufRead as _;
        let mut end = None;
        for line in io::BufReader::new(&self.socket).lines() {
            match told(&line?) {
                Told::Ended(ended) => end = Some(ended),
                Told::Done(_) => break,
                Told::Stopped | Told::Lost => {}
            }
        }
        self.finish(Duration::from_secs(5));
        end.ok_or_else(|| io::ErrorKind::BrokenPipe.into())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.is_over {
            self.kill();
            self.finish(Duration::from_millis(500));
        }
    }
}

impl Voice {
    /// The next thing it tells. Can be dropped while it waits.
    pub async fn next(&mut self) -> Told {
        match self.0.next_line().await {
            Ok(Some(line)) => told(&line),
            Ok(None) | Err(_) => Told::Lost,
        }
    }
}

fn told(line: &str) -> Told {
    match serde_json::from_str(line) {
        Ok(Answer::Stopped) => Told::Stopped,
        Ok(Answer::Ended(code, signal)) => Told::Ended(Ended { code, signal }),
        Ok(Answer::Done { killed }) => Told::Done(killed),
        _ => Told::Lost,
    }
}

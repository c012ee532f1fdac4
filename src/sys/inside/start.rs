//! The guard's side: a child is started early, told its plan when that is known, and handed over as the agent.

use std::ffi::{OsStr, OsString};
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::os::fd::{AsRawFd as _, RawFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::Path;

use rustix::io::{FdFlags, fcntl_setfd};
use rustix::process::Signal;

use crate::sys::process::{self, ChildStdin, ChildStdout, Ended, Launch, Running};
use crate::sys::terminal::Terminal;

use super::child::CHILD;
use super::plan::{Answer, Entered, FailedStep, Order, Step, Then};

/// This program, also where it was replaced or deleted since it was started.
pub const OWN_PROGRAM: &str = "/proc/self/exe";

/// The agent did not start.
#[derive(Debug, thiserror::Error)]
pub enum InsideError {
    /// This program could not be executed again.
    #[error("cannot start agentguard itself again")]
    NotStarted(#[source] io::Error),
    /// A step of the plan failed.
    #[error(transparent)]
    Step(#[from] FailedStep),
    /// The view is there, and the agent cannot be executed in it. `NotFound`: no such command.
    #[error("cannot execute the command")]
    NotExecuted(#[source] io::Error),
    /// The child ended before it became the agent: a signal meant for the agent reached it.
    #[error("it ended before the command was executed: {0:?}")]
    Ended(Ended),
    /// The socket to the child failed.
    #[error("cannot talk to the process that becomes the agent")]
    Talk(#[source] io::Error),
}

/// A child that has not been told its plan yet. Dropping it ends and reaps the child.
#[derive(Debug)]
pub struct Waiting {
    /// `None` once it was handed over.
    child: Option<Running>,
    socket: UnixStream,
}

/// Starts the child with the agent's streams, process group, place at the terminal, environment and argument vector.
/// `program` is this program ([`OWN_PROGRAM`]). The child performs `opening` at once; a failure there is told by
/// [`Waiting::go`].
pub fn start(launch: &Launch<'_>, program: &Path, opening: &[Step]) -> Result<Waiting, InsideError> {
    if launch.argv.is_empty() {
        return Err(InsideError::NotExecuted(io::ErrorKind::InvalidInput.into()));
    }
    let (socket, of_child) = UnixStream::pair().map_err(InsideError::NotStarted)?;
    let number = of_child.as_raw_fd();
    let mut arguments: Vec<OsString> = vec![number.to_string().into()];
    arguments.extend(launch.argv.iter().cloned());
    let mut command = process::command(launch, program.as_os_str(), &arguments).map_err(InsideError::NotStarted)?;
    command.arg0(OsStr::new(CHILD));
    leave_open(&mut command, number);
    let child = command.spawn().map_err(InsideError::NotStarted)?;
    let child = Running::of(child, launch.terminal).map_err(InsideError::NotStarted)?;
    let waiting = Waiting { child: Some(child), socket };
    if !opening.is_empty() {
        waiting.order(opening, Then::Wait);
    }
    Ok(waiting)
}

/// The child keeps one descriptor; everybody else who is started meanwhile does not get it.
fn leave_open(command: &mut std::process::Command, number: RawFd) {
    let keep = move || {
        // SAFETY: the descriptor was inherited by fork and is open until this process executes.
        let socket = unsafe { std::os::fd::BorrowedFd::borrow_raw(number) };
        Ok(fcntl_setfd(socket, FdFlags::empty())?)
    };
    // SAFETY: between fork and exec only fcntl is called, which is async-signal-safe.
    unsafe { command.pre_exec(keep) };
}

impl Waiting {
    /// Tells the child the rest of its plan and waits until it is the agent, which lives in what the plan made.
    pub fn go(mut self, steps: &[Step]) -> Result<(Running, Entered), InsideError> {
        let entered = self.told(steps, Then::Become)?;
        match self.child.take() {
            Some(child) => Ok((child, entered)),
            None => Err(InsideError::Talk(io::ErrorKind::NotConnected.into())),
        }
    }

    /// The same without an agent: the child ends when the last step is done.
    pub fn try_only(self, steps: &[Step]) -> Result<Entered, InsideError> {
        self.told(steps, Then::End)
    }

    /// The process group of the child, as it will be the agent's.
    pub fn group(&self) -> Option<rustix::process::Pid> {
        self.child.as_ref().map(Running::group)
    }

    fn order(&self, steps: &[Step], then: Then) {
        let mut line = serde_json::to_vec(&Order { steps: steps.to_vec(), then }).unwrap_or_default();
        line.push(b'\n');
        // A child that has ended says why in its answer, which is read next.
        let _ = (&mut &self.socket).write_all(&line);
    }

    fn told(&self, steps: &[Step], then: Then) -> Result<Entered, InsideError> {
        self.order(steps, then);
        let mut entered = None;
        for line in BufReader::new(&self.socket).split(b'\n') {
            let line = match line {
                Ok(line) => line,
                // It ended without having read everything.
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => break,
                Err(error) => return Err(InsideError::Talk(error)),
            };
            let answer = serde_json::from_slice(&line).map_err(|error| InsideError::Talk(error.into()))?;
            match answer {
                Answer::Entered(done) => entered = Some(done),
                Answer::Failed(failed) => return Err(failed.into()),
                Answer::NotExecuted(errno) => {
                    return Err(InsideError::NotExecuted(io::Error::from_raw_os_error(errno)));
                }
            }
        }
        entered.ok_or_else(|| self.ended())
    }

    /// Why there is no answer: the child is dead, or dying.
    fn ended(&self) -> InsideError {
        let ended = self.child.as_ref().map(Running::wait_end);
        match ended {
            Some(Ok(ended)) => InsideError::Ended(ended),
            Some(Err(error)) => InsideError::Talk(error),
            None => InsideError::Talk(io::ErrorKind::NotConnected.into()),
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if let Some(child) = &self.child {
            child.signal_group(Signal::KILL);
            child.reap();
        }
    }
}

/// Performs steps in a child that then ends: whether they work here is found out by doing them.
pub fn try_steps(program: &Path, steps: &[Step]) -> Result<Entered, InsideError> {
    let nothing = std::fs::File::options().read(true).write(true).open("/dev/null").map_err(InsideError::NotStarted)?;
    let launch = Launch {
        argv: &[OsString::from("true")],
        cwd: Path::new("/"),
        environment: &[],
        stdin: ChildStdin::Null,
        stdout: ChildStdout::File(nothing),
        terminal: &Terminal::None,
    };
    start(&launch, program, &[])?.try_only(steps)
}

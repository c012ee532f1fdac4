//! The guard's side: an init process is made early, told its plan when that is known, and watched until it has ended.

use std::ffi::OsStr;
use std::io::{self, Read as _};
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;
use std::rc::Rc;

use rustix::fs::{Mode, OFlags};
use rustix::io::{FdFlags, fcntl_setfd};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, getpgrp, kill_process, setpgid, waitid};

use crate::model::Text;
use crate::sys::process::{ChildStdin, ChildStdout, Ended, Launch};
use crate::sys::terminal::Terminal;
use crate::sys::{descendants, host};

use super::namespaces::{PROCESS_IDS, last_errno};
use super::plan::{Agent, Answer, Entered, FailedStep, Order, Step};
use super::running::Running;
use super::zygote::{self, Request};
use super::{ZYGOTE, wire};

/// The agent did not start.
#[derive(Debug, thiserror::Error)]
pub enum InsideError {
    /// No process could be made.
    #[error("cannot start a process")]
    NotStarted(#[source] io::Error),
    /// A step of the plan failed.
    #[error(transparent)]
    Step(#[from] FailedStep),
    /// The view is there, and the agent cannot be executed in it. `NotFound`: no such command.
    #[error("cannot execute the command")]
    NotExecuted(#[source] io::Error),
    /// The init process ended before there was an agent: a signal reached it.
    #[error("it ended before the command was executed: {0:?}")]
    Ended(Ended),
    /// The socket to the init process failed.
    #[error("cannot talk to the process that becomes the agent")]
    Talk(#[source] io::Error),
}

/// What makes init processes. It ends with its last handle; the init processes live on. They are made one after the other:
/// one is told to go, or dropped, before the next is asked for.
#[derive(Clone, Debug)]
pub struct Starter(Rc<Zygote>);

#[derive(Debug)]
struct Zygote {
    pid: Pid,
    /// `None` once it was told that nothing more is wanted.
    socket: Option<UnixStream>,
}

impl Starter {
    /// By a copy of this process, which is the faster way, or where it has threads by executing it once more.
    pub fn new() -> io::Result<Self> {
        let threads = std::fs::read_dir("/proc/self/task")?.count();
        if threads == 1 { Self::forked() } else { Self::executed(Path::new("/proc/self/exe")) }
    }

    /// The process has one thread.
    fn forked() -> io::Result<Self> {
        descendants::adopt_orphans()?;
        let (socket, of_child) = UnixStream::pair()?;
        // SAFETY: this process has one thread, so the copy may do whatever it could have done itself; it never returns.
        match unsafe { libc::fork() } {
            -1 => Err(last_errno().into()),
            0 => {
                drop(socket);
                let _ = zygote::live(&of_child);
                // SAFETY: ends this copy without running anything that belongs to the original.
                unsafe { libc::_exit(0) }
            }
            pid => Ok(Self::of(Pid::from_raw(pid).ok_or(io::ErrorKind::Other)?, socket)),
        }
    }

    /// By executing agentguard (`program`).
    pub fn executed(program: &Path) -> io::Result<Self> {
        descendants::adopt_orphans()?;
        let (socket, of_child) = UnixStream::pair()?;
        let number = of_child.as_raw_fd();
        let mut command = Command::new(program);
        command.arg0(OsStr::new(ZYGOTE)).arg(number.to_string());
        let keep = move || {
            // SAFETY: the descriptor was inherited by fork and is open until this process executes.
            Ok(fcntl_setfd(unsafe { BorrowedFd::borrow_raw(number) }, FdFlags::empty())?)
        };
        // SAFETY: between fork and exec only fcntl is called, which is async-signal-safe.
        unsafe { command.pre_exec(keep) };
        let child = command.spawn()?;
        Ok(Self::of(Pid::from_child(&child), socket))
    }

    fn of(pid: Pid, socket: UnixStream) -> Self {
        // From both sides: what is looked at next is who shares this process's group. It fails once the other has done it
        // and executed something.
        let _ = setpgid(Some(pid), Some(pid));
        Self(Rc::new(Zygote { pid, socket: Some(socket) }))
    }

    /// Its process number.
    pub fn pid(&self) -> Pid {
        self.0.pid
    }

    /// Has an init process made, which performs `opening` at once; what comes of it is told by [`Waiting::go`].
    pub fn start(&self, opening: &[Step]) -> Result<Waiting, InsideError> {
        let (socket, of_init) = UnixStream::pair().map_err(InsideError::NotStarted)?;
        let request = Request { opening: opening.to_vec() };
        let body = serde_json::to_vec(&request).map_err(|error| InsideError::Talk(error.into()))?;
        wire::send(self.socket()?, &body, &[of_init.as_fd()]).map_err(InsideError::NotStarted)?;
        Ok(Waiting { starter: self.clone(), opening: opening.to_vec(), socket, init: Init::Asked })
    }

    /// Performs steps in a process that then ends: whether they work here is found out by doing them.
    pub fn try_steps(&self, steps: &[Step]) -> Result<Entered, InsideError> {
        self.start(steps)?.try_only()
    }

    fn socket(&self) -> Result<&UnixStream, InsideError> {
        self.0.socket.as_ref().ok_or_else(|| InsideError::Talk(io::ErrorKind::NotConnected.into()))
    }

    /// The reply to the oldest request that was not replied to.
    fn reply(&self) -> Result<Pid, InsideError> {
        let reply = wire::receive(self.socket()?).map(|(body, _)| zygote::pid_of(&body)).unwrap_or(-libc::EPIPE);
        match (reply > 0).then(|| Pid::from_raw(reply)).flatten() {
            Some(pid) => Ok(pid),
            None => Err(InsideError::NotStarted(io::Error::from_raw_os_error(-reply))),
        }
    }
}

impl Drop for Zygote {
    fn drop(&mut self) {
        drop(self.socket.take());
        let _ = kill_process(self.pid, Signal::KILL);
        reap(self.pid);
    }
}

fn reap(pid: Pid) {
    let _ = rustix::io::retry_on_intr(|| waitid(WaitId::Pid(pid), WaitIdOptions::EXITED));
}

/// An init process that has not been told its plan yet. Dropping it ends and reaps the process.
#[derive(Debug)]
pub struct Waiting {
    starter: Starter,
    opening: Vec<Step>,
    socket: UnixStream,
    init: Init,
}

/// What is known of the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Init {
    /// It was asked for.
    Asked,
    /// This is it.
    Made(Pid),
    /// There is none, or it was handed over.
    Gone,
}

impl Waiting {
    /// What it was told to do first.
    pub fn opening(&self) -> &[Step] {
        &self.opening
    }

    /// Tells it the rest of its plan and waits until there is the agent, which lives in what the plan made. Where the agent
    /// cannot have process ids of its own, it goes without.
    pub fn go(mut self, launch: &Launch<'_>, steps: &[Step]) -> Result<(Running, Entered), InsideError> {
        if launch.argv.is_empty() {
            return Err(InsideError::NotExecuted(io::ErrorKind::InvalidInput.into()));
        }
        match self.go_once(launch, steps) {
            Err(error) if self.opening.contains(&Step::PidNamespace) && is_about_pids(&error) => {
                let without: Vec<Step> =
                    self.opening.iter().filter(|step| **step != Step::PidNamespace).cloned().collect();
                let mut again = self.starter.start(&without)?;
                again.go_once(launch, steps)
            }
            gone => gone,
        }
    }

    fn go_once(&mut self, launch: &Launch<'_>, steps: &[Step]) -> Result<(Running, Entered), InsideError> {
        let pid = self.pid()?;
        let Ends { given, verdict, stdin, stdout, stderr } = Ends::of(launch).map_err(InsideError::NotStarted)?;
        let leads = !matches!(launch.terminal, Terminal::Shared);
        if !leads {
            // The agent has the group of what starts it.
            setpgid(Some(pid), Some(getpgrp())).map_err(|errno| InsideError::NotStarted(errno.into()))?;
        }
        let agent = Agent {
            steps: steps.to_vec(),
            argv: launch.argv.iter().map(|argument| Text::from(argument.as_os_str())).collect(),
            cwd: launch.cwd.into(),
            environment: launch
                .environment
                .iter()
                .map(|(name, value)| (name.as_os_str().into(), value.as_deref().map(Text::from)))
                .collect(),
            umask: host::callers_umask().map(Mode::as_raw_mode),
            leads,
            foreground: launch.terminal.given().is_some() && !matches!(launch.stdout, ChildStdout::Terminal(_)),
            controls: matches!(launch.stdout, ChildStdout::Terminal(_)),
            limits: launch.limits,
        };
        let descriptors: Vec<BorrowedFd<'_>> = given.iter().map(|end| end.as_fd()).collect();
        self.order(&Order::Become(Box::new(agent)), &descriptors);
        drop(descriptors);
        drop(given);
        let entered = self.entered()?;
        // Its end: the agent was executed.
        let mut reason = Vec::new();
        std::fs::File::from(verdict).read_to_end(&mut reason).map_err(InsideError::Talk)?;
        if let Ok(errno) = <[u8; 4]>::try_from(&*reason) {
            return Err(InsideError::NotExecuted(io::Error::from_raw_os_error(i32::from_le_bytes(errno))));
        }
        let socket = self.socket.try_clone().map_err(InsideError::Talk)?;
        self.init = Init::Gone;
        Ok((Running::of(pid, socket, stdin, stdout, stderr).map_err(InsideError::Talk)?, entered))
    }

    fn try_only(mut self) -> Result<Entered, InsideError> {
        self.pid()?;
        self.order(&Order::Try, &[]);
        self.entered()
    }

    /// The init process.
    pub fn pid(&mut self) -> Result<Pid, InsideError> {
        if self.init == Init::Asked {
            self.init = Init::Gone;
            self.init = Init::Made(self.starter.reply()?);
        }
        match self.init {
            Init::Made(pid) => Ok(pid),
            Init::Asked | Init::Gone => Err(InsideError::Talk(io::ErrorKind::NotConnected.into())),
        }
    }

    fn order(&self, order: &Order, descriptors: &[BorrowedFd<'_>]) {
        let body = serde_json::to_vec(order).unwrap_or_default();
        // A process that has ended says why in its answer, which is read next.
        let _ = wire::send(&self.socket, &body, descriptors);
    }

    fn entered(&self) -> Result<Entered, InsideError> {
        // Only the one line: what follows is said to whoever has the process then.
        let line = match wire::receive_line(&self.socket) {
            Ok(line) if !line.is_empty() => line,
            Err(error) if error.kind() != io::ErrorKind::ConnectionReset => return Err(InsideError::Talk(error)),
            // It ended without having read everything, or said anything.
            _ => return Err(self.ended()),
        };
        match serde_json::from_slice(&line).map_err(|error| InsideError::Talk(error.into()))? {
            Answer::Entered(entered) => Ok(entered),
            Answer::Failed(failed) => Err(failed.into()),
            Answer::NotStarted(errno) => Err(InsideError::NotExecuted(io::Error::from_raw_os_error(errno))),
            Answer::Ended(code, signal) => Err(InsideError::Ended(Ended { code, signal })),
            Answer::Stopped | Answer::Done { .. } => Err(self.ended()),
        }
    }

    /// Why there is no answer: the process is dead, or dying.
    fn ended(&self) -> InsideError {
        let Init::Made(pid) = self.init else { return InsideError::Talk(io::ErrorKind::NotConnected.into()) };
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        match rustix::io::retry_on_intr(|| waitid(WaitId::Pid(pid), options)) {
            Ok(Some(status)) => {
                InsideError::Ended(Ended { code: status.exit_status(), signal: status.terminating_signal() })
            }
            Ok(None) => InsideError::Talk(io::ErrorKind::NotConnected.into()),
            Err(errno) => InsideError::Talk(errno.into()),
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if let Ok(pid) = self.pid() {
            let _ = kill_process(pid, Signal::KILL);
            reap(pid);
        }
    }
}

/// Whether a process without process ids of its own may get further.
fn is_about_pids(error: &InsideError) -> bool {
    match error {
        InsideError::NotStarted(_) => true,
        InsideError::Step(failed) => failed.step == PROCESS_IDS,
        _ => false,
    }
}

/// The ends of the agent's streams.
struct Ends {
    /// What the agent gets: its three streams, and where it tells why it cannot be executed.
    given: [OwnedFd; 4],
    verdict: OwnedFd,
    stdin: Option<OwnedFd>,
    stdout: Option<OwnedFd>,
    stderr: Option<OwnedFd>,
}

impl Ends {
    fn of(launch: &Launch<'_>) -> io::Result<Self> {
        let pipe = || pipe_with(PipeFlags::CLOEXEC);
        let null = || rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty());
        let (input, stdin) = match &launch.stdin {
            // Closed is as good as nothing.
            ChildStdin::Inherit => (rustix::io::dup(rustix::stdio::stdin()).or_else(|_| null())?, None),
            ChildStdin::Null => (null()?, None),
            ChildStdin::Pipe => pipe().map(|(reader, writer)| (reader, Some(writer)))?,
            ChildStdin::File(file) => (file.try_clone()?.into(), None),
        };
        let (output, errors, stdout, stderr) = match &launch.stdout {
            ChildStdout::Pipes => {
                let ((stdout, output), (stderr, errors)) = (pipe()?, pipe()?);
                (output, errors, Some(stdout), Some(stderr))
            }
            ChildStdout::File(file) => (file.try_clone()?.into(), file.try_clone()?.into(), None, None),
            ChildStdout::Terminal(end) => (end.try_clone()?, end.try_clone()?, None, None),
        };
        let input = match &launch.stdout {
            ChildStdout::Terminal(end) => end.try_clone()?,
            ChildStdout::Pipes | ChildStdout::File(_) => input,
        };
        let (verdict, tell) = pipe()?;
        Ok(Self { given: [input, output, errors, tell], verdict, stdin, stdout, stderr })
    }
}

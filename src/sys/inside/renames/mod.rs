//! Renames of directories that an overlay refuses.
//!
//! An overlay that an ordinary user may mount answers EXDEV to the rename of a directory that exists in a lower layer
//! (it would need a redirect, which user namespaces are not trusted with), and `git mv`, `os.rename` and many other
//! programs take that for a failure. So a seccomp filter hands every rename of the agent and its children to a process
//! beside it, which lets the kernel go on with all but those of directories on an overlay; these it performs itself, and
//! where the kernel says EXDEV it moves what is in the directory.
//!
//! What remains different: a moved directory is a new one (another inode; who had the old one open or as working
//! directory holds a deleted one), and between the beginning and the end of a move others see a part of it. A process that
//! installs a listener of its own (rootless container tools do) is refused it, since a process can have one only.

mod caller;
mod filter;
mod helper;
mod moving;
mod notification;

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, OwnedFd};

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};
use rustix::process::{Pid, PidfdFlags, WaitOptions, getpid, getppid, pidfd_open, setsid, waitpid};

use super::namespaces::last_errno;
use super::plan::{FailedStep, RenameService};

/// The process that serves renames, before there is anybody who could ask.
#[derive(Debug)]
pub(super) struct Helper {
    pid: Pid,
    socket: OwnedFd,
}

impl Helper {
    /// Starts it as a child of this process, with which it ends. `None`: it would understand nothing on this architecture.
    ///
    /// Must be called by a process without threads.
    pub(super) fn start() -> Result<Option<Self>, FailedStep> {
        if !filter::IS_KNOWN_HERE {
            return Ok(None);
        }
        let failed = FailedStep::plain;
        let (ours, theirs) = sockets()?;
        let guard = pidfd_open(getpid(), PidfdFlags::empty()).map_err(failed("renames: the guard"))?;
        // SAFETY: this process has one thread, so the child may do whatever it could have done itself.
        match unsafe { libc::fork() } {
            0 => {
                drop(ours);
                be_helper(&theirs, &guard)
            }
            pid => match (pid > 0).then(|| Pid::from_raw(pid)).flatten() {
                Some(pid) => Ok(Some(Self { pid, socket: ours })),
                None => Err(failed("renames: a process")(last_errno())),
            },
        }
    }

    /// Installs the filter in this process, which then asks the helper. Where a listener is there already, this is the view
    /// of an agentguard in another's view: that one serves its renames too.
    pub(super) fn serve(&self) -> Result<RenameService, FailedStep> {
        install(&self.socket)
    }

    /// From here on it lives as long as those who may ask. Its process number.
    pub(super) fn let_go(self) -> i32 {
        self.pid.as_raw_nonzero().get()
    }
}

/// The same in one: a process is started beside this one.
pub(super) fn serve() -> Result<RenameService, FailedStep> {
    if !filter::IS_KNOWN_HERE {
        return Ok(RenameService::None);
    }
    let failed = FailedStep::plain;
    let guard = guard().map_err(failed("renames: the guard"))?;
    let (ours, theirs) = sockets()?;
    let ours = start_beside(ours, theirs, &guard).map_err(failed("renames: a process"))?;
    install(&ours)
}

fn sockets() -> Result<(OwnedFd, OwnedFd), FailedStep> {
    socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)
        .map_err(FailedStep::plain("renames: a socket"))
}

fn install(socket: &OwnedFd) -> Result<RenameService, FailedStep> {
    let failed = FailedStep::plain;
    match filter::install() {
        Ok(listener) => {
            send(socket, &listener).map_err(failed("renames: the listener"))?;
            Ok(RenameService::Own)
        }
        // The process ends with the socket.
        Err(Errno::BUSY) => Ok(RenameService::Outer),
        Err(errno) => Err(failed("renames: seccomp user notification")(errno)),
    }
}

/// The process that started this one, which watches over the agent; when it is gone, so is the run.
fn guard() -> rustix::io::Result<OwnedFd> {
    let guard: Pid = getppid().ok_or(Errno::SRCH)?;
    let pidfd = pidfd_open(guard, PidfdFlags::empty())?;
    // Had it died before, its number could be somebody else's by now; then the parent would be another.
    if getppid() == Some(guard) { Ok(pidfd) } else { Err(Errno::SRCH) }
}

fn be_helper(socket: &OwnedFd, guard: &OwnedFd) -> ! {
    // Out of the agent's session: what a terminal sends is not for it.
    let _ = setsid();
    let end = helper::run(socket, guard);
    // SAFETY: ends this copy of the process without running anything that belongs to the original.
    unsafe { libc::_exit(end) }
}

/// Forks twice: the agent has no child that it did not start. Each side keeps its own end of the socket only, or the end
/// of the one would not be seen by the other.
fn start_beside(ours: OwnedFd, theirs: OwnedFd, guard: &OwnedFd) -> rustix::io::Result<OwnedFd> {
    // SAFETY: this process has one thread, so the child may do whatever it could have done itself.
    match unsafe { libc::fork() } {
        -1 => Err(last_errno()),
        0 => {
            drop(ours);
            // SAFETY: as above.
            let end = match unsafe { libc::fork() } {
                0 => be_helper(&theirs, guard),
                -1 => 1,
                _ => 0,
            };
            // SAFETY: ends this copy of the process without running anything that belongs to the original.
            unsafe { libc::_exit(end) }
        }
        middle => {
            let ended = rustix::io::retry_on_intr(|| waitpid(Pid::from_raw(middle), WaitOptions::empty()))?;
            if ended.and_then(|(_, status)| status.exit_status()) == Some(0) { Ok(ours) } else { Err(Errno::AGAIN) }
        }
    }
}

fn send(socket: &OwnedFd, listener: &OwnedFd) -> rustix::io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let descriptors = [listener.as_fd()];
    control.push(SendAncillaryMessage::ScmRights(&descriptors));
    sendmsg(socket, &[IoSlice::new(b"l")], &mut control, SendFlags::NOSIGNAL).map(drop)
}

/// `None`: there will be no listener.
fn receive(socket: &OwnedFd) -> Option<OwnedFd> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    rustix::io::retry_on_intr(|| {
        recvmsg(socket, &mut [IoSliceMut::new(&mut byte)], &mut control, RecvFlags::CMSG_CLOEXEC)
    })
    .ok()?;
    control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    })
}

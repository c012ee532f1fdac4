//! The listener of a seccomp filter: what callers ask, and what they are answered (seccomp_unotify(2)).

use std::os::fd::{AsRawFd as _, OwnedFd};

use rustix::io::Errno;

/// A system call that waits for an answer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Question {
    /// Names the question while the caller waits.
    id: u64,
    /// The calling thread.
    pub(super) thread: u32,
    /// The number of the call.
    pub(super) number: i64,
    /// Its arguments.
    pub(super) arguments: [u64; 6],
}

/// What a caller is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The kernel carries the call out as if nobody had asked.
    GoOn,
    /// It has been carried out.
    Done,
    /// It has failed.
    Failed(Errno),
}

/// Answers wake the caller on the processor that gave them, which is what both are waiting for (since Linux 6.6).
pub(super) fn prefer_this_processor(listener: &OwnedFd) {
    const SYNC_WAKE_UP: u64 = 1;
    // SAFETY: the request takes a number, no pointer. Without it everything works, a little slower.
    let _ = unsafe { libc::ioctl(listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_SET_FLAGS as _, SYNC_WAKE_UP) };
}

/// The next question; `None` where the caller was gone before it could be read.
pub(super) fn next(listener: &OwnedFd) -> Option<Question> {
    // SAFETY: the structure is plain data and must be zero for the kernel to fill it.
    let mut raw: libc::seccomp_notif = unsafe { std::mem::zeroed() };
    // SAFETY: the request fills the structure it is given.
    let done = unsafe { libc::ioctl(listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_RECV as _, &raw mut raw) };
    (done == 0).then_some(Question {
        id: raw.id,
        thread: raw.pid,
        number: raw.data.nr.into(),
        arguments: raw.data.args,
    })
}

impl Question {
    /// Whether the caller still waits: only then is its memory, and what its number names, its own.
    pub(super) fn is_waiting(&self, listener: &OwnedFd) -> bool {
        let id = self.id;
        // SAFETY: the request reads one number.
        let done = unsafe { libc::ioctl(listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_ID_VALID as _, &raw const id) };
        done == 0
    }

    /// Answers. A caller that was killed meanwhile hears nothing.
    pub(super) fn answer(&self, listener: &OwnedFd, verdict: Verdict) {
        let mut raw = libc::seccomp_notif_resp { id: self.id, val: 0, error: 0, flags: 0 };
        match verdict {
            Verdict::GoOn => raw.flags = libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE as u32,
            Verdict::Done => {}
            Verdict::Failed(errno) => raw.error = -errno.raw_os_error(),
        }
        // SAFETY: the request reads the structure.
        let _ = unsafe { libc::ioctl(listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_SEND as _, &raw const raw) };
    }
}

//! The process that serves renames. It lives as long as a process that may ask, and no longer than the guard.

use std::cell::OnceCell;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::sync::Arc;
use std::sync::mpsc::{SendError, Sender, channel};
use std::thread::JoinHandle;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{FileType, Mode, RenameFlags, renameat_with};
use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, geteuid, getrlimit, setrlimit, umask};
use rustix::thread::{CapabilitySet, capabilities, remove_capability_from_bounding_set, set_name};

use super::super::capabilities::{keep, make_effective};
use super::caller::{Caller, Place, Standpoint, share_an_overlay};
use super::moving;
use super::notification::{Question, Verdict, next, prefer_this_processor};

/// What it takes to read a caller's paths and to see from its root.
const TO_LOOK: CapabilitySet = CapabilitySet::SYS_PTRACE.union(CapabilitySet::SYS_CHROOT);

/// What it takes to move what is in directories that their owner has closed, as the kernel's own rename would.
const TO_MOVE: CapabilitySet = TO_LOOK
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::DAC_READ_SEARCH)
    .union(CapabilitySet::FOWNER)
    .union(CapabilitySet::FSETID)
    .union(CapabilitySet::CHOWN);

/// A frame for each level of a tree that is moved; as much as a main thread usually has. Untouched pages cost nothing.
const MOVER_STACK_BYTES: usize = 8 << 20;

/// Lives the life of the helper; the value is what to exit with.
pub(super) fn run(socket: &OwnedFd, guard: &OwnedFd) -> i32 {
    let Some(listener) = super::receive(socket).map(Arc::new) else { return 0 };
    match prepare(&listener, guard) {
        Ok(standpoint) => {
            prefer_this_processor(&listener);
            attend(&listener, guard, &standpoint);
            0
        }
        Err(_) => 1,
    }
}

/// Lets go of everything that was inherited: a pipe held open here would be waited for by its reader.
fn prepare(listener: &OwnedFd, guard: &OwnedFd) -> rustix::io::Result<Standpoint> {
    close_all_but([listener.as_raw_fd(), guard.as_raw_fd()])?;
    let _ = set_name(c"agentguard-mv");
    umask(Mode::empty());
    let standpoint = Standpoint::here()?;
    std::env::set_current_dir("/").map_err(|_| Errno::NOENT)?;
    // Two descriptors are held for every level of a tree that is moved.
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    // As root it keeps everything but what the agent must not find a way to.
    let kept = if geteuid().is_root() { !CapabilitySet::SYS_ADMIN } else { TO_MOVE };
    let _ = remove_capability_from_bounding_set(CapabilitySet::SYS_ADMIN);
    keep(capabilities(None)?, kept)?;
    look_only()?;
    Ok(standpoint)
}

/// Leaves the standard streams open to nothing, so that no file opened later is taken for one of them.
fn close_all_but(mut kept: [i32; 2]) -> rustix::io::Result<()> {
    kept.sort_unstable();
    let null = rustix::fs::open("/dev/null", rustix::fs::OFlags::RDWR, Mode::empty())?;
    rustix::stdio::dup2_stdin(&null)?;
    rustix::stdio::dup2_stdout(&null)?;
    rustix::stdio::dup2_stderr(&null)?;
    let [first, second] = kept.map(i32::unsigned_abs);
    std::mem::forget(null);
    for (from, to) in [(3, first - 1), (first + 1, second - 1), (second + 1, u32::MAX)] {
        if from <= to {
            // SAFETY: nothing that this process still uses has a descriptor in the range.
            unsafe { libc::syscall(libc::SYS_close_range, from, to, 0) };
        }
    }
    Ok(())
}

fn attend(listener: &Arc<OwnedFd>, guard: &OwnedFd, standpoint: &Standpoint) {
    let mover = Mover::new(listener);
    loop {
        let mut waits = [PollFd::new(listener, PollFlags::IN), PollFd::new(guard, PollFlags::IN)];
        match poll(&mut waits, None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(_) => return,
        }
        if !waits[1].revents().is_empty() {
            return;
        }
        let heard = waits[0].revents();
        if heard.contains(PollFlags::IN) {
            if let Some(question) = next(listener) {
                serve(question, listener, standpoint, &mover);
            }
        } else if !heard.is_empty() {
            // Nobody is left who could ask.
            return mover.finish();
        }
    }
}

/// The kernel goes on with whatever is not understood here: it knows best what is wrong with it. Otherwise the kernel's
/// own rename is tried first, with the rights that the caller has: all that it checks it checks before an overlay says
/// EXDEV.
fn serve(question: Question, listener: &OwnedFd, standpoint: &Standpoint, mover: &Mover) {
    let verdict = match places(&question, standpoint) {
        // Only now: what was read is the caller's if it still waits.
        Ok(Some(asked)) if question.is_waiting(listener) => {
            match renameat_with(&asked.old.parent, &*asked.old.name, &asked.new.parent, &*asked.new.name, asked.flags) {
                Ok(()) => Verdict::Done,
                Err(Errno::XDEV) => return mover.take(question, asked),
                Err(errno) => Verdict::Failed(errno),
            }
        }
        _ => Verdict::GoOn,
    };
    question.answer(listener, verdict);
}

/// The thread that moves, one directory after the other. Questions are heard meanwhile: a caller that has not been heard
/// yet can be interrupted by any signal, and its rename would fail with EINTR, which no filesystem does.
struct Mover {
    listener: Arc<OwnedFd>,
    #[expect(clippy::type_complexity, reason = "a channel and the thread behind it, named nowhere else")]
    thread: OnceCell<(Sender<(Question, Renaming)>, Option<JoinHandle<()>>)>,
}

impl Mover {
    fn new(listener: &Arc<OwnedFd>) -> Self {
        Self { listener: Arc::clone(listener), thread: OnceCell::new() }
    }

    fn take(&self, question: Question, renaming: Renaming) {
        let (orders, _) = self.thread.get_or_init(|| start_mover(&self.listener));
        if let Err(SendError((question, _))) = orders.send((question, renaming)) {
            // There is no thread: the answer is the kernel's own.
            question.answer(&self.listener, Verdict::Failed(Errno::XDEV));
        }
    }

    /// Who asked may be gone, and half a directory is no result.
    fn finish(self) {
        let Some((orders, thread)) = self.thread.into_inner() else { return };
        drop(orders);
        if let Some(thread) = thread {
            let _ = thread.join();
        }
    }
}

/// Capabilities belong to a thread: this one has what it takes, the other never.
fn start_mover(listener: &Arc<OwnedFd>) -> (Sender<(Question, Renaming)>, Option<JoinHandle<()>>) {
    let (orders, taken) = channel::<(Question, Renaming)>();
    let listener = Arc::clone(listener);
    let started = std::thread::Builder::new().stack_size(MOVER_STACK_BYTES).spawn(move || {
        if !geteuid().is_root() {
            // Without: what its owner has closed cannot be moved, and is taken back.
            let _ = make_effective(TO_MOVE);
        }
        for (question, renaming) in taken {
            let moved = moving::rename(&renaming.old, &renaming.new, renaming.flags);
            question.answer(&listener, moved.map_or_else(Verdict::Failed, |()| Verdict::Done));
        }
    });
    // Without the thread the receiver is gone, and every order comes back.
    (orders, started.ok())
}

/// A rename that is not the kernel's to do.
struct Renaming {
    old: Place,
    new: Place,
    flags: RenameFlags,
}

/// A rename as a caller asked for it.
struct Asked {
    old: (i32, u64),
    new: (i32, u64),
    flags: u32,
}

impl Asked {
    fn of(question: &Question) -> Self {
        let [first, second, third, fourth, fifth, _] = question.arguments;
        // Descriptors and flags are the low halves of their registers.
        let fd = |register: u64| register as u32 as i32;
        #[cfg(target_arch = "x86_64")]
        if question.number == libc::SYS_rename {
            return Self { old: (libc::AT_FDCWD, first), new: (libc::AT_FDCWD, second), flags: 0 };
        }
        let flags = if question.number == libc::SYS_renameat2 { fifth as u32 } else { 0 };
        Self { old: (fd(first), second), new: (fd(third), fourth), flags }
    }
}

/// What is to be renamed, if it is ours to do.
fn places(question: &Question, standpoint: &Standpoint) -> rustix::io::Result<Option<Renaming>> {
    let asked = Asked::of(question);
    let flags = RenameFlags::from_bits_retain(asked.flags);
    let known = RenameFlags::NOREPLACE | RenameFlags::EXCHANGE;
    if !known.contains(flags) {
        return Ok(None);
    }
    let caller = Caller::of(standpoint, question.thread)?;
    let Some(old_path) = caller.text_at(asked.old.1) else { return Ok(None) };
    let old_is_directory = caller.kind(asked.old.0, &old_path)? == FileType::Directory;
    if !old_is_directory && !flags.contains(RenameFlags::EXCHANGE) {
        return Ok(None);
    }
    let Some(new_path) = caller.text_at(asked.new.1) else { return Ok(None) };
    if !old_is_directory && caller.kind(asked.new.0, &new_path)? != FileType::Directory {
        return Ok(None);
    }
    let old = caller.place(asked.old.0, &old_path)?;
    let new = caller.place(asked.new.0, &new_path)?;
    let is_ours = share_an_overlay(&old, &new)?
        // The kernel knows what is mounted where the caller lives, and says EBUSY.
        && !old.is_mount_point()?
        && !new.is_mount_point()?
        // Who has taken another identity is not to get this one's rights.
        && standpoint.user_of(question.thread) == Some(geteuid().as_raw());
    Ok(is_ours.then_some(Renaming { old, new, flags }))
}

fn look_only() -> rustix::io::Result<()> {
    if geteuid().is_root() { Ok(()) } else { make_effective(TO_LOOK) }
}

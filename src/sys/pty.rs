//! Pseudoterminals: one for an agent whose output is kept while it believes to be on a terminal, and the caller's own
//! terminal in raw mode meanwhile, so that every key reaches the agent's terminal, which makes signals of some.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags, open};
use rustix::io::{Errno, retry_on_intr};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{
    LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcgetwinsize, tcsetattr, tcsetwinsize,
};

use super::descriptor::{Flag, Ready, read, wait};
use super::relay::{Passing, RelayEnd, pass_on};

/// Keys that are passed on at once: the line discipline takes no more than 4 KiB of a line.
const KEYS_BYTES: usize = 1024;

/// One read's worth.
const CHUNK_BYTES: usize = 64 * 1024;

/// What is still on its way when every writer is dead comes within this.
const LAST_WORDS: Timespec = Timespec { tv_sec: 2, tv_nsec: 0 };

/// A pair of ends.
#[derive(Debug)]
pub struct Pty {
    /// What the guard reads and writes.
    pub ours: OwnedFd,
    /// What the agent has.
    pub theirs: OwnedFd,
}

impl Pty {
    /// A new one, as large as the caller's terminal, if there is one.
    pub fn open() -> io::Result<Self> {
        let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
        grantpt(&ours)?;
        unlockpt(&ours)?;
        let name = ptsname(&ours, Vec::new())?;
        let theirs = open(name.as_c_str(), OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty())?;
        resize(&ours);
        Ok(Self { ours, theirs })
    }
}

/// Makes a pseudoterminal as large as the caller's terminal; the agent is told by SIGWINCH if that is a change.
pub fn resize(ours: &OwnedFd) {
    // Without a terminal, or one without a size, it stays what it is.
    if let Some(size) = own_terminal().and_then(|terminal| tcgetwinsize(&terminal).ok()) {
        let _ = tcsetwinsize(ours, size);
    }
}

fn own_terminal() -> Option<File> {
    File::options().read(true).write(true).open("/dev/tty").ok()
}

/// The caller's terminal in raw mode; it is put back on every way out.
#[derive(Debug)]
pub struct RawTerminal {
    terminal: File,
    before: Termios,
}

impl RawTerminal {
    /// `None` where there is no terminal.
    pub fn make() -> Option<Self> {
        let terminal = own_terminal()?;
        let before = tcgetattr(&terminal).ok()?;
        let raw = Self { terminal, before };
        raw.make_raw();
        Some(raw)
    }

    /// Every key as it is.
    pub fn make_raw(&self) {
        let mut raw = self.before.clone();
        raw.make_raw();
        // The terminal may be gone: then there is nothing to set.
        let _ = tcsetattr(&self.terminal, OptionalActions::Drain, &raw);
    }

    /// As it was.
    pub fn restore(&self) {
        let _ = tcsetattr(&self.terminal, OptionalActions::Drain, &self.before);
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        self.restore();
    }
}

/// Passes on what an agent writes to its terminal, until nobody has it open any more; `stop` tells that everybody who had
/// is dead. `sink` sees every byte; an error of its own ends it.
pub fn relay_terminal(
    from: &OwnedFd,
    passing: Passing,
    stop: &Arc<Flag>,
    mut sink: impl FnMut(&[u8]) -> io::Result<()>,
) -> RelayEnd {
    let mut buffer = vec![0_u8; CHUNK_BYTES];
    let mut end = RelayEnd { bytes: 0, held_open: false, error: None };
    // Also for who types: that waits until there is room.
    if let Err(errno) = rustix::fs::fcntl_setfl(from, OFlags::RDWR | OFlags::NONBLOCK) {
        end.error = Some(errno.into());
        return end;
    }
    loop {
        if matches!(wait(from.as_fd(), PollFlags::IN, stop), Ok(Ready::Flag)) {
            let mut last = [PollFd::new(from, PollFlags::IN)];
            if retry_on_intr(|| poll(&mut last, Some(&LAST_WORDS))) == Ok(0) {
                end.held_open = true;
                return end;
            }
        }
        let (count, is_over) = match read_all(from, &mut buffer) {
            Ok(read) => read,
            Err(error) => {
                end.error = Some(error);
                return end;
            }
        };
        end.bytes += count as u64;
        let done = pass_on(passing, &buffer[..count]).and_then(|()| sink(&buffer[..count]));
        if let Err(error) = done {
            end.error = (!super::descriptor::is_broken_pipe(&error)).then_some(error);
            return end;
        }
        if is_over {
            return end;
        }
    }
}

/// What is there now, up to the buffer's size: the kernel gives a page at a time. Whether nobody has the other end any more.
fn read_all(from: &OwnedFd, buffer: &mut [u8]) -> io::Result<(usize, bool)> {
    let mut count = 0;
    while count < buffer.len() {
        match rustix::io::read(from, &mut buffer[count..]) {
            Ok(0) | Err(Errno::IO) => return Ok((count, true)),
            Ok(more) => count += more,
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => break,
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok((count, false))
}

/// Types what comes from `from` on an agent's terminal, and at its end what stands for the end of input there, until
/// `stop`. `suspend` is called instead of typing the key that stops programs, while the terminal makes a signal of it: the
/// agent leads its session, where that signal would be lost. `sink` sees every byte that was typed.
pub fn type_input(
    to: &OwnedFd,
    from: &impl AsFd,
    stop: &Arc<Flag>,
    suspend: impl Fn(),
    mut sink: impl FnMut(&[u8]),
) -> io::Result<()> {
    let is_typed = rustix::termios::isatty(from);
    let mut buffer = [0_u8; KEYS_BYTES];
    loop {
        if wait(from.as_fd(), PollFlags::IN, stop)? == Ready::Flag {
            return Ok(());
        }
        let count = match read(from, &mut buffer) {
            // The caller's terminal is gone.
            Err(error) if error.raw_os_error() == Some(libc::EIO) => 0,
            read => read?,
        };
        if count == 0 {
            let eof = tcgetattr(to).map_or(4, |modes| modes.special_codes[SpecialCodeIndex::VEOF]);
            return type_keys(to, &[eof], stop);
        }
        let stopping = if is_typed { stopping_key(to) } else { None };
        for keys in buffer[..count].split_inclusive(|key| Some(*key) == stopping) {
            match keys.split_last() {
                Some((last, before)) if Some(*last) == stopping => {
                    type_keys(to, before, stop)?;
                    sink(before);
                    suspend();
                }
                _ => {
                    type_keys(to, keys, stop)?;
                    sink(keys);
                }
            }
        }
    }
}

/// The key that stops programs, where the terminal is in a mode to heed it.
fn stopping_key(terminal: &OwnedFd) -> Option<u8> {
    let modes = tcgetattr(terminal).ok()?;
    let key = modes.special_codes[SpecialCodeIndex::VSUSP];
    (modes.local_modes.contains(LocalModes::ISIG) && key != 0).then_some(key)
}

fn type_keys(to: &OwnedFd, mut keys: &[u8], stop: &Arc<Flag>) -> io::Result<()> {
    while !keys.is_empty() {
        if wait(to.as_fd(), PollFlags::OUT, stop)? == Ready::Flag {
            return Ok(());
        }
        match rustix::io::write(to, keys) {
            Ok(count) => keys = &keys[count..],
            Err(Errno::INTR | Errno::AGAIN) => {}
            // Nobody reads it any more.
            Err(Errno::IO) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

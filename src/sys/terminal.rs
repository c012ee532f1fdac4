//! The controlling terminal: the agent's process group is made the foreground group while it runs, so that Ctrl-C
//! reaches it exactly once and it may read; the guard's own group gets it back on every way out.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::process::{Pid, getpgrp};
use rustix::termios::{tcgetpgrp, tcsetpgrp};

use super::process::with_signal_blocked;

/// A terminal whose foreground group was the guard's own.
#[derive(Debug)]
pub struct Foreground {
    own_group: Pid,
}

impl Foreground {
    /// The terminal on standard input, if there is one and the guard is in its foreground.
    pub fn held() -> Option<Self> {
        let own_group = getpgrp();
        let stdin = rustix::stdio::stdin();
        (rustix::termios::isatty(stdin) && tcgetpgrp(stdin).ok() == Some(own_group)).then_some(Self { own_group })
    }

    /// Gives the terminal to another group.
    pub fn give_to(&self, group: Pid) -> io::Result<()> {
        set_foreground(rustix::stdio::stdin(), group)
    }

    /// Takes the terminal back.
    pub fn take_back(&self) {
        // The terminal may be gone: then there is nothing to take back.
        let _ = set_foreground(rustix::stdio::stdin(), self.own_group);
    }
}

impl Drop for Foreground {
    fn drop(&mut self) {
        self.take_back();
    }
}

/// `tcsetpgrp` from a background group is answered with SIGTTOU, which would stop the guard: blocked meanwhile.
fn set_foreground(terminal: BorrowedFd<'_>, group: Pid) -> io::Result<()> {
    with_signal_blocked(rustix::process::Signal::TTOU, || Ok(tcsetpgrp(terminal.as_fd(), group)?))
}

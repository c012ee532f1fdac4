//! The controlling terminal while an agent runs.
//!
//! Alone in its process group, the guard gives the terminal to the agent's own group, as a shell does: Ctrl-C reaches
//! the agent exactly once, and it may read. In a pipeline (`agentguard run … | pager`) the group has other members that
//! need the terminal too: then the agent shares the group, and what the terminal sends reaches all of them.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;

use rustix::process::{Pid, Signal, getpgrp, getpid};
use rustix::termios::{tcgetpgrp, tcsetpgrp};

use super::process::with_signal_blocked;

/// How the agent is placed towards the terminal.
#[derive(Debug)]
pub enum Terminal {
    /// There is none, or the guard is in its background: the agent has a group of its own.
    None,
    /// The agent's own group is made the foreground group.
    Given(Foreground),
    /// The agent stays in the guard's group, which others share.
    Shared,
}

impl Terminal {
    /// Looks at the controlling terminal.
    pub fn observe() -> Self {
        let Ok(terminal) = File::options().read(true).write(true).open("/dev/tty") else { return Self::None };
        let own_group = getpgrp();
        if tcgetpgrp(&terminal).ok() != Some(own_group) {
            return Self::None;
        }
        if shares_group(own_group) { Self::Shared } else { Self::Given(Foreground { terminal, own_group }) }
    }

    /// The terminal to hand over, if it is to be.
    pub fn given(&self) -> Option<&Foreground> {
        match self {
            Self::Given(foreground) => Some(foreground),
            Self::None | Self::Shared => None,
        }
    }
}

/// Whether another process is in the group.
fn shares_group(group: Pid) -> bool {
    let own = getpid().as_raw_nonzero().to_string();
    let Ok(processes) = std::fs::read_dir("/proc") else { return true };
    // Not `self`, which is this process under another name.
    let is_other = |name: &[u8]| name.first().is_some_and(u8::is_ascii_digit) && name != own.as_bytes();
    processes.flatten().filter(|entry| is_other(entry.file_name().as_encoded_bytes())).any(|entry| {
        let stat = std::fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        // After the name in parentheses, which may hold anything: state, parent, group.
        let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
        fields.clone().nth(2) == Some(&group.as_raw_nonzero().to_string()) && fields.clone().next() != Some("Z")
    })
}

/// A terminal whose foreground group was the guard's own; it is taken back on every way out.
#[derive(Debug)]
pub struct Foreground {
    terminal: File,
    own_group: Pid,
}

impl Foreground {
    /// Takes the terminal back.
    pub fn take_back(&self) {
        // The terminal may be gone: then there is nothing to take back.
        let _ = self.set(self.own_group);
    }

    /// `tcsetpgrp` from a background group is answered with SIGTTOU, which would stop the caller: blocked meanwhile.
    fn set(&self, group: Pid) -> io::Result<()> {
        with_signal_blocked(Signal::TTOU, || Ok(tcsetpgrp(self.terminal.as_fd(), group)?))
    }
}

impl Drop for Foreground {
    fn drop(&mut self) {
        self.take_back();
    }
}

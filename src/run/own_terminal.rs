//! The terminal that an agent has of its own while its output is kept.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::Notify;

use crate::model::RunSpec;
use crate::model::spec::Tty;
use crate::sys::descriptor::StdinKind;
use crate::sys::pty::{self, Pty, RawTerminal};
use crate::sys::relay::Passing;
use crate::sys::terminal::Terminal;

use super::stdin::StdinPlan;
use super::supervise::Streams;

/// See the module.
#[derive(Debug)]
pub struct OwnTerminal {
    /// The guard's end.
    pub ours: OwnedFd,
    /// The caller's terminal, if there is one.
    pub raw: Option<RawTerminal>,
    /// The caller has typed the key that stops programs.
    pub suspend: Arc<Notify>,
}

impl OwnTerminal {
    /// Opens one where the agent is to have it; with its end.
    pub fn of(spec: &RunSpec, streams: &Streams, terminal: &Terminal) -> io::Result<Option<(Self, OwnedFd)>> {
        let wanted = match spec.tty {
            Tty::Never => false,
            Tty::Always => true,
            Tty::Auto => {
                let passes = streams.stdout == Passing::ToStdout && streams.stderr == Passing::ToStderr;
                let is_terminal = |fd| rustix::termios::isatty(fd);
                passes
                    && terminal.given().is_some()
                    && matches!(streams.stdin, StdinPlan::Inherit)
                    && crate::sys::descriptor::stdin_kind() == StdinKind::Terminal
                    && is_terminal(rustix::stdio::stdout())
                    && is_terminal(rustix::stdio::stderr())
            }
        };
        if !wanted {
            return Ok(None);
        }
        let Pty { ours, theirs } = Pty::open()?;
        // Only who is in the foreground may change its modes.
        let raw = terminal.given().and_then(|_| RawTerminal::make());
        Ok(Some((Self { ours, raw, suspend: Arc::default() }, theirs)))
    }

    /// Changes of the caller's terminal's size.
    pub fn resizes(&self) -> Option<Signal> {
        self.raw.as_ref().and_then(|_| signal(SignalKind::window_change()).ok())
    }

    /// Passes the size on.
    pub fn resize(&self) {
        pty::resize(&self.ours);
    }
}

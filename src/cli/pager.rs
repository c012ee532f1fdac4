//! Long answers, page by page, while standard output is a terminal.
//!
//! The pager is chosen by the user's own environment and by nothing in a project, which an agent may have written.

use std::ffi::{OsStr, OsString};
use std::io::{self, IsTerminal as _, Write};
use std::os::unix::ffi::OsStrExt as _;
use std::process::{Child, Command, Stdio};

use crate::cmd::render::escape;
use crate::sys::interrupt;

use super::terminal::say;

/// Whether there is to be a pager.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Paging {
    /// If standard output is a terminal.
    Auto,
    /// Not at all.
    Never,
}

/// Lets `write` write to the pager, or to standard output, and waits until the reader is done. A reader that has seen
/// enough is `write`'s to deal with.
pub(super) fn paged<T>(paging: Paging, write: impl FnOnce(&mut dyn Write) -> anyhow::Result<T>) -> anyhow::Result<T> {
    let pager = match paging {
        Paging::Auto if io::stdout().is_terminal() => chosen(|name| std::env::var_os(name)),
        Paging::Auto | Paging::Never => None,
    };
    match pager.and_then(|pager| start(&pager)) {
        None => write(&mut io::stdout().lock()),
        Some(child) => through(child, write),
    }
}

/// `$AGENTGUARD_PAGER`, else `$PAGER`, else `less`; `None` where the one that counts is empty, or `cat`.
fn chosen(variable: impl Fn(&str) -> Option<OsString>) -> Option<OsString> {
    let named = variable("AGENTGUARD_PAGER").or_else(|| variable("PAGER"));
    named.map_or_else(|| Some("less".into()), |pager| Some(pager).filter(|pager| !pager.is_empty() && pager != "cat"))
}

/// Starts a pager; `None`, with a word on why, where it cannot be.
fn start(pager: &OsStr) -> Option<Child> {
    let mut command = if is_plain(pager) {
        Command::new(pager)
    } else {
        let mut shell = Command::new("sh");
        shell.arg("-c").arg(pager);
        shell
    };
    if std::env::var_os("LESS").is_none() {
        // Quit at once if it fits the screen, let colours through, leave the answer on the screen.
        command.env("LESS", "FRX");
    }
    match command.stdin(Stdio::piped()).spawn() {
        Ok(child) => Some(child),
        // Nobody asked for `less` by name.
        Err(error) if error.kind() == io::ErrorKind::NotFound && pager == "less" => None,
        Err(error) => {
            say(&format!("agentguard: warning: no pager: {}: {error}", escape(pager.as_bytes())));
            None
        }
    }
}

/// Whether it is the name of a program and nothing that a shell must read.
fn is_plain(pager: &OsStr) -> bool {
    pager.as_bytes().iter().all(|byte| byte.is_ascii_alphanumeric() || b"/._-+".contains(byte))
}

fn through<T>(mut child: Child, write: impl FnOnce(&mut dyn Write) -> anyhow::Result<T>) -> anyhow::Result<T> {
    // Ctrl-C is for the pager: to die of it would leave the terminal to a pager and a shell at once.
    let ignored = interrupt::ignore();
    let written = match child.stdin.take() {
        Some(mut pipe) => write(&mut pipe),
        None => write(&mut io::stdout().lock()),
    };
    // How it ended is its own affair.
    let _ = child.wait();
    drop(ignored);
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_projects_own_variable_wins_and_an_empty_one_or_cat_is_no_pager() {
        let with = |own: Option<&str>, general: Option<&str>| {
            chosen(|name| match name {
                "AGENTGUARD_PAGER" => own.map(OsString::from),
                "PAGER" => general.map(OsString::from),
                _ => None,
            })
        };
        assert_eq!(with(None, None), Some("less".into()));
        assert_eq!(with(None, Some("more")), Some("more".into()));
        assert_eq!(with(Some("less -S"), Some("more")), Some("less -S".into()));
        assert_eq!([with(Some(""), Some("more")), with(None, Some("cat")), with(None, Some(""))], [None, None, None]);
    }
}

//! What the standard streams are, and writing to them without dying of a reader that went away.

use std::io::{self, IsTerminal, Write};

use crate::cmd::render::Paint;

use super::args::When;

/// Whether standard output gets colour: the flag, then `NO_COLOR`, then `CLICOLOR_FORCE`, then the terminal.
pub fn paint(when: When) -> Paint {
    let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty() && value != "0");
    let colour = match when {
        When::Always => true,
        When::Never => false,
        When::Auto if set("NO_COLOR") => false,
        When::Auto if set("CLICOLOR_FORCE") => true,
        When::Auto => io::stdout().is_terminal() && std::env::var_os("TERM").is_none_or(|term| term != "dumb"),
    };
    if colour { Paint::Colour } else { Paint::Plain }
}

/// Columns of the terminal on standard output, if it is one.
pub fn width() -> Option<usize> {
    let size = rustix::termios::tcgetwinsize(io::stdout()).ok()?;
    io::stdout().is_terminal().then_some(usize::from(size.ws_col)).filter(|columns| *columns > 0)
}

/// One line on standard error. It may be gone: there is nobody left to tell.
pub fn say(line: &str) {
    let mut line = line.to_owned();
    line.push('\n');
    let _ = io::stderr().write_all(line.as_bytes());
}

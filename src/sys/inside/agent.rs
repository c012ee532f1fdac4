//! Becoming the agent.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

use crate::sys::process::find_program;

/// Executes the agent in the place of this process, looked up as `execvp` does, with SIGPIPE as the agent expects it
/// (the Rust runtime ignores it) and no signal blocked. Returns only what went wrong.
pub(super) fn become_agent(argv: &[OsString]) -> io::Error {
    let Some((program, arguments)) = argv.split_first() else {
        return io::ErrorKind::InvalidInput.into();
    };
    let error = Command::new(program).args(arguments).exec();
    // A script without a `#!` line is handed to the shell, also where the C library leaves that to the caller.
    match find_program(program) {
        Some(script) if error.raw_os_error() == Some(libc::ENOEXEC) => {
            Command::new(OsStr::new("/bin/sh")).arg(script).args(arguments).exec()
        }
        _ => error,
    }
}

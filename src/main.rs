//! The binary: it only dispatches.

use std::ffi::OsString;
use std::process::ExitCode;

fn main() -> ExitCode {
    agentguard::sys::clock::mark_start();
    let arguments: Vec<OsString> = std::env::args_os().collect();
    match agentguard::sys::inside::entry(&arguments) {
        Some(code) => code,
        None => agentguard::cli::dispatch::main(arguments),
    }
}

//! The binary: it only dispatches.

use std::process::ExitCode;

fn main() -> ExitCode {
    agentguard::cli::dispatch::main(std::env::args_os().collect())
}

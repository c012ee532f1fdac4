//! Floor 5: one file per subcommand: a request in, lower floors called, an answer written to the writer it is given.
//! Knows nothing of the command line's grammar, of exit codes, or of which stream the writer is.

pub mod log;
pub mod render;
pub mod run_choice;
pub mod schema;
pub mod show;

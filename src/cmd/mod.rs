//! Floor 5: one file per subcommand: a request in, lower floors called, an answer written to the writer it is given.
//! Knows nothing of the command line's grammar, of exit codes, or of which stream the writer is.

pub mod breaker;
mod captured;
pub mod decide;
pub mod demo;
pub mod diff;
pub mod doctor;
pub mod explain;
pub mod export;
pub mod export_format;
pub mod failed;
pub mod fsck;
pub mod gc;
pub mod import;
pub mod log;
pub mod manifest;
pub mod prices;
pub mod recover;
pub mod render;
pub mod replay;
pub mod report;
pub mod run;
pub mod run_choice;
pub mod schema;
pub mod show;
pub mod stats;

//! One test binary; a file per promise.

mod agent_process;
mod bad_input;
mod damage;
mod demo;
mod failure_never_lands;
mod floors;
mod generated;
mod hashes;
mod lifecycle;
mod log;
mod log_listing;
mod names;
mod project;
mod publish;
mod random_changes;
mod recovery;
mod replay;
mod run_refs;
mod schema;
mod second_look;
mod settings;
mod snapshot;
mod support;
mod trees;
mod type_matrix;

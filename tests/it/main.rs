//! One test binary; a file per promise.

mod floors;
mod log;
mod log_listing;
mod run_refs;
mod schema;
mod support;

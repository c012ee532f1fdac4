//! x

pub mod run_ref;

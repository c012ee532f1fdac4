//! x

pub mod append_file;
pub mod append_lock;

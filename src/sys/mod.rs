//! Floor 2: one kernel or file facility per file, and the only floor with `unsafe`.

pub mod append_file;
pub mod append_lock;
pub mod clock;
pub mod crash;
pub mod descriptor;
pub mod durable;
pub mod fingerprint;
pub mod host;
pub mod identity;
pub mod lock;
pub mod mount;
pub mod process;
pub mod relay;
pub mod remove;
pub mod rename;
pub mod terminal;
pub mod tree_copy;

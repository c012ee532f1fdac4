//! Floor 2: one kernel or file facility per file, and the only floor with `unsafe`.

pub mod append_file;
pub mod append_lock;
pub mod clock;
pub mod copy;
pub mod copy_across;
pub mod copy_tree;
pub mod crash;
pub mod descriptor;
pub mod durable;
pub mod hard_links;
pub mod host;
pub mod identity;
pub mod interrupt;
pub mod lock;
pub mod metadata;
pub mod mmap;
pub mod mount;
pub mod mount_table;
pub mod process;
pub mod relay;
pub mod remove;
pub mod rename;
pub mod terminal;
pub mod walk;
pub mod xattr;

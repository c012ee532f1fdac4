//! Floor 2: one kernel or file facility per file; the only floor with `unsafe`.

pub mod copy;
pub mod copy_tree;
pub mod crash;
pub mod metadata;
pub mod mmap;
pub mod walk;
pub mod xattr;

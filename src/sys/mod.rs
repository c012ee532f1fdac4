//! Floor 2: one kernel or file facility per file; the only floor with `unsafe`.

pub mod crash;

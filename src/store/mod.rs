//! Floor 3: bytes on disk, their formats and versions.

pub mod snapshot;

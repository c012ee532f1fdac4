//! How much is there: room on a filesystem, files in a tree, processor time.

use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::Duration;

/// What a tree holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amount {
    /// Regular files and links.
    pub files: u64,
    /// Bytes of the regular files.
    pub bytes: u64,
    /// The newest time of a change in it, in nanoseconds since the epoch.
    pub newest: i128,
}

/// Counts a tree as far as it can be read; it may change meanwhile.
pub fn amount(top: &Path) -> Amount {
    let mut amount = Amount::default();
    for entry in walkdir::WalkDir::new(top).into_iter().flatten() {
        let Ok(metadata) = entry.metadata() else { continue };
        amount.newest =
            amount.newest.max(i128::from(metadata.ctime()) * 1_000_000_000 + i128::from(metadata.ctime_nsec()));
        if metadata.is_file() {
            amount.bytes = amount.bytes.saturating_add(metadata.len());
        }
        amount.files += u64::from(metadata.is_file() || metadata.is_symlink());
    }
    amount
}

/// What a tree takes on the disk, as far as it can be read; what stands under several names is counted under each.
pub fn taken(top: &Path) -> u64 {
    let entries = walkdir::WalkDir::new(top).into_iter().flatten();
    entries.filter_map(|entry| entry.metadata().ok()).map(|metadata| metadata.blocks() * 512).sum()
}

/// Bytes that an ordinary user may still write on the filesystem of `path`.
pub fn free(path: &Path) -> io::Result<u64> {
    let found = rustix::fs::statvfs(path)?;
    Ok(found.f_bavail.saturating_mul(found.f_frsize))
}

/// Clock ticks as time.
pub fn ticks(count: u64) -> Duration {
    let per_second = rustix::param::clock_ticks_per_second().max(1);
    Duration::from_nanos(count.saturating_mul(1_000_000_000 / per_second))
}

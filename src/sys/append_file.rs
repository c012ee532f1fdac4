//! Appending to a file whole or not at all, as far as one process can: one `write(2)` with `O_APPEND`, taken back
//! by `ftruncate(2)` where the disk had room for a part only. The caller holds the lock that keeps others away.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use rustix::fs::{FallocateFlags, OFlags, fallocate};

/// Opens a regular file for reading and appending, never through a link; creates it with mode 0600.
pub fn open(path: &Path) -> io::Result<File> {
    let flags = OFlags::NOFOLLOW.bits().cast_signed();
    OpenOptions::new().read(true).append(true).create(true).mode(0o600).custom_flags(flags).open(path)
}

/// Opens a regular file for reading and for writing in place, never through a link; creates it with mode 0600.
pub fn open_for_update(path: &Path) -> io::Result<File> {
    let flags = OFlags::NOFOLLOW.bits().cast_signed();
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600).custom_flags(flags).open(path)
}

/// Appends all the bytes to a file that is `old_len` long, or leaves it `old_len` long.
///
/// A full disk gives a short write first and `ENOSPC` only when the rest is tried, and then the part is taken back. A
/// crash in between, or a failure to take it back, leaves a torn tail.
pub fn append_whole(mut file: &File, bytes: &[u8], old_len: u64) -> io::Result<()> {
    file.write_all(bytes).inspect_err(|_| {
        // The reason for the short write is what the caller wants to hear; the next writer repairs what stays.
        _ = file.set_len(old_len);
    })
}

/// Sets blocks aside past the end of the file without making it longer, so that a line fits once the disk is full.
/// Best effort: a filesystem that cannot (`EOPNOTSUPP`) or a full disk is no error.
pub fn reserve(file: &File, bytes: u64) {
    if let Ok(metadata) = file.metadata() {
        let _best_effort = fallocate(file, FallocateFlags::KEEP_SIZE, metadata.len(), bytes);
    }
}

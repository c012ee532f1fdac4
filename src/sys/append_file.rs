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

/// Appends all the bytes to a file that is `old_len` long, or leaves it `old_len` long.
///
/// A full disk gives a short write first and `ENOSPC` only at the next one, so a short write is taken back and
/// tried once more: the second try either succeeds or names the reason. A crash in between leaves a torn tail.
pub fn append_whole(file: &File, bytes: &[u8], old_len: u64) -> io::Result<()> {
    match append_once(file, bytes, old_len) {
        Err(error) if error.kind() == io::ErrorKind::WriteZero => append_once(file, bytes, old_len),
        done => done,
    }
}

fn append_once(mut file: &File, bytes: &[u8], old_len: u64) -> io::Result<()> {
    let written = loop {
        match file.write(bytes) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            done => break done?,
        }
    };
    if written == bytes.len() {
        return Ok(());
    }
    file.set_len(old_len)?;
    // What the kernel says about the missing part is the reason the caller wants to hear.
    let reason = file.write(&bytes[written..]).err();
    file.set_len(old_len)?;
    Err(reason.unwrap_or_else(|| io::ErrorKind::WriteZero.into()))
}

/// Sets blocks aside past the end of the file without making it longer, so that a line fits once the disk is full.
/// Best effort: a filesystem that cannot (`EOPNOTSUPP`) or a full disk is no error.
pub fn reserve(file: &File, bytes: u64) {
    if let Ok(metadata) = file.metadata() {
        let _best_effort = fallocate(file, FallocateFlags::KEEP_SIZE, metadata.len(), bytes);
    }
}

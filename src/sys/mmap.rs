//! A read-only mapping of a whole file.

use std::fs::File;
use std::io;
use std::ops::Deref;
use std::path::Path;

use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

/// The bytes of a file, paged in on demand.
///
/// Meant for files of the state directory, which are replaced by rename and never truncated in place: a file that
/// is truncated while it is mapped ends the process with SIGBUS.
#[derive(Debug)]
pub struct Mapped {
    start: *mut std::ffi::c_void,
    len: usize,
}

// SAFETY: the mapping is private to this value, read-only, and lives until it is dropped.
unsafe impl Send for Mapped {}
// SAFETY: as above; shared reads of read-only memory need no synchronisation.
unsafe impl Sync for Mapped {}

impl Mapped {
    /// Maps the file at `path`; an empty file gives no bytes.
    pub fn open(path: &Path) -> io::Result<Self> {
        Self::of(&File::open(path)?)
    }

    /// Maps an open file; the descriptor may be closed afterwards.
    pub fn of(file: &File) -> io::Result<Self> {
        let len = usize::try_from(file.metadata()?.len()).map_err(io::Error::other)?;
        if len == 0 {
            return Ok(Self { start: std::ptr::null_mut(), len });
        }
        // SAFETY: a fresh mapping at an address of the kernel's choice aliases nothing.
        let start = unsafe { mmap(std::ptr::null_mut(), len, ProtFlags::READ, MapFlags::PRIVATE, file, 0) }?;
        Ok(Self { start, len })
    }
}

impl Deref for Mapped {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        if self.len == 0 {
            return &[];
        }
        // SAFETY: `start` is a live mapping of `len` readable bytes until `self` is dropped.
        unsafe { std::slice::from_raw_parts(self.start.cast(), self.len) }
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        if self.len > 0 {
            // SAFETY: the mapping was made by `of` with this length and nothing borrows it any more.
            let _ = unsafe { munmap(self.start, self.len) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mapping_shows_the_bytes_of_the_file() {
        let dir = tempfile::tempdir().expect("directory");
        for content in [&b""[..], b"some bytes"] {
            let path = dir.path().join("f");
            std::fs::write(&path, content).expect("written");
            assert_eq!(&*Mapped::open(&path).expect("mapped"), content);
        }
    }
}

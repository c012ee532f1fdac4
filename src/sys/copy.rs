//! Copying the bytes of one open file into another: shared blocks where the filesystem can, else by the kernel,
//! else through a buffer. Holes stay holes.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd};
use std::os::unix::fs::FileExt as _;

use rustix::fs::{SeekFrom, copy_file_range, ftruncate, ioctl_ficlone, seek};
use rustix::io::Errno;

const BUFFER_BYTES: usize = 256 << 10;

/// How the bytes got there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CopiedBy {
    /// `FICLONE`: both files share their blocks until one is written.
    Reflink,
    /// `copy_file_range` or a buffer.
    Bytes,
}

/// Makes `to`, an empty file, a copy of the first `size` bytes of `from`.
pub fn copy_content(from: &File, to: &File, size: u64, sparse: bool) -> io::Result<CopiedBy> {
    if size == 0 {
        return Ok(CopiedBy::Bytes);
    }
    if ioctl_ficlone(to, from).is_ok() {
        ftruncate(to, size)?;
        return Ok(CopiedBy::Reflink);
    }
    if sparse {
        ftruncate(to, size)?;
        for_each_extent(from, size, |start, len| copy_range(from, to, start, len))?;
    } else {
        copy_range(from, to, 0, size)?;
    }
    Ok(CopiedBy::Bytes)
}

/// Tries to share all blocks of `from` with `to`, an empty file.
pub fn reflink(from: &File, to: &File) -> bool {
    ioctl_ficlone(to, from).is_ok()
}

/// Calls `visit(start, length)` for each stretch of data below `size`; a filesystem that knows no holes is one
/// stretch (lseek(2), `SEEK_DATA`).
pub fn for_each_extent(file: &File, size: u64, mut visit: impl FnMut(u64, u64) -> io::Result<()>) -> io::Result<()> {
    let mut at = 0;
    while at < size {
        let start = match seek(file, SeekFrom::Data(at)) {
            Ok(start) => start,
            Err(Errno::NXIO) => return Ok(()),
            Err(Errno::INVAL | Errno::OPNOTSUPP) => return visit(at, size - at),
            Err(errno) => return Err(errno.into()),
        };
        let end = seek(file, SeekFrom::Hole(start)).unwrap_or(size).min(size);
        if end <= start {
            return Ok(());
        }
        visit(start, end - start)?;
        at = end;
    }
    Ok(())
}

fn copy_range(from: &File, to: &File, start: u64, len: u64) -> io::Result<()> {
    let (mut read_at, mut write_at) = (start, start);
    let end = start + len;
    while read_at < end {
        let want = usize::try_from(end - read_at).unwrap_or(usize::MAX).min(1 << 30);
        match copy_file_range(from, Some(&mut read_at), to, Some(&mut write_at), want) {
            // The file has become shorter: the caller sees that in its second stat.
            Ok(0) => return Ok(()),
            Ok(_) | Err(Errno::INTR) => {}
            Err(Errno::XDEV | Errno::NOSYS | Errno::INVAL | Errno::OPNOTSUPP | Errno::PERM) => {
                return copy_buffered(from, to, read_at, end);
            }
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}

fn copy_buffered(from: &File, to: &File, mut at: u64, end: u64) -> io::Result<()> {
    let mut buffer = vec![0_u8; BUFFER_BYTES];
    while at < end {
        let want = usize::try_from(end - at).unwrap_or(usize::MAX).min(buffer.len());
        let len = from.read_at(&mut buffer[..want], at)?;
        if len == 0 {
            return Ok(());
        }
        to.write_all_at(&buffer[..len], at)?;
        at += len as u64;
    }
    Ok(())
}

unsafe extern "C" {
    fn sync_file_range(fd: i32, offset: i64, len: i64, flags: u32) -> i32;
}

/// `SYNC_FILE_RANGE_WRITE`, sync_file_range(2).
const START_WRITING: u32 = 2;

/// Asks the kernel to begin writing a range back, without waiting. It is no durability: it only makes a later
/// `fdatasync` short. Failure is of no interest.
pub fn start_writeback(file: BorrowedFd<'_>, start: u64, len: u64) {
    let (Ok(start), Ok(len)) = (i64::try_from(start), i64::try_from(len)) else { return };
    // SAFETY: plain integers; the descriptor is borrowed for the duration of the call.
    let _ = unsafe { sync_file_range(file.as_raw_fd(), start, len, START_WRITING) };
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    #[test]
    fn holes_stay_holes_and_bytes_arrive() {
        let dir = tempfile::tempdir().expect("directory");
        let size = 8_u64 << 20;
        let from = File::create_new(dir.path().join("from")).expect("created");
        from.write_all_at(b"in the middle", 4 << 20).expect("written");
        from.set_len(size).expect("sized");
        let from = File::open(dir.path().join("from")).expect("opened");
        let to = File::create_new(dir.path().join("to")).expect("created");
        copy_content(&from, &to, size, true).expect("copied");
        assert_eq!(
            std::fs::read(dir.path().join("from")).expect("read"),
            std::fs::read(dir.path().join("to")).expect("read")
        );
        let (a, b) = (from.metadata().expect("stat"), to.metadata().expect("stat"));
        assert!(b.blocks() <= a.blocks() + 8, "{} blocks became {}", a.blocks(), b.blocks());
    }
}

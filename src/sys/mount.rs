//! Which filesystem a path is on, as far as renames go: two paths are on the same place if a rename between them
//! cannot answer EXDEV.

use std::io;
use std::os::fd::BorrowedFd;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Statx, StatxFlags, statx};

/// A mounted filesystem. Two bind mounts of one filesystem are two places: `rename(2)` refuses to cross them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    device: (u32, u32),
    mount: Option<u64>,
}

/// The place of an existing path, symbolic links not followed.
pub fn place(path: &Path) -> io::Result<Place> {
    of(statx(CWD, path, AtFlags::SYMLINK_NOFOLLOW, WANTED))
}

/// The place of an open object.
pub fn place_of(fd: BorrowedFd<'_>) -> io::Result<Place> {
    of(statx(fd, c"", AtFlags::EMPTY_PATH, WANTED))
}

const WANTED: StatxFlags = StatxFlags::BASIC_STATS.union(StatxFlags::MNT_ID);

fn of(stat: rustix::io::Result<Statx>) -> io::Result<Place> {
    let stat = stat?;
    // Kernels before 5.8 do not tell the mount; the device decides there.
    let told = StatxFlags::from_bits_retain(stat.stx_mask).contains(StatxFlags::MNT_ID);
    Ok(Place { device: (stat.stx_dev_major, stat.stx_dev_minor), mount: told.then_some(stat.stx_mnt_id) })
}

/// The nearest ancestor of a path (itself included) that exists.
pub fn nearest_existing(path: &Path) -> &Path {
    path.ancestors().find(|ancestor| ancestor.symlink_metadata().is_ok()).unwrap_or(Path::new("/"))
}

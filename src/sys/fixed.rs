//! Whether an inode may be renamed at all: the immutable and the append-only attribute (`chattr(1)`) refuse it.

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd};

use rustix::fs::{AtFlags, StatxAttributes, StatxFlags, makedev, statx};
use rustix::io::Errno;

use super::walk::{self, Stat};

/// Whether renames of an inode, or in a directory, are refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fixed {
    /// Immutable or append-only.
    Yes,
    /// Neither, or the filesystem knows no such thing.
    No,
}

/// Stat of `name` (a link is not followed; empty means `dir` itself) and whether it is fixed, in one call.
pub fn lstat_fixed(dir: BorrowedFd<'_>, name: &[u8]) -> io::Result<(Stat, Fixed)> {
    let flags = if name.is_empty() { AtFlags::EMPTY_PATH } else { AtFlags::SYMLINK_NOFOLLOW };
    match statx(dir, name, flags, StatxFlags::BASIC_STATS) {
        Ok(found) => {
            let fixed = found.stx_attributes.intersects(StatxAttributes::IMMUTABLE.union(StatxAttributes::APPEND));
            Ok((from_statx(&found), if fixed { Fixed::Yes } else { Fixed::No }))
        }
        // Before Linux 4.11, or filtered: the rename will tell.
        Err(Errno::NOSYS | Errno::PERM) if name.is_empty() => Ok((walk::stat_of(dir.as_fd())?, Fixed::No)),
        Err(Errno::NOSYS | Errno::PERM) => Ok((walk::lstat_at(dir, name)?, Fixed::No)),
        Err(errno) => Err(errno.into()),
    }
}

fn from_statx(found: &rustix::fs::Statx) -> Stat {
    Stat {
        dev: makedev(found.stx_dev_major, found.stx_dev_minor),
        ino: found.stx_ino,
        nlink: found.stx_nlink.into(),
        mode: found.stx_mode.into(),
        uid: found.stx_uid,
        gid: found.stx_gid,
        size: found.stx_size,
        rdev: makedev(found.stx_rdev_major, found.stx_rdev_minor),
        allocated: found.stx_blocks * 512,
        mtime: (found.stx_mtime.tv_sec, found.stx_mtime.tv_nsec),
        ctime: (found.stx_ctime.tv_sec, found.stx_ctime.tv_nsec),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statx_and_stat_say_the_same() {
        let dir = std::fs::File::open(env!("CARGO_MANIFEST_DIR")).expect("opened");
        let name = b"Cargo.toml";
        let by_stat = walk::lstat_at(dir.as_fd(), name).expect("stat");
        assert_eq!(lstat_fixed(dir.as_fd(), name).expect("statx"), (by_stat, Fixed::No));
        let itself = walk::stat_of(&dir).expect("stat");
        assert_eq!(lstat_fixed(dir.as_fd(), b"").expect("statx"), (itself, Fixed::No));
    }
}

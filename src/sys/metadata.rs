//! Giving a new object the owner, attributes, mode and time of the one it is a copy of.

use std::io;
use std::os::fd::BorrowedFd;

use rustix::fs::{
    AtFlags, Gid, Mode, OFlags, Timespec, Timestamps, UTIME_OMIT, Uid, chmodat, chownat, fchmod, fchown, futimens,
    mkfifoat, openat, symlinkat, utimensat,
};
use rustix::io::Errno;

use super::xattr::{self, Xattr};

/// In a user namespace an owner may have no number of its own there: nobody can give anything to it, and the copy keeps
/// who made it.
fn unless_unmapped(given: rustix::io::Result<()>) -> rustix::io::Result<()> {
    match given {
        Err(Errno::INVAL) => Ok(()),
        given => given,
    }
}

/// What an object is given after its content.
#[derive(Clone, Copy, Debug)]
pub struct Metadata<'a> {
    /// Permission bits, `0o7777` at most.
    pub mode: u32,
    /// Owner and group; only root can give files away, so for others only a group that they are in counts.
    pub owner: (u32, u32),
    /// Last modification, seconds and nanoseconds.
    pub mtime: (i64, u32),
    /// Extended attributes.
    pub xattrs: &'a [Xattr],
}

impl Metadata<'_> {
    fn times(&self) -> Timestamps {
        Timestamps {
            last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
            last_modification: Timespec { tv_sec: self.mtime.0, tv_nsec: self.mtime.1.into() },
        }
    }

    fn owner(&self) -> Option<(Option<Uid>, Option<Gid>)> {
        let (uid, gid) = self.owner;
        rustix::process::geteuid().is_root().then(|| (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid))))
    }

    /// The group, for who is not root: those who are in it may give it.
    fn other_group(&self) -> Option<Gid> {
        let other = !rustix::process::geteuid().is_root() && self.owner.1 != rustix::process::getegid().as_raw();
        other.then(|| Gid::from_raw(self.owner.1))
    }

    /// Applies everything to an open file or directory, the time last because the rest changes it. The owner comes
    /// before the mode: chown(2) clears the set-id bits.
    pub fn apply_to(&self, fd: BorrowedFd<'_>) -> io::Result<()> {
        xattr::write_all(fd, self.xattrs)?;
        if let Some((uid, gid)) = self.owner() {
            unless_unmapped(fchown(fd, uid, gid))?;
        }
        if let Some(gid) = self.other_group() {
            // It is not theirs to give: the copy has their own.
            let _ = fchown(fd, None, Some(gid));
        }
        fchmod(fd, Mode::from_raw_mode(self.mode))?;
        Ok(futimens(fd, &self.times())?)
    }

    fn apply_at(&self, dir: BorrowedFd<'_>, name: &[u8]) -> io::Result<()> {
        if let Some((uid, gid)) = self.owner() {
            unless_unmapped(chownat(dir, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW))?;
        }
        if let Some(gid) = self.other_group() {
            let _ = chownat(dir, name, None, Some(gid), AtFlags::SYMLINK_NOFOLLOW);
        }
        Ok(utimensat(dir, name, &self.times(), AtFlags::SYMLINK_NOFOLLOW)?)
    }

    /// Makes a symbolic link; its mode and attributes mean nothing.
    pub fn make_symlink(&self, target: &[u8], dir: BorrowedFd<'_>, name: &[u8]) -> io::Result<()> {
        symlinkat(target, dir, name)?;
        self.apply_at(dir, name)
    }

    /// Makes a named pipe.
    pub fn make_fifo(&self, dir: BorrowedFd<'_>, name: &[u8]) -> io::Result<()> {
        mkfifoat(dir, name, Mode::from_raw_mode(0o600))?;
        // The name was made just now and is a pipe: there is no link to follow.
        chmodat(dir, name, Mode::from_raw_mode(self.mode), AtFlags::empty())?;
        self.apply_at(dir, name)
    }
}

/// Creates a file that must not exist, for writing, readable by its owner alone until it has its own mode.
pub fn create_file(dir: BorrowedFd<'_>, name: &[u8]) -> io::Result<std::fs::File> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(openat(dir, name, flags, Mode::from_raw_mode(0o600))?.into())
}

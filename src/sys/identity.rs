//! Which object a path names: device, inode and modification time, read without following a symbolic link.

use std::io;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, FileType, Stat, statat};

use crate::model::event::Identity;

/// `lstat`; `None` where nothing is there.
pub fn lstat(path: &Path) -> io::Result<Option<Stat>> {
    match statat(CWD, path, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stat)),
        Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// The identity of what stands at a path; `None` where nothing does.
pub fn identity(path: &Path) -> io::Result<Option<Identity>> {
    Ok(lstat(path)?.map(|stat| of(&stat)))
}

/// The identity in a stat.
pub fn of(stat: &Stat) -> Identity {
    let nanos = u32::try_from(stat.st_mtime_nsec).unwrap_or(0);
    Identity { dev: stat.st_dev, ino: stat.st_ino, mtime: (stat.st_mtime, nanos) }
}

/// What kind of object a stat describes.
pub fn file_type(stat: &Stat) -> FileType {
    FileType::from_raw_mode(stat.st_mode)
}

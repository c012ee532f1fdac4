//! `fsync`, where something is relied on after a power cut, and nowhere else.
//!
//! A failed fsync is final for the pages it covered (the kernel marks them clean): nobody here tries it again, the
//! caller gives up what it was about to rely on.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;

use rustix::fs::{Mode, OFlags, fsync, open, syncfs};
use rustix::io::retry_on_intr;

/// Makes a directory's entries durable: names created, renamed or removed in it.
pub fn sync_directory(path: &Path) -> io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = retry_on_intr(|| open(path, flags, Mode::empty()))?;
    Ok(retry_on_intr(|| fsync(&directory))?)
}

/// Makes a file's content and metadata durable.
pub fn sync_file(path: &Path) -> io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = retry_on_intr(|| open(path, flags, Mode::empty()))?;
    Ok(retry_on_intr(|| fsync(&file))?)
}

/// Makes an open file or directory durable.
pub fn sync_open(file: impl AsFd) -> io::Result<()> {
    Ok(retry_on_intr(|| fsync(&file))?)
}

/// Makes an open file's content durable, and of its metadata what is needed to read it.
pub fn sync_data(file: &File) -> io::Result<()> {
    Ok(retry_on_intr(|| rustix::fs::fdatasync(file))?)
}

/// Makes everything on the filesystem of `at` durable. One call instead of one per file: cheaper from about five
/// files on. Reports write-back errors since Linux 5.8.
pub fn sync_filesystem(at: impl AsFd) -> io::Result<()> {
    Ok(retry_on_intr(|| syncfs(at.as_fd()))?)
}

/// Makes a small tree durable: every regular file in it, then every directory, deepest first. Links and fifos live in
/// their directories.
pub fn sync_tree(top: &Path) -> io::Result<()> {
    for entry in walkdir::WalkDir::new(top).follow_root_links(false).contents_first(true) {
        let entry = entry?;
        if entry.file_type().is_file() {
            sync_file(entry.path())?;
        } else if entry.file_type().is_dir() {
            sync_directory(entry.path())?;
        }
    }
    Ok(())
}

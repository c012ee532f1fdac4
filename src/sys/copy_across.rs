//! Copying a staged object to the filesystem of its target.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;

use fs_extra::file::{CopyOptions, copy_with_progress};

use super::copy_tree::copy_tree;
use super::metadata::Metadata;
use super::walk::{self, Access, ObjectKind};
use super::xattr;

/// Copies the object at `from` to `to`, which must not exist, with modes, times, links and attributes. Nothing is
/// synced; a crash or an error leaves part of it at `to`.
pub fn copy_across(from: &Path, to: &Path) -> io::Result<()> {
    use std::os::unix::ffi::OsStrExt as _;
    let stat = walk::lstat_at(rustix::fs::CWD, from.as_os_str().as_bytes())?;
    if stat.kind() != ObjectKind::File || stat.is_sparse() {
        return copy_tree(from, to, Access::Own).map(|_| ()).map_err(io::Error::other);
    }
    // The one thing this library is good for: a single regular file across filesystems. It keeps the content and
    // nothing else.
    copy_with_progress(from, to, &CopyOptions::new(), |_| ()).map_err(io::Error::other)?;
    let (source, copy) = (
        File::from(walk::open_file_as(Access::Own, rustix::fs::CWD, from.as_os_str().as_bytes())?),
        File::options().write(true).open(to)?,
    );
    let xattrs = xattr::read_all(source.as_fd())?;
    let metadata =
        Metadata { mode: stat.permissions(), owner: (stat.uid, stat.gid), mtime: stat.mtime, xattrs: &xattrs };
    metadata.apply_to(copy.as_fd())
}

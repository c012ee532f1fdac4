//! A hash over what stat says of a tree: whoever touches anything in it changes the hash. No content is read.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::AsFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use rustix::fs::CWD;
use sha2::{Digest as _, Sha256};

use crate::model::Digest;
use crate::sys::walk::{self, ObjectKind, Stat};

/// What of the root's own inode counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RootChange {
    /// All of it.
    Counts,
    /// All but its ctime, which a rename of the root changes.
    RenameAllowed,
}

/// The fingerprint of what is at `path` (not followed if it is a link); none if nothing is there. For each object,
/// in a fixed order: path, kind, mode, owner, size, times, inode. Access times and link counts do not count.
pub fn fingerprint(path: &Path, root_change: RootChange) -> io::Result<Option<Digest>> {
    let path = path.as_os_str().as_bytes();
    let root = match walk::lstat_at(CWD, path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other?,
    };
    let mut sum = Sha256::new();
    let ctime = if root_change == RootChange::Counts { root.ctime } else { (0, 0) };
    add(&mut sum, b"", &Stat { ctime, ..root });
    if root.kind() == ObjectKind::Directory {
        add_below(&mut sum, path)?;
    }
    Ok(Some(Digest(sum.finalize().into())))
}

fn add_below(sum: &mut Sha256, root: &[u8]) -> io::Result<()> {
    let base = walk::open_dir_itself(root)?;
    let mut dirents = vec![MaybeUninit::uninit(); 64 << 10];
    let mut waiting = vec![Vec::new()];
    while let Some(dir_path) = waiting.pop() {
        let dir = walk::open_dir_below(base.as_fd(), &dir_path)?;
        for name in walk::sorted_names(dir.as_fd(), &mut dirents)? {
            let path = [&*dir_path, b"/", &*name.bytes].concat();
            let path = path.strip_prefix(b"/").unwrap_or(&path);
            let stat = walk::lstat_at(dir.as_fd(), &name.bytes)?;
            add(sum, path, &stat);
            if stat.kind() == ObjectKind::Directory {
                waiting.push(path.to_vec());
            }
        }
    }
    Ok(())
}

fn add(sum: &mut Sha256, path: &[u8], stat: &Stat) {
    sum.update((path.len() as u64).to_le_bytes());
    sum.update(path);
    for field in [stat.mode, stat.uid, stat.gid, stat.mtime.1, stat.ctime.1] {
        sum.update(field.to_le_bytes());
    }
    for field in [stat.dev, stat.ino, stat.size, stat.mtime.0.cast_unsigned(), stat.ctime.0.cast_unsigned()] {
        sum.update(field.to_le_bytes());
    }
}

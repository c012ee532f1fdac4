//! A hash over what stat says of everything below a directory: whoever touches anything in it changes the hash.
//!
//! It survives a rename of the directory and a reboot: neither the directory's own inode nor any device number counts.
//! Not counted either: access times, link counts, and the ctime of a file with several names (a rename of another
//! name changes it). A directory that may not be read counts as its own inode says: nobody but its owner, by a chmod
//! that shows, can have changed what is in it.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, OwnedFd};

use rustix::fs::{Mode, OFlags, openat};
use rustix::io::Errno;
use sha2::{Digest as _, Sha256};

use crate::model::Digest;
use crate::sys::rename::Spot;
use crate::sys::walk::{self, ObjectKind, Stat};

/// For a file that has another name outside the tree, what it is to be counted as: somebody who changes its metadata
/// there says so here.
pub(super) type CountedAs<'a> = &'a dyn Fn(&Stat) -> Stat;

/// The hash, and the newest change of anything in the tree.
pub(super) struct Below {
    pub(super) digest: Digest,
    pub(super) newest: (i64, u32),
}

/// Hashes what is below the directory that a name means; the directory itself is not followed if it became a link.
pub(super) fn below(spot: Spot<'_>, counted_as: CountedAs<'_>) -> io::Result<Below> {
    let mut sum = Sha256::new();
    let mut newest = (0, 0);
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match openat(spot.0, spot.1, flags, Mode::empty()) {
        Ok(base) => add_below(&mut sum, &mut newest, &base, counted_as)?,
        Err(Errno::ACCESS) => sum.update(b"closed"),
        Err(errno) => return Err(errno.into()),
    }
    Ok(Below { digest: Digest(sum.finalize().into()), newest })
}

fn add_below(sum: &mut Sha256, newest: &mut (i64, u32), base: &OwnedFd, counted_as: CountedAs<'_>) -> io::Result<()> {
    let device = walk::stat_of(base)?.dev;
    let mut dirents = vec![MaybeUninit::uninit(); 64 << 10];
    let mut waiting = vec![Vec::new()];
    while let Some(dir_path) = waiting.pop() {
        let dir = match walk::open_dir_below(base.as_fd(), &dir_path) {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => continue,
            opened => opened?,
        };
        for name in walk::sorted_names(dir.as_fd(), &mut dirents)? {
            let stat = match walk::lstat_at(dir.as_fd(), &name.bytes) {
                // Readable and not searchable: the names are all there is to see.
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                    add_path(sum, &dir_path, &name.bytes);
                    continue;
                }
                found => found?,
            };
            add_path(sum, &dir_path, &name.bytes);
            let shared = stat.kind() != ObjectKind::Directory && stat.nlink > 1;
            add(sum, &if shared { Stat { ctime: (0, 0), ..counted_as(&stat) } } else { stat });
            *newest = (*newest).max(stat.ctime).max(stat.mtime);
            // What is mounted there is not part of the tree.
            if stat.kind() == ObjectKind::Directory && stat.dev == device {
                waiting.push(if dir_path.is_empty() {
                    name.bytes.into_vec()
                } else {
                    [&*dir_path, b"/", &*name.bytes].concat()
                });
            }
        }
    }
    Ok(())
}

fn add_path(sum: &mut Sha256, dir: &[u8], name: &[u8]) {
    sum.update(((dir.len() + name.len()) as u64).to_le_bytes());
    sum.update(dir);
    sum.update(b"/");
    sum.update(name);
}

fn add(sum: &mut Sha256, stat: &Stat) {
    for field in [stat.mode, stat.uid, stat.gid, stat.mtime.1, stat.ctime.1] {
        sum.update(field.to_le_bytes());
    }
    for field in [stat.ino, stat.size, stat.mtime.0.cast_unsigned(), stat.ctime.0.cast_unsigned()] {
        sum.update(field.to_le_bytes());
    }
}

//! Removing a tree that somebody else has built: any depth, any modes, any names, never through a symbolic link.
//!
//! `remove_dir_all` of the standard library stops at a directory that it may not read, and holds one descriptor per
//! level; this walk makes directories accessible first and holds one descriptor in all.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Dir, Mode, OFlags, chmodat, fstat, openat, statat, unlinkat};
use rustix::io::Errno;

/// One directory on the way down.
struct Level {
    name: CString,
    identity: (u64, u64),
    directories: Vec<CString>,
}

/// Removes whatever stands at `path`; nothing there is fine.
///
/// A crash leaves part of the tree; the next call removes the rest.
pub fn remove_tree(path: &Path) -> io::Result<()> {
    remove_tree_at(CWD, path.as_os_str().as_bytes())
}

/// [`remove_tree`] of a name in an open directory.
pub fn remove_tree_at(base: BorrowedFd<'_>, path: &[u8]) -> io::Result<()> {
    // Most of what is removed is an empty directory, or not there: one call.
    match unlinkat(base, path, AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        Err(Errno::NOTDIR) => match unlinkat(base, path, AtFlags::empty()) {
            // Something above it is no directory: then it is not there.
            Ok(()) | Err(Errno::NOENT | Errno::NOTDIR) => return Ok(()),
            Err(error) => return Err(error.into()),
        },
        Err(Errno::NOTEMPTY | Errno::EXIST | Errno::ACCESS | Errno::PERM) => {}
        Err(error) => return Err(error.into()),
    }
    let name = CString::new(path)?;
    let (mut here, top) = match enter(&base, &name) {
        Ok(entered) => entered,
        Err(Errno::NOENT) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    let mut levels = vec![top];
    while let Some(level) = levels.last_mut() {
        if let Some(name) = level.directories.pop() {
            match enter(&here, &name) {
                Ok((below, level)) => {
                    here = below;
                    levels.push(level);
                }
                Err(Errno::NOENT) => {}
                Err(error) => return Err(error.into()),
            }
            continue;
        }
        let done = levels.pop().expect("the loop's condition saw it");
        match levels.last() {
            Some(parent) => {
                let up = openat(&here, c"..", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
                let stat = fstat(&up)?;
                if (stat.st_dev, stat.st_ino) != parent.identity {
                    return Err(io::Error::other("the tree was moved while it was being removed"));
                }
                here = up;
                unlinkat(&here, &done.name, AtFlags::REMOVEDIR)?;
            }
            None => unlinkat(base, &done.name, AtFlags::REMOVEDIR)?,
        }
    }
    Ok(())
}

/// Opens a directory, removes everything in it that is not a directory, and lists the directories.
fn enter(parent: &impl std::os::fd::AsFd, name: &CStr) -> Result<(OwnedFd, Level), Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let directory = match openat(parent, name, flags, Mode::empty()) {
        Err(Errno::ACCESS) => {
            chmodat(parent, name, Mode::RWXU, AtFlags::empty())?;
            openat(parent, name, flags, Mode::empty())?
        }
        opened => opened?,
    };
    let stat = fstat(&directory)?;
    if stat.st_mode & 0o700 != 0o700 {
        rustix::fs::fchmod(&directory, Mode::RWXU)?;
    }
    let mut directories = Vec::new();
    for entry in Dir::read_from(&directory)? {
        let entry = entry?;
        let name = entry.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        if is_directory(&directory, &entry)? {
            directories.push(name.to_owned());
        } else {
            match unlinkat(&directory, name, AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok((directory, Level { name: name.to_owned(), identity: (stat.st_dev, stat.st_ino), directories }))
}

fn is_directory(parent: &OwnedFd, entry: &rustix::fs::DirEntry) -> Result<bool, Errno> {
    use rustix::fs::FileType;
    match entry.file_type() {
        FileType::Directory => Ok(true),
        FileType::Unknown => {
            let stat = statat(parent, entry.file_name(), AtFlags::SYMLINK_NOFOLLOW)?;
            Ok(FileType::from_raw_mode(stat.st_mode) == FileType::Directory)
        }
        _ => Ok(false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn a_tree_with_closed_directories_links_and_depth_is_removed_whole_and_nothing_outside_it() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let outside = dir.path().join("outside");
        fs::create_dir(&outside).expect("outside");
        fs::write(outside.join("kept"), "x").expect("write");
        let tree = dir.path().join("tree");
        fs::create_dir_all(tree.join("a/b")).expect("tree");
        fs::write(tree.join("a/b/file"), "x").expect("write");
        symlink(&outside, tree.join("a/link")).expect("link");
        fs::set_permissions(tree.join("a/b"), fs::Permissions::from_mode(0o000)).expect("mode");
        fs::set_permissions(tree.join("a"), fs::Permissions::from_mode(0o500)).expect("mode");
        remove_tree(&tree).expect("removed");
        assert!(!tree.exists() && outside.join("kept").exists());
        remove_tree(&tree).expect("nothing there is fine");
    }

    #[test]
    fn three_thousand_levels_are_removed_with_one_descriptor() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let mut here = rustix::fs::open(dir.path(), OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).expect("open");
        for _ in 0..3000 {
            rustix::fs::mkdirat(&here, c"d", Mode::RWXU).expect("mkdir");
            here = openat(&here, c"d", OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).expect("open");
        }
        remove_tree(&dir.path().join("d")).expect("removed");
        assert!(!dir.path().join("d").exists());
    }
}

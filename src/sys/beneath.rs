//! Handles of directories (`O_PATH`): below a root, never through a symbolic link, out of the root or onto another
//! mount; or anywhere, by an absolute path of any length.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat, openat2};
use rustix::io::Errno;

use super::walk::{split_chunk, stat_of};

/// A handle needs no permission on the directory itself, so that one of mode 000 can be held and given another.
const HANDLE: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// Opens the directory at `path` below `base`; empty means `base` itself. A link on the way is `ELOOP`, another mount
/// `EXDEV`.
pub fn open_beneath(base: BorrowedFd<'_>, path: &[u8]) -> io::Result<OwnedFd> {
    chunked(base, path, &beneath)
}

/// Opens the directory at a path of any length, links followed: one of the caller's own places.
pub fn open_handle(path: &[u8]) -> io::Result<OwnedFd> {
    open_handle_at(CWD, path)
}

/// [`open_handle`] from a directory on.
pub fn open_handle_at(base: BorrowedFd<'_>, path: &[u8]) -> io::Result<OwnedFd> {
    chunked(base, path, &|from, chunk| Ok(openat(from, chunk, HANDLE, Mode::empty())?))
}

fn chunked(
    base: BorrowedFd<'_>,
    path: &[u8],
    open: &dyn Fn(BorrowedFd<'_>, &[u8]) -> io::Result<OwnedFd>,
) -> io::Result<OwnedFd> {
    let mut rest = path;
    let mut reached: Option<OwnedFd> = None;
    loop {
        let (chunk, after) = split_chunk(rest);
        let from = reached.as_ref().map_or(base, AsFd::as_fd);
        let opened = open(from, if chunk.is_empty() { b"." } else { chunk })?;
        if after.is_empty() {
            return Ok(opened);
        }
        reached = Some(opened);
        rest = after;
    }
}

/// One `openat2`; where the call is missing (before Linux 5.6) or filtered, component by component. There the device
/// stands for the mount; a rename out of a bind mount of the same device is refused by the kernel anyway.
fn beneath(base: BorrowedFd<'_>, path: &[u8]) -> io::Result<OwnedFd> {
    static MISSING: AtomicBool = AtomicBool::new(false);
    if !MISSING.load(Ordering::Relaxed) {
        let resolve = ResolveFlags::BENEATH
            .union(ResolveFlags::NO_SYMLINKS)
            .union(ResolveFlags::NO_MAGICLINKS)
            .union(ResolveFlags::NO_XDEV);
        match openat2(base, path, HANDLE | OFlags::NOFOLLOW, Mode::empty(), resolve) {
            Err(Errno::NOSYS | Errno::PERM) => MISSING.store(true, Ordering::Relaxed),
            Err(Errno::INTR | Errno::AGAIN) => return beneath(base, path),
            other => return Ok(other?),
        }
    }
    by_component(base, path)
}

fn by_component(base: BorrowedFd<'_>, path: &[u8]) -> io::Result<OwnedFd> {
    let device = stat_of(base)?.dev;
    let mut reached: Option<OwnedFd> = None;
    for component in path.split(|byte| *byte == b'/') {
        let from = reached.as_ref().map_or(base, AsFd::as_fd);
        let opened = openat(from, component, HANDLE | OFlags::NOFOLLOW, Mode::empty()).map_err(|errno| {
            // With O_DIRECTORY the kernel calls a link "not a directory" here.
            let is_link = errno == Errno::NOTDIR
                && super::walk::lstat_at(from, component)
                    .is_ok_and(|stat| stat.kind() == super::walk::ObjectKind::Symlink);
            if is_link { Errno::LOOP } else { errno }
        })?;
        if stat_of(&opened)?.dev != device {
            return Err(Errno::XDEV.into());
        }
        reached = Some(opened);
    }
    reached.ok_or_else(|| Errno::NOENT.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_and_other_mounts_are_refused_with_and_without_openat2() {
        let dir = tempfile::tempdir().expect("directory");
        std::fs::create_dir_all(dir.path().join("real/inner")).expect("made");
        std::os::unix::fs::symlink("real", dir.path().join("link")).expect("linked");
        std::os::unix::fs::symlink("/", dir.path().join("real/out")).expect("linked");
        std::fs::write(dir.path().join("file"), "").expect("written");
        let base = std::fs::File::open(dir.path()).expect("opened");
        let root = std::fs::File::open("/").expect("opened");
        for open in [beneath, by_component] {
            let errno =
                |base: &std::fs::File, path: &[u8]| open(base.as_fd(), path).err().and_then(|e| e.raw_os_error());
            assert_eq!(errno(&base, b"real/inner"), None);
            assert_eq!(errno(&base, b"link/inner"), Some(Errno::LOOP.raw_os_error()));
            assert_eq!(errno(&base, b"real/out"), Some(Errno::LOOP.raw_os_error()));
            assert_eq!(errno(&base, b"file"), Some(Errno::NOTDIR.raw_os_error()));
            assert_eq!(errno(&base, b"gone/inner"), Some(Errno::NOENT.raw_os_error()));
            assert_eq!(errno(&root, b"proc"), Some(Errno::XDEV.raw_os_error()));
        }
    }

    #[test]
    fn a_directory_deeper_than_a_path_may_be_long_is_opened() {
        let dir = tempfile::tempdir().expect("directory");
        let mut here = open_handle(dir.path().as_os_str().as_encoded_bytes()).expect("opened");
        let name = [b'n'; 200];
        for _ in 0..40 {
            rustix::fs::mkdirat(&here, &name[..], Mode::RWXU).expect("made");
            here = openat(&here, &name[..], HANDLE, Mode::empty()).expect("opened");
        }
        let ino = stat_of(&here).expect("stat").ino;
        let below = [&name[..]; 40].join(&b'/');
        let base = open_handle(dir.path().as_os_str().as_encoded_bytes()).expect("opened");
        assert_eq!(stat_of(open_beneath(base.as_fd(), &below).expect("opened")).expect("stat").ino, ino);
        let whole = [dir.path().as_os_str().as_encoded_bytes(), &below].join(&b'/');
        assert_eq!(stat_of(open_handle(&whole).expect("opened")).expect("stat").ino, ino);
        super::super::remove::remove_tree(dir.path()).expect("removed");
    }
}

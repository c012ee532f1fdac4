//! One object held by a handle (`O_PATH`): its metadata is read and changed whatever its mode, its kind and its name
//! meanwhile. It is never opened, so a pipe does not hang and a device does not act, and a name that is swapped for a
//! link to somewhere else is not what is changed.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, OwnedFd};

use rustix::fs::{
    AtFlags, CWD, Gid, Mode, OFlags, Timespec, Timestamps, UTIME_OMIT, Uid, XattrFlags, chmod, chownat, getxattr,
    listxattr, openat, removexattr, setxattr, utimensat,
};
use rustix::io::Errno;

use super::walk::{self, Stat};
use super::xattr::{Xattr, Xattrs, is_kept};

/// A held object.
#[derive(Debug)]
pub struct Held {
    fd: OwnedFd,
}

impl Held {
    /// Holds what `name` means now; a link is held itself.
    pub fn open(dir: BorrowedFd<'_>, name: &[u8]) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(Self { fd: openat(dir, name, flags, Mode::empty())? })
    }

    /// Holds the directory that a handle of [`super::beneath`] stands for.
    pub fn directory(handle: BorrowedFd<'_>) -> io::Result<Self> {
        Ok(Self { fd: handle.try_clone_to_owned()? })
    }

    /// What stat says of it.
    pub fn stat(&self) -> io::Result<Stat> {
        walk::stat_of(&self.fd)
    }

    /// The kernel's own link to the object: calls that follow it arrive there and go no further.
    fn itself(&self) -> String {
        format!("/proc/self/fd/{}", self.fd.as_raw_fd())
    }

    /// Gives it permission bits; not for symbolic links, which have none.
    pub fn set_mode(&self, mode: u32) -> io::Result<()> {
        Ok(chmod(self.itself(), Mode::from_raw_mode(mode))?)
    }

    /// Gives it a modification time.
    pub fn set_mtime(&self, (tv_sec, nanos): (i64, u32)) -> io::Result<()> {
        let times = Timestamps {
            last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
            last_modification: Timespec { tv_sec, tv_nsec: nanos.into() },
        };
        Ok(utimensat(CWD, self.itself(), &times, AtFlags::empty())?)
    }

    /// Gives it an owner; `EPERM` for most users.
    pub fn set_owner(&self, (uid, gid): (u32, u32)) -> io::Result<()> {
        let (uid, gid) = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
        Ok(chownat(CWD, self.itself(), uid, gid, AtFlags::empty())?)
    }

    /// The names of all attributes that this process may see, whatever their namespace.
    pub fn attribute_names(&self) -> io::Result<Vec<Box<[u8]>>> {
        let mut list = vec![0_u8; 256];
        let len = loop {
            match listxattr(self.itself(), &mut list[..]) {
                Ok(len) => break len,
                Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::PERM | Errno::ACCESS) => break 0,
                // 64 KiB is the kernel's own limit (xattr(7)).
                Err(Errno::RANGE) if list.len() < 64 << 10 => list.resize(64 << 10, 0),
                Err(errno) => return Err(errno.into()),
            }
        };
        let names = list[..len].split(|byte| *byte == 0).filter(|name| !name.is_empty());
        Ok(names.map(Into::into).collect())
    }

    /// The attributes that are the user's data, sorted by name. One whose value may not be read is left out.
    pub fn xattrs(&self) -> io::Result<Xattrs> {
        let mut found = Xattrs::new();
        for name in self.attribute_names()?.into_iter().filter(|name| is_kept(name)) {
            if let Some(value) = self.value(&name)? {
                found.push(Xattr { name, value });
            }
        }
        found.sort_unstable();
        Ok(found)
    }

    fn value(&self, name: &[u8]) -> io::Result<Option<Box<[u8]>>> {
        let mut value = vec![0_u8; 1024];
        loop {
            match getxattr(self.itself(), name, &mut value[..]) {
                Ok(len) => return Ok(Some(value[..len].into())),
                Err(Errno::RANGE) if value.len() < 64 << 10 => value.resize(64 << 10, 0),
                Err(Errno::NODATA | Errno::OPNOTSUPP | Errno::ACCESS | Errno::PERM) => return Ok(None),
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    /// Makes these its user's attributes and removes any other; what the filesystem does not support is left out.
    /// Access lists come last (they sort first): one may take the permission to set the others.
    pub fn set_xattrs(&self, wanted: &[Xattr]) -> io::Result<()> {
        let present = self.xattrs()?;
        for old in present.iter().rev().filter(|old| !wanted.iter().any(|new| new.name == old.name)) {
            self.remove_attribute(&old.name)?;
        }
        for new in wanted.iter().rev().filter(|new| !present.contains(new)) {
            match setxattr(self.itself(), &*new.name, &new.value, XattrFlags::empty()) {
                Ok(()) | Err(Errno::OPNOTSUPP) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(())
    }

    /// Removes one attribute; one that is not there is fine.
    pub fn remove_attribute(&self, name: &[u8]) -> io::Result<()> {
        match removexattr(self.itself(), CString::new(name)?) {
            Ok(()) | Err(Errno::NODATA) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::fd::AsFd as _;
    use std::os::unix::fs::{MetadataExt as _, symlink};

    #[test]
    fn a_link_is_changed_itself_and_what_it_names_is_not() {
        let dir = tempfile::tempdir().expect("directory");
        fs::write(dir.path().join("file"), "").expect("written");
        symlink("file", dir.path().join("link")).expect("linked");
        let before = fs::metadata(dir.path().join("file")).expect("stat");
        let base = fs::File::open(dir.path()).expect("opened");
        let held = Held::open(base.as_fd(), b"link").expect("held");
        held.set_mtime((1_000_000_000, 7)).expect("time");
        assert!(held.set_mode(0o600).is_err(), "a link has no mode");
        assert_eq!(held.xattrs().expect("attributes"), Xattrs::new());
        let link = fs::symlink_metadata(dir.path().join("link")).expect("stat");
        assert_eq!((link.mtime(), link.mtime_nsec()), (1_000_000_000, 7));
        let after = fs::metadata(dir.path().join("file")).expect("stat");
        assert_eq!(
            (before.mtime_nsec(), before.ctime_nsec(), before.mode()),
            (after.mtime_nsec(), after.ctime_nsec(), after.mode())
        );
    }

    #[test]
    fn attributes_become_exactly_those_that_are_wanted() {
        let dir = tempfile::tempdir().expect("directory");
        fs::write(dir.path().join("file"), "").expect("written");
        let base = fs::File::open(dir.path()).expect("opened");
        let held = Held::open(base.as_fd(), b"file").expect("held");
        let one = |name: &[u8], value: &[u8]| Xattr { name: name.into(), value: value.into() };
        for wanted in [
            vec![one(b"user.a", b"1"), one(b"user.b", &[7; 3000])],
            vec![one(b"user.a", b"2"), one(b"user.c", b"")],
            vec![],
        ] {
            held.set_xattrs(&wanted).expect("set");
            assert_eq!(held.xattrs().expect("read"), wanted);
        }
    }
}

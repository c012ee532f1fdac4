//! Extended attributes that belong to the user's data: `user.*` and POSIX access lists. Security labels and file
//! capabilities are the system's and are neither read nor written; those of an overlay filesystem say what its upper
//! layer means and are told apart.

use std::io;
use std::os::fd::BorrowedFd;

use rustix::fs::{XattrFlags, fgetxattr, flistxattr, fremovexattr, fsetxattr};
use rustix::io::Errno;

/// One attribute.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Xattr {
    /// With its namespace, as in `user.note`.
    pub name: Box<[u8]>,
    /// The bytes.
    pub value: Box<[u8]>,
}

/// The attributes of one object, sorted by name.
pub type Xattrs = Vec<Xattr>;

/// The attributes of an open file or directory; none where the filesystem has none.
pub fn read_all(fd: BorrowedFd<'_>) -> io::Result<Xattrs> {
    read_those(fd, is_kept)
}

/// The same, and apart from them those of an overlay.
pub fn read_with_overlay(fd: BorrowedFd<'_>) -> io::Result<(Xattrs, Xattrs)> {
    let all = read_those(fd, |name| is_kept(name) || is_overlay(name))?;
    Ok(all.into_iter().partition(|xattr| is_kept(&xattr.name)))
}

fn read_those(fd: BorrowedFd<'_>, wanted: impl Fn(&[u8]) -> bool) -> io::Result<Xattrs> {
    let mut list = [0_u8; 1024];
    let names = match flistxattr(fd, &mut list[..]) {
        Ok(0) | Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::PERM | Errno::ACCESS) => return Ok(Vec::new()),
        Ok(len) => list[..len].to_vec(),
        Err(Errno::RANGE) => long_list(fd)?,
        Err(errno) => return Err(errno.into()),
    };
    let mut found = Xattrs::new();
    for name in names.split(|byte| *byte == 0).filter(|name| wanted(name)) {
        if let Some(value) = read_value(fd, name)? {
            found.push(Xattr { name: name.into(), value });
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// Whether an attribute is part of the user's data.
pub fn is_kept(name: &[u8]) -> bool {
    (name.starts_with(b"user.") || name.starts_with(b"system.posix_acl_")) && !is_overlay(name)
}

/// Whether an attribute is an overlay filesystem's own (kernel, `Documentation/filesystems/overlayfs.rst`).
pub fn is_overlay(name: &[u8]) -> bool {
    overlay_name(name).is_some()
}

/// What an overlay's attribute is called behind its namespace: `opaque`, `whiteout`.
pub fn overlay_name(name: &[u8]) -> Option<&[u8]> {
    name.strip_prefix(b"user.overlay.").or_else(|| name.strip_prefix(b"trusted.overlay."))
}

/// A list longer than the usual buffer; 64 KiB is the kernel's own limit (xattr(7)).
fn long_list(fd: BorrowedFd<'_>) -> io::Result<Vec<u8>> {
    let mut list = vec![0_u8; 64 << 10];
    let len = flistxattr(fd, &mut list[..])?;
    list.truncate(len);
    Ok(list)
}

/// None where the attribute has vanished since it was listed, or may not be read.
fn read_value(fd: BorrowedFd<'_>, name: &[u8]) -> io::Result<Option<Box<[u8]>>> {
    // Most are short, and clearing room for the longest (xattr(7)) costs more than asking.
    let mut value = vec![0_u8; 512];
    let mut found = fgetxattr(fd, name, &mut value[..]);
    if found == Err(Errno::RANGE) {
        value.resize(64 << 10, 0);
        found = fgetxattr(fd, name, &mut value[..]);
    }
    match found {
        Ok(len) => Ok(Some(value[..len].into())),
        Err(Errno::NODATA | Errno::OPNOTSUPP | Errno::ACCESS | Errno::PERM) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

/// Removes the attributes that are not among these.
pub fn remove_others(fd: BorrowedFd<'_>, xattrs: &[Xattr]) -> io::Result<()> {
    for Xattr { name, .. } in read_all(fd)? {
        if !xattrs.iter().any(|kept| kept.name == name) {
            match fremovexattr(fd, &*name) {
                Ok(()) | Err(Errno::NODATA) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }
    Ok(())
}

/// Sets all of them; what the filesystem does not support is left out.
pub fn write_all(fd: BorrowedFd<'_>, xattrs: &[Xattr]) -> io::Result<()> {
    for Xattr { name, value } in xattrs {
        match fsetxattr(fd, &**name, value, XattrFlags::empty()) {
            Ok(()) | Err(Errno::OPNOTSUPP) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}

//! The marks of an overlay's layer (kernel, `Documentation/filesystems/overlayfs.rst`): whiteouts and opaque directories,
//! as a mount with `userxattr` understands them.

use std::io;
use std::os::fd::BorrowedFd;

use rustix::fs::{FileType, Mode, XattrFlags, fsetxattr, mknodat};
use rustix::io::Errno;

use super::metadata::create_file;

/// How a layer says that a name of the layers below is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whiteouts {
    /// By a character device 0:0 where one can be made (on most filesystems anybody can), else by an attribute.
    AsPossible,
    /// By an attribute, which Linux understands since 6.7, and only in a lower layer.
    ByAttribute,
}

/// Says in a directory of a layer that a name is not there.
pub fn make_whiteout(dir: BorrowedFd<'_>, name: &[u8], whiteouts: Whiteouts) -> io::Result<()> {
    if whiteouts == Whiteouts::AsPossible {
        match mknodat(dir, name, FileType::CharacterDevice, Mode::empty(), 0) {
            Err(Errno::PERM | Errno::ACCESS | Errno::OPNOTSUPP | Errno::INVAL) => {}
            made => return Ok(made?),
        }
    }
    let file = create_file(dir, name)?;
    fsetxattr(&file, "user.overlay.whiteout", b"y", XattrFlags::empty())?;
    Ok(fsetxattr(dir, "user.overlay.opaque", b"x", XattrFlags::empty())?)
}

/// Says of an open directory of an upper layer what the kernel would note at the first look at what is in it: noted then, it
/// would change the directory's ctime under whoever reads it.
pub fn mark_impure(dir: BorrowedFd<'_>) -> io::Result<()> {
    Ok(fsetxattr(dir, "user.overlay.impure", b"y", XattrFlags::empty())?)
}

/// Says of an open directory of a layer that nothing of the layers below shows in it.
pub fn mark_opaque(dir: BorrowedFd<'_>) -> io::Result<()> {
    Ok(fsetxattr(dir, "user.overlay.opaque", b"y", XattrFlags::empty())?)
}

/// Says of an open file of an upper layer that something of its name stood below when it was changed. The kernel notes
/// there which file that was; nobody but it reads the value. Where a filesystem has no attributes nothing is said.
pub fn mark_copied_up(file: BorrowedFd<'_>) -> io::Result<()> {
    match fsetxattr(file, "user.overlay.origin", b"", XattrFlags::empty()) {
        Ok(()) | Err(Errno::OPNOTSUPP) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

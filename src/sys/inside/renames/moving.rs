//! Moving a directory of an overlay's lower layers: a new directory takes what is in the old one.
//!
//! The new one is filled under a temporary name beside the destination and then renamed there, which the kernel allows
//! for a directory that exists in the upper layer only. Files keep their identity, since they are renamed; a
//! subdirectory that cannot be renamed either is moved the same way. What fails is taken back, level by level.

use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, RenameFlags, ResolveFlags, fremovexattr, mkdirat, openat2, renameat_with, statat,
    unlinkat,
};
use rustix::io::Errno;

use crate::sys::metadata::Metadata;
use crate::sys::walk::{Stat, sorted_names, stat_of};
use crate::sys::xattr::{self, Xattrs};

use super::caller::Place;

/// A directory into which somebody keeps writing while it is moved is looked at this many times.
const ROUNDS: usize = 8;

/// Room for the names of a directory.
const NAMES_BYTES: usize = 32 << 10;

type Result<T> = std::result::Result<T, Errno>;

/// A rename of which the kernel said EXDEV within one overlay: everything else about it has been checked.
pub(super) fn rename(old: &Place, new: &Place, flags: RenameFlags) -> Result<()> {
    if flags.contains(RenameFlags::EXCHANGE) {
        return exchange(old, new);
    }
    check_destination(new)?;
    let moved = collect(old, new.parent.as_fd())?;
    let settled = renameat_with(&new.parent, &*moved, &new.parent, &*new.name, flags);
    settled.inspect_err(|_| {
        // The old name is free, and the directory is one of the upper layer by now: it can simply go back.
        let _ = renameat_with(&new.parent, &*moved, &old.parent, &*old.name, RenameFlags::NOREPLACE);
    })
}

/// What the kernel leaves to the filesystem: whether a directory that is to be replaced is empty.
fn check_destination(new: &Place) -> Result<()> {
    match statat(&new.parent, &*new.name, AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT) => Ok(()),
        Err(errno) => Err(errno),
        Ok(stat) if FileType::from_raw_mode(stat.st_mode) != FileType::Directory => Err(Errno::NOTDIR),
        Ok(_) => match names(&open_directory(new.parent.as_fd(), &new.name)?)?.is_empty() {
            true => Ok(()),
            false => Err(Errno::NOTEMPTY),
        },
    }
}

/// Three moves; each that fails takes back the ones before.
fn exchange(one: &Place, other: &Place) -> Result<()> {
    let aside = Place { parent: one.parent.try_clone().map_err(|_| Errno::MFILE)?, name: temporary_name(0) };
    relocate(one, &aside)?;
    relocate(other, one).inspect_err(|_| {
        let _ = relocate(&aside, one);
    })?;
    relocate(&aside, other).inspect_err(|_| {
        let _ = relocate(one, other);
        let _ = relocate(&aside, one);
    })
}

/// To a name that is free, by a rename where that works.
fn relocate(from: &Place, to: &Place) -> Result<()> {
    match renameat_with(&from.parent, &*from.name, &to.parent, &*to.name, RenameFlags::NOREPLACE) {
        Err(Errno::XDEV) => rename(from, to, RenameFlags::NOREPLACE),
        renamed => renamed,
    }
}

/// Moves what is in a directory to a new one under a temporary name, which is returned, and removes the old one.
fn collect(old: &Place, beside: BorrowedFd<'_>) -> Result<Vec<u8>> {
    let source = open_directory(old.parent.as_fd(), &old.name)?;
    let kept = Kept::of(&source)?;
    let name = make_temporary(beside)?;
    let collected = open_directory(beside, &name)
        .and_then(|target| pour(&source, &target, &kept, || unlinkat(&old.parent, &*old.name, AtFlags::REMOVEDIR)));
    match collected {
        Ok(()) => Ok(name),
        Err(errno) => {
            let _ = unlinkat(beside, &*name, AtFlags::REMOVEDIR);
            Err(errno)
        }
    }
}

fn temporary_name(number: usize) -> Vec<u8> {
    format!(".agentguard-mv-{}-{number}", std::process::id()).into_bytes()
}

fn make_temporary(beside: BorrowedFd<'_>) -> Result<Vec<u8>> {
    for number in 1..=ROUNDS {
        let name = temporary_name(number);
        match mkdirat(beside, &*name, Mode::RWXU) {
            Err(Errno::EXIST) => {}
            made => return made.map(|()| name),
        }
    }
    Err(Errno::EXIST)
}

/// Everything from one directory to another, then the metadata, then `remove_source`. Whatever fails, the source has
/// everything again and the target is empty.
fn pour(source: &OwnedFd, target: &OwnedFd, kept: &Kept, remove_source: impl Fn() -> Result<()>) -> Result<()> {
    pour_all(source, target, kept, remove_source).inspect_err(|_| {
        for name in names(target).unwrap_or_default() {
            // What lies in the target is of the upper layer by now, and goes back as easily as it came.
            let _ = renameat_with(target, &*name, source, &*name, RenameFlags::NOREPLACE);
        }
        let _ = kept.give(source);
    })
}

fn pour_all(source: &OwnedFd, target: &OwnedFd, kept: &Kept, remove_source: impl Fn() -> Result<()>) -> Result<()> {
    for _ in 0..ROUNDS {
        pour_once(source, target)?;
        // While the source still stands: what fails here can be taken back.
        kept.give(target)?;
        match remove_source() {
            // Somebody has made something in it meanwhile.
            Err(Errno::NOTEMPTY) => {}
            removed => return removed,
        }
    }
    Err(Errno::NOTEMPTY)
}

fn pour_once(source: &OwnedFd, target: &OwnedFd) -> Result<()> {
    for name in names(source)? {
        match renameat_with(source, &*name, target, &*name, RenameFlags::NOREPLACE) {
            Err(Errno::XDEV) => carry(source, &name, target)?,
            // Removed by somebody else meanwhile.
            Err(Errno::NOENT) => {}
            renamed => renamed?,
        }
    }
    Ok(())
}

/// A subdirectory that cannot be renamed either.
fn carry(from: &OwnedFd, name: &[u8], to: &OwnedFd) -> Result<()> {
    let source = open_directory(from.as_fd(), name)?;
    let kept = Kept::of(&source)?;
    mkdirat(to, name, Mode::RWXU)?;
    let carried = open_directory(to.as_fd(), name)
        .and_then(|target| pour(&source, &target, &kept, || unlinkat(from, name, AtFlags::REMOVEDIR)));
    carried.inspect_err(|_| {
        let _ = unlinkat(to, name, AtFlags::REMOVEDIR);
    })
}

/// Never what is mounted there, which is none of the overlay's.
fn open_directory(parent: BorrowedFd<'_>, name: &[u8]) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match openat2(parent, name, flags, Mode::empty(), ResolveFlags::NO_XDEV | ResolveFlags::NO_SYMLINKS) {
        Err(Errno::XDEV) => Err(Errno::BUSY),
        opened => opened,
    }
}

/// From the beginning, also where the descriptor has been read before.
fn names(directory: &OwnedFd) -> Result<Vec<Box<[u8]>>> {
    rustix::fs::seek(directory, rustix::fs::SeekFrom::Start(0))?;
    let mut buffer = vec![MaybeUninit::uninit(); NAMES_BYTES];
    let names = sorted_names(directory.as_fd(), &mut buffer).map_err(|error| errno_of(&error))?;
    Ok(names.into_iter().map(|name| name.bytes).collect())
}

/// What a directory is given again.
struct Kept {
    stat: Stat,
    xattrs: Xattrs,
}

impl Kept {
    fn of(directory: &OwnedFd) -> Result<Self> {
        let stat = stat_of(directory).map_err(|error| errno_of(&error))?;
        let xattrs = xattr::read_all(directory.as_fd()).map_err(|error| errno_of(&error))?;
        Ok(Self { stat, xattrs })
    }

    fn give(&self, directory: &OwnedFd) -> Result<()> {
        // A default access list of the directory above has made lists that the old directory need not have had.
        for inherited in xattr::read_all(directory.as_fd()).map_err(|error| errno_of(&error))? {
            if self.xattrs.iter().all(|kept| kept.name != inherited.name) {
                fremovexattr(directory, &*inherited.name)?;
            }
        }
        let metadata = Metadata {
            mode: self.stat.permissions(),
            owner: (self.stat.uid, self.stat.gid),
            mtime: self.stat.mtime,
            xattrs: &self.xattrs,
        };
        metadata.apply_to(directory.as_fd()).map_err(|error| errno_of(&error))
    }
}

fn errno_of(error: &std::io::Error) -> Errno {
    Errno::from_io_error(error).unwrap_or(Errno::IO)
}

//! `Attributes`: metadata of an object that stays where it is, read and set whatever its mode.

use std::io;
use std::os::fd::BorrowedFd;

use rustix::io::Errno;
use rustix::process::geteuid;

use crate::model::RelPath;
use crate::sys::clock;
use crate::sys::held::Held;
use crate::sys::walk::{ObjectKind, Stat};
use crate::sys::xattr::{Xattr, Xattrs};

use super::directories::{Beneath, split};
use super::error::{Trouble, is_unreachable};
use super::hands::Privilege;

/// Which object, and its metadata.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attributes {
    /// Inode.
    pub ino: u64,
    /// What it is.
    pub kind: ObjectKind,
    /// Size in bytes; says nothing of a directory.
    pub size: u64,
    /// Permission bits; of a symbolic link they mean nothing.
    pub mode: u32,
    /// Owner; set best effort, few may.
    pub uid: u32,
    /// Group; set best effort.
    pub gid: u32,
    /// Last modification. Before: what it must be, except for a directory, whose time others may change. After: what
    /// it becomes; none leaves it alone.
    pub mtime: Option<(i64, u32)>,
    /// The user's attributes, access lists included, sorted by name.
    pub xattrs: Xattrs,
}

impl Attributes {
    /// Reads them.
    pub(super) fn read(held: &Held) -> io::Result<Self> {
        Ok(Self::of(&held.stat()?, held.xattrs()?))
    }

    fn of(stat: &Stat, xattrs: Xattrs) -> Self {
        Self {
            ino: stat.ino,
            kind: stat.kind(),
            size: stat.size,
            mode: stat.permissions(),
            uid: stat.uid,
            gid: stat.gid,
            mtime: Some(stat.mtime),
            xattrs,
        }
    }

    /// Whether both are of one object with one content.
    pub(super) fn is_object_of(&self, other: &Self) -> bool {
        let size = self.kind == ObjectKind::Directory || self.size == other.size;
        (self.ino, self.kind) == (other.ino, other.kind) && size
    }

    /// Whether an object has exactly these, as far as they are compared.
    pub(super) fn are_those_of(&self, now: &Self) -> bool {
        let time = self.kind == ObjectKind::Directory || self.mtime.is_none() || self.mtime == now.mtime;
        let mode = self.kind == ObjectKind::Symlink || self.mode == now.mode;
        let owner = (self.uid, self.gid) == (now.uid, now.gid);
        self.is_object_of(now) && time && mode && owner && self.xattrs == now.xattrs
    }

    /// The value of one attribute.
    pub(super) fn xattr(&self, name: &[u8]) -> Option<&Xattr> {
        self.xattrs.iter().find(|xattr| &*xattr.name == name)
    }
}

/// Whether an object has exactly the metadata it had, and may be given another.
pub(super) fn adjustable(held: &Held, before: &Attributes, who: Privilege) -> Result<(), Trouble> {
    let now = Attributes::read(held).map_err(Trouble::at("cannot look at"))?;
    if !before.are_those_of(&now) {
        return Err(Trouble::Conflict);
    }
    if who == Privilege::Ordinary && now.uid != geteuid().as_raw() {
        return Err(Trouble::Io("cannot change the metadata of somebody else's", Errno::PERM.into()));
    }
    Ok(())
}

/// The metadata of what stands at a path; none where nothing does. What was changed a moment ago is waited for, as
/// [`super::Observer::observe`] does.
pub fn observe_attributes(root: BorrowedFd<'_>, path: &RelPath) -> io::Result<Option<Attributes>> {
    let (dir, name) = split(path.as_bytes());
    let mut directories = Beneath::new(root.try_clone_to_owned()?, &[]);
    let held = match directories.at(dir).and_then(|dir| Held::open(dir, name)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) if is_unreachable(&error) && error.kind() == io::ErrorKind::NotADirectory => return Ok(None),
        held => held?,
    };
    let stat = held.stat()?;
    clock::let_tick_pass(stat.ctime.max(stat.mtime));
    Attributes::read(&held).map(Some)
}

//! What no listing holds: sockets, devices, and the marks by which the upper layer of an overlay says what is not there.

use crate::model::Text;
use crate::sys::walk::ObjectKind;
use crate::sys::xattr::{Xattr, overlay_name};

/// A socket or device that was come across.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Special {
    /// Its listing path.
    pub path: Text,
    /// Which of the two it is.
    pub kind: ObjectKind,
    /// A device's number.
    pub rdev: u64,
    /// Whether the kernel would take it for a whiteout.
    pub is_whiteout: bool,
}

/// What an object means in the upper layer of an overlay (kernel, `Documentation/filesystems/overlayfs.rst`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OverlayMark {
    /// A character device 0:0: what has this name below is deleted. It is among the specials too.
    Whiteout,
    /// The same by an attribute of an empty file, which the listing holds like any other. It counts in a directory
    /// with [`Self::HasWhiteouts`] alone.
    WhiteoutAttribute,
    /// A directory that replaces the one below.
    Opaque,
    /// A directory in which whiteouts by attribute count.
    HasWhiteouts,
    /// A file that stood below and was copied here to be changed.
    CopiedUp,
    /// An attribute that leads to data elsewhere: not made by a mount with `userxattr`, so made by hand.
    Redirect,
}

impl Special {
    /// What it means in an upper layer.
    pub(super) fn mark(&self) -> Option<OverlayMark> {
        self.is_whiteout.then_some(OverlayMark::Whiteout)
    }
}

/// What an overlay's attribute means; none for what is only the kernel's note to itself.
pub(super) fn mark_of(xattr: &Xattr) -> Option<OverlayMark> {
    match (overlay_name(&xattr.name)?, &*xattr.value) {
        (b"opaque", b"x") => Some(OverlayMark::HasWhiteouts),
        (b"opaque", _) => Some(OverlayMark::Opaque),
        (b"whiteout", _) => Some(OverlayMark::WhiteoutAttribute),
        (b"origin", _) => Some(OverlayMark::CopiedUp),
        (b"redirect" | b"metacopy", _) => Some(OverlayMark::Redirect),
        _ => None,
    }
}

//! What no listing holds.

use crate::model::Text;
use crate::sys::walk::ObjectKind;

/// A socket or device that was come across.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Special {
    /// Its listing path.
    pub path: Text,
    /// Which of the two it is.
    pub kind: ObjectKind,
    /// A device's number; 0 makes a character device the whiteout of an overlay.
    pub rdev: u64,
}

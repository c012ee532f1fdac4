//! Directories of one's own that may not be searched (an agent may leave them so), opened for as long as a plan is
//! looked at.

use std::io;
use std::os::fd::BorrowedFd;

use rustix::process::geteuid;

use crate::sys::held::Held;
use crate::sys::walk;

use super::directories::Beneath;

/// May be searched by its owner.
const SEARCH: u32 = 0o100;

/// Which directories were opened, and their modes.
#[derive(Debug, Default)]
#[must_use]
pub(super) struct Passage {
    opened: Vec<(Vec<u8>, u32)>,
}

impl Passage {
    /// Lets its owner search a directory; those above it come first.
    pub(super) fn open(&mut self, path: &[u8], handle: BorrowedFd<'_>) -> io::Result<()> {
        let user = geteuid();
        let stat = walk::stat_of(handle)?;
        if !user.is_root() && stat.uid == user.as_raw() && stat.permissions() & SEARCH == 0 {
            Held::directory(handle)?.set_mode(stat.permissions() | SEARCH)?;
            self.opened.push((path.to_vec(), stat.permissions()));
        }
        Ok(())
    }

    /// Puts the modes back, innermost first.
    pub(super) fn close(self, live: &mut Beneath<'_>) -> io::Result<()> {
        for (path, mode) in self.opened.into_iter().rev() {
            Held::directory(live.at(&path)?)?.set_mode(mode)?;
        }
        Ok(())
    }
}

//! Setting metadata in place. There is no exchange for metadata: what stands is compared right before it is set, and a
//! redo finds each field as it was before, as it will be, or on the way.

use std::io;

use crate::sys::held::Held;
use crate::sys::walk::{ObjectKind, Stat};

use super::attributes::Attributes;
use super::error::Trouble;
use super::hands::Privilege;

/// The owner's bits: those that may be lifted for a moment, and that a crash may leave lifted.
const OWNERS: u32 = 0o700;

/// Makes an object that has `from` (or is on the way from there) have `to`. Somebody else's value in any field is a
/// conflict, and nothing is set.
pub(super) fn adjust(held: &Held, from: &Attributes, to: &Attributes, who: Privilege) -> Result<(), Trouble> {
    let now = Attributes::read(held).map_err(Trouble::at("cannot look at"))?;
    if !is_between(&now, from, to) {
        return Err(Trouble::Conflict);
    }
    set(held, &now, to, who).map_err(Trouble::at("cannot change the metadata of"))
}

/// Whether each field is one's or the other's.
fn is_between(now: &Attributes, from: &Attributes, to: &Attributes) -> bool {
    let either = |test: &dyn Fn(&Attributes) -> bool| test(from) || test(to);
    let names = now.xattrs.iter().chain(&from.xattrs).chain(&to.xattrs).map(|xattr| &*xattr.name);
    let directory = now.kind == ObjectKind::Directory;
    now.is_object_of(from)
        && (now.kind == ObjectKind::Symlink || either(&|one| is_mode_or_lifted(now.mode, one.mode)))
        && either(&|one| now.uid == one.uid)
        && either(&|one| now.gid == one.gid)
        && (directory || either(&|one| one.mtime.is_none() || one.mtime == now.mtime))
        && names.into_iter().all(|name| either(&|one| one.xattr(name) == now.xattr(name)))
}

/// Whether a mode is the wanted one, perhaps with more for its owner than it says. The set-id bits may be missing: an
/// access list or an owner that is set takes them away until the mode is set.
fn is_mode_or_lifted(mode: u32, wanted: u32) -> bool {
    let owners = mode & wanted & OWNERS == wanted & OWNERS;
    mode == wanted || (owners && mode & 0o077 == wanted & 0o077)
}

fn set(held: &Held, now: &Attributes, to: &Attributes, who: Privilege) -> io::Result<()> {
    if now.xattrs != to.xattrs {
        if who == Privilege::Ordinary && now.mode & OWNERS != OWNERS && now.kind != ObjectKind::Symlink {
            // user.* attributes are written with write permission (xattr(7)), even by the owner.
            held.set_mode(now.mode | OWNERS)?;
        }
        held.set_xattrs(&to.xattrs)?;
    }
    if (now.uid, now.gid) != (to.uid, to.gid) {
        match held.set_owner((to.uid, to.gid)) {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
            other => other?,
        }
    }
    // After the owner: chown(2) clears the set-id bits.
    let stat: Stat = held.stat()?;
    if stat.permissions() != to.mode && stat.kind() != ObjectKind::Symlink {
        held.set_mode(to.mode)?;
    }
    match to.mtime {
        Some(mtime) if mtime != stat.mtime => held.set_mtime(mtime),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mode_on_the_way_is_known_and_somebody_elses_is_not() {
        assert!(is_mode_or_lifted(0o400, 0o400) && is_mode_or_lifted(0o700, 0o400) && is_mode_or_lifted(0o600, 0o4600));
        assert!(
            !is_mode_or_lifted(0o440, 0o400) && !is_mode_or_lifted(0o200, 0o400) && !is_mode_or_lifted(0o640, 0o600)
        );
    }
}

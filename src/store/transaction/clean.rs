//! Cleaning what an overlay's upper layer leaves on staged objects: its attributes, and whiteouts in new directories.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::AsFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, openat, statat, unlinkat};
use rustix::process::geteuid;

use crate::sys::beneath;
use crate::sys::held::Held;
use crate::sys::rename::Spot;
use crate::sys::walk::{self, ObjectKind, Stat};

use super::directories::split;

/// What overlayfs keeps for itself; `user.` in the mounts of ordinary users, `trusted.` in root's.
const OVERLAYS: [&[u8]; 2] = [b"user.overlay.", b"trusted.overlay."];

/// The attribute of a file that stands for a deleted one.
const WHITEOUTS: [&[u8]; 2] = [b"user.overlay.whiteout", b"trusted.overlay.whiteout"];

/// Strips a staged object, a whole tree too, of everything that belongs to the overlay it was made in. Modes and times
/// are afterwards what they were. It is done before the object is [observed](super::observe_at).
pub fn clean(staged: &Path) -> io::Result<()> {
    let (dir, name) = split(staged.as_os_str().as_bytes());
    let dir = beneath::open_handle(if dir.is_empty() { b"/" } else { dir })?;
    clean_at((dir.as_fd(), name))
}

/// The same of a name in an open directory.
pub fn clean_at(spot: Spot<'_>) -> io::Result<()> {
    let stat = walk::lstat_at(spot.0, spot.1)?;
    strip(spot, &stat)?;
    if stat.kind() == ObjectKind::Directory { clean_below(spot, &stat) } else { Ok(()) }
}

/// A directory that was entered: its mode and time are put back when everything below it is done.
struct Entered {
    path: Vec<u8>,
    stat: Stat,
}

fn clean_below(top: Spot<'_>, stat: &Stat) -> io::Result<()> {
    open_up(top, stat)?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let base = openat(top.0, top.1, flags, Mode::empty())?;
    let mut dirents = vec![MaybeUninit::uninit(); 64 << 10];
    let mut entered = vec![Entered { path: Vec::new(), stat: *stat }];
    let mut next = 0;
    while let Some(Entered { path, .. }) = entered.get(next) {
        let path = path.clone();
        let dir = walk::open_dir_below(base.as_fd(), &path)?;
        for name in walk::sorted_names(dir.as_fd(), &mut dirents)? {
            let spot = (dir.as_fd(), &*name.bytes);
            let stat = walk::lstat_at(spot.0, spot.1)?;
            if is_whiteout(spot, &stat)? {
                unlinkat(spot.0, spot.1, AtFlags::empty())?;
                continue;
            }
            strip(spot, &stat)?;
            if stat.kind() == ObjectKind::Directory {
                open_up(spot, &stat)?;
                let below = if path.is_empty() { name.bytes.into_vec() } else { [&*path, b"/", &*name.bytes].concat() };
                entered.push(Entered { path: below, stat });
            }
        }
        next += 1;
    }
    for Entered { path, stat } in entered.iter().rev() {
        let held = Held::directory(beneath::open_beneath(base.as_fd(), path)?.as_fd())?;
        put_back(&held, stat)?;
    }
    Ok(())
}

/// Lets its owner do everything in a directory.
fn open_up(spot: Spot<'_>, stat: &Stat) -> io::Result<()> {
    if stat.permissions() & 0o700 == 0o700 || geteuid().is_root() {
        return Ok(());
    }
    Held::open(spot.0, spot.1)?.set_mode(stat.permissions() | 0o700)
}

fn put_back(held: &Held, stat: &Stat) -> io::Result<()> {
    let now = held.stat()?;
    if now.permissions() != stat.permissions() {
        held.set_mode(stat.permissions())?;
    }
    if now.mtime == stat.mtime { Ok(()) } else { held.set_mtime(stat.mtime) }
}

/// Removes the overlay's attributes from one object.
fn strip(spot: Spot<'_>, stat: &Stat) -> io::Result<()> {
    let held = Held::open(spot.0, spot.1)?;
    let names = held.attribute_names()?;
    let mut ours = names.iter().filter(|name| OVERLAYS.iter().any(|prefix| name.starts_with(prefix))).peekable();
    if ours.peek().is_none() {
        return Ok(());
    }
    let closed = stat.permissions() & 0o200 == 0 && !geteuid().is_root();
    if closed && stat.kind() != ObjectKind::Symlink {
        held.set_mode(stat.permissions() | 0o600)?;
    }
    let removed = ours.try_for_each(|name| held.remove_attribute(name));
    put_back_unless_link(&held, stat).and(removed)
}

fn put_back_unless_link(held: &Held, stat: &Stat) -> io::Result<()> {
    if stat.kind() == ObjectKind::Symlink { Ok(()) } else { put_back(held, stat) }
}

/// A device numbered 0:0, or an empty file with the attribute.
fn is_whiteout(spot: Spot<'_>, stat: &Stat) -> io::Result<bool> {
    match stat.kind() {
        ObjectKind::Device => {
            let raw = statat(spot.0, spot.1, AtFlags::SYMLINK_NOFOLLOW)?;
            Ok(FileType::from_raw_mode(raw.st_mode) == FileType::CharacterDevice && raw.st_rdev == 0)
        }
        ObjectKind::File if stat.size == 0 => {
            let names = Held::open(spot.0, spot.1)?.attribute_names()?;
            Ok(names.iter().any(|name| WHITEOUTS.contains(&&**name)))
        }
        _ => Ok(false),
    }
}

//! What an agent has made in a copy, and what would mean something else in a layer: an overlay's attributes, and devices.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::AsFd as _;

use crate::sys::held::Held;
use crate::sys::remove::remove_tree_at;
use crate::sys::rename::Spot;
use crate::sys::walk::{self, ObjectKind, Stat};
use crate::sys::xattr;

use super::clone_copy::{join, split};

/// Takes an overlay's attributes off an object, which is no device, and off everything below it; devices below it are
/// removed, and their paths returned, which begin with the name.
pub(super) fn clean(top: Spot<'_>) -> io::Result<Vec<Vec<u8>>> {
    let (parent, name) = top;
    let mut devices = Vec::new();
    let mut closed = Vec::new();
    let mut waiting = Vec::new();
    let stat = walk::lstat_at(parent, name)?;
    forget_marks(top, &stat)?;
    if stat.kind() == ObjectKind::Directory {
        waiting.push((name.to_vec(), stat));
    }
    let mut buffer = vec![MaybeUninit::uninit(); if waiting.is_empty() { 0 } else { 64 << 10 }];
    while let Some((path, stat)) = waiting.pop() {
        let (above, own_name) = split(&path);
        let above = walk::open_dir_below(parent, above)?;
        if stat.permissions() & 0o700 != 0o700 {
            Held::open(above.as_fd(), own_name)?.set_mode(stat.permissions() | 0o700)?;
            closed.push((path.clone(), stat.permissions()));
        }
        let dir = walk::open_dir_itself_at((above.as_fd(), own_name))?;
        for name in walk::sorted_names(dir.as_fd(), &mut buffer)? {
            let spot = (dir.as_fd(), &*name.bytes);
            let stat = walk::lstat_at(spot.0, spot.1)?;
            match stat.kind() {
                ObjectKind::Device => {
                    remove_tree_at(spot.0, spot.1)?;
                    devices.push(join(&path, &name.bytes));
                }
                ObjectKind::Directory => {
                    forget_marks(spot, &stat)?;
                    waiting.push((join(&path, &name.bytes), stat));
                }
                _ => forget_marks(spot, &stat)?,
            }
        }
    }
    // Innermost first: what is in a closed directory cannot be reached.
    for (path, mode) in closed.iter().rev() {
        let (above, name) = split(path);
        Held::open(walk::open_dir_below(parent, above)?.as_fd(), name)?.set_mode(*mode)?;
    }
    Ok(devices)
}

/// Takes an overlay's attributes off one file or directory; nothing else can have any that count.
fn forget_marks(spot: Spot<'_>, stat: &Stat) -> io::Result<()> {
    if !matches!(stat.kind(), ObjectKind::File | ObjectKind::Directory) {
        return Ok(());
    }
    let held = Held::open(spot.0, spot.1)?;
    let names = held.attribute_names()?;
    let mut marks = names.iter().filter(|name| xattr::is_overlay(name)).peekable();
    if marks.peek().is_none() {
        return Ok(());
    }
    // Who may not write to it may not take anything off it, either.
    let is_closed = stat.permissions() & 0o200 == 0;
    if is_closed {
        held.set_mode(stat.permissions() | 0o200)?;
    }
    marks.try_for_each(|mark| held.remove_attribute(mark))?;
    if is_closed { held.set_mode(stat.permissions()) } else { Ok(()) }
}

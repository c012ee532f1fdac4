//! Laying out a difference: as a layer that turns today's tree into the snapshot when it is mounted above it, or by
//! turning a private copy of today's tree into the snapshot.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use rustix::fs::{AtFlags, Mode, chmodat, linkat, mkdirat};
use rustix::io::Errno;

use super::contents::Contents;
use super::difference::Difference;
use super::manifest::{ManifestEntry, NO_PARENT};
use super::materialise::{MaterialiseError, make_object, metadata_of};
use crate::model::{EntryKind, Text};
use crate::sys::overlay_layer::{self, Whiteouts};
use crate::sys::remove::remove_tree;
use crate::sys::walk::{self, ObjectKind, lstat_at};
use crate::sys::xattr;

/// What is laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// A directory to be mounted, by overlayfs with `userxattr`, right above the tree.
    Layer(Whiteouts),
    /// In a copy of the tree, which becomes the snapshot.
    Apply,
}

pub(super) fn lay_out(difference: &Difference<'_>, dest: &Path, style: Style) -> Result<(), MaterialiseError> {
    let destination = |source| MaterialiseError::Destination { path: dest.to_path_buf(), source };
    if style != Style::Apply {
        std::fs::create_dir_all(dest).map_err(destination)?;
    }
    let base = walk::open_dir(dest.as_os_str().as_bytes()).map_err(destination)?;
    let out = Out { difference, base, style, contents: Contents::new(difference.layout, difference.manifest) };
    let dirs = out.dirs();
    out.open_dirs(&dirs)?;
    out.take_away()?;
    out.make_others()?;
    out.finish_dirs(&dirs)
}

struct Out<'a> {
    difference: &'a Difference<'a>,
    contents: Contents<'a>,
    base: OwnedFd,
    style: Style,
}

impl Out<'_> {
    fn entry(&self, index: usize) -> &ManifestEntry {
        &self.difference.manifest.entries()[index]
    }

    fn failed(&self, index: usize) -> impl FnOnce(io::Error) -> MaterialiseError {
        move |source| MaterialiseError::Write { path: Text(self.difference.manifest.path_of(index)), source }
    }

    /// Path of an entry below the root; none is the root's own.
    fn place(&self, index: usize) -> Vec<u8> {
        let mut names = Vec::new();
        let mut at = index;
        while at != self.difference.root {
            names.push(&*self.entry(at).name);
            at = self.entry(at).parent as usize;
        }
        names.reverse();
        names.join(&b'/')
    }

    /// Opens the directory that an entry stands in.
    fn above(&self, index: usize) -> io::Result<OwnedFd> {
        let place = self.place(index);
        let dir = memchr::memrchr(b'/', &place).map_or(&b""[..], |at| &place[..at]);
        walk::open_dir_below(self.base.as_fd(), dir)
    }

    /// The directories that something is done in or to, the root first.
    fn dirs(&self) -> BTreeSet<usize> {
        let mut dirs = BTreeSet::from([self.difference.root]);
        let above_extra = self.difference.extra.iter().map(|(above, _)| *above);
        for index in self.difference.entries.iter().copied().chain(above_extra) {
            let mut at = index;
            if self.entry(at).kind != EntryKind::Directory {
                at = self.entry(at).parent as usize;
            }
            while at != NO_PARENT as usize && dirs.insert(at) {
                at = self.entry(at).parent as usize;
            }
        }
        // A root that is no directory stands for nothing but itself.
        dirs.retain(|index| self.entry(*index).kind == EntryKind::Directory);
        dirs
    }

    /// Makes the directories, or makes them accessible, and marks those of a layer that stand for no directory below.
    fn open_dirs(&self, dirs: &BTreeSet<usize>) -> Result<(), MaterialiseError> {
        for index in dirs.iter().copied() {
            self.open_dir(index).map_err(self.failed(index))?;
        }
        Ok(())
    }

    fn open_dir(&self, index: usize) -> io::Result<()> {
        if index == self.difference.root {
            return Ok(rustix::fs::fchmod(&self.base, Mode::RWXU)?);
        }
        let (above, name) = (self.above(index)?, &*self.entry(index).name);
        let is_new = self.difference.new_dirs.contains(&index);
        if self.style == Style::Apply && is_new {
            remove(above.as_fd(), name)?;
        }
        match mkdirat(&above, name, Mode::RWXU) {
            Ok(()) => {}
            // It is a directory, and nobody else works in this copy: there is no link to follow.
            Err(Errno::EXIST) if self.style == Style::Apply => chmodat(&above, name, Mode::RWXU, AtFlags::empty())?,
            Err(errno) => return Err(errno.into()),
        }
        if is_new && self.style != Style::Apply {
            overlay_layer::mark_opaque(walk::open_dir_below(above.as_fd(), name)?.as_fd())?;
        }
        Ok(())
    }

    /// What is there and was not.
    fn take_away(&self) -> Result<(), MaterialiseError> {
        for (dir, name) in &self.difference.extra {
            let taken = walk::open_dir_below(self.base.as_fd(), &self.place(*dir)).and_then(|above| match self.style {
                Style::Apply => remove(above.as_fd(), name),
                Style::Layer(whiteouts) => overlay_layer::make_whiteout(above.as_fd(), name, whiteouts),
            });
            taken.map_err(self.failed(*dir))?;
        }
        Ok(())
    }

    fn make_others(&self) -> Result<(), MaterialiseError> {
        let mut first_names = HashMap::<u32, usize>::new();
        for index in self.difference.entries.iter().copied() {
            let entry = self.entry(index);
            if entry.kind == EntryKind::Directory || index == self.difference.root {
                continue;
            }
            let above = self.above(index).map_err(self.failed(index))?;
            if self.style == Style::Apply {
                remove(above.as_fd(), &entry.name).map_err(self.failed(index))?;
            }
            let first = *first_names.entry(entry.link_group).or_insert(index);
            if entry.link_group != 0 && first != index {
                self.link(first, above.as_fd(), &entry.name).map_err(self.failed(index))?;
            } else {
                make_object(&self.contents, entry, above.as_fd(), &entry.name)?.map_err(self.failed(index))?;
            }
        }
        Ok(())
    }

    fn link(&self, first: usize, dir: BorrowedFd<'_>, name: &[u8]) -> io::Result<()> {
        let above = self.above(first)?;
        Ok(linkat(above, &*self.entry(first).name, dir, name, AtFlags::empty())?)
    }

    /// Metadata of directories, innermost first.
    fn finish_dirs(&self, dirs: &BTreeSet<usize>) -> Result<(), MaterialiseError> {
        for index in dirs.iter().rev().copied() {
            let apply = || {
                let dir = walk::open_dir_below(self.base.as_fd(), &self.place(index))?;
                if self.style == Style::Apply {
                    xattr::remove_others(dir.as_fd(), self.entry(index).xattrs())?;
                }
                metadata_of(self.entry(index)).apply_to(dir.as_fd())
            };
            apply().map_err(self.failed(index))?;
        }
        Ok(())
    }
}

/// Removes whatever has the name, if anything has.
fn remove(dir: BorrowedFd<'_>, name: &[u8]) -> io::Result<()> {
    match lstat_at(dir, name) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
        Ok(stat) if stat.kind() == ObjectKind::Directory => {
            let held = format!("/proc/self/fd/{}", dir.as_raw_fd());
            remove_tree(&Path::new(&held).join(std::ffi::OsStr::from_bytes(name)))
        }
        Ok(_) => Ok(rustix::fs::unlinkat(dir, name, AtFlags::empty())?),
    }
}

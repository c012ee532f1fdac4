//! What an agent changed in the private copy behind a clone view becomes an upper layer like that of an overlay.
//!
//! Changed and new entries are moved into the layer, what is gone gets a whiteout. Where the copy is still needed (verify
//! commands run in it), copies are put back. Everything is done by directory descriptors: paths may be of any length.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;

use rustix::fs::{AtFlags, Mode, linkat, mkdirat};

use crate::sys::copy_tree::{self, copy_tree_at};
use crate::sys::held::Held;
use crate::sys::metadata::Metadata;
use crate::sys::overlay_layer::{Whiteouts, make_whiteout, mark_copied_up, mark_opaque};
use crate::sys::remove::remove_tree_at;
use crate::sys::rename::{Spot, without_replacing_at};
use crate::sys::walk::{self, Access, ObjectKind, Stat};
use crate::sys::xattr;

use super::clone_copy::{CopyBase, CopyError, Tree, born_at, failed, join, split};
use super::layer_clean::clean;

/// A name that no project has at its top; if one does, the harvest fails.
const BESIDE: &[u8] = b".agentguard: a copy";

/// Whether the copy is still needed after the harvest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Afterwards {
    /// Verify commands run in it.
    Needed,
    /// Nobody looks at it again.
    Done,
}

/// Moves what was changed in a copy into a layer, which must not be there yet.
///
/// Devices are left out, and their paths returned, sorted: in a layer one could mean that something is gone.
pub fn harvest(copy: &Path, base: &CopyBase, upper: &Path, afterwards: Afterwards) -> Result<Vec<Vec<u8>>, CopyError> {
    fs::DirBuilder::new().mode(0o700).create(upper).map_err(failed("cannot make", upper))?;
    let (copy, layer) = (Tree::open(copy)?, Tree::open(upper)?);
    let mut harvest =
        Harvest { copy, base, layer, made: Vec::new(), were: HashMap::new(), moved: Vec::new(), devices: Vec::new() };
    harvest.run()?;
    harvest.bring_other_names()?;
    harvest.cut_links_to_elsewhere()?;
    if afterwards == Afterwards::Needed {
        harvest.put_copies_back()?;
    }
    harvest.note_what_stood_there()?;
    harvest.finish_directories()?;
    harvest.devices.sort_unstable();
    Ok(harvest.devices)
}

struct Harvest<'a> {
    copy: Tree<'a>,
    base: &'a CopyBase,
    layer: Tree<'a>,
    /// Directories made in the layer, outermost first.
    made: Vec<Vec<u8>>,
    /// What the agent left them like in the copy.
    were: HashMap<Vec<u8>, Stat>,
    /// What was moved.
    moved: Vec<Vec<u8>>,
    /// What is not part of the layer.
    devices: Vec<Vec<u8>>,
}

impl Harvest<'_> {
    fn run(&mut self) -> Result<(), CopyError> {
        let mut gone: HashMap<&[u8], Vec<&[u8]>> = HashMap::new();
        for path in self.base.entries.keys() {
            let (dir, name) = split(path);
            gone.entry(dir).or_default().push(name);
        }
        let mut buffer = vec![MaybeUninit::uninit(); 64 << 10];
        let mut waiting = vec![Vec::new()];
        while let Some(dir) = waiting.pop() {
            let opened = self.copy.directory(&dir).map_err(self.copy.failed("cannot read", &dir))?;
            let names =
                walk::sorted_names(opened.as_fd(), &mut buffer).map_err(self.copy.failed("cannot read", &dir))?;
            for name in &names {
                let path = join(&dir, &name.bytes);
                let stat = walk::lstat_at(opened.as_fd(), &name.bytes);
                let stat = stat.map_err(self.copy.failed("cannot look at", &path))?;
                if self.take(opened.as_fd(), &path, &stat)? == Taken::Below {
                    waiting.push(path);
                }
            }
            for name in gone.get(&dir[..]).into_iter().flatten() {
                if names.binary_search_by(|found| (*found.bytes).cmp(name)).is_err() {
                    self.white_out(&join(&dir, name))?;
                }
            }
        }
        Ok(())
    }

    /// What was moved takes its other names along, also those whose directories nobody touched: they stay one file.
    fn bring_other_names(&mut self) -> Result<(), CopyError> {
        if self.base.linked.is_empty() {
            return Ok(());
        }
        let moved = self.linked_inodes()?;
        let base = self.base;
        let others =
            base.entries.iter().filter(|(_, was)| moved.contains(&was.ino) && was.kind() != ObjectKind::Directory);
        for (path, was) in others {
            let (dir, name) = split(path);
            let Ok(from) = self.copy.directory(dir) else { continue };
            match walk::lstat_at(from.as_fd(), name) {
                Ok(now) if now.ino == was.ino && now.kind() == was.kind() => {
                    self.move_over(from.as_fd(), path, &now)?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// A file that has names elsewhere, too: where nothing is mounted, an agent can link what lies outside into its copy.
    /// Published as it is, it would be that other file; it becomes a file of its own.
    fn cut_links_to_elsewhere(&self) -> Result<(), CopyError> {
        let mut names: HashMap<u64, (u64, Vec<Vec<u8>>)> = HashMap::new();
        self.each_moved(|path, stat| {
            if stat.kind() != ObjectKind::Directory && stat.nlink > 1 {
                names.entry(stat.ino).or_insert_with(|| (stat.nlink, Vec::new())).1.push(path.to_vec());
            }
        })?;
        for (_, paths) in names.into_values().filter(|(links, paths)| *links > paths.len() as u64) {
            let Some((first, others)) = paths.split_first() else { continue };
            self.copy_in_place(first).map_err(self.layer.failed("cannot copy", first))?;
            for other in others {
                self.link_instead(first, other).map_err(self.layer.failed("cannot link", other))?;
            }
        }
        Ok(())
    }

    fn copy_in_place(&self, path: &[u8]) -> io::Result<()> {
        let (dir, name) = split(path);
        let dir = self.layer.directory(dir)?;
        copy_tree_at((dir.as_fd(), name), (self.layer.root(), BESIDE), Access::Own).map_err(io::Error::other)?;
        remove_tree_at(dir.as_fd(), name)?;
        without_replacing_at((self.layer.root(), BESIDE), (dir.as_fd(), name))
    }

    fn link_instead(&self, first: &[u8], other: &[u8]) -> io::Result<()> {
        let ((from, from_name), (to, to_name)) = (split(first), split(other));
        let (from, to) = (self.layer.directory(from)?, self.layer.directory(to)?);
        remove_tree_at(to.as_fd(), to_name)?;
        Ok(linkat(from, from_name, to, to_name, AtFlags::empty())?)
    }

    /// Inodes with several names in what was moved.
    fn linked_inodes(&self) -> Result<HashSet<u64>, CopyError> {
        let mut found = HashSet::new();
        self.each_moved(|_, stat| {
            if stat.kind() != ObjectKind::Directory {
                found.extend(self.base.linked.get(&stat.ino));
            }
        })?;
        Ok(found)
    }

    /// Everything that was moved, with what is in it.
    fn each_moved(&self, mut look_at: impl FnMut(&[u8], &Stat)) -> Result<(), CopyError> {
        let mut buffer = vec![MaybeUninit::uninit(); 64 << 10];
        let mut waiting = self.moved.clone();
        while let Some(path) = waiting.pop() {
            let (dir, name) = split(&path);
            let mut look = || -> io::Result<Vec<Vec<u8>>> {
                let stat = walk::lstat_at(self.layer.directory(dir)?.as_fd(), name)?;
                look_at(&path, &stat);
                if stat.kind() != ObjectKind::Directory {
                    return Ok(Vec::new());
                }
                let names = walk::sorted_names(self.layer.directory(&path)?.as_fd(), &mut buffer)?;
                Ok(names.iter().map(|name| join(&path, &name.bytes)).collect())
            };
            waiting.extend(look().map_err(self.layer.failed("cannot look at", &path))?);
        }
        Ok(())
    }

    /// Looks at one entry of an open directory of the copy as it is now.
    fn take(&mut self, from: BorrowedFd<'_>, path: &[u8], now: &Stat) -> Result<Taken, CopyError> {
        if self.base.is_hollow(path) {
            return Ok(Taken::Whole);
        }
        let was = self.base.entries.get(path);
        let was_directory = was.filter(|was| was.kind() == ObjectKind::Directory);
        if now.kind() == ObjectKind::Directory
            && let Some(was) = was_directory
        {
            let (_, name) = split(path);
            let born = self.base.born.get(path).copied();
            if was.ino != now.ino || born.is_some() && born != born_at(from, name) {
                // Another directory has taken its place: nothing that stood in it is there unless it is in the new one.
                let layer = self.move_over(from, path, now)?;
                note_replaced((layer.as_fd(), name), now)
                    .map_err(self.layer.failed("cannot note the replacement at", path))?;
                return Ok(Taken::Whole);
            }
            if (was.mode, was.uid, was.gid, was.ctime) != (now.mode, now.uid, now.gid, now.ctime) {
                self.directory(path)?;
            }
            return Ok(Taken::Below);
        }
        if was.is_some_and(|was| was.same_as(now)) {
            return Ok(Taken::Whole);
        }
        if now.kind() == ObjectKind::Device {
            if was.is_some() {
                self.white_out(path)?;
            }
            self.devices.push(path.to_vec());
        } else {
            self.move_over(from, path, now)?;
        }
        Ok(Taken::Whole)
    }

    /// Moves an entry to where it belongs in the layer: into the directory that is returned.
    fn move_over(&mut self, from: BorrowedFd<'_>, path: &[u8], now: &Stat) -> Result<OwnedFd, CopyError> {
        let (dir, name) = split(path);
        let layer = self.directory(dir)?;
        rename((from, name), (layer.as_fd(), name), now).map_err(self.copy.failed("cannot move", path))?;
        let devices = clean((layer.as_fd(), name)).map_err(self.layer.failed("cannot clean", path))?;
        self.devices.extend(devices.iter().map(|below| join(dir, below)));
        self.moved.push(path.to_vec());
        Ok(layer)
    }

    fn white_out(&mut self, path: &[u8]) -> Result<(), CopyError> {
        let (dir, name) = split(path);
        let layer = self.directory(dir)?;
        make_whiteout(layer.as_fd(), name, Whiteouts::AsPossible)
            .map_err(self.layer.failed("cannot note the removal at", path))
    }

    /// A directory of the layer, made with those above it if it is not there; open to its owner until the end, and so is
    /// the one in the copy: what is moved out of it must be allowed to go.
    fn directory(&mut self, path: &[u8]) -> Result<OwnedFd, CopyError> {
        let mut there = path;
        while !there.is_empty() && !self.were.contains_key(there) {
            there = split(there).0;
        }
        let mut layer = self.layer.directory(there).map_err(self.layer.failed("cannot open", there))?;
        if there == path {
            return Ok(layer);
        }
        let mut source = self.copy.directory(there).map_err(self.copy.failed("cannot open", there))?;
        let begin = if there.is_empty() { 0 } else { there.len() + 1 };
        let ends = memchr::memchr_iter(b'/', &path[begin..]).map(|at| begin + at).chain([path.len()]);
        for reached in ends.map(|end| &path[..end]) {
            let (_, name) = split(reached);
            let enter = || -> io::Result<_> {
                let held = Held::open(source.as_fd(), name)?;
                let stat = held.stat()?;
                if stat.permissions() & 0o700 != 0o700 {
                    held.set_mode(stat.permissions() | 0o700)?;
                }
                mkdirat(&layer, name, Mode::RWXU)?;
                let below = |dir: &OwnedFd| walk::open_dir_itself_at((dir.as_fd(), name));
                Ok((below(&source)?, below(&layer)?, stat))
            };
            let (source_below, layer_below, stat) = enter().map_err(self.layer.failed("cannot make", reached))?;
            (source, layer) = (source_below, layer_below);
            self.made.push(reached.to_vec());
            self.were.insert(reached.to_vec(), stat);
        }
        Ok(layer)
    }

    fn put_copies_back(&self) -> Result<(), CopyError> {
        for path in &self.moved {
            let (dir, name) = split(path);
            let from = self.layer.directory(dir).map_err(self.layer.failed("cannot open", dir))?;
            let to = self.copy.directory(dir).map_err(self.copy.failed("cannot open", dir))?;
            let copied = copy_tree_at((from.as_fd(), name), (to.as_fd(), name), Access::Own);
            copied.map_err(|error| {
                let path = self.layer.host_path(dir).join(&error.path);
                copy_tree::CopyError { path, ..error }
            })?;
        }
        Ok(())
    }

    /// Files that took the place of something, or are what stood there: somebody else may have taken that away.
    fn note_what_stood_there(&self) -> Result<(), CopyError> {
        for path in self.moved.iter().filter(|path| self.base.entries.contains_key(*path)) {
            let (dir, name) = split(path);
            let note = || -> io::Result<()> {
                let dir = self.layer.directory(dir)?;
                let stat = walk::lstat_at(dir.as_fd(), name)?;
                if stat.kind() != ObjectKind::File {
                    return Ok(());
                }
                opened_up((dir.as_fd(), name), &stat, 0o600, || {
                    mark_copied_up(walk::open_file_at(dir.as_fd(), name)?.as_fd())
                })
            };
            note().map_err(self.layer.failed("cannot note what stood at", path))?;
        }
        Ok(())
    }

    /// Modes, owners, attributes and times of the layer's directories, innermost first.
    fn finish_directories(&self) -> Result<(), CopyError> {
        for path in self.made.iter().rev() {
            let Some(was) = self.were.get(path) else { continue };
            let finish = || -> io::Result<()> {
                let (source, target) = (self.copy.directory(path)?, self.layer.directory(path)?);
                let xattrs = xattr::read_all(source.as_fd())?;
                let (mode, owner, mtime) = (was.permissions(), (was.uid, was.gid), was.mtime);
                Metadata { mode, owner, mtime, xattrs: &xattrs }.apply_to(target.as_fd())?;
                let held = Held::directory(source.as_fd())?;
                held.set_mtime(mtime)?;
                held.set_mode(mode)
            };
            finish().map_err(self.layer.failed("cannot finish", path))?;
        }
        Ok(())
    }
}

fn rename(from: Spot<'_>, to: Spot<'_>, now: &Stat) -> io::Result<()> {
    match without_replacing_at(from, to) {
        // A directory that its owner may not write to: its `..` changes.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied && now.kind() == ObjectKind::Directory => {
            let held = Held::open(from.0, from.1)?;
            held.set_mode(now.permissions() | 0o700)?;
            without_replacing_at(from, to)?;
            held.set_mode(now.permissions())
        }
        moved => moved,
    }
}

/// Another directory has taken the place of one that was there.
fn note_replaced(layer: Spot<'_>, now: &Stat) -> io::Result<()> {
    opened_up(layer, now, 0o700, || mark_opaque(walk::open_dir_itself_at(layer)?.as_fd()))
}

/// Does something with an object that its owner must have some rights to: who may not write to it may not note anything
/// on it.
fn opened_up(spot: Spot<'_>, now: &Stat, rights: u32, work: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
    if now.permissions() & rights == rights {
        return work();
    }
    let held = Held::open(spot.0, spot.1)?;
    held.set_mode(now.permissions() | rights)?;
    work()?;
    held.set_mode(now.permissions())
}

/// How much of an entry was dealt with.
#[derive(PartialEq, Eq)]
enum Taken {
    /// All of it.
    Whole,
    /// It is a directory that was there before: what is in it comes next.
    Below,
}

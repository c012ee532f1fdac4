//! The warm path: every entry of the stat table is looked at by path, on two threads. Where all of them are as they
//! were, directories included, nothing was added, removed or changed, and the last snapshot is today's.
//!
//! A git directory is the exception: `git status` makes a lock file in it and removes it. Where its times say nothing, its
//! names are looked through for one that a capture would take; what stands there already is looked at like anything else.

use std::fs::File;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use super::layout::Layout;
use super::manifest::{Location, NO_PARENT};
use super::policy::CaptureRoot;
use super::siblings::KnownSiblings;
use super::table::StatTable;
use super::table_record::Record;
use crate::model::EntryKind;
use crate::store::ignore::{Watched, is_git_dir, is_taken_at_top};
use crate::sys::beside;
use crate::sys::walk::{self, Name, Stat, lstat_at, stat_at};
use crate::sys::xattr;

/// Fewer entries than this are not worth a second thread.
const SHARED_ENTRIES: u32 = 512;
/// Longer paths are left to the general walk (`PATH_MAX` is 4096).
const LONGEST_PATH: usize = 4000;
/// Room for the names of a git directory, which are few.
const DIRENT_BYTES: usize = 16 << 10;

/// Whether the trees are exactly what the table says, and all contents are still in the store.
pub(super) fn is_unchanged(table: &StatTable, layout: &Layout, project: &Path, roots: &[CaptureRoot]) -> bool {
    packs_are_there(table, layout) && trees_are_same(table, Some(layout), project, roots)
}

/// Whether the trees are exactly what the table says, and large contents still in the store, if one is given. `base`
/// is a directory near them.
pub(super) fn trees_are_same(table: &StatTable, layout: Option<&Layout>, base: &Path, roots: &[CaptureRoot]) -> bool {
    if table.header.untrusted > 0 || !table.watched().is_some_and(|all| all.iter().all(Watched::is_unchanged)) {
        return false;
    }
    let (Ok(dir), Some(paths)) = (File::open(base), root_paths(table, base, roots)) else { return false };
    let look = Look { table, layout, base: dir.as_fd(), paths, stop: AtomicBool::new(false) };
    let len = table.len();
    if len < SHARED_ENTRIES {
        return look.range(0, len);
    }
    let (other, mine) = beside::both(|| look.range(len / 2, len), || look.range(0, len / 2));
    other && mine
}

fn packs_are_there(table: &StatTable, layout: &Layout) -> bool {
    table
        .packs()
        .iter()
        .all(|(name, size)| std::fs::metadata(layout.pack(*name)).is_ok_and(|found| found.len() == *size))
}

/// Paths of the table's roots, relative to the base where they are below it: the shorter the path, the faster the
/// stat. None if a root that is asked for is not there. Roots that nobody asked for are git directories.
fn root_paths(table: &StatTable, base: &Path, roots: &[CaptureRoot]) -> Option<Vec<Vec<u8>>> {
    let relative = |root: &CaptureRoot| {
        let path = root.path.strip_prefix(base).unwrap_or(&root.path).as_os_str().as_bytes();
        if path.is_empty() { b".".to_vec() } else { path.to_vec() }
    };
    let mut missing = roots.len();
    let mut paths = Vec::new();
    for (_, record) in KnownSiblings::of(Some(table), None) {
        let name = table.name(&record);
        paths.push(match roots.iter().find(|root| *root.name.0 == *name) {
            Some(root) => {
                missing -= 1;
                relative(root)
            }
            None => name.to_vec(),
        });
    }
    (missing == 0).then_some(paths)
}

struct Look<'a> {
    table: &'a StatTable,
    layout: Option<&'a Layout>,
    base: BorrowedFd<'a>,
    paths: Vec<Vec<u8>>,
    stop: AtomicBool,
}

/// The directories above the current entry: index, and how much of the path is theirs.
#[derive(Default)]
struct Above {
    dirs: Vec<(u32, usize)>,
    path: Vec<u8>,
    root: usize,
}

impl Look<'_> {
    fn range(&self, first: u32, end: u32) -> bool {
        let same = self.all_same(first, end).unwrap_or(false);
        if !same {
            self.stop.store(true, Ordering::Relaxed);
        }
        same
    }

    /// None: the table makes no sense.
    fn all_same(&self, first: u32, end: u32) -> Option<bool> {
        let mut above = self.above(first)?;
        for index in first..end {
            if index % 256 == 0 && self.stop.load(Ordering::Relaxed) {
                return Some(false);
            }
            let record = self.table.record(index)?;
            let is_root = record.parent == NO_PARENT;
            if is_root {
                if index != first {
                    above.root += 1;
                }
                above.dirs.clear();
                above.path.clear();
                above.path.extend_from_slice(self.paths.get(above.root)?);
            } else {
                while above.dirs.last().is_some_and(|(dir, _)| *dir != record.parent) {
                    above.dirs.pop();
                }
                above.path.truncate(above.dirs.last()?.1);
                above.path.push(b'/');
                above.path.extend_from_slice(self.table.name(&record));
            }
            if above.path.len() > LONGEST_PATH {
                return Some(false);
            }
            let stat = if is_root { stat_at(self.base, &above.path) } else { lstat_at(self.base, &above.path) };
            let same = stat.is_ok_and(|stat| match record.git_dir {
                true => {
                    record.trusted && stat.same_as(&record.stat) || self.is_same_git_dir(index, &record, &above.path)
                }
                false => stat.same_as(&record.stat),
            });
            if !same {
                return Some(false);
            }
            if record.location == Location::Large
                && let Some(layout) = self.layout
                && !std::fs::metadata(layout.large(record.digest)).is_ok_and(|found| found.len() == record.size)
            {
                return Some(false);
            }
            if record.kind()? == EntryKind::Directory {
                above.dirs.push((index, above.path.len()));
            }
        }
        Some(true)
    }

    /// Whether a git directory still has its mode, owner and attributes, and every name in it that would be taken is known.
    /// Those that are known are entries of their own. What has come or gone besides only counts as left out.
    fn is_same_git_dir(&self, index: u32, record: &Record, path: &[u8]) -> bool {
        let look = || {
            let dir = walk::open_dir_itself_at((self.base, path))?;
            let now = walk::stat_of(&dir)?;
            let Stat { mtime, ctime, size, .. } = record.stat;
            if !(Stat { mtime, ctime, size, ..now }).same_as(&record.stat) {
                return Ok(false);
            }
            let names = walk::sorted_names(dir.as_fd(), &mut vec![MaybeUninit::uninit(); DIRENT_BYTES])?;
            let mut known = KnownSiblings::of(Some(self.table), Some(index));
            for Name { bytes: name } in &names {
                if known.advance_to(name).is_some() {
                    continue;
                }
                match lstat_at(dir.as_fd(), name) {
                    Ok(stat) if is_taken_at_top(name, stat.kind()) => return Ok(false),
                    Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                    _ => {}
                }
            }
            let xattrs = self.table.extras(record).map(|extras| extras.xattrs).unwrap_or_default();
            Ok::<bool, io::Error>(is_git_dir(dir.as_fd(), &names) && xattr::read_all(dir.as_fd())? == xattrs)
        };
        look().unwrap_or(false)
    }

    /// Where an entry in the middle stands.
    fn above(&self, index: u32) -> Option<Above> {
        let mut chain = Vec::new();
        let mut at = match index {
            0 => return Some(Above::default()),
            index => self.table.record(index).map_or(NO_PARENT, |record| record.parent),
        };
        while at != NO_PARENT {
            chain.push(at);
            at = self.table.record(at)?.parent;
        }
        let mut above = Above { root: self.root_of(index)?, ..Above::default() };
        for dir in chain.into_iter().rev() {
            if above.dirs.is_empty() {
                above.path.extend_from_slice(self.paths.get(above.root)?);
            } else {
                above.path.push(b'/');
                above.path.extend_from_slice(self.table.name(&self.table.record(dir)?));
            }
            above.dirs.push((dir, above.path.len()));
        }
        Some(above)
    }

    /// The number of the root that an entry is, or stands below.
    fn root_of(&self, index: u32) -> Option<usize> {
        let (mut at, mut root) = (0, 0);
        loop {
            let end = self.table.record(at)?.end.max(at + 1);
            if index < end {
                return Some(root);
            }
            at = end;
            root += 1;
        }
    }
}

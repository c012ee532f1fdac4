//! The private copy behind a clone view: how it is made.
//!
//! What stat says of every entry of the fresh copy is remembered; after the agent an entry whose stat is the same was not
//! touched ([`super::harvest`]).

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, StatxFlags, statx, symlinkat};

use crate::sys::copy_tree::{self, Leave, Source};
use crate::sys::remove::remove_tree_at;
use crate::sys::walk::{self, Access, ObjectKind, Stat};

/// What stat said of a fresh copy, by path.
#[derive(Debug, Default)]
pub struct CopyBase {
    pub(super) entries: HashMap<Vec<u8>, Stat>,
    /// When its directories were made, where the filesystem says.
    pub(super) born: HashMap<Vec<u8>, (i64, u32)>,
    /// Inodes of what stands there under several names.
    pub(super) linked: HashSet<u64>,
    /// Directories that are there, and none of the copy's business.
    hollow: Vec<Vec<u8>>,
}

/// What of a tree is not copied.
#[derive(Clone, Debug, Default)]
pub struct LeftOut {
    /// Directories that the copy does not have.
    pub absent: Vec<PathBuf>,
    /// Paths below the tree that are something else inside: shown over an empty directory, or linked.
    pub hollow: Vec<PathBuf>,
}

/// How paths that are left hollow get their content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hollow {
    /// Something is mounted over them.
    Mounted,
    /// They are links to the real ones.
    Linked,
}

/// A copy could not be made or read.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// The tree could not be copied.
    #[error(transparent)]
    Copy(#[from] copy_tree::CopyError),
    /// The kernel said no.
    #[error("{step} {path:?}")]
    Io {
        /// What was being done.
        step: &'static str,
        /// To what.
        path: PathBuf,
        /// The kernel's words.
        source: io::Error,
    },
}

pub(super) fn failed(step: &'static str, path: &Path) -> impl FnOnce(io::Error) -> CopyError + use<> {
    let path = path.to_path_buf();
    move |source| CopyError::Io { step, path, source }
}

/// Copies a tree, which must not be there yet; what an error leaves is the caller's to remove.
///
/// `amend` changes the copy before what it is like is remembered.
pub fn make(
    from: &Path,
    to: &Path,
    left_out: &LeftOut,
    hollow: Hollow,
    amend: impl FnOnce(&Path) -> io::Result<()>,
) -> Result<CopyBase, CopyError> {
    let absent = left_out.absent.iter().filter_map(|path| fs::metadata(path).ok());
    let absent = absent.map(|metadata| {
        use std::os::unix::fs::MetadataExt as _;
        (metadata.dev(), metadata.ino())
    });
    let mut leave = Leave { absent: absent.collect(), hollow: Vec::new(), source: Source::Live };
    let source = Tree::open(from)?;
    for inside in left_out.hollow.iter().map(|inside| inside.as_os_str().as_bytes()) {
        let (dir, name) = split(inside);
        let look = || walk::lstat_at(source.directory(dir)?.as_fd(), name);
        let stat = look().map_err(source.failed("cannot look at", inside))?;
        if stat.kind() == ObjectKind::Directory {
            leave.hollow.push((stat.dev, stat.ino));
        }
    }
    // What may not be read is no part of the snapshot either: it is excluded, or git ignores it.
    copy_tree::copy_tree_leaving(from, to, Access::AsIs, &leave)?;
    let copy = Tree::open(to)?;
    if hollow == Hollow::Linked {
        for inside in left_out.hollow.iter().map(|inside| inside.as_os_str().as_bytes()) {
            let link = || -> io::Result<()> {
                let (dir, name) = split(inside);
                let dir = copy.directory(dir)?;
                remove_tree_at(dir.as_fd(), name)?;
                Ok(symlinkat(&*source.host_path(inside), dir, name)?)
            };
            link().map_err(copy.failed("cannot link", inside))?;
        }
    }
    amend(to).map_err(failed("cannot lay out the recorded snapshot in", to))?;
    let hollow = left_out.hollow.iter().map(|inside| inside.as_os_str().as_bytes().to_vec()).collect();
    let mut base = CopyBase { entries: HashMap::new(), born: HashMap::new(), linked: HashSet::new(), hollow };
    base.remember(&copy)?;
    Ok(base)
}

impl CopyBase {
    pub(super) fn is_hollow(&self, path: &[u8]) -> bool {
        self.hollow.iter().any(|hollow| hollow == path)
    }

    fn remember(&mut self, copy: &Tree<'_>) -> Result<(), CopyError> {
        let mut buffer = vec![MaybeUninit::uninit(); 64 << 10];
        let mut waiting = vec![Vec::new()];
        while let Some(dir) = waiting.pop() {
            let mut look = || -> io::Result<Vec<(Vec<u8>, Stat)>> {
                let opened = copy.directory(&dir)?;
                let names = walk::sorted_names(opened.as_fd(), &mut buffer)?;
                names
                    .iter()
                    .map(|name| Ok((join(&dir, &name.bytes), walk::lstat_at(opened.as_fd(), &name.bytes)?)))
                    .collect()
            };
            for (path, stat) in look().map_err(copy.failed("cannot read", &dir))? {
                if stat.kind() == ObjectKind::Directory && !self.is_hollow(&path) {
                    let (above, name) = split(&path);
                    let above = copy.directory(above).map_err(copy.failed("cannot read", above))?;
                    if let Some(born) = born_at(above.as_fd(), name) {
                        self.born.insert(path.clone(), born);
                    }
                    waiting.push(path.clone());
                } else if stat.nlink > 1 && stat.kind() != ObjectKind::Directory {
                    self.linked.insert(stat.ino);
                }
                self.entries.insert(path, stat);
            }
        }
        Ok(())
    }
}

/// When an object was made, where the filesystem says: an inode number may be used again at once.
pub(super) fn born_at(dir: BorrowedFd<'_>, name: &[u8]) -> Option<(i64, u32)> {
    let found = statx(dir, name, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::BTIME).ok()?;
    let is_told = StatxFlags::from_bits_retain(found.stx_mask).contains(StatxFlags::BTIME);
    is_told.then_some((found.stx_btime.tv_sec, found.stx_btime.tv_nsec))
}

/// An open tree, whose directories are opened by their path below it, however long.
#[derive(Debug)]
pub(super) struct Tree<'a> {
    path: &'a Path,
    root: OwnedFd,
}

impl<'a> Tree<'a> {
    pub(super) fn open(path: &'a Path) -> Result<Self, CopyError> {
        let root = walk::open_dir_itself(path.as_os_str().as_bytes()).map_err(failed("cannot open", path))?;
        Ok(Self { path, root })
    }

    /// Its top.
    pub(super) fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// A directory of the tree; one that its owner may not read has its mode lifted for the moment.
    pub(super) fn directory(&self, path: &[u8]) -> io::Result<OwnedFd> {
        walk::open_dir_below_as(Access::Own, self.root.as_fd(), path)
    }

    /// For people: the kernel would not take it if it is long.
    pub(super) fn host_path(&self, path: &[u8]) -> PathBuf {
        self.path.join(OsStr::from_bytes(path))
    }

    /// For `map_err`: what was being done to a path of the tree.
    pub(super) fn failed(&self, step: &'static str, path: &[u8]) -> impl FnOnce(io::Error) -> CopyError + use<> {
        failed(step, &self.host_path(path))
    }
}

/// A name in a directory, both below the root of a copy.
pub(super) fn join(dir: &[u8], name: &[u8]) -> Vec<u8> {
    if dir.is_empty() { name.to_vec() } else { [dir, b"/", name].concat() }
}

/// Directory and name of a path.
pub(super) fn split(path: &[u8]) -> (&[u8], &[u8]) {
    memchr::memrchr(b'/', path).map_or((b"", path), |at| (&path[..at], &path[at + 1..]))
}

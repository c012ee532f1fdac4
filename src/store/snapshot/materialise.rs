//! Writing a snapshot out: directories first, files by two threads, further names of files, and last the modes and
//! times of directories, innermost first.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Mode, linkat, mkdirat};
use rustix::io::Errno;

use super::contents::{Contents, LoadError};
use super::layout::Layout;
use super::manifest::{Manifest, ManifestEntry, NO_PARENT};
use crate::model::{EntryKind, Text};
use crate::sys::beside;
use crate::sys::metadata::{Metadata, create_file};
use crate::sys::walk;

/// Fewer entries than this are not worth a second thread.
const SHARED_ENTRIES: usize = 256;

/// A snapshot could not be written out; what was written is left for the caller to remove.
#[derive(Debug, thiserror::Error)]
pub enum MaterialiseError {
    /// The destination could not be opened or made.
    #[error("cannot open {}", path.display())]
    Destination {
        /// The destination.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// An entry could not be written.
    #[error("cannot write {}", path.to_string_lossy())]
    Write {
        /// Its listing path.
        path: Text,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The store does not have it, or has something else.
    #[error(transparent)]
    Load(#[from] LoadError),
}

/// Writes every entry below `dest`, which is made if it is not there. Nothing that is there is replaced. Nothing is
/// synced.
pub(super) fn materialise(
    layout: &Layout,
    manifest: &Manifest,
    dest: &Path,
    is_wanted: &dyn Fn(&[u8]) -> bool,
) -> Result<(), MaterialiseError> {
    let destination = |source| MaterialiseError::Destination { path: dest.to_path_buf(), source };
    std::fs::create_dir_all(dest).map_err(destination)?;
    let base = walk::open_dir(std::os::unix::ffi::OsStrExt::as_bytes(dest.as_os_str())).map_err(destination)?;
    let out = Out { manifest, contents: Contents::new(layout, manifest), base, first_names: first_names(manifest) };
    let wanted = out.wanted(is_wanted);
    out.make_dirs(&wanted)?;
    out.make_others(&wanted)?;
    out.link_again(&wanted)?;
    out.finish_dirs(&wanted)
}

/// The first entry of each link group.
fn first_names(manifest: &Manifest) -> HashMap<u32, usize> {
    let mut first = HashMap::new();
    for (index, entry) in manifest.entries().iter().enumerate().filter(|(_, entry)| entry.link_group != 0) {
        first.entry(entry.link_group).or_insert(index);
    }
    first
}

struct Out<'a> {
    manifest: &'a Manifest,
    contents: Contents<'a>,
    base: OwnedFd,
    first_names: HashMap<u32, usize>,
}

impl Out<'_> {
    /// The entries to write: all but roots that stand below another root, where they are written already.
    fn wanted(&self, is_wanted: &dyn Fn(&[u8]) -> bool) -> Vec<usize> {
        let is_dir = |entry: &&ManifestEntry| entry.kind == EntryKind::Directory;
        let dirs: Vec<&[u8]> =
            self.manifest.roots().map(|(_, entry)| entry).filter(is_dir).map(|entry| &*entry.name).collect();
        let is_below = |name: &[u8], dir: &[u8]| {
            dir == b"." && name != b"." && !name.starts_with(b"/")
                || name.strip_prefix(dir).is_some_and(|rest| rest.starts_with(b"/"))
        };
        let mut wanted = Vec::with_capacity(self.manifest.entries().len());
        for (index, root) in self.manifest.roots() {
            if is_wanted(&root.name) && !dirs.iter().any(|dir| is_below(&root.name, dir)) {
                wanted.extend(index..root.end as usize);
            }
        }
        wanted
    }

    fn entry(&self, index: usize) -> &ManifestEntry {
        &self.manifest.entries()[index]
    }

    fn failed(&self, index: usize) -> impl FnOnce(io::Error) -> MaterialiseError {
        move |source| MaterialiseError::Write { path: Text(self.manifest.path_of(index)), source }
    }

    /// Directory and name of an entry below the destination.
    fn place(&self, index: usize) -> (Vec<u8>, Vec<u8>) {
        let path = self.manifest.path_of(index);
        let path = path.strip_prefix(b"/").unwrap_or(&path);
        match memchr::memrchr(b'/', path) {
            Some(at) => (path[..at].to_vec(), path[at + 1..].to_vec()),
            None => (Vec::new(), path.to_vec()),
        }
    }

    fn open_below(&self, path: &[u8]) -> io::Result<OwnedFd> {
        walk::open_dir_below(self.base.as_fd(), path)
    }

    fn make_dirs(&self, wanted: &[usize]) -> Result<(), MaterialiseError> {
        for index in wanted.iter().copied() {
            let entry = self.entry(index);
            if entry.parent == NO_PARENT {
                self.make_parents(&entry.name).map_err(self.failed(index))?;
            }
            if entry.kind == EntryKind::Directory && *entry.name != *b"." {
                let (dir, name) = self.place(index);
                self.open_below(&dir)
                    .and_then(|dir| Ok(mkdirat(dir, name, Mode::RWXU)?))
                    .map_err(self.failed(index))?;
            }
        }
        Ok(())
    }

    /// Makes the directories above a root; they are no part of the snapshot.
    fn make_parents(&self, name: &[u8]) -> io::Result<()> {
        let name = name.strip_prefix(b"/").unwrap_or(name);
        for (at, _) in name.iter().enumerate().filter(|(_, byte)| **byte == b'/') {
            match mkdirat(&self.base, &name[..at], Mode::from_raw_mode(0o755)) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(())
    }

    fn make_others(&self, wanted: &[usize]) -> Result<(), MaterialiseError> {
        if wanted.len() < SHARED_ENTRIES {
            return self.make_some(wanted);
        }
        let (mine, others) = wanted.split_at(wanted.len() / 2);
        let (helped, made) = beside::both(|| self.make_some(others), || self.make_some(mine));
        made.and(helped)
    }

    fn make_some(&self, wanted: &[usize]) -> Result<(), MaterialiseError> {
        let mut open: Option<(u32, OwnedFd)> = None;
        for index in wanted.iter().copied().filter(|index| self.is_made_here(*index)) {
            let parent = self.entry(index).parent;
            let (dir_path, name) = self.place(index);
            let dir = match open.take() {
                // Roots have no directory in common.
                Some((at, dir)) if at == parent && at != NO_PARENT => dir,
                _ => self.open_below(&dir_path).map_err(self.failed(index))?,
            };
            self.make(index, dir.as_fd(), &name)?;
            open = Some((parent, dir));
        }
        Ok(())
    }

    fn is_made_here(&self, index: usize) -> bool {
        let entry = self.entry(index);
        entry.kind != EntryKind::Directory && !self.is_further_name(index)
    }

    fn is_further_name(&self, index: usize) -> bool {
        self.first_names.get(&self.entry(index).link_group).is_some_and(|first| *first != index)
    }

    fn make(&self, index: usize, dir: BorrowedFd<'_>, name: &[u8]) -> Result<(), MaterialiseError> {
        make_object(&self.contents, self.entry(index), dir, name)?.map_err(self.failed(index))
    }

    fn link_again(&self, wanted: &[usize]) -> Result<(), MaterialiseError> {
        for index in wanted.iter().copied().filter(|index| self.is_further_name(*index)) {
            let first = self.first_names[&self.entry(index).link_group];
            let link = || -> io::Result<()> {
                let ((first_dir, first_name), (dir, name)) = (self.place(first), self.place(index));
                let (first_dir, dir) = (self.open_below(&first_dir)?, self.open_below(&dir)?);
                Ok(linkat(first_dir, first_name, dir, name, AtFlags::empty())?)
            };
            link().map_err(self.failed(index))?;
        }
        Ok(())
    }

    fn finish_dirs(&self, wanted: &[usize]) -> Result<(), MaterialiseError> {
        for index in wanted.iter().rev().copied() {
            let entry = self.entry(index);
            if entry.kind == EntryKind::Directory {
                let path = self.manifest.path_of(index);
                let apply = || {
                    let dir = self.open_below(path.strip_prefix(b"/").unwrap_or(&path))?;
                    metadata_of(entry).apply_to(dir.as_fd())
                };
                apply().map_err(self.failed(index))?;
            }
        }
        Ok(())
    }
}

/// Makes what is no directory; the inner error is the destination's.
pub(super) fn make_object(
    contents: &Contents<'_>,
    entry: &ManifestEntry,
    dir: BorrowedFd<'_>,
    name: &[u8],
) -> Result<io::Result<()>, LoadError> {
    let metadata = metadata_of(entry);
    Ok(match entry.kind {
        EntryKind::Directory => Ok(()),
        EntryKind::Symlink => metadata.make_symlink(entry.target(), dir, name),
        EntryKind::Fifo => metadata.make_fifo(dir, name),
        EntryKind::File => match create_file(dir, name) {
            Ok(mut file) => contents.write_to(entry, &mut file)?.and_then(|()| metadata.apply_to(file.as_fd())),
            Err(error) => Err(error),
        },
    })
}

/// What an entry's object is given after its content.
pub(super) fn metadata_of(entry: &ManifestEntry) -> Metadata<'_> {
    let ManifestEntry { mode, uid, gid, mtime, .. } = *entry;
    Metadata { mode, owner: (uid, gid), mtime, xattrs: entry.xattrs() }
}

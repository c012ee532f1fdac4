//! Copying a tree: contents, modes, times, links, empty directories, pipes, holes and attributes, by two threads.
//!
//! Sockets and devices are left out and named. Files that are one file under several names stay one.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use rustix::fs::{AtFlags, CWD, Mode, linkat, mkdirat};

use super::beside;
use super::copy::{CopiedBy, copy_content};
use super::metadata::{Metadata, create_file};
use super::rename::Spot;
use super::walk::{self, Access, ObjectKind, Stat};
use super::xattr;

/// What was copied.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CopyReport {
    /// Files, links and pipes.
    pub files: u64,
    /// Bytes of the files.
    pub bytes: u64,
    /// Files whose blocks are shared with the original.
    pub reflinked: u64,
    /// Sockets and devices that were left out, by path below the tree.
    pub skipped: Vec<PathBuf>,
}

/// A copy ended early; what was copied is left behind for the caller to remove.
#[derive(Debug, thiserror::Error)]
#[error("cannot {step} {}", path.display())]
pub struct CopyError {
    /// What was attempted.
    pub step: &'static str,
    /// On what.
    pub path: PathBuf,
    /// Why not.
    #[source]
    pub source: io::Error,
}

/// Copies the object at `from` to `to`, which must not exist. Neither is followed if it is a symbolic link.
/// Nothing is synced.
pub fn copy_tree(from: &Path, to: &Path, access: Access) -> Result<CopyReport, CopyError> {
    copy_tree_leaving(from, to, access, &Leave::default())
}

/// Directories, by device and inode, that are not copied as they are.
#[derive(Clone, Debug, Default)]
pub struct Leave {
    /// Those that the copy does not have.
    pub absent: Vec<(u64, u64)>,
    /// Those that are empty in the copy.
    pub hollow: Vec<(u64, u64)>,
    /// Whose tree it is.
    pub source: Source,
}

/// Whose tree is copied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Source {
    /// One's own: whatever cannot be copied is an error.
    #[default]
    Own,
    /// One in which people work: the copy does not have what may not be read, nor what is taken away meanwhile.
    Live,
}

/// [`copy_tree`] without some directories.
pub fn copy_tree_leaving(from: &Path, to: &Path, access: Access, leave: &Leave) -> Result<CopyReport, CopyError> {
    copy((CWD, from.as_os_str().as_bytes()), (CWD, to.as_os_str().as_bytes()), access, leave)
}

/// [`copy_tree`] between names in open directories; paths of errors begin with the name.
pub fn copy_tree_at(from: Spot<'_>, to: Spot<'_>, access: Access) -> Result<CopyReport, CopyError> {
    copy(from, to, access, &Leave::default())
}

fn copy(from: Spot<'_>, to: Spot<'_>, access: Access, leave: &Leave) -> Result<CopyReport, CopyError> {
    let failed = |step, path: &[u8]| {
        let path = PathBuf::from(OsStr::from_bytes(path));
        move |source| CopyError { step, path, source }
    };
    let stat = walk::lstat_at(from.0, from.1).map_err(failed("stat", from.1))?;
    let path = if stat.kind() == ObjectKind::Directory { from.1 } else { b"" };
    let path = Path::new(OsStr::from_bytes(path));
    let mut copy = Copy { access, from: path, leave, bases: None, state: Mutex::default(), ready: Condvar::new() };
    if stat.kind() != ObjectKind::Directory {
        copy.entry(&Ends { from: from.0, to: to.0, below: b"" }, from.1, to.1, &stat)?;
        return Ok(copy.finish());
    }
    mkdirat(to.0, to.1, Mode::RWXU).map_err(|errno| failed("create", to.1)(errno.into()))?;
    let source = walk::open_dir_itself_at(from).map_err(failed("open", from.1))?;
    let target = walk::open_dir_itself_at(to).map_err(failed("open", to.1))?;
    copy.bases = Some((source, target));
    copy.lock().waiting.push(Vec::new());
    copy.run()?;
    copy.link_again()?;
    copy.finish_dirs()?;
    Ok(copy.finish())
}

#[derive(Default)]
struct State {
    waiting: Vec<Vec<u8>>,
    busy: usize,
    stopped: bool,
    dirs: Vec<Vec<u8>>,
    /// First copied name of a file that has several.
    first_names: HashMap<(u64, u64), Vec<u8>>,
    /// First name, further name.
    links: Vec<(Vec<u8>, Vec<u8>)>,
    report: CopyReport,
}

struct Copy<'a> {
    access: Access,
    leave: &'a Leave,
    from: &'a Path,
    bases: Option<(OwnedFd, OwnedFd)>,
    state: Mutex<State>,
    ready: Condvar,
}

/// The same directory on both sides.
struct Ends<'a> {
    from: BorrowedFd<'a>,
    to: BorrowedFd<'a>,
    below: &'a [u8],
}

impl Copy<'_> {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn error(&self, step: &'static str, below: &[u8]) -> impl FnOnce(io::Error) -> CopyError {
        let path = self.from.join(OsStr::from_bytes(below));
        move |source| CopyError { step, path, source }
    }

    /// What was listed may be gone, or something else, by the time it is opened, where people work in the tree.
    fn unless_gone<T>(&self, done: io::Result<T>) -> io::Result<Option<T>> {
        use rustix::io::Errno;
        match done {
            Err(error) if self.leave.source == Source::Live => match Errno::from_io_error(&error) {
                Some(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::AGAIN) => Ok(None),
                _ => Err(error),
            },
            done => done.map(Some),
        }
    }

    fn bases(&self) -> (BorrowedFd<'_>, BorrowedFd<'_>) {
        let (from, to) = self.bases.as_ref().expect("set before any directory is copied");
        (from.as_fd(), to.as_fd())
    }

    fn run(&self) -> Result<(), CopyError> {
        let (helped, mine) = beside::both(|| self.work(), || self.work());
        mine.and(helped)
    }

    fn work(&self) -> Result<(), CopyError> {
        let mut dirents = vec![MaybeUninit::uninit(); 64 << 10];
        while let Some(below) = self.next() {
            let copied = self.directory(&below, &mut dirents);
            let mut state = self.lock();
            state.busy -= 1;
            state.stopped |= copied.is_err();
            state.dirs.push(below);
            drop(state);
            self.ready.notify_all();
            copied?;
        }
        Ok(())
    }

    fn next(&self) -> Option<Vec<u8>> {
        let mut state = self.lock();
        loop {
            if state.stopped {
                return None;
            }
            if let Some(below) = state.waiting.pop() {
                state.busy += 1;
                return Some(below);
            }
            if state.busy == 0 {
                return None;
            }
            state = self.ready.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn directory(&self, below: &[u8], dirents: &mut [MaybeUninit<u8>]) -> Result<(), CopyError> {
        let (from, to) = self.bases();
        let Some(from) =
            self.unless_gone(walk::open_dir_below_as(self.access, from, below)).map_err(self.error("open", below))?
        else {
            return Ok(());
        };
        let to = walk::open_dir_below(to, below).map_err(self.error("open", below))?;
        let ends = Ends { from: from.as_fd(), to: to.as_fd(), below };
        for name in walk::sorted_names(ends.from, dirents).map_err(self.error("read", below))? {
            let path = join(below, &name.bytes);
            let stat = self.unless_gone(walk::lstat_at(ends.from, &name.bytes)).map_err(self.error("stat", &path))?;
            let Some(stat) = stat else { continue };
            let identity = (stat.dev, stat.ino);
            if stat.kind() == ObjectKind::Directory && self.leave.absent.contains(&identity) {
                continue;
            }
            if self.leave.source == Source::Live && !may_be_read(&ends, &name.bytes, &stat) {
                continue;
            }
            if stat.kind() == ObjectKind::Directory {
                mkdirat(ends.to, &*name.bytes, Mode::RWXU)
                    .map_err(|errno| self.error("create", &path)(errno.into()))?;
                let mut state = self.lock();
                if self.leave.hollow.contains(&identity) {
                    // Only its mode and times are copied.
                    state.dirs.push(path);
                } else {
                    state.waiting.push(path);
                }
                drop(state);
                self.ready.notify_one();
            } else {
                self.entry(&ends, &name.bytes, &name.bytes, &stat)?;
            }
        }
        Ok(())
    }

    fn entry(&self, ends: &Ends<'_>, from: &[u8], to: &[u8], stat: &Stat) -> Result<(), CopyError> {
        let path = join(ends.below, from);
        if stat.nlink > 1 && self.is_further_name(&path, stat) {
            return Ok(());
        }
        let metadata =
            Metadata { mode: stat.permissions(), owner: (stat.uid, stat.gid), mtime: stat.mtime, xattrs: &[] };
        match stat.kind() {
            ObjectKind::File => return self.file(ends, from, to),
            ObjectKind::Symlink => {
                let target = walk::link_target(ends.from, from);
                let Some(target) = self.unless_gone(target).map_err(self.error("copy", &path))? else { return Ok(()) };
                metadata.make_symlink(&target, ends.to, to).map_err(self.error("copy", &path))?;
            }
            ObjectKind::Fifo => metadata.make_fifo(ends.to, to).map_err(self.error("copy", &path))?,
            ObjectKind::Directory | ObjectKind::Socket | ObjectKind::Device => {
                use std::os::unix::ffi::OsStringExt as _;
                self.lock().report.skipped.push(std::ffi::OsString::from_vec(path).into());
                return Ok(());
            }
        }
        self.lock().report.files += 1;
        Ok(())
    }

    /// Whether an object was copied under another name; then this one is linked to it at the end.
    fn is_further_name(&self, path: &[u8], stat: &Stat) -> bool {
        let mut state = self.lock();
        let identity = (stat.dev, stat.ino);
        let first = state.first_names.get(&identity).cloned();
        match first {
            Some(first) => state.links.push((first, path.to_vec())),
            None => {
                state.first_names.insert(identity, path.to_vec());
                return false;
            }
        }
        true
    }

    fn file(&self, ends: &Ends<'_>, from: &[u8], to: &[u8]) -> Result<(), CopyError> {
        let path = join(ends.below, from);
        let copied = self.unless_gone(copy_file(self.access, ends, from, to)).map_err(self.error("copy", &path))?;
        let Some(copied) = copied else { return Ok(()) };
        let mut state = self.lock();
        state.report.files += 1;
        state.report.bytes += copied.0;
        state.report.reflinked += u64::from(copied.1 == CopiedBy::Reflink);
        Ok(())
    }

    /// Gives files their further names, once all first names are there.
    fn link_again(&self) -> Result<(), CopyError> {
        let links = std::mem::take(&mut self.lock().links);
        let (_, base) = self.bases();
        for (first, further) in links {
            let link = || -> io::Result<()> {
                let (first_dir, first_name) = split(&first);
                let (dir, name) = split(&further);
                let first_dir = walk::open_dir_below(base, first_dir)?;
                let dir = walk::open_dir_below(base, dir)?;
                Ok(linkat(first_dir, first_name, dir, name, AtFlags::empty())?)
            };
            let linked = self.unless_gone(link()).map_err(self.error("link", &further))?;
            self.lock().report.files += u64::from(linked.is_some());
        }
        Ok(())
    }

    /// Modes and times of directories, innermost first: what is made in a directory changes its time, and a
    /// directory without write permission could not be filled.
    fn finish_dirs(&self) -> Result<(), CopyError> {
        let mut dirs = std::mem::take(&mut self.lock().dirs);
        dirs.sort_unstable();
        let (from, to) = self.bases();
        for below in dirs.iter().rev() {
            let apply = || -> io::Result<()> {
                let from = walk::open_dir_below_as(self.access, from, below)?;
                let to = walk::open_dir_below(to, below)?;
                let stat = walk::stat_of(&from)?;
                let xattrs = xattr::read_all(from.as_fd())?;
                let owner = (stat.uid, stat.gid);
                Metadata { mode: stat.permissions(), owner, mtime: stat.mtime, xattrs: &xattrs }.apply_to(to.as_fd())
            };
            self.unless_gone(apply()).map_err(self.error("finish", below))?;
        }
        Ok(())
    }

    fn finish(self) -> CopyReport {
        let mut report = self.state.into_inner().unwrap_or_else(PoisonError::into_inner).report;
        report.skipped.sort_unstable();
        report
    }
}

/// Whether a file's content, or a directory's names and what they lead to, may be read. Most are their owner's and say so.
fn may_be_read(ends: &Ends<'_>, name: &[u8], stat: &Stat) -> bool {
    use rustix::fs::{Access, accessat};
    let rights = match stat.kind() {
        ObjectKind::File => Access::READ_OK,
        ObjectKind::Directory => Access::READ_OK | Access::EXEC_OK,
        _ => return true,
    };
    let open_to_all = if stat.kind() == ObjectKind::File { 0o444 } else { 0o555 };
    stat.permissions() & open_to_all == open_to_all || accessat(ends.from, name, rights, AtFlags::EACCESS).is_ok()
}

fn copy_file(access: Access, ends: &Ends<'_>, from: &[u8], to: &[u8]) -> io::Result<(u64, CopiedBy)> {
    let source = File::from(walk::open_file_as(access, ends.from, from)?);
    let stat = walk::stat_of(&source)?;
    if stat.kind() != ObjectKind::File {
        return Err(rustix::io::Errno::AGAIN.into());
    }
    let target = create_file(ends.to, to)?;
    let copied_by = copy_content(&source, &target, stat.size, stat.is_sparse())?;
    let xattrs = xattr::read_all(source.as_fd())?;
    let owner = (stat.uid, stat.gid);
    Metadata { mode: stat.permissions(), owner, mtime: stat.mtime, xattrs: &xattrs }.apply_to(target.as_fd())?;
    Ok((stat.size, copied_by))
}

fn join(dir: &[u8], name: &[u8]) -> Vec<u8> {
    if dir.is_empty() { name.to_vec() } else { [dir, b"/", name].concat() }
}

fn split(path: &[u8]) -> (&[u8], &[u8]) {
    memchr::memrchr(b'/', path).map_or((b"", path), |at| (&path[..at], &path[at + 1..]))
}

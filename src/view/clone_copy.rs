//! The private copy behind a clone view: how it is made, and how what an agent changed in it becomes an upper layer like
//! that of an overlay.
//!
//! What stat says of every entry of the fresh copy is remembered; after the agent an entry whose stat is the same was not
//! touched. Changed and new entries are moved into the layer, what is gone gets a whiteout. Where the copy is still
//! needed (verify commands run in it), copies are put back.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::CWD;

use crate::sys::copy_tree::{self, Leave};
use crate::sys::metadata::Metadata;
use crate::sys::overlay_layer::{Whiteouts, make_whiteout, mark_opaque};
use crate::sys::walk::{self, Access, ObjectKind, Stat};
use crate::sys::xattr;

/// What stat said of a fresh copy, by path.
#[derive(Debug, Default)]
pub struct CopyBase {
    entries: HashMap<Vec<u8>, Stat>,
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

fn failed(step: &'static str, path: &Path) -> impl FnOnce(io::Error) -> CopyError {
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
    let mut leave = Leave { absent: absent.collect(), hollow: Vec::new() };
    for inside in &left_out.hollow {
        let path = from.join(inside);
        let stat = walk::lstat_at(CWD, path.as_os_str().as_bytes()).map_err(failed("cannot look at", &path))?;
        if stat.kind() == ObjectKind::Directory {
            leave.hollow.push((stat.dev, stat.ino));
        }
    }
    copy_tree::copy_tree_leaving(from, to, Access::AsIs, &leave)?;
    if hollow == Hollow::Linked {
        for inside in &left_out.hollow {
            let path = to.join(inside);
            let link = || {
                crate::sys::remove::remove_tree(&path)?;
                std::os::unix::fs::symlink(from.join(inside), &path)
            };
            link().map_err(failed("cannot link", &path))?;
        }
    }
    amend(to).map_err(failed("cannot lay out the recorded snapshot in", to))?;
    let hollow = left_out.hollow.iter().map(|inside| inside.as_os_str().as_bytes().to_vec()).collect();
    let mut base = CopyBase { entries: HashMap::new(), hollow };
    base.remember(to)?;
    Ok(base)
}

impl CopyBase {
    fn is_hollow(&self, path: &[u8]) -> bool {
        self.hollow.iter().any(|hollow| hollow == path)
    }

    fn remember(&mut self, copy: &Path) -> Result<(), CopyError> {
        let root = open_root(copy)?;
        let mut buffer = vec![MaybeUninit::uninit(); 64 << 10];
        let mut waiting = vec![Vec::new()];
        while let Some(dir) = waiting.pop() {
            let look = || -> io::Result<Vec<(Vec<u8>, Stat)>> {
                let opened = walk::open_dir_below_as(Access::Own, root.as_fd(), &dir)?;
                let names = walk::sorted_names(opened.as_fd(), &mut buffer)?;
                names
                    .iter()
                    .map(|name| Ok((join(&dir, &name.bytes), walk::lstat_at(opened.as_fd(), &name.bytes)?)))
                    .collect()
            };
            for (path, stat) in look_at(look, copy, &dir)? {
                if stat.kind() == ObjectKind::Directory && !self.is_hollow(&path) {
                    waiting.push(path.clone());
                }
                self.entries.insert(path, stat);
            }
        }
        Ok(())
    }
}

fn look_at<T>(look: impl FnOnce() -> io::Result<T>, copy: &Path, dir: &[u8]) -> Result<T, CopyError> {
    look().map_err(failed("cannot read", &copy.join(OsStr::from_bytes(dir))))
}

fn open_root(copy: &Path) -> Result<OwnedFd, CopyError> {
    walk::open_dir_itself(copy.as_os_str().as_bytes()).map_err(failed("cannot open", copy))
}

/// Whether the copy is still needed after the harvest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Afterwards {
    /// Verify commands run in it.
    Needed,
    /// Nobody looks at it again.
    Done,
}

/// Moves what was changed in a copy into a layer, which must not be there yet.
pub fn harvest(copy: &Path, base: &CopyBase, upper: &Path, afterwards: Afterwards) -> Result<(), CopyError> {
    let mut harvest = Harvest { copy, base, upper, made: Vec::new(), modes: HashMap::new(), moved: Vec::new() };
    fs::DirBuilder::new().mode(0o700).create(upper).map_err(failed("cannot make", upper))?;
    harvest.run()?;
    if afterwards == Afterwards::Needed {
        for path in &harvest.moved {
            let (from, to) = (harvest.host(upper, path), harvest.host(copy, path));
            copy_tree::copy_tree(&from, &to, Access::Own)?;
        }
    }
    harvest.finish_directories()
}

struct Harvest<'a> {
    copy: &'a Path,
    base: &'a CopyBase,
    upper: &'a Path,
    /// Directories made in the layer, outermost first.
    made: Vec<Vec<u8>>,
    /// The modes they will have.
    modes: HashMap<Vec<u8>, u32>,
    /// What was moved.
    moved: Vec<Vec<u8>>,
}

impl Harvest<'_> {
    fn host(&self, root: &Path, path: &[u8]) -> PathBuf {
        root.join(OsStr::from_bytes(path))
    }

    fn run(&mut self) -> Result<(), CopyError> {
        let root = open_root(self.copy)?;
        let mut gone: HashMap<&[u8], Vec<&[u8]>> = HashMap::new();
        for path in self.base.entries.keys() {
            let (dir, name) = split(path);
            gone.entry(dir).or_default().push(name);
        }
        let mut buffer = vec![MaybeUninit::uninit(); 64 << 10];
        let mut waiting = vec![Vec::new()];
        while let Some(dir) = waiting.pop() {
            let opened = look_at(|| walk::open_dir_below_as(Access::Own, root.as_fd(), &dir), self.copy, &dir)?;
            let names = look_at(|| walk::sorted_names(opened.as_fd(), &mut buffer), self.copy, &dir)?;
            for name in &names {
                let path = join(&dir, &name.bytes);
                let stat = look_at(|| walk::lstat_at(opened.as_fd(), &name.bytes), self.copy, &path)?;
                if self.take(&path, &stat)? == Taken::Below {
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

    /// Looks at one entry of the copy as it is now.
    fn take(&mut self, path: &[u8], now: &Stat) -> Result<Taken, CopyError> {
        if self.base.is_hollow(path) {
            return Ok(Taken::Whole);
        }
        let was = self.base.entries.get(path);
        let was_directory = was.filter(|was| was.kind() == ObjectKind::Directory);
        if now.kind() == ObjectKind::Directory && was_directory.is_some_and(|was| was.ino != now.ino) {
            // Another directory has taken its place: nothing that stood in it is there unless it is in the new one.
            self.move_over(path, now)?;
            self.note_replaced(path, now)?;
            return Ok(Taken::Whole);
        }
        if now.kind() == ObjectKind::Directory && was_directory.is_some() {
            if was.is_some_and(|was| (was.mode, was.uid, was.gid, was.ctime) != (now.mode, now.uid, now.gid, now.ctime))
            {
                self.make_directory(path)?;
            }
            return Ok(Taken::Below);
        }
        if was.is_none_or(|was| !was.same_as(now)) {
            self.move_over(path, now)?;
        }
        Ok(Taken::Whole)
    }

    fn move_over(&mut self, path: &[u8], now: &Stat) -> Result<(), CopyError> {
        let (dir, _) = split(path);
        self.make_directory(dir)?;
        let (from, to) = (self.host(self.copy, path), self.host(self.upper, path));
        let moved = match fs::rename(&from, &to) {
            // A directory that its owner may not write to: its `..` changes.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied && now.kind() == ObjectKind::Directory => {
                fs::set_permissions(&from, fs::Permissions::from_mode(now.permissions() | 0o700))
                    .and_then(|()| fs::rename(&from, &to))
                    .and_then(|()| fs::set_permissions(&to, fs::Permissions::from_mode(now.permissions())))
            }
            moved => moved,
        };
        moved.map_err(failed("cannot move", &from))?;
        self.moved.push(path.to_vec());
        Ok(())
    }

    fn white_out(&mut self, path: &[u8]) -> Result<(), CopyError> {
        let (dir, _) = split(path);
        self.make_directory(dir)?;
        let place = self.host(self.upper, path);
        let (_, name) = split(path);
        let above = place.parent().unwrap_or(self.upper);
        walk::open_dir_itself(above.as_os_str().as_bytes())
            .and_then(|above| make_whiteout(above.as_fd(), name, Whiteouts::AsPossible))
            .map_err(failed("cannot note the removal at", &place))
    }

    /// Another directory has taken the place of one that was there.
    fn note_replaced(&mut self, path: &[u8], now: &Stat) -> Result<(), CopyError> {
        let place = self.host(self.upper, path);
        let mode = now.permissions();
        // Who may not write to it may not note anything on it.
        let lift = |to: u32| match mode & 0o700 {
            0o700 => Ok(()),
            _ => fs::set_permissions(&place, fs::Permissions::from_mode(to)),
        };
        lift(mode | 0o700)
            .and_then(|()| walk::open_dir_itself(place.as_os_str().as_bytes()))
            .and_then(|dir| mark_opaque(dir.as_fd()))
            .and_then(|()| lift(mode))
            .map_err(failed("cannot note the replacement at", &place))
    }

    /// The directory of a path in the layer, with those above it; open to its owner until the end.
    fn make_directory(&mut self, path: &[u8]) -> Result<(), CopyError> {
        if path.is_empty() {
            return Ok(());
        }
        let place = self.host(self.upper, path);
        if place.symlink_metadata().is_ok() {
            return Ok(());
        }
        let (dir, _) = split(path);
        self.make_directory(dir)?;
        fs::DirBuilder::new().mode(0o700).create(&place).map_err(failed("cannot make", &place))?;
        // What is moved out of it must be allowed to go.
        let source = self.host(self.copy, path);
        let mode = fs::metadata(&source).map_err(failed("cannot look at", &source))?.permissions().mode() & 0o7777;
        if mode & 0o300 != 0o300 {
            fs::set_permissions(&source, fs::Permissions::from_mode(mode | 0o700))
                .map_err(failed("cannot open", &source))?;
        }
        self.made.push(path.to_vec());
        self.modes.insert(path.to_vec(), mode);
        Ok(())
    }

    /// Modes, owners, attributes and times of the layer's directories, innermost first.
    fn finish_directories(self) -> Result<(), CopyError> {
        for path in self.made.iter().rev() {
            let (from, to) = (self.host(self.copy, path), self.host(self.upper, path));
            let mode = self.modes.get(path).copied().unwrap_or(0o755);
            let finish = || -> io::Result<()> {
                let source = walk::open_dir_itself(from.as_os_str().as_bytes())?;
                let stat = walk::stat_of(&source)?;
                let xattrs = xattr::read_all(source.as_fd())?;
                let target = walk::open_dir_itself(to.as_os_str().as_bytes())?;
                let owner = (stat.uid, stat.gid);
                Metadata { mode, owner, mtime: stat.mtime, xattrs: &xattrs }.apply_to(target.as_fd())?;
                fs::set_permissions(&from, fs::Permissions::from_mode(mode))
            };
            finish().map_err(failed("cannot finish", &to))?;
        }
        Ok(())
    }
}

/// How much of an entry was dealt with.
#[derive(PartialEq, Eq)]
enum Taken {
    /// All of it.
    Whole,
    /// It is a directory that was there before: what is in it comes next.
    Below,
}

fn join(dir: &[u8], name: &[u8]) -> Vec<u8> {
    if dir.is_empty() { name.to_vec() } else { [dir, b"/", name].concat() }
}

fn split(path: &[u8]) -> (&[u8], &[u8]) {
    memchr::memrchr(b'/', path).map_or((b"", path), |at| (&path[..at], &path[at + 1..]))
}

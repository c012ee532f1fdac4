//! Reading directory trees by descriptor: stat, names of a directory, and paths longer than `PATH_MAX`.
//!
//! No component below the base is ever followed if it is a symbolic link, and nothing but a directory or a regular
//! file is ever opened (opening a fifo or a device can hang or act).

use std::ffi::{CStr, CString};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, RawDir, ResolveFlags, fstat, openat, openat2, readlinkat, statat,
};
use rustix::io::Errno;

/// Longest path handed to one system call; `PATH_MAX` is 4096 with the NUL (`limits.h`).
const CHUNK_BYTES: usize = 3072;

/// What stat(2) says, in the types used here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    /// Device.
    pub dev: u64,
    /// Inode.
    pub ino: u64,
    /// Number of hard links.
    pub nlink: u64,
    /// File type and permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Apparent size in bytes.
    pub size: u64,
    /// Which device it is, if it is one.
    pub rdev: u64,
    /// Allocated bytes.
    pub allocated: u64,
    /// Last modification, seconds and nanoseconds.
    pub mtime: (i64, u32),
    /// Last change of the inode, seconds and nanoseconds.
    pub ctime: (i64, u32),
}

/// What an object is, the kinds that can be captured and the ones that cannot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ObjectKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A named pipe.
    Fifo,
    /// A socket.
    Socket,
    /// A block or character device, or something unheard of.
    Device,
}

impl Stat {
    /// What the object is.
    pub fn kind(&self) -> ObjectKind {
        match FileType::from_raw_mode(self.mode) {
            FileType::RegularFile => ObjectKind::File,
            FileType::Directory => ObjectKind::Directory,
            FileType::Symlink => ObjectKind::Symlink,
            FileType::Fifo => ObjectKind::Fifo,
            FileType::Socket => ObjectKind::Socket,
            _ => ObjectKind::Device,
        }
    }

    /// The permission bits, `0o7777` at most.
    pub fn permissions(&self) -> u32 {
        self.mode & 0o7777
    }

    /// Whether it is a character device 0:0, which says in the layer of an overlay that something is gone; a block device
    /// of that number says nothing.
    pub fn is_whiteout(&self) -> bool {
        FileType::from_raw_mode(self.mode) == FileType::CharacterDevice && self.rdev == 0
    }

    /// Whether fewer bytes are allocated than the size says.
    pub fn is_sparse(&self) -> bool {
        self.kind() == ObjectKind::File && self.allocated < self.size
    }

    /// Whether this is the same object with, as far as stat can tell, the same content and metadata. The access
    /// time and the link count do not matter (a new link shows in the ctime).
    pub fn same_as(&self, other: &Self) -> bool {
        let key = |stat: &Self| (stat.dev, stat.ino, stat.mode, stat.uid, stat.gid, stat.size, stat.mtime, stat.ctime);
        key(self) == key(other)
    }
}

#[expect(clippy::unnecessary_cast, reason = "the field types differ between architectures")]
fn from_raw(raw: &rustix::fs::Stat) -> Stat {
    Stat {
        dev: raw.st_dev as u64,
        ino: raw.st_ino as u64,
        nlink: raw.st_nlink as u64,
        mode: raw.st_mode as u32,
        uid: raw.st_uid as u32,
        gid: raw.st_gid as u32,
        size: raw.st_size as u64,
        rdev: raw.st_rdev as u64,
        allocated: raw.st_blocks as u64 * 512,
        mtime: (raw.st_mtime as i64, raw.st_mtime_nsec as u32),
        ctime: (raw.st_ctime as i64, raw.st_ctime_nsec as u32),
    }
}

/// Stat of what `path` names, relative to `base`; a final symbolic link is not followed.
pub fn lstat_at(base: BorrowedFd<'_>, path: &[u8]) -> io::Result<Stat> {
    Ok(from_raw(&statat(base, path, AtFlags::SYMLINK_NOFOLLOW)?))
}

/// The same, following a final symbolic link.
pub fn stat_at(base: BorrowedFd<'_>, path: &[u8]) -> io::Result<Stat> {
    Ok(from_raw(&statat(base, path, AtFlags::empty())?))
}

/// Stat of an open object.
pub fn stat_of(fd: impl AsFd) -> io::Result<Stat> {
    Ok(from_raw(&fstat(fd)?))
}

/// The target of a symbolic link.
pub fn link_target(base: BorrowedFd<'_>, name: &[u8]) -> io::Result<Vec<u8>> {
    Ok(readlinkat(base, name, Vec::new())?.into_bytes())
}

/// The text of a path as the kernel wants it; a NUL inside cannot be a file name.
pub fn c_path(path: &[u8]) -> io::Result<CString> {
    CString::new(path).map_err(|_| io::Error::from(Errno::INVAL))
}

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);
const REGULAR: OFlags =
    OFlags::RDONLY.union(OFlags::NOFOLLOW).union(OFlags::NONBLOCK).union(OFlags::NOCTTY).union(OFlags::CLOEXEC);

/// Opens the directory at `path` below `base`, however long the path; empty means `base` itself. No component may
/// be a symbolic link (`ELOOP`).
pub fn open_dir_below(base: BorrowedFd<'_>, path: &[u8]) -> io::Result<OwnedFd> {
    let mut rest = path;
    let mut reached: Option<OwnedFd> = None;
    loop {
        let (chunk, after) = split_chunk(rest);
        let from = reached.as_ref().map_or(base, AsFd::as_fd);
        let opened = open_dir_plain(from, if chunk.is_empty() { b"." } else { chunk })?;
        if after.is_empty() {
            return Ok(opened);
        }
        reached = Some(opened);
        rest = after;
    }
}

/// Splits off as many leading components as fit one system call.
pub(super) fn split_chunk(path: &[u8]) -> (&[u8], &[u8]) {
    if path.len() <= CHUNK_BYTES {
        return (path, &[]);
    }
    // A component has at most 255 bytes (NAME_MAX), so a slash is always found.
    match memchr::memrchr(b'/', &path[..CHUNK_BYTES]) {
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (path, &[]),
    }
}

/// One `openat2` that refuses links in every component; where the call is missing (before Linux 5.6) or filtered,
/// component by component.
fn open_dir_plain(base: BorrowedFd<'_>, path: &[u8]) -> io::Result<OwnedFd> {
    static MISSING: AtomicBool = AtomicBool::new(false);
    if !MISSING.load(Ordering::Relaxed) {
        match openat2(base, path, DIRECTORY, Mode::empty(), ResolveFlags::NO_SYMLINKS) {
            Err(Errno::NOSYS | Errno::PERM) => MISSING.store(true, Ordering::Relaxed),
            other => return Ok(other?),
        }
    }
    let mut reached: Option<OwnedFd> = None;
    for component in path.split(|byte| *byte == b'/') {
        let from = reached.as_ref().map_or(base, AsFd::as_fd);
        reached = Some(openat(from, component, DIRECTORY | OFlags::NOFOLLOW, Mode::empty())?);
    }
    reached.ok_or_else(|| Errno::NOENT.into())
}

/// Opens what is, or was a moment ago, a regular file. The caller must fstat before it trusts that.
pub fn open_file_at(dir: BorrowedFd<'_>, name: &[u8]) -> io::Result<OwnedFd> {
    Ok(openat(dir, name, REGULAR, Mode::empty())?)
}

/// How to meet an object that its owner may not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// As it is: an error.
    AsIs,
    /// The tree is one's own to do with as one likes: its mode is lifted for the moment of opening.
    Own,
}

/// [`open_file_at`] under an [`Access`].
pub fn open_file_as(access: Access, dir: BorrowedFd<'_>, name: &[u8]) -> io::Result<OwnedFd> {
    match open_file_at(dir, name) {
        Err(error) if access == Access::Own && error.kind() == io::ErrorKind::PermissionDenied => {
            lifted(dir, name, 0o400, || open_file_at(dir, name))
        }
        opened => opened,
    }
}

/// [`open_dir_below`] under an [`Access`]. A directory that may not be searched stays closed: what is in it could not
/// be opened once its mode is back.
pub fn open_dir_below_as(access: Access, base: BorrowedFd<'_>, path: &[u8]) -> io::Result<OwnedFd> {
    match open_dir_below(base, path) {
        Err(error) if access == Access::Own && error.kind() == io::ErrorKind::PermissionDenied => {
            let (above, name) =
                memchr::memrchr(b'/', path).map_or((&b""[..], path), |at| (&path[..at], &path[at + 1..]));
            let parent = open_dir_below(base, above)?;
            let name = if name.is_empty() { b"." } else { name };
            lifted(parent.as_fd(), name, 0o500, || open_dir_below(parent.as_fd(), name))
        }
        opened => opened,
    }
}

/// Opens with these permission bits added, and puts the mode back. The object is held by a descriptor: a name that is
/// swapped meanwhile, for a link to somewhere else, is not what is changed.
fn lifted(
    dir: BorrowedFd<'_>,
    name: &[u8],
    bits: u32,
    open: impl FnOnce() -> io::Result<OwnedFd>,
) -> io::Result<OwnedFd> {
    let held = openat(dir, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
    let mode = stat_of(&held)?.permissions();
    let itself = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&held));
    rustix::fs::chmod(&itself, Mode::from_raw_mode(mode | bits))?;
    let opened = open();
    rustix::fs::chmod(&itself, Mode::from_raw_mode(mode))?;
    opened
}

/// Opens a directory by path, following links: a root named on the command line.
pub fn open_dir(path: &[u8]) -> io::Result<OwnedFd> {
    Ok(openat(CWD, path, DIRECTORY, Mode::empty())?)
}

/// Opens a directory by path; the last component must not be a link.
pub fn open_dir_itself(path: &[u8]) -> io::Result<OwnedFd> {
    open_dir_itself_at((CWD, path))
}

/// The same for a name in an open directory.
pub fn open_dir_itself_at((dir, name): super::rename::Spot<'_>) -> io::Result<OwnedFd> {
    Ok(openat(dir, name, DIRECTORY | OFlags::NOFOLLOW, Mode::empty())?)
}

/// Opens a file by path, following links. The caller must have seen that it is regular, and must look again.
pub fn open_file(path: &[u8]) -> io::Result<OwnedFd> {
    Ok(openat(CWD, path, REGULAR.difference(OFlags::NOFOLLOW), Mode::empty())?)
}

/// One name of a directory.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Name {
    /// The bytes, without a slash.
    pub bytes: Box<[u8]>,
}

/// The names in an open directory, `.` and `..` left out, sorted by bytes. `buffer` is scratch space.
pub fn sorted_names(dir: BorrowedFd<'_>, buffer: &mut [MaybeUninit<u8>]) -> io::Result<Vec<Name>> {
    let mut names = Vec::new();
    let mut entries = RawDir::new(dir, buffer);
    while let Some(entry) = entries.next() {
        let entry = entry?;
        let name: &CStr = entry.file_name();
        if !matches!(name.to_bytes(), b"." | b"..") {
            names.push(Name { bytes: name.to_bytes().into() });
        }
    }
    names.sort_unstable();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_paths_are_split_between_components() {
        let long = [b"abc".as_slice(); 2000].join(&b'/');
        let mut rest = long.as_slice();
        let mut parts = Vec::new();
        while !rest.is_empty() {
            let (chunk, after) = split_chunk(rest);
            assert!(chunk.len() <= CHUNK_BYTES && !chunk.ends_with(b"/"));
            parts.push(chunk);
            rest = after;
        }
        assert_eq!(parts.join(&b'/'), long);
    }

    #[test]
    fn a_link_on_the_way_is_not_followed() {
        let dir = tempfile::tempdir().expect("directory");
        std::fs::create_dir_all(dir.path().join("real/inner")).expect("made");
        std::os::unix::fs::symlink("real", dir.path().join("link")).expect("linked");
        let base = std::fs::File::open(dir.path()).expect("opened");
        assert!(open_dir_below(base.as_fd(), b"real/inner").is_ok());
        assert!(open_dir_below(base.as_fd(), b"link/inner").is_err());
    }
}

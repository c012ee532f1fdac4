//! `Seen`: which object stood somewhere, and that it is still what was looked at.

use std::io::{self, Read as _};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use sha2::{Digest as _, Sha256};

use crate::model::{Digest, RelPath};
use crate::sys::rename::Spot;
use crate::sys::walk::{self, ObjectKind, Stat};
use crate::sys::{beneath, clock};

use super::below::{CountedAs, below};
use super::directories::{Beneath, split};
use super::error::is_unreachable;

/// How often an object that is being changed is looked at again before it is taken as it is.
const ROUNDS: u32 = 3;

/// Which object, and what it was like. The device is not part of it: its number may be another after a reboot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Inode.
    pub ino: u64,
    /// What it is.
    pub kind: ObjectKind,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Size in bytes; says nothing of a directory.
    pub size: u64,
    /// Last modification, seconds and nanoseconds.
    pub mtime: (i64, u32),
    /// Last change of the inode; compared where no rename happened in between. None: never compared.
    pub ctime: Option<(i64, u32)>,
    /// Of a directory, a hash over everything below it; none: only the directory itself counts.
    pub below: Option<Digest>,
    /// SHA-256 of a file's content. Given where the times alone cannot be trusted (the file was last changed within a
    /// tick of being looked at), and then always compared.
    pub content: Option<Digest>,
}

impl Seen {
    /// What a stat tells; of a directory nothing below it.
    pub fn of(stat: &Stat) -> Self {
        Self {
            ino: stat.ino,
            kind: stat.kind(),
            mode: stat.permissions(),
            uid: stat.uid,
            gid: stat.gid,
            size: stat.size,
            mtime: stat.mtime,
            ctime: Some(stat.ctime),
            below: None,
            content: None,
        }
    }

    /// Whether a stat is of this very object.
    pub(super) fn is_object(&self, stat: &Stat) -> bool {
        (self.ino, self.kind) == (stat.ino, stat.kind())
    }

    /// Whether a stat says the same, but for the ctime.
    pub(super) fn fits(&self, stat: &Stat) -> bool {
        let attributes = (self.mode, self.uid, self.gid) == (stat.permissions(), stat.uid, stat.gid);
        attributes && self.has_content_of(stat)
    }

    /// Whether it is this object with, as far as stat can tell, the same content.
    pub(super) fn has_content_of(&self, stat: &Stat) -> bool {
        let size = self.kind == ObjectKind::Directory || self.size == stat.size;
        self.is_object(stat) && size && self.mtime == stat.mtime
    }

    /// Whether what lies deeper than a stat is the same: everything below a directory, the content of a file if it
    /// was given.
    pub(super) fn is_deeply(&self, spot: Spot<'_>, counted_as: CountedAs<'_>) -> io::Result<bool> {
        let same = match (self.below, self.content) {
            (Some(wanted), _) => below(spot, counted_as).map(|found| found.digest == wanted),
            (None, Some(wanted)) => content(spot).map(|found| found == Some(wanted)),
            (None, None) => Ok(true),
        };
        match same {
            // Something in it went away, or was retyped, while it was being looked at.
            Err(error) if is_unreachable(&error) => Ok(false),
            // A file that may not be read: what stat says has to do. Its mode is not lifted, the file may be live.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied && self.below.is_none() => Ok(true),
            same => same,
        }
    }
}

/// SHA-256 of a regular file; none if it is something else by now.
fn content(spot: Spot<'_>) -> io::Result<Option<Digest>> {
    let mut file = std::fs::File::from(walk::open_file_at(spot.0, spot.1)?);
    if walk::stat_of(&file)?.kind() != ObjectKind::File {
        return Ok(None);
    }
    let mut sum = Sha256::new();
    let mut buffer = vec![0_u8; 128 << 10];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(Some(Digest(sum.finalize().into()))),
            len => sum.update(&buffer[..len]),
        }
    }
}

/// Stat of a name in an open directory; none where nothing is.
pub(super) fn look(spot: Spot<'_>) -> io::Result<Option<Stat>> {
    match walk::lstat_at(spot.0, spot.1) {
        Ok(stat) => Ok(Some(stat)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Looks at many paths below one root, best in sorted order: directories stay open from one to the next.
#[derive(Debug)]
pub struct Observer {
    directories: Beneath<'static>,
}

impl Observer {
    /// Below this directory.
    pub fn below(root: OwnedFd) -> Self {
        Self { directories: Beneath::new(root, &[]) }
    }

    /// What stands at a path; none where nothing does, or what should lead there is no directory. A symbolic link on
    /// the way is an error (`ELOOP`).
    ///
    /// What was changed a moment ago is waited for (20 ms at most, once for all such paths), so that any later change
    /// shows in a time.
    pub fn observe(&mut self, path: &RelPath) -> io::Result<Option<Seen>> {
        let (dir, name) = split(path.as_bytes());
        match self.directories.at(dir) {
            Ok(dir) => settled((dir, name)),
            Err(error) if error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error()) => Err(error),
            Err(error) if is_unreachable(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// [`Observer::observe`] of one path.
pub fn observe(root: BorrowedFd<'_>, path: &RelPath) -> io::Result<Option<Seen>> {
    Observer::below(root.try_clone_to_owned()?).observe(path)
}

/// What stands at an absolute path: a staged object, which nobody else changes any more.
pub fn observe_at(path: &Path) -> io::Result<Option<Seen>> {
    let (dir, name) = split(path.as_os_str().as_bytes());
    let dir = match beneath::open_handle(if dir.is_empty() { b"/" } else { dir }) {
        Err(error) if is_unreachable(&error) => return Ok(None),
        opened => opened?,
    };
    observe_own((dir.as_fd(), name))
}

/// The same of a name in an open directory.
pub fn observe_own(spot: Spot<'_>) -> io::Result<Option<Seen>> {
    Ok(once(spot)?.map(|(seen, _)| seen))
}

fn settled(spot: Spot<'_>) -> io::Result<Option<Seen>> {
    let mut found = once(spot)?;
    for _ in 0..ROUNDS {
        match &found {
            Some((_, newest)) if clock::let_tick_pass(*newest) == clock::Tick::Awaited => found = once(spot)?,
            _ => break,
        }
    }
    Ok(found.map(|(seen, _)| seen))
}

/// One look, and the newest time in it.
fn once(spot: Spot<'_>) -> io::Result<Option<(Seen, (i64, u32))>> {
    let Some(stat) = look(spot)? else { return Ok(None) };
    let mut seen = Seen::of(&stat);
    let mut newest = stat.ctime.max(stat.mtime);
    if seen.kind == ObjectKind::Directory {
        let found = below(spot, &|stat| *stat)?;
        seen.below = Some(found.digest);
        newest = newest.max(found.newest);
    }
    Ok(Some((seen, newest)))
}

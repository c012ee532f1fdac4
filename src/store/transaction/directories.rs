//! Directories that stay open from one operation to the next: plans are sorted, so most operations need no new one.
//!
//! Below the root each directory is reached as [`crate::sys::beneath`] does it, and must be the one that was seen when
//! the plan was made (`ESTALE` otherwise): one that was moved away and replaced is not written to.

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::process::geteuid;

use crate::sys::held::Held;
use crate::sys::rename::Spot;
use crate::sys::{beneath, walk};

use super::parents::{self, Parent};

/// How many directories of a chain are held at once.
const CHAIN: usize = 32;

/// Everything for the owner.
const OWNERS: u32 = 0o700;

/// How many of the run's own directories are held at once.
const PLACES: usize = 8;

/// Splits a path into its directory (empty: none) and its name.
pub(super) fn split(path: &[u8]) -> (&[u8], &[u8]) {
    memchr::memrchr(b'/', path).map_or((b"", path), |at| (&path[..at], &path[at + 1..]))
}

/// The directories below a root, as a chain: each is below the one before.
#[derive(Debug)]
pub(super) struct Beneath<'a> {
    root: OwnedFd,
    expected: &'a [Parent],
    chain: Vec<(Vec<u8>, OwnedFd)>,
}

impl<'a> Beneath<'a> {
    /// `expected`, in path order, says which directories are known.
    pub(super) fn new(root: OwnedFd, expected: &'a [Parent]) -> Self {
        Self { root, expected, chain: Vec::new() }
    }

    /// The handle of a directory; empty means the root.
    pub(super) fn at(&mut self, dir: &[u8]) -> io::Result<BorrowedFd<'_>> {
        while self.chain.last().is_some_and(|(held, _)| !leads_to(held, dir)) {
            self.chain.pop();
        }
        if dir.is_empty() {
            return Ok(self.root.as_fd());
        }
        if self.chain.last().is_none_or(|(held, _)| held.len() != dir.len()) {
            let opened = match self.chain.last() {
                Some((held, above)) => beneath::open_beneath(above.as_fd(), &dir[held.len() + 1..])?,
                None => beneath::open_beneath(self.root.as_fd(), dir)?,
            };
            if let Some(parent) = parents::find(self.expected, dir)
                && walk::stat_of(&opened)?.ino != parent.ino
            {
                return Err(Errno::STALE.into());
            }
            if self.chain.len() == CHAIN {
                self.chain.remove(0);
            }
            self.chain.push((dir.to_vec(), opened));
        }
        let (_, held) = self.chain.last().ok_or(Errno::NOENT)?;
        Ok(held.as_fd())
    }

    /// The directory of a path, and the name in it.
    pub(super) fn spot<'s>(&'s mut self, path: &'s [u8]) -> io::Result<Spot<'s>> {
        let (dir, name) = split(path);
        Ok((self.at(dir)?, name))
    }

    /// Lets go of everything: from here on names are resolved anew.
    pub(super) fn forget(&mut self) {
        self.chain.clear();
    }

    /// The root itself.
    pub(super) fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }
}

/// Whether `held` is `dir`, or a directory on the way there.
fn leads_to(held: &[u8], dir: &[u8]) -> bool {
    dir.strip_prefix(held).is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
}

/// The directories of staged and displaced objects, by absolute path; the most recent first.
///
/// They are the run's own, so one that is closed (it is the staged self of a live directory that stays, and has what
/// will be its mode) is opened up for good.
#[derive(Debug, Default)]
pub(super) struct Places {
    recent: Vec<(Vec<u8>, OwnedFd)>,
}

impl Places {
    /// The directory of an absolute path, and the name in it.
    pub(super) fn spot<'s>(&'s mut self, path: &'s [u8]) -> io::Result<Spot<'s>> {
        let (dir, name) = split(path);
        match self.recent.iter().position(|(held, _)| held == dir) {
            Some(0) => {}
            Some(at) => self.recent[..=at].rotate_right(1),
            None => {
                let opened = open_own(if dir.is_empty() { b"/" } else { dir })?;
                self.recent.truncate(PLACES - 1);
                self.recent.insert(0, (dir.to_vec(), opened));
            }
        }
        let (_, held) = self.recent.first().ok_or(Errno::NOENT)?;
        Ok((held.as_fd(), name))
    }
}

fn open_own(path: &[u8]) -> io::Result<OwnedFd> {
    let opened = match beneath::open_handle(path) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => open_up(path),
        opened => opened,
    }?;
    open_one_up(opened.as_fd())?;
    Ok(opened)
}

/// Opens a directory, and up every closed one on the way.
fn open_up(path: &[u8]) -> io::Result<OwnedFd> {
    let mut here = beneath::open_handle(b"/")?;
    for name in path.split(|byte| *byte == b'/').filter(|name| !name.is_empty()) {
        open_one_up(here.as_fd())?;
        here = beneath::open_handle_at(here.as_fd(), name)?;
    }
    Ok(here)
}

/// Gives the owner everything in a directory that is one's own and closed.
fn open_one_up(dir: BorrowedFd<'_>) -> io::Result<()> {
    let user = geteuid();
    if user.is_root() {
        return Ok(());
    }
    let stat = walk::stat_of(dir)?;
    let closed = stat.uid == user.as_raw() && stat.permissions() & OWNERS != OWNERS;
    if closed { Held::directory(dir)?.set_mode(stat.permissions() | OWNERS) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_directory_is_the_right_one_in_whatever_order_they_are_asked_for() {
        let top = tempfile::tempdir().expect("directory");
        let names = ["a", "a/b", "a/b/c", "a-b", "ab", "z/y"];
        for name in names {
            std::fs::create_dir_all(top.path().join(name)).expect("made");
        }
        let root = beneath::open_handle(top.path().as_os_str().as_encoded_bytes()).expect("opened");
        let mut directories = Beneath::new(root, &[]);
        let mut places = Places::default();
        for turn in 0..names.len() * names.len() {
            let name = names[turn % names.len() * (turn / names.len()) % names.len()];
            use std::os::unix::fs::MetadataExt as _;
            let wanted = top.path().join(name).metadata().expect("stat").ino();
            let fd = directories.at(name.as_bytes()).expect("opened");
            assert_eq!(walk::stat_of(fd).expect("stat").ino, wanted);
            let file = top.path().join(name).join("x");
            let (dir, leaf) = places.spot(file.as_os_str().as_encoded_bytes()).expect("opened");
            assert_eq!((walk::stat_of(dir).expect("stat").ino, leaf), (wanted, &b"x"[..]));
        }
    }

    #[test]
    fn a_chain_longer_than_what_is_held_still_leads_down() {
        let top = tempfile::tempdir().expect("directory");
        let root = beneath::open_handle(top.path().as_os_str().as_encoded_bytes()).expect("opened");
        let mut directories = Beneath::new(root, &[]);
        let mut path = Vec::new();
        for level in 0..3 * CHAIN {
            if level > 0 {
                path.push(b'/');
            }
            path.push(b'd');
            let (dir, _) = split(&path);
            rustix::fs::mkdirat(directories.at(dir).expect("opened"), &b"d"[..], rustix::fs::Mode::RWXU).expect("made");
            directories.at(&path).expect("opened");
        }
        assert_eq!(directories.chain.len(), CHAIN);
    }
}

//! Seeing with the eyes of a caller: the paths it names, from its root and its working directory.

use std::fs;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, StatxAttributes, StatxFlags, fstatfs, openat, statat, statx};
use rustix::io::Errno;
use rustix::process::{chroot, fchdir};

/// `PATH_MAX`, with the NUL (`limits.h`).
const PATH_BYTES: usize = 4096;

/// Reads of another process fail as a whole where a page is missing, so they never cross into the next one.
const PAGE_BYTES: usize = 4096;

/// `OVERLAYFS_SUPER_MAGIC` (linux/magic.h).
const OVERLAY: u64 = 0x794c_7630;

/// A name in an open directory.
pub(super) struct Place {
    /// The directory.
    pub(super) parent: OwnedFd,
    /// Without a slash, and neither `.` nor `..`.
    pub(super) name: Vec<u8>,
}

impl Place {
    /// Whether something is mounted there. Nothing there: no.
    pub(super) fn is_mount_point(&self) -> rustix::io::Result<bool> {
        let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
        match statx(&self.parent, &*self.name, flags, StatxFlags::empty()) {
            Ok(stat) => Ok(stat.stx_attributes.contains(StatxAttributes::MOUNT_ROOT)),
            Err(Errno::NOENT) => Ok(false),
            Err(errno) => Err(errno),
        }
    }
}

/// Where this process stands, to come back to.
pub(super) struct Standpoint {
    root: OwnedFd,
    root_identity: RootIdentity,
    proc: OwnedFd,
}

type RootIdentity = (u32, u32, u64, u64);

impl Standpoint {
    /// The present one.
    pub(super) fn here() -> rustix::io::Result<Self> {
        let directory = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = openat(CWD, "/", directory, Mode::empty())?;
        let proc = openat(CWD, "/proc", directory, Mode::empty())?;
        Ok(Self { root_identity: identity(root.as_fd())?, root, proc })
    }

    /// Opens one of a thread's links in `/proc`: `root`, `cwd`, `fd/3`.
    fn open_link(&self, thread: u32, link: &str) -> rustix::io::Result<OwnedFd> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        openat(&self.proc, format!("{thread}/{link}"), flags, Mode::empty())
    }

    /// The effective user id for files of a thread, as seen from here.
    pub(super) fn user_of(&self, thread: u32) -> Option<u32> {
        let file =
            openat(&self.proc, format!("{thread}/status"), OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok()?;
        let status = std::io::read_to_string(fs::File::from(file)).ok()?;
        let ids = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
        ids.split_whitespace().nth(3)?.parse().ok()
    }
}

fn identity(root: BorrowedFd<'_>) -> rustix::io::Result<RootIdentity> {
    let stat = statx(root, "", AtFlags::EMPTY_PATH, StatxFlags::BASIC_STATS | StatxFlags::MNT_ID)?;
    Ok((stat.stx_dev_major, stat.stx_dev_minor, stat.stx_ino, stat.stx_mnt_id))
}

/// A thread that has named paths.
pub(super) struct Caller<'a> {
    standpoint: &'a Standpoint,
    thread: u32,
    /// Its root directory, where that is another than ours.
    root: Option<OwnedFd>,
}

impl<'a> Caller<'a> {
    pub(super) fn of(standpoint: &'a Standpoint, thread: u32) -> rustix::io::Result<Self> {
        let root = standpoint.open_link(thread, "root")?;
        let is_ours = identity(root.as_fd())? == standpoint.root_identity;
        Ok(Self { standpoint, thread, root: (!is_ours).then_some(root) })
    }

    /// The text at an address of its memory.
    pub(super) fn text_at(&self, address: u64) -> Option<Vec<u8>> {
        let mut text = Vec::new();
        let mut address = usize::try_from(address).ok()?;
        while text.len() < PATH_BYTES {
            let mut page = [0_u8; PAGE_BYTES];
            let wanted = PAGE_BYTES - address % PAGE_BYTES;
            let read = self.read(address, &mut page[..wanted])?;
            match page[..read].iter().position(|byte| *byte == 0) {
                Some(end) => {
                    text.extend_from_slice(&page[..end]);
                    return Some(text);
                }
                None => text.extend_from_slice(&page[..read]),
            }
            address = address.checked_add(read)?;
        }
        None
    }

    fn read(&self, address: usize, into: &mut [u8]) -> Option<usize> {
        let local = libc::iovec { iov_base: into.as_mut_ptr().cast(), iov_len: into.len() };
        let remote = libc::iovec { iov_base: std::ptr::without_provenance_mut(address), iov_len: into.len() };
        let thread = libc::pid_t::try_from(self.thread).ok()?;
        // SAFETY: the kernel writes at most `iov_len` bytes to `into`, and only reads the other process.
        let read = unsafe { libc::process_vm_readv(thread, &raw const local, 1, &raw const remote, 1, 0) };
        usize::try_from(read).ok().filter(|read| *read > 0)
    }

    /// What kind of object a path names; a final link is not followed.
    pub(super) fn kind(&self, base: i32, path: &[u8]) -> rustix::io::Result<FileType> {
        let base = self.base(base, path)?;
        self.at_its_root(|| statat(fd_of(base.as_ref()), path, AtFlags::SYMLINK_NOFOLLOW))
            .map(|stat| FileType::from_raw_mode(stat.st_mode))
    }

    /// The directory and the name in it that a path means.
    pub(super) fn place(&self, base: i32, path: &[u8]) -> rustix::io::Result<Place> {
        let base = self.base(base, path)?;
        let path = path.trim_suffix_slashes();
        let (above, name) = match memchr::memrchr(b'/', path) {
            Some(at) => (&path[..=at], &path[at + 1..]),
            None => (&b"."[..], path),
        };
        if matches!(name, b"" | b"." | b"..") {
            return Err(Errno::INVAL);
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let parent = self.at_its_root(|| openat(fd_of(base.as_ref()), above, flags, Mode::empty()))?;
        Ok(Place { parent, name: name.to_vec() })
    }

    /// What a path starts from; nothing where it starts from the root.
    fn base(&self, base: i32, path: &[u8]) -> rustix::io::Result<Option<OwnedFd>> {
        match path.first() {
            None => Err(Errno::NOENT),
            Some(b'/') => Ok(None),
            Some(_) if base == libc::AT_FDCWD => self.standpoint.open_link(self.thread, "cwd").map(Some),
            Some(_) => self.standpoint.open_link(self.thread, &format!("fd/{base}")).map(Some),
        }
    }

    /// Runs `body` with the caller's root, so that absolute links and `..` mean to it what they mean to the caller.
    fn at_its_root<T>(&self, body: impl FnOnce() -> rustix::io::Result<T>) -> rustix::io::Result<T> {
        let Some(root) = &self.root else { return body() };
        fchdir(root)?;
        chroot(".")?;
        let result = body();
        fchdir(&self.standpoint.root)?;
        chroot(".")?;
        result
    }
}

fn fd_of(base: Option<&OwnedFd>) -> BorrowedFd<'_> {
    base.map_or(CWD, AsFd::as_fd)
}

/// Paths as bytes.
trait PathBytes {
    fn trim_suffix_slashes(&self) -> &[u8];
}

impl PathBytes for [u8] {
    fn trim_suffix_slashes(&self) -> &[u8] {
        let end = self.iter().rposition(|byte| *byte != b'/').map_or(0, |last| last + 1);
        &self[..end]
    }
}

/// Whether two places are in one mounted overlay: only there can a rename fail that a move can make up for. Across
/// filesystems and mounts EXDEV is the truth.
pub(super) fn share_an_overlay(one: &Place, other: &Place) -> rustix::io::Result<bool> {
    let mount = |place: &Place| {
        let stat = statx(&place.parent, "", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID)?;
        Ok::<_, Errno>((stat.stx_dev_major, stat.stx_dev_minor, stat.stx_mnt_id))
    };
    let is_overlay = fstatfs(&one.parent)?.f_type as u64 == OVERLAY;
    Ok(is_overlay && mount(one)? == mount(other)?)
}

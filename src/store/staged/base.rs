//! What stood in the workspace when the run began: what the snapshot says, and for paths that no snapshot holds what
//! stands there now, if it was last changed before.

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, StatxFlags, statx};

use crate::model::change::Side;
use crate::model::{Digest, EntryKind};
use crate::store::snapshot::{BaseDir, BaseEntry, Siblings};
use crate::sys::walk::{self, ObjectKind, Stat};

/// A moment of the clock that stamps files, taken before the agent was started; its next tick had come when the agent was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Began(pub (i64, u32));

/// An object of the live tree that no snapshot holds.
#[derive(Clone, Copy, Debug)]
pub(super) struct LiveObject {
    pub(super) stat: Stat,
    /// When it was made, where the filesystem says.
    pub(super) born: Option<(i64, u32)>,
}

/// What stood at a path.
pub(super) enum BaseObject<'a> {
    Absent,
    Recorded(BaseEntry<'a>),
    Unrecorded(LiveObject),
}

impl Began {
    /// Whether an object was there when the run began. What was made or moved there since is somebody else's.
    pub(super) fn had(self, object: &LiveObject) -> bool {
        match object.born {
            Some(born) if born > self.0 => false,
            // A change to what is in a directory shows in its ctime; that it is there is older.
            Some(_) => {
                object.stat.kind() == ObjectKind::Directory || object.stat.ctime <= self.0 || self.is_older(object)
            }
            None => object.stat.kind() == ObjectKind::Directory || object.stat.ctime <= self.0,
        }
    }

    fn is_older(self, object: &LiveObject) -> bool {
        object.born.is_some_and(|born| born <= self.0)
    }

    /// Whether nobody has changed the object since. Directories: nothing was put in or taken out.
    pub(super) fn is_untouched(self, object: &LiveObject) -> bool {
        self.had(object) && object.stat.ctime <= self.0
    }
}

/// One directory of the base.
pub(super) struct BaseDirectory<'a> {
    recorded: Option<BaseDir<'a>>,
    cursor: Option<Siblings<'a>>,
    live: Option<OwnedFd>,
    began: Began,
}

impl<'a> BaseDirectory<'a> {
    /// The directory at `path` (which stood there when the run began), with what is recorded of it.
    pub(super) fn open(
        root: BorrowedFd<'_>,
        path: &[u8],
        recorded: Option<BaseDir<'a>>,
        began: Began,
    ) -> io::Result<Self> {
        let live = match walk::open_dir_below(root, path) {
            Ok(live) => Some(live),
            // Somebody took it away meanwhile: a conflict for whoever looks at its paths.
            Err(error) if is_gone(&error) => None,
            Err(error) => return Err(error),
        };
        let cursor = recorded.as_ref().map(BaseDir::children);
        Ok(Self { recorded, cursor, live, began })
    }

    /// What stood at a name; names must come sorted.
    pub(super) fn child(&mut self, name: &[u8]) -> io::Result<BaseObject<'a>> {
        if let Some(entry) = self.cursor.as_mut().and_then(|cursor| cursor.advance_to(name)) {
            return Ok(BaseObject::Recorded(entry));
        }
        Ok(match self.look(name)? {
            Some(object) if self.began.had(&object) => BaseObject::Unrecorded(object),
            _ => BaseObject::Absent,
        })
    }

    /// What stands at a name of the live directory.
    fn look(&self, name: &[u8]) -> io::Result<Option<LiveObject>> {
        match &self.live {
            Some(live) => look(live.as_fd(), name),
            None => Ok(None),
        }
    }

    /// Whether names of the live directory were changed since the run began, or it is gone: by somebody else.
    pub(super) fn changed_since(&self, began: Began) -> io::Result<bool> {
        match &self.live {
            Some(live) => Ok(walk::stat_of(live)?.mtime > began.0),
            None => Ok(true),
        }
    }

    /// The live directory, for what must be read.
    pub(super) fn live(&self) -> Option<BorrowedFd<'_>> {
        self.live.as_ref().map(OwnedFd::as_fd)
    }

    /// Every name that stood there: recorded ones and those that no snapshot holds, sorted.
    pub(super) fn names(&self) -> io::Result<Vec<Vec<u8>>> {
        let mut names: Vec<Vec<u8>> = Vec::new();
        if let Some(recorded) = &self.recorded {
            names.extend(recorded.children().map(|entry| entry.name().to_vec()));
        }
        if let Some(live) = &self.live {
            let mut buffer = vec![std::mem::MaybeUninit::uninit(); 64 << 10];
            names.extend(walk::sorted_names(live.as_fd(), &mut buffer)?.into_iter().map(|name| name.bytes.into_vec()));
        }
        names.sort_unstable();
        names.dedup();
        Ok(names)
    }
}

fn is_gone(error: &io::Error) -> bool {
    matches!(
        rustix::io::Errno::from_io_error(error),
        Some(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR | rustix::io::Errno::LOOP)
    )
}

/// What stands at a name, and when it was made.
pub(super) fn look(dir: BorrowedFd<'_>, name: &[u8]) -> io::Result<Option<LiveObject>> {
    let stat = match walk::lstat_at(dir, name) {
        Ok(stat) => stat,
        Err(error) if is_gone(&error) => return Ok(None),
        Err(error) => return Err(error),
    };
    let born = statx(dir, name, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::BTIME)
        .ok()
        .filter(|found| StatxFlags::from_bits_retain(found.stx_mask).contains(StatxFlags::BTIME))
        .map(|found| (found.stx_btime.tv_sec, found.stx_btime.tv_nsec));
    Ok(Some(LiveObject { stat, born }))
}

impl BaseObject<'_> {
    /// Which kind it is; `None`: nothing, or nothing that a listing can hold.
    pub(super) fn kind(&self) -> Option<EntryKind> {
        match self {
            Self::Absent => None,
            Self::Recorded(entry) => Some(entry.kind()),
            Self::Unrecorded(object) => entry_kind(object.stat.kind()),
        }
    }

    pub(super) fn is_absent(&self) -> bool {
        matches!(self, Self::Absent)
    }

    /// How the changes show it. A socket or device shows as a fifo: no listing holds one, and it is only ever removed.
    pub(super) fn side(&self, digest: Option<Digest>) -> Option<Side> {
        match self {
            Self::Absent => None,
            Self::Recorded(entry) => {
                let (kind, is_directory) = (entry.kind(), entry.kind() == EntryKind::Directory);
                Some(Side {
                    kind,
                    mode: if kind == EntryKind::Symlink { 0o777 } else { entry.mode() },
                    digest: Some(if is_directory { Digest::OF_NOTHING } else { entry.digest() }),
                    size: if is_directory { 0 } else { entry.size() },
                })
            }
            Self::Unrecorded(object) => Some(unrecorded_side(&object.stat, digest)),
        }
    }
}

/// How the changes show an object that no snapshot holds.
pub(super) fn unrecorded_side(stat: &Stat, digest: Option<Digest>) -> Side {
    let kind = entry_kind(stat.kind()).unwrap_or(EntryKind::Fifo);
    let has_content = matches!(kind, EntryKind::File | EntryKind::Symlink);
    Side {
        kind,
        mode: if kind == EntryKind::Symlink { 0o777 } else { stat.permissions() },
        digest: if has_content { digest } else { Some(Digest::OF_NOTHING) },
        size: if has_content { stat.size } else { 0 },
    }
}

/// The kind of an object as a listing has it; none for sockets and devices.
pub(super) fn entry_kind(kind: ObjectKind) -> Option<EntryKind> {
    match kind {
        ObjectKind::File => Some(EntryKind::File),
        ObjectKind::Directory => Some(EntryKind::Directory),
        ObjectKind::Symlink => Some(EntryKind::Symlink),
        ObjectKind::Fifo => Some(EntryKind::Fifo),
        ObjectKind::Socket | ObjectKind::Device => None,
    }
}

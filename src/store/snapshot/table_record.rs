//! One record of a stat table.

use super::manifest::{Location, NO_PARENT};
use super::wire::Fields;
use crate::model::{Digest, EntryKind};
use crate::sys::walk::{ObjectKind, Stat};

/// Bytes of a record on disk.
pub(super) const RECORD_BYTES: usize = 132;
const FLAG_UNTRUSTED: u32 = 1;
const FLAG_SPARSE: u32 = 2;
const FLAG_GIT_DIR: u32 = 4;

/// What is known of one entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) stat: Stat,
    pub(super) digest: Digest,
    /// Bytes of the content (stat's size may differ on special filesystems).
    pub(super) size: u64,
    pub(super) parent: u32,
    pub(super) end: u32,
    pub(super) location: Location,
    pub(super) sparse: bool,
    pub(super) trusted: bool,
    /// Whether it is a git directory, of which only what is taken counts: names of lock files come and go in it, and
    /// with them its times.
    pub(super) git_dir: bool,
    pub(super) name: (u64, u32),
    pub(super) extras_bytes: u32,
}

impl Record {
    pub(super) fn to_bytes(self) -> [u8; RECORD_BYTES] {
        let mut out = [0; RECORD_BYTES];
        let mut rest = &mut out[..];
        let mut put = |bytes: &[u8]| {
            let (field, after) = std::mem::take(&mut rest).split_at_mut(bytes.len());
            field.copy_from_slice(bytes);
            rest = after;
        };
        let Stat { dev, ino, size, mtime, ctime, .. } = self.stat;
        put(&self.digest.0);
        for wide in [dev, ino, size, mtime.0.cast_unsigned(), ctime.0.cast_unsigned(), self.size, self.name.0] {
            put(&wide.to_le_bytes());
        }
        let untrusted = if self.trusted { 0 } else { FLAG_UNTRUSTED };
        let git_dir = if self.git_dir { FLAG_GIT_DIR } else { 0 };
        let flags = untrusted | git_dir | if self.sparse { FLAG_SPARSE } else { 0 };
        let Stat { mode, uid, gid, .. } = self.stat;
        let ends = [self.parent, self.end, self.location.to_wire(), flags, self.name.1, self.extras_bytes];
        for field in [mtime.1, ctime.1, mode, uid, gid].into_iter().chain(ends) {
            put(&field.to_le_bytes());
        }
        out
    }

    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let mut fields = Fields(bytes);
        let digest = fields.digest()?;
        let (dev, ino, stat_size) = (fields.u64()?, fields.u64()?, fields.u64()?);
        let (mtime_s, ctime_s, size, name_at) = (fields.i64()?, fields.i64()?, fields.u64()?, fields.u64()?);
        let (mtime, ctime) = ((mtime_s, fields.u32()?), (ctime_s, fields.u32()?));
        let (mode, uid, gid) = (fields.u32()?, fields.u32()?, fields.u32()?);
        let (parent, end, location, flags) = (fields.u32()?, fields.u32()?, fields.u32()?, fields.u32()?);
        Some(Self {
            stat: Stat { dev, ino, nlink: 0, mode, uid, gid, size: stat_size, rdev: 0, allocated: 0, mtime, ctime },
            digest,
            size,
            parent,
            end,
            location: Location::from_wire(location),
            sparse: flags & FLAG_SPARSE != 0,
            trusted: flags & FLAG_UNTRUSTED == 0,
            git_dir: flags & FLAG_GIT_DIR != 0,
            name: (name_at, fields.u32()?),
            extras_bytes: fields.u32()?,
        })
    }

    /// A record of nothing but a stat.
    pub(super) fn of_stat(stat: Stat) -> Self {
        Self {
            stat,
            digest: Digest([0; 32]),
            size: 0,
            parent: NO_PARENT,
            end: 0,
            location: Location::Nothing,
            sparse: false,
            trusted: false,
            git_dir: false,
            name: (0, 0),
            extras_bytes: 0,
        }
    }

    /// The listing's kind; none for what cannot be an entry.
    pub(super) fn kind(&self) -> Option<EntryKind> {
        entry_kind(self.stat.kind())
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

//! The first bytes of a stat table: what it is for, and what holds of it as a whole.

use super::wire::Fields;
use crate::model::Digest;
use crate::model::event::SnapshotRef;

/// First bytes of a table; the digit is the version.
const MAGIC: &[u8; 16] = b"agentguard-stat2";
pub(super) const HEADER_BYTES: usize = 256;

/// What the whole table says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    /// What was captured: project, roots, excludes.
    pub(super) key: Digest,
    pub(super) input_hash: Digest,
    pub(super) manifest: Digest,
    pub(super) pack: Digest,
    pub(super) entries: u64,
    pub(super) packs: u64,
    pub(super) files: u64,
    pub(super) bytes: u64,
    pub(super) skipped: u64,
    /// What cannot be trusted: changed in the same tick, or while it was read.
    pub(super) untrusted: u64,
    /// Names that were left out.
    pub(super) left_out: u64,
    /// Who captured (user, group), and how many entries belong to others.
    pub(super) owner: (u32, u32),
    pub(super) foreign: u64,
    pub(super) facts: Facts,
    /// Files elsewhere, and the bytes that they take.
    pub(super) watched: u64,
    pub(super) watched_bytes: u64,
}

/// What holds of a table as a whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Facts(u64);

impl Facts {
    /// Some file stands in the trees under several names.
    pub(super) const LINKS: Self = Self(1);
    /// Made from a manifest: nothing is known of devices, inodes and ctimes.
    pub(super) const NO_STATS: Self = Self(2);

    pub(super) fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub(super) fn has(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }
}

impl Header {
    pub(super) fn snapshot(&self) -> SnapshotRef {
        SnapshotRef { manifest: self.manifest, pack: self.pack }
    }

    pub(super) fn to_bytes(self) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        for digest in [self.key, self.input_hash, self.manifest, self.pack] {
            out.extend_from_slice(&digest.0);
        }
        for count in [self.entries, self.packs, self.files, self.bytes, self.skipped, self.untrusted] {
            out.extend_from_slice(&count.to_le_bytes());
        }
        for count in [self.left_out, self.foreign, self.facts.0, self.watched, self.watched_bytes] {
            out.extend_from_slice(&count.to_le_bytes());
        }
        for id in [self.owner.0, self.owner.1] {
            out.extend_from_slice(&id.to_le_bytes());
        }
        out.resize(HEADER_BYTES, 0);
        out
    }

    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let mut fields = Fields(bytes.get(..HEADER_BYTES)?);
        fields.bytes(MAGIC.len()).filter(|magic| magic == MAGIC)?;
        Some(Self {
            key: fields.digest()?,
            input_hash: fields.digest()?,
            manifest: fields.digest()?,
            pack: fields.digest()?,
            entries: fields.u64()?,
            packs: fields.u64()?,
            files: fields.u64()?,
            bytes: fields.u64()?,
            skipped: fields.u64()?,
            untrusted: fields.u64()?,
            left_out: fields.u64()?,
            foreign: fields.u64()?,
            facts: Facts(fields.u64()?),
            watched: fields.u64()?,
            watched_bytes: fields.u64()?,
            owner: (fields.u32()?, fields.u32()?),
        })
    }
}

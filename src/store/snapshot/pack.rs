//! Packs: many small contents in one immutable file.
//!
//! On disk (little-endian): magic (16 bytes), the contents without gaps, the index sorted by digest (digest,
//! offset, length: 48 bytes each), and a tail of 24 bytes (number of index entries, magic again). A pack is named
//! by the SHA-256 of its index; the index names the contents by theirs; so the name covers every byte of them.

use std::fs::File;
use std::path::Path;

use sha2::{Digest as _, Sha256};

use super::layout::StoreError;
use super::wire::Fields;
use crate::model::Digest;
use crate::sys::mmap::Mapped;

/// First and last bytes of a pack; the digit is the version.
pub(super) const MAGIC: &[u8; 16] = b"agentguard-pack1";
const INDEX_BYTES: usize = 48;
const TAIL_BYTES: usize = 24;

/// Where one content is in a pack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Slot {
    pub(super) digest: Digest,
    pub(super) at: u64,
    pub(super) len: u64,
}

/// Why a pack or a content in it is not what its name says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    /// Too short, or not a pack at all.
    #[error("is not a pack")]
    Shape,
    /// The index is not the one the name is made of.
    #[error("has a damaged index")]
    Index,
    /// The bytes have another hash than their name.
    #[error("has damaged content {0}")]
    Content(Digest),
    /// The content is not there.
    #[error("does not hold {0}")]
    Absent(Digest),
}

/// An opened pack. Its index has been checked against its name; contents are checked as they are read.
#[derive(Debug)]
pub(super) struct Pack {
    bytes: Mapped,
    index_at: usize,
}

impl Pack {
    /// Maps the pack and checks its index.
    pub(super) fn open(path: &Path, name: Digest) -> Result<Result<Self, Damage>, StoreError> {
        let bytes = File::open(path).and_then(|file| Mapped::of(&file)).map_err(StoreError::at("open", path))?;
        Ok(Self::check_index(bytes, name))
    }

    fn check_index(bytes: Mapped, name: Digest) -> Result<Self, Damage> {
        let tail_at = bytes.len().checked_sub(TAIL_BYTES).ok_or(Damage::Shape)?;
        let mut tail = Fields(&bytes[tail_at..]);
        let count = tail.u64().and_then(|count| usize::try_from(count).ok()).ok_or(Damage::Shape)?;
        let index_at = count.checked_mul(INDEX_BYTES).and_then(|len| tail_at.checked_sub(len)).ok_or(Damage::Shape)?;
        if !bytes.starts_with(MAGIC) || tail.0 != MAGIC || index_at < MAGIC.len() {
            return Err(Damage::Shape);
        }
        if Sha256::digest(&bytes[index_at..tail_at])[..] != name.0[..] {
            return Err(Damage::Index);
        }
        Ok(Self { bytes, index_at })
    }

    /// Number of contents.
    pub(super) fn len(&self) -> usize {
        (self.bytes.len() - TAIL_BYTES - self.index_at) / INDEX_BYTES
    }

    fn slot(&self, number: usize) -> Option<Slot> {
        let mut fields = Fields(self.bytes.get(self.index_at + number * INDEX_BYTES..)?);
        Some(Slot { digest: fields.digest()?, at: fields.u64()?, len: fields.u64()? })
    }

    /// Where a content is, if it is here.
    pub(super) fn find(&self, digest: &Digest) -> Option<Slot> {
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = low.midpoint(high);
            let slot = self.slot(middle)?;
            match slot.digest.cmp(digest) {
                std::cmp::Ordering::Equal => return Some(slot),
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle,
            }
        }
        None
    }

    /// The bytes of a slot, not yet checked.
    fn bytes_of(&self, slot: &Slot) -> Option<&[u8]> {
        let (at, len) = (usize::try_from(slot.at).ok()?, usize::try_from(slot.len).ok()?);
        let content = self.bytes.get(at..at.checked_add(len)?)?;
        (at + len <= self.index_at).then_some(content)
    }

    /// The content with this digest, re-hashed.
    pub(super) fn read(&self, digest: Digest) -> Result<&[u8], Damage> {
        let slot = self.find(&digest).ok_or(Damage::Absent(digest))?;
        let content = self.bytes_of(&slot).ok_or(Damage::Content(digest))?;
        if Sha256::digest(content)[..] == digest.0[..] { Ok(content) } else { Err(Damage::Content(digest)) }
    }

    /// Everything that is wrong: each content is re-hashed, and nothing may lie between or beyond them.
    pub(super) fn check(&self) -> Vec<Damage> {
        let mut slots: Vec<Slot> = (0..self.len()).filter_map(|number| self.slot(number)).collect();
        let mut wrong: Vec<Damage> = slots.iter().filter_map(|slot| self.read(slot.digest).err()).collect();
        slots.sort_unstable_by_key(|slot| slot.at);
        let end =
            slots.iter().try_fold(MAGIC.len() as u64, |at, slot| (slot.at == at).then(|| at.saturating_add(slot.len)));
        if end != Some(self.index_at as u64) {
            wrong.push(Damage::Shape);
        }
        wrong
    }
}

/// The index and tail of a pack with these contents, and the name that follows from it.
pub(super) fn encode_index(slots: &mut [Slot]) -> (Vec<u8>, Digest) {
    slots.sort_unstable();
    let mut out = Vec::with_capacity(slots.len() * INDEX_BYTES + TAIL_BYTES);
    for slot in slots.iter() {
        out.extend_from_slice(&slot.digest.0);
        out.extend_from_slice(&slot.at.to_le_bytes());
        out.extend_from_slice(&slot.len.to_le_bytes());
    }
    let name = Digest(Sha256::digest(&out).into());
    out.extend_from_slice(&(slots.len() as u64).to_le_bytes());
    out.extend_from_slice(MAGIC);
    (out, name)
}

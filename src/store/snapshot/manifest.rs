//! `Manifest`: everything a snapshot knows about its trees, in one list; the contents are elsewhere.
//!
//! Entries stand in preorder, siblings sorted by name bytes, so that a directory's subtree is one range. On disk
//! (little-endian): magic, number of entries (8) and of packs (4), the entries, the pack names (32 each). An
//! entry: kind letter, flags, mode (2), parent (4, all ones at a root), digest, size (8), mtime (8 + 4), uid, gid,
//! location, link group (4 each), name (counted), extras (counted). Times, owners, attributes and locations are
//! here and not in the listings: the same content has the same hash on every machine.

use sha2::{Digest as _, Sha256};

use super::layout::Shelf;
use super::wire::{Fields, put_counted};
use crate::model::{Digest, Entry, EntryKind, RelPath};
use crate::sys::xattr::{Xattr, Xattrs};

/// First bytes of a manifest; the digit is the version.
pub(super) const MAGIC: &[u8; 16] = b"agentguard-mfst1";
/// Parent of a root.
pub const NO_PARENT: u32 = u32::MAX;
const FLAG_SPARSE: u8 = 1;

/// Where an entry's content is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Location {
    /// There is none: not a file, an empty one, or a tree that was only hashed.
    Nothing,
    /// A file of its own under `large/`.
    Large,
    /// In the pack that holds the manifest itself.
    Own,
    /// In another pack: its number in [`Manifest::packs`].
    Pack(u32),
}

impl Location {
    pub(super) fn to_wire(self) -> u32 {
        match self {
            Self::Nothing => u32::MAX,
            Self::Large => u32::MAX - 1,
            Self::Own => u32::MAX - 2,
            Self::Pack(number) => number,
        }
    }

    pub(super) fn from_wire(wire: u32) -> Self {
        match u32::MAX - wire {
            0 => Self::Nothing,
            1 => Self::Large,
            2 => Self::Own,
            _ => Self::Pack(wire),
        }
    }
}

/// What few entries have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Extras {
    /// Target of a symbolic link.
    pub target: Box<[u8]>,
    /// Extended attributes, sorted by name.
    pub xattrs: Xattrs,
}

impl Extras {
    pub(super) fn write_to(&self, out: &mut Vec<u8>) {
        put_counted(out, &self.target);
        for Xattr { name, value } in &self.xattrs {
            put_counted(out, name);
            put_counted(out, value);
        }
    }

    pub(super) fn parse(bytes: &[u8]) -> Option<Option<Box<Self>>> {
        if bytes.is_empty() {
            return Some(None);
        }
        let mut fields = Fields(bytes);
        let mut extras = Self { target: fields.counted()?.into(), xattrs: Vec::new() };
        while !fields.0.is_empty() {
            extras.xattrs.push(Xattr { name: fields.counted()?.into(), value: fields.counted()?.into() });
        }
        Some(Some(Box::new(extras)))
    }
}

/// One object of a captured tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManifestEntry {
    /// Name in its directory; at a root the listing name, which may hold slashes.
    pub name: Box<[u8]>,
    /// Index of its directory, [`NO_PARENT`] at a root.
    pub parent: u32,
    /// One past the index of the last entry below it.
    pub end: u32,
    /// What it is.
    pub kind: EntryKind,
    /// Permission bits, `0o7777` at most.
    pub mode: u32,
    /// The listing's hash.
    pub digest: Digest,
    /// Bytes the hash is taken over.
    pub size: u64,
    /// Last modification, seconds and nanoseconds.
    pub mtime: (i64, u32),
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Whether it had holes.
    pub sparse: bool,
    /// Entries with the same number, not 0, are one file under several names.
    pub link_group: u32,
    /// Where the content is.
    pub location: Location,
    /// Link target and attributes.
    pub extras: Option<Box<Extras>>,
}

impl ManifestEntry {
    /// Target of a symbolic link, empty for anything else.
    pub fn target(&self) -> &[u8] {
        self.extras.as_ref().map_or(&[], |extras| &extras.target)
    }

    /// Extended attributes, sorted by name.
    pub fn xattrs(&self) -> &[Xattr] {
        self.extras.as_ref().map_or(&[], |extras| &extras.xattrs)
    }

    /// Its line in a listing.
    pub fn to_entry(&self) -> Entry {
        let Self { mode, kind, digest, size, .. } = *self;
        Entry { mode, kind, digest, size, name: self.name.to_vec() }
    }

    pub(super) fn write_to(&self, out: &mut Vec<u8>) {
        out.push(self.kind.letter());
        out.push(if self.sparse { FLAG_SPARSE } else { 0 });
        out.extend_from_slice(&u16::try_from(self.mode).unwrap_or(0o7777).to_le_bytes());
        out.extend_from_slice(&self.parent.to_le_bytes());
        out.extend_from_slice(&self.digest.0);
        out.extend_from_slice(&self.size.to_le_bytes());
        out.extend_from_slice(&self.mtime.0.to_le_bytes());
        for field in [self.mtime.1, self.uid, self.gid, self.location.to_wire(), self.link_group] {
            out.extend_from_slice(&field.to_le_bytes());
        }
        put_counted(out, &self.name);
        put_extras(out, self.extras.as_deref());
    }

    fn parse(fields: &mut Fields<'_>) -> Option<Self> {
        let kind = kind_of_letter(fields.byte()?)?;
        let flags = fields.byte()?;
        let mode = u32::from(fields.u16()?);
        if flags & !FLAG_SPARSE != 0 || mode > 0o7777 {
            return None;
        }
        Some(Self {
            kind,
            mode,
            parent: fields.u32()?,
            digest: fields.digest()?,
            size: fields.u64()?,
            mtime: (fields.i64()?, fields.u32()?),
            uid: fields.u32()?,
            gid: fields.u32()?,
            location: Location::from_wire(fields.u32()?),
            link_group: fields.u32()?,
            name: fields.counted()?.into(),
            extras: Extras::parse(fields.counted()?)?,
            sparse: flags & FLAG_SPARSE != 0,
            end: 0,
        })
    }
}

/// Bytes from the start of an entry to its digest: where a directory's hash is filled in afterwards.
pub(super) const DIGEST_AT: usize = 8;

/// Extras as a counted field; none is a field of no bytes.
pub(super) fn put_extras(out: &mut Vec<u8>, extras: Option<&Extras>) {
    let mut bytes = Vec::new();
    if let Some(extras) = extras {
        extras.write_to(&mut bytes);
    }
    put_counted(out, &bytes);
}

fn kind_of_letter(letter: u8) -> Option<EntryKind> {
    [EntryKind::File, EntryKind::Directory, EntryKind::Symlink, EntryKind::Fifo]
        .into_iter()
        .find(|kind| kind.letter() == letter)
}

/// A snapshot's list of entries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    entries: Vec<ManifestEntry>,
    packs: Vec<Digest>,
    /// The pack the manifest was read from, and where it stands; what [`Location::Own`] means.
    pub(super) own_pack: Option<(Shelf, Digest)>,
}

/// The bytes are not a manifest: too short, out of order, or a path that leaves its root.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a snapshot manifest (entry {entry})")]
pub struct ParseManifestError {
    /// The first entry that could not be read.
    pub entry: u64,
}

impl Manifest {
    /// All entries, in preorder.
    pub fn entries(&self) -> &[ManifestEntry] {
        &self.entries
    }

    /// Packs that [`Location::Pack`] numbers.
    pub fn packs(&self) -> &[Digest] {
        &self.packs
    }

    /// The pack that holds an entry's content, if one does.
    pub fn pack_of(&self, entry: &ManifestEntry) -> Option<Digest> {
        match entry.location {
            Location::Nothing | Location::Large => None,
            Location::Own => self.own_pack.map(|(_, pack)| pack),
            Location::Pack(number) => self.packs.get(number as usize).copied(),
        }
    }

    /// The manifest of a seal, whose contents, as far as they were kept, are in this pack.
    pub fn kept_in(self, pack: Digest) -> Self {
        Self { own_pack: Some((Shelf::Kept, pack)), ..self }
    }

    /// The roots, sorted by name, with their indices.
    pub fn roots(&self) -> impl Iterator<Item = (usize, &ManifestEntry)> {
        self.siblings(0, self.entries.len())
    }

    /// What stands directly in the directory at `index`.
    pub fn children(&self, index: usize) -> impl Iterator<Item = (usize, &ManifestEntry)> {
        self.siblings(index + 1, self.entries[index].end as usize)
    }

    fn siblings(&self, first: usize, end: usize) -> impl Iterator<Item = (usize, &ManifestEntry)> {
        let mut next = first;
        std::iter::from_fn(move || {
            let index = next;
            let entry = self.entries.get(index).filter(|_| index < end)?;
            next = entry.end as usize;
            Some((index, entry))
        })
    }

    /// The full path of an entry: its root's name and the names below it, with slashes.
    pub fn path_of(&self, index: usize) -> Vec<u8> {
        let mut names = Vec::new();
        let mut at = index;
        while let Some(entry) = self.entries.get(at) {
            names.push(&*entry.name);
            at = entry.parent as usize;
        }
        names.reverse();
        names.join(&b'/')
    }

    /// The entry with this full path.
    pub fn find(&self, path: &[u8]) -> Option<usize> {
        let below = |name: &[u8]| path.strip_prefix(name).filter(|rest| rest.is_empty() || rest[0] == b'/');
        self.roots().find_map(|(root, entry)| {
            let rest = below(&entry.name)?;
            rest.split(|byte| *byte == b'/').skip(1).try_fold(root, |dir, name| {
                self.children(dir).find(|(_, child)| *child.name == *name).map(|(index, _)| index)
            })
        })
    }

    /// The listing of the roots; its SHA-256 is the `input_hash` (or `output_hash`) of a run.
    pub fn root_listing(&self) -> Vec<u8> {
        listing(self.roots())
    }

    /// The listing of one directory; none where no directory has that path.
    pub fn listing_of(&self, path: &[u8]) -> Option<Vec<u8>> {
        let index = self.find(path)?;
        (self.entries[index].kind == EntryKind::Directory).then(|| listing(self.children(index)))
    }

    /// The first entry whose hash does not follow from what is below it or from itself: of the contents of files only the
    /// empty one can be told here.
    pub fn first_wrong(&self) -> Option<usize> {
        (0..self.entries.len()).find(|index| {
            let entry = &self.entries[*index];
            let right =
                |bytes: &[u8]| entry.size == bytes.len() as u64 && Sha256::digest(bytes)[..] == entry.digest.0[..];
            !match entry.kind {
                EntryKind::Directory => right(&listing(self.children(*index))),
                EntryKind::Symlink => right(entry.target()),
                EntryKind::Fifo => right(b""),
                EntryKind::File => entry.size > 0 || right(b""),
            }
        })
    }

    /// The same trees, of which every content is kept beside the manifest.
    pub fn all_kept(self) -> Self {
        self.placed(|entry| {
            let has_content = entry.kind == EntryKind::File && entry.size > 0;
            entry.location = if has_content { Location::Own } else { Location::Nothing };
        })
    }

    /// The same trees with contents that are elsewhere, in files of another owner. Every content is in the pack of the
    /// manifest itself, or nowhere.
    pub(super) fn placed(mut self, place: impl Fn(&mut ManifestEntry)) -> Self {
        self.entries.iter_mut().for_each(place);
        self.packs.clear();
        self
    }

    /// How many files, links and pipes, and how many bytes in the files.
    pub fn totals(&self) -> (u64, u64) {
        self.entries.iter().filter(|entry| entry.kind != EntryKind::Directory).fold((0, 0), |(files, bytes), entry| {
            let size = if entry.kind == EntryKind::File { entry.size } else { 0 };
            (files + 1, bytes + size)
        })
    }

    /// SHA-256 of the listing of the roots.
    pub fn root_digest(&self) -> Digest {
        Digest(Sha256::digest(self.root_listing()).into())
    }

    /// The bytes on disk.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = header(self.entries.len(), self.packs.len());
        for entry in &self.entries {
            entry.write_to(&mut out);
        }
        for pack in &self.packs {
            out.extend_from_slice(&pack.0);
        }
        out
    }

    /// SHA-256 of the bytes on disk: the manifest's name.
    pub fn digest(&self) -> Digest {
        Digest(Sha256::digest(self.to_bytes()).into())
    }

    /// Reads and checks: order, parents, and that no path can leave the directory it is written to.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, ParseManifestError> {
        let wrong = |entry: usize| ParseManifestError { entry: entry as u64 };
        let mut fields = Fields(bytes);
        let (count, packs) = parse_header(&mut fields).ok_or(wrong(0))?;
        // Each entry takes more than 80 bytes: a damaged count cannot make this reserve more than the file's size.
        let mut manifest =
            Self { entries: Vec::with_capacity(count.min(bytes.len() / 80)), packs: Vec::new(), own_pack: None };
        let mut open = Vec::new();
        for index in 0..count {
            let entry = ManifestEntry::parse(&mut fields).ok_or(wrong(index))?;
            manifest.push(entry, &mut open).ok_or(wrong(index))?;
        }
        manifest.close(&mut open, 0);
        for _ in 0..packs {
            manifest.packs.push(fields.digest().ok_or(wrong(count))?);
        }
        let known = |entry: &ManifestEntry| match entry.location {
            Location::Pack(number) => (number as usize) < packs,
            _ => true,
        };
        if !fields.0.is_empty() || !manifest.entries.iter().all(known) {
            return Err(wrong(count));
        }
        Ok(manifest)
    }

    /// Appends an entry; `open` holds the directories it may stand in, innermost last, each with the index of its
    /// latest child.
    fn push(&mut self, entry: ManifestEntry, open: &mut Vec<(usize, Option<usize>)>) -> Option<()> {
        let depth = match entry.parent {
            NO_PARENT => 1,
            parent => open.iter().rposition(|(dir, _)| *dir == parent as usize)? + 1,
        };
        if open.is_empty() {
            open.push((usize::MAX, None));
        }
        if entry.parent == NO_PARENT && !is_root_name(&entry.name) || entry.parent != NO_PARENT && !is_name(&entry.name)
        {
            return None;
        }
        self.close(open, depth);
        let (_, latest) = open.last_mut()?;
        if latest.is_some_and(|latest: usize| self.entries[latest].name >= entry.name) {
            return None;
        }
        let index = self.entries.len();
        *latest = Some(index);
        if entry.kind == EntryKind::Directory {
            open.push((index, None));
        }
        self.entries.push(ManifestEntry { end: u32::try_from(index + 1).ok()?, ..entry });
        Some(())
    }

    fn close(&mut self, open: &mut Vec<(usize, Option<usize>)>, depth: usize) {
        let end = u32::try_from(self.entries.len()).unwrap_or(u32::MAX);
        for (dir, _) in open.drain(depth..) {
            if let Some(entry) = self.entries.get_mut(dir) {
                entry.end = end;
            }
        }
    }
}

fn listing<'a>(entries: impl Iterator<Item = (usize, &'a ManifestEntry)>) -> Vec<u8> {
    let mut out = Vec::new();
    for (_, entry) in entries {
        entry.to_entry().write_to(&mut out);
    }
    out
}

/// The first bytes of a manifest.
pub(super) fn header(entries: usize, packs: usize) -> Vec<u8> {
    let mut out = MAGIC.to_vec();
    out.extend_from_slice(&(entries as u64).to_le_bytes());
    out.extend_from_slice(&u32::try_from(packs).unwrap_or(u32::MAX).to_le_bytes());
    out
}

fn parse_header(fields: &mut Fields<'_>) -> Option<(usize, usize)> {
    fields.bytes(MAGIC.len()).filter(|magic| magic == MAGIC)?;
    Some((usize::try_from(fields.u64()?).ok()?, fields.u32()? as usize))
}

fn is_name(name: &[u8]) -> bool {
    !name.is_empty() && name != b"." && name != b".." && !name.iter().any(|byte| matches!(byte, b'/' | 0))
}

/// A path below the project, an absolute one, or `.` for the project itself.
pub(super) fn is_root_name(name: &[u8]) -> bool {
    name == b"." || RelPath::new(name.strip_prefix(b"/").unwrap_or(name).to_vec()).is_ok()
}

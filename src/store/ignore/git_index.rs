//! The paths in a git index, versions 2 to 4 (git's `Documentation/gitformat-index.txt`): what is tracked.

use std::path::Path;

/// Bytes of an entry before the object's name: times, device, inode, mode, owner, size.
const STAT_BYTES: usize = 40;
const MODE_AT: usize = 24;
const GITLINK: u32 = 0o160_000;
const EXTENDED: u16 = 0x4000;

/// Tracked paths, sorted.
#[derive(Debug, Default)]
pub(super) struct Index {
    paths: Vec<u8>,
    /// Start and length in `paths`, and whether it is the commit of another repository.
    entries: Vec<(usize, usize, bool)>,
}

/// How a path is known to the index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tracked {
    /// Not at all.
    No,
    /// As a file or link.
    Itself,
    /// Something below it is.
    Below,
    /// As a submodule.
    Submodule,
}

impl Index {
    /// Reads `index` of a git directory. What cannot be understood tracks nothing; `read` gives a file's bytes.
    pub(super) fn read(path: &Path, hash_bytes: usize, read: &dyn Fn(&Path) -> Option<Vec<u8>>) -> Self {
        let mut index = Self::default();
        let Some(bytes) = read(path) else { return index };
        let Some(extensions) = index.add(&bytes, hash_bytes) else { return index };
        // A split index names the file that most of its entries are in.
        if let Some(base) = shared_base(&bytes[extensions..], hash_bytes) {
            let name: String = base.iter().map(|byte| format!("{byte:02x}")).collect();
            if let Some(shared) = read(&path.with_file_name(format!("sharedindex.{name}"))) {
                index.add(&shared, hash_bytes);
            }
            let paths = &index.paths;
            index.entries.sort_by(|one, other| paths[one.0..one.0 + one.1].cmp(&paths[other.0..other.0 + other.1]));
        }
        index
    }

    /// Adds a file's entries and tells where its extensions begin; none if it makes no sense.
    fn add(&mut self, bytes: &[u8], hash_bytes: usize) -> Option<usize> {
        let version = bytes.strip_prefix(b"DIRC").and_then(|rest| u32_at(rest, 0)).filter(|v| (2..=4).contains(v))?;
        let count = u32_at(bytes, 8)?;
        let mut at = 12;
        let mut path = Vec::new();
        for _ in 0..count {
            let start = at;
            let mode = u32_at(bytes, start + MODE_AT)?;
            at += STAT_BYTES + hash_bytes;
            let flags = u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?);
            at += if version >= 3 && flags & EXTENDED != 0 { 4 } else { 2 };
            if version == 4 {
                let (dropped, after) = varint(bytes, at)?;
                path.truncate(path.len().checked_sub(dropped)?);
                at = after;
            } else {
                path.clear();
            }
            let len = memchr::memchr(0, bytes.get(at..)?)?;
            path.extend_from_slice(&bytes[at..at + len]);
            at += len + 1;
            if version < 4 {
                // One to eight zeros, up to a multiple of eight.
                at = start + (at - start).next_multiple_of(8);
            }
            // In a split index an entry without a path replaces one of the shared file.
            if !path.is_empty() {
                self.entries.push((self.paths.len(), path.len(), mode & 0o170_000 == GITLINK));
                self.paths.extend_from_slice(&path);
            }
        }
        (at <= bytes.len()).then_some(at)
    }

    fn path(&self, number: usize) -> &[u8] {
        let (start, len, _) = self.entries[number];
        &self.paths[start..start + len]
    }

    /// How the path, relative to the top of the work tree, is known.
    pub(super) fn tracks(&self, path: &[u8]) -> Tracked {
        let at = self.first_from(path);
        if at < self.entries.len() && self.path(at) == path {
            return if self.entries[at].2 { Tracked::Submodule } else { Tracked::Itself };
        }
        let below = [path, b"/"].concat();
        let at = self.first_from(&below);
        if at < self.entries.len() && self.path(at).starts_with(&below) { Tracked::Below } else { Tracked::No }
    }

    fn first_from(&self, path: &[u8]) -> usize {
        let (mut low, mut high) = (0, self.entries.len());
        while low < high {
            let middle = low.midpoint(high);
            if self.path(middle) < path { low = middle + 1 } else { high = middle }
        }
        low
    }
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

/// The variable-width integers of pack offsets (git's `varint.c` writes them; gitformat-pack(5), OFS_DELTA).
fn varint(bytes: &[u8], mut at: usize) -> Option<(usize, usize)> {
    let mut byte = *bytes.get(at)?;
    let mut value = usize::from(byte & 0x7f);
    while byte & 0x80 != 0 {
        at += 1;
        byte = *bytes.get(at)?;
        value = value.checked_add(1)?.checked_mul(128)?.checked_add(usize::from(byte & 0x7f))?;
    }
    Some((value, at + 1))
}

/// The name of the shared index in the `link` extension, if there is one.
fn shared_base(mut extensions: &[u8], hash_bytes: usize) -> Option<&[u8]> {
    while extensions.len() > hash_bytes {
        let len = u32_at(extensions, 4)? as usize;
        let content = extensions.get(8..8 + len)?;
        if extensions.starts_with(b"link") {
            return content.get(..hash_bytes).filter(|base| base.iter().any(|byte| *byte != 0));
        }
        extensions = &extensions[8 + len..];
    }
    None
}

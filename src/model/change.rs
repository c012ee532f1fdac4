//! What a run changed below its workspace: one line per path, and the listing that `output_hash` is taken over.
//!
//! A line of the listing is `mode type hash size\tpath\0`, sorted by path bytes: created and modified entries as in a
//! tree listing, except that a directory's hash is that of nothing (what is in it has lines of its own); a path that
//! is gone has mode `0000`, type `-` and the hash of nothing.

use serde::{Deserialize, Serialize};

use super::digest::Digest;
use super::entry::EntryKind;
use super::record::Changes;
use super::text::Text;

/// What happens to a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChangeKind {
    /// It did not exist.
    Created,
    /// Its content, kind or mode differs.
    Modified,
    /// It will not exist.
    Deleted,
}

/// What stands at a path, before or after.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Side {
    /// What it is.
    pub kind: EntryKind,
    /// Permission bits.
    pub mode: u32,
    /// SHA-256 of the content or the link's target; null where it was not read (a file that no snapshot holds).
    pub digest: Option<Digest>,
    /// Bytes of it.
    pub size: u64,
}

/// One path that changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangedPath {
    /// What happens to it.
    pub change: ChangeKind,
    /// Relative to the workspace.
    pub path: Text,
    /// What stood there; null where nothing did.
    pub before: Option<Side>,
    /// What will stand there; null where nothing will.
    pub after: Option<Side>,
}

/// Every path that a run changed, sorted by path bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangeSet {
    /// The paths.
    pub paths: Vec<ChangedPath>,
}

impl ChangeSet {
    /// The bytes that the hash is taken over.
    pub fn listing(&self) -> Vec<u8> {
        let nothing = Digest::OF_NOTHING;
        let mut out = Vec::with_capacity(self.paths.len() * 128);
        for changed in &self.paths {
            let (mode, letter, digest, size) = match &changed.after {
                None => (0, b'-', nothing, 0),
                Some(side) if side.kind == EntryKind::Directory => (side.mode, b'd', nothing, 0),
                Some(side) => (side.mode, side.kind.letter(), side.digest.unwrap_or(nothing), side.size),
            };
            out.extend_from_slice(format!("{mode:04o} {} {digest} {size}\t", char::from(letter)).as_bytes());
            out.extend_from_slice(&changed.path.0);
            out.push(0);
        }
        out
    }

    /// The counts of the record. Directories count like anything else: their modes, and that they are there, are changes.
    pub fn totals(&self) -> Changes {
        let mut totals = Changes::default();
        for changed in &self.paths {
            match changed.change {
                ChangeKind::Created => totals.created += 1,
                ChangeKind::Modified => totals.modified += 1,
                ChangeKind::Deleted => totals.deleted += 1,
            }
        }
        totals.bytes = self.staged().1;
        totals
    }

    /// Files, links and fifos that will stand there, and the bytes of the files.
    pub fn staged(&self) -> (u64, u64) {
        let kept = self.paths.iter().filter_map(|changed| changed.after);
        kept.filter(|side| side.kind != EntryKind::Directory).fold((0, 0), |(files, bytes), side| {
            (files + 1, bytes + if side.kind == EntryKind::File { side.size } else { 0 })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_listing_names_what_is_there_and_what_is_gone() {
        let side = |kind, mode| Side { kind, mode, digest: Some(Digest([0x11; 32])), size: 5 };
        let set = ChangeSet {
            paths: vec![
                ChangedPath {
                    change: ChangeKind::Created,
                    path: Text::from("d"),
                    before: None,
                    after: Some(side(EntryKind::Directory, 0o755)),
                },
                ChangedPath {
                    change: ChangeKind::Modified,
                    path: Text::from("d/f"),
                    before: Some(side(EntryKind::File, 0o600)),
                    after: Some(side(EntryKind::File, 0o644)),
                },
                ChangedPath {
                    change: ChangeKind::Deleted,
                    path: Text::from("x"),
                    before: Some(side(EntryKind::File, 0o600)),
                    after: None,
                },
            ],
        };
        let nothing = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        let ones = "11".repeat(32);
        let expected = format!("0755 d {nothing} 0\td\00644 f {ones} 5\td/f\00000 - {nothing} 0\tx\0");
        assert_eq!(String::from_utf8(set.listing()).expect("text"), expected);
        assert_eq!(set.staged(), (1, 5));
        let totals = set.totals();
        assert_eq!((totals.created, totals.modified, totals.deleted, totals.bytes), (1, 1, 1, 5));
    }
}

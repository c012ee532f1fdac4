//! `Entry`: one line of a tree listing, the unit every hash of this project is made of.
//!
//! A listing is the concatenation of its entries, sorted by name bytes, each `mode type hash size\tname\0`:
//! mode is four octal digits; type `f` file, `d` directory, `l` symbolic link, `p` fifo (and `-` a deletion in a
//! change listing); hash the SHA-256 of the content, of the directory's own listing, of the link's target, or of
//! nothing; size the number of bytes that the hash is taken over.

use serde::{Deserialize, Serialize};

use super::digest::Digest;

/// What an entry is; the letter is the one in the listing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EntryKind {
    /// A regular file, `f`.
    File,
    /// A directory, `d`.
    Directory,
    /// A symbolic link, `l`.
    Symlink,
    /// A named pipe, `p`.
    Fifo,
}

impl EntryKind {
    /// The letter of the listing.
    pub fn letter(self) -> u8 {
        match self {
            Self::File => b'f',
            Self::Directory => b'd',
            Self::Symlink => b'l',
            Self::Fifo => b'p',
        }
    }
}

/// One line of a listing. `mode` holds the permission bits only (at most `0o7777`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Permission bits, `0o7777` at most.
    pub mode: u32,
    /// What it is.
    pub kind: EntryKind,
    /// SHA-256 of the content, the directory's listing, the link target, or nothing.
    pub digest: Digest,
    /// Number of bytes the digest is taken over.
    pub size: u64,
    /// The name within the listing; at the root of a run's inputs or outputs it may hold slashes.
    pub name: Vec<u8>,
}

impl Entry {
    /// Appends the entry's line to a listing.
    pub fn write_to(&self, listing: &mut Vec<u8>) {
        use std::io::Write as _;
        let kind = char::from(self.kind.letter());
        // Writing to a Vec cannot fail.
        let _ = write!(listing, "{:04o} {kind} {} {}\t", self.mode, self.digest, self.size);
        listing.extend_from_slice(&self.name);
        listing.push(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listing_line_has_the_documented_shape() {
        let mut listing = Vec::new();
        let entry =
            Entry { mode: 0o644, kind: EntryKind::File, digest: Digest([0x11; 32]), size: 5, name: b"a\nb".to_vec() };
        entry.write_to(&mut listing);
        let expected = format!("0644 f {} 5\ta\nb\0", "11".repeat(32));
        assert_eq!(listing, expected.as_bytes());
    }
}

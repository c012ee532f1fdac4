//! A tree as it was gathered, and its two encodings: the manifest and the stat table.
//!
//! Nodes are kept per directory, as the threads produced them; encoding walks them once in preorder, so that no
//! second list of all entries is ever held.

use std::collections::{HashMap, HashSet};
use std::io::{self, Write};

use sha2::{Digest as _, Sha256};

use super::manifest::{self, DIGEST_AT, Extras, Location, ManifestEntry, NO_PARENT};
use super::table::TableWriter;
use super::table_header::Header;
use super::table_record::Record;
use crate::model::{Digest, Entry, EntryKind};
use crate::store::ignore::Watched;
use crate::sys::walk::Stat;

/// One object.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) name: Box<[u8]>,
    pub(super) stat: Stat,
    /// Of the content; a directory's is computed when the tree is encoded.
    pub(super) digest: Digest,
    pub(super) size: u64,
    /// [`Location::Own`]: in the pack being written. `Pack` numbers the capture's own list.
    pub(super) location: Location,
    pub(super) kind: EntryKind,
    pub(super) sparse: bool,
    pub(super) trusted: bool,
    /// A directory's place in [`Tree::dirs`].
    pub(super) dir: u32,
    pub(super) extras: Option<Box<Extras>>,
}

/// Everything that was gathered. Names are sorted within each directory, roots by name.
#[derive(Debug, Default)]
pub(super) struct Tree {
    pub(super) roots: Vec<Node>,
    pub(super) dirs: Vec<Vec<Node>>,
    /// Attributes of directories, which are read after their node was made.
    pub(super) dir_extras: HashMap<u32, Box<Extras>>,
    /// The directories that are git directories.
    pub(super) git_dirs: HashSet<u32>,
}

/// A moment of a preorder traversal.
enum Step<'a> {
    Enter { parent: u32, node: &'a Node },
    Leave { index: u32, end: u32, node: &'a Node },
}

impl Tree {
    /// Adds the roots of another tree and all that is below them.
    pub(super) fn absorb(&mut self, mut other: Self) {
        let offset = self.dirs.len() as u32;
        let moved = other.roots.iter_mut().chain(other.dirs.iter_mut().flatten());
        moved.filter(|node| node.kind == EntryKind::Directory).for_each(|node| node.dir += offset);
        self.dirs.extend(other.dirs);
        self.dir_extras.extend(other.dir_extras.into_iter().map(|(dir, extras)| (dir + offset, extras)));
        self.git_dirs.extend(other.git_dirs.into_iter().map(|dir| dir + offset));
        self.roots.extend(other.roots);
        self.roots.sort_by(|one, other| one.name.cmp(&other.name));
    }

    /// Number of entries.
    pub(super) fn len(&self) -> usize {
        self.roots.len() + self.dirs.iter().map(Vec::len).sum::<usize>()
    }

    fn all(&self) -> impl Iterator<Item = &Node> {
        self.roots.iter().chain(self.dirs.iter().flatten())
    }

    /// Entries that must be read again next time. Of a git directory the names are, whatever its times say.
    pub(super) fn untrusted(&self) -> u64 {
        self.all().filter(|node| !node.trusted && !self.is_git_dir(node)).count() as u64
    }

    fn is_git_dir(&self, node: &Node) -> bool {
        node.kind == EntryKind::Directory && self.git_dirs.contains(&node.dir)
    }

    /// Entries that belong to somebody else than this user or this group.
    pub(super) fn foreign(&self, (uid, gid): (u32, u32)) -> u64 {
        self.all().filter(|node| (node.stat.uid, node.stat.gid) != (uid, gid)).count() as u64
    }

    /// Number of entries that are no directories, and the bytes of the files among them.
    pub(super) fn totals(&self) -> (u64, u64) {
        self.all().filter(|node| node.kind != EntryKind::Directory).fold((0, 0), |(files, bytes), node| {
            (files + 1, bytes + if node.kind == EntryKind::File { node.size } else { 0 })
        })
    }

    pub(super) fn extras_of<'a>(&'a self, node: &'a Node) -> Option<&'a Extras> {
        match node.kind {
            EntryKind::Directory => self.dir_extras.get(&node.dir).map(|extras| &**extras),
            _ => node.extras.as_deref(),
        }
    }

    fn traverse<'a, E>(&'a self, mut visit: impl FnMut(Step<'a>) -> Result<(), E>) -> Result<(), E> {
        let mut open: Vec<(u32, &Node, std::slice::Iter<'a, Node>)> = Vec::new();
        let mut roots = self.roots.iter();
        let mut next = 0_u32;
        loop {
            let (parent, node) = match open.last_mut() {
                Some((index, _, children)) => (*index, children.next()),
                None => (NO_PARENT, roots.next()),
            };
            let Some(node) = node else {
                let Some((index, dir, _)) = open.pop() else { return Ok(()) };
                visit(Step::Leave { index, end: next, node: dir })?;
                continue;
            };
            let index = next;
            next += 1;
            visit(Step::Enter { parent, node })?;
            if node.kind == EntryKind::Directory {
                open.push((index, node, self.dirs[node.dir as usize].iter()));
            }
        }
    }

    /// Numbers, from 1, for files that stand in the tree under several names.
    fn link_groups(&self) -> HashMap<(u64, u64), u32> {
        let linked = |node: &Node| node.kind != EntryKind::Directory && node.stat.nlink > 1;
        let mut names = HashMap::<_, u32>::new();
        for node in self.all().filter(|node| linked(node)) {
            *names.entry((node.stat.dev, node.stat.ino)).or_default() += 1;
        }
        names.retain(|_, count| *count > 1);
        let mut groups = HashMap::new();
        if !names.is_empty() {
            let _ = self.traverse(|step| {
                if let Step::Enter { node, .. } = step
                    && names.contains_key(&(node.stat.dev, node.stat.ino))
                    && linked(node)
                {
                    let number = groups.len() as u32 + 1;
                    groups.entry((node.stat.dev, node.stat.ino)).or_insert(number);
                }
                Ok::<(), std::convert::Infallible>(())
            });
        }
        groups
    }

    /// The manifest's bytes. `own` is a pack whose contents count as the manifest's own, besides new ones.
    pub(super) fn encode_manifest(&self, packs: &[Digest], own: Option<u32>) -> Encoded {
        let mut encoder = ManifestEncoder {
            tree: self,
            out: manifest::header(self.len(), 0),
            listings: vec![Vec::new()],
            starts: Vec::new(),
            used: Vec::new(),
            numbers: vec![None; packs.len()],
            groups: self.link_groups(),
            own,
            dirs: vec![(Digest([0; 32]), 0); self.dirs.len()],
        };
        let _ = self.traverse(|step| {
            encoder.step(&step);
            Ok::<(), std::convert::Infallible>(())
        });
        encoder.finish(packs)
    }

    /// Writes the stat table, with the hashes of directories from the manifest. Pack numbers are translated by
    /// `renumber`.
    pub(super) fn encode_table<W: Write>(
        &self,
        out: W,
        (header, dirs): (Header, &[(Digest, u64)]),
        (packs, watched): (&[(Digest, u64)], &[Watched]),
        renumber: impl Fn(Location) -> Location,
    ) -> io::Result<W> {
        let mut ends = Vec::with_capacity(self.len());
        self.traverse(|step| {
            match step {
                Step::Enter { .. } => ends.push(ends.len() as u32 + 1),
                Step::Leave { index, end, .. } => ends[index as usize] = end,
            }
            Ok::<(), io::Error>(())
        })?;
        let mut ends = ends.into_iter();
        let mut writer = TableWriter::begin(out, header, packs, watched)?;
        self.traverse(|step| {
            let Step::Enter { parent, node } = step else { return Ok(()) };
            let (digest, size) = match node.kind {
                EntryKind::Directory => dirs[node.dir as usize],
                _ => (node.digest, node.size),
            };
            let record = Record {
                stat: node.stat,
                digest,
                size,
                parent,
                end: ends.next().unwrap_or_default(),
                location: renumber(node.location),
                sparse: node.sparse,
                trusted: node.trusted,
                git_dir: self.is_git_dir(node),
                name: (0, 0),
                extras_bytes: 0,
            };
            writer.push(record, &node.name, self.extras_of(node))
        })?;
        writer.finish()
    }
}

/// A manifest ready to be stored.
#[derive(Debug)]
pub(super) struct Encoded {
    pub(super) bytes: Vec<u8>,
    pub(super) digest: Digest,
    pub(super) input_hash: Digest,
    /// The packs it names, by their number in the capture's list.
    pub(super) used: Vec<u32>,
    /// Digest and size of each directory's listing, by its place in [`Tree::dirs`].
    pub(super) dirs: Vec<(Digest, u64)>,
    /// Whether a file stands under several names.
    pub(super) has_links: bool,
}

struct ManifestEncoder<'a> {
    tree: &'a Tree,
    out: Vec<u8>,
    /// Listings of the directories that are open, the roots' first.
    listings: Vec<Vec<u8>>,
    /// Where their entries begin in `out`.
    starts: Vec<usize>,
    used: Vec<u32>,
    numbers: Vec<Option<u32>>,
    groups: HashMap<(u64, u64), u32>,
    own: Option<u32>,
    dirs: Vec<(Digest, u64)>,
}

impl ManifestEncoder<'_> {
    fn step(&mut self, step: &Step<'_>) {
        match step {
            Step::Enter { parent, node } => self.enter(*parent, node),
            Step::Leave { node, .. } => self.leave(node),
        }
    }

    fn enter(&mut self, parent: u32, node: &Node) {
        let start = self.out.len();
        let entry = ManifestEntry {
            name: node.name.clone(),
            parent,
            end: 0,
            kind: node.kind,
            mode: listing_mode(node),
            digest: node.digest,
            size: node.size,
            mtime: node.stat.mtime,
            uid: node.stat.uid,
            gid: node.stat.gid,
            sparse: node.sparse,
            link_group: self.group_of(node),
            location: self.location_of(node.location),
            extras: self.tree.extras_of(node).cloned().map(Box::new),
        };
        entry.write_to(&mut self.out);
        if node.kind == EntryKind::Directory {
            self.starts.push(start);
            self.listings.push(Vec::new());
        } else {
            self.list(node, node.digest, node.size);
        }
    }

    fn leave(&mut self, node: &Node) {
        let (Some(listing), Some(start)) = (self.listings.pop(), self.starts.pop()) else { return };
        let (digest, size) = (Digest(Sha256::digest(&listing).into()), listing.len() as u64);
        let field = &mut self.out[start + DIGEST_AT..start + DIGEST_AT + 40];
        field[..32].copy_from_slice(&digest.0);
        field[32..].copy_from_slice(&size.to_le_bytes());
        self.dirs[node.dir as usize] = (digest, size);
        self.list(node, digest, size);
    }

    fn list(&mut self, node: &Node, digest: Digest, size: u64) {
        let entry = Entry { mode: listing_mode(node), kind: node.kind, digest, size, name: node.name.to_vec() };
        if let Some(listing) = self.listings.last_mut() {
            entry.write_to(listing);
        }
    }

    fn group_of(&self, node: &Node) -> u32 {
        match node.kind {
            EntryKind::Directory => 0,
            _ => self.groups.get(&(node.stat.dev, node.stat.ino)).copied().unwrap_or(0),
        }
    }

    /// Packs are numbered in the order of their first use, so that the same tree gives the same bytes.
    fn location_of(&mut self, location: Location) -> Location {
        match location {
            Location::Pack(number) if Some(number) == self.own => Location::Own,
            Location::Pack(number) => {
                let used = &mut self.used;
                let slot = &mut self.numbers[number as usize];
                Location::Pack(*slot.get_or_insert_with(|| {
                    used.push(number);
                    used.len() as u32 - 1
                }))
            }
            other => other,
        }
    }

    fn finish(mut self, packs: &[Digest]) -> Encoded {
        for number in &self.used {
            self.out.extend_from_slice(&packs[*number as usize].0);
        }
        let count = manifest::header(self.tree.len(), self.used.len());
        self.out[..count.len()].copy_from_slice(&count);
        let roots = self.listings.pop().unwrap_or_default();
        Encoded {
            digest: Digest(Sha256::digest(&self.out).into()),
            input_hash: Digest(Sha256::digest(&roots).into()),
            bytes: self.out,
            used: self.used,
            dirs: self.dirs,
            has_links: !self.groups.is_empty(),
        }
    }
}

/// A link has no mode of its own; Linux reports 0777 (symlink(7)), and so does the listing everywhere.
fn listing_mode(node: &Node) -> u32 {
    if node.kind == EntryKind::Symlink { 0o777 } else { node.stat.permissions() }
}

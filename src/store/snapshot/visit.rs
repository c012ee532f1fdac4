//! What the general walk does with one name: ask the stat table, else read.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::atomic::Ordering;

use rustix::fs::CWD;
use rustix::time::{ClockId, clock_gettime};
use sha2::{Digest as _, Sha256};

use super::error::CaptureError;
use super::gather::{DirAt, RootLinks, Share, Task, Walk};
use super::manifest::{Extras, Location};
use super::pack_writer::lock;
use super::policy::CaptureRoot;
use super::read::{Reader, Sink};
use super::siblings::KnownSiblings;
use super::special::Special;
use super::table_record::{Record, entry_kind};
use super::tree::Node;
use crate::model::{Digest, EntryKind, Text};
use crate::store::ignore::{Entered, Rules, Verdict};
use crate::sys::walk::{self, Name, ObjectKind, Stat};

/// Timestamps are given at the kernel's tick (4 ms at 250 Hz, 10 ms at 100 Hz): a second write this soon after a
/// first can leave all times as they are.
const TICK_NS: i64 = 20_000_000;
/// The same for filesystems that store whole seconds or two (FAT).
const COARSE_TICK_NS: i64 = 2_000_000_000;

/// A moment of the clock that stamps files.
#[derive(Clone, Copy, Debug)]
pub(super) struct SystemTick(i64);

impl SystemTick {
    pub(super) fn now() -> Self {
        let now = clock_gettime(ClockId::Realtime);
        Self(now.tv_sec.saturating_mul(1_000_000_000).saturating_add(now.tv_nsec))
    }

    /// Whether a file with this stat, taken not before this moment, can be changed without its stat showing it:
    /// git's racy rule (its `Documentation/technical/racy-git.txt`).
    pub(super) fn is_racy(self, stat: &Stat) -> bool {
        let ns = |(seconds, ns): (i64, u32)| seconds.saturating_mul(1_000_000_000).saturating_add(i64::from(ns));
        let margin = if stat.mtime.1 == 0 && stat.ctime.1 == 0 { COARSE_TICK_NS } else { TICK_NS };
        ns(stat.mtime).max(ns(stat.ctime)) >= self.0 - margin
    }
}

/// How to get at something that is no directory.
pub(super) struct Place<'a> {
    pub(super) open: &'a dyn Fn() -> io::Result<OwnedFd>,
    pub(super) link: &'a dyn Fn() -> io::Result<Vec<u8>>,
    pub(super) path: &'a dyn Fn() -> Text,
}

/// A directory that was come across.
struct NewDir {
    root: u32,
    path: Vec<u8>,
    rules: Rules,
}

impl Walk<'_> {
    /// Takes the roots that are no directories, and queues those that are.
    pub(super) fn take_roots(&mut self) -> Result<Vec<Node>, CaptureError> {
        let mut reader = Reader::new(self.plan.sink);
        let mut nodes = Vec::new();
        let mut known = KnownSiblings::of(self.plan.known, None);
        for (number, root) in self.plan.roots.iter().enumerate() {
            let known = known.advance_to(&root.name.0);
            nodes.extend(self.take_root(&mut reader, number as u32, root, known)?);
        }
        reader.finish()?;
        Ok(nodes)
    }

    fn take_root(
        &mut self,
        reader: &mut Reader<'_>,
        number: u32,
        root: &CaptureRoot,
        known: Option<(u32, Record)>,
    ) -> Result<Option<Node>, CaptureError> {
        use std::os::unix::ffi::OsStrExt as _;
        let path = root.path.as_os_str().as_bytes();
        let name: Box<[u8]> = root.name.0.clone().into();
        let unreadable = |source| CaptureError::Unreadable { path: root.name.clone(), source };
        self.bases.push(None);
        let now = SystemTick::now();
        let follow = self.plan.root_links == RootLinks::Follow;
        let stat = if follow { walk::stat_at(CWD, path) } else { walk::lstat_at(CWD, path) }.map_err(unreadable)?;
        if stat.kind() != ObjectKind::Directory {
            let place = Place {
                open: &|| {
                    if follow { walk::open_file(path) } else { walk::open_file_as(self.plan.policy.access, CWD, path) }
                },
                link: &|| walk::link_target(CWD, path),
                path: &|| root.name.clone(),
            };
            return self.take_other(reader, name, &place, (stat, now), known.map(|(_, record)| record));
        }
        let base = if follow { walk::open_dir(path) } else { walk::open_dir_itself(path) }.map_err(unreadable)?;
        // The directory that is open is the one that is described, even if the name was moved meanwhile.
        let stat = walk::stat_of(&base).map_err(unreadable)?;
        let rules = self.plan.scopes[number as usize].rules.clone();
        let node = self.take_dir(name, (stat, now), known, NewDir { root: number, path: Vec::new(), rules });
        self.bases[number as usize] = Some(base);
        Ok(Some(node))
    }

    /// Takes some names of one directory.
    pub(super) fn take_names(
        &self,
        at: &DirAt,
        rules: &Entered,
        dir: BorrowedFd<'_>,
        names: Vec<Name>,
        now: SystemTick,
        reader: &mut Reader<'_>,
    ) -> Result<Vec<Node>, CaptureError> {
        let mut nodes = Vec::with_capacity(names.len());
        let mut siblings = match at.known {
            Some(dir) => KnownSiblings::of(self.plan.known, Some(dir)),
            None => KnownSiblings::of(None, None),
        };
        for Name { bytes: name } in names {
            let path = || self.listing_path(at, &name);
            let stat = match walk::lstat_at(dir, &name) {
                Ok(stat) => stat,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(source) => return Err(CaptureError::Unreadable { path: path(), source }),
            };
            let Some(below) = self.rules_below(at, rules, &name, &stat) else { continue };
            let known = siblings.advance_to(&name);
            if stat.kind() == ObjectKind::Directory {
                let below = NewDir { root: at.root, path: join(&at.path, &name), rules: below };
                nodes.push(self.take_dir(name, (stat, now), known, below));
                continue;
            }
            let place = Place {
                open: &|| walk::open_file_as(self.plan.policy.access, dir, &name),
                link: &|| walk::link_target(dir, &name),
                path: &path,
            };
            let known = known.map(|(_, record)| record);
            nodes.extend(self.take_other(reader, name.clone(), &place, (stat, now), known)?);
        }
        Ok(nodes)
    }

    /// The rules below a name that is taken; none if it is left out.
    fn rules_below(&self, at: &DirAt, rules: &Entered, name: &[u8], stat: &Stat) -> Option<Rules> {
        if stat.kind() == ObjectKind::Directory && self.plan.skip.contains(&(stat.dev, stat.ino)) {
            return None;
        }
        let is_excluded = self.plan.policy.leaves_out(|| self.listing_path(at, name), name);
        if !is_excluded
            && let Verdict::Taken(below) = rules.verdict(self.plan.sources, self.whereabouts(at), name, stat)
        {
            return Some(below);
        }
        self.left_out.fetch_add(1, Ordering::Relaxed);
        if let Sink::Count(_) = self.plan.sink {
            lock(&self.found).named.note(self.listing_path(at, name), is_excluded);
        }
        rules.note_left_out(self.plan.sources, self.whereabouts(at), name, stat);
        None
    }

    /// Queues a directory; its digest comes when the tree is encoded.
    fn take_dir(
        &self,
        name: Box<[u8]>,
        (stat, now): (Stat, SystemTick),
        known: Option<(u32, Record)>,
        below: NewDir,
    ) -> Node {
        let mut found = lock(&self.found);
        let dir = found.dirs.len() as u32;
        found.dirs.push(Vec::new());
        drop(found);
        let trusted = !now.is_racy(&stat);
        self.note_news(known.as_ref().map(|(_, record)| record), &stat, trusted);
        let known = known.filter(|(_, record)| record.kind() == Some(EntryKind::Directory)).map(|(index, _)| index);
        let at = DirAt { dir, root: below.root, path: below.path, known };
        lock(&self.queue).tasks.push(Task { at, share: Share::Whole(below.rules) });
        self.ready.notify_one();
        Node { dir, trusted, ..node(name, stat, EntryKind::Directory) }
    }

    /// Takes what is no directory. None: a socket, a device, or gone.
    fn take_other(
        &self,
        reader: &mut Reader<'_>,
        name: Box<[u8]>,
        place: &Place<'_>,
        (stat, now): (Stat, SystemTick),
        known: Option<Record>,
    ) -> Result<Option<Node>, CaptureError> {
        let Some(kind) = entry_kind(stat.kind()) else {
            let (kind, rdev, is_whiteout) = (stat.kind(), stat.rdev, stat.is_whiteout());
            let special = Special { path: (place.path)(), kind, rdev, is_whiteout };
            let mut found = lock(&self.found);
            found.overlay.extend(special.mark().map(|mark| (special.path.clone(), mark)));
            found.specials.push(special);
            return Ok(None);
        };
        let trusted = !now.is_racy(&stat);
        if let Some(known) = known.as_ref().filter(|known| self.answers(known, &stat)) {
            return Ok(Some(self.count(self.known_node(name, stat, kind, known))));
        }
        let node = match kind {
            EntryKind::File => self.take_file(reader, name, place, (stat, now))?,
            EntryKind::Symlink => take_link(name, place, stat)?.map(|node| Node { trusted, ..node }),
            _ => Some(Node { trusted, digest: Digest(Sha256::digest(b"").into()), ..node(name, stat, kind) }),
        };
        if let Some(node) = &node {
            self.note_news(known.as_ref(), &node.stat, node.trusted);
        }
        Ok(node.map(|node| self.count(node)))
    }

    fn take_file(
        &self,
        reader: &mut Reader<'_>,
        name: Box<[u8]>,
        place: &Place<'_>,
        (stat, now): (Stat, SystemTick),
    ) -> Result<Option<Node>, CaptureError> {
        let limit = self.plan.policy.limit_bytes;
        if self.read_bytes.fetch_add(stat.size, Ordering::Relaxed).saturating_add(stat.size) > limit {
            return Err(CaptureError::TooLarge { limit_bytes: limit, largest: Vec::new() });
        }
        let Some(read) = reader.read(place.open, place.path)? else {
            return Ok(None);
        };
        if !read.stable {
            lock(&self.found).unstable.push((place.path)());
        }
        if !read.overlay.is_empty() {
            self.note_overlay((place.path)(), &read.overlay);
        }
        let extras =
            (!read.xattrs.is_empty()).then(|| Box::new(Extras { target: Box::default(), xattrs: read.xattrs }));
        Ok(Some(Node {
            digest: read.digest,
            size: read.size,
            location: read.location,
            sparse: read.stat.is_sparse(),
            trusted: read.stable && !now.is_racy(&read.stat),
            extras,
            ..node(name, read.stat, EntryKind::File)
        }))
    }

    /// Whether the stat table's record still holds.
    fn answers(&self, known: &Record, stat: &Stat) -> bool {
        known.trusted
            && known.stat.same_as(stat)
            && match self.plan.sink {
                Sink::Hash | Sink::Keep(..) => true,
                Sink::Store(_) | Sink::Count(_) if stat.kind() != ObjectKind::File => true,
                Sink::Store(storing) | Sink::Count(storing) => {
                    storing.is_available(known.location, known.digest, known.size)
                }
            }
    }

    fn known_node(&self, name: Box<[u8]>, stat: Stat, kind: EntryKind, known: &Record) -> Node {
        Node {
            digest: known.digest,
            size: known.size,
            location: known.location,
            sparse: known.sparse,
            trusted: true,
            extras: self.plan.known.and_then(|table| table.extras(known)),
            ..node(name, stat, kind)
        }
    }

    fn note_news(&self, known: Option<&Record>, stat: &Stat, trusted: bool) {
        if !known.is_some_and(|known| known.stat.same_as(stat) && known.trusted == trusted) {
            self.news.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn count(&self, node: Node) -> Node {
        self.files.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(node.size, Ordering::Relaxed);
        node
    }
}

fn take_link(name: Box<[u8]>, place: &Place<'_>, stat: Stat) -> Result<Option<Node>, CaptureError> {
    let target = match (place.link)() {
        Ok(target) => target,
        // Gone, or no link any more.
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::InvalidInput) => return Ok(None),
        Err(source) => return Err(CaptureError::Unreadable { path: (place.path)(), source }),
    };
    Ok(Some(Node {
        digest: Digest(Sha256::digest(&target).into()),
        size: target.len() as u64,
        extras: Some(Box::new(Extras { target: target.into(), xattrs: Vec::new() })),
        ..node(name, stat, EntryKind::Symlink)
    }))
}

fn node(name: Box<[u8]>, stat: Stat, kind: EntryKind) -> Node {
    Node {
        name,
        stat,
        digest: Digest([0; 32]),
        size: 0,
        location: Location::Nothing,
        kind,
        sparse: false,
        trusted: false,
        dir: 0,
        extras: None,
    }
}

fn join(dir: &[u8], name: &[u8]) -> Vec<u8> {
    if dir.is_empty() { name.to_vec() } else { [dir, b"/", name].concat() }
}

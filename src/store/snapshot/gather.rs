//! The general walk: two threads take directories from one queue, stat what is in them, and read what the stat
//! table does not answer for.

use std::collections::{HashMap, HashSet};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};

use super::count::NamedLeftOut;
use super::error::CaptureError;
use super::manifest::Extras;
use super::pack_writer::lock;
use super::policy::{CapturePolicy, CaptureProgress, CaptureRoot};
use super::read::{Reader, Sink};
use super::special::{OverlayMark, Special, mark_of};
use super::table::StatTable;
use super::table_header::{Facts, Header};
use super::tree::{Encoded, Node, Tree};
use super::visit::SystemTick;
use crate::model::{Digest, Text};
use crate::store::ignore::{Entered, Rules, Sources, Watched, Whereabouts};
use crate::sys::walk::{self, Name};
use crate::sys::xattr::{self, Xattr};

/// Directories with more names are shared out.
const SPLIT_NAMES: usize = 1024;
const DIRENT_BYTES: usize = 64 << 10;

/// What a root that is a symbolic link means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RootLinks {
    /// What it points to, as with `cp -H`.
    Follow,
    /// The link itself.
    Keep,
}

/// What a walk is asked to do.
pub(super) struct Plan<'a> {
    /// Sorted by name, without duplicates.
    pub(super) roots: &'a [CaptureRoot],
    pub(super) root_links: RootLinks,
    pub(super) policy: &'a CapturePolicy,
    /// Where each root is and what holds in it.
    pub(super) scopes: &'a [Scope],
    pub(super) sources: &'a Sources,
    /// Device and inode of directories that are never entered.
    pub(super) skip: Vec<(u64, u64)>,
    pub(super) known: Option<&'a StatTable>,
    pub(super) sink: Sink<'a>,
    pub(super) progress: &'a (dyn Fn(CaptureProgress) + Sync),
}

/// Where a root is, and what is left out of it.
#[derive(Clone, Debug)]
pub(super) struct Scope {
    pub(super) path: PathBuf,
    pub(super) rules: Rules,
}

impl Scope {
    /// The scope of a root that somebody named.
    pub(super) fn of_root(sources: &Sources, root: &CaptureRoot) -> Self {
        let path = root.path.canonicalize().unwrap_or_else(|_| root.path.clone());
        Self { rules: Rules::of_root(sources, &path), path }
    }
}

/// What a walk found.
#[derive(Debug, Default)]
pub(super) struct Gathered {
    pub(super) tree: Tree,
    pub(super) unstable: Vec<Text>,
    pub(super) specials: Vec<Special>,
    pub(super) overlay: Vec<(Text, OverlayMark)>,
    /// Entries about which the stat table was silent or wrong.
    pub(super) news: u64,
    /// Names that were left out.
    pub(super) left_out: u64,
    /// Some of them, where they are only counted.
    pub(super) named: NamedLeftOut,
    /// Bytes of the files that the stat table did not answer for.
    pub(super) read_bytes: u64,
    /// Files elsewhere that decided what was found.
    pub(super) watched: Vec<Watched>,
    /// Entries and files elsewhere that must be looked at again next time.
    pub(super) untrusted: u64,
}

impl Gathered {
    /// What a stat table says of it as a whole, but for where contents are.
    pub(super) fn header(&self, encoded: &Encoded) -> Header {
        let (files, bytes) = self.tree.totals();
        let owner = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        Header {
            key: Digest([0; 32]),
            input_hash: encoded.input_hash,
            manifest: encoded.digest,
            pack: Digest([0; 32]),
            entries: self.tree.len() as u64,
            packs: 0,
            files,
            bytes,
            skipped: self.specials.len() as u64,
            untrusted: self.untrusted,
            left_out: self.left_out,
            owner,
            foreign: self.tree.foreign(owner),
            facts: if encoded.has_links { Facts::LINKS } else { Facts::default() },
            watched: 0,
            watched_bytes: 0,
        }
    }

    /// Adds what another walk found, of other roots.
    pub(super) fn absorb(&mut self, other: Self) {
        self.tree.absorb(other.tree);
        self.unstable.extend(other.unstable);
        self.unstable.sort_unstable();
        self.specials.extend(other.specials);
        self.specials.sort_unstable_by(|one, other| one.path.cmp(&other.path));
        self.overlay.extend(other.overlay);
        self.overlay.sort_by(|one, other| one.0.cmp(&other.0));
        self.news += other.news;
        self.left_out += other.left_out;
        self.named.absorb(other.named);
        self.read_bytes += other.read_bytes;
    }
}

/// A directory to take, or a part of one.
pub(super) struct Task {
    pub(super) at: DirAt,
    pub(super) share: Share,
}

/// A directory that was come across.
#[derive(Clone)]
pub(super) struct DirAt {
    /// Its place in the tree.
    pub(super) dir: u32,
    pub(super) root: u32,
    pub(super) path: Vec<u8>,
    /// Its record in the stat table.
    pub(super) known: Option<u32>,
}

/// How much of a directory a task is.
pub(super) enum Share {
    /// All of it: nothing of it is known yet but the rules around it.
    Whole(Rules),
    /// Some of its names, the first of them being its `start`th.
    Part { start: u32, names: Vec<Name>, rules: Entered },
}

#[derive(Default)]
pub(super) struct Queue {
    pub(super) tasks: Vec<Task>,
    pub(super) busy: usize,
}

#[derive(Default)]
pub(super) struct Found {
    pub(super) dirs: Vec<Vec<(u32, Vec<Node>)>>,
    pub(super) dir_extras: HashMap<u32, Box<Extras>>,
    pub(super) git_dirs: HashSet<u32>,
    pub(super) unstable: Vec<Text>,
    pub(super) specials: Vec<Special>,
    pub(super) overlay: Vec<(Text, OverlayMark)>,
    pub(super) named: NamedLeftOut,
}

pub(super) struct Walk<'a> {
    pub(super) plan: &'a Plan<'a>,
    pub(super) bases: Vec<Option<OwnedFd>>,
    pub(super) queue: Mutex<Queue>,
    pub(super) ready: Condvar,
    pub(super) stop: AtomicBool,
    pub(super) failed: Mutex<Option<CaptureError>>,
    pub(super) found: Mutex<Found>,
    pub(super) files: AtomicU64,
    pub(super) bytes: AtomicU64,
    pub(super) read_bytes: AtomicU64,
    pub(super) news: AtomicU64,
    pub(super) left_out: AtomicU64,
}

/// Walks all roots.
pub(super) fn gather(plan: &Plan<'_>) -> Result<Gathered, CaptureError> {
    let mut walk = Walk {
        plan,
        bases: Vec::new(),
        queue: Mutex::default(),
        ready: Condvar::new(),
        stop: AtomicBool::new(false),
        failed: Mutex::new(None),
        found: Mutex::default(),
        files: AtomicU64::new(0),
        bytes: AtomicU64::new(0),
        read_bytes: AtomicU64::new(0),
        news: AtomicU64::new(0),
        left_out: AtomicU64::new(0),
    };
    let roots = walk.take_roots()?;
    walk.run();
    walk.finish(roots)
}

impl Walk<'_> {
    fn run(&self) {
        std::thread::scope(|scope| {
            let mut is_shared = false;
            self.work(&mut || {
                // A thread costs as much as some forty small files: only where there is something to share. Without one
                // there is more for this one.
                if !std::mem::replace(&mut is_shared, true) {
                    let _ = std::thread::Builder::new().spawn_scoped(scope, || self.work(&mut || ()));
                }
            });
        });
    }

    fn work(&self, share: &mut dyn FnMut()) {
        let mut reader = Reader::new(self.plan.sink);
        let mut dirents = vec![MaybeUninit::uninit(); DIRENT_BYTES];
        while let Some(task) = self.next_task() {
            if let Err(error) = self.take_task(task, &mut reader, &mut dirents) {
                self.fail(error);
            }
            let mut queue = lock(&self.queue);
            queue.busy -= 1;
            let waiting = queue.tasks.len();
            drop(queue);
            self.ready.notify_all();
            if waiting > 1 {
                share();
            }
            self.report();
        }
        // After a failure nothing is kept, so nothing more is written.
        if self.stop.load(Ordering::Relaxed) {
            return;
        }
        if let Err(error) = reader.finish() {
            self.fail(error);
        }
    }

    fn next_task(&self) -> Option<Task> {
        let mut queue = lock(&self.queue);
        loop {
            if self.stop.load(Ordering::Relaxed) {
                return None;
            }
            if let Some(task) = queue.tasks.pop() {
                queue.busy += 1;
                return Some(task);
            }
            if queue.busy == 0 {
                self.ready.notify_all();
                return None;
            }
            queue = self.ready.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn fail(&self, error: CaptureError) {
        lock(&self.failed).get_or_insert(error);
        self.stop.store(true, Ordering::Relaxed);
        // Taking the lock orders the store before a waiter's next look.
        drop(lock(&self.queue));
        self.ready.notify_all();
    }

    fn report(&self) {
        let (files, bytes) = (self.files.load(Ordering::Relaxed), self.bytes.load(Ordering::Relaxed));
        (self.plan.progress)(CaptureProgress { files, bytes });
    }

    fn take_task(
        &self,
        task: Task,
        reader: &mut Reader<'_>,
        dirents: &mut [MaybeUninit<u8>],
    ) -> Result<(), CaptureError> {
        let Task { at, share } = task;
        let Some(base) = &self.bases[at.root as usize] else { return Ok(()) };
        let unreadable = |at: &DirAt, source| CaptureError::Unreadable { path: self.listing_path(at, b""), source };
        let now = SystemTick::now();
        let dir = match walk::open_dir_below_as(self.plan.policy.access, base.as_fd(), &at.path) {
            Ok(dir) => dir,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(unreadable(&at, error)),
        };
        let (start, names, rules) = match share {
            Share::Part { start, names, rules } => (start, names, rules),
            Share::Whole(rules) => {
                self.take_xattrs(&at, dir.as_fd()).map_err(|error| unreadable(&at, error))?;
                let names = walk::sorted_names(dir.as_fd(), dirents).map_err(|error| unreadable(&at, error))?;
                let entered = rules.enter(self.plan.sources, dir.as_fd(), self.whereabouts(&at), &names);
                if entered.is_git_dir(dir.as_fd(), &names) {
                    lock(&self.found).git_dirs.insert(at.dir);
                }
                if names.len() > SPLIT_NAMES {
                    self.split(&at, names, &entered);
                    return Ok(());
                }
                (0, names, entered)
            }
        };
        let nodes = self.take_names(&at, &rules, dir.as_fd(), names, now, reader)?;
        lock(&self.found).dirs[at.dir as usize].push((start, nodes));
        Ok(())
    }

    fn take_xattrs(&self, at: &DirAt, dir: BorrowedFd<'_>) -> std::io::Result<()> {
        let (xattrs, overlay) = xattr::read_with_overlay(dir)?;
        if !overlay.is_empty() {
            self.note_overlay(self.listing_path(at, b""), &overlay);
        }
        if !xattrs.is_empty() {
            let extras = Extras { target: Box::default(), xattrs };
            lock(&self.found).dir_extras.insert(at.dir, Box::new(extras));
        }
        Ok(())
    }

    /// Notes what an object means in the upper layer of an overlay.
    pub(super) fn note_overlay(&self, path: Text, xattrs: &[Xattr]) {
        lock(&self.found).overlay.extend(xattrs.iter().filter_map(mark_of).map(|mark| (path.clone(), mark)));
    }

    /// Queues the names of a large directory in parts.
    fn split(&self, at: &DirAt, mut names: Vec<Name>, rules: &Entered) {
        let mut queue = lock(&self.queue);
        while !names.is_empty() {
            let start = names.len().saturating_sub(SPLIT_NAMES / 2);
            let share = Share::Part { names: names.split_off(start), start: start as u32, rules: rules.clone() };
            queue.tasks.push(Task { at: at.clone(), share });
        }
    }

    /// The full listing path of a name in a directory.
    pub(super) fn listing_path(&self, at: &DirAt, name: &[u8]) -> Text {
        let root = &*self.plan.roots[at.root as usize].name.0;
        let parts: Vec<&[u8]> = [root, &*at.path, name].into_iter().filter(|part| !part.is_empty()).collect();
        Text(parts.join(&b'/'))
    }

    pub(super) fn whereabouts<'b>(&'b self, at: &'b DirAt) -> Whereabouts<'b> {
        Whereabouts { root: &self.plan.scopes[at.root as usize].path, below: &at.path }
    }

    fn finish(self, roots: Vec<Node>) -> Result<Gathered, CaptureError> {
        if let Some(error) = lock(&self.failed).take() {
            return Err(error);
        }
        let mut found = std::mem::take(&mut *lock(&self.found));
        let Found { dir_extras, git_dirs, .. } = &mut found;
        let (dir_extras, git_dirs) = (std::mem::take(dir_extras), std::mem::take(git_dirs));
        let mut tree = Tree { roots, dirs: Vec::with_capacity(found.dirs.len()), dir_extras, git_dirs };
        for mut parts in found.dirs {
            parts.sort_unstable_by_key(|(start, _)| *start);
            let mut nodes = parts.into_iter().map(|(_, nodes)| nodes);
            let mut first = nodes.next().unwrap_or_default();
            first.extend(nodes.flatten());
            tree.dirs.push(first);
        }
        found.unstable.sort_unstable();
        found.specials.sort_unstable_by(|one, other| one.path.cmp(&other.path));
        found.overlay.sort_by(|one, other| one.0.cmp(&other.0));
        Ok(Gathered {
            tree,
            unstable: found.unstable,
            specials: found.specials,
            overlay: found.overlay,
            news: self.news.load(Ordering::Relaxed),
            left_out: self.left_out.load(Ordering::Relaxed),
            named: found.named,
            read_bytes: self.read_bytes.load(Ordering::Relaxed),
            watched: Vec::new(),
            untrusted: 0,
        })
    }
}

//! The general walk: two threads take directories from one queue, stat what is in them, and read what the stat
//! table does not answer for.

use std::collections::HashMap;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};

use super::error::CaptureError;
use super::manifest::Extras;
use super::pack_writer::lock;
use super::policy::{CaptureProgress, CaptureRoot, Exclude};
use super::read::{Reader, Sink};
use super::table::StatTable;
use super::tree::{Node, Tree};
use super::visit::SystemTick;
use crate::model::Text;
use crate::sys::walk::{self, Access, Name, ObjectKind};
use crate::sys::xattr;

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
    pub(super) access: Access,
    pub(super) exclude: &'a Exclude,
    /// Device and inode of directories that are never entered.
    pub(super) skip: Vec<(u64, u64)>,
    pub(super) limit_bytes: u64,
    pub(super) known: Option<&'a StatTable>,
    pub(super) sink: Sink<'a>,
    pub(super) progress: &'a (dyn Fn(CaptureProgress) + Sync),
}

/// What a walk found.
#[derive(Debug, Default)]
pub(super) struct Gathered {
    pub(super) tree: Tree,
    pub(super) unstable: Vec<Text>,
    pub(super) specials: Vec<(Text, ObjectKind)>,
    /// Entries about which the stat table was silent or wrong.
    pub(super) news: u64,
}

/// Some names of one directory, or all of them when they are not known yet.
pub(super) struct Task {
    pub(super) dir: u32,
    pub(super) root: u32,
    pub(super) path: Vec<u8>,
    pub(super) known: Option<u32>,
    pub(super) names: Option<(u32, Vec<Name>)>,
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
    pub(super) unstable: Vec<Text>,
    pub(super) specials: Vec<(Text, ObjectKind)>,
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
    };
    let roots = walk.take_roots()?;
    walk.run();
    walk.finish(roots)
}

impl Walk<'_> {
    fn run(&self) {
        std::thread::scope(|scope| {
            let mut helper = None;
            self.work(&mut || {
                // A thread costs as much as some forty small files: only where there is something to share.
                if helper.is_none() {
                    helper = Some(scope.spawn(|| self.work(&mut || ())));
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
        mut task: Task,
        reader: &mut Reader<'_>,
        dirents: &mut [MaybeUninit<u8>],
    ) -> Result<(), CaptureError> {
        let Some(base) = &self.bases[task.root as usize] else { return Ok(()) };
        let unreadable = |task: &Task, source| CaptureError::Unreadable { path: self.listing_path(task, b""), source };
        let now = SystemTick::now();
        let dir = match walk::open_dir_below_as(self.plan.access, base.as_fd(), &task.path) {
            Ok(dir) => dir,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(unreadable(&task, error)),
        };
        let (start, names) = match task.names.take() {
            Some(part) => part,
            None => {
                self.take_xattrs(&task, dir.as_fd()).map_err(|error| unreadable(&task, error))?;
                let names = walk::sorted_names(dir.as_fd(), dirents).map_err(|error| unreadable(&task, error))?;
                if names.len() > SPLIT_NAMES {
                    self.split(task, names);
                    return Ok(());
                }
                (0, names)
            }
        };
        let nodes = self.take_names(&task, dir.as_fd(), names, now, reader)?;
        lock(&self.found).dirs[task.dir as usize].push((start, nodes));
        Ok(())
    }

    fn take_xattrs(&self, task: &Task, dir: BorrowedFd<'_>) -> std::io::Result<()> {
        let xattrs = xattr::read_all(dir)?;
        if !xattrs.is_empty() {
            let extras = Extras { target: Box::default(), xattrs };
            lock(&self.found).dir_extras.insert(task.dir, Box::new(extras));
        }
        Ok(())
    }

    /// Queues the names of a large directory in parts.
    fn split(&self, task: Task, mut names: Vec<Name>) {
        let mut queue = lock(&self.queue);
        while !names.is_empty() {
            let start = names.len().saturating_sub(SPLIT_NAMES / 2);
            let part = names.split_off(start);
            queue.tasks.push(Task { path: task.path.clone(), names: Some((start as u32, part)), ..task });
        }
    }

    /// The full listing path of a name in the directory of a task.
    pub(super) fn listing_path(&self, task: &Task, name: &[u8]) -> Text {
        let root = &*self.plan.roots[task.root as usize].name.0;
        let parts: Vec<&[u8]> = [root, &*task.path, name].into_iter().filter(|part| !part.is_empty()).collect();
        Text(parts.join(&b'/'))
    }

    fn finish(self, roots: Vec<Node>) -> Result<Gathered, CaptureError> {
        if let Some(error) = lock(&self.failed).take() {
            return Err(error);
        }
        let mut found = std::mem::take(&mut *lock(&self.found));
        let mut tree = Tree { roots, dirs: Vec::with_capacity(found.dirs.len()), dir_extras: found.dir_extras };
        for mut parts in found.dirs {
            parts.sort_unstable_by_key(|(start, _)| *start);
            let mut nodes = parts.into_iter().map(|(_, nodes)| nodes);
            let mut first = nodes.next().unwrap_or_default();
            first.extend(nodes.flatten());
            tree.dirs.push(first);
        }
        found.unstable.sort_unstable();
        found.specials.sort_unstable_by(|one, other| one.0.cmp(&other.0));
        Ok(Gathered {
            tree,
            unstable: found.unstable,
            specials: found.specials,
            news: self.news.load(Ordering::Relaxed),
        })
    }
}

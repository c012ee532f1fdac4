//! From what was staged to a plan: every path that will be touched must still be what it was when the run began.

use std::collections::HashSet;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::Path;

use crate::model::{EntryKind, RelPath, Text};
use crate::store::snapshot::{BaseDir, BaseEntry, Baseline, SameNow};
use crate::store::transaction::{
    Action, ApplyError, Attributes, Observer, Operation, Plan, Seen, clean_at, observe_attributes, observe_own,
};
use crate::sys::walk::{self, ObjectKind, Stat};
use crate::sys::{beneath, xattr};

use super::base::{BaseDirectory, BaseObject, LiveObject, look};
use super::compare::{Workspace, digest_of, join};
use super::upper::split;
use super::{Base, Staged, Step, StepKind};

/// Why there is no plan.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// Somebody else changed what would be touched.
    #[error("somebody else changed {} paths", paths.len())]
    Conflict {
        /// Every such path, relative to the workspace.
        paths: Vec<Text>,
    },
    /// A path of the workspace or of the staged layer could not be looked at.
    #[error("cannot look at {path:?}")]
    Look {
        /// The path.
        path: Text,
        /// The kernel's words.
        source: io::Error,
    },
    /// The plan cannot be made.
    #[error(transparent)]
    Plan(#[from] ApplyError),
}

/// Makes the plan: staged objects are taken from `upper`, what is removed goes to `aside`. Staged trees are cleaned of
/// what only an overlay understands.
pub fn plan(workspace: &Workspace<'_>, upper: &Path, aside: &Path, staged: &Staged) -> Result<Plan, PlanError> {
    let mut planning = Planning::open(workspace, upper, aside)?;
    let mut operations = Vec::with_capacity(staged.steps.len());
    for step in &staged.steps {
        operations.extend(planning.operation(step)?);
    }
    for directory in &staged.replaced {
        planning.check_replaced(directory.as_bytes()).map_err(Planning::failed(directory.as_bytes()))?;
    }
    for step in &staged.renewed {
        let is_untouched = planning.is_untouched(step).map_err(Planning::failed(step.path.as_bytes()))?;
        if !is_untouched {
            planning.conflicts.push(Text(step.path.as_bytes().to_vec()));
        }
    }
    for step in &staged.retimed {
        // Somebody else's file keeps its time.
        if planning.is_untouched(step).map_err(Planning::failed(step.path.as_bytes()))? {
            operations.extend(planning.operation(step)?);
        }
    }
    if !planning.conflicts.is_empty() {
        return Err(PlanError::Conflict { paths: planning.conflicts });
    }
    match Plan::new(Text::from(workspace.path), operations) {
        Err(ApplyError::Conflict { paths, .. }) => Err(PlanError::Conflict { paths }),
        planned => Ok(planned?),
    }
}

struct Planning<'a> {
    workspace: &'a Workspace<'a>,
    upper: &'a Path,
    aside: &'a Path,
    root: OwnedFd,
    observer: Observer,
    /// The directory that was looked into last, open.
    last: Option<(Vec<u8>, Option<OwnedFd>)>,
    /// The same of the staged layer.
    last_staged: Option<(Vec<u8>, OwnedFd)>,
    conflicts: Vec<Text>,
    /// Inodes whose metadata is adjusted under another name already.
    adjusted: HashSet<u64>,
    removed: usize,
}

impl<'a> Planning<'a> {
    fn open(workspace: &'a Workspace<'a>, upper: &'a Path, aside: &'a Path) -> Result<Self, PlanError> {
        use std::os::unix::ffi::OsStrExt as _;
        let open = || {
            let root = walk::open_dir_itself(workspace.path.as_os_str().as_bytes())?;
            Ok((root.try_clone()?, Observer::below(root)))
        };
        let (root, observer) = open().map_err(|source| PlanError::Look { path: Text::from(workspace.path), source })?;
        Ok(Self {
            workspace,
            upper,
            aside,
            root,
            observer,
            last: None,
            last_staged: None,
            conflicts: Vec::new(),
            adjusted: HashSet::new(),
            removed: 0,
        })
    }

    fn failed(path: &[u8]) -> impl FnOnce(io::Error) -> PlanError {
        let path = Text(path.to_vec());
        move |source| PlanError::Look { path, source }
    }

    /// The operation of a step; `None`: a conflict, which is noted, or nothing to do.
    fn operation(&mut self, step: &Step) -> Result<Option<Operation>, PlanError> {
        let bytes = step.path.as_bytes();
        // The look comes first: it may wait for the clock, and what is saved meanwhile must not pass for what was seen.
        let seen = match self.look_at(step) {
            Ok(seen) => seen,
            // A directory on the way became a link.
            Err(error) if is_conflict(&error) => None,
            Err(error) => return Err(Self::failed(bytes)(error)),
        };
        let untouched = self.is_untouched(step).map_err(Self::failed(bytes))?;
        let expected = (step.base != Base::Absent) == seen.is_some();
        if !untouched || !expected {
            self.conflicts.push(Text(bytes.to_vec()));
            return Ok(None);
        }
        let action = self.action(step, seen).map_err(Self::failed(bytes))?;
        Ok(action.map(|action| Operation { path: step.path.clone(), action }))
    }

    /// What stands at a step's path, with its attributes where they will be changed.
    fn look_at(&mut self, step: &Step) -> io::Result<Option<(Seen, Option<Attributes>)>> {
        let Some(seen) = self.observer.observe(&step.path)? else { return Ok(None) };
        let attributes = match step.action {
            StepKind::Adjust => observe_attributes(self.root.as_fd(), &step.path)?,
            _ => None,
        };
        Ok(Some((seen, attributes)))
    }

    fn action(&mut self, step: &Step, seen: Option<(Seen, Option<Attributes>)>) -> io::Result<Option<Action>> {
        let staged = self.upper.join(step.path.as_path());
        let gone = || io::Error::from(io::ErrorKind::NotFound);
        Ok(Some(match (step.action, seen) {
            (StepKind::Place, _) => {
                Action::Place { after: self.cleaned(step.path.as_bytes())?.ok_or_else(gone)?, staged: staged.into() }
            }
            (StepKind::Replace, Some((before, _))) => {
                let after = self.cleaned(step.path.as_bytes())?.ok_or_else(gone)?;
                Action::Replace { after, before, staged: staged.into() }
            }
            (StepKind::Remove, Some((before, _))) => {
                self.removed += 1;
                Action::Remove { before, aside: self.aside.join(self.removed.to_string()).into() }
            }
            (StepKind::Adjust, Some((seen, attributes))) => {
                if !self.adjusted.insert(seen.ino) {
                    return Ok(None);
                }
                return adjustment(attributes.ok_or_else(gone)?, &staged).map(Some);
            }
            (StepKind::Replace | StepKind::Remove | StepKind::Adjust, None) => return Err(gone()),
        }))
    }

    /// A staged object, once it is cleaned of what only an overlay understands.
    fn cleaned(&mut self, path: &[u8]) -> io::Result<Option<Seen>> {
        use std::os::unix::ffi::OsStrExt as _;
        let (dir, name) = split(path);
        let last = self.last_staged.take().filter(|(last, _)| last == dir);
        let (_, opened) = match last {
            Some(last) => self.last_staged.insert(last),
            None => {
                let upper = self.upper.as_os_str().as_bytes();
                let place = if dir.is_empty() { upper.to_vec() } else { join(upper, dir) };
                self.last_staged.insert((dir.to_vec(), beneath::open_handle(&place)?))
            }
        };
        let spot = (opened.as_fd(), name);
        clean_at(spot)?;
        observe_own(spot)
    }

    /// Whatever somebody else has put into a directory since is in the way of the one that replaces it.
    fn check_replaced(&mut self, path: &[u8]) -> io::Result<()> {
        let recorded = self.workspace.baseline.root(self.workspace.root_name);
        let recorded = path.split(|byte| *byte == b'/').try_fold(recorded, |dir, name| {
            let child = dir?.children().advance_to(name);
            child.map(|child| child.dir())
        });
        let mut base = BaseDirectory::open(self.root.as_fd(), path, recorded.flatten(), self.workspace.began)?;
        for name in base.names()? {
            let below = join(path, &name);
            let is_new = base.child(&name)?.is_absent();
            let is_skipped = self.workspace.skip.contains(&below);
            // What was there once and is gone now stands in no way; what is staged there has a step of its own.
            let stands = base.live().map(|live| look(live, &name)).transpose()?.flatten().is_some();
            if is_new && stands && !is_skipped && !self.conflicts.contains(&Text(below.clone())) {
                self.conflicts.push(Text(below));
            }
        }
        Ok(())
    }

    /// Whether what stands at a step's path is what stood there when the run began.
    fn is_untouched(&mut self, step: &Step) -> io::Result<bool> {
        let baseline = self.workspace.baseline;
        let (dir, name) = split(step.path.as_bytes());
        let Some(live) = self.directory(dir)? else {
            // Somebody took the directory away. Nothing can be placed there, either.
            return Ok(false);
        };
        let index = match step.base {
            Base::Absent => return Ok(stands_at(live, name)?.is_none()),
            Base::Unrecorded => {
                let object = look(live, name)?;
                return object.map_or(Ok(false), |object| self.is_unrecorded_untouched(step, &object));
            }
            Base::Recorded(index) => index,
        };
        let (Some(stat), Some(entry)) = (stands_at(live, name)?, baseline.entry(index)) else { return Ok(false) };
        match (stat.kind(), step.action) {
            (ObjectKind::Directory, StepKind::Adjust) => Ok(is_same_directory(&entry, &stat)),
            (ObjectKind::Directory, _) => {
                Ok(is_same_directory(&entry, &stat) && self.is_tree_untouched(step.path.as_bytes(), entry.dir())?)
            }
            _ => is_same_object(baseline, &entry, &stat, live, name),
        }
    }

    /// The live directory at a path, open; none if it is not there any more.
    fn directory(&mut self, path: &[u8]) -> io::Result<Option<BorrowedFd<'_>>> {
        if self.last.as_ref().is_none_or(|(last, _)| last != path) {
            let opened = match walk::open_dir_below(self.root.as_fd(), path) {
                Ok(opened) => Some(opened),
                Err(error) if is_conflict(&error) => None,
                Err(error) => return Err(error),
            };
            self.last = Some((path.to_vec(), opened));
        }
        Ok(self.last.as_ref().and_then(|(_, opened)| opened.as_ref()).map(OwnedFd::as_fd))
    }

    fn is_unrecorded_untouched(&self, step: &Step, object: &LiveObject) -> io::Result<bool> {
        let began = self.workspace.began;
        let is_directory = object.stat.kind() == ObjectKind::Directory;
        if is_directory && step.action == StepKind::Adjust {
            return Ok(began.had(object));
        }
        if !began.is_untouched(object) {
            return Ok(false);
        }
        if is_directory { self.is_tree_untouched(step.path.as_bytes(), None) } else { Ok(true) }
    }

    /// Whether everything below a directory is what it was, with nothing new in it.
    fn is_tree_untouched(&self, path: &[u8], recorded: Option<BaseDir<'_>>) -> io::Result<bool> {
        let began = self.workspace.began;
        let mut waiting = vec![(path.to_vec(), recorded)];
        while let Some((path, recorded)) = waiting.pop() {
            let mut base = BaseDirectory::open(self.root.as_fd(), &path, recorded, began)?;
            for name in base.names()? {
                let below = join(&path, &name);
                let child = base.child(&name)?;
                let Some(dir) = base.live() else { return Ok(false) };
                let Some(object) = look(dir, &name)? else { return Ok(false) };
                let is_directory = object.stat.kind() == ObjectKind::Directory;
                let same = match &child {
                    BaseObject::Absent => false,
                    BaseObject::Unrecorded(_) => began.is_untouched(&object),
                    BaseObject::Recorded(entry) if is_directory => is_same_directory(entry, &object.stat),
                    BaseObject::Recorded(entry) => {
                        is_same_object(self.workspace.baseline, entry, &object.stat, dir, &name)?
                    }
                };
                if !same {
                    return Ok(false);
                }
                if is_directory {
                    let recorded = match child {
                        BaseObject::Recorded(entry) => entry.dir(),
                        _ => None,
                    };
                    waiting.push((below, recorded));
                }
            }
        }
        Ok(true)
    }
}

/// The stat of what stands at a name.
fn stands_at(dir: BorrowedFd<'_>, name: &[u8]) -> io::Result<Option<Stat>> {
    match walk::lstat_at(dir, name) {
        Ok(stat) => Ok(Some(stat)),
        Err(error) if is_conflict(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The change of a live object's metadata to that of the staged one.
fn adjustment(before: Attributes, staged: &Path) -> io::Result<Action> {
    let wanted = attributes_at(staged)?.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
    let is_directory = before.kind == ObjectKind::Directory;
    let after = Attributes {
        ino: before.ino,
        kind: before.kind,
        size: before.size,
        // What is put into a directory decides its time.
        mtime: if is_directory { None } else { wanted.mtime },
        xattrs: wanted.xattrs.into_iter().filter(|xattr| !is_of_overlay(&xattr.name)).collect(),
        mode: wanted.mode,
        uid: wanted.uid,
        gid: wanted.gid,
    };
    Ok(Action::Adjust { before, after })
}

/// The metadata of a staged object.
fn attributes_at(staged: &Path) -> io::Result<Option<Attributes>> {
    use std::os::unix::ffi::OsStrExt as _;
    let (Some(parent), Some(name)) = (staged.parent(), staged.file_name()) else { return Ok(None) };
    let parent = walk::open_dir_itself(parent.as_os_str().as_bytes())?;
    let name = RelPath::new(name.as_bytes().to_vec()).map_err(io::Error::other)?;
    observe_attributes(parent.as_fd(), &name)
}

/// Whether a directory that stays has the mode and owner it had; what is in it is looked at path by path.
fn is_same_directory(entry: &BaseEntry<'_>, stat: &Stat) -> bool {
    stat.kind() == ObjectKind::Directory
        && entry.kind() == EntryKind::Directory
        && stat.permissions() == entry.mode()
        && (stat.uid, stat.gid) == (entry.uid(), entry.gid())
}

/// Stat first, then the content if the stat differs.
fn is_same_object(
    baseline: &Baseline,
    entry: &BaseEntry<'_>,
    stat: &Stat,
    dir: BorrowedFd<'_>,
    name: &[u8],
) -> io::Result<bool> {
    match baseline.is_same_now(entry, stat) {
        SameNow::Same => Ok(true),
        SameNow::Differs => Ok(false),
        SameNow::NeedsHash => has_content(entry, stat, dir, name),
    }
}

/// Whether a live object has the content and the attributes that are recorded.
fn has_content(entry: &BaseEntry<'_>, stat: &Stat, dir: BorrowedFd<'_>, name: &[u8]) -> io::Result<bool> {
    match stat.kind() {
        ObjectKind::Symlink => Ok(walk::link_target(dir, name)? == *entry.target()),
        ObjectKind::File => {
            let file = match walk::open_file_at(dir, name) {
                Ok(file) => std::fs::File::from(file),
                // It was readable when it was recorded.
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied || is_conflict(&error) => {
                    return Ok(false);
                }
                Err(error) => return Err(error),
            };
            Ok(walk::stat_of(&file)?.kind() == ObjectKind::File
                && xattr::read_all(file.as_fd())? == entry.xattrs()
                && digest_of(&file)? == entry.digest())
        }
        kind => Ok(kind == ObjectKind::Fifo),
    }
}

fn is_conflict(error: &io::Error) -> bool {
    use rustix::io::Errno;
    matches!(Errno::from_io_error(error), Some(Errno::NOENT | Errno::NOTDIR | Errno::LOOP))
}

/// Attributes in which an overlay keeps its own notes.
fn is_of_overlay(name: &[u8]) -> bool {
    name.starts_with(b"user.overlay.") || name.starts_with(b"trusted.overlay.")
}

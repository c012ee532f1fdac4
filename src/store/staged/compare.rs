//! The comparison: every directory of the upper layer against the same directory of the base.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use crate::model::change::{ChangeKind, ChangedPath, Side};
use crate::model::{Digest, EntryKind, RelPath, Text};
use crate::store::snapshot::{BaseDir, Baseline, ManifestEntry, Sealed};
use crate::sys::walk;
use crate::sys::xattr;

use super::base::{BaseDirectory, BaseObject, Began, LiveObject, unrecorded_side};
use super::upper::{Upper, UpperName, is_directory, split};
use super::{Base, Refused, Staged, Step, StepKind};

/// A workspace as it was when its run began.
#[derive(Clone, Copy, Debug)]
pub struct Workspace<'a> {
    /// Where it is.
    pub path: &'a Path,
    /// What its snapshot says.
    pub baseline: &'a Baseline,
    /// The name of its root in the snapshot.
    pub root_name: &'a [u8],
    /// When the run began.
    pub began: Began,
    /// Paths in it that are not staged: the state directory, and what is passed through.
    pub skip: &'a [Vec<u8>],
    /// The state directory, where it is one of them.
    pub state: Option<&'a [u8]>,
}

/// The staged changes could not be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot compare {} with the workspace", path.display())]
pub struct CompareError {
    path: PathBuf,
    source: io::Error,
}

/// Compares a sealed upper layer with the workspace it was laid over.
pub fn compare(workspace: &Workspace<'_>, sealed: &Sealed) -> Result<Staged, CompareError> {
    use std::os::unix::ffi::OsStrExt as _;
    let failed = |source| CompareError { path: workspace.path.to_path_buf(), source };
    let root = walk::open_dir_itself(workspace.path.as_os_str().as_bytes()).map_err(failed)?;
    let upper = Upper::of(sealed);
    let mut comparison = Comparison {
        workspace,
        root,
        upper,
        staged: Staged::default(),
        waiting: Vec::new(),
        linked: HashMap::new(),
        groups: groups_of(workspace),
        were_linked: HashMap::new(),
        owners: Owners::here(),
    };
    comparison.run()?;
    Ok(comparison.finish())
}

/// A directory that stands in the upper layer and in the base.
struct Pair<'a> {
    path: Vec<u8>,
    index: usize,
    recorded: Option<BaseDir<'a>>,
    /// Whether a new directory above it hides all that stood in it.
    hidden: bool,
}

struct Comparison<'a> {
    workspace: &'a Workspace<'a>,
    root: OwnedFd,
    upper: Upper<'a>,
    staged: Staged,
    waiting: Vec<Pair<'a>>,
    /// What becomes of the names of files that have several.
    linked: HashMap<u32, Vec<(Vec<u8>, Outcome)>>,
    /// Which paths were names of one object when the run began.
    groups: HashMap<Vec<u8>, usize>,
    /// The same, with the link group that they are in now.
    were_linked: HashMap<usize, Vec<(Vec<u8>, u32, Outcome)>>,
    owners: Owners,
}

/// What becomes of one name of a file.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Outcome {
    /// The staged object takes its place.
    Moved,
    /// Its content stays.
    Same(Base),
}

/// Whose owners can be told apart: who is not root can give nothing away, and a copy of somebody else's file is their own.
struct Owners {
    is_root: bool,
    groups: Vec<u32>,
}

impl Owners {
    fn here() -> Self {
        let mut groups: Vec<u32> =
            rustix::process::getgroups().unwrap_or_default().into_iter().map(|group| group.as_raw()).collect();
        groups.push(rustix::process::getegid().as_raw());
        Self { is_root: rustix::process::geteuid().is_root(), groups }
    }

    fn are_same(&self, was: (u32, u32), now: (u32, u32)) -> bool {
        if self.is_root {
            return was == now;
        }
        was.1 == now.1 || !self.groups.contains(&was.1)
    }
}

impl<'a> Comparison<'a> {
    fn failed(&self, path: &[u8]) -> impl FnOnce(io::Error) -> CompareError {
        use std::os::unix::ffi::OsStrExt as _;
        let path = self.workspace.path.join(std::ffi::OsStr::from_bytes(path));
        move |source| CompareError { path, source }
    }

    fn run(&mut self) -> Result<(), CompareError> {
        let Some(index) = self.upper.top() else { return Ok(()) };
        let recorded = self.workspace.baseline.root(self.workspace.root_name);
        self.waiting.push(Pair { path: Vec::new(), index, recorded, hidden: false });
        while let Some(pair) = self.waiting.pop() {
            self.directory(&pair)?;
        }
        let refused: Vec<Refused> =
            self.upper.refused().filter(|refused| !self.is_skipped(refused.path.as_bytes())).collect();
        self.staged.refused.extend(refused);
        Ok(())
    }

    /// Remembers what becomes of one name of a file that has several.
    fn link(&mut self, path: &[u8], entry: &ManifestEntry, outcome: Outcome) {
        if let Some(group) = self.groups.get(path) {
            self.were_linked.entry(*group).or_default().push((path.to_vec(), entry.link_group, outcome));
        }
        if entry.link_group != 0 {
            self.linked.entry(entry.link_group).or_default().push((path.to_vec(), outcome));
        }
    }

    /// Names of one file stay that: where one of them moves into the tree, the others follow, also those whose content
    /// is the same as before.
    fn keep_links(&mut self) {
        for names in std::mem::take(&mut self.were_linked).into_values() {
            let is_one = names.windows(2).all(|pair| pair[0].1 == pair[1].1 && pair[0].1 != 0);
            if names.len() > 1 && !is_one {
                self.replace(names.into_iter().map(|(path, _, outcome)| (path, outcome)));
            }
        }
        for names in std::mem::take(&mut self.linked).into_values() {
            if !names.iter().any(|(_, outcome)| *outcome == Outcome::Moved) {
                continue;
            }
            self.replace(names.into_iter());
        }
    }

    /// Objects whose content stays are replaced all the same: they are other names of one file, or no longer are.
    fn replace(&mut self, names: impl Iterator<Item = (Vec<u8>, Outcome)>) {
        for (path, outcome) in names {
            let (Outcome::Same(base), Ok(path)) = (outcome, RelPath::new(path)) else { continue };
            self.staged.retimed.retain(|step| step.path != path);
            match self.staged.steps.iter_mut().find(|step| step.path == path) {
                Some(step) => step.action = StepKind::Replace,
                None => self.staged.steps.push(Step { path, action: StepKind::Replace, base }),
            }
        }
    }

    fn finish(mut self) -> Staged {
        self.keep_links();
        self.staged.changes.paths.sort_unstable_by(|one, other| one.path.cmp(&other.path));
        self.staged.steps.sort_unstable_by(|one, other| one.path.cmp(&other.path));
        self.staged
    }

    fn is_skipped(&self, path: &[u8]) -> bool {
        self.workspace
            .skip
            .iter()
            .any(|skip| path.strip_prefix(&skip[..]).is_some_and(|rest| rest.is_empty() || rest[0] == b'/'))
    }

    fn directory(&mut self, pair: &Pair<'a>) -> Result<(), CompareError> {
        let began = self.workspace.began;
        let mut base = BaseDirectory::open(self.root.as_fd(), &pair.path, pair.recorded, began)
            .map_err(self.failed(&pair.path))?;
        let names = self.upper.names(pair.index, &pair.path);
        let hidden = pair.hidden || self.upper.is_opaque(&pair.path);
        if hidden {
            self.staged.replaced.extend(RelPath::new(pair.path.clone()));
            self.hidden(pair, &base, &names)?;
        }
        for (name, found) in names {
            let path = join(&pair.path, &name);
            if self.is_skipped(&path) {
                self.judge_skipped(&path, &found);
                continue;
            }
            let before = base.child(&name).map_err(self.failed(&path))?;
            match found {
                UpperName::Whiteout => self.gone(&path, &before)?,
                UpperName::Entry(index, entry) if is_directory(entry) => {
                    self.directory_entry(Pair { path, index, recorded: None, hidden }, entry, before, &base)?;
                }
                UpperName::Entry(_, entry) => self.entry(&path, entry, &before, &base)?,
            }
        }
        Ok(())
    }

    /// What an opaque directory hides without naming it.
    fn hidden(
        &mut self,
        pair: &Pair<'a>,
        base: &BaseDirectory<'a>,
        names: &[(Vec<u8>, UpperName<'a>)],
    ) -> Result<(), CompareError> {
        let mut again = BaseDirectory::open(self.root.as_fd(), &pair.path, pair.recorded, self.workspace.began)
            .map_err(self.failed(&pair.path))?;
        for name in base.names().map_err(self.failed(&pair.path))? {
            let path = join(&pair.path, &name);
            let is_named = names.binary_search_by(|(one, _)| one.cmp(&name)).is_ok();
            if !is_named && !self.is_skipped(&path) {
                let before = again.child(&name).map_err(self.failed(&path))?;
                self.gone(&path, &before)?;
            }
        }
        Ok(())
    }

    fn note(&mut self, change: ChangeKind, path: Vec<u8>, before: Option<Side>, after: Option<Side>) {
        self.staged.changes.paths.push(ChangedPath { change, path: Text(path), before, after });
    }

    fn step(&mut self, path: &[u8], action: StepKind, base: &BaseObject<'_>) {
        let base = base_of(base);
        // A name that came from a directory is a plain component.
        if let Ok(path) = RelPath::new(path.to_vec()) {
            self.staged.steps.push(Step { path, action, base });
        }
    }

    /// What stood at a path is there no more.
    fn gone(&mut self, path: &[u8], before: &BaseObject<'a>) -> Result<(), CompareError> {
        if before.is_absent() {
            // What the agent took away stood there when it did; by now somebody else has taken it away, too.
            self.was_there(path);
            return Ok(());
        }
        self.step(path, StepKind::Remove, before);
        self.note(ChangeKind::Deleted, path.to_vec(), before.side(None), None);
        self.gone_below(path, before)
    }

    /// Something stood at a path that no snapshot holds and where nothing stands any more: a conflict.
    fn was_there(&mut self, path: &[u8]) {
        if let Ok(path) = RelPath::new(path.to_vec()) {
            self.staged.renewed.push(Step { path, action: StepKind::Remove, base: Base::Unrecorded });
        }
    }

    /// Every path below what is there no more.
    fn gone_below(&mut self, path: &[u8], before: &BaseObject<'a>) -> Result<(), CompareError> {
        let recorded = match before {
            BaseObject::Recorded(entry) => entry.dir(),
            _ => None,
        };
        if before.kind() != Some(EntryKind::Directory) {
            return Ok(());
        }
        let mut waiting = vec![(path.to_vec(), recorded)];
        while let Some((path, recorded)) = waiting.pop() {
            let mut base = BaseDirectory::open(self.root.as_fd(), &path, recorded, self.workspace.began)
                .map_err(self.failed(&path))?;
            for name in base.names().map_err(self.failed(&path))? {
                let below = join(&path, &name);
                let child = base.child(&name).map_err(self.failed(&below))?;
                if child.is_absent() || self.is_skipped(&below) {
                    continue;
                }
                self.note(ChangeKind::Deleted, below.clone(), child.side(None), None);
                if child.kind() == Some(EntryKind::Directory) {
                    let recorded = match child {
                        BaseObject::Recorded(entry) => entry.dir(),
                        _ => None,
                    };
                    waiting.push((below, recorded));
                }
            }
        }
        Ok(())
    }

    fn directory_entry(
        &mut self,
        pair: Pair<'a>,
        entry: &'a ManifestEntry,
        before: BaseObject<'a>,
        base: &BaseDirectory<'a>,
    ) -> Result<(), CompareError> {
        let Pair { path, index, hidden, .. } = pair;
        if before.kind() != Some(EntryKind::Directory) {
            let change = if before.is_absent() { ChangeKind::Created } else { ChangeKind::Modified };
            let action = if before.is_absent() { StepKind::Place } else { StepKind::Replace };
            self.step(&path, action, &before);
            self.note(change, path.clone(), before.side(None), Some(side_of(entry)));
            let below: Vec<(Vec<u8>, &ManifestEntry)> = self.upper.below(index).collect();
            for (rest, entry) in below {
                self.link(&join(&path, &rest), entry, Outcome::Moved);
                self.judge_privilege(&join(&path, &rest), entry, None);
                self.note(ChangeKind::Created, join(&path, &rest), None, Some(side_of(entry)));
            }
            return Ok(());
        }
        let same = self.same_metadata(&path, entry, &before, base)?;
        if !same {
            self.step(&path, StepKind::Adjust, &before);
            self.note(ChangeKind::Modified, path.clone(), before.side(None), Some(side_of(entry)));
        }
        if self.upper.is_opaque(&path)
            && let Ok(path) = RelPath::new(path.clone())
        {
            // What a snapshot holds is looked at path by path; of anything else nobody knows what was in it.
            let is_recorded = matches!(before, BaseObject::Recorded(_));
            let action = if is_recorded { StepKind::Adjust } else { StepKind::Remove };
            self.staged.renewed.push(Step { path, action, base: base_of(&before) });
        }
        let recorded = match before {
            BaseObject::Recorded(entry) => entry.dir(),
            _ => None,
        };
        self.waiting.push(Pair { path, index, recorded, hidden });
        Ok(())
    }

    fn entry(
        &mut self,
        path: &[u8],
        entry: &'a ManifestEntry,
        before: &BaseObject<'a>,
        base: &BaseDirectory<'a>,
    ) -> Result<(), CompareError> {
        let after = side_of(entry);
        self.judge_privilege(path, entry, before.side(None).map(|side| side.mode));
        if before.is_absent() {
            // A file that was changed or moved here. Where names of the live directory were changed since the run began,
            // it was changed here, and somebody has taken it away: nothing stands there that this could replace.
            if self.upper.was_copied(path)
                && base.changed_since(self.workspace.began).map_err(self.failed(path))?
                && let Ok(path) = RelPath::new(path.to_vec())
            {
                self.staged.steps.push(Step { path, action: StepKind::Replace, base: Base::Unrecorded });
            } else {
                self.step(path, StepKind::Place, before);
            }
            self.link(path, entry, Outcome::Moved);
            self.note(ChangeKind::Created, path.to_vec(), None, Some(after));
            return Ok(());
        }
        let digest = match before {
            BaseObject::Unrecorded(object) => {
                unrecorded_digest(object, entry, path, base).map_err(self.failed(path))?
            }
            _ => None,
        };
        let was = before.side(digest);
        let same_content = before.kind() == Some(entry.kind)
            && was.is_some_and(|was| was.digest == after.digest && was.size == after.size);
        let same_metadata = self.same_metadata(path, entry, before, base)?;
        if same_content && same_metadata {
            self.link(path, entry, Outcome::Same(base_of(before)));
            let was_changed = match before {
                BaseObject::Recorded(was) => was.mtime(),
                BaseObject::Unrecorded(object) => object.stat.mtime,
                BaseObject::Absent => entry.mtime,
            };
            if was_changed != entry.mtime
                && let Ok(path) = RelPath::new(path.to_vec())
            {
                self.staged.retimed.push(Step { path, action: StepKind::Adjust, base: base_of(before) });
            }
            return Ok(());
        }
        // A link has nothing to adjust: it is replaced.
        let adjustable = same_content && entry.kind != EntryKind::Symlink;
        self.step(path, if adjustable { StepKind::Adjust } else { StepKind::Replace }, before);
        self.link(path, entry, if adjustable { Outcome::Same(base_of(before)) } else { Outcome::Moved });
        self.note(ChangeKind::Modified, path.to_vec(), was, Some(after));
        self.gone_below(path, before)
    }

    /// Whether mode, owner and attributes are what they were.
    fn same_metadata(
        &self,
        path: &[u8],
        entry: &ManifestEntry,
        before: &BaseObject<'_>,
        base: &BaseDirectory<'_>,
    ) -> Result<bool, CompareError> {
        Ok(match before {
            BaseObject::Absent => false,
            BaseObject::Recorded(was) => {
                let same_mode = entry.kind == EntryKind::Symlink || was.mode() == entry.mode;
                let same_owner = self.owners.are_same((was.uid(), was.gid()), (entry.uid, entry.gid));
                same_mode && same_owner && was.xattrs() == entry.xattrs()
            }
            BaseObject::Unrecorded(object) => {
                let stat = object.stat;
                let mode_counts = entry.kind != EntryKind::Symlink;
                (!mode_counts || stat.permissions() == entry.mode)
                    && self.owners.are_same((stat.uid, stat.gid), (entry.uid, entry.gid))
                    && same_xattrs(object, entry, path, base).map_err(self.failed(path))?
            }
        })
    }

    /// What an agent makes at the state directory's place never lands, and must not be taken for staged.
    fn judge_skipped(&mut self, path: &[u8], found: &UpperName<'_>) {
        let is_state = self.workspace.state.is_some_and(|state| path == state);
        if is_state
            && matches!(found, UpperName::Entry(..))
            && let Ok(path) = RelPath::new(path.to_vec())
        {
            self.staged.refused.push(Refused { path, what: "state directory of another agentguard" });
        }
    }

    /// A file that becomes setuid or setgid is refused, unless it was.
    fn judge_privilege(&mut self, path: &[u8], entry: &ManifestEntry, before: Option<u32>) {
        const PRIVILEGED: u32 = 0o6000;
        let gained = entry.mode & PRIVILEGED & !before.unwrap_or(0);
        if entry.kind == EntryKind::File
            && gained != 0
            && let Ok(path) = RelPath::new(path.to_vec())
        {
            self.staged.refused.push(Refused { path, what: "setuid or setgid file" });
        }
    }
}

/// The group of each path that was one of several names of an object.
fn groups_of(workspace: &Workspace<'_>) -> HashMap<Vec<u8>, usize> {
    let prefix = [workspace.root_name, b"/"].concat();
    let mut groups = HashMap::new();
    for (number, group) in workspace.baseline.link_groups().into_iter().enumerate() {
        for path in group.paths {
            if let Some(inside) = path.0.strip_prefix(&prefix[..]) {
                groups.insert(inside.to_vec(), number);
            }
        }
    }
    groups
}

fn base_of(object: &BaseObject<'_>) -> Base {
    match object {
        BaseObject::Absent => Base::Absent,
        BaseObject::Recorded(entry) => Base::Recorded(entry.index()),
        BaseObject::Unrecorded(_) => Base::Unrecorded,
    }
}

fn same_xattrs(object: &LiveObject, entry: &ManifestEntry, path: &[u8], base: &BaseDirectory<'_>) -> io::Result<bool> {
    let Some(dir) = base.live() else { return Ok(false) };
    let (_, name) = split(path);
    let opened = match object.stat.kind() {
        walk::ObjectKind::File => walk::open_file_at(dir, name),
        walk::ObjectKind::Directory => walk::open_dir_below(dir, name),
        // Neither links nor pipes have any that count.
        _ => return Ok(true),
    };
    match opened {
        Ok(opened) => Ok(xattr::read_all(opened.as_fd())? == entry.xattrs()),
        // What cannot be read had none that a copy of it could have kept.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// The hash of a live file or link that no snapshot holds, where it could be that of the staged one.
fn unrecorded_digest(
    object: &LiveObject,
    entry: &ManifestEntry,
    path: &[u8],
    base: &BaseDirectory<'_>,
) -> io::Result<Option<Digest>> {
    let Some(dir) = base.live() else { return Ok(None) };
    let (_, name) = split(path);
    match (unrecorded_side(&object.stat, None).kind, entry.kind) {
        (EntryKind::File, EntryKind::File) if object.stat.size == entry.size => hash_file(dir, name),
        (EntryKind::Symlink, EntryKind::Symlink) => match walk::link_target(dir, name) {
            Ok(target) => Ok(Some(Digest(Sha256::digest(&target).into()))),
            Err(_) => Ok(None),
        },
        _ => Ok(None),
    }
}

/// The hash of a live file; none if it cannot be read or is gone.
fn hash_file(dir: BorrowedFd<'_>, name: &[u8]) -> io::Result<Option<Digest>> {
    let opened = match walk::open_file_at(dir, name) {
        Ok(opened) => std::fs::File::from(opened),
        Err(_) => return Ok(None),
    };
    let stat = walk::stat_of(&opened)?;
    if stat.kind() != walk::ObjectKind::File {
        return Ok(None);
    }
    digest_of(&opened).map(Some)
}

/// Most bytes that are read at once.
const LONGEST_READ: usize = 128 << 10;

/// SHA-256 of an open file from its beginning.
pub(super) fn digest_of(mut file: &std::fs::File) -> io::Result<Digest> {
    use std::io::Read as _;
    let mut sum = Sha256::new();
    // Clearing more than a file has would cost more than reading it.
    let mut buffer = vec![0_u8; usize::try_from(walk::stat_of(file)?.size).unwrap_or(0).clamp(512, LONGEST_READ)];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(Digest(sum.finalize().into())),
            count => sum.update(&buffer[..count]),
        }
    }
}

/// How the changes show a staged entry.
fn side_of(entry: &ManifestEntry) -> Side {
    let is_directory = is_directory(entry);
    Side {
        kind: entry.kind,
        mode: entry.mode,
        digest: Some(if is_directory { Digest::OF_NOTHING } else { entry.digest }),
        size: if is_directory { 0 } else { entry.size },
    }
}

pub(super) fn join(dir: &[u8], name: &[u8]) -> Vec<u8> {
    if dir.is_empty() { name.to_vec() } else { [dir, b"/", name].concat() }
}

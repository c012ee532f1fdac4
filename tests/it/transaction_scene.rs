//! A live tree, the tree that it is to become, and the plan that leads from the one to the other.

use std::fs;
use std::os::fd::AsFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use agentguard::model::{RelPath, Text};
use agentguard::store::transaction::{
    Action, Applied, ApplyError, Attributes, Observer, Operation, Plan, apply, check, clean, flush, make_durable,
    observe_at, observe_attributes,
};
use agentguard::sys::remove::remove_tree;

/// What is done with a directory that is one on both sides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Directories {
    /// It stays, and what is in it changes.
    Merged,
    /// It is replaced whole.
    Whole,
}

/// Three directories on one filesystem.
pub(crate) struct Scene {
    dir: tempfile::TempDir,
}

impl Drop for Scene {
    fn drop(&mut self) {
        // Closed directories and all.
        let _ = remove_tree(self.dir.path());
    }
}

impl Scene {
    pub(crate) fn new() -> Self {
        Self::below(&std::env::temp_dir())
    }

    pub(crate) fn below(parent: &Path) -> Self {
        let dir = tempfile::Builder::new().prefix("ag-transaction-").tempdir_in(parent).expect("temporary directory");
        for name in ["live", "new", "aside"] {
            fs::create_dir(dir.path().join(name)).expect("made");
        }
        Self { dir }
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn live(&self, name: &str) -> PathBuf {
        join(&self.dir.path().join("live"), name)
    }

    pub(crate) fn new_one(&self, name: &str) -> PathBuf {
        join(&self.dir.path().join("new"), name)
    }

    pub(crate) fn aside(&self) -> PathBuf {
        self.dir.path().join("aside")
    }

    /// The operations that make the live tree the new one.
    pub(crate) fn operations(&self, directories: Directories) -> Vec<Operation> {
        let root = fs::File::open(self.live("")).expect("opened");
        let observer = Observer::below(root.try_clone().expect("cloned").into());
        let mut planner = Planner { scene: self, root, observer, directories, operations: Vec::new() };
        planner.directory(b"");
        planner.operations
    }

    /// The plan, with the times of the new tree's directories.
    pub(crate) fn plan(&self, directories: Directories) -> Plan {
        let operations = self.operations(directories);
        let mut plan = Plan::new(Text::from(self.live("")), operations).expect("a sound plan");
        for parent in &mut plan.parents {
            let path = parent.path.as_ref().map_or(Path::new(""), RelPath::as_path);
            let stat = self.new_one("").join(path).metadata().expect("stat");
            parent.after = Some((stat.mtime(), u32::try_from(stat.mtime_nsec()).expect("nanoseconds")));
        }
        plan
    }
}

fn join(top: &Path, name: &str) -> PathBuf {
    if name.is_empty() { top.to_path_buf() } else { top.join(name) }
}

struct Planner<'a> {
    scene: &'a Scene,
    root: fs::File,
    observer: Observer,
    directories: Directories,
    operations: Vec<Operation>,
}

impl Planner<'_> {
    fn directory(&mut self, path: &[u8]) {
        let os = std::ffi::OsStr::from_bytes;
        let (live, new) = (self.scene.live("").join(os(path)), self.scene.new_one("").join(os(path)));
        let names = |dir: &Path| -> Vec<Vec<u8>> {
            let entries = fs::read_dir(dir).expect("readable");
            entries.map(|entry| entry.expect("entry").file_name().as_bytes().to_vec()).collect()
        };
        let mut all = [names(&live), names(&new)].concat();
        all.sort();
        all.dedup();
        for name in all {
            let below = if path.is_empty() { name } else { [path, b"/", &name].concat() };
            self.one(&below, &live.join(os(below.rsplit(|byte| *byte == b'/').next().expect("a name"))));
        }
    }

    fn one(&mut self, path: &[u8], live: &Path) {
        let rel = RelPath::new(path.to_vec()).expect("a path");
        let staged = self.scene.new_one("").join(rel.as_path());
        let place = Text::from(staged.clone());
        let before = self.observer.observe(&rel).expect("observed");
        let action = match (before, staged.symlink_metadata().is_ok()) {
            (None, false) => return,
            (None, true) => Action::Place { staged: place, after: staged_seen(&staged) },
            (Some(before), false) => {
                let name = format!("x{}", self.operations.len());
                Action::Remove { before, aside: self.scene.aside().join(name).into() }
            }
            (Some(before), true) => {
                let is_merged = self.directories == Directories::Merged && is_open_dir(live) && is_open_dir(&staged);
                if is_merged {
                    self.directory(path);
                }
                if is_merged || same_content(live, &staged) {
                    match self.adjustment(&rel, &staged) {
                        Some(action) => action,
                        None => return,
                    }
                } else {
                    Action::Replace { staged: place, before, after: staged_seen(&staged) }
                }
            }
        };
        self.operations.push(Operation { path: rel, action });
    }

    fn adjustment(&mut self, rel: &RelPath, staged: &Path) -> Option<Action> {
        let before = observe_attributes(self.root.as_fd(), rel).expect("observed").expect("it is there");
        let new = fs::File::open(self.scene.new_one("")).expect("opened");
        let wanted = observe_attributes(new.as_fd(), rel).expect("observed").expect("it is there");
        let _ = staged;
        let after = Attributes { ino: before.ino, size: before.size, ..wanted };
        (before != after).then_some(Action::Adjust { before, after })
    }
}

fn staged_seen(staged: &Path) -> agentguard::store::transaction::Seen {
    clean(staged).expect("cleaned");
    observe_at(staged).expect("observed").expect("it is there")
}

fn is_open_dir(path: &Path) -> bool {
    path.symlink_metadata().expect("stat").is_dir() && fs::read_dir(path).is_ok()
}

fn same_content(left: &Path, right: &Path) -> bool {
    let (one, other) = (left.symlink_metadata().expect("stat"), right.symlink_metadata().expect("stat"));
    if one.file_type() != other.file_type() {
        return false;
    }
    if one.is_symlink() {
        return fs::read_link(left).expect("link") == fs::read_link(right).expect("link");
    }
    if one.is_file() {
        return fs::read(left).ok().is_some_and(|bytes| fs::read(right).ok() == Some(bytes));
    }
    !one.is_dir()
}

/// Check, flush and apply, as a commit does.
pub(crate) fn commit(plan: &Plan) -> Result<Applied, ApplyError> {
    check(plan)?;
    flush(plan).expect("flushed");
    let applied = apply(plan)?;
    make_durable(plan).expect("durable");
    Ok(applied)
}

/// One object of a tree, in the respects that count here.
fn line(path: &Path, top: &Path, with_inode: bool) -> String {
    let stat = path.symlink_metadata().expect("stat");
    let held = fs::File::open(top).expect("opened");
    let below = path.strip_prefix(top).expect("below");
    let xattrs: Vec<String> = if stat.is_symlink() || below.as_os_str().is_empty() {
        Vec::new()
    } else {
        let rel = RelPath::new(below.as_os_str().as_bytes().to_vec()).expect("a path");
        let found = observe_attributes(held.as_fd(), &rel).expect("observed").expect("there");
        found.xattrs.iter().map(|one| format!("{}={:?}", String::from_utf8_lossy(&one.name), one.value)).collect()
    };
    let content = match fs::read_link(path) {
        Ok(target) => format!("{target:?}"),
        Err(_) if stat.is_file() => format!("{:?}", fs::read(path).map_err(|error| error.kind())),
        Err(_) => String::new(),
    };
    let inode = if with_inode { format!("{} {}", stat.ino(), stat.nlink()) } else { String::new() };
    let mtime = (stat.mtime(), stat.mtime_nsec());
    format!("{below:?} {:o} {}:{} {mtime:?} {inode} {content} {xattrs:?}", stat.mode(), stat.uid(), stat.gid())
}

fn lines(top: &Path, with_inode: bool) -> Vec<String> {
    let walk = walkdir::WalkDir::new(top).sort_by_file_name().into_iter();
    walk.filter_map(Result::ok).map(|entry| line(entry.path(), top, with_inode)).collect()
}

/// A tree down to inodes, links and times.
pub(crate) fn exact(top: &Path) -> Vec<String> {
    lines(top, true)
}

/// A tree but for inodes: what a copy has too.
pub(crate) fn shape(top: &Path) -> Vec<String> {
    lines(top, false)
}

/// A kind of object that may stand at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Absent,
    File(u32),
    Tree(u32),
    Link,
    Pipe,
}

pub(crate) const KINDS: [Kind; 8] = [
    Kind::Absent,
    Kind::File(0o644),
    Kind::File(0o000),
    Kind::Tree(0o755),
    Kind::Tree(0o500),
    Kind::Tree(0o000),
    Kind::Link,
    Kind::Pipe,
];

impl Kind {
    /// Makes one, with content that tells where it came from.
    pub(crate) fn make(self, path: &Path, word: &str) {
        match self {
            Self::Absent => {}
            Self::File(mode) => {
                fs::write(path, word).expect("written");
                set_mode(path, mode);
            }
            Self::Tree(mode) => {
                fs::create_dir_all(path.join("inner/deep")).expect("made");
                fs::write(path.join("inner/file"), word).expect("written");
                fs::hard_link(path.join("inner/file"), path.join("twin")).expect("linked");
                symlink("/nowhere", path.join("inner/deep/link")).expect("linked");
                set_mode(&path.join("inner"), 0o555);
                set_mode(path, mode);
            }
            Self::Link => symlink(word, path).expect("linked"),
            Self::Pipe => {
                use rustix::fs::{CWD, Mode, mkfifoat};
                mkfifoat(CWD, path, Mode::from_raw_mode(0o640)).expect("made");
            }
        }
    }
}

pub(crate) fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("mode");
}

/// Gives a path a modification time of its own.
pub(crate) fn set_mtime(path: &Path, seconds: i64) {
    use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, utimensat};
    let time = Timespec { tv_sec: seconds, tv_nsec: 123_456_789 };
    let times = Timestamps { last_access: time, last_modification: time };
    utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).expect("time");
}

/// What stands at a path and what is in it, both of one moment, and without waiting for the clock to tick.
pub(crate) fn seen_now(path: &Path) -> (agentguard::store::transaction::Seen, String) {
    use std::io::Read as _;
    loop {
        let mut file = fs::File::open(path).expect("opened");
        let stat = agentguard::sys::walk::stat_of(&file).expect("stat");
        let mut content = String::new();
        file.read_to_string(&mut content).expect("read");
        if agentguard::sys::walk::stat_of(&file).expect("stat") == stat {
            return (agentguard::store::transaction::Seen::of(&stat), content);
        }
    }
}

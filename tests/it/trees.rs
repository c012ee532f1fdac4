//! Trees compared as a person would compare them: the same command run bare in a copy, and under agentguard.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs::File;
use std::io::Read as _;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{LazyLock, OnceLock};

use rustix::fs::{
    AtFlags, Dir, FileType, Mode, OFlags, RawMode, Stat, chmodat, fstat, open, openat, readlinkat, statat,
};
use rustix::io::Errno;
use sha2::Digest as _;

use crate::project::{Outcome, Project, binary, skip};

/// What stands at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Node {
    kind: FileType,
    mode: u32,
    owner: (u32, u32),
    /// The bytes of a small file, the hash of a large one, a link's target.
    content: String,
    xattrs: Vec<(String, String)>,
    /// The first name of the link group, where a file has several names in the tree.
    group: Option<String>,
    mtime: (i64, u64),
    /// Inode and number of links.
    identity: (u64, u64),
}

impl Node {
    fn of(stat: &Stat, xattrs: Vec<(String, String)>) -> Self {
        Self {
            kind: FileType::from_raw_mode(stat.st_mode as RawMode),
            mode: Mode::from_raw_mode(stat.st_mode as RawMode).bits(),
            owner: (stat.st_uid, stat.st_gid),
            content: String::new(),
            xattrs,
            group: None,
            mtime: (stat.st_mtime, stat.st_mtime_nsec),
            identity: (stat.st_ino, stat.st_nlink),
        }
    }

    /// The same but for the time, and which object it is.
    fn is_like(&self, other: &Self) -> bool {
        let essence = |node: &Self| Self { mtime: (0, 0), identity: (0, 0), ..node.clone() };
        essence(self) == essence(other)
    }

    /// A time that the script has set: bare and guarded, it must be the same one.
    fn is_dated(&self) -> bool {
        self.kind != FileType::Directory && self.mtime.0 < YEAR_2020
    }
}

/// Scripts give fixed times to what they make, all of them before this one.
const YEAR_2020: i64 = 1_577_836_800;

/// By path; the top itself has the empty one.
pub(crate) type Tree = BTreeMap<Vec<u8>, Node>;

/// Everything below a directory but the state directory, at any depth, also what is closed to its owner.
pub(crate) fn read_tree(top: &Path) -> Tree {
    let mut reading = Reading { tree: Tree::new(), groups: BTreeMap::new() };
    let directory = open(top, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).expect("the top");
    reading.tree.insert(Vec::new(), Node::of(&fstat(&directory).expect("stat"), xattrs(top)));
    reading.directory(directory.as_fd(), b"");
    for names in reading.groups.into_values().filter(|names| names.len() > 1) {
        let first = names.iter().min().map(|name| shown(name));
        for name in &names {
            reading.tree.get_mut(name).expect("read before").group.clone_from(&first);
        }
    }
    reading.tree
}

struct Reading {
    tree: Tree,
    groups: BTreeMap<(u64, u64), Vec<Vec<u8>>>,
}

impl Reading {
    fn directory(&mut self, directory: BorrowedFd<'_>, path: &[u8]) {
        let mut names: Vec<Vec<u8>> = Dir::read_from(directory)
            .expect("readable")
            .map(|entry| entry.expect("entry").file_name().to_bytes().to_vec())
            .filter(|name| name != b"." && name != b".." && !(path.is_empty() && name == b".agentguard"))
            .collect();
        names.sort();
        for name in names {
            let separator: &[u8] = if path.is_empty() { b"" } else { b"/" };
            self.entry(directory, OsStr::from_bytes(&name), [path, separator, &name].concat());
        }
    }

    fn entry(&mut self, parent: BorrowedFd<'_>, name: &OsStr, path: Vec<u8>) {
        let stat = statat(parent, name, AtFlags::SYMLINK_NOFOLLOW).expect("stat");
        let kind = FileType::from_raw_mode(stat.st_mode as RawMode);
        let mode = Mode::from_raw_mode(stat.st_mode as RawMode).bits();
        let closed = match kind {
            FileType::Directory => 0o700 & !mode,
            FileType::RegularFile => 0o400 & !mode,
            _ => 0,
        };
        // Whoever may not read it lifts the mode for the moment; neither mode nor mtime is another afterwards.
        let lifted = closed != 0
            && chmodat(parent, name, Mode::from_raw_mode((mode | closed) as RawMode), AtFlags::empty()).is_ok();
        let mut node =
            Node::of(&stat, xattrs(&PathBuf::from(format!("/proc/self/fd/{}", parent.as_raw_fd())).join(name)));
        match kind {
            FileType::Directory => {
                self.tree.insert(path.clone(), node);
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let directory = openat(parent, name, flags, Mode::empty()).expect("opened");
                self.directory(directory.as_fd(), &path);
            }
            FileType::RegularFile => {
                node.content = content(File::from(
                    openat(parent, name, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).expect("opened"),
                ));
                self.tree.insert(path.clone(), node);
            }
            FileType::Symlink => {
                node.content = shown(readlinkat(parent, name, Vec::new()).expect("a link").as_bytes());
                self.tree.insert(path.clone(), node);
            }
            _ => {
                self.tree.insert(path.clone(), node);
            }
        }
        if lifted {
            chmodat(parent, name, Mode::from_raw_mode(mode as RawMode), AtFlags::empty()).expect("the mode again");
        }
        if kind != FileType::Directory && stat.st_nlink > 1 {
            self.groups.entry((stat.st_dev, stat.st_ino)).or_default().push(path);
        }
    }
}

fn content(mut file: File) -> String {
    let mut sum = sha2::Sha256::new();
    let mut head = Vec::new();
    let mut buffer = vec![0_u8; 1 << 20];
    let mut size = 0;
    loop {
        let len = file.read(&mut buffer).expect("read");
        if len == 0 {
            break;
        }
        if size == 0 {
            head = buffer[..len.min(60)].to_vec();
        }
        sum.update(&buffer[..len]);
        size += len;
    }
    if size <= 60 {
        return shown(&head);
    }
    let digest: String = sum.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{}… ({size} bytes, {digest})", shown(&head[..20]))
}

fn xattrs(path: &Path) -> Vec<(String, String)> {
    let mut list = vec![0_u8; 64 << 10];
    let len = match rustix::fs::llistxattr(path, &mut list[..]) {
        Ok(len) => len,
        Err(Errno::OPNOTSUPP | Errno::PERM) => return Vec::new(),
        Err(errno) => panic!("{path:?}: {errno}"),
    };
    let mut found: Vec<(String, String)> = list[..len]
        .split(|byte| *byte == 0)
        .filter(|name| !name.is_empty())
        .map(|name| {
            let mut value = vec![0_u8; 64 << 10];
            let len = rustix::fs::lgetxattr(path, OsStr::from_bytes(name), &mut value[..]).expect("an attribute");
            (shown(name), shown(&value[..len]))
        })
        .collect();
    found.sort();
    found
}

/// Bytes as they can be printed.
pub(crate) fn shown(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}

/// A project, and a copy of it where the same commands are run without agentguard.
pub(crate) struct Twins {
    pub(crate) guarded: Project,
    bare: tempfile::TempDir,
    environment: Vec<(&'static str, String)>,
    prefix: Vec<String>,
    binary: PathBuf,
    /// The trees after the last command, where nothing else has been done to them since.
    known: RefCell<Option<Trees>>,
}

impl Twins {
    /// Both begin with what a script makes.
    #[track_caller]
    pub(crate) fn planted(script: &str) -> Self {
        Self::of(Project::new(), script)
    }

    #[track_caller]
    pub(crate) fn of(guarded: Project, script: &str) -> Self {
        let planted = Command::new("sh").args(["-ec", script]).current_dir(guarded.path()).status().expect("planted");
        assert!(planted.success(), "{script}");
        let bare = tempfile::Builder::new().prefix("ag-bare-").tempdir().expect("temporary directory");
        let copied = Command::new("cp").arg("-a").arg(guarded.path().join(".")).arg(bare.path()).status().expect("cp");
        assert!(copied.success());
        Self { guarded, bare, environment: Vec::new(), prefix: Vec::new(), binary: binary(), known: RefCell::new(None) }
    }

    /// Variables that both are given.
    pub(crate) fn with_environment(mut self, environment: &[(&'static str, String)]) -> Self {
        self.environment.extend_from_slice(environment);
        self
    }

    /// A command that both are started by, such as one that changes the umask or the user.
    pub(crate) fn started_by(mut self, prefix: &[&str]) -> Self {
        self.prefix = prefix.iter().map(|word| (*word).to_owned()).collect();
        self
    }

    /// Another copy of the binary, where somebody else may reach it.
    pub(crate) fn with_binary(mut self, binary: PathBuf) -> Self {
        self.binary = binary;
        self
    }

    pub(crate) fn bare(&self) -> &Path {
        self.bare.path()
    }

    /// Runs a shell script in both: same exit code, same output, same tree afterwards.
    #[track_caller]
    pub(crate) fn both(&self, options: &[&str], script: &str) -> Outcome {
        self.both_command(options, &["sh", "-ec", script])
    }

    #[track_caller]
    pub(crate) fn both_command(&self, options: &[&str], command: &[&str]) -> Outcome {
        self.both_except(options, command, &|_| false)
    }

    /// The same, without a look at some paths: what is written there differs from one run to the next by itself.
    #[track_caller]
    pub(crate) fn both_except(&self, options: &[&str], command: &[&str], except: &dyn Fn(&[u8]) -> bool) -> Outcome {
        let before = self.known.take().unwrap_or_else(|| self.trees());
        let (bare, guarded) = (self.run_bare(command), self.run_guarded(options, command));
        let what = brief(command);
        assert_eq!(bare.code, Some(0), "bare: {what}\n{}{}", bare.text(), bare.stderr);
        assert_eq!(guarded.code, Some(0), "{options:?}: {what}\n{}{}", guarded.text(), guarded.stderr);
        assert_eq!(guarded.text(), bare.text(), "{options:?}: {what}");
        let after = self.trees();
        let mut differences = differences(&before, &after, except);
        differences.truncate(20);
        assert!(differences.is_empty(), "{options:?}: {what}\n{}\n{}", differences.join("\n"), guarded.stderr);
        self.known.replace(Some(after));
        guarded
    }

    /// Runs a command that fails with 7 under agentguard: nothing about the tree is another, no time and no inode.
    #[track_caller]
    pub(crate) fn fails_untouched(&self, options: &[&str], command: &[&str]) {
        let known = self.known.take().unwrap_or_else(|| self.trees());
        // The first command makes the state directory, which the top's own time tells.
        let is_first = !self.guarded.state().exists();
        let outcome = self.run_guarded(options, command).exits(7);
        let after = read_tree(&self.guarded.path());
        let before = &known.guarded;
        let paths: BTreeSet<&Vec<u8>> = before.keys().chain(after.keys()).collect();
        let changed: Vec<_> = paths
            .into_iter()
            .filter(|path| !(is_first && path.is_empty()) && before.get(*path) != after.get(*path))
            .map(|path| format!("{}: {:?}, {:?}", shown(path), before.get(path), after.get(path)))
            .collect();
        assert!(changed.is_empty(), "{options:?} {}: {changed:#?}\n{}", brief(command), outcome.stderr);
        self.known.replace(Some(Trees { guarded: after, ..known }));
    }

    fn run_bare(&self, command: &[&str]) -> Outcome {
        let words: Vec<&OsStr> = self.prefix.iter().map(OsStr::new).chain(command.iter().map(OsStr::new)).collect();
        self.outcome(&words, self.bare())
    }

    pub(crate) fn run_guarded(&self, options: &[&str], command: &[&str]) -> Outcome {
        let mut words: Vec<&OsStr> = self.prefix.iter().map(OsStr::new).collect();
        words.extend([self.binary.as_os_str(), OsStr::new("run")]);
        words.extend(options.iter().chain(&["--"]).chain(command).map(OsStr::new));
        self.outcome(&words, &self.guarded.path())
    }

    /// A question to both trees, neither under agentguard.
    pub(crate) fn bare_and_live(&self, command: &[&str]) -> (Outcome, Outcome) {
        self.known.take();
        let words: Vec<&OsStr> = command.iter().map(OsStr::new).collect();
        (self.outcome(&words, self.bare()), self.outcome(&words, &self.guarded.path()))
    }

    fn outcome(&self, words: &[&OsStr], directory: &Path) -> Outcome {
        let mut command = Command::new(words[0]);
        let outer = std::env::vars_os().filter(|(name, _)| name.as_bytes().starts_with(b"AGENTGUARD_"));
        for (name, _) in outer {
            command.env_remove(name);
        }
        command.args(&words[1..]).current_dir(directory).stdin(Stdio::null()).env_remove("CI");
        command.envs(self.environment.iter().cloned());
        Outcome::of(command.output().expect("it runs"))
    }

    pub(crate) fn trees(&self) -> Trees {
        Trees { bare: read_tree(self.bare()), guarded: read_tree(&self.guarded.path()) }
    }
}

impl Drop for Twins {
    /// What is closed to its owner could not be removed.
    fn drop(&mut self) {
        let opened =
            Command::new("chmod").args(["-R", "u+rwX"]).args([self.guarded.path().as_path(), self.bare()]).output();
        drop(opened);
    }
}

/// The end of a command's last argument: scripts end with what they are about.
fn brief(command: &[&str]) -> String {
    let text = command.last().copied().unwrap_or_default();
    let from = text.char_indices().rev().nth(600).map_or(0, |(at, _)| at);
    format!("…{}", &text[from..])
}

/// Both trees at one moment.
pub(crate) struct Trees {
    pub(crate) bare: Tree,
    pub(crate) guarded: Tree,
}

/// Where the guarded tree is not what the bare one is. Times count where the script set them on something that it
/// changed, and where nothing was touched; those of directories never do.
fn differences(before: &Trees, after: &Trees, except: &dyn Fn(&[u8]) -> bool) -> Vec<String> {
    let mut found = Vec::new();
    let paths: BTreeSet<&Vec<u8>> = after.bare.keys().chain(after.guarded.keys()).collect();
    for path in paths.into_iter().filter(|path| !except(path)) {
        let (bare, guarded) = match (after.bare.get(path), after.guarded.get(path)) {
            (Some(bare), Some(guarded)) => (bare, guarded),
            (bare, guarded) => {
                found.push(format!("{}: bare {bare:?}, guarded {guarded:?}", shown(path)));
                continue;
            }
        };
        if !bare.is_like(guarded) {
            found.push(format!("{}:\n    bare    {bare:?}\n    guarded {guarded:?}", shown(path)));
            continue;
        }
        if path.starts_with(b".git/") {
            // Git gives an old object a new time when it would have written the same one again.
            continue;
        }
        let is_untouched = before.bare.get(path) == Some(bare) && bare.kind != FileType::Directory;
        let was = before.guarded.get(path);
        if is_untouched && was.is_some_and(|was| was.mtime != guarded.mtime) {
            found.push(format!("{}: not touched, but its time is another: {was:?}, {guarded:?}", shown(path)));
        }
        let is_changed = !before.bare.get(path).is_some_and(|was| was.is_like(bare));
        if is_changed && bare.is_dated() && bare.mtime != guarded.mtime {
            found.push(format!("{}: time {:?}, guarded {:?}", shown(path), bare.mtime, guarded.mtime));
        }
    }
    found
}

/// The views that work here; that `overlay` does not is a skip.
pub(crate) fn views() -> Vec<&'static str> {
    static REFUSAL: OnceLock<Option<String>> = OnceLock::new();
    let refusal = REFUSAL.get_or_init(|| {
        let outcome = Project::new().ag(&["run", "--view", "overlay", "--", "true"]);
        (outcome.code != Some(0)).then_some(outcome.stderr)
    });
    match refusal {
        None => vec!["overlay", "clone"],
        Some(refusal) => {
            skip("overlay", refusal);
            vec!["clone"]
        }
    }
}

/// The interpreter itself: a version manager's wrapper in its place takes longer to start than the tests.
pub(crate) fn python() -> &'static str {
    static PYTHON: LazyLock<String> = LazyLock::new(|| {
        let output =
            Command::new("python3").args(["-c", "import sys; print(sys.executable)"]).output().expect("python3");
        String::from_utf8(output.stdout).expect("a path").trim().to_owned()
    });
    &PYTHON
}

/// Whether a program is there, and answers.
pub(crate) fn has(program: &str, argument: &str) -> bool {
    Command::new(program).arg(argument).output().is_ok_and(|output| output.status.success())
}

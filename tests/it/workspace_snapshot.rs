//! A snapshot of a workspace holds what git would not ignore, and notices when what is ignored changes.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use agentguard::model::EntryKind;
use agentguard::store::ignore::{IgnorePolicy, UserGit};
use agentguard::store::snapshot::{CapturePolicy, CaptureRoot, Captured, Manifest, SnapshotStore};

use crate::project::skip;

/// A directory with a home, a workspace and a store.
pub(crate) struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().expect("temporary directory");
        for name in ["home", "ws"] {
            fs::create_dir(dir.path().join(name)).expect("made");
        }
        Self { dir }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn store(&self) -> SnapshotStore {
        SnapshotStore::at(&self.path("state"))
    }

    fn environment(&self) -> [(&'static str, OsString); 4] {
        [
            ("HOME", self.path("home").into()),
            ("GIT_CONFIG_NOSYSTEM", "1".into()),
            ("GIT_AUTHOR_DATE", "2001-01-01T00:00:00Z".into()),
            ("GIT_COMMITTER_DATE", "2001-01-01T00:00:00Z".into()),
        ]
    }

    pub(crate) fn policy(&self) -> CapturePolicy {
        let environment = self.environment();
        let variable = |name: &str| environment.iter().find(|(known, _)| *known == name).map(|(_, v)| v.clone());
        let ignore = IgnorePolicy::Git(UserGit::of_environment(variable));
        CapturePolicy { ignore, skip: vec![self.path("state")], ..CapturePolicy::default() }
    }

    /// Runs a script in a directory, with this place's home.
    pub(crate) fn shell(&self, dir: &str, script: &str) -> Vec<u8> {
        let mut command = Command::new("sh");
        command.args(["-euc", script]).current_dir(self.path(dir)).envs(self.environment());
        for variable in ["XDG_CONFIG_HOME", "GIT_DIR", "GIT_CONFIG_GLOBAL"] {
            command.env_remove(variable);
        }
        let out = command.output().expect("sh runs");
        assert!(out.status.success(), "{script}: {}", String::from_utf8_lossy(&out.stderr));
        out.stdout
    }

    pub(crate) fn roots(&self, dir: &str) -> Vec<CaptureRoot> {
        vec![CaptureRoot { name: "workspace".into(), path: self.path(dir) }]
    }

    pub(crate) fn capture(&self, dir: &str) -> Captured {
        self.store().capture(&self.path(dir), &self.roots(dir), &self.policy(), &|_| ()).expect("captured")
    }

    pub(crate) fn manifest(&self, captured: &Captured) -> Manifest {
        self.store().load(&captured.snapshot).expect("loaded")
    }

    /// Captures until everything is older than a tick.
    pub(crate) fn capture_settled(&self, dir: &str) -> Captured {
        let begun = SystemTime::now();
        while begun.elapsed().is_ok_and(|passed| passed < Duration::from_millis(40)) {
            std::thread::yield_now();
        }
        self.capture(dir)
    }

    /// What git has or would add, in a work tree.
    fn git_lists(&self, dir: &str) -> BTreeSet<OsString> {
        let listed = self.shell(dir, "git ls-files -co --exclude-standard -z");
        let there = |name: &&[u8]| self.path(dir).join(OsStr::from_bytes(name)).symlink_metadata();
        listed
            .split(|byte| *byte == 0)
            .filter(|name| there(name).is_ok_and(|metadata| !metadata.is_dir()))
            .map(|name| OsString::from_vec(name.to_vec()))
            .collect()
    }

    /// What is captured below a directory, but for what is in git directories.
    fn captured_files(&self, dir: &str) -> BTreeSet<OsString> {
        files_in(&self.manifest(&self.capture(dir)), b"workspace/").into_iter().filter(|path| !is_git(path)).collect()
    }

    fn captured_is_what_git_lists(&self, dir: &str) {
        assert_eq!(self.captured_files(dir), self.git_lists(dir), "{:?}", self.path(dir));
    }
}

fn is_git(path: &OsStr) -> bool {
    Path::new(path).components().any(|part| part.as_os_str() == ".git")
}

fn files_in(manifest: &Manifest, root: &[u8]) -> BTreeSet<OsString> {
    let entries = manifest.entries().iter().enumerate().filter(|(_, entry)| entry.kind != EntryKind::Directory);
    entries
        .filter_map(|(index, _)| Some(OsString::from_vec(manifest.path_of(index).strip_prefix(root)?.to_vec())))
        .collect()
}

fn names(list: &[&str]) -> BTreeSet<OsString> {
    list.iter().map(OsString::from).collect()
}

pub(crate) fn has_git() -> bool {
    let found = Command::new("git").arg("--version").output().is_ok_and(|out| out.status.success());
    if !found {
        skip("git", "git is not installed");
    }
    found
}

/// A number generator that is the same on every machine (xorshift64*).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) as usize % sides
    }

    fn pick(&mut self, from: &[&'static [u8]]) -> &'static [u8] {
        from[self.roll(from.len())]
    }

    fn pattern(&mut self) -> Vec<u8> {
        const PARTS: [&[u8]; 30] = [
            b"a",
            b"b",
            b"ab",
            b"*",
            b"?",
            b"**",
            b"*.o",
            b"a*",
            b"*b",
            b"[ab]",
            b"[!a]*",
            b"[^b]",
            b"x.o",
            b"{a,b}",
            b"\\*",
            b"[a-c]x*",
            b"***",
            b"a**",
            b"**b",
            b"[[:alpha:]]",
            b"a\\ ",
            b" ",
            b"\xff*",
            b"[\\]a]",
            b"[]a]",
            b"[a",
            b"[[:nope:]]",
            b"\\a",
            b"[b-a]",
            b"c",
        ];
        let mut out = Vec::new();
        if self.roll(4) == 0 {
            out.push(b'!');
        }
        if self.roll(4) == 0 {
            out.push(b'/');
        }
        out.extend_from_slice(self.pick(&PARTS));
        while self.roll(3) == 0 {
            if self.roll(4) != 0 {
                out.push(b'/');
            }
            out.extend_from_slice(self.pick(&PARTS));
        }
        if self.roll(4) == 0 {
            out.push(b'/');
        }
        if self.roll(8) == 0 {
            out.extend_from_slice(self.pick(&[b"  ".as_slice(), b"\r", b"\\ ", b"\t"]));
        }
        out.push(b'\n');
        out
    }

    fn patterns(&mut self, most: usize) -> Vec<u8> {
        (0..=self.roll(most)).flat_map(|_| self.pattern()).collect()
    }

    fn grow(&mut self, dir: &Path, depth: usize) {
        const NAMES: [&[u8]; 14] = [
            b"a",
            b"b",
            b"ab",
            b"x.o",
            b"c",
            b"cx1",
            b"{a,b}",
            b"a ",
            b"*",
            b"aab",
            b"\xff\xfe",
            b"a]",
            b"[a",
            b"b.log",
        ];
        for _ in 0..=self.roll(7) {
            let path = dir.join(OsStr::from_bytes(self.pick(&NAMES)));
            if path.symlink_metadata().is_ok() {
                continue;
            }
            match self.roll(5) {
                0 | 1 if depth < 4 => {
                    fs::create_dir(&path).expect("made");
                    self.grow(&path, depth + 1);
                }
                2 => symlink("a", &path).expect("linked"),
                _ => fs::write(&path, "x").expect("written"),
            }
        }
        if self.roll(3) == 0 {
            fs::write(dir.join(".gitignore"), self.patterns(4)).expect("written");
        }
    }
}

#[test]
fn what_is_captured_is_what_git_would_list() {
    if !has_git() {
        return;
    }
    for seed in 1..=40_u64 {
        let place = Place::new();
        let mut dice = Dice(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        place.shell("ws", "git init -q");
        dice.grow(&place.path("ws"), 0);
        if dice.roll(3) == 0 {
            fs::write(place.path("ws/.git/info/exclude"), dice.patterns(3)).expect("written");
        }
        if dice.roll(3) == 0 {
            fs::create_dir_all(place.path("home/.config/git")).expect("made");
            fs::write(place.path("home/.config/git/ignore"), dice.patterns(3)).expect("written");
        }
        if dice.roll(2) == 0 {
            let version = 2 + dice.roll(3);
            let every = 2 + dice.roll(4);
            let add = format!(
                "git config index.version {version}; find . -path ./.git -prune -o ! -type d -print0 | \
                 awk 'BEGIN {{ RS = ORS = \"\\0\" }} NR % {every} == 0' | xargs -0r git add -f --"
            );
            place.shell("ws", &add);
        }
        let (captured, listed) = (place.captured_files("ws"), place.git_lists("ws"));
        if captured != listed {
            let (dir, ignores) = (place.dir.keep(), "find . -name .gitignore -exec tail -n +1 {} +");
            let differ: Vec<_> = captured.symmetric_difference(&listed).collect();
            panic!("seed {seed}: {differ:?} ({ignores} in {dir:?})");
        }
    }
}

const COMMIT: &str = "git -c user.name=n -c user.email=e commit -q --allow-empty -m m";

#[test]
fn a_workspace_below_the_top_of_its_repository_is_under_the_rules_above_it() {
    if !has_git() {
        return;
    }
    let place = Place::new();
    let script = "git init -q; mkdir -p a/b/c; printf '*.o\n/a/b/anchored\nb/c/deep\n' > .gitignore
        printf '!keep.o\n/x\n' > a/.gitignore; echo '*.tmp' > .git/info/exclude
        touch a/b/x.o a/b/keep.o a/b/anchored a/b/c/deep a/b/x a/x a/b/y.tmp a/b/tracked.o a/b/plain
        git add -f a/b/tracked.o";
    place.shell("ws", script);
    place.captured_is_what_git_lists("ws/a/b");
    assert_eq!(place.captured_files("ws/a/b"), names(&["c/deep", "keep.o", "plain", "tracked.o", "x"]));
    let captured = place.capture_settled("ws/a/b");
    assert_eq!(captured.left_out, 3, "x.o, anchored and y.tmp; c/deep is spelled against the top");
    // What is above the workspace decides too: nothing in it has changed.
    for (change, files) in [
        ("printf 'plain\n' >> .gitignore", &["c/deep", "keep.o", "tracked.o", "x"][..]),
        ("git rm -q --cached a/b/tracked.o", &["c/deep", "keep.o", "x"]),
        ("echo x >> .git/info/exclude", &["c/deep", "keep.o"]),
        ("rm a/.gitignore", &["c/deep"]),
    ] {
        place.shell("ws", change);
        assert_eq!(place.captured_files("ws/a/b"), names(files), "{change}");
    }
}

#[test]
fn the_users_own_excludes_count_wherever_git_finds_them() {
    if !has_git() {
        return;
    }
    let place = Place::new();
    place.shell("ws", "git init -q; touch a.one b.two c.three d.four");
    place.shell("home", "mkdir -p .config/git; echo '*.one' > .config/git/ignore");
    place.captured_is_what_git_lists("ws");
    assert_eq!(place.captured_files("ws"), names(&["b.two", "c.three", "d.four"]));
    place.capture_settled("ws");
    let steps = [
        ("home", "printf '[core]\n excludesFile = ~/two\n' > .config/git/config; echo '*.two' > two"),
        ("home", "printf '[include]\npath = more\n' > .gitconfig; printf '[core] excludesfile = three\n' > more"),
        ("ws", "echo '*.three' > three"),
        ("home", "echo '*.two' > three; printf '[core] excludesfile = \"~/three\" ; why\n' > more"),
        ("ws", "git config core.excludesFile four; echo '*.four' > four"),
        ("home", "rm -r .gitconfig .config"),
    ];
    for (dir, step) in steps {
        place.shell(dir, step);
        place.captured_is_what_git_lists("ws");
        place.capture_settled("ws");
    }
    assert_eq!(place.captured_files("ws"), names(&["a.one", "b.two", "c.three", "four", "three"]));
}

#[test]
fn nested_repositories_and_submodules_have_rules_of_their_own() {
    if !has_git() {
        return;
    }
    let place = Place::new();
    fs::create_dir(place.path("other")).expect("made");
    place.shell("other", &format!("git init -q; echo '*.o' > .gitignore; touch x.o x.c; git add .; {COMMIT}"));
    let script = format!(
        "git init -q; echo '*.c' > .gitignore; git -c protocol.file.allow=always submodule -q add ../other sub/mod
         git init -q nested; echo nested.o > nested/.gitignore; touch nested/nested.o nested/n.c t.c t.d
         touch sub/mod/new.o sub/mod/new.c; echo sub >> .gitignore; {COMMIT}"
    );
    place.shell("ws", &script);
    let mut expected = place.git_lists("ws");
    for dir in ["nested", "sub/mod"] {
        let below = place.git_lists(&format!("ws/{dir}"));
        expected.extend(below.iter().map(|name| Path::new(dir).join(name).into_os_string()));
    }
    assert_eq!(place.captured_files("ws"), expected);
    assert!(expected.contains(OsStr::new("nested/n.c")) && expected.contains(OsStr::new("sub/mod/new.c")));
    // The small state of all three git directories, and no object.
    let files = files_in(&place.manifest(&place.capture("ws")), b"workspace/");
    for state in [".git/HEAD", ".git/index", ".git/config", ".git/info/exclude", ".git/modules/sub/mod/HEAD"] {
        assert!(files.contains(OsStr::new(state)), "{state}");
    }
    assert!(files.contains(OsStr::new("nested/.git/HEAD")) && files.contains(OsStr::new("sub/mod/.git")));
    let refs = files.iter().filter(|path| path.to_string_lossy().contains("/refs/heads/")).count();
    assert_eq!(refs, 2, "{files:?}");
    assert!(!files.iter().any(|path| path.to_string_lossy().contains("/objects/")), "{files:?}");
}

#[test]
fn the_git_directory_of_a_linked_worktree_is_captured_wherever_it_is() {
    if !has_git() {
        return;
    }
    let place = Place::new();
    fs::create_dir(place.path("main")).expect("made");
    let script = format!(
        "git init -q -b trunk; echo '*.o' > .gitignore; git add .; {COMMIT}; echo secret > .git/info/exclude
         git worktree add -q ../ws -b linked --orphan 2>/dev/null || git worktree add -q --force ../ws -b linked
         git worktree add -q ../other -b elsewhere"
    );
    fs::remove_dir(place.path("ws")).expect("empty");
    place.shell("main", &script);
    place.shell("ws", "printf '*.o\n' > .gitignore; touch a.o secret kept; git add .gitignore");
    place.captured_is_what_git_lists("ws");
    let captured = place.capture_settled("ws");
    let manifest = place.manifest(&captured);
    let main = place.path("main/.git").canonicalize().expect("there");
    let state = files_in(&manifest, &[main.as_os_str().as_bytes(), b"/"].concat());
    for file in ["HEAD", "config", "info/exclude", "refs/heads/trunk", "worktrees/ws/HEAD", "worktrees/ws/index"] {
        assert!(state.contains(OsStr::new(file)), "{file} is not in {state:?}");
    }
    assert!(!state.iter().any(|path| path.to_string_lossy().contains("worktrees/other")), "{state:?}");
    let unchanged = place.capture("ws");
    assert_eq!((unchanged.snapshot, unchanged.new_bytes), (captured.snapshot.clone(), 0));
    // A commit elsewhere moves a ref that this work tree shares.
    place.shell("main", COMMIT);
    assert_ne!(place.capture("ws").snapshot, captured.snapshot);
}

#[test]
fn what_is_tracked_is_known_from_every_form_of_the_index() {
    if !has_git() {
        return;
    }
    for form in ["git init -q", "git init -q --object-format=sha256", "git init -q; git config index.version 4"] {
        for split in ["true", "git update-index --split-index; touch sub/more.o; git add -f sub/more.o"] {
            let place = Place::new();
            let script = format!(
                "{form}; printf '*.o\n/sub\n' > .gitignore; mkdir -p sub/deep
                 for f in a b sub/c sub/deep/d sub/deep/e; do echo $f > $f.o; done
                 git add -f a.o sub/c.o sub/deep/d.o; git add -f -N sub/deep/e.o; {split}"
            );
            place.shell("ws", &script);
            place.captured_is_what_git_lists("ws");
            let files = place.captured_files("ws");
            assert!(files.contains(OsStr::new("sub/deep/e.o")) && !files.contains(OsStr::new("b.o")), "{script}");
        }
    }
}

#[test]
fn without_git_only_ignore_files_of_our_own_count() {
    let place = Place::new();
    let script = "printf '*.o\n' > .gitignore; printf '*.tmp\n!keep.tmp\n' > .ignore; mkdir -p d/e out
        printf '!*.tmp\nbig\n' > d/.agentguardignore; touch a.o a.tmp keep.tmp d/a.tmp d/big d/e/b.tmp out/x";
    place.shell("ws", script);
    let all = [".gitignore", ".ignore", "a.o", "d/.agentguardignore", "d/a.tmp", "d/e/b.tmp", "keep.tmp", "out/x"];
    assert_eq!(place.captured_files("ws"), names(&all));
    let before = place.capture_settled("ws");
    assert_eq!(before.left_out, 2);
    place.shell("ws", "echo /out > .agentguardignore");
    let after = place.capture("ws");
    assert_eq!(after.left_out, 3);
    assert!(!place.captured_files("ws").contains(OsStr::new("out/x")));
}

#[test]
fn an_ignore_file_that_ignores_itself_is_still_looked_at() {
    if !has_git() {
        return;
    }
    let place = Place::new();
    place.shell("ws", "git init -q; mkdir venv; printf '*\n' > venv/.gitignore; touch venv/x plain");
    assert_eq!(place.captured_files("ws"), names(&["plain"]));
    let settled = place.capture_settled("ws");
    assert_eq!(place.capture("ws"), Captured { new_bytes: 0, ..settled });
    // In place: not even the directory's time tells.
    place.shell("ws", "printf '.gitignore' > venv/.gitignore");
    assert_eq!(place.captured_files("ws"), names(&["plain", "venv/x"]));
}

#[test]
fn an_unchanged_workspace_is_neither_read_nor_written() {
    if !has_git() {
        return;
    }
    let place = Place::new();
    let make = "git init -q; printf '*.o\n' > .gitignore; mkdir d; for i in 1 2 3; do echo $i > d/$i; done; touch a.o
        git add .";
    place.shell("ws", make);
    let settled = place.capture_settled("ws");
    let stats = |place: &Place| place.shell("state", "find . -type f -exec stat -c '%n %i %Z %z' {} + | sort");
    let before = stats(&place);
    let again = place.capture("ws");
    assert_eq!((stats(&place), again.new_bytes), (before, 0));
    assert_eq!(again, Captured { new_bytes: 0, ..settled.clone() });
    // An ignored file is nobody's business.
    place.shell("ws", "echo changed > a.o");
    assert_eq!(place.capture("ws").snapshot, settled.snapshot);
}

#[test]
fn single_paths_can_be_left_out_and_are_counted() {
    let place = Place::new();
    place.shell("ws", "mkdir -p a/b; touch a/b/c a/d e");
    let policy = CapturePolicy { without: vec!["workspace/a/b".into(), "workspace/e".into()], ..place.policy() };
    let captured = place.store().capture(&place.path("ws"), &place.roots("ws"), &policy, &|_| ()).expect("captured");
    assert_eq!(files_in(&place.manifest(&captured), b"workspace/"), names(&["a/d"]));
    assert_eq!(captured.left_out, 2);
}

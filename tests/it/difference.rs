//! Replay costs what has changed: a layer above today's tree, or a copy of it, shows the snapshot again.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use agentguard::model::Text;
use agentguard::store::snapshot::{Captured, Style};
use agentguard::sys::copy_tree::copy_tree;
use agentguard::sys::overlay_layer::Whiteouts;
use agentguard::sys::walk::Access;

use crate::overlay_mount::{Overlay, run_in};
use crate::workspace_snapshot::{Place, has_git};

const TREE: &str = r#"
    printf '*.o\n/out\n' > .ignore; mkdir -p d/e deep/er closed gone/below out swap/inner plain
    for f in same touched written d/one d/e/two deep/er/three gone/below/four closed/five swap/six plain/seven; do
        echo "$f" > "$f"
    done
    ln -s same link; ln -s nowhere dangling; mkfifo -m 640 pipe; echo linked > l1; ln l1 l2; ln l1 d/l3
    echo apart > p1; cp p1 p2; echo dir > becomes-dir; mkdir becomes-file; echo x > becomes-file/x
    printf 'odd' > "$(printf 'new\nline')"; echo secret > a.o; echo built > out/b; head -c 5000000 /dev/zero > big
    python3 -c 'import os; os.setxattr("same", "user.note", b"1"); os.setxattr("plain", "user.note", b"2")'
    chmod 500 closed; chmod 1777 deep; chmod 751 d
    find . -exec touch -h -d '2001-02-03 04:05:06.789' {} +
"#;

const CHANGES: &str = r#"
    touch touched; echo other > written; rm d/one; rm -r gone; echo new > new; mkdir -p fresh/er; echo n > fresh/er/n
    chmod 700 closed; echo changed > closed/five; echo more > closed/more; chmod 500 closed
    ln -sfn written link; rm dangling; echo file > dangling; rm pipe; rm l2; echo linked > l2; rm p2; ln p1 p2
    rm becomes-dir; mkdir becomes-dir; echo y > becomes-dir/y; rm -r becomes-file; echo z > becomes-file
    rm -r swap; ln -s d swap; rm "$(printf 'new\nline')"; echo changed > a.o; echo rebuilt > out/b; echo b > fresh/b.o
    printf x | dd of=big bs=1 seek=4000000 conv=notrunc 2> /dev/null; chmod 755 d; rm .ignore; printf '*.o\n/out\n' > .ignore
    python3 -c 'import os; os.removexattr("same", "user.note"); os.setxattr("plain", "user.other", b"3")'
"#;

/// Everything that must come back, of every path but the ignored ones; a file's number is the first path it has.
const LISTING: &str = r#"python3 - <<'E'
import os, hashlib, stat, sys
first = {}
for above, dirs, files in os.walk(b".", topdown=True):
    dirs[:] = sorted(d for d in dirs if not (above == b"." and d == b"out"))
    for name in [b""] * (above == b".") + sorted(dirs + files):
        path = os.path.join(above, name) if name else above
        s = os.lstat(path)
        if path.endswith(b".o"): continue
        kind = stat.S_IFMT(s.st_mode)
        what = b""
        if kind == stat.S_IFREG: what = hashlib.sha256(open(path, "rb").read()).hexdigest().encode()
        if kind == stat.S_IFLNK: what = os.readlink(path)
        attrs = [] if kind not in (stat.S_IFREG, stat.S_IFDIR) else sorted(
            a for a in os.listxattr(path) if a.startswith("user.") and not a.startswith("user.overlay."))
        same = first.setdefault(s.st_ino, path) if kind == stat.S_IFREG else b"-"
        print(path, oct(s.st_mode), s.st_mtime_ns, what, same, attrs, file=sys.stdout)
E"#;

fn listing(text: Vec<u8>) -> BTreeMap<String, String> {
    let text = String::from_utf8(text).expect("text");
    let line = |line: &str| line.split_once(' ').map(|(path, rest)| (path.to_owned(), rest.to_owned()));
    text.lines().filter_map(line).collect()
}

fn listing_of(place: &Place, dir: &str) -> BTreeMap<String, String> {
    listing(place.shell(dir, LISTING))
}

fn changed_place() -> (Place, Captured) {
    let place = Place::new();
    place.shell("ws", TREE);
    let captured = place.capture_settled("ws");
    place.shell("ws", CHANGES);
    (place, captured)
}

fn lay_out(place: &Place, captured: &Captured, dest: &Path, style: Style) {
    let (store, manifest) = (place.store(), place.manifest(captured));
    let difference =
        store.difference(&manifest, &"workspace".into(), &place.path("ws"), &place.policy()).expect("compared");
    difference.lay_out(dest, style).expect("laid out");
}

fn expected(place: &Place, captured: &Captured) -> BTreeMap<String, String> {
    let dest = place.path("expected");
    place.store().materialise(&place.manifest(captured), &dest).expect("materialised");
    listing_of(place, "expected/workspace")
}

fn files_below(dir: &Path) -> usize {
    walkdir::WalkDir::new(dir).into_iter().filter(|e| e.as_ref().is_ok_and(|e| e.file_type().is_file())).count()
}

/// Shows the listing of a layer mounted above the live tree, and what ignored files hold there.
fn mounted(place: &Place, layer: &Path) -> Option<(BTreeMap<String, String>, String)> {
    let (ws, target) = (place.path("ws"), place.path("target"));
    fs::create_dir_all(&target).expect("made");
    let overlay = Overlay { lower: &[layer, &ws], upper: None, target: &target };
    let ignored = run_in(&overlay, "cat a.o out/b; ls fresh 2>&1 || true")?;
    Some((listing(run_in(&overlay, LISTING)?), String::from_utf8_lossy(&ignored).into_owned()))
}

#[test]
fn a_layer_above_todays_tree_shows_the_snapshot() {
    let (place, captured) = changed_place();
    let before = expected(&place, &captured);
    for (name, whiteouts) in [("devices", Whiteouts::AsPossible), ("attributes", Whiteouts::ByAttribute)] {
        let layer = place.path(name);
        lay_out(&place, &captured, &layer, Style::Layer(whiteouts));
        let Some((shown, ignored)) = mounted(&place, &layer) else { return };
        for (path, what) in &before {
            assert_eq!(shown.get(path), Some(what), "{path} ({name})");
        }
        assert_eq!(shown, before, "{name}");
        // What was left out is live; what is in a new directory goes with it.
        assert!(ignored.starts_with("changed\nrebuilt\n") && !ignored.contains("b.o"), "{ignored}");
        let whiteouts = |path: &walkdir::DirEntry| !path.file_type().is_file() && !path.file_type().is_dir();
        let devices = walkdir::WalkDir::new(&layer).into_iter().filter_map(Result::ok).filter(whiteouts).count();
        assert_eq!(devices, if name == "devices" { 6 } else { 3 }, "links and pipes of the snapshot, and whiteouts");
        let _ = Command::new("chmod").args(["-R", "u+rwx"]).arg(&layer).status();
    }
}

#[test]
fn a_copy_of_todays_tree_becomes_the_snapshot() {
    let (place, captured) = changed_place();
    let copy = place.path("copy");
    copy_tree(&place.path("ws"), &copy, Access::AsIs).expect("copied");
    lay_out(&place, &captured, &copy, Style::Apply);
    let (shown, before) = (listing_of(&place, "copy"), expected(&place, &captured));
    for (path, what) in &before {
        assert_eq!(shown.get(path), Some(what), "{path}");
    }
    assert_eq!(shown, before);
    assert_eq!(place.shell("copy", "cat a.o out/b"), b"changed\nrebuilt\n");
    let _ = Command::new("chmod").args(["-R", "u+rwx"]).arg(place.path("")).status();
}

#[test]
fn an_unchanged_tree_needs_no_layer_and_a_changed_file_only_itself() {
    let place = Place::new();
    place.shell("ws", TREE);
    let captured = place.capture_settled("ws");
    let (store, manifest) = (place.store(), place.manifest(&captured));
    let root = Text::from("workspace");
    let difference = || store.difference(&manifest, &root, &place.path("ws"), &place.policy()).expect("compared");
    assert!(difference().is_empty());
    // Without any stat table every content is read, and found the same.
    fs::rename(place.path("state/cache"), place.path("cache")).expect("moved");
    assert!(difference().is_empty());
    fs::rename(place.path("cache"), place.path("state/cache")).expect("moved");
    place.shell("ws", "echo changed > d/e/two; touch -d '2001-02-03 04:05:06.789' d/e; echo 1 > a.o");
    let changed = difference();
    assert_eq!((changed.changed(), changed.extra()), (vec!["workspace/d/e/two".into()], vec![]));
    let layer = place.path("layer");
    changed.lay_out(&layer, Style::Layer(Whiteouts::AsPossible)).expect("laid out");
    assert_eq!(files_below(&layer), 1);
    // A later capture knows today's tree: nothing of it needs to be read for an older snapshot.
    place.capture_settled("ws");
    assert_eq!(difference().changed(), ["workspace/d/e/two".into()]);
}

#[test]
fn a_repository_that_went_on_is_shown_as_it_was() {
    if !has_git() {
        return;
    }
    let place = Place::new();
    let git = "git -c user.name=n -c user.email=e";
    place.shell(
        "ws",
        &format!("git init -q -b main; echo 1 > a; echo '*.o' > .gitignore; git add .; {git} commit -qm 1"),
    );
    let log = place.shell("ws", "git status --porcelain; git log --format=%H");
    let captured = place.capture_settled("ws");
    place.shell("ws", &format!("echo 2 > a; echo b > b; git add .; {git} commit -qm 2; git branch other; echo 3 > c"));
    let layer = place.path("layer");
    lay_out(&place, &captured, &layer, Style::Layer(Whiteouts::AsPossible));
    let (ws, target) = (place.path("ws"), place.path("target"));
    fs::create_dir(&target).expect("made");
    let (upper, work): (PathBuf, PathBuf) = (place.path("upper"), place.path("work"));
    fs::create_dir(&upper).and_then(|()| fs::create_dir(&work)).expect("made");
    let overlay = Overlay { lower: &[&layer, &ws], upper: Some((&upper, &work)), target: &target };
    let script = "export GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0=safe.directory GIT_CONFIG_VALUE_0='*'
        git status --porcelain; git log --format=%H; git branch --format='%(refname)' >&2; git fsck >&2";
    let Some(shown) = run_in(&overlay, script) else { return };
    assert_eq!(String::from_utf8_lossy(&shown), String::from_utf8_lossy(&log));
    assert!(files_below(&layer) < 12, "{}", files_below(&layer));
    let _ = Command::new("chmod").args(["-R", "u+rwx"]).arg(&work).status();
}

#[test]
fn the_git_directory_of_a_linked_worktree_is_compared_under_its_own_rules() {
    if !has_git() {
        return;
    }
    let place = Place::new();
    fs::create_dir(place.path("main")).expect("made");
    fs::remove_dir(place.path("ws")).expect("empty");
    let commit = "git -c user.name=n -c user.email=e commit -q --allow-empty -m m";
    place.shell("main", &format!("git init -q; {commit}; git worktree add -q ../ws; git worktree add -q ../other"));
    let captured = place.capture_settled("ws");
    let (store, manifest) = (place.store(), place.manifest(&captured));
    let outer = place.path("main/.git").canonicalize().expect("there");
    let name = Text::from(outer.to_str().expect("text"));
    let difference = || store.difference(&manifest, &name, &outer, &place.policy()).expect("compared");
    assert!(difference().is_empty(), "{:?}", difference());
    fs::remove_dir_all(place.path("state/cache")).expect("removed");
    assert!(difference().is_empty(), "{:?}", difference().changed());
    place.shell("main", &format!("{commit}; git -C ../other commit -q --allow-empty -m m 2>/dev/null || true"));
    let changed: Vec<_> = difference().changed().iter().map(|path| path.to_string_lossy().into_owned()).collect();
    assert!(changed.iter().any(|path| path.contains("refs/heads/")), "{changed:?}");
    let extra = difference().extra();
    assert!(!extra.iter().any(|path| path.to_string_lossy().contains("other")), "{extra:?}");
}

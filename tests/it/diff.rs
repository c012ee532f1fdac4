//! `agentguard diff RUN` is a patch: git prints the same, `git apply` and `patch` make the one tree of the other, and no
//! byte of a file commands a terminal.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use crate::project::{Outcome, skip};
use crate::recorded::{Kept, Trees, as_git_sees};

/// Writes a file of a tree, with the directories above it.
fn put(top: &Path, name: &[u8], content: &[u8], mode: u32) {
    let path = top.join(OsStr::from_bytes(name));
    fs::create_dir_all(path.parent().expect("a parent")).expect("directories");
    fs::write(&path, content).expect("written");
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("mode");
}

/// git with nobody's configuration.
fn git(cwd: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new("git");
    command.args(arguments).current_dir(cwd).env("GIT_CONFIG_NOSYSTEM", "1").env("GIT_CONFIG_GLOBAL", "/dev/null");
    command.env("GIT_CEILING_DIRECTORIES", cwd.parent().expect("a parent")).env("GIT_AUTHOR_NAME", "t");
    command.env("GIT_AUTHOR_EMAIL", "t@t").env("GIT_COMMITTER_NAME", "t").env("GIT_COMMITTER_EMAIL", "t@t");
    command.stdin(Stdio::null());
    command
}

fn copy(from: &Path, to: &Path) {
    assert!(Command::new("cp").arg("-a").args([from, to]).status().expect("cp runs").success());
}

/// What git says of the same change, without the lines that name git's own objects.
fn said_by_git(trees: &Trees, options: &[&str]) -> Vec<u8> {
    let work = trees.project.join("git");
    if !work.exists() {
        copy(&trees.before(), &work);
        for arguments in [&["init", "-q"][..], &["add", "-A", "-f"], &["commit", "-qm", "before", "--allow-empty"]] {
            assert!(git(&work, arguments).status().expect("git runs").success());
        }
        fs::rename(work.join(".git"), trees.project.join("git.git")).expect("moved");
        fs::remove_dir_all(&work).expect("removed");
        copy(&trees.after(), &work);
        fs::rename(trees.project.join("git.git"), work.join(".git")).expect("moved");
        assert!(git(&work, &["add", "-A", "-f"]).status().expect("git runs").success());
    }
    let arguments = [&["diff", "--cached", "--no-renames", "--no-color"][..], options].concat();
    let output = git(&work, &arguments).output().expect("git runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    without(&output.stdout, b"index ")
}

fn without(text: &[u8], start: &[u8]) -> Vec<u8> {
    text.split_inclusive(|byte| *byte == b'\n').filter(|line| !line.starts_with(start)).collect::<Vec<_>>().concat()
}

fn diff(trees: &Trees, options: &[&str]) -> Outcome {
    let arguments = [&["diff", "@"][..], options].concat();
    trees.project.ag(&arguments).exits(0)
}

fn patch(trees: &Trees) -> Vec<u8> {
    let outcome = diff(trees, &[]);
    assert_eq!(outcome.stderr, "");
    outcome.stdout
}

#[track_caller]
fn assert_same_text(ours: &[u8], theirs: &[u8]) {
    assert!(ours == theirs, "ours:\n{}\ngit's:\n{}", String::from_utf8_lossy(ours), String::from_utf8_lossy(theirs));
}

/// Applies a patch to a copy of the tree before.
fn applied(trees: &Trees, patch: &[u8], program: &[&str]) -> (bool, String, Vec<String>) {
    let work = trees.project.join(format!("applied-{}", program.join("-")));
    copy(&trees.before(), &work);
    let file = trees.project.join("the.patch");
    fs::write(&file, patch).expect("written");
    let mut command = if program[0] == "git" { git(&work, &program[1..]) } else { Command::new(program[0]) };
    if program[0] != "git" {
        command.args(&program[1..]).current_dir(&work);
    }
    let output = command.stdin(fs::File::open(&file).expect("opened")).output().expect("runs");
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    (output.status.success(), said, as_git_sees(&work))
}

#[track_caller]
fn assert_git_apply_makes_after(trees: &Trees) {
    let patch = patch(trees);
    let (well, said, tree) = applied(trees, &patch, &["git", "apply", "--whitespace=nowarn"]);
    assert!(well, "{said}\n{}", String::from_utf8_lossy(&patch));
    assert_eq!(tree, as_git_sees(&trees.after()), "{}", String::from_utf8_lossy(&patch));
}

const NASTY: [&[u8]; 12] = [
    b"two words",
    b"new\nline",
    b"quo\"te",
    b"back\\slash",
    b"tab\there",
    b"not utf8 \xff\xfe",
    "na\u{ef}ve \u{65e5}\u{672c}".as_bytes(),
    b"-rf",
    b"trailing ",
    b"deep/er/and deeper/x",
    b"bell\x07\x08\x0b\x0c\r\x01\x7f",
    b"a b/c d",
];

const STORY: &[u8] = b"fn one() {\n    1\n}\n\nfn two() {\n    2\n}\n\nfn three() {\n    3\n    3\n    3\n    3\n    3\n    3\n    3\n}\n";

/// Every kind of change that a patch can carry, binary contents left out.
fn nasty() -> Trees {
    let trees = Trees::new();
    let (before, after) = (trees.before(), trees.after());
    for (at, name) in NASTY.iter().enumerate() {
        let content = format!("line {at}\ncommon\n");
        put(&before, &[b"changed/", *name].concat(), content.as_bytes(), 0o644);
        put(&after, &[b"changed/", *name].concat(), format!("{content}added {at}\n").as_bytes(), 0o644);
        put(&before, &[b"deleted/", *name].concat(), content.as_bytes(), 0o644);
        put(&after, &[b"created/", *name].concat(), content.as_bytes(), 0o644);
    }
    let changed = String::from_utf8_lossy(STORY).replace("    1\n", "    one\n").replacen("    3\n}", "    4\n}", 1);
    put(&before, b"story.rs", STORY, 0o644);
    put(&after, b"story.rs", changed.as_bytes(), 0o644);
    put(&before, b"eof/loses", b"a\nb\n", 0o644);
    put(&after, b"eof/loses", b"a\nb", 0o644);
    put(&before, b"eof/gains", b"a\nb", 0o644);
    put(&after, b"eof/gains", b"a\nb\n", 0o644);
    put(&before, b"eof/neither", b"a\nb", 0o644);
    put(&after, b"eof/neither", b"c\nb", 0o644);
    put(&before, b"crlf", b"one\r\ntwo\r\nthree\r\n", 0o644);
    put(&after, b"crlf", b"one\r\n2\r\nthree\nfour\r", 0o644);
    put(&before, b"bytes", b"\xff\xfe\n\x1b[31mred\n", 0o644);
    put(&after, b"bytes", b"\xff\xfd\n\x1b[32mgreen\n\x00 is late".repeat(1000).split_at(7990).0, 0o644);
    put(&before, b"empty/deleted", b"", 0o644);
    put(&after, b"empty/created", b"", 0o644);
    put(&after, b"empty/program", b"", 0o755);
    put(&before, b"empty/filled", b"", 0o644);
    put(&after, b"empty/filled", b"full\n", 0o644);
    put(&before, b"mode/only", b"same\n", 0o644);
    put(&after, b"mode/only", b"same\n", 0o755);
    put(&before, b"mode/and content", b"one\n", 0o755);
    put(&after, b"mode/and content", b"two\n", 0o644);
    put(&before, b"type/to-link", b"was a file\n", 0o644);
    symlink("target of it", after.join("type/to-link")).unwrap_or_else(|_| {
        fs::create_dir_all(after.join("type")).expect("made");
        symlink("target of it", after.join("type/to-link")).expect("linked");
    });
    symlink("../story.rs", before.join("type/to-file")).expect("linked");
    put(&after, b"type/to-file", b"is a file\n", 0o755);
    put(&before, b"type/file-to-dir", b"file\n", 0o644);
    put(&after, b"type/file-to-dir/inside", b"inside\n", 0o644);
    put(&before, b"type/dir-to-file/inside", b"inside\n", 0o644);
    put(&after, b"type/dir-to-file", b"file\n", 0o644);
    symlink("old target", before.join("type/link")).expect("linked");
    symlink("new\ntarget \u{e9}", after.join("type/link")).expect("linked");
    symlink("gone", before.join("type/link-gone")).expect("linked");
    symlink("/etc/passwd", after.join("type/link-new")).expect("linked");
    put(&before, b"untouched", b"untouched\n", 0o644);
    put(&after, b"untouched", b"untouched\n", 0o644);
    trees
}

#[test]
fn the_patch_is_what_git_prints_but_for_its_object_names() {
    let trees = nasty();
    trees.record(1, Kept::Both);
    assert_same_text(&patch(&trees), &said_by_git(&trees, &[]));
    assert_same_text(&diff(&trees, &["-U0"]).stdout, &said_by_git(&trees, &["-U0"]));
    assert_same_text(&diff(&trees, &["--unified", "100"]).stdout, &said_by_git(&trees, &["-U100"]));
}

#[test]
fn the_lists_are_what_git_prints() {
    let trees = nasty();
    put(&trees.before(), b"binary", b"a\0b", 0o644);
    put(&trees.after(), b"binary", b"a\0bcd", 0o644);
    put(&trees.after(), b"very/long/path/of/many/components/that/does/not/fit/any/terminal/at/all/ever/file.txt", &b"line\n".repeat(500), 0o644);
    trees.record(1, Kept::Both);
    for form in ["--name-only", "--name-status", "--numstat", "--stat"] {
        assert_same_text(&diff(&trees, &[form]).stdout, &said_by_git(&trees, &[form]));
        if form != "--stat" {
            assert_same_text(&diff(&trees, &[form, "-z"]).stdout, &said_by_git(&trees, &[form, "-z"]));
        }
    }
}

#[test]
fn git_apply_makes_the_tree_after_of_the_tree_before() {
    let trees = nasty();
    trees.record(1, Kept::Both);
    assert_git_apply_makes_after(&trees);
}

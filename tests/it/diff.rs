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
        // git would take a file of the same size and the same time, made in the same tick, for the same.
        fs::remove_file(work.join(".git/index")).expect("removed");
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
    let lines = |text: &[u8]| -> Vec<String> {
        text.split(|byte| *byte == b'\n').map(|line| String::from_utf8_lossy(line).into_owned()).collect()
    };
    let (our_lines, their_lines) = (lines(ours), lines(theirs));
    let same = our_lines.iter().zip(&their_lines).take_while(|(ours, theirs)| ours == theirs).count();
    let near = |lines: &[String]| lines[same.saturating_sub(8)..].iter().take(16).cloned().collect::<Vec<_>>();
    assert!(ours == theirs, "from line {same}: ours {:#?}, git's {:#?}", near(&our_lines), near(&their_lines));
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
    put(
        &after,
        b"bytes",
        &[&b"\xff\xfd\n\x1b[32mgreen\n"[..], &b"line\n".repeat(1600), b"\0 is late\n"].concat(),
        0o644,
    );
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
    fs::create_dir_all(after.join("type")).expect("made");
    symlink("target of it", after.join("type/to-link")).expect("linked");
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
    put(
        &trees.after(),
        b"very/long/path/of/many/components/that/does/not/fit/any/terminal/at/all/ever/file.txt",
        &b"line\n".repeat(500),
        0o644,
    );
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

#[test]
fn patch_makes_the_tree_after_of_the_tree_before() {
    let trees = Trees::new();
    let (before, after) = (trees.before(), trees.after());
    for name in [&b"two words"[..], b"quo\"te", b"tab\there", b"not utf8 \xff", b"deep/er/x"] {
        put(&before, name, b"one\ntwo\nthree\n", 0o644);
        put(&after, name, b"one\n2\nthree\nfour", 0o644);
        put(&before, &[b"gone-", name].concat(), b"one\n", 0o644);
        put(&after, &[b"new-", name].concat(), b"one\n", 0o755);
    }
    put(&before, b"mode", b"same\n", 0o644);
    put(&after, b"mode", b"same\n", 0o755);
    put(&after, b"empty", b"", 0o644);
    fs::create_dir(after.join("empty directory")).expect("made");
    trees.record(1, Kept::Both);
    let Ok(version) = Command::new("patch").arg("--version").output() else {
        return skip("patch", "it is not installed");
    };
    assert!(version.status.success());
    let (well, said, tree) = applied(&trees, &patch(&trees), &["patch", "-p1", "--no-backup-if-mismatch"]);
    assert!(well, "{said}");
    assert_eq!(tree, as_git_sees(&after), "{said}");
}

#[test]
fn what_a_patch_has_no_words_for_is_a_line_that_git_apply_passes_over() {
    let trees = Trees::new();
    let (before, after) = (trees.before(), trees.after());
    put(&before, b"private", b"one\n", 0o644);
    put(&after, b"private", b"one\n", 0o600);
    put(&before, b"shared", b"one\n", 0o755);
    put(&after, b"shared", b"two\n", 0o4755);
    fs::create_dir(before.join("gone\n")).expect("made");
    fs::create_dir(after.join("empty")).expect("made");
    for (tree, mode) in [(&before, 0o755), (&after, 0o700)] {
        put(tree, b"closed/f", b"f\n", 0o644);
        fs::set_permissions(tree.join("closed"), fs::Permissions::from_mode(mode)).expect("mode");
    }
    let fifo = rustix::fs::mkfifoat(rustix::fs::CWD, after.join("pipe"), rustix::fs::Mode::from_raw_mode(0o644));
    fifo.expect("made");
    trees.record(1, Kept::Both);
    let shown = String::from_utf8(patch(&trees)).expect("text");
    let expected = "\
# mode of directory 0755 -> 0700: closed/
# directory created, mode 0755: empty/
# directory deleted, mode 0755: \"gone\\n/\"
# fifo created, mode 0644: pipe
# mode of file 0644 -> 0600: private
# mode of file 0755 -> 4755: shared
diff --git a/shared b/shared
--- a/shared
+++ b/shared
@@ -1 +1 @@
-one
+two
";
    assert_eq!(shown, expected);
    let (well, said, tree) = applied(&trees, shown.as_bytes(), &["git", "apply"]);
    assert!(well, "{said}");
    assert!(tree.contains(&"shared true two\\n".to_owned()), "{tree:?}");
    let names = diff(&trees, &["--name-status"]).text();
    assert_eq!(names, "M\tclosed/\nA\tempty/\nD\t\"gone\\n/\"\nA\tpipe\nM\tprivate\nM\tshared\n");
    let stat = diff(&trees, &["--stat"]).text();
    assert!(stat.contains(" pipe      | fifo created\n") && stat.contains(" 3 files changed, "), "{stat}");
}

#[test]
fn a_patch_that_does_not_show_everything_is_refused_as_a_whole() {
    let large = vec![b'x'; 17 << 20];
    type Case<'a> = (&'a str, Option<&'a [u8]>, &'a [u8], &'a str);
    let cases: [Case; 4] = [
        ("created", None, b"a\0b", "Binary files /dev/null and b/z differ\n"),
        ("changed", Some(b"a\n"), b"a\0b", "old mode 100644\nnew mode 100644\nBinary files a/z and b/z differ\n"),
        ("large", None, &large, "Files /dev/null and b/z (too large to show) differ\n"),
        (
            "grown",
            Some(b"a\n"),
            &large,
            "old mode 100644\nnew mode 100644\nFiles a/z and b/z (too large to show) differ\n",
        ),
    ];
    for (name, old, new, line) in cases {
        let trees = Trees::new();
        put(&trees.before(), b"a", b"one\n", 0o644);
        put(&trees.after(), b"a", b"two\n", 0o644);
        if let Some(old) = old {
            put(&trees.before(), b"z", old, 0o644);
        }
        put(&trees.after(), b"z", new, 0o644);
        trees.record(1, Kept::Both);
        let shown = patch(&trees);
        assert!(String::from_utf8_lossy(&shown).contains(line), "{name}: {}", String::from_utf8_lossy(&shown));
        let (well, said, tree) = applied(&trees, &shown, &["git", "apply"]);
        assert!(!well && said.contains("cannot apply binary patch to 'z'"), "{name}: {said}");
        assert_eq!(tree, as_git_sees(&trees.before()));
    }
}

#[test]
fn a_file_of_nothing_but_differences_is_shown_in_time() {
    let trees = Trees::new();
    let lines = |seed: u64| -> Vec<u8> {
        let mut state = seed;
        let mut text = String::new();
        while text.len() < 15 << 20 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            text += &format!("{}\n", state >> 40);
        }
        text.into_bytes()
    };
    put(&trees.before(), b"noise", &lines(1), 0o644);
    put(&trees.after(), b"noise", &lines(2), 0o644);
    trees.record(1, Kept::Both);
    let begun = Instant::now();
    let shown = patch(&trees);
    assert!(begun.elapsed().as_secs() < 60, "{:?}", begun.elapsed());
    let (well, said, tree) = applied(&trees, &shown, &["git", "apply"]);
    assert!(well, "{said}");
    assert!(tree == as_git_sees(&trees.after()));
}

#[test]
fn contents_come_from_wherever_they_still_are_and_only_with_their_hash() {
    let trees = Trees::new();
    put(&trees.before(), b"f", b"one\n", 0o644);
    put(&trees.after(), b"f", b"two\n", 0o644);
    let dir = trees.record(1, Kept::OnlyBefore);
    let not_kept =
        "diff --git a/f b/f\nold mode 100644\nnew mode 100644\nFiles a/f and b/f (content not kept) differ\n";
    let shown = "diff --git a/f b/f\n--- a/f\n+++ b/f\n@@ -1 +1 @@\n-one\n+two\n";
    assert_eq!(diff(&trees, &[]).text(), not_kept);
    assert_eq!(diff(&trees, &["--numstat"]).text(), "-\t-\tf\n");
    // In the workspace, once it is published; another content of the same size is not what the run made.
    put(&trees.workspace(), b"f", b"2wo\n", 0o644);
    assert_eq!(diff(&trees, &[]).text(), not_kept);
    put(&trees.workspace(), b"f", b"two\n", 0o644);
    assert_eq!(diff(&trees, &[]).text(), shown);
    // A link is not followed, a pipe not opened.
    fs::rename(trees.workspace().join("f"), trees.project.join("elsewhere")).expect("moved");
    symlink(trees.project.join("elsewhere"), trees.workspace().join("f")).expect("linked");
    assert_eq!(diff(&trees, &[]).text(), not_kept);
    fs::remove_file(trees.workspace().join("f")).expect("removed");
    let fifo = trees.workspace().join("f");
    rustix::fs::mkfifoat(rustix::fs::CWD, &fifo, rustix::fs::Mode::from_raw_mode(0o644)).expect("made");
    assert_eq!(diff(&trees, &[]).text(), not_kept);
    // Where the agent staged it.
    put(&dir.join("upper"), b"f", b"two\n", 0o644);
    assert_eq!(diff(&trees, &[]).text(), shown);

    let trees = Trees::new();
    put(&trees.before(), b"f", b"one\n", 0o644);
    put(&trees.after(), b"f", b"two\n", 0o644);
    trees.record(1, Kept::OnlyAfter);
    assert_eq!(diff(&trees, &[]).text(), not_kept);
    put(&trees.workspace(), b"f", b"one\n", 0o644);
    assert_eq!(diff(&trees, &[]).text(), shown);
}

#[test]
fn a_damaged_store_is_said_and_hides_only_what_it_held() {
    let trees = Trees::new();
    put(&trees.before(), b"f", b"one\n", 0o644);
    put(&trees.after(), b"f", b"two\n", 0o644);
    put(&trees.after(), b"g", b"new\n", 0o644);
    trees.record(1, Kept::OnlyBefore);
    put(&trees.workspace(), b"g", b"new\n", 0o644);
    fs::remove_dir_all(trees.project.state().join("snapshots")).expect("removed");
    let outcome = diff(&trees, &[]).says("the snapshot of the workspace cannot be read");
    let text = outcome.text();
    assert!(text.contains("Files a/f and b/f (content not kept) differ\n") && text.contains("+new\n"), "{text}");
}

/// What a terminal receives.
fn on_terminal(trees: &Trees, arguments: &[&str], environment: &[(&str, &str)]) -> Option<Vec<u8>> {
    let mut python = Command::new("python3");
    python.args(["-c", "import os,pty,sys\nsys.exit(os.waitstatus_to_exitcode(pty.spawn(sys.argv[1:])))"]);
    let inner = trees.project.command(arguments);
    python.arg(inner.get_program()).args(inner.get_args()).current_dir(trees.project.path());
    for name in ["PAGER", "AGENTGUARD_PAGER", "LESS", "NO_COLOR", "CLICOLOR_FORCE", "CI"] {
        python.env_remove(name);
    }
    let output = python.env("TERM", "xterm").envs(environment.iter().copied()).stdin(Stdio::null()).output().ok()?;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    // The terminal's own line discipline.
    Some(String::from_utf8_lossy(&output.stdout).replace("\r\n", "\n").into_bytes())
}

#[test]
fn no_byte_of_a_file_commands_the_terminal_and_a_pipe_has_all_of_them() {
    let trees = Trees::new();
    let hostile = b"\x1b]0;owned\x07\x1b[2J\x9b31m\xc2\x9b31m \xe2\x80\xae\ttab \\x1b\rover\n";
    put(&trees.before(), b"fn", b"void \x1b[31mheading\n\n\n\n\n\n", 0o644);
    put(&trees.after(), b"fn", b"void \x1b[31mheading\n\n\n\n\n\n!\n", 0o644);
    put(&trees.after(), b"h\x1b[2Jostile", hostile, 0o644);
    trees.record(1, Kept::Both);
    let Some(shown) = on_terminal(&trees, &["diff", "@", "--no-pager", "--color=never"], &[]) else {
        return skip("python3", "no terminal can be had");
    };
    let text = String::from_utf8(shown).expect("UTF-8");
    let obeyed = |letter: char| letter.is_control() && !"\n\t".contains(letter) || letter == '\u{202e}';
    assert!(!text.chars().any(obeyed), "{text:?}");
    let line = "+\\x1b]0;owned\\x07\\x1b[2J\\x9b31m\\u{9b}31m \\u{202e}\ttab \\x1b\\x0dover\n";
    assert!(text.contains(line), "{text}");
    let coloured = on_terminal(&trees, &["diff", "@", "--no-pager"], &[]).expect("a terminal");
    let coloured = String::from_utf8(coloured).expect("UTF-8");
    assert!(coloured.contains("\x1b[1m+++ b/fn\x1b[m\n\x1b[36m@@ -4,3 +4,4 @@\x1b[m"), "{coloured:?}");
    assert!(
        coloured.contains("\x1b[32m+!\x1b[m\n") && coloured.contains("\x1b[7m\\x1b\x1b[27m]0;owned"),
        "{coloured:?}"
    );
    let piped = patch(&trees);
    assert!(piped.windows(hostile.len()).any(|bytes| bytes == hostile));
}

#[test]
fn a_pager_is_for_terminals_and_is_the_users_own_choice() {
    let trees = Trees::new();
    put(&trees.after(), b"f", b"one\n", 0o644);
    trees.record(1, Kept::Both);
    let diff_with = |environment: &[(&str, &str)]| {
        on_terminal(&trees, &["diff", "@", "--name-only"], environment)
            .map(|text| String::from_utf8_lossy(&text).into_owned())
    };
    let Some(own) = diff_with(&[("AGENTGUARD_PAGER", "sed 's/^/own $LESS /'"), ("PAGER", "sed 's/^/general /'")])
    else {
        return skip("python3", "no terminal can be had");
    };
    assert_eq!(own, "own $LESS f\n");
    assert_eq!(diff_with(&[("PAGER", "echo $LESS; cat #")]).expect("shown"), "FRX\nf\n");
    assert_eq!(diff_with(&[("PAGER", "echo $LESS; cat #"), ("LESS", "-i")]).expect("shown"), "-i\nf\n");
    assert_eq!(diff_with(&[("AGENTGUARD_PAGER", ""), ("PAGER", "false")]).expect("shown"), "f\n");
    // A pager that reads nothing is a reader that has seen enough; one that is not there is no reason to show nothing.
    assert_eq!(diff_with(&[("PAGER", "true")]).expect("shown"), "");
    let missing = diff_with(&[("PAGER", "no-such-pager")]).expect("shown");
    assert!(missing.contains("no pager: no-such-pager") && missing.ends_with("f\n"), "{missing}");
    let piped =
        trees.project.command(&["diff", "@", "--name-only"]).env("PAGER", "sed s/f/paged/").output().expect("runs");
    assert_eq!(piped.stdout, b"f\n");
}

#[test]
fn only_what_the_paths_name_is_shown() {
    let trees = Trees::new();
    for name in [&b"src/a.rs"[..], b"src/b.txt", b"srcs", b"top.rs"] {
        put(&trees.after(), name, b"one\n", 0o644);
    }
    trees.record(1, Kept::Both);
    let names = |paths: &[&str]| diff(&trees, &[&["--name-only", "--"][..], paths].concat()).text();
    assert_eq!(names(&["src"]), "src/a.rs\nsrc/b.txt\n");
    assert_eq!(names(&["*.rs"]), "src/a.rs\ntop.rs\n");
    assert_eq!(names(&["w/src/b.txt", "no-such"]), "");
    assert_eq!(names(&[trees.workspace().join("srcs").to_str().expect("text")]), "srcs\n");
    fs::create_dir_all(trees.workspace().join("src")).expect("made");
    let mut inside = trees.project.command(&["diff", "@", "--name-only", "--", "*.txt", "../top.rs"]);
    assert_eq!(
        inside.current_dir(trees.workspace().join("src")).output().expect("runs").stdout,
        b"src/b.txt\ntop.rs\n"
    );
    trees.project.ag(&["diff", "@", "--", "/etc"]).exits(125).says("\"/etc\" is outside of");
    trees.project.ag(&["diff", "@", "-z"]).exits(125);
    trees.project.ag(&["diff", "@", "--stat", "--json"]).exits(125);
}

#[test]
fn the_exit_code_says_whether_there_are_changes_only_where_that_was_asked() {
    let trees = Trees::new();
    put(&trees.after(), b"f", b"one\n", 0o644);
    trees.record(1, Kept::Both);
    diff(&trees, &["--name-only"]);
    trees.project.ag(&["diff", "@", "--exit-code"]).exits(1);
    trees.project.ag(&["diff", "@", "--exit-code", "--", "g"]).exits(0);
    let unchanged = Trees::new();
    let _ = unchanged.record_as(1, Kept::Both, |_, _| {});
    assert_eq!(unchanged.project.ag(&["diff", "@", "--exit-code"]).exits(0).text(), "");
    let script = "\"$0\" diff @ | true; echo ${PIPESTATUS[0]}";
    put(&trees.after(), b"long", &b"line\n".repeat(200_000), 0o644);
    trees.record(2, Kept::Both);
    let mut piped = Command::new("bash");
    piped.args(["-c", script]).arg(crate::project::binary()).current_dir(trees.project.path());
    let outcome = Outcome::of(piped.output().expect("runs"));
    assert_eq!((outcome.text().as_str(), outcome.stderr.as_str()), ("0\n", ""));
}

#[test]
fn json_has_every_changed_path_with_its_lines() {
    let trees = Trees::new();
    put(&trees.before(), b"f", b"one\ntwo\n", 0o644);
    put(&trees.after(), b"f", b"one\n2\n3\n", 0o644);
    put(&trees.after(), b"d/\xff", b"\0", 0o600);
    trees.record(1, Kept::Both);
    let shown: serde_json::Value = serde_json::from_slice(&diff(&trees, &["--json"]).stdout).expect("JSON");
    let brief: Vec<String> = shown
        .as_array()
        .expect("an array")
        .iter()
        .map(|one| {
            format!("{} {} {} {} {}", one["change"], one["path"], one["after"]["mode"], one["added"], one["removed"])
        })
        .collect();
    let expected =
        ["\"created\" \"d\" 493 0 0", "\"created\" {\"b64\":\"ZC//\"} 384 null null", "\"modified\" \"f\" 420 2 1"];
    assert_eq!(brief, expected);
    let none = Trees::new();
    none.record(1, Kept::Both);
    assert_eq!(diff(&none, &["--json"]).text(), "[]\n");
}

#[test]
fn ten_thousand_files_are_what_git_prints() {
    let trees = Trees::new();
    for number in 0..10_000 {
        let name = format!("d{}/file {number}", number % 100);
        put(&trees.before(), name.as_bytes(), format!("one\n{number}\nthree\n").as_bytes(), 0o644);
        put(&trees.after(), name.as_bytes(), format!("one\n{number}\n3\n").as_bytes(), 0o644);
    }
    trees.record(1, Kept::Both);
    let begun = Instant::now();
    let ours = patch(&trees);
    let took = begun.elapsed();
    let begun = Instant::now();
    let theirs = said_by_git(&trees, &[]);
    let whole = begun.elapsed();
    assert!(ours == theirs);
    let mut err = std::io::stderr().lock();
    let _ = std::io::Write::write_fmt(
        &mut err,
        format_args!("diff of 10,000 files: {took:?} (git with its index: {whole:?})\n"),
    );
}

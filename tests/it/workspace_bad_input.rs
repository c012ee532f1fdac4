//! Bad input in workspace mode: each gets the right result, or a clear error before the agent starts, with exit 125,
//! nothing spawned, nothing created.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::project::{Outcome, Project, is_root, skip};
use crate::workspace_scene::{Workspace, facilities, views};

/// Refused before anything was spawned or created, in these words.
#[track_caller]
fn refused<S: AsRef<OsStr> + std::fmt::Debug>(here: &Workspace, at: &Path, options: &[S], words: &[&str]) {
    let before = here.exact();
    let mut arguments: Vec<&OsStr> = options.iter().map(AsRef::as_ref).collect();
    arguments.insert(0, OsStr::new("run"));
    arguments.extend(["--", "sh", "-c", "touch $OUT/spawned"].map(OsStr::new));
    let mut command = here.command(&arguments);
    command.current_dir(at).env("HOME", here.join("home/me"));
    let mut outcome = Outcome::of(command.output().expect("runs")).exits(125);
    for words in words {
        outcome = outcome.says(words);
    }
    assert!(!here.out("spawned").exists(), "{options:?} was spawned");
    assert_eq!(here.exact(), before, "{options:?}");
    assert!(!here.state().exists(), "{options:?}: not even the state directory");
    assert!(outcome.stderr.starts_with("agentguard: ") || outcome.stderr.starts_with("error: "), "{}", outcome.stderr);
}

fn scene() -> Workspace {
    let here = Workspace::new();
    here.write("f", "old\n");
    here.write("sub/g", "old\n");
    fs::create_dir_all(here.join("home/me/project")).expect("home");
    here
}

#[test]
fn directories_that_cannot_be_a_workspace_are_refused() {
    let here = scene();
    let top = here.path();
    for (named, words) in [
        ("/", &["root directory", "--workspace DIR"][..]),
        ("home/me", &["is your home directory", "--workspace DIR"]),
        ("home", &["contains your home directory", "--workspace DIR"]),
        (".", &["contains your home directory"]),
        ("f", &["is not a directory"]),
        ("missing", &["missing", "cannot be used"]),
        ("missing\nname", &["missing\\"]),
        ("/proc", &["not on a filesystem that keeps files"]),
        ("/sys/kernel", &["not on a filesystem that keeps files"]),
        ("/dev", &["not on a filesystem that keeps files"]),
    ] {
        refused(&here, &top, &["--workspace", named], words);
    }
    // Without a name it is the project: refused just the same where that is the home directory.
    fs::write(here.join("home/me/agentguard.toml"), "").expect("configuration");
    refused::<&str>(&here, &here.join("home/me"), &[], &["home directory"]);
    assert!(!here.join("home/me/.agentguard").exists());
}

#[test]
fn a_workspace_inside_the_state_directory_is_refused() {
    let here = scene();
    here.run(&[], "true").exits(0);
    for inside in [".agentguard", ".agentguard/runs"] {
        here.run(&["--workspace", inside], "touch $OUT/spawned").exits(125).says("state directory");
    }
    assert!(!here.out("spawned").exists());
    assert_eq!(here.records().len(), 1);
}

#[test]
fn a_workspace_that_cannot_be_written_is_refused() {
    if is_root() {
        return skip("ordinary_user", "root writes everywhere");
    }
    let here = scene();
    let top = here.path();
    for mode in [0o555, 0o333, 0o000] {
        fs::set_permissions(here.join("sub"), fs::Permissions::from_mode(mode)).expect("mode");
        let mut command = here.command(&["run", "--workspace", "sub", "--", "sh", "-c", "touch $OUT/spawned"]);
        Outcome::of(command.current_dir(&top).output().expect("runs"))
            .exits(125)
            .says("sub")
            .says("not yours to write");
    }
    fs::set_permissions(here.join("sub"), fs::Permissions::from_mode(0o755)).expect("mode");
    assert!(!here.out("spawned").exists());
    refused(&here, &top, &["--workspace", "/usr"], &["not yours to write"]);
}

#[test]
fn words_that_are_not_known_name_those_that_are() {
    let here = scene();
    let top = here.path();
    for (option, typed, known) in [
        ("--view", "overlya", &["auto", "overlay", "clone"][..]),
        ("--isolation", "srict", &["auto", "strict", "none"]),
        ("--on-conflict", "wait", &["fail", "hold"]),
        ("--on-drift", "stop", &["record", "fail"]),
    ] {
        refused(&here, &top, &["--workspace", "sub", option, typed], known);
    }
    // The same from the configuration and the environment.
    fs::write(here.join("agentguard.toml"), "[defaults]\nview = \"fuse\"\n").expect("configuration");
    refused(&here, &top, &["--workspace", "sub"], &["overlay", "clone"]);
    fs::write(here.join("agentguard.toml"), "").expect("configuration");
    let mut command = here.command(&["run", "--workspace", "sub", "--", "true"]);
    Outcome::of(command.env("AGENTGUARD_ISOLATION", "some").output().expect("runs")).exits(125).says("strict");
}

#[test]
fn options_that_contradict_each_other_are_refused() {
    let here = scene();
    let top = here.path();
    for output in [["--out", "o"], ["--out-file", "o"], ["--stdout", "o"]] {
        refused(&here, &top, &[&["--workspace", "sub"][..], &output].concat(), &["--workspace", "output options"]);
    }
    for only in [&["--hold"][..], &["--passthrough", "sub"], &["--on-conflict", "hold"]] {
        refused(&here, &top, &[&["--out", "o"][..], only].concat(), &[only[0]]);
    }
}

#[test]
fn paths_that_cannot_be_passed_through_are_refused() {
    let here = scene();
    fs::remove_dir_all(here.join("home")).expect("removed");
    fs::create_dir(here.join("dir")).expect("dir");
    std::os::unix::fs::symlink("/usr", here.join("leaves")).expect("link");
    for (path, words) in [
        (".", "workspace itself"),
        ("/usr", "not inside the workspace"),
        ("..", "not inside the workspace"),
        ("leaves", "not inside the workspace"),
        (".agentguard", "state directory"),
        ("f/below", "f/below"),
    ] {
        here.run(&["--passthrough", path], "touch $OUT/spawned").exits(125).says("--passthrough").says(words);
    }
    here.run(&["--isolation", "strict", "--allow-write", "missing"], "touch $OUT/spawned")
        .exits(125)
        .says("--allow-write")
        .says("missing");
    assert!(!here.out("spawned").exists());
}

#[test]
fn odd_names_in_options_mean_what_they_say() {
    for view in views() {
        let here = scene();
        for name in ["new\nline", "co:lon,comma\\back", "-dash", "spa ce", "\u{1b}[31m"] {
            here.write(&format!("{name}/f"), "old\n");
            fs::create_dir(here.join(name).join("cache")).expect("cache");
            let place = here.join(name);
            let path = place.to_str().expect("UTF-8");
            let script = "echo new > \"$PLACE/f\"; echo c > \"$PLACE/cache/c\"; exit $CODE";
            let run = |code: &str| {
                let cache = format!("{path}/cache");
                let arguments =
                    ["run", "--view", view, "--workspace", path, "--passthrough", &cache, "--", "sh", "-c", script];
                let mut command = here.command(&arguments);
                // The working directory is the workspace: a copy elsewhere is found by relative paths.
                command.current_dir(&place).env("PLACE", ".").env("CODE", code);
                Outcome::of(command.output().expect("runs"))
            };
            run("6").exits(6);
            assert_eq!(
                (here.read(&format!("{name}/f")), here.read(&format!("{name}/cache/c"))),
                ("old\n".into(), "c\n".into()),
                "{view} {name:?}"
            );
            let outcome = run("0").exits(0);
            assert_eq!(here.read(&format!("{name}/f")), "new\n", "{view} {name:?}");
            assert!(!outcome.stderr.contains('\u{1b}'), "{view}: control characters are escaped: {:?}", outcome.stderr);
            assert_eq!(here.last().targets, [name.into()], "{view}");
        }
    }
}

#[test]
fn what_cannot_be_read_refuses_the_run_and_names_the_exclusion_that_helps() {
    if is_root() {
        return skip("ordinary_user", "root reads everything");
    }
    for view in views() {
        let here = scene();
        fs::remove_dir_all(here.join("home")).expect("removed");
        here.write("closed/x", "x");
        here.write("secret", "x");
        let mode =
            |name: &str, mode| fs::set_permissions(here.join(name), fs::Permissions::from_mode(mode)).expect("mode");
        mode("closed", 0);
        here.run(&["--view", view], "touch $OUT/spawned").exits(125).says("closed").says("--exclude");
        mode("closed", 0o755);
        mode("secret", 0);
        here.run(&["--view", view], "touch $OUT/spawned").exits(125).says("secret").says("--exclude");
        mode("closed", 0);
        assert!(!here.out("spawned").exists());
        here.run(&["--view", view, "--exclude", "closed", "--exclude", "secret"], "echo new > f").exits(0);
        assert_eq!(here.read("f"), "new\n", "{view}");
        assert_eq!(here.join("secret").metadata().expect("stat").permissions().mode() & 0o777, 0);
        mode("closed", 0o755);
        assert!(here.join("closed/x").exists());
    }
}

/// Something that root has mounted, unmounted with the test.
struct Mounted(PathBuf);

impl Mounted {
    fn at(place: PathBuf, arguments: &[&str]) -> Option<Self> {
        if !is_root() {
            skip("mount", "only root mounts");
            return None;
        }
        fs::create_dir_all(&place).expect("mount point");
        let mounted = Command::new("mount").args(arguments).arg(&place).stderr(Stdio::null()).status();
        if !mounted.is_ok_and(|status| status.success()) {
            skip("mount", "this process may not mount");
            return None;
        }
        Some(Self(place))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn filesystems_mounted_below_the_workspace_are_named_and_refused_or_passed_through() {
    let here = scene();
    fs::remove_dir_all(here.join("home")).expect("removed");
    let Some(_mounted) = Mounted::at(here.join("sub/mo unt"), &["-t", "tmpfs", "none"]) else { return };
    here.write("sub/mo unt/x", "old\n");
    for view in views() {
        here.run(&["--view", view], "touch $OUT/spawned").exits(125).says("sub/mo unt").says("--passthrough");
        assert!(!here.out("spawned").exists());
        for covering in ["sub/mo unt", "sub"] {
            let options = ["--view", view, "--passthrough", covering];
            here.run(&options, "echo real > 'sub/mo unt/x'; echo new > f; exit 3").exits(3);
            assert_eq!((here.read("sub/mo unt/x"), here.read("f")), ("real\n".into(), "old\n".into()), "{view}");
            here.run(&options, "echo more >> 'sub/mo unt/x'; echo new > f").exits(0);
            assert_eq!((here.read("sub/mo unt/x"), here.read("f")), ("real\nmore\n".into(), "new\n".into()), "{view}");
            here.by_hand("echo old > f");
        }
    }
}

#[test]
fn a_workspace_that_is_mounted_read_only_is_refused() {
    let here = scene();
    let Some(_mounted) = Mounted::at(here.join("sub"), &["-t", "tmpfs", "-o", "ro", "none"]) else { return };
    here.run(&["--workspace", "sub"], "touch $OUT/spawned").exits(125).says("sub");
    assert!(!here.out("spawned").exists());
}

/// Either the run works, or it is refused in words that name the state directory, before anything is spawned.
#[track_caller]
fn works_or_is_refused(here: &Workspace, state: &Path, options: &[&str]) {
    let run = |script: &str| {
        let state = ["--state-dir", state.to_str().expect("UTF-8"), "run"];
        let arguments: Vec<&str> = state.iter().chain(options).chain(&["--", "sh", "-c", script]).copied().collect();
        here.ag(&arguments)
    };
    let before = here.exact();
    let outcome =
        run("touch $OUT/spawned; echo new > f; rm sub/g; mkdir -p d/e; echo x > d/e/f; chmod 700 sub; exit 7");
    assert_eq!(here.exact(), before, "{options:?}");
    if outcome.code == Some(125) {
        assert!(!here.out("spawned").exists(), "{options:?}");
        assert!(outcome.stderr.contains("state"), "{options:?}: {}", outcome.stderr);
        return;
    }
    outcome.exits(7);
    run("echo new > f; rm sub/g; mkdir -p d/e; echo x > d/e/f; chmod 700 sub").exits(0);
    assert_eq!(
        (here.read("f"), here.read("d/e/f"), here.join("sub/g").exists()),
        ("new\n".into(), "x\n".into(), false),
        "{options:?}"
    );
    let after = here.exact();
    let undone = here.ag(&["--state-dir", state.to_str().expect("UTF-8"), "undo", "@"]);
    if undone.code == Some(125) {
        // What was displaced cannot be kept there: said, and nothing touched.
        assert_eq!(here.exact(), after, "{options:?}");
        undone.says("another filesystem");
        here.ag(&["--state-dir", state.to_str().expect("UTF-8"), "fsck"]).exits(0);
        return;
    }
    undone.exits(0);
    assert_eq!(here.exact().len(), before.len());
    assert_eq!(
        (here.read("f"), here.read("sub/g"), here.join("d").exists()),
        ("old\n".into(), "old\n".into(), false),
        "{options:?}"
    );
    here.ag(&["--state-dir", state.to_str().expect("UTF-8"), "fsck"]).exits(0);
}

#[test]
fn a_state_directory_on_another_filesystem_works_or_is_refused() {
    let shm = Path::new("/dev/shm");
    if !shm.is_dir() {
        return skip("tmpfs", "there is no /dev/shm");
    }
    let elsewhere = tempfile::Builder::new().prefix("ag-state-").tempdir_in(shm).expect("temporary directory");
    let has_view = |options: &&&[&str]| facilities().overlay || !options.contains(&"overlay");
    for options in [&[][..], &["--view", "overlay"], &["--view", "clone"]].iter().filter(has_view) {
        let here = scene();
        fs::remove_dir_all(here.join("home")).expect("removed");
        works_or_is_refused(
            &here,
            &elsewhere.path().join(format!("s{}", options.len() + options.concat().len())),
            options,
        );
    }
}

#[test]
fn a_state_directory_on_an_overlay_works_or_is_refused() {
    let layers = Project::new();
    for name in ["lower", "upper", "work"] {
        fs::create_dir(layers.join(name)).expect("a layer");
    }
    let of = |name: &str| layers.join(name).to_str().expect("UTF-8").to_owned();
    let how = format!("lowerdir={},upperdir={},workdir={}", of("lower"), of("upper"), of("work"));
    let Some(mounted) = Mounted::at(layers.join("merged"), &["-t", "overlay", "overlay", "-o", &how]) else { return };
    for (number, options) in [&[][..], &["--view", "overlay"], &["--view", "clone"]].into_iter().enumerate() {
        let here = scene();
        fs::remove_dir_all(here.join("home")).expect("removed");
        works_or_is_refused(&here, &mounted.0.join(format!("state-{number}")), options);
        // The whole project on it, as in a container.
        let inside = Workspace::of(Project::below(&mounted.0));
        inside.write("f", "old\n");
        inside.write("sub/g", "old\n");
        works_or_is_refused(&inside, &inside.state(), options);
    }
}

#[test]
fn a_state_directory_on_a_filesystem_without_attributes_works_or_is_refused() {
    let place = Project::new();
    let Some(mounted) = Mounted::at(place.join("ram"), &["-t", "ramfs", "none"]) else { return };
    for (number, options) in [&[][..], &["--view", "overlay"], &["--view", "clone"]].into_iter().enumerate() {
        let here = scene();
        fs::remove_dir_all(here.join("home")).expect("removed");
        works_or_is_refused(&here, &mounted.0.join(format!("state-{number}")), options);
    }
}

#[test]
fn an_immutable_file_is_a_clear_error_and_nothing_is_applied() {
    if !is_root() {
        return skip("chattr", "only root makes files immutable");
    }
    for view in views() {
        for (immutable, script) in [
            ("f", "echo new > f && echo y > other"),
            ("sub", "echo y > other && echo x > sub/new"),
            ("f", "rm f && echo y > other"),
        ] {
            let here = scene();
            fs::remove_dir_all(here.join("home")).expect("removed");
            let chattr =
                |how: &str| Command::new("chattr").arg(how).arg(here.join(immutable)).stderr(Stdio::null()).status();
            if !chattr("+i").is_ok_and(|status| status.success()) {
                return skip("chattr", "this filesystem knows no immutable files");
            }
            let before = here.exact();
            // The agent itself may be refused by the view; else the commit is.
            let outcome = here.run(&["--view", view], script);
            let after = here.exact();
            chattr("-i").expect("chattr");
            assert_eq!(after, before, "{view}: {script}");
            assert!(!matches!(outcome.code, None | Some(0)), "{view}: {script}: {outcome:?}");
            assert!(outcome.stderr.contains(immutable), "{view}: {script}: {}", outcome.stderr);
            assert!(!here.last().published);
            here.ag(&["recover"]).exits(0);
            assert_eq!(here.leftovers(), Vec::<String>::new(), "{view}: {script}");
        }
    }
}

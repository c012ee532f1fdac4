//! What cannot be done is said beforehand; what is deep, long, many or left by an overlay is done.

use std::fs;
use std::io::Write as _;
use std::os::fd::AsFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::Path;
use std::time::Instant;

use agentguard::model::{RelPath, Text};
use agentguard::store::transaction::{
    Action, ApplyError, Observer, Operation, Plan, apply, check, clean, forget, observe_at, reverse,
};
use rustix::fs::{CWD, Mode, XattrFlags, lgetxattr, mkdirat, setxattr};
use rustix::io::Errno;

use crate::project::{is_root, skip};
use crate::transaction_process::told;
use crate::transaction_scene::{Directories, Kind, Scene, commit, exact, set_mode, set_mtime, shape};

fn place(path: &str, staged: &Path) -> Operation {
    let after = observe_at(staged).expect("observed").expect("staged");
    let path = RelPath::new(path.into()).expect("a path");
    Operation { path, action: Action::Place { staged: Text::from(staged), after } }
}

#[track_caller]
fn refused_with(plan: &Plan, errno: Errno) {
    match check(plan) {
        Err(ApplyError::Io { source, .. }) => assert_eq!(source.raw_os_error(), Some(errno.raw_os_error())),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_staged_object_on_another_mount_is_refused_beforehand() {
    let Ok(other) = tempfile::tempdir_in("/dev/shm") else { return skip("second_filesystem", "no /dev/shm") };
    let scene = Scene::new();
    if scene.path().metadata().expect("stat").dev() == other.path().metadata().expect("stat").dev() {
        return skip("second_filesystem", "/dev/shm is the same filesystem");
    }
    fs::write(other.path().join("x"), "").expect("written");
    let plan = Plan::new(Text::from(scene.live("")), vec![place("x", &other.path().join("x"))]).expect("a plan");
    refused_with(&plan, Errno::XDEV);
}

#[test]
fn a_directory_that_may_not_be_written_to_is_refused_beforehand() {
    if is_root() {
        return skip("ordinary_user", "root writes everywhere");
    }
    let scene = Scene::new();
    fs::write(scene.new_one("x"), "").expect("written");
    let plan = Plan::new("/usr".into(), vec![place("x", &scene.new_one("x"))]).expect("a plan");
    refused_with(&plan, Errno::ACCESS);
}

#[test]
fn what_is_immutable_is_refused_beforehand() {
    use rustix::fs::{IFlags, ioctl_getflags, ioctl_setflags};
    for name in ["d/x", "d"] {
        let scene = Scene::new();
        fs::create_dir(scene.live("d")).expect("made");
        fs::write(scene.live("d/x"), "old").expect("written");
        fs::create_dir(scene.new_one("d")).expect("made");
        fs::write(scene.new_one("d/x"), "new").expect("written");
        let held = fs::File::open(scene.live(name)).expect("opened");
        let set = ioctl_getflags(&held).and_then(|flags| ioctl_setflags(&held, flags | IFlags::IMMUTABLE));
        if let Err(error) = set {
            return skip("immutable", &error.to_string());
        }
        let plan = scene.plan(Directories::Merged);
        let found = check(&plan);
        let flags = ioctl_getflags(&held).expect("flags");
        ioctl_setflags(&held, flags.difference(IFlags::IMMUTABLE)).expect("unset");
        let Err(ApplyError::Io { source, .. }) = found else { panic!("{name}: {found:?}") };
        assert_eq!(source.raw_os_error(), Some(Errno::PERM.raw_os_error()), "{name}");
    }
}

#[test]
fn what_is_already_where_a_removed_object_is_to_go_is_not_replaced() {
    let scene = Scene::new();
    fs::write(scene.live("x"), "old").expect("written");
    let plan = scene.plan(Directories::Merged);
    fs::write(scene.aside().join("x0"), "another").expect("written");
    refused_with(&plan, Errno::EXIST);
    assert!(apply(&plan).is_err());
    assert_eq!(fs::read_to_string(scene.live("x")).expect("read"), "old");
    assert_eq!(fs::read_to_string(scene.aside().join("x0")).expect("read"), "another");
}

#[test]
fn paths_longer_than_path_max_and_names_of_255_bytes_are_applied_undone_and_forgotten() {
    let scene = Scene::new();
    let name = "n".repeat(255);
    // 40 directories of 255 bytes: ten times what fits one system call.
    for top in [scene.live(""), scene.new_one("")] {
        let mut here = fs::File::open(top).expect("opened");
        for _ in 0..40 {
            mkdirat(&here, &*name, Mode::RWXU).expect("made");
            let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::DIRECTORY;
            here = rustix::fs::openat(&here, &*name, flags, Mode::empty()).expect("opened").into();
        }
        for leaf in [&b"edited"[..], b"\xff\xfe-rf\n"] {
            rustix::fs::symlinkat(top_word(&here), &here, leaf).expect("linked");
        }
    }
    let deep = [name.as_str(); 40].join("/");
    let root = fs::File::open(scene.live("")).expect("opened");
    let mut observer = Observer::below(root.into());
    let operations: Vec<Operation> = [&b"edited"[..], b"\xff\xfe-rf\n"]
        .iter()
        .map(|leaf| {
            let path = RelPath::new([deep.as_bytes(), b"/", leaf].concat()).expect("a path");
            let staged = [scene.new_one("").as_os_str().as_bytes(), b"/", path.as_bytes()].concat();
            let after = observe_at(Path::new(std::ffi::OsStr::from_bytes(&staged))).expect("observed").expect("there");
            let before = observer.observe(&path).expect("observed").expect("there");
            Operation { path, action: Action::Replace { staged: Text(staged), before, after } }
        })
        .collect();
    let wanted: Vec<u64> = operations.iter().map(|operation| ino_after(&operation.action)).collect();
    let plan = Plan::new(Text::from(scene.live("")), operations).expect("a plan");
    assert_eq!(told(&commit(&plan)), "applied");
    let found = |observer: &mut Observer| -> Vec<u64> {
        let seen = |operation: &Operation| observer.observe(&operation.path).expect("observed").expect("there").ino;
        plan.operations.iter().map(seen).collect()
    };
    assert_eq!(found(&mut observer), wanted);
    assert_eq!(told(&commit(&reverse(&plan).expect("reversed"))), "applied");
    assert_ne!(found(&mut observer), wanted);
    assert_eq!(told(&apply(&plan)), "applied");
    forget(&plan).expect("forgotten");

    // And the whole of it as one removed tree.
    let seen = observer.observe(&RelPath::new(name.clone().into_bytes()).expect("a path")).expect("observed");
    let aside = Text::from(scene.aside().join("tree"));
    let action = Action::Remove { before: seen.expect("there"), aside };
    let path = RelPath::new(name.into_bytes()).expect("a path");
    let plan = Plan::new(Text::from(scene.live("")), vec![Operation { path, action }]).expect("a plan");
    assert_eq!(told(&commit(&plan)), "applied");
    assert_eq!(fs::read_dir(scene.live("")).expect("readable").count(), 0);
    forget(&plan).expect("forgotten");
    assert_eq!(fs::read_dir(scene.aside()).expect("readable").count(), 0);
}

/// A text that differs from one directory to the next.
fn top_word(dir: &fs::File) -> String {
    dir.metadata().expect("stat").ino().to_string()
}

fn ino_after(action: &Action) -> u64 {
    match action {
        Action::Replace { after, .. } | Action::Place { after, .. } => after.ino,
        _ => 0,
    }
}

#[test]
fn another_name_of_a_replaced_file_in_a_removed_tree_is_no_conflict() {
    let scene = Scene::new();
    for top in [scene.live(""), scene.new_one("")] {
        fs::write(top.join("a"), if top.ends_with("live") { "old" } else { "new" }).expect("written");
        fs::write(top.join("m"), "same").expect("written");
        set_mtime(&top.join("m"), 1_000_000_000);
    }
    fs::create_dir(scene.live("tree")).expect("made");
    fs::hard_link(scene.live("a"), scene.live("tree/a")).expect("linked");
    fs::hard_link(scene.live("m"), scene.live("z")).expect("linked");
    set_mode(&scene.new_one("m"), 0o600);
    let (old, wanted) = (exact(&scene.live("")), shape(&scene.new_one("")));
    let plan = scene.plan(Directories::Merged);
    assert_eq!(told(&commit(&plan)), "applied");
    assert_eq!(shape(&scene.live("")), wanted);
    assert_eq!(told(&commit(&reverse(&plan).expect("reversed"))), "applied");
    assert_eq!(exact(&scene.live("")), old);
}

#[test]
fn an_overlay_leaves_nothing_behind_on_what_is_staged() {
    let scene = Scene::new();
    let top = scene.new_one("top");
    for dir in ["plain", "opaque/inner", "closed", "unreadable"] {
        fs::create_dir_all(top.join(dir)).expect("made");
        fs::write(top.join(dir).join("file"), "content").expect("written");
        fs::write(top.join(dir).join("gone"), "").expect("written");
    }
    symlink("/nowhere", top.join("plain/link")).expect("linked");
    Kind::Pipe.make(&top.join("plain/pipe"), "");
    let set = |path: &Path, name: &str, value: &str| {
        setxattr(path, name, value.as_bytes(), XattrFlags::empty()).expect("attribute");
    };
    set(&top.join("opaque"), "user.overlay.opaque", "y");
    set(&top.join("plain/file"), "user.overlay.origin", "x");
    set(&top.join("plain/file"), "user.note", "kept");
    set(&top.join("closed/file"), "user.overlay.overlay.opaque", "y");
    set(&top.join("closed"), "user.overlay.impure", "y");
    for dir in ["plain", "opaque/inner", "closed", "unreadable"] {
        set(&top.join(dir).join("gone"), "user.overlay.whiteout", "y");
    }
    use rustix::fs::{FileType, mknodat};
    let device = mknodat(CWD, top.join("plain/device"), FileType::CharacterDevice, Mode::from_raw_mode(0), 0);
    device.expect("a whiteout is a device that anybody may make");
    for (name, mode) in [("closed/file", 0o000), ("plain/file", 0o444), ("closed", 0o500), ("unreadable", 0o000)] {
        set_mtime(&top.join(name), 1_000_000_000);
        set_mode(&top.join(name), mode);
    }
    let stamps = |name: &str| {
        let stat = top.join(name).symlink_metadata().expect("stat");
        (stat.ino(), stat.permissions().mode(), stat.mtime(), stat.mtime_nsec())
    };
    let names =
        ["", "plain", "plain/file", "plain/link", "plain/pipe", "opaque", "opaque/inner", "closed", "unreadable"];
    let before = names.map(stamps);
    clean(&top).expect("cleaned");
    assert_eq!(names.map(stamps), before);
    set_mode(&top.join("unreadable"), 0o700);
    let mut left = Vec::new();
    for entry in walkdir::WalkDir::new(&top) {
        let path = entry.expect("readable").into_path();
        assert!(!path.ends_with("gone") && !path.ends_with("device"), "{path:?}");
        let mut value = [0; 16];
        for name in ["origin", "opaque", "impure", "whiteout", "overlay.opaque"] {
            if lgetxattr(&path, format!("user.overlay.{name}"), &mut value).is_ok() {
                left.push((path.clone(), name));
            }
        }
    }
    assert_eq!(left, []);
    let mut value = [0; 16];
    assert_eq!(lgetxattr(top.join("plain/file"), "user.note", &mut value), Ok(4));
    assert_eq!(fs::read_dir(top.join("unreadable")).expect("readable").count(), 1);
    clean(&top.join("plain/file")).expect("a single file too");
}

#[test]
fn forgetting_removes_what_was_displaced_and_nothing_else() {
    let scene = Scene::new();
    for name in ["kept", "tree"] {
        Kind::Tree(0o755).make(&scene.live(name), "old");
    }
    let plan = scene.plan(Directories::Merged);
    assert_eq!(told(&commit(&plan)), "applied");
    let Action::Remove { aside, .. } = &plan.operations[0].action else { panic!("a removal") };
    fs::rename(aside.as_path(), scene.path().join("rescued")).expect("moved");
    fs::write(aside.as_path(), "something else").expect("written");
    forget(&plan).expect("forgotten");
    assert_eq!(fs::read_to_string(aside.as_path()).expect("read"), "something else");
    assert_eq!(fs::read_dir(scene.aside()).expect("readable").count(), 1);
}

#[test]
fn a_big_plan_is_small_in_a_file_and_quick_to_write_and_read() {
    let scene = Scene::new();
    fs::write(scene.new_one("x"), "").expect("written");
    let one = place("x", &scene.new_one("x"));
    let Action::Place { after, .. } = one.action else { panic!("a place") };
    let operations = (0..100_000).map(|number| {
        let path = RelPath::new(format!("some/directory/{}/file-{number}.rs", number / 100).into_bytes());
        let staged = scene.new_one(&format!("{number}")).into();
        let before = after.clone();
        let after = agentguard::store::transaction::Seen { ino: after.ino + 1 + number, ..after.clone() };
        Operation { path: path.expect("a path"), action: Action::Replace { staged, before, after } }
    });
    let plan = Plan { root: Text::from(scene.live("")), operations: operations.collect(), parents: Vec::new() };
    let file = scene.path().join("plan");
    let began = Instant::now();
    let digest = plan.write(&file).expect("written");
    let written = began.elapsed();
    let began = Instant::now();
    let read = Plan::read(&file, digest).expect("read");
    let elapsed = began.elapsed();
    assert_eq!(read, plan);
    let bytes = file.metadata().expect("stat").len();
    assert!(bytes < 100 * 100_000, "{bytes} bytes");
    say(&format!("100,000 operations: {bytes} bytes, written in {written:?}, read in {elapsed:?}"));
}

fn say(line: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}

/// `cargo test --release -- --ignored --nocapture ten_thousand`
#[test]
#[ignore = "a measurement"]
fn ten_thousand_replacements_are_measured() {
    let scene = Scene::new();
    for top in [scene.live(""), scene.new_one("")] {
        for number in 0..10_000 {
            let dir = top.join(format!("d{:03}", number / 50));
            fs::create_dir_all(&dir).expect("made");
            fs::write(dir.join(format!("file-{number}")), top.as_os_str().as_bytes()).expect("written");
        }
    }
    let root = fs::File::open(scene.live("")).expect("opened");
    let cpu = || {
        let usage = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
        usage.tv_sec as f64 * 1e3 + usage.tv_nsec as f64 / 1e6
    };
    let mut observer = Observer::below(root.as_fd().try_clone_to_owned().expect("cloned"));
    let measured = |what: &str, work: &mut dyn FnMut()| {
        let (began, before) = (Instant::now(), cpu());
        work();
        say(&format!("{what}: {:.1} ms CPU, {:?}", cpu() - before, began.elapsed()));
    };
    let mut operations = Vec::new();
    measured("observe", &mut || {
        for number in 0..10_000 {
            let name = format!("d{:03}/file-{number}", number / 50);
            let path = RelPath::new(name.clone().into_bytes()).expect("a path");
            let before = observer.observe(&path).expect("observed").expect("there");
            let staged = scene.new_one(&name);
            let after = observe_at(&staged).expect("observed").expect("there");
            let action = Action::Replace { staged: Text::from(staged), before, after };
            operations.push(Operation { path, action });
        }
    });
    let mut plan = None;
    measured("plan", &mut || {
        plan = Some(Plan::new(Text::from(scene.live("")), std::mem::take(&mut operations)).expect("a plan"));
    });
    let plan = plan.expect("made");
    measured("write", &mut || {
        plan.write(&scene.path().join("plan")).expect("written");
    });
    measured("check", &mut || check(&plan).expect("sound"));
    measured("apply", &mut || assert_eq!(told(&apply(&plan)), "applied"));
    let undo = reverse(&plan).expect("reversed");
    measured("check of the reverse", &mut || check(&undo).expect("sound"));
    measured("apply of the reverse", &mut || assert_eq!(told(&apply(&undo)), "applied"));
}

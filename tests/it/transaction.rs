//! A plan of many operations is applied whole, undone whole, and keeps everything that an object has.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};

use agentguard::model::Digest;
use agentguard::store::transaction::{
    Action, ApplyError, Plan, ReadPlanError, apply, check, complete, forget, reverse,
};

use crate::transaction_scene::{Directories, KINDS, Kind, Scene, commit, exact, set_mode, set_mtime, shape};

/// Both directories get a neighbour that stays, and old times.
fn scene(before: Kind, after: Kind) -> Scene {
    let scene = Scene::new();
    for (top, kind, word) in [(scene.live(""), before, "old"), (scene.new_one(""), after, "new one")] {
        fs::create_dir(top.join("d")).expect("made");
        fs::write(top.join("d/same"), "same").expect("written");
        set_mtime(&top.join("d/same"), 1_000_000_000);
        kind.make(&top.join("d/x"), word);
        set_mtime(&top.join("d"), if word == "old" { 1_100_000_000 } else { 1_200_000_000 });
        set_mtime(&top, 1_300_000_000);
    }
    scene
}

#[test]
fn every_kind_becomes_every_other_and_comes_back_exactly() {
    for directories in [Directories::Merged, Directories::Whole] {
        for before in KINDS {
            for after in KINDS {
                let both_trees = matches!((before, after), (Kind::Tree(_), Kind::Tree(_)));
                if directories == Directories::Whole && !both_trees {
                    continue;
                }
                let scene = scene(before, after);
                let context = format!("{before:?} becomes {after:?}, {directories:?}");
                let (old, wanted) = (exact(&scene.live("")), shape(&scene.new_one("")));
                let plan = scene.plan(directories);
                commit(&plan).map(drop).unwrap_or_else(|error| panic!("{context}: {error:?}"));
                let new = exact(&scene.live(""));
                assert_eq!(shape(&scene.live("")), wanted, "{context}");
                let undo = reverse(&plan).expect("reversed");
                commit(&undo).map(drop).unwrap_or_else(|error| panic!("{context}, undone: {error:?}"));
                assert_eq!(exact(&scene.live("")), old, "{context}, undone");
                let redo = reverse(&undo).expect("reversed");
                commit(&redo).map(drop).unwrap_or_else(|error| panic!("{context}, redone: {error:?}"));
                assert_eq!(exact(&scene.live("")), new, "{context}, redone");
                // A second process that does not know how far the first came.
                let _ = complete(&redo).unwrap_or_else(|error| panic!("{context}, completed: {error:?}"));
                assert_eq!(exact(&scene.live("")), new, "{context}, completed");
                forget(&redo).expect("forgotten");
                assert_eq!(fs::read_dir(scene.aside()).expect("aside").count(), 0, "{context}");
                assert_eq!(exact(&scene.live("")), new, "{context}, forgotten");
            }
        }
    }
}

#[test]
fn a_tree_of_changes_is_applied_whole_and_undone_whole() {
    let scene = Scene::new();
    for top in [scene.live(""), scene.new_one("")] {
        fs::create_dir_all(top.join("a/b/c")).expect("made");
        fs::create_dir_all(top.join("closed/inner")).expect("made");
        for name in ["a/keep", "a/b/edit", "a/b/c/mode", "closed/inner/edit", "closed/mode"] {
            fs::write(top.join(name), "old").expect("written");
            set_mtime(&top.join(name), 1_000_000_000);
        }
    }
    let live = |name: &str| scene.live(name);
    let new = |name: &str| scene.new_one(name);
    fs::write(live("a/gone"), "bye").expect("written");
    fs::create_dir_all(live("a/old tree/x")).expect("made");
    fs::write(new("a/b/edit"), "edited").expect("written");
    fs::write(new("closed/inner/edit"), "edited").expect("written");
    set_mode(&new("a/b/c/mode"), 0o4711);
    set_mode(&new("closed/mode"), 0o000);
    Kind::Tree(0o700).make(&new("a/fresh"), "fresh");
    fs::write(new("linked 1"), "two names").expect("written");
    fs::hard_link(new("linked 1"), new("a/linked 2")).expect("linked");
    symlink("a", new("z")).expect("linked");
    for (top, mode) in [(live(""), 0o755), (new(""), 0o500)] {
        set_mode(&top.join("a/b"), if mode == 0o755 { 0o500 } else { 0o750 });
        set_mode(&top.join("closed/inner"), 0o500);
        set_mode(&top.join("closed"), mode);
    }
    let (old, wanted) = (exact(&live("")), shape(&new("")));
    let plan = scene.plan(Directories::Merged);
    commit(&plan).map(drop).expect("applied");
    assert_eq!(shape(&live("")), wanted);
    let stat = |name: &str| live(name).symlink_metadata().expect("stat");
    assert_eq!(stat("linked 1").ino(), stat("a/linked 2").ino(), "two names of one file stay that");
    let undo = reverse(&plan).expect("reversed");
    commit(&undo).map(drop).expect("undone");
    assert_eq!(exact(&live("")), old);
}

#[test]
fn a_directory_that_its_owner_may_not_even_search_afterwards_is_undone_too() {
    let scene = Scene::new();
    for top in [scene.live(""), scene.new_one("")] {
        fs::create_dir_all(top.join("d/e")).expect("made");
        set_mtime(&top.join("d/e"), 1_000_000_000);
    }
    fs::write(scene.live("d/e/edit"), "old").expect("written");
    fs::write(scene.new_one("d/e/edit"), "new").expect("written");
    for name in ["d/e", "d"] {
        set_mode(&scene.new_one(name), 0o711);
    }
    let old = exact(&scene.live(""));
    let mut plan = scene.plan(Directories::Merged);
    for operation in &mut plan.operations {
        if let Action::Adjust { after, .. } = &mut operation.action {
            after.mode = if operation.path.as_bytes() == b"d" { 0o000 } else { 0o111 };
        }
    }
    commit(&plan).map(drop).expect("applied");
    assert_eq!(scene.live("d").metadata().expect("stat").permissions().mode() & 0o7777, 0o000);
    commit(&reverse(&plan).expect("reversed")).map(drop).expect("undone");
    assert_eq!(exact(&scene.live("")), old);
}

#[test]
fn attributes_and_access_lists_are_kept_by_moves_and_set_in_place() {
    let scene = Scene::new();
    let acl = |access: u8| -> Vec<u8> {
        // Version 2; owner rw-, group r--, mask, other ---: the access list of acl(5) as the kernel stores it.
        let entry = |tag: u8, permissions: u8| [tag, 0, permissions, 0, 0xff, 0xff, 0xff, 0xff];
        [&[2, 0, 0, 0][..], &entry(1, 6), &entry(4, access), &entry(16, 4), &entry(32, 0)].concat()
    };
    let set = |path: &std::path::Path, name: &str, value: &[u8]| {
        rustix::fs::setxattr(path, name, value, rustix::fs::XattrFlags::empty()).expect("attribute");
    };
    for (top, word) in [(scene.live(""), "old"), (scene.new_one(""), "new")] {
        for name in ["moved", "adjusted"] {
            let path = top.join(name);
            fs::write(&path, if name == "moved" { word } else { "same" }).expect("written");
            set(&path, "user.word", word.as_bytes());
            set(&path, &format!("user.only.{word}"), b"");
            set(&path, "system.posix_acl_access", &acl(if word == "old" { 4 } else { 5 }));
            set_mtime(&path, 1_000_000_000);
        }
        fs::create_dir(top.join("dir")).expect("made");
        set(&top.join("dir"), "system.posix_acl_default", &acl(if word == "old" { 4 } else { 7 }));
        set_mode(&top.join("adjusted"), if word == "old" { 0o640 } else { 0o440 });
        set_mtime(&top.join("dir"), 1_000_000_000);
    }
    let (old, wanted) = (exact(&scene.live("")), shape(&scene.new_one("")));
    for attribute in ["user.only.new", "posix_acl_access", "posix_acl_default"] {
        assert!(wanted.iter().any(|line| line.contains(attribute)), "{attribute}: {wanted:?}");
    }
    let plan = scene.plan(Directories::Merged);
    assert_eq!(plan.operations.len(), 3);
    commit(&plan).map(drop).expect("applied");
    assert_eq!(shape(&scene.live("")), wanted);
    commit(&reverse(&plan).expect("reversed")).map(drop).expect("undone");
    assert_eq!(exact(&scene.live("")), old);
}

#[test]
fn undoing_is_refused_once_somebody_has_touched_the_result() {
    type Touch = fn(&std::path::Path);
    let touches: [Touch; 5] = [
        |live| fs::write(live.join("d/x"), "mine now").expect("written"),
        |live| set_mode(&live.join("d/x"), 0o600),
        |live| fs::remove_file(live.join("d/x")).expect("removed"),
        |live| fs::write(live.join("tree/inner/file"), "mine").expect("written"),
        |live| fs::write(live.join("tree/mine"), "").expect("written"),
    ];
    for (number, touch) in touches.iter().enumerate() {
        let scene = scene(Kind::File(0o644), Kind::File(0o640));
        Kind::Tree(0o755).make(&scene.new_one("tree"), "new");
        set_mode(&scene.new_one("tree/inner"), 0o755);
        let plan = scene.plan(Directories::Merged);
        commit(&plan).map(drop).expect("applied");
        touch(&scene.live(""));
        let touched = exact(&scene.live(""));
        let undo = reverse(&plan).expect("reversed");
        let refused = commit(&undo).expect_err("touched");
        let ApplyError::Conflict { paths, .. } = &refused else { panic!("touch {number}: {refused:?}") };
        assert_eq!(paths, &[if number < 3 { "d/x".into() } else { "tree".into() }], "touch {number}");
        assert_eq!(exact(&scene.live("")), touched, "touch {number}");
    }
}

#[test]
fn undoing_leaves_the_time_of_a_directory_that_somebody_else_has_used_since() {
    let scene = scene(Kind::File(0o644), Kind::Absent);
    let mut plan = scene.plan(Directories::Merged);
    plan.operations.retain(|operation| operation.path.as_bytes() == b"d/x");
    let plan = Plan::new(plan.root, plan.operations).expect("a plan");
    commit(&plan).map(drop).expect("applied");
    fs::write(scene.live("d/theirs"), "").expect("written");
    commit(&reverse(&plan).expect("reversed")).map(drop).expect("undone");
    assert!(scene.live("d/x").exists() && scene.live("d/theirs").exists());
    assert_ne!(scene.live("d").metadata().expect("stat").mtime(), 1_100_000_000);
}

#[test]
fn a_plan_reads_back_as_it_was_written_and_a_damaged_one_does_not() {
    let scene = scene(Kind::Tree(0o755), Kind::Link);
    fs::write(scene.new_one("\u{1}new\nline"), "x").expect("written");
    set_mode(&scene.new_one("d"), 0o711);
    let plan = scene.plan(Directories::Merged);
    assert!(plan.operations.len() >= 3);
    let file = scene.path().join("plan");
    let digest = plan.write(&file).expect("written");
    assert_eq!(file.metadata().expect("stat").permissions().mode() & 0o777, 0o600);
    assert_eq!(Plan::read(&file, digest).expect("read"), plan);
    let good = fs::read(&file).expect("read");
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 0x20;
        fs::write(&file, &bad).expect("written");
        assert!(matches!(Plan::read(&file, digest), Err(ReadPlanError::Hash { .. })), "byte {at}");
        fs::write(&file, &good[..at]).expect("written");
        assert!(matches!(Plan::read(&file, digest), Err(ReadPlanError::Hash { .. })), "cut at {at}");
    }
    fs::write(&file, &good).expect("written");
    assert!(Plan::read(&file, Digest([0; 32])).is_err(), "another plan than the one that was named");
}

#[test]
fn applying_twice_is_applying_once() {
    let scene = scene(Kind::Tree(0o500), Kind::File(0o644));
    let plan = scene.plan(Directories::Merged);
    commit(&plan).map(drop).expect("applied");
    let new = exact(&scene.live(""));
    let _ = apply(&plan).expect("again");
    assert_eq!(exact(&scene.live("")), new);
    assert!(matches!(check(&plan), Err(ApplyError::Conflict { .. })), "what was replaced is not there any more");
}

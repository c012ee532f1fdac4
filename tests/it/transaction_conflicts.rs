//! Never over somebody else's edit: whatever somebody does to a path of the plan, at whatever time, stands afterwards,
//! and nothing else has changed.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use agentguard::model::{RelPath, Text};
use agentguard::store::transaction::{Action, ApplyError, Operation, Plan, apply, check, observe_at};

use crate::transaction_process::{Road, Written, told};
use crate::transaction_scene::{Directories, Kind, Scene, exact, seen_now, set_mode, set_mtime};

/// One operation of each kind, and others around them.
fn scene() -> (Scene, Plan) {
    let scene = Scene::new();
    for top in [scene.live(""), scene.new_one("")] {
        for dir in ["a", "m", "z"] {
            fs::create_dir(top.join(dir)).expect("made");
            for name in ["edit", "mode"] {
                fs::write(top.join(dir).join(name), "old").expect("written");
                set_mtime(&top.join(dir).join(name), 1_000_000_000);
            }
        }
    }
    for dir in ["a", "m", "z"] {
        fs::write(scene.new_one(dir).join("edit"), "new").expect("written");
        set_mode(&scene.new_one(dir).join("mode"), 0o600);
        Kind::Tree(0o755).make(&scene.new_one(dir).join("fresh"), "new");
        for name in ["gone", "swapped"] {
            Kind::Tree(0o755).make(&scene.live(dir).join(name), "old");
            set_mode(&scene.live(dir).join(name).join("inner"), 0o755);
        }
        fs::write(scene.new_one(dir).join("swapped"), "a file now").expect("written");
    }
    for top in [scene.live(""), scene.new_one("")] {
        for dir in ["a", "m", "z", ""] {
            set_mtime(&top.join(dir), 1_200_000_000);
        }
    }
    let plan = scene.plan(Directories::Merged);
    let moved = plan.operations.iter().filter(|operation| !matches!(operation.action, Action::Adjust { .. }));
    assert_eq!(moved.count(), 12);
    (scene, plan)
}

/// What somebody does, and the path that must be named.
type Edit = (&'static str, &'static str, fn(&Path));

fn save(path: &Path, content: &str) {
    let beside = path.with_file_name(".saved");
    fs::write(&beside, content).expect("written");
    fs::rename(&beside, path).expect("renamed");
}

const EDITS: [Edit; 16] = [
    ("edits a file in place", "m/edit", |live| fs::write(live.join("m/edit"), "mine").expect("written")),
    ("appends to a file", "m/edit", |live| {
        let mut file = fs::OpenOptions::new().append(true).open(live.join("m/edit")).expect("opened");
        file.write_all(b"more").expect("written");
    }),
    ("saves a file", "m/edit", |live| save(&live.join("m/edit"), "mine")),
    ("deletes a file", "m/edit", |live| fs::remove_file(live.join("m/edit")).expect("removed")),
    ("changes a mode", "m/edit", |live| set_mode(&live.join("m/edit"), 0o755)),
    ("makes a file a link", "m/edit", |live| {
        fs::remove_file(live.join("m/edit")).expect("removed");
        symlink("/etc/passwd", live.join("m/edit")).expect("linked");
    }),
    ("makes a file a directory", "m/edit", |live| {
        fs::remove_file(live.join("m/edit")).expect("removed");
        fs::create_dir(live.join("m/edit")).expect("made");
    }),
    ("creates what is new", "m/fresh", |live| fs::write(live.join("m/fresh"), "mine").expect("written")),
    ("creates an empty directory there", "m/fresh", |live| fs::create_dir(live.join("m/fresh")).expect("made")),
    ("creates a dangling link there", "m/fresh", |live| symlink("/nowhere", live.join("m/fresh")).expect("linked")),
    ("adds to a removed tree", "m/gone", |live| fs::write(live.join("m/gone/inner/mine"), "").expect("written")),
    ("edits in a removed tree", "m/gone", |live| fs::write(live.join("m/gone/inner/file"), "mine").expect("written")),
    ("adds to a replaced tree", "m/swapped", |live| fs::write(live.join("m/swapped/mine"), "").expect("written")),
    ("deletes in a replaced tree", "m/swapped", |live| {
        fs::remove_file(live.join("m/swapped/twin")).expect("removed");
    }),
    ("changes a mode that is to be set", "m/mode", |live| set_mode(&live.join("m/mode"), 0o666)),
    ("edits a file whose mode is to be set", "m/mode", |live| {
        fs::write(live.join("m/mode"), "mine!").expect("written")
    }),
];

/// A tree without the time of the directory that was edited in, which the edit itself has changed, and of a directory
/// that somebody has put in a file's place, which xfs changes when it is displaced.
fn but_for_times_of_m(lines: Vec<String>) -> Vec<String> {
    let stamp = |line: &String| line.find('(').zip(line.find(')'));
    let cut = |line: String| match stamp(&line) {
        Some((from, to)) if line.starts_with("\"m\" ") || line.starts_with("\"m/edit\" 4") => {
            format!("{}{}", &line[..from], &line[to..])
        }
        _ => line,
    };
    lines.into_iter().map(cut).collect()
}

#[test]
fn an_edit_before_the_check_is_found_by_it_and_nothing_is_touched() {
    for (what, path, edit) in EDITS {
        let (scene, plan) = scene();
        edit(&scene.live(""));
        let edited = exact(&scene.live(""));
        let told = told(&check(&plan));
        assert_eq!(told, format!("conflict [\"{path}\"] []"), "somebody {what}");
        assert_eq!(exact(&scene.live("")), edited, "somebody {what}");
    }
}

#[test]
fn a_check_names_every_conflict() {
    let (scene, plan) = scene();
    for dir in ["a", "z"] {
        fs::write(scene.live(dir).join("edit"), "mine").expect("written");
        fs::create_dir(scene.live(dir).join("fresh")).expect("made");
    }
    let Err(ApplyError::Conflict { paths, .. }) = check(&plan) else { panic!("no conflict") };
    assert_eq!(paths, ["a/edit", "a/fresh", "z/edit", "z/fresh"].map(Text::from));
}

#[test]
fn an_edit_that_forges_the_time_is_found_too() {
    let (scene, plan) = scene();
    let stat = scene.live("m/edit").metadata().expect("stat");
    fs::write(scene.live("m/edit"), "bad").expect("written");
    set_mtime(&scene.live("m/edit"), 1_000_000_000);
    assert_eq!(scene.live("m/edit").metadata().expect("stat").modified().ok(), stat.modified().ok());
    assert_eq!(told(&check(&plan)), "conflict [\"m/edit\"] []");
}

#[test]
fn an_edit_between_check_and_rename_stands_and_the_rest_is_taken_back() {
    for (what, path, edit) in EDITS {
        let (scene, plan) = scene();
        check(&plan).expect("sound");
        let written = Written::new(&scene, &plan);
        let mut edited = Vec::new();
        let outcome = written.interrupted(Road::Apply, "apply.step:stop", || {
            edit(&scene.live(""));
            edited = exact(&scene.live(""));
        });
        assert_eq!(outcome, format!("conflict [\"{path}\"] []"), "somebody {what}");
        assert_eq!(but_for_times_of_m(exact(&scene.live(""))), but_for_times_of_m(edited), "somebody {what}");
    }
}

#[test]
fn a_mode_that_had_to_be_lifted_anyway_may_not_be_changed_by_somebody_else() {
    let scene = Scene::new();
    Kind::Tree(0o500).make(&scene.live("gone"), "old");
    let plan = scene.plan(Directories::Merged);
    let written = Written::new(&scene, &plan);
    let outcome = written.interrupted(Road::Apply, "apply.step:stop", || set_mode(&scene.live("gone"), 0o700));
    assert_eq!(outcome, "conflict [\"gone\"] []");
    assert_eq!(scene.live("gone").metadata().expect("stat").permissions().mode() & 0o7777, 0o700);
}

#[test]
fn an_edit_of_the_new_version_while_others_are_applied_is_kept() {
    let edits: [Edit; 4] = [
        ("edits it", "a/edit", |live| fs::write(live.join("a/edit"), "newer").expect("written")),
        ("saves it", "a/edit", |live| save(&live.join("a/edit"), "newer")),
        ("adds to it", "a/fresh", |live| fs::write(live.join("a/fresh/mine"), "").expect("written")),
        ("puts another there", "a/gone", |live| fs::write(live.join("a/gone"), "mine").expect("written")),
    ];
    for (what, path, edit) in edits {
        let (scene, plan) = scene();
        let written = Written::new(&scene, &plan);
        let mut edited = String::new();
        let outcome = written.interrupted(Road::Apply, "apply.step:stop@9", || {
            edit(&scene.live(""));
            fs::write(scene.live("z/edit"), "mine").expect("a conflict");
            edited = exact(&scene.live(path)).join("\n");
        });
        assert_eq!(outcome, format!("conflict [\"{path}\", \"z/edit\"] [\"{path}\"]"), "somebody {what}");
        let now = exact(&scene.live(path)).join("\n");
        assert_eq!(now, edited, "somebody {what}");
        assert_eq!(fs::read_to_string(scene.live("m/edit")).expect("read"), "old", "the rest is old");
    }
}

#[test]
fn a_write_through_a_descriptor_into_what_was_displaced_takes_everything_back() {
    for name in ["a/edit", "a/gone/inner/file"] {
        let (scene, plan) = scene();
        let mut open = fs::OpenOptions::new().append(true).open(scene.live(name)).expect("opened");
        check(&plan).expect("sound");
        let written = Written::new(&scene, &plan);
        let outcome = written.interrupted(Road::Apply, "apply.step:stop@9", || {
            open.write_all(b" and more").expect("written");
        });
        let path = if name == "a/edit" { name } else { "a/gone" };
        assert_eq!(outcome, format!("conflict [\"{path}\"] []"));
        assert!(fs::read_to_string(scene.live(name)).expect("read").ends_with(" and more"));
        assert_eq!(fs::read_to_string(scene.live("z/edit")).expect("read"), "old");
        assert!(!scene.live("m/fresh").exists());
    }
}

#[test]
fn a_parent_that_becomes_a_link_leads_nowhere() {
    for stop in ["apply.checked:stop", "apply.step:stop@6", "apply.step:stop@12"] {
        let (scene, plan) = scene();
        let outside = scene.path().join("outside");
        fs::create_dir(&outside).expect("made");
        fs::write(outside.join("edit"), "theirs").expect("written");
        let untouched = exact(&outside);
        let written = Written::new(&scene, &plan);
        let swap = || {
            fs::rename(scene.live("z"), scene.path().join("moved")).expect("moved");
            symlink(&outside, scene.live("z")).expect("linked");
        };
        let outcome = written.interrupted(Road::Apply, stop, swap);
        assert!(outcome.starts_with("conflict"), "{stop}: {outcome}");
        assert_eq!(exact(&outside), untouched, "{stop}");
        assert_eq!(fs::read_to_string(scene.live("a/edit")).expect("read"), "old", "{stop}: the rest is taken back");
    }
}

#[test]
fn a_parent_that_was_replaced_by_another_directory_is_a_conflict() {
    let (scene, plan) = scene();
    fs::rename(scene.live("z"), scene.live("moved")).expect("moved");
    fs::create_dir(scene.live("z")).expect("made");
    let edited = exact(&scene.live(""));
    for outcome in [told(&check(&plan)), told(&apply(&plan))] {
        assert!(outcome.starts_with("conflict [\"z"), "{outcome}");
    }
    // The root's own time is given back with the rest.
    assert_eq!(exact(&scene.live(""))[1..], edited[1..]);
}

#[test]
fn of_three_hundred_saves_during_an_apply_none_is_lost() {
    let scene = Scene::new();
    let live = scene.live("file");
    save(&live, "edit 0");
    let stop = AtomicBool::new(false);
    let mut refused = 0;
    // What each applied version displaced.
    let mut displaced = BTreeMap::new();
    struct Stop<'a>(&'a AtomicBool);
    impl Drop for Stop<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    std::thread::scope(|scope| {
        let stopping = Stop(&stop);
        let editor = scope.spawn(|| {
            let mut last = String::new();
            for number in 1.. {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                last = format!("edit {number}");
                save(&live, &last);
                std::thread::sleep(std::time::Duration::from_micros(number % 7 * 60));
            }
            last
        });
        // Three hundred, and on until the two have met.
        for round in 0..10_000 {
            if round >= 300 && refused >= 10 {
                break;
            }
            let staged = scene.new_one(&format!("s{round}"));
            fs::write(&staged, format!("agent {round}")).expect("staged");
            let path = RelPath::new(b"file".to_vec()).expect("a path");
            let (before, seen_content) = seen_now(&live);
            let after = observe_at(&staged).expect("observed").expect("there");
            let action = Action::Replace { staged: Text::from(staged.clone()), before, after };
            let plan = Plan::new(Text::from(scene.live("")), vec![Operation { path, action }]).expect("a plan");
            match apply(&plan) {
                Ok(_) => {
                    let found = fs::read_to_string(&staged).expect("displaced");
                    assert_eq!(found, seen_content, "what was displaced is what was seen");
                    displaced.insert(format!("agent {round}"), found);
                }
                Err(ApplyError::Conflict { kept, .. }) => {
                    refused += 1;
                    let ours = fs::read_to_string(&staged).expect("staged");
                    // Saved twice around the exchange: the second save replaced our version, and the first is here.
                    let overtaken = !kept.is_empty() && ours.starts_with("edit ");
                    assert!(overtaken || ours == format!("agent {round}"), "theirs is not among ours: {ours}");
                }
                Err(other) => panic!("{other:?}"),
            }
        }
        drop(stopping);
        let last = editor.join().expect("the editor ends");
        let mut stands = fs::read_to_string(&live).expect("read");
        while let Some(before) = displaced.get(&stands) {
            stands.clone_from(before);
        }
        assert_eq!(stands, last, "the last save stands, or a version that was made of it");
    });
    assert!(refused >= 10, "the editor never met an apply");
}

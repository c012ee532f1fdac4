//! All or nothing across crashes: the process that applies a plan is killed, or meets a failing disk, at every passage
//! of every point; completing the plan makes the tree entirely new, an error leaves it entirely old.

use std::collections::BTreeSet;
use std::fs;

use agentguard::store::transaction::{Plan, apply, check, complete, flush, reverse};
use agentguard::sys::crash::POINTS;

use crate::project::{is_root, skip};
use crate::publish::has_strace;
use crate::transaction_process::{Road, Written, told};
use crate::transaction_scene::{Directories, Kind, Scene, commit, exact, set_mode, set_mtime, shape};

fn points() -> impl Iterator<Item = &'static str> {
    POINTS.into_iter().filter(|point| point.starts_with("apply."))
}

fn scene() -> (Scene, Plan) {
    let scene = Scene::new();
    let plan = every_kind_of_operation(&scene);
    (scene, plan)
}

/// Every kind of operation, in directories that may and may not be written to.
pub(crate) fn every_kind_of_operation(scene: &Scene) -> Plan {
    for top in [scene.live(""), scene.new_one("")] {
        fs::create_dir_all(top.join("d/closed")).expect("made");
        for name in ["d/closed/edit", "d/mode", "d/edit"] {
            fs::write(top.join(name), "old").expect("written");
            set_mtime(&top.join(name), 1_000_000_000);
        }
    }
    for name in ["d/closed/edit", "d/edit"] {
        fs::write(scene.new_one(name), "new").expect("written");
    }
    set_mode(&scene.live("d/mode"), 0o444);
    set_note(&scene.new_one("d/mode"));
    Kind::Tree(0o500).make(&scene.live("d/gone"), "old");
    Kind::Tree(0o500).make(&scene.live("d/retyped"), "old");
    Kind::Link.make(&scene.new_one("d/retyped"), "new");
    Kind::Tree(0o500).make(&scene.new_one("d/fresh"), "new");
    for (top, mode) in [(scene.live(""), 0o500), (scene.new_one(""), 0o555)] {
        set_mode(&top.join("d/closed"), 0o500);
        set_mode(&top.join("d"), mode);
        for (name, seconds) in [("d/closed", 1), ("d", 2)] {
            set_mtime(&top.join(name), if mode == 0o500 { 1_000_000_000 } else { 1_100_000_000 } + seconds);
        }
        set_mtime(&top, 1_000_000_003);
    }
    scene.plan(Directories::Merged)
}

/// An attribute, which its owner cannot write to a file that he may not write to.
fn set_note(path: &std::path::Path) {
    set_mode(path, 0o600);
    rustix::fs::setxattr(path, "user.note", b"new", rustix::fs::XattrFlags::empty()).expect("attribute");
    set_mode(path, 0o400);
}

#[test]
fn a_kill_at_every_passage_of_every_point_is_completed() {
    let mut struck = BTreeSet::new();
    for point in points() {
        for passage in 1.. {
            let (scene, plan) = scene();
            let wanted = shape(&scene.new_one(""));
            let old = exact(&scene.live(""));
            check(&plan).expect("sound");
            flush(&plan).expect("flushed");
            let written = Written::new(&scene, &plan);
            let context = format!("{point} passage {passage}");
            if let Some(outcome) = written.run(Road::Apply, &format!("{point}:kill@{passage}")) {
                assert_eq!(outcome, "applied", "{context}");
                break;
            }
            struck.insert(point);
            assert_eq!(told(&complete(&plan)), "applied", "{context}");
            assert_eq!(shape(&scene.live("")), wanted, "{context}");
            assert_eq!(told(&complete(&plan)), "applied", "{context}, again");
            assert_eq!(shape(&scene.live("")), wanted, "{context}, again");
            // What was completed can be undone like anything else.
            let undo = reverse(&plan).expect("reversed");
            assert_eq!(told(&commit(&undo)), "applied", "{context}, undone");
            assert_eq!(exact(&scene.live("")), old, "{context}, undone");
        }
    }
    let expected = ["apply.applied", "apply.checked", "apply.directory", "apply.moved", "apply.step"];
    assert_eq!(struck.into_iter().collect::<Vec<_>>(), expected);
}

#[test]
fn a_failing_disk_at_every_passage_of_every_point_leaves_everything_old() {
    for point in points() {
        for passage in 1.. {
            let (scene, plan) = scene();
            let old = exact(&scene.live(""));
            let (staged, wanted) = (exact(&scene.new_one("")), shape(&scene.new_one("")));
            let written = Written::new(&scene, &plan);
            let error = if passage % 2 == 0 { "eio" } else { "enospc" };
            let context = format!("{point}:{error}@{passage}");
            let outcome = written.run(Road::Apply, &format!("{point}:{error}@{passage}")).expect("no crash");
            if outcome == "applied" {
                break;
            }
            assert!(outcome.starts_with("error"), "{context}: {outcome}");
            assert_eq!(exact(&scene.live("")), old, "{context}");
            let names = |lines: &[String]| -> Vec<String> {
                lines.iter().map(|line| line.split('"').nth(1).expect("a name").to_owned()).collect()
            };
            assert_eq!(names(&exact(&scene.new_one(""))), names(&staged), "{context}: what is staged is staged");
            // Nothing stands in the way of trying again.
            assert_eq!(told(&apply(&plan)), "applied", "{context}");
            assert_eq!(shape(&scene.live("")), wanted, "{context}");
        }
    }
}

/// The calls that change a tree, each with how often root and others make it.
const CALLS: [(&str, u32, u32); 4] =
    [("renameat2", 5, 5), ("fchmodat", 1, 14), ("utimensat", 2, 2), ("setxattr", 1, 1)];

/// Strikes at each of the calls in turn, in a scene of its own, until there is no such call any more.
fn at_every_call(strike: &str, judge: impl Fn(&str, &Struck)) {
    if !has_strace() {
        return skip("strace", "not installed");
    }
    for (call, as_root, as_other) in CALLS {
        for number in 1.. {
            let (scene, plan) = scene();
            let (old, wanted) = (exact(&scene.live("")), shape(&scene.new_one("")));
            let written = Written::new(&scene, &plan);
            let outcome = written.traced(Road::Apply, &[format!("{call}:{strike}:when={number}")]);
            if outcome.as_deref() == Some("applied") {
                assert!(number > if is_root() { as_root } else { as_other }, "{call} was called {} times", number - 1);
                break;
            }
            judge(&format!("{call} {number}"), &Struck { scene, plan, old, wanted, outcome });
        }
    }
}

/// A scene after a strike.
struct Struck {
    scene: Scene,
    plan: Plan,
    old: Vec<String>,
    wanted: Vec<String>,
    outcome: Option<String>,
}

#[test]
fn a_kill_at_every_system_call_that_changes_the_tree_is_completed() {
    at_every_call("signal=KILL", |call, struck| {
        assert_eq!(struck.outcome, None, "{call}");
        assert_eq!(told(&complete(&struck.plan)), "applied", "{call}");
        assert_eq!(shape(&struck.scene.live("")), struck.wanted, "{call}");
        assert_eq!(told(&commit(&reverse(&struck.plan).expect("reversed"))), "applied", "{call}, undone");
        assert_eq!(exact(&struck.scene.live("")), struck.old, "{call}, undone");
    });
}

#[test]
fn an_error_of_any_system_call_that_changes_the_tree_leaves_everything_old() {
    at_every_call("error=EIO", |call, struck| {
        let outcome = struck.outcome.as_deref().expect("no crash");
        assert!(outcome.starts_with("error"), "{call}: {outcome}");
        assert_eq!(exact(&struck.scene.live("")), struck.old, "{call}: {outcome}");
    });
}

#[test]
fn a_filesystem_without_exchange_gets_three_steps_that_may_be_killed_or_fail() {
    if !has_strace() {
        return skip("strace", "not installed");
    }
    let without = || "renameat2:error=EINVAL".to_owned();
    for (strike, least) in [("signal=KILL", 9), ("error=EIO", 9)] {
        for number in 1.. {
            let (scene, plan) = scene();
            let (old, wanted) = (exact(&scene.live("")), shape(&scene.new_one("")));
            let written = Written::new(&scene, &plan);
            let context = format!("{strike} {number}");
            match written.traced(Road::Apply, &[without(), format!("renameat:{strike}:when={number}")]).as_deref() {
                Some("applied") => {
                    assert_eq!(shape(&scene.live("")), wanted, "{context}");
                    assert!(number > least, "{context}: the last");
                    break;
                }
                Some(outcome) => {
                    assert!(strike == "error=EIO" && outcome.starts_with("error"), "{context}: {outcome}");
                    assert_eq!(exact(&scene.live("")), old, "{context}");
                    assert_eq!(told(&apply(&plan)), "applied", "{context}, again");
                }
                // Completed where there is an exchange, or by steps again.
                None if number % 2 == 0 => assert_eq!(told(&complete(&plan)), "applied", "{context}"),
                None => {
                    assert_eq!(written.traced(Road::Complete, &[without()]).as_deref(), Some("applied"), "{context}");
                }
            }
            assert_eq!(shape(&scene.live("")), wanted, "{context}");
            let left = |name: &str| name.contains(".exchange-");
            assert!(!exact(&scene.new_one("")).iter().any(|line| left(line)), "{context}");
        }
    }
}

#[test]
fn completing_may_be_killed_itself() {
    let mut crashes = 0;
    for (first, passages) in [("apply.step", 6), ("apply.moved", 5), ("apply.directory", 2)] {
        for passage in 1..=passages {
            for second in ["apply.checked", "apply.step", "apply.moved", "apply.directory", "apply.applied"] {
                let (scene, plan) = scene();
                let wanted = shape(&scene.new_one(""));
                let written = Written::new(&scene, &plan);
                let again = 1 + (passage * 3) % 4;
                let context = format!("{first}@{passage}, then {second}@{again}");
                if written.run(Road::Apply, &format!("{first}:kill@{passage}")).is_some() {
                    panic!("{context}: not passed");
                }
                crashes += usize::from(written.run(Road::Complete, &format!("{second}:kill@{again}")).is_none());
                assert_eq!(told(&complete(&plan)), "applied", "{context}");
                assert_eq!(shape(&scene.live("")), wanted, "{context}");
            }
        }
    }
    assert!(crashes > 20, "only {crashes} second crashes");
}

#[test]
fn a_kill_while_taking_back_is_taken_back() {
    let mut struck = BTreeSet::new();
    for point in points() {
        for passage in 1.. {
            let (scene, plan) = scene();
            // Behind most other operations; its directory may be written to for a moment.
            set_mode(&scene.live("d"), 0o700);
            fs::write(scene.live("d/retyped.theirs"), "").expect("written");
            set_mode(&scene.live("d/retyped"), 0o755);
            set_mode(&scene.live("d"), 0o500);
            set_mtime(&scene.live("d"), 1_000_000_002);
            let old = exact(&scene.live(""));
            let written = Written::new(&scene, &plan);
            let context = format!("{point} passage {passage}");
            match written.run(Road::Apply, &format!("{point}:kill@{passage}")) {
                Some(outcome) => {
                    assert_eq!(outcome, "conflict [\"d/retyped\"] []", "{context}");
                    assert_eq!(exact(&scene.live("")), old, "{context}");
                    break;
                }
                None => struck.insert(point),
            };
            assert_eq!(told(&complete(&plan)), "conflict [\"d/retyped\"] []", "{context}");
            assert_eq!(exact(&scene.live("")), old, "{context}");
        }
    }
    assert!(struck.contains("apply.taking_back") && struck.contains("apply.taken_back"), "{struck:?}");
}

#[test]
fn an_error_while_taking_back_is_said_and_completed_later() {
    let (scene, plan) = scene();
    fs::write(scene.live("d/edit"), "mine").expect("written");
    let old = exact(&scene.live(""));
    let written = Written::new(&scene, &plan);
    let outcome = written.run(Road::Apply, "apply.taking_back:eio@6").expect("no crash");
    assert!(outcome.starts_with("mixed"), "{outcome}");
    assert_ne!(exact(&scene.live("")), old);
    assert_eq!(told(&complete(&plan)), "conflict [\"d/edit\"] []");
    assert_eq!(exact(&scene.live("")), old);
}

#[test]
fn what_people_do_between_a_crash_and_its_completion_is_not_lost() {
    let (scene, plan) = scene();
    let written = Written::new(&scene, &plan);
    assert_eq!(written.run(Road::Apply, "apply.applied:kill"), None);
    set_mode(&scene.live("d"), 0o700);
    fs::write(scene.live("d/edit"), "newer").expect("edited");
    fs::remove_file(scene.live("d/retyped")).expect("removed");
    set_mode(&scene.live("d/fresh"), 0o700);
    fs::rename(scene.live("d/fresh"), scene.live("elsewhere")).expect("moved");
    set_mode(&scene.live("d"), 0o555);
    assert_eq!(told(&complete(&plan)), "applied");
    assert_eq!(fs::read_to_string(scene.live("d/edit")).expect("read"), "newer");
    assert!(scene.live("elsewhere/inner/file").exists());
    assert!(!scene.live("d/fresh").exists() && scene.live("d/retyped").symlink_metadata().is_err());
}

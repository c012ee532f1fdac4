//! Promises 4 and 6: all or nothing across crashes, and every run in the log exactly once. The supervisor is killed,
//! or meets a full or failing disk, at every named point; the next command puts everything right.

use std::collections::BTreeSet;

use agentguard::sys::crash::POINTS;

use crate::project::{MEET, Outcome, Project, exact_state};

/// Two targets, one that exists and one that does not, inputs, a verify command: every point of a publish is passed.
const RUN: [&str; 14] = [
    "run",
    "--quiet",
    "--input",
    "data",
    "--out",
    "old",
    "--out-file",
    "deep/new.txt",
    "--verify",
    "true",
    "--",
    "sh",
    "-c",
    "cd $AGENTGUARD_STAGING && mkdir old && for i in 1 2 3 4 5 6; do cp $AGENTGUARD_INPUTS/data/a old/f$i; done && echo new > new.txt",
];

fn scene() -> Project {
    let project = Project::new();
    project.write("data/a", "content\n");
    project.write("old/before", "old\n");
    project
}

/// The targets: entirely old, or entirely new.
#[track_caller]
fn old_or_new(project: &Project, old: &[String]) -> &'static str {
    let fresh = project.join("deep/new.txt").exists();
    if project.join("old/before").exists() {
        assert_eq!(exact_state(&project.join("old")), old);
        assert!(!fresh, "half a commit");
        "old"
    } else {
        for file in 1..=6 {
            assert_eq!(project.read(&format!("old/f{file}")), "content\n");
        }
        assert_eq!(project.read("deep/new.txt"), "new\n");
        "new"
    }
}

/// The points of a publish; those of the multi-file apply are struck in `transaction_crashes`.
fn points() -> impl Iterator<Item = &'static str> {
    POINTS
        .into_iter()
        .filter(|point| !["apply.", "gc.", "import.", "log.rotat"].iter().any(|other| point.starts_with(other)))
}

fn struck(project: &Project, fault: &str) -> Outcome {
    Outcome::of(project.command(&RUN).env("AGENTGUARD_FAULT", fault).output().expect("runs"))
}

/// After any command: one state, one line (or none for a run that never began), no remains, a sound state directory.
#[track_caller]
fn settled(project: &Project, old: &[String], point: &str) -> &'static str {
    let state = old_or_new(project, old);
    let records = project.records();
    let began = point != "run.marked";
    assert_eq!(records.len(), usize::from(began), "{point}: in the log exactly once");
    if let Some(record) = records.first() {
        assert_eq!(record.published, state == "new", "{point}: the log says published iff the targets are new");
        assert_eq!(record.error_class.is_none(), state == "new", "{point}: {record:?}");
    }
    assert_eq!(project.leftovers(), Vec::<String>::new(), "{point}");
    let names: BTreeSet<String> = project.visible_names().into_iter().collect();
    let expected: &[&str] = if state == "new" { &["data", "deep", "old"] } else { &["data", "old"] };
    assert_eq!(names, expected.iter().map(|name| (*name).to_owned()).collect(), "{point}: no temporary name is left");
    project.ag(&["fsck"]).exits(0);
    state
}

#[test]
fn a_kill_at_every_named_point_leaves_old_or_new_and_one_line() {
    let mut seen = BTreeSet::new();
    for point in points() {
        let project = scene();
        let old = exact_state(&project.join("old"));
        let outcome = struck(&project, &format!("{point}:kill"));
        if outcome.code.is_some() {
            // Not on the road of this run: a second attempt's, or the fallback's.
            outcome.exits(0);
            assert!(["commit.two_step", "commit.aborted"].contains(&point), "{point} was never passed");
            continue;
        }
        project.ag(&["recover"]).exits(0);
        seen.insert(settled(&project, &old, point));
        project.ag(&["recover"]).exits(0);
        settled(&project, &old, point);
    }
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), ["new", "old"], "points on both sides of the commit were struck");
}

#[test]
fn a_kill_between_two_targets_is_completed() {
    let project = scene();
    let old = exact_state(&project.join("old"));
    assert_eq!(struck(&project, "commit.target:kill@2").code, None);
    assert!(project.join("old/before").exists() && project.join("deep/new.txt").exists(), "one is new, one is old");
    project.ag(&["recover"]).exits(0);
    assert_eq!(settled(&project, &old, "commit.target"), "new");
}

#[test]
fn the_next_run_recovers_by_itself_and_says_so() {
    let project = scene();
    assert_eq!(struck(&project, "commit.intended:kill").code, None);
    project.run(&["--out", "other"], "true").exits(0).says("recovered run").says("its commit was completed");
    assert_eq!(project.read("deep/new.txt"), "new\n");
    let records = project.records();
    assert_eq!(records.len(), 2);
    assert!(records[0].published && records[0].guard_exit_code.is_none());
}

#[test]
fn a_full_or_failing_disk_at_every_named_point_leaves_old_or_new_and_one_line() {
    for point in points() {
        for error in ["enospc", "eio"] {
            let project = scene();
            let old = exact_state(&project.join("old"));
            let outcome = struck(&project, &format!("{point}:{error}"));
            assert!(outcome.code.is_some(), "{point}:{error} died: {}", outcome.stderr);
            if outcome.code == Some(0) {
                assert_eq!(old_or_new(&project, &old), "new", "{point}:{error}: success that lies");
            }
            project.ag(&["recover"]).exits(0);
            settled(&project, &old, point);
        }
    }
}

#[test]
fn recovery_may_be_killed_itself() {
    for point in ["commit.target", "commit.applied", "log.appended"] {
        let project = scene();
        let old = exact_state(&project.join("old"));
        assert_eq!(struck(&project, "commit.intended:kill").code, None);
        let again =
            project.command(&["recover"]).env("AGENTGUARD_FAULT", format!("{point}:kill")).output().expect("runs");
        assert_eq!(again.status.code(), None, "{point} is on recovery's road");
        project.ag(&["recover"]).exits(0);
        assert_eq!(settled(&project, &old, point), "new");
    }
}

#[test]
fn a_target_changed_between_crash_and_recovery_is_not_overwritten() {
    let project = scene();
    assert_eq!(struck(&project, "commit.intended:kill").code, None);
    project.write("old/theirs", "mine\n");
    project.ag(&["recover"]).exits(0);
    assert_eq!((project.read("old/theirs"), project.read("old/before")), ("mine\n".into(), "old\n".into()));
    assert!(!project.join("deep/new.txt").exists());
    let record = project.last();
    assert_eq!(record.error.expect("an error").kind.to_string(), "conflict");
}

#[test]
fn a_run_that_is_alive_is_left_alone() {
    let project = scene();
    let recover = || {
        let said = project.ag(&["recover"]).exits(0);
        assert_eq!(said.text(), "nothing to recover\n");
    };
    project.meanwhile(&["--out", "x"], &format!("{MEET}; echo x > $AGENTGUARD_STAGING/x"), recover).exits(0);
    assert_eq!((project.records().len(), project.read("x/x")), (1, "x\n".to_owned()));
}

#[test]
fn a_sigkill_at_every_write_like_system_call_leaves_old_or_new() {
    if !crate::publish::has_strace() {
        return crate::project::skip("strace", "not installed");
    }
    // Calls that make something; which of a kind is killed goes up until the run gets through unharmed.
    for call in [
        "renameat2,rename",
        "fsync,fdatasync,syncfs",
        "mkdir,mkdirat",
        "unlink,unlinkat,rmdir",
        "ftruncate,fallocate",
        "fchmod,chmod",
    ] {
        let mut passed = 0;
        for number in (1..).step_by(1) {
            let project = scene();
            let old = exact_state(&project.join("old"));
            let killed = under_strace(&project, call, number);
            project.ag(&["recover"]).exits(0);
            old_or_new(&project, &old);
            assert!(project.records().len() <= 1);
            assert_eq!(project.leftovers(), Vec::<String>::new(), "{call}#{number}");
            project.ag(&["fsck"]).exits(0);
            if !killed {
                break;
            }
            passed += 1;
            assert!(passed < 200, "{call} never ends");
        }
    }
}

/// Runs the scene with the N-th of these calls of the main thread killed; whether it was.
fn under_strace(project: &Project, calls: &str, number: usize) -> bool {
    let mut command = std::process::Command::new("strace");
    command.args(["-qq", "-o", "/dev/null", "-e", &format!("trace={calls}")]);
    command.args(["-e", &format!("inject={calls}:signal=KILL:when={number}")]);
    command.arg(crate::project::binary()).args(RUN).current_dir(project.path()).stdin(std::process::Stdio::null());
    let output = command.output().expect("strace");
    output.status.code() != Some(0)
}

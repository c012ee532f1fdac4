//! The damage matrix: delete, truncate or flip a byte in each kind of file of the state directory, then give each
//! command. A clear error or a correct answer, never a wrong one, never a panic.

use std::fs;
use std::path::{Path, PathBuf};

use crate::project::{Outcome, Project};

#[derive(Clone, Copy, Debug)]
enum Harm {
    Delete,
    Empty,
    Halve,
    Flip,
    Garbage,
}

const HARMS: [Harm; 5] = [Harm::Delete, Harm::Empty, Harm::Halve, Harm::Flip, Harm::Garbage];

const COMMANDS: [&[&str]; 7] = [
    &[
        "run",
        "--input",
        "data",
        "--out",
        "again",
        "--",
        "sh",
        "-c",
        "cp $AGENTGUARD_INPUTS/data/a $AGENTGUARD_STAGING/",
    ],
    &["log"],
    &["show", "@"],
    &["show", "@", "--manifest", "inputs"],
    &["replay", "@"],
    &["fsck"],
    &["recover"],
];

fn scene() -> Project {
    let project = Project::new();
    project.write("data/a", "content of a\n");
    project.write("data/b", "content of b\n");
    project.run(&["--input", "data", "--out", "report"], "cp $AGENTGUARD_INPUTS/data/a $AGENTGUARD_STAGING/").exits(0);
    project
}

/// Every regular file of the state directory, by kind.
fn places(state: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = walkdir::WalkDir::new(state)
        .into_iter()
        .flatten()
        .filter(|entry| entry.file_type().is_file())
        .map(|entry| entry.into_path())
        .collect();
    files.sort();
    files
}

fn harm(path: &Path, how: Harm) {
    let bytes = fs::read(path).expect("read");
    match how {
        Harm::Delete => fs::remove_file(path).expect("deleted"),
        Harm::Empty => fs::write(path, b"").expect("emptied"),
        Harm::Halve => fs::write(path, &bytes[..bytes.len() / 2]).expect("truncated"),
        Harm::Flip => {
            let mut flipped = bytes;
            if let Some(byte) =
                flipped.len().checked_sub(1).map(|last| last / 2).and_then(|middle| flipped.get_mut(middle))
            {
                *byte ^= 0x20;
            }
            fs::write(path, flipped).expect("flipped");
        }
        Harm::Garbage => fs::write(path, b"\xff\x00garbage\n{\"run_id\":7}\n").expect("garbage"),
    }
}

/// Neither a panic nor a death, and if it is an error then one with words.
#[track_caller]
fn sane(outcome: &Outcome, what: &str) {
    assert!(matches!(outcome.code, Some(0 | 1 | 125)), "{what}: {outcome:?}");
    assert!(!outcome.stderr.contains("panicked"), "{what}: {}", outcome.stderr);
    if outcome.code == Some(125) {
        assert!(outcome.stderr.contains("agentguard: "), "{what}: {}", outcome.stderr);
    }
}

#[test]
fn no_damage_makes_a_wrong_answer_or_a_panic() {
    let whole = scene();
    let relative: Vec<PathBuf> = places(&whole.state())
        .iter()
        .map(|path| path.strip_prefix(whole.state()).expect("below").to_path_buf())
        .collect();
    let kinds: Vec<String> = relative.iter().map(|path| path.display().to_string()).collect();
    for kind in ["runs.jsonl", "runs.lock", "journal", "run.json", "record.json", "outputs", ".pack", ".stat", "format"]
    {
        assert!(kinds.iter().any(|name| name.contains(kind)), "no {kind} among {kinds:?}");
    }
    for number in 0..relative.len() {
        for how in HARMS {
            for command in COMMANDS {
                let project = scene();
                let victim = &places(&project.state())[number];
                let what = format!("{how:?} of {} then {command:?}", victim.display());
                harm(victim, how);
                let outcome = project.ag(command);
                sane(&outcome, &what);
                check_answer(&project, command, &outcome, &what);
            }
        }
    }
}

/// What says that it succeeded has told the truth.
#[track_caller]
fn check_answer(project: &Project, command: &[&str], outcome: &Outcome, what: &str) {
    if outcome.code != Some(0) {
        return;
    }
    match command[0] {
        "run" => assert_eq!(project.read("again/a"), "content of a\n", "{what}"),
        "replay" => assert!(outcome.stderr.contains("reproduced"), "{what}: {}", outcome.stderr),
        "show" if command.contains(&"--manifest") => {
            let sum = "ee6c3bc0a4a2b4d1d5fc0a3b2cd0bd40"; // any real sum is 64 digits; the names must be right
            assert!(!outcome.text().contains(sum) && outcome.text().contains("  data/a"), "{what}: {}", outcome.text());
        }
        _ => {}
    }
}

#[test]
fn fsck_sees_a_flipped_byte_in_everything_that_is_relied_on() {
    let whole = scene();
    let count = places(&whole.state()).len();
    for number in 0..count {
        let project = scene();
        let victim = places(&project.state())[number].clone();
        let name = victim.display().to_string();
        // Derived, for people only, or without content of its own.
        let relied_on = ["runs.jsonl", "run.json", "outputs", ".pack"].iter().any(|kind| name.ends_with(kind));
        harm(&victim, Harm::Flip);
        let outcome = project.ag(&["fsck"]);
        sane(&outcome, &name);
        if relied_on && !outcome.text().contains("no problems") {
            assert_eq!(outcome.code, Some(1), "{name}: {}", outcome.text());
        } else if name.ends_with(".pack") || name.ends_with("outputs") {
            panic!("{name}: fsck saw nothing: {}", outcome.text());
        }
    }
}

#[test]
fn a_damaged_snapshot_refuses_the_replay_in_fscks_words_and_the_next_run_reads_again() {
    let project = scene();
    let pack = places(&project.state())
        .into_iter()
        .find(|path| path.extension().is_some_and(|kind| kind == "pack"))
        .expect("a pack");
    let original = fs::read(&pack).expect("pack");
    for at in (0..original.len()).step_by(7) {
        let mut flipped = original.clone();
        flipped[at] ^= 1;
        fs::write(&pack, &flipped).expect("flipped");
        let outcome = project.ag(&["replay", "@"]);
        sane(&outcome, &format!("byte {at}"));
        if outcome.code == Some(0) {
            assert!(outcome.stderr.contains("reproduced"));
        }
        project.ag(&["fsck"]).exits(1);
        fs::write(&pack, &original).expect("restored");
    }
    fs::remove_file(&pack).expect("deleted");
    project.ag(&["replay", "@"]).exits(125);
    let script = "cp $AGENTGUARD_INPUTS/data/a $AGENTGUARD_STAGING/";
    project.run(&["--input", "data", "--out", "again"], script).exits(0);
    project.ag(&["replay", "@"]).exits(0);
}

#[test]
fn a_live_mark_that_is_garbage_harms_nobody() {
    let project = scene();
    fs::write(project.state().join("live/garbage"), "x").expect("mark");
    fs::write(project.state().join("live/01a20abd-d81f-7f2b-a613-cc96f1fd1f6f"), "x").expect("mark of no run");
    project.run(&["--out", "o"], "true").exits(0);
    assert_eq!(project.leftovers(), Vec::<String>::new());
    project.ag(&["fsck"]).exits(0);
}

//! Dead letters: a failed run waits until a redrive of it succeeds or somebody acknowledges it; a redrive publishes, happens
//! once however often it is killed, and what is listed is what the log says.

use std::collections::BTreeMap;
use std::fs;
use std::process::{Command, Stdio};

use agentguard::model::{RunId, RunRecord, Status};

use crate::project::{MEET, Outcome, Project, wait_until};

/// Copies its one input, and leaves a trace of having done so.
const FIXED: &str = "cat $AGENTGUARD_INPUTS/in* >> $OUTSIDE/ran; cp $AGENTGUARD_INPUTS/in* $AGENTGUARD_STAGING/copy";

/// So many runs that fail, each with an input and an output of its own.
fn fail(project: &Project, count: usize) -> Vec<RunId> {
    for number in 0..count {
        let (input, output) = (format!("in{number}"), format!("out{number}"));
        project.write(&input, format!("{number}\n"));
        let options = ["--quiet", "--agent", "writer", "--input", &input, "--out", &output];
        project.run(&options, "echo half > $AGENTGUARD_STAGING/half; exit 7").exits(7);
    }
    project.records().iter().map(|record| record.run_id).collect()
}

fn listed(project: &Project, options: &[&str]) -> Vec<serde_json::Value> {
    let arguments = [&["failed", "list", "--format", "json"], options].concat();
    serde_json::from_str(&project.ag(&arguments).exits(0).text()).expect("JSON")
}

fn redrive(project: &Project, options: &[&str], script: &str) -> Outcome {
    project.ag(&[&["failed", "redrive"], options, &["--", "sh", "-c", script]].concat())
}

/// Redrives by the run that they redrive.
fn redrives(project: &Project) -> BTreeMap<RunId, Vec<RunRecord>> {
    let mut found: BTreeMap<RunId, Vec<RunRecord>> = BTreeMap::new();
    for record in project.records() {
        if let Some(letter) = record.redrive_of {
            found.entry(letter).or_default().push(record);
        }
    }
    found
}

/// Whether every letter was redriven with success once, and its own input was published at its own target.
#[track_caller]
fn each_once(project: &Project, letters: &[RunId]) {
    let redrives = redrives(project);
    for (number, letter) in letters.iter().enumerate() {
        let of_this = redrives.get(letter).map_or(&[][..], Vec::as_slice);
        let succeeded = of_this.iter().filter(|record| record.status == Status::Succeeded).count();
        assert_eq!(succeeded, 1, "letter {number}: {of_this:#?}");
        assert!(of_this.iter().all(|record| record.replay_of.is_none()));
        assert_eq!(project.read(&format!("out{number}/copy")), format!("{number}\n"));
    }
    assert_eq!(listed(project, &[]).len(), 0);
}

#[test]
fn letters_are_redriven_oldest_first_with_what_they_read_then_and_are_letters_no_more() {
    let project = Project::new();
    let letters = fail(&project, 6);
    fs::remove_file(project.join("in3")).expect("removed");
    let rows = listed(&project, &[]);
    assert_eq!(rows.len(), 6);
    let newest = &rows[0];
    assert_eq!(newest["run_id"], letters[5].to_string());
    let figures = [&newest["agent"], &newest["error_class"], &newest["error_kind"], &newest["state"]];
    assert_eq!(figures, ["writer", "partial_write", "exit_code", "waiting"]);
    assert_eq!((&newest["attempts"], &newest["receives"], &newest["cost_usd"]), (&1.into(), &0.into(), &().into()));
    let preview = project.ag(&["failed", "redrive", "--dry-run", "--max", "2"]).exits(0).text();
    let order: Vec<&str> = preview.lines().filter_map(|line| line.split_whitespace().nth(2)).take(2).collect();
    assert_eq!(order, [letters[0].short(), letters[1].short()]);
    assert_eq!(project.records().len(), 6, "a preview runs nothing");
    redrive(&project, &[], FIXED).exits(0).says("6 letters: 6 redriven");
    assert_eq!(project.read_outside("ran"), "0\n1\n2\n3\n4\n5\n");
    each_once(&project, &letters);
    redrive(&project, &[], FIXED).exits(0).says("0 letters: 0 redriven");
}

#[test]
fn a_redrive_that_is_killed_half_way_and_started_again_redrives_each_letter_once() {
    let project = Project::new();
    let letters = fail(&project, 30);
    // Some are done, some are under way when everybody is killed.
    let script =
        format!("{FIXED}; n=$(cat $AGENTGUARD_INPUTS/in*); if [ $n -ge 10 ] && [ ! -e $OUTSIDE/on ]; then {MEET}; fi");
    let mut first = project
        .command(&["failed", "redrive", "-j", "8", "--", "sh", "-c", &script])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("spawned");
    wait_until("the first ten are done", || redrives(&project).len() >= 10 && project.outside("ready").exists());
    first.kill().expect("killed");
    first.wait().expect("waited");
    fs::write(project.outside("on"), "").expect("let the others go");
    fs::write(project.outside("go"), "").expect("let them go");
    redrive(&project, &["-j", "8"], &script).exits(0).says("redriven");
    each_once(&project, &letters);
    project.ag(&["fsck"]).exits(0);
}

#[test]
fn two_redrives_at_once_share_the_letters() {
    let project = Project::new();
    let letters = fail(&project, 12);
    let start = || {
        let mut command = project.command(&["failed", "redrive", "-j", "3", "--", "sh", "-c", FIXED]);
        command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("spawned")
    };
    let both = [start(), start()];
    for child in both {
        let outcome = Outcome::of(child.wait_with_output().expect("waited"));
        outcome.exits(0);
    }
    each_once(&project, &letters);
    assert_eq!(project.read_outside("ran").lines().count(), 12, "no letter was run twice");
}

#[test]
fn a_letter_that_fails_again_and_again_is_set_aside_until_it_is_named() {
    let project = Project::new();
    let letters = fail(&project, 2);
    for receives in 1..=3 {
        redrive(&project, &["-j", "2"], "exit 9").exits(1).says("2 letters: 0 redriven, 2 failed again");
        assert!(listed(&project, &[]).iter().all(|row| row["receives"] == receives && row["attempts"] == receives + 1));
    }
    assert!(listed(&project, &[]).iter().all(|row| row["state"] == "set_aside"));
    redrive(&project, &[], FIXED).exits(0).says("0 letters: 0 redriven; 2 set aside");
    redrive(&project, &["--max-receives", "4", "--max", "1"], FIXED).exits(0).says("1 letter: 1 redriven");
    // A redrive's id names the letter that it redrives.
    let of_it = redrives(&project)[&letters[1]][0].run_id.to_string();
    redrive(&project, &[&of_it], FIXED).exits(0).says("redriven: run");
    each_once(&project, &letters);
    redrive(&project, &[&of_it], FIXED).exits(0).says("needs no redrive any more");
}

#[test]
fn an_open_breaker_stops_the_redrive_of_what_needs_it_and_that_is_no_receive() {
    let project = Project::new();
    let needy = ["--quiet", "--agent", "needy", "--needs", "fetch", "--out", "report"];
    project.run(&["--quiet", "--agent", "fetch"], "true").exits(0);
    project.run(&needy, "exit 4").exits(4);
    project.ag(&["breaker", "trip", "fetch"]).exits(0);
    project.run(&needy, "echo done > $AGENTGUARD_STAGING/r").exits(121);
    project.ag(&["failed", "redrive", "-j", "2"]).exits(1).says("2 letters: 0 redriven, 2 stopped by an open breaker");
    let receives: Vec<_> = listed(&project, &[]).iter().map(|row| row["receives"].clone()).collect();
    assert_eq!(receives, [0, 0]);
    project.ag(&["breaker", "reset", "fetch"]).exits(0);
    // The blocked one had read nothing: it is run as it would have been.
    project.ag(&["failed", "redrive"]).exits(1).says("2 letters: 1 redriven, 1 failed again");
    assert_eq!(project.read("report/r"), "done\n");
    assert_eq!(listed(&project, &[]).len(), 1);
}

#[test]
fn only_failures_are_letters_and_a_replay_answers_none() {
    let project = Project::new();
    project.run(&["--quiet", "--agent", "a"], "true").exits(0);
    fail(&project, 1);
    project.ag(&["replay", "@failed"]).exits(0);
    assert_eq!(listed(&project, &[]).len(), 1, "a replay that fails is no letter");
    let first = project.records()[1].run_id.to_string();
    project.ag(&["replay", &first, "--commit", "--", "sh", "-c", "echo x > $AGENTGUARD_STAGING/x"]).exits(0);
    assert_eq!(listed(&project, &[]).len(), 1);
    project.ag(&["failed", "redrive", "@"]).exits(125).says("is a replay");
    let success = project.records()[0].run_id.to_string();
    project.ag(&["failed", "ack", &success, "--reason", "x"]).exits(125).says("is no dead letter: it is succeeded");
}

#[test]
fn an_acknowledgement_needs_a_reason_is_kept_and_survives_everything_that_is_derived() {
    let project = Project::new();
    let letters = fail(&project, 3);
    let first = letters[0].to_string();
    project.ag(&["failed", "ack", &first]).exits(125);
    project.ag(&["failed", "ack", &first, "--reason", " "]).exits(125).says("--reason is empty");
    // All or none.
    project.ag(&["failed", "ack", &first, "ffffffff", "--reason", "x"]).exits(125);
    assert_eq!(listed(&project, &[]).len(), 3);
    project.ag(&["failed", "ack", &first, "--reason", "sent\x1b by \"hand\"\n"]).exits(0);
    project.ag(&["failed", "ack", &first, "--reason", "again"]).exits(0);
    let kept = fs::read_to_string(project.state().join("acks.jsonl")).expect("acknowledgements");
    let lines: Vec<serde_json::Value> = kept.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!((lines.len(), &lines[0]["reason"]), (1, &"sent\x1b by \"hand\"\n".into()));
    let index = project.state().join("letters/index");
    let whole = fs::read(&index).expect("the index");
    let damages: [&dyn Fn(); 4] = [
        &|| fs::remove_dir_all(project.state().join("letters")).expect("removed"),
        &|| fs::write(&index, &whole[..whole.len() - 10]).expect("cut"),
        &|| fs::write(&index, [&whole[..150], b"\xff", &whole[151..]].concat()).expect("overwritten"),
        &|| fs::write(&index, b"").expect("emptied"),
    ];
    for damage in damages {
        damage();
        let left: Vec<_> = listed(&project, &[]).iter().map(|row| row["run_id"].clone()).collect();
        assert_eq!(left, [letters[2].to_string(), letters[1].to_string()]);
    }
    // A line that was torn loses only itself.
    fs::write(project.state().join("acks.jsonl"), format!("{kept}{{\"run_id\":\"0")).expect("torn");
    project.ag(&["failed", "ack", &letters[1].to_string(), "--reason", "y"]).exits(0);
    assert_eq!(listed(&project, &[]).len(), 1);
    assert!(project.ag(&["fsck"]).exits(1).text().contains("line 2 is damaged"));
}

#[test]
fn the_index_follows_the_log_wherever_it_was_left() {
    let project = Project::new();
    let letters = fail(&project, 3);
    let stale = fs::read(project.state().join("letters/index")).expect("the index");
    redrive(&project, &["--max", "1"], "exit 9").exits(1);
    redrive(&project, &["--max", "1"], FIXED).exits(0);
    let now = listed(&project, &[]);
    assert_eq!(now.len(), 2);
    // One from before: what is read again changes nothing that was counted.
    fs::write(project.state().join("letters/index"), &stale).expect("stale");
    assert_eq!(listed(&project, &[]).len(), 2);
    // One of another log.
    let other = Project::new();
    fail(&other, 1);
    fs::copy(other.state().join("letters/index"), project.state().join("letters/index")).expect("copied");
    let ids: Vec<_> = listed(&project, &[]).iter().map(|row| row["run_id"].clone()).collect();
    assert_eq!(ids, [letters[2].to_string(), letters[1].to_string()]);
}

#[test]
fn filters_and_forms_of_the_list() {
    let project = Project::new();
    project.run(&["--quiet", "--agent", "a\x1b[31m,\"b"], "exit 1").exits(1);
    fail(&project, 1);
    assert_eq!(listed(&project, &["--agent", "writer"]).len(), 1);
    assert_eq!(listed(&project, &["--class", "clean_abort"]).len(), 1);
    assert_eq!(listed(&project, &["--since", "2100-01-01"]).len(), 0);
    assert_eq!(listed(&project, &["-n", "1"])[0]["agent"], "writer");
    project.ag(&["failed", "list", "--class", "nonsense"]).exits(125).says("--class");
    for format in ["table", "markdown"] {
        let text = project.ag(&["failed", "list", "--format", format]).exits(0).text();
        assert!(!text.contains('\x1b') && text.lines().count() >= 3, "{text:?}");
    }
    let csv = project.ag(&["failed", "list", "--format", "csv"]).exits(0).text();
    assert!(csv.contains("\"a\x1b[31m,\"\"b\",waiting,"), "{csv:?}");
    let lines = project.ag(&["failed", "list", "--format", "jsonl"]).exits(0).text();
    assert_eq!(lines.lines().filter(|line| serde_json::from_str::<serde_json::Value>(line).is_ok()).count(), 2);
    for wrong in [
        &["failed", "redrive", "--rate", "5"][..],
        &["failed", "redrive", "-j", "0"],
        &["failed", "ack", "--reason", "x"],
    ] {
        project.ag(wrong).exits(125);
    }
}

#[test]
fn a_redrive_that_is_told_to_stop_stops_its_runs_and_leaves_the_rest_waiting() {
    let project = Project::new();
    fail(&project, 3);
    let script = format!("echo x >> $OUTSIDE/started; {MEET}");
    let child = project
        .command(&["failed", "redrive", "-j", "2", "--", "sh", "-c", &script])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("spawned");
    let started = || fs::read_to_string(project.outside("started")).map_or(0, |text| text.lines().count());
    wait_until("two are at it", || started() == 2);
    assert!(Command::new("kill").args(["-TERM", &child.id().to_string()]).status().expect("kill").success());
    let outcome = Outcome::of(child.wait_with_output().expect("waited"));
    outcome.exits(143).says("2 cancelled, 1 not begun");
    let rows = listed(&project, &[]);
    assert_eq!(rows.iter().filter(|row| row["receives"] == 0 && row["state"] == "waiting").count(), 3);
}

#[test]
fn a_log_that_is_closed_in_segments_loses_no_letter_and_counts_none_twice() {
    let project = Project::new();
    let rotate = || project.ag(&["gc", "--rotate"]).exits(0);
    let letters = fail(&project, 3);
    assert_eq!(listed(&project, &[]).len(), 3);
    rotate();
    assert_eq!(listed(&project, &[]).len(), 3);
    redrive(&project, &[], "exit 3").exits(1);
    rotate();
    let receives: Vec<u64> =
        listed(&project, &[]).iter().map(|row| row["receives"].as_u64().expect("a count")).collect();
    assert_eq!(receives, [1, 1, 1]);
    // What is known beside the log is known from the log alone.
    fs::remove_dir_all(project.state().join("letters")).expect("an index");
    fs::remove_dir_all(project.state().join("breakers")).expect("breakers");
    let again: Vec<u64> = listed(&project, &[]).iter().map(|row| row["receives"].as_u64().expect("a count")).collect();
    assert_eq!(again, receives);
    redrive(&project, &["--max", "1"], FIXED).exits(0);
    rotate();
    redrive(&project, &[], FIXED).exits(0);
    each_once(&project, &letters);
    assert!(project.state().join("runs-3.jsonl").exists());
    let counted: serde_json::Value =
        serde_json::from_str(&project.ag(&["stats", "--format", "json"]).exits(0).text()).expect("JSON");
    assert_eq!(counted["total"]["runs"], 9, "{counted}");
    project.ag(&["fsck"]).exits(0);
}

//! Promise 7: any run can be replayed from what it read, not from what the files say today.

use crate::project::Project;

const OPTIONS: [&str; 6] = ["--input", "data", "--out", "report", "--verify", "grep -q total $AGENTGUARD_RESULT/r"];

#[test]
fn a_replay_reads_the_recorded_inputs_after_they_were_changed_and_deleted() {
    let project = Project::new();
    project.write("data/a", "one\n");
    project.write("data/sub/b", "two\n");
    let script = "cat $AGENTGUARD_INPUTS/data/a $AGENTGUARD_INPUTS/data/sub/b > $AGENTGUARD_STAGING/r; echo total >> $AGENTGUARD_STAGING/r";
    project.run(&OPTIONS, script).exits(0);
    let original = project.last();
    project.write("data/a", "changed\n");
    std::fs::remove_dir_all(project.join("data/sub")).expect("deleted");
    let before = crate::project::exact_state(&project.join("report"));
    project.ag(&["replay", "@"]).exits(0).says("reproduced");
    let replay = project.last();
    assert_eq!((replay.input_hash, replay.output_hash), (original.input_hash, original.output_hash));
    assert_eq!(replay.replay_of, Some(original.run_id));
    assert!(!replay.published && crate::project::exact_state(&project.join("report")) == before);
    // Everything the store held of it is there even without the live files.
    std::fs::remove_dir_all(project.join("data")).expect("deleted");
    project.ag(&["replay", &original.run_id.to_string()]).exits(0);
}

#[test]
fn a_failing_scenario_passes_with_a_fixed_command_and_can_then_be_published() {
    let project = Project::new();
    project.write("data/a", "payload\n");
    project.run(&OPTIONS, "echo broken > $AGENTGUARD_STAGING/r").exits(120);
    project.write("data/a", "something else\n");
    project.ag(&["replay", "@failed"]).exits(0).says("reproduced");
    let fixed = ["sh", "-c", "(echo total; cat {inputs}/data/a) > {staging}/r"];
    let with = |options: &[&'static str]| -> Vec<&'static str> {
        ["replay", "@failed"].into_iter().chain(options.iter().copied()).chain(["--"]).chain(fixed).collect()
    };
    project.ag(&with(&[])).exits(0).says("diverged").says("status: succeeded, was rejected");
    assert!(!project.join("report").exists(), "a replay publishes nothing unless asked");
    let failed = project.records()[0].run_id.to_string();
    let commit: Vec<&str> = ["replay", &failed, "--commit", "--"].into_iter().chain(fixed).collect();
    project.ag(&commit).exits(0);
    assert_eq!(project.read("report/r"), "total\npayload\n");
    assert!(project.last().published);
}

#[test]
fn a_replay_that_diverges_says_in_what_and_exits_with_one() {
    let project = Project::new();
    project.write("flag", "1");
    let script = "cat flag > $AGENTGUARD_STAGING/changes; echo same > $AGENTGUARD_STAGING/same; test -e extra && cp extra $AGENTGUARD_STAGING; true";
    project.run(&["--out", "report"], script).exits(0);
    project.write("flag", "2");
    project.write("extra", "x");
    let outcome = project.ag(&["replay", "@"]).exits(1);
    let outcome = outcome.says("diverged").says("report/changes: differs").says("report/extra: only in the replay");
    assert!(!outcome.stderr.contains("report/same"));
    project.run(&["--out", "report"], "exit 4").exits(4);
    project.ag(&["replay", "@"]).exits(0).says("reproduced");
}

#[test]
fn a_replay_of_a_replay_is_the_same_scenario() {
    let project = Project::new();
    project.write("data/a", "x");
    project.run(&["--input", "data", "--out", "o"], "cp $AGENTGUARD_INPUTS/data/a $AGENTGUARD_STAGING/").exits(0);
    std::fs::remove_dir_all(project.join("data")).expect("deleted");
    project.ag(&["replay", "@"]).exits(0);
    project.ag(&["replay", "@"]).exits(0);
    let records = project.records();
    assert!(records.iter().all(|record| record.output_hash == records[0].output_hash));
    assert_eq!(records[2].replay_of, Some(records[1].run_id));
}

#[test]
fn recorded_environment_values_are_used_and_differences_are_named() {
    let project = Project::new();
    let run = |arguments: &[&str], value: &str| {
        crate::project::Outcome::of(
            project.command(arguments).env("MODE", value).env("TZ", value).output().expect("runs"),
        )
    };
    let script = "echo $MODE $TZ > $AGENTGUARD_STAGING/r";
    run(&["run", "--out", "o", "--record-env", "MODE", "--", "sh", "-c", script], "then").exits(0);
    run(&["replay", "@"], "now").exits(0).says("MODE").says("reproduced");
    let json = std::fs::read_to_string(
        project.state().join("runs").join(project.records()[0].run_id.to_string()).join("run.json"),
    );
    assert!(json.expect("run.json").contains("\"then\""));
}

#[test]
fn what_cannot_be_replayed_says_why() {
    let project = Project::new();
    project.ag(&["replay", "@"]).exits(125).says("no run was ever recorded here");
    project.run(&["--out", "o"], "true").exits(0);
    project.ag(&["replay", "ffffffff"]).exits(125).says("no run");
    let run = project.state().join("runs").join(project.last().run_id.to_string());
    std::fs::remove_dir_all(&run).expect("removed");
    project.ag(&["replay", "@"]).exits(125).says("is gone");
}

#[test]
fn an_input_that_is_gone_is_in_its_place_again_for_a_replay() {
    let project = Project::new();
    project.write("in.txt", "in\n");
    std::fs::create_dir_all(project.join("data/deep")).expect("directories");
    project.write("data/deep/x", "x\n");
    project.write("kept", "kept\n");
    let script = "cat in.txt data/deep/x kept > $AGENTGUARD_STAGING/all";
    let inputs = ["--input", "in.txt", "--input", "data", "--input", "kept", "--out", "o"];
    project.run(&inputs, script).exits(0);
    let isolation = project.last().isolation;
    if isolation.view != "overlay" {
        // A private copy begins from what is there today.
        return;
    }
    std::fs::remove_file(project.join("in.txt")).expect("removed");
    std::fs::remove_dir_all(project.join("data")).expect("removed");
    project.write("kept", "changed\n");
    let reproduced = project.ag(&["replay", "@"]).exits(0);
    assert!(reproduced.text().contains("reproduced") || reproduced.stderr.contains("reproduced"), "{reproduced:?}");
    assert!(!project.join("in.txt").exists() && !project.join("data").exists(), "nothing is put back for real");
    assert_eq!(project.leftovers(), Vec::<String>::new());
}

//! Configuration: a flag wins over the environment, that over `[agents.NAME]`, that over `[defaults]`; and what is
//! said on standard error.

use crate::project::{Outcome, Project};

#[test]
fn the_strongest_layer_that_names_an_option_wins() {
    let project = Project::new();
    let config = "[defaults]\nout = \"from-defaults\"\nverify = \"true\"\n[agents.a]\nout = \"from-agent\"\ncommand = [\"sh\", \"-c\", \"echo x > $AGENTGUARD_STAGING/x\"]\n";
    project.write("agentguard.toml", config);
    let run = |arguments: &[&str], environment: Option<&str>| {
        let mut command = project.command(arguments);
        if let Some(out) = environment {
            command.env("AGENTGUARD_OUT", out);
        }
        Outcome::of(command.output().expect("runs")).exits(0);
        project.last().targets[0].to_string_lossy().into_owned()
    };
    let script = ["--", "sh", "-c", "echo x > $AGENTGUARD_STAGING/x"];
    let with = |options: &[&'static str]| -> Vec<&'static str> {
        ["run"].into_iter().chain(options.iter().copied()).chain(script).collect()
    };
    assert_eq!(run(&with(&[]), None), "from-defaults");
    assert_eq!(run(&["run", "--agent", "a"], None), "from-agent");
    assert_eq!(run(&with(&["--agent", "a"]), Some("from-environment")), "from-environment");
    assert_eq!(run(&with(&["--agent", "a", "--out", "from-flag"]), Some("from-environment")), "from-flag");
    assert_eq!(project.last().verify.len(), 1, "verify comes from the defaults");
    run(&with(&["--no-verify"]), None);
    assert_eq!(project.last().verify.len(), 0);
    project.ag(&["run", "--agent", "b"]).exits(125).says("[agents.b]");
}

#[test]
fn the_project_is_where_the_configuration_is_and_paths_are_relative_to_where_one_stands() {
    let project = Project::new();
    project.write("sub/in.txt", "x");
    let mut command = project.command(&[
        "run",
        "--input",
        "in.txt",
        "--out",
        "o",
        "--",
        "sh",
        "-c",
        "cp $AGENTGUARD_INPUTS/sub/in.txt $AGENTGUARD_STAGING/",
    ]);
    Outcome::of(command.current_dir(project.join("sub")).output().expect("runs")).exits(0);
    assert_eq!(project.read("sub/o/in.txt"), "x");
    assert_eq!(project.last().targets[0].to_string_lossy(), "sub/o");
    assert!(project.state().is_dir());
    let elsewhere = Project::new();
    let state = elsewhere.join("state");
    let arguments = ["--state-dir", state.to_str().expect("UTF-8"), "run", "--out", "o2", "--", "true"];
    project.ag(&arguments).exits(0);
    assert!(state.join("runs.jsonl").exists());
}

#[test]
fn the_last_line_says_what_came_of_it_and_quiet_says_nothing() {
    let project = Project::new();
    let outcome = project
        .run(&["--out", "report", "--verify", "true"], "cd $AGENTGUARD_STAGING; echo 1 > a; echo 2 > b; echo 3 > c")
        .exits(0);
    let short = project.last().run_id.short();
    let line = outcome.stderr.trim_end();
    assert!(
        line.starts_with("agentguard: published 3 files (6 B) to report · verified in ")
            && line.ends_with(&format!(" · run {short}")),
        "{line}"
    );
    assert_eq!(line.lines().count(), 1);
    let quiet = project.run(&["--out", "report", "--quiet"], "echo x > $AGENTGUARD_STAGING/x").exits(0);
    assert_eq!(quiet.stderr, "");
    let failed = project.run(&["--out", "report"], "exit 9").exits(9);
    assert!(
        failed.stderr.starts_with("agentguard: failed, nothing published: the agent exited with 9 · run "),
        "{}",
        failed.stderr
    );
    let rejected =
        project.run(&["--out", "report", "--verify", "echo no; false"], "echo x > $AGENTGUARD_STAGING/x").exits(120);
    assert!(
        rejected.stderr.contains("rejected, nothing published: verify \"echo no; false\" exited with 1")
            && rejected.stderr.contains("\nhint: "),
        "{}",
        rejected.stderr
    );
}

#[test]
fn the_record_can_be_had_beside_the_log() {
    let project = Project::new();
    let outcome = project.run(&["--out", "o", "--record", "-", "--quiet"], "echo agent").exits(0);
    let text = outcome.text();
    let (agent, record) = text.split_once('\n').expect("two lines");
    assert_eq!(agent, "agent");
    crate::support::validate_record(record.trim_end());
    project.run(&["--out", "o", "--record", "r.json", "--quiet"], "true").exits(0);
    assert_eq!(
        project.read("r.json"),
        std::fs::read_to_string(project.state().join("runs.jsonl"))
            .expect("log")
            .lines()
            .last()
            .expect("a line")
            .to_owned()
            + "\n"
    );
}

#[test]
fn labels_and_secrets_are_recorded_as_they_should_be() {
    let project = Project::new();
    let secret = "sk-abcdefghijklmnopqrstuvwxyz012345";
    let verify = format!("true --token={secret}");
    let arguments = [
        "run",
        "--label",
        "team=a=b",
        "--out",
        "o",
        "--verify",
        &verify,
        "--",
        "sh",
        "-c",
        "echo x > $AGENTGUARD_STAGING/x",
        "--api-key",
        secret,
    ];
    let mut command = project.command(&arguments);
    Outcome::of(command.env("MY_API_KEY", secret).output().expect("runs")).exits(0);
    assert_eq!(project.last().labels["team"], "a=b");
    let log = std::fs::read_to_string(project.state().join("runs.jsonl")).expect("log");
    assert!(!log.contains(secret) && log.contains("[redacted]"), "{log}");
    for file in ["journal", "record.json"] {
        let path = project.state().join("runs").join(project.last().run_id.to_string()).join(file);
        assert!(!std::fs::read_to_string(path).expect("read").contains(secret), "{file}");
    }
    let run = project.state().join("runs").join(project.last().run_id.to_string());
    let spec = std::fs::read_to_string(run.join("run.json")).expect("run.json");
    assert!(spec.contains(secret), "a replay needs the exact arguments");
    assert!(!spec.contains("MY_API_KEY"), "environment values are recorded from an allow-list");
    use std::os::unix::fs::MetadataExt as _;
    for entry in walkdir::WalkDir::new(project.state()) {
        let entry = entry.expect("entry");
        assert_eq!(entry.metadata().expect("stat").mode() & 0o077, 0, "{}", entry.path().display());
    }
}

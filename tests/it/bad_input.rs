//! Bad input: a clear error that says what is wrong and what to type, exit 125, nothing spawned, nothing created.

use std::os::unix::fs::{PermissionsExt, symlink};

use crate::project::{Project, is_root, skip};

/// An agent that leaves a trace where every view is transparent.
const SPAWNED: &str = "touch $OUTSIDE/spawned; test -z \"$AGENTGUARD_STAGING\" || echo x > $AGENTGUARD_STAGING/x";

/// Nothing was spawned (the agent would leave a file) and nothing created.
#[track_caller]
fn refused(project: &Project, options: &[&str], words: &[&str]) {
    let before = project.visible_names();
    let mut outcome = project.run(options, SPAWNED).exits(125);
    for words in words {
        outcome = outcome.says(words);
    }
    assert!(!project.outside("spawned").exists(), "{options:?} was spawned");
    assert_eq!(project.visible_names(), before, "{options:?}");
    assert!(!project.state().exists(), "{options:?}: not even the state directory");
    assert!(outcome.stderr.starts_with("agentguard: ") || outcome.stderr.starts_with("error: "), "{}", outcome.stderr);
}

#[test]
fn outputs_that_cannot_be_published_are_refused() {
    let project = Project::new();
    project.write("file", "x");
    project.write("dir/x", "x");
    std::process::Command::new("mkfifo").arg(project.join("fifo")).status().expect("mkfifo");
    symlink("/tmp", project.join("leaves")).expect("link");
    symlink("nowhere", project.join("dangling")).expect("link");
    // Without an output option the project is the workspace: nothing that only a result of its own can have goes with it.
    refused(&project, &["--workspace", ".", "--out", "a"], &["--workspace and the output options", "choose one"]);
    refused(&project, &["--hold", "--out", "a"], &["--hold", "--out"]);
    let staging = ["run", "--", "sh", "-c", "touch $OUTSIDE/spawned {staging}/x"];
    project.ag(&staging).exits(125).says("{staging}").says("--out DIR");
    assert!(!project.outside("spawned").exists() && !project.state().exists());
    refused(&project, &["--out", ".agentguard/x"], &["inside the state directory"]);
    refused(&project, &["--out", "."], &["contains the state directory"]);
    refused(&project, &["--out", "/"], &["root directory"]);
    refused(&project, &["--out", "a", "--out", "a/b"], &["one inside the other"]);
    refused(&project, &["--out", "a", "--out", "./a"], &["named twice"]);
    refused(&project, &["--out", "x/same", "--out", "y/same"], &["same last name", "rename one"]);
    refused(&project, &["--out", "fifo"], &["is a fifo"]);
    refused(&project, &["--out-file", "/dev/null"], &["is a device"]);
    refused(&project, &["--out-file", "dir"], &["is a directory: write --out"]);
    refused(&project, &["--out", "leaves"], &["leaves the project", "/tmp"]);
    refused(&project, &["--out", "leaves/x"], &["leaves the project", "/tmp/x"]);
    refused(&project, &["--out", "dangling"], &["symbolic link to nothing", "nowhere"]);
    refused(&project, &["--out", "file/x"], &["is not a directory"]);
    refused(&project, &["--out", ""], &["--out", "value is required"]);
    refused(&project, &["--out", "a", "--out-from", "scratch"], &["--out-from is empty or current"]);
}

#[test]
fn the_home_and_working_directories_are_no_targets() {
    let project = Project::new();
    let home = project.join("home");
    std::fs::create_dir(&home).expect("home");
    let run = |arguments: &[&str]| {
        let mut command = project.command(arguments);
        crate::project::Outcome::of(command.env("HOME", &home).output().expect("runs"))
    };
    run(&["run", "--out", "home", "--", "true"]).exits(125).says("home directory");
    let inner = project.join("work");
    std::fs::create_dir(&inner).expect("work");
    let mut command = project.command(&["run", "--out", "../work", "--", "true"]);
    crate::project::Outcome::of(command.current_dir(&inner).output().expect("runs"))
        .exits(125)
        .says("working directory");
}

#[test]
fn inputs_that_cannot_be_frozen_are_refused() {
    let project = Project::new();
    std::process::Command::new("mkfifo").arg(project.join("fifo")).status().expect("mkfifo");
    let options = |input| ["--out", "o", "--input", input];
    refused(&project, &options("missing.csv"), &["missing.csv", "does not exist"]);
    refused(&project, &options("*.csv"), &["*.csv", "matches nothing"]);
    refused(&project, &options("fifo"), &["neither a file nor a directory"]);
    refused(&project, &options("/dev/stdin"), &["pipe it to standard input"]);
    refused(&project, &options(""), &["--input", "value is required"]);
    let arguments = ["run", "--out", "o", "--", "cat", "{inputs}/x"];
    project.ag(&arguments).exits(125).says("--input");
}

#[test]
fn an_unreadable_input_is_named_before_anything_is_spawned() {
    if is_root() {
        return skip("ordinary_user", "root reads everything");
    }
    let project = Project::new();
    let closed = project.write("closed", "x");
    std::fs::set_permissions(&closed, std::fs::Permissions::from_mode(0o000)).expect("mode");
    refused(&project, &["--out", "o", "--input", "closed"], &["closed", "cannot be read"]);
    project.write("data/closed", "x");
    std::fs::set_permissions(project.join("data/closed"), std::fs::Permissions::from_mode(0o000)).expect("mode");
    project.run(&["--out", "o", "--input", "data"], SPAWNED).exits(125).says("data/closed");
    assert!(!project.outside("spawned").exists());
}

#[test]
fn wrong_words_name_the_nearest_right_ones() {
    let project = Project::new();
    project.ag(&["run", "--out", "o"]).exits(125).says("no command");
    project.ag(&["run", "--timeuot", "5s", "--out", "o", "--", "true"]).exits(125).says("--timeout");
    project.ag(&["repaly"]).exits(125).says("replay");
    refused(&project, &["--out", "o", "--timeout", "5 parsecs"], &["--timeout", "90s"]);
    refused(&project, &["--out", "o", "--timeout", "0s"], &["--timeout", "zero"]);
    refused(&project, &["--out", "o", "--max-bytes", "lots"], &["--max-bytes", "64MiB"]);
    refused(&project, &["--out", "o", "--label", "nopair"], &["NAME=VALUE"]);
    refused(&project, &["--out", "o", "--expect", "a[b"], &["--expect"]);
    project.write("agentguard.toml", "[defaults]\ntimout = \"5m\"\n");
    refused(&project, &["--out", "o"], &["unknown key `timout`", "did you mean `timeout`?"]);
    project.write("agentguard.toml", "[defaults\n");
    refused(&project, &["--out", "o"], &["no valid TOML"]);
}

#[test]
fn a_state_directory_that_is_not_ours_or_newer_is_refused() {
    let project = Project::new();
    project.run(&["--out", "o"], "true").exits(0);
    let commands: [&[&str]; 6] =
        [&["run", "--out", "o", "--", "true"], &["log"], &["show", "@"], &["replay", "@"], &["fsck"], &["recover"]];
    let format = project.state().join("format");
    std::fs::write(&format, "agentguard-state 2\n").expect("newer");
    for command in commands {
        project.ag(command).exits(125).says("newer format");
    }
    std::fs::write(&format, "garbage").expect("damaged");
    for command in commands {
        project.ag(command).exits(125).says("format file");
    }
    std::fs::write(&format, "agentguard-state 1\n").expect("restored");
    std::fs::set_permissions(project.state(), std::fs::Permissions::from_mode(0o777)).expect("mode");
    for command in commands {
        project.ag(command).exits(125).says("can be written by others");
    }
    if is_root() {
        std::fs::set_permissions(project.state(), std::fs::Permissions::from_mode(0o700)).expect("mode");
        std::os::unix::fs::chown(project.state(), Some(12345), None).expect("chown");
        for command in commands {
            project.ag(command).exits(125).says("belongs to uid 12345");
        }
    } else {
        skip("root", "only root gives files away");
    }
}

#[test]
fn an_ambiguous_or_unknown_reference_lists_candidates() {
    let project = Project::new();
    project.run(&["--out", "o"], "true").exits(0);
    project.run(&["--out", "o"], "true").exits(0);
    let records = project.records();
    let prefix = &records[0].run_id.to_string()[..6];
    let outcome = project.ag(&["show", prefix]).exits(125);
    for record in &records {
        assert!(outcome.stderr.contains(&record.run_id.to_string()), "{}", outcome.stderr);
    }
    project.ag(&["show", "ffffffff"]).exits(125).says(&records[1].run_id.to_string());
    project.ag(&["show", "../../etc/passwd"]).exits(125);
    project.ag(&["replay", "@-7"]).exits(125);
}

#[test]
fn a_snapshot_past_its_limit_is_refused_with_the_largest_directories_and_a_way_out() {
    let project = Project::new();
    for (dir, size) in [("big", 900_000), ("middle", 300_000), ("small", 10)] {
        project.write(&format!("data/{dir}/f"), vec![b'x'; size]);
    }
    let options = ["--out", "o", "--input", "data", "--snapshot-limit", "1MB"];
    project.run(&options, SPAWNED).exits(125).says("data/big").says("--exclude");
    assert!(!project.outside("spawned").exists());
    let with: Vec<&str> = options.iter().copied().chain(["--exclude", "data/big"]).collect();
    project.run(&with, "test ! -e $AGENTGUARD_INPUTS/data/big && test -e $AGENTGUARD_INPUTS/data/middle/f").exits(0);
}

//! `run --explain` says what a run would be, with the origin of every setting, and is none: nothing is started, nothing is
//! written, and what it says would come of the run comes of it.

use std::fs;
use std::path::Path;

use crate::project::{Outcome, Project, exact_state};
use crate::workspace_scene::{facilities, without_namespaces};

/// Everything below a directory, its own times included, and the names in it.
fn exact(top: &Path) -> Vec<String> {
    use std::os::unix::fs::MetadataExt as _;
    let metadata = fs::symlink_metadata(top).expect("there");
    let own = format!("{}.{} {}.{}", metadata.mtime(), metadata.mtime_nsec(), metadata.ctime(), metadata.ctime_nsec());
    let mut all = exact_state(top);
    all.push(own);
    all
}

/// Explains, and holds it to its promise that it leaves no trace.
#[track_caller]
fn explained(project: &Project, options: &[&str], environment: &[(&str, &str)], command: &[&str]) -> Outcome {
    let temporary = project.outside("tmp");
    fs::create_dir_all(&temporary).expect("a directory");
    let places = [project.path(), project.outside("")];
    let before: Vec<Vec<String>> = places.iter().map(|place| exact(place)).collect();
    let arguments: Vec<&str> = ["run", "--explain"].iter().chain(options).copied().collect();
    let mut run = project.command(&[&arguments[..], command].concat());
    run.envs(environment.iter().copied()).env("TMPDIR", &temporary);
    let outcome = Outcome::of(run.output().expect("the binary runs"));
    let after: Vec<Vec<String>> = places.iter().map(|place| exact(place)).collect();
    assert_eq!(before, after, "{}", outcome.text());
    outcome
}

/// The line that begins with a name, without it.
#[track_caller]
fn line(text: &str, section: &str, name: &str) -> String {
    let lines = text.lines().skip_while(|line| *line != section).skip(1).take_while(|line| line.starts_with("  "));
    let mut found = lines.filter_map(|line| line[2..].strip_prefix(name)?.strip_prefix(' '));
    found.next().unwrap_or_else(|| panic!("no {name} under {section}: {text}")).trim().to_owned()
}

const TOUCH: [&str; 4] = ["--", "sh", "-c", "touch $OUTSIDE/started; touch started"];

#[test]
fn nothing_is_made_whether_there_is_a_state_directory_or_not() {
    let project = Project::new();
    project.write("f", "f\n");
    project.write("inputs/a", "a\n");
    fs::create_dir(project.join("state-less")).expect("made");
    let record = project.outside("record.json");
    let options: [&[&str]; 7] = [
        &[],
        &["--out", "new/report", "--input", "inputs"],
        &["--passthrough", "fresh/cache", "--record", record.to_str().expect("UTF-8")],
        &["--view", "clone", "--needs", "nobody", "--breaker-self"],
        &["--isolation", "strict", "--no-network", "--hold"],
        &["--isolation", "none", "--retries", "2"],
        &["--state-dir", "elsewhere"],
    ];
    for options in options {
        explained(&project, options, &[], &TOUCH);
    }
    assert!(!project.state().exists());
    project.run(&["--quiet"], "echo new > f").exits(0);
    project.run(&["--quiet", "--agent", "fetch"], "exit 3").exits(3);
    for options in options {
        explained(&project, options, &[], &TOUCH);
    }
    assert_eq!(project.records().len(), 2);
    assert!(!project.outside("started").exists());
}

#[test]
fn every_setting_is_told_with_the_layer_that_it_comes_from() {
    let project = Project::new();
    let config = "[defaults]\nkill-after = \"9s\"\nverify = [\"true\", \"test -e x\"]\n[agents.a]\nretries = 2\ncommand = [\"sh\", \"-c\", \"exit 0\"]\n";
    project.write("agentguard.toml", config);
    let environment = [("AGENTGUARD_IDLE_TIMEOUT", "3m"), ("AGENTGUARD_STATE_DIR", "st")];
    let text = explained(&project, &["--agent", "a", "--timeout", "5m", "-v"], &environment, &[]).exits(0).text();
    let file = project.join("agentguard.toml");
    let of = |table: &str| format!("{} [{table}]", file.display());
    let told = |name: &str, value: &str, origin: &str| {
        let line = line(&text, "options", name);
        let rest = line.strip_prefix(value).unwrap_or_else(|| panic!("{name}: {line}"));
        assert_eq!(rest.trim(), origin, "{name}: {line}");
    };
    told("agent", "a", "flag");
    told("timeout", "5m", "flag");
    told("verbose", "true", "flag");
    told("idle-timeout", "3m", "environment AGENTGUARD_IDLE_TIMEOUT");
    told("state-dir", project.join("st").to_str().expect("UTF-8"), "environment AGENTGUARD_STATE_DIR");
    told("retries", "2", &of("agents.a"));
    told("kill-after", "9s", &of("defaults"));
    told("verify", "true 'test -e x'", &of("defaults"));
    told("snapshot-limit", "4GiB", "default");
    told("hold", "false", "default");
    told("max-output", "-", "default");
    told("workspace", project.path().to_str().expect("UTF-8"), "default");
    assert_eq!(line(&text, "run", "command"), format!("sh -c 'exit 0'  ({})", of("agents.a")));
    assert_eq!(line(&text, "attempts", "at most"), "3");
    assert!(text.ends_with("\nit would start; nothing was run\n"), "{text}");
    let typed = explained(&project, &["--quiet", "--state-dir", "st"], &[], &["--", "true"]).exits(0).text();
    assert!(line(&typed, "options", "state-dir").ends_with(" flag"), "{typed}");
    assert_eq!(line(&typed, "run", "command"), "true  (command line)");
    assert_eq!(line(&typed, "options", "agent").split_whitespace().collect::<Vec<_>>(), ["true", "default"]);
}

#[test]
fn the_view_that_is_told_is_the_one_that_the_run_has() {
    let project = Project::new();
    project.write("f", "f\n");
    let sets: [&[&str]; 5] =
        [&[], &["--view", "clone"], &["--isolation", "none"], &["--out", "o"], &["--isolation", "strict"]];
    for options in sets {
        let outcome = explained(&project, options, &[], &["--", "true"]);
        let text = outcome.text();
        let run = project.run(&[&["--quiet"], options].concat(), "true");
        assert_eq!(outcome.code, run.code, "{options:?}: {text}{}", run.stderr);
        if run.code != Some(0) {
            continue;
        }
        let isolation = project.last().isolation;
        let told = text.lines().find(|line| line.contains("the agent would have this one")).expect("a way");
        assert!(told.trim().starts_with(&isolation.view), "{options:?}: {} {text}", isolation.view);
        assert_eq!(line(&text, "view", "in force"), isolation.level, "{options:?}: {text}");
    }
    // Where no namespace can be had.
    let command = project.command(&["run", "--explain", "--", "true"]);
    if let Some(mut without) = without_namespaces(&command) {
        let text = Outcome::of(without.output().expect("runs")).exits(0).text();
        let command = project.command(&["run", "--quiet", "--", "true"]);
        let run = Outcome::of(without_namespaces(&command).expect("as before").output().expect("runs"));
        run.exits(0);
        let told = text.lines().find(|line| line.contains("the agent would have this one")).expect("a way");
        assert!(told.trim().starts_with("clone ") && told.contains("at another path"), "{text}");
        assert_eq!(line(&text, "view", "in force"), project.last().isolation.level, "{text}");
        assert_eq!(line(&text, "view", "processes"), "a subreaper; none outlives the run");
    }
    if facilities().overlay {
        let text = explained(&project, &[], &[], &["--", "true"]).text();
        assert!(line(&text, "view", "clone").ends_with("(not needed)"), "{text}");
    }
}

#[test]
fn the_snapshot_that_is_told_is_the_one_that_is_taken() {
    let project = Project::new();
    project.write("a", "12345");
    project.write("sub/b", "123");
    project.write("skip.log", "excluded");
    project.write("build/out", "ignored");
    project.write(".ignore", "build/\n");
    let options = ["--exclude", "*.log"];
    let text = explained(&project, &options, &[], &["--", "true"]).exits(0).text();
    // `.ignore` (7 bytes) and the configuration (none) are files of the workspace, too.
    assert_eq!(line(&text, "snapshot", "files"), "4, 15 B");
    assert_eq!(line(&text, "snapshot", "to read"), "15 B (limit 4.0 GiB)");
    assert!(line(&text, "snapshot", "excluded").starts_with("1 names"), "{text}");
    assert!(line(&text, "snapshot", "excluded").ends_with(": workspace/skip.log"), "{text}");
    assert!(line(&text, "snapshot", "ignored").ends_with(": workspace/build"), "{text}");
    project.run(&["--quiet", "--exclude", "*.log"], "true").exits(0);
    let manifest = project.ag(&["show", "@", "--manifest", "inputs"]).exits(0).text();
    assert_eq!(manifest.lines().count(), 4, "{manifest}");
    let out = ["--input", "a", "--input", "sub", "--out", "o"];
    let text = explained(&project, &out, &[], &["--", "true"]).exits(0).text();
    assert_eq!(line(&text, "snapshot", "files"), "2, 8 B");
    let none = explained(&project, &["--out", "o"], &[], &["--", "true"]).exits(0).text();
    assert!(line(&none, "snapshot", "inputs").starts_with("none are frozen"), "{none}");
    let limited = explained(&project, &["--snapshot-limit", "10", "--exclude", "x"], &[], &TOUCH).exits(125).text();
    assert!(limited.contains("it would end with 125: more than 10 B of new content\nhint: largest: "), "{limited}");
    let too_large = project.run(&["--snapshot-limit", "10", "--exclude", "x"], "true").exits(125);
    assert!(too_large.stderr.contains("more than 10 B of new content"), "{}", too_large.stderr);
}

#[test]
fn what_would_be_published_where_is_told() {
    let project = Project::new();
    project.write("old/f", "f");
    let options = ["--out", "old", "--out-file", "new/x.md", "--verify", "test -s x", "--expect", "*.md"];
    let options = [&options[..], &["--max-files", "3", "--retries", "3", "--backoff", "2s"]].concat();
    let text = explained(&project, &options, &[], &["--", "true"]).exits(0).text();
    assert!(text.contains("{staging}/old  (a directory stands there and would be replaced; writable)"), "{text}");
    assert!(text.contains("{staging}/x.md  (nothing stands there yet; writable)"), "{text}");
    assert_eq!(line(&text, "gate", "verify"), "test -s x");
    assert_eq!(line(&text, "gate", "expect"), "*.md");
    assert_eq!(line(&text, "gate", "files"), "at most 3");
    assert_eq!(line(&text, "attempts", "waits"), "up to 2s, 4s, 8s");
    let held = explained(&project, &["--hold", "--on-conflict", "hold"], &[], &["--", "true"]).exits(0).text();
    assert!(line(&held, "result", "published").starts_with("nothing yet: the result is held"), "{held}");
    assert!(line(&held, "result", "conflict").ends_with("the result is held"), "{held}");
}

#[test]
fn a_run_that_a_breaker_would_refuse_is_told_so_and_the_breaker_is_left_as_it_is() {
    let project = Project::new();
    for _ in 0..3 {
        project.run(&["--quiet", "--agent", "fetch"], "exit 7").exits(7);
    }
    project.run(&["--quiet", "--agent", "summarise"], "true").exits(0);
    let needs = ["--agent", "summarise", "--needs", "fetch"];
    let refused = explained(&project, &needs, &[], &TOUCH).exits(121).text();
    assert!(line(&refused, "breakers", "fetch").starts_with("needed: open, no probe before "), "{refused}");
    let words = "it would end with 121: fetch (needed by this run) is broken: it failed 3 times in a row, last ";
    assert!(refused.contains(words), "{refused}");
    let own = explained(&project, &["--agent", "fetch"], &[], &TOUCH).exits(0).text();
    assert!(line(&own, "breakers", "fetch").ends_with("it does not refuse its own runs"), "{own}");
    explained(&project, &["--agent", "fetch", "--breaker-self"], &[], &TOUCH).exits(121);
    explained(&project, &[&needs[..], &["--no-breaker"]].concat(), &[], &TOUCH).exits(0);
    // What is not there is looked up in the log, and still not made.
    fs::remove_dir_all(project.state().join("breakers")).expect("removed");
    explained(&project, &needs, &[], &TOUCH).exits(121);
    let typo = explained(&project, &["--needs", "fetsh"], &[], &TOUCH).exits(0).text();
    assert!(line(&typo, "breakers", "warning").contains("did you mean fetch?"), "{typo}");
    project.run(&["--quiet", "--agent", "summarise", "--needs", "fetch"], "true").exits(121);
}

#[test]
fn bad_input_is_refused_as_it_is_without_explain() {
    let project = Project::new();
    let sets: [&[&str]; 8] = [
        &["--timeout", "soon"],
        &["--stdin", "missing"],
        &["--out", "missing/../.agentguard/x"],
        &["--input", "nothing-here"],
        &["--passthrough", "agentguard.toml/below"],
        &["--allow-write", "missing"],
        &["--record", "no/such/directory"],
        &["--exclude", "["],
    ];
    for options in sets {
        let explained = explained(&project, options, &[], &["--", "true"]).exits(125);
        assert_eq!(explained.text(), "", "{options:?}");
        let run = project.run(options, "true").exits(125);
        assert_eq!(explained.stderr, run.stderr, "{options:?}");
        assert!(!project.state().exists(), "{options:?}");
    }
    let missing = explained(&project, &[], &[], &["--", "no-such-command-here"]).exits(127).text();
    assert!(missing.ends_with("it would end with 127: command not found: \"no-such-command-here\"\n"), "{missing}");
    project.write("plain", "no program\n");
    explained(&project, &[], &[], &["--", "./plain"]).exits(126);
}

#[test]
fn secrets_of_the_command_line_are_not_told() {
    let project = Project::new();
    let secret = "sk-abcdefghijklmnopqrstuvwxyz012345";
    let verify = format!("check --token={secret}");
    let command = ["--", "sh", "-c", "true", "--api-key", secret];
    let text = explained(&project, &["--verify", &verify], &[], &command).exits(0).text();
    assert!(!text.contains(secret) && text.contains("[redacted]"), "{text}");
}

//! Attempts after the first: each begins as if there had been none before, and the record has them all. Limits of time and
//! output, each with a name of its own.

use std::process::Stdio;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::project::{Outcome, Project, feed, wait_until};
use crate::workspace_scene::{Workspace, views};

const QUICK: [&str; 4] = ["--backoff", "20ms", "--out", "o"];

fn options<'a>(more: &[&'a str]) -> Vec<&'a str> {
    QUICK.iter().chain(more).copied().collect()
}

#[test]
fn a_failed_attempt_is_followed_by_others_until_one_succeeds() {
    let project = Project::new();
    let script = "echo out-$AGENTGUARD_ATTEMPT; echo $AGENTGUARD_ATTEMPT > $AGENTGUARD_STAGING/f; test $AGENTGUARD_ATTEMPT = 3 || exit 9";
    let outcome = project.run(&options(&["--retries", "5"]), script).exits(0).says("attempt 1 of 6 failed");
    assert_eq!(outcome.text(), "out-1\nout-2\nout-3\n");
    assert_eq!(project.read("o/f"), "3\n");
    let record = project.last();
    let codes: Vec<_> = record.attempts.iter().map(|attempt| attempt.exit_code).collect();
    assert_eq!((codes, record.exit_code), (vec![Some(9), Some(9), Some(0)], Some(0)));
    let classes: Vec<_> =
        record.attempts.iter().map(|attempt| attempt.error_class.map(|class| class.to_string())).collect();
    assert_eq!(classes, [Some("partial_write".to_owned()), Some("partial_write".to_owned()), None]);
    assert!(record.error.is_none() && record.published, "{record:?}");
    // What the earlier attempts said is kept beside what the last one said.
    let dir = project.state().join("runs").join(record.run_id.to_string());
    let said = |path: &str| std::fs::read_to_string(dir.join(path)).expect("kept");
    assert_eq!((said("attempts/1/stdout"), said("stdout")), ("out-1\n".to_owned(), "out-3\n".to_owned()));
    assert_eq!(project.leftovers(), Vec::<String>::new());
}

#[test]
fn the_last_failure_is_the_runs_and_nothing_is_tried_that_was_not_asked_for() {
    let project = Project::new();
    project.run(&options(&["--retries", "2"]), "exit $((10 + AGENTGUARD_ATTEMPT))").exits(13);
    assert_eq!(project.last().attempts.len(), 3);
    project.run(&["--out", "o"], "exit 9").exits(9);
    assert_eq!(project.last().attempts.len(), 1);
    // A command that is not there will not be there a second later.
    project.ag(&["run", "--retries", "3", "--out", "o", "--", "no-such-command-at-all"]).exits(127);
    assert_eq!(project.last().attempts.len(), 1);
    let named = ["run", "--retries", "1", "--backoff", "10ms", "--retry-on", "spawn_failed", "--out", "o", "--"];
    project.ag(&[&named[..], &["no-such-command-at-all"]].concat()).exits(127);
    assert_eq!(project.last().attempts.len(), 2);
    // The gate's verdict is a class of its own.
    let staged = "echo $AGENTGUARD_ATTEMPT > $AGENTGUARD_STAGING/f";
    let verify = ["--retries", "3", "--verify", "grep -q 2 $AGENTGUARD_RESULT/f"];
    project.run(&options(&verify), staged).exits(120);
    assert_eq!(project.last().attempts.len(), 1);
    project.run(&options(&[&verify[..], &["--retry-on", "silent_drift"]].concat()), staged).exits(0);
    assert_eq!((project.last().attempts.len(), project.read("o/f").as_str()), (2, "2\n"));
}

#[test]
fn every_attempt_begins_pristine() {
    for view in views() {
        let here = Workspace::new();
        here.write("a", "old\n");
        here.write("gone", "x\n");
        let script = "test \"$(cat a)\" = old || exit 40; test -e gone || exit 41; test ! -e new || exit 42; \
                      test -z \"$(ls -A $TMPDIR)\" || exit 43; \
                      echo changed > a; rm gone; touch new $TMPDIR/t; test $AGENTGUARD_ATTEMPT = 2 || exit 7";
        here.run(&["--view", view, "--retries", "1", "--backoff", "10ms"], script).exits(0);
        assert_eq!((here.read("a").as_str(), here.join("gone").exists()), ("changed\n", false), "{view}");
        let record = here.records().pop().expect("a record");
        assert_eq!(record.attempts.len(), 2, "{view}");
        assert_eq!(record.attempts[0].exit_code, Some(7), "{view}: {record:?}");
        assert_eq!(here.leftovers(), Vec::<String>::new(), "{view}");
    }
}

#[test]
fn frozen_inputs_are_the_same_for_every_attempt() {
    let project = Project::new();
    project.write("in", "frozen\n");
    let script = "cat $AGENTGUARD_INPUTS/in; chmod u+w $AGENTGUARD_INPUTS $AGENTGUARD_INPUTS/in 2>/dev/null; \
                  (echo spoilt > $AGENTGUARD_INPUTS/in) 2>/dev/null; exit 3";
    for isolation in ["auto", "none"] {
        let outcome = project.run(&options(&["--retries", "1", "--input", "in", "--isolation", isolation]), script);
        assert_eq!(outcome.exits(3).text(), "frozen\nfrozen\n", "{isolation}");
    }
}

#[test]
fn every_attempt_reads_the_same_standard_input() {
    let project = Project::new();
    // The first reads a part and closes it, the second takes all.
    let script = "if [ $AGENTGUARD_ATTEMPT = 1 ]; then head -c 5 >/dev/null; exit 1; fi; sha256sum | cut -c1-64";
    let input: Vec<u8> = (0..300_000_u32).flat_map(u32::to_le_bytes).collect();
    let expected = agentguard::model::Digest(<sha2::Sha256 as sha2::Digest>::digest(&input).into()).to_string();
    let arguments = [&["run"], &options(&["--retries", "1"])[..], &["--", "sh", "-c", script]].concat();
    let child = project.command(&arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let outcome = feed(child.expect("spawned"), &input).exits(0);
    assert_eq!(outcome.text().trim(), expected);
    // A file is read from where it stood.
    let path = project.write("file", &input);
    let mut command = project.command(&arguments);
    command.stdin(std::fs::File::open(path).expect("open"));
    let outcome = Outcome::of(command.output().expect("run")).exits(0);
    assert_eq!(outcome.text().trim(), expected);
}

#[test]
fn feedback_tells_the_next_attempt_why_the_last_one_failed() {
    let project = Project::new();
    let script = "echo to-stderr >&2; test -f \"$1\" || exit 50; if [ $AGENTGUARD_ATTEMPT = 1 ]; then \
                  test -z \"$AGENTGUARD_FEEDBACK$(cat $1)\" || exit 51; else cmp $1 $AGENTGUARD_FEEDBACK && cat $1; fi; \
                  echo $AGENTGUARD_ATTEMPT > $AGENTGUARD_STAGING/f";
    let verify = "cat $AGENTGUARD_RESULT/f; echo the judge says no; grep -q 2 $AGENTGUARD_RESULT/f";
    let mut arguments = vec!["run"];
    arguments.extend(options(&["--retries", "1", "--feedback", "--retry-on", "silent_drift", "--verify", verify]));
    arguments.extend(["--", "sh", "-c", script, "sh", "{feedback}"]);
    let outcome = project.ag(&arguments).exits(0);
    let told = outcome.text();
    for words in ["attempt 1 failed", "verify_failed", "the judge says no", "exit code 1", "to-stderr"] {
        assert!(told.contains(words), "{words}: {told}");
    }
}

#[test]
fn waiting_for_the_next_attempt_is_interruptible_and_counts_for_the_deadline() {
    let project = Project::new();
    let mut child = project.spawn(&["--out", "o", "--retries", "3", "--backoff", "1h"], "touch $OUTSIDE/ran; exit 1");
    wait_until("the attempt has run", || project.outside("ran").exists());
    // The wait is up to an hour; a short one would have to be luck.
    std::thread::sleep(Duration::from_millis(600));
    let begun = Instant::now();
    kill_process(Pid::from_child(&child), Signal::TERM).expect("sent");
    let status = child.wait().expect("waited");
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    assert_eq!((status.code(), project.last().status.to_string().as_str()), (Some(143), "cancelled"));
    let begun = Instant::now();
    let limits =
        ["--out", "o", "--retries", "1000", "--backoff", "50ms", "--backoff-max", "50ms", "--deadline", "700ms"];
    let outcome = project.run(&limits, "exit 5");
    // It comes between two attempts, or in one.
    assert!(matches!(outcome.code, Some(5 | 124)), "{outcome:?}");
    assert!(begun.elapsed() < Duration::from_secs(3) && project.last().attempts.len() > 2, "{:?}", project.last());
}

#[test]
fn each_limit_of_time_has_its_name() {
    let project = Project::new();
    let kind = || project.last().error.expect("an error").kind.to_string();
    project.run(&["--out", "o", "--timeout", "200ms"], "sleep 30").exits(124);
    assert_eq!(kind(), "timeout");
    project.run(&["--out", "o", "--deadline", "200ms", "--retries", "3"], "sleep 30").exits(124);
    assert_eq!((kind().as_str(), project.last().attempts.len()), ("deadline", 1));
    project.run(&["--out", "o", "--idle-timeout", "300ms"], "echo begun; sleep 30").exits(124).says("did nothing");
    assert_eq!(kind(), "idle_timeout");
    // Printing, staging and computing is doing something.
    let busy = "for i in 1 2 3 4 5 6; do sleep 0.15; echo $i; done; for i in 1 2 3 4 5 6; do sleep 0.15; echo $i > $AGENTGUARD_STAGING/$i; done; \
                timeout 1 sh -c 'while :; do :; done'; exit 0";
    project.run(&["--out", "o", "--idle-timeout", "450ms"], busy).exits(0);
    let verify = ["--out", "o", "--deadline", "300ms", "--verify", "sleep 30"];
    project.run(&verify, "echo x > $AGENTGUARD_STAGING/f").exits(124);
    assert_eq!(kind(), "deadline");
}

#[test]
fn an_agent_that_prints_or_stages_without_end_is_stopped() {
    let project = Project::new();
    let begun = Instant::now();
    let outcome = project.run(&["--out", "o", "--max-output", "100kB", "--kill-after", "1s"], "yes").exits(123);
    assert!((100_000..1_000_000).contains(&outcome.stdout.len()), "{}", outcome.stdout.len());
    assert_eq!(project.last().error.expect("an error").kind.to_string(), "output_limit");
    let flood = "i=0; while :; do i=$((i+1)); echo x > $AGENTGUARD_STAGING/$i; done";
    project.run(&["--out", "o", "--max-files", "20", "--kill-after", "1s"], flood).exits(120);
    let record = project.last();
    assert_eq!((record.error.expect("an error").kind.to_string().as_str(), record.published), ("limit", false));
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
}

#[test]
fn limits_that_make_no_sense_are_refused_in_words() {
    let project = Project::new();
    let refused = |arguments: &[&str], words: &str| {
        project.run(&[&["--out", "o"], arguments].concat(), "true").exits(125).says(words);
    };
    refused(&["--timeout", "0s"], "would stop everything at once");
    refused(&["--deadline=-5s"], "is no duration");
    refused(&["--retries", "many"], "is no number");
    refused(&["--backoff", "5s"], "--retries N");
    refused(&["--feedback"], "--retries N");
    refused(&["--retries", "2", "--retry-on", "silent-drift"], "silent_drift");
    refused(&["--retries", "2", "--retry-on", "cancelled"], "nothing to try again after");
    assert!(!project.state().join("runs.jsonl").exists(), "no run was made");
}

#[test]
fn standard_input_is_what_was_asked_for() {
    let project = Project::new();
    project.write("file", "from a file\n");
    let with = |options: &[&str], given: &[u8]| {
        let arguments = [&["run", "--out", "o"], options, &["--", "sh", "-c", "cat"]].concat();
        let mut command = project.command(&arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        feed(command.spawn().expect("spawned"), given)
    };
    assert_eq!(with(&["--stdin", "inherit"], b"piped").exits(0).text(), "piped");
    assert_eq!(with(&["--stdin", "null"], b"piped").exits(0).text(), "");
    assert_eq!(with(&["--stdin", "file"], b"piped").exits(0).text(), "from a file\n");
    let run = project.last().run_id.to_string();
    project.write("file", "changed since\n");
    assert_eq!(project.ag(&["replay", &run]).exits(0).text(), "from a file\n", "a replay has what the run had");
    with(&["--stdin", "missing"], b"").exits(125).says("--stdin: cannot read");
    with(&["--stdin", "."], b"").exits(125).says("no regular file");
}

#[test]
fn an_agent_that_waits_for_a_pipe_that_nobody_closes_is_told_of_after_ten_seconds() {
    let project = Project::new();
    let mut child = project
        .command(&["run", "--out", "o", "--timeout", "12s", "--", "sh", "-c", "read line"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("spawned");
    let held_open = child.stdin.take();
    let outcome = Outcome::of(child.wait_with_output().expect("waited"));
    drop(held_open);
    outcome.exits(124).says("seems to wait for standard input");
}

#[test]
fn niceness_and_limits_of_the_kernel_hold_for_all_that_the_agent_starts() {
    let project = Project::new();
    let script = "sh -c 'nice; ulimit -v; grep processes /proc/self/limits'";
    let options = ["--out", "o", "--nice", "3", "--memory", "2GiB", "--pids", "500"];
    let nice = rustix::process::getpriority_process(None).expect("niceness");
    let outcome = project.run(&options, script).exits(0);
    let told: Vec<String> = outcome.text().lines().map(str::to_owned).collect();
    assert_eq!(told[..2], [(nice + 3).to_string(), (2 << 20).to_string()]);
    assert!(told[2].contains(" 500 "), "{told:?}");
    project.run(&["--out", "o", "--nice", "40"], "true").exits(125).says("none of 1 to 19");
}

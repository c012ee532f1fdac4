//! Promise 1: failure never lands. Non-zero exit, signal, timeout, failed or missing verify, limits: the target is
//! what it was, in content, mode, times and inodes, whether it existed or not.

use crate::project::{Project, exact_state, skip, wait_until};
use crate::workspace_scene::facilities;

/// Every way to fail after writing something: options, script, expected exit code.
const FAILURES: [(&[&str], &str, i32); 12] = [
    (&[], "echo half > $AGENTGUARD_STAGING/a; exit 7", 7),
    (&[], "echo half > $AGENTGUARD_STAGING/a; kill -9 $$", 137),
    (&[], "echo half > $AGENTGUARD_STAGING/a; kill -TERM $$", 143),
    (&["--timeout", "200ms", "--kill-after", "1s"], "echo half > $AGENTGUARD_STAGING/a; sleep 60", 124),
    (
        &["--timeout", "200ms", "--kill-after", "200ms"],
        "trap '' TERM INT; echo half > $AGENTGUARD_STAGING/a; while :; do sleep 1; done",
        124,
    ),
    (&["--verify", "false"], "echo wrong > $AGENTGUARD_STAGING/a", 120),
    (&["--verify", "no-such-command-here"], "echo a > $AGENTGUARD_STAGING/a", 120),
    (
        &["--verify", "sleep 60", "--verify-timeout", "200ms", "--kill-after", "1s"],
        "echo a > $AGENTGUARD_STAGING/a",
        120,
    ),
    (&["--verify", "true", "--verify", "kill -9 $$"], "echo a > $AGENTGUARD_STAGING/a", 120),
    (&["--expect", "b"], "echo a > $AGENTGUARD_STAGING/a", 120),
    (&["--max-files", "1"], "echo a > $AGENTGUARD_STAGING/a; echo b > $AGENTGUARD_STAGING/b", 120),
    (&["--max-bytes", "3"], "echo long > $AGENTGUARD_STAGING/a", 120),
];

fn target(project: &Project) {
    project.write("report/a", "old a\n");
    project.write("report/sub/b", "old b\n");
    std::os::unix::fs::symlink("sub/b", project.join("report/link")).expect("link");
    std::fs::hard_link(project.join("report/a"), project.join("report/hard")).expect("hard link");
}

#[test]
fn a_failed_run_leaves_an_existing_target_identical() {
    let project = Project::new();
    target(&project);
    let before = exact_state(&project.join("report"));
    for (options, script, code) in FAILURES {
        let options: Vec<&str> = ["--out", "report"].iter().chain(options).copied().collect();
        project.run(&options, script).exits(code);
        assert_eq!(exact_state(&project.join("report")), before, "{script}");
        let record = project.last();
        assert!(!record.published && record.error.is_some() && record.error_class.is_some(), "{record:?}");
        assert_eq!(record.guard_exit_code, Some(code));
    }
    assert_eq!(project.records().len(), FAILURES.len());
    assert_eq!(project.leftovers(), Vec::<String>::new());
}

#[test]
fn a_failed_run_leaves_no_target_where_there_was_none() {
    let project = Project::new();
    for (options, script, code) in FAILURES {
        let options: Vec<&str> = ["--out", "deep/report"].iter().chain(options).copied().collect();
        project.run(&options, script).exits(code);
        assert_eq!(project.visible_names(), Vec::<String>::new(), "{script}");
    }
}

#[test]
fn failures_have_the_class_and_kind_of_the_contract() {
    let project = Project::new();
    let classed = |options: &[&str], script: &str| {
        let options: Vec<&str> = ["--out", "report"].iter().chain(options).copied().collect();
        project.run(&options, script);
        let record = project.last();
        let error = record.error.expect("an error");
        (record.status.to_string(), record.error_class.expect("a class").to_string(), error.kind.to_string())
    };
    let expected = |status: &str, class: &str, kind: &str| (status.to_owned(), class.to_owned(), kind.to_owned());
    assert_eq!(classed(&[], "exit 3"), expected("failed", "clean_abort", "exit_code"));
    assert_eq!(
        classed(&[], "echo x > $AGENTGUARD_STAGING/x; exit 3"),
        expected("failed", "partial_write", "exit_code")
    );
    assert_eq!(classed(&[], "kill -9 $$"), expected("failed", "clean_abort", "signal"));
    assert_eq!(classed(&["--timeout", "100ms"], "sleep 9"), expected("failed", "clean_abort", "timeout"));
    let writes = "echo x > $AGENTGUARD_STAGING/x";
    assert_eq!(classed(&["--verify", "false"], writes), expected("rejected", "silent_drift", "verify_failed"));
    assert_eq!(classed(&["--verify", "nonesuch"], writes), expected("rejected", "publish_failed", "verify_unrunnable"));
    assert_eq!(classed(&["--expect", "y"], writes), expected("rejected", "silent_drift", "expectation"));
    assert_eq!(classed(&["--max-bytes", "1"], writes), expected("rejected", "silent_drift", "limit"));
}

#[test]
fn sockets_devices_and_setuid_files_are_refused_and_hang_nothing() {
    let project = Project::new();
    let socket =
        "python3 -c 'import socket,os; socket.socket(socket.AF_UNIX).bind(os.environ[\"AGENTGUARD_STAGING\"]+\"/s\")'";
    project.run(&["--out", "report"], socket).exits(120).says("socket");
    project
        .run(&["--out", "report"], "echo x > $AGENTGUARD_STAGING/x; chmod 4755 $AGENTGUARD_STAGING/x")
        .exits(120)
        .says("setuid");
    project
        .run(&["--out", "report", "--verify", "true"], "mkfifo $AGENTGUARD_STAGING/p; echo x > $AGENTGUARD_STAGING/x")
        .exits(0);
    assert!(std::os::unix::fs::FileTypeExt::is_fifo(
        &project.join("report/p").symlink_metadata().expect("fifo").file_type()
    ));
}

#[test]
fn a_staging_directory_that_was_replaced_is_not_published() {
    let project = Project::new();
    project.write("victim/secret", "secret");
    let script = "rmdir $AGENTGUARD_STAGING && ln -s $PWD/victim $AGENTGUARD_STAGING";
    project.run(&["--isolation", "none", "--out", "report"], script).exits(125);
    assert_eq!(project.last().error.expect("an error").kind.to_string(), "tampered");
    assert!(!project.join("report").exists() && project.read("victim/secret") == "secret");
}

#[test]
fn a_staging_directory_cannot_be_replaced_in_a_view() {
    if !facilities().overlay {
        return skip("overlay", "no view of publish mode can be had");
    }
    let project = Project::new();
    project.write("victim/secret", "secret");
    let script = "S=$AGENTGUARD_STAGING; rmdir $S && exit 91; mv $S $S.x && exit 92; umount -l $S && exit 93; \
                  ln -s $PWD/victim $S.y; mv -T $S.y $S && exit 94; mount --bind victim $S && exit 95; \
                  test ! -L $S && echo mine > $S/a";
    project.run(&["--out", "report"], script).exits(0);
    let names: Vec<_> = std::fs::read_dir(project.join("report")).expect("published").flatten().collect();
    assert_eq!((names.len(), project.read("report/a")), (1, "mine\n".to_owned()));
    assert_eq!(project.read("victim/secret"), "secret");
}

#[test]
fn a_cancelled_run_is_recorded_and_lands_nothing() {
    for (signal, number) in [("INT", 2), ("TERM", 15), ("HUP", 1)] {
        let project = Project::new();
        project.write("report/a", "old");
        let before = exact_state(&project.join("report"));
        let script = "echo half > $AGENTGUARD_STAGING/a; touch $OUTSIDE/started; sleep 60";
        let child = project.spawn(&["--out", "report", "--kill-after", "1s"], script);
        wait_until("the agent has started", || project.outside("started").exists());
        std::process::Command::new("kill").args([format!("-{signal}"), child.id().to_string()]).status().expect("kill");
        let outcome = crate::project::Outcome::of(child.wait_with_output().expect("waited"));
        outcome.exits(128 + number);
        let record = project.last();
        assert_eq!(record.status.to_string(), "cancelled");
        assert_eq!(record.error_class.expect("a class").to_string(), "partial_write");
        assert_eq!(exact_state(&project.join("report")), before);
        assert_eq!(project.leftovers(), Vec::<String>::new());
    }
}

#[test]
fn a_second_signal_does_not_wait_for_the_grace() {
    let project = Project::new();
    let script = "trap '' TERM INT; touch $OUTSIDE/started; while :; do sleep 0.1; done";
    let child = project.spawn(&["--out", "report", "--kill-after", "1h"], script);
    wait_until("the agent has started", || project.outside("started").exists());
    let kill = || std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status().expect("kill");
    kill();
    let journal = || {
        let runs = std::fs::read_dir(project.state().join("runs")).expect("runs");
        runs.flatten().map(|run| run.path().join("journal")).next().expect("a run")
    };
    assert!(journal().exists());
    // The first signal is handled before a second can be told from it: signals do not queue.
    wait_until("the second signal ends it", || {
        kill();
        !crate::project::is_alive(&child.id().to_string())
    });
    crate::project::Outcome::of(child.wait_with_output().expect("waited")).exits(130);
}

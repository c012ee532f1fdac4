//! Workspace mode, the promises: an agent that works in place and fails leaves everything as it was; one that is
//! accepted lands whole, with what was verified and nothing else; the record says what happened.

use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use sha2::Digest as _;

use crate::project::{Outcome, wait_until};
use crate::workspace_scene::{MEET, Workspace, facilities, is_running, views};

/// An agent that edits, creates, deletes, renames, retypes and chmods.
const CHANGES: &str = "echo new >> edited; echo x > created; mkdir -p new/empty; rm gone; rm -r dir; mkdir dir; echo y > dir/other; \
    chmod 600 mode; mv from to; rm link; echo z > link; ln -s edited fresh-link; rm -r tree; chmod 700 kept";

/// Ways to fail after all of that: options, the rest of the script, the exit code, class and kind.
const FAILURES: [(&[&str], &str, i32, &str, &str); 15] = [
    (&[], "exit 7", 7, "partial_write", "exit_code"),
    (&[], "kill -9 $$", 137, "partial_write", "signal"),
    (&[], "kill -TERM $$", 143, "partial_write", "signal"),
    (&["--timeout", "300ms", "--kill-after", "1s"], "sleep 60", 124, "partial_write", "timeout"),
    (
        &["--timeout", "300ms", "--kill-after", "200ms"],
        "trap '' TERM INT; while :; do sleep 1; done",
        124,
        "partial_write",
        "timeout",
    ),
    (&["--verify", "false"], "true", 120, "silent_drift", "verify_failed"),
    (&["--verify", "no-such-command-here"], "true", 120, "publish_failed", "verify_unrunnable"),
    (
        &["--verify", "sleep 60", "--verify-timeout", "200ms", "--kill-after", "1s"],
        "true",
        120,
        "publish_failed",
        "verify_timeout",
    ),
    (&["--verify", "true", "--verify", "kill -9 $$"], "true", 120, "silent_drift", "verify_failed"),
    (&["--expect", "report.md"], ": > report.md", 120, "silent_drift", "expectation"),
    (&["--max-files", "2"], "true", 120, "silent_drift", "limit"),
    (&["--max-bytes", "10"], "true", 120, "silent_drift", "limit"),
    (&["--protect", "edited"], "true", 120, "silent_drift", "protected_path"),
    (&[], "echo x > .envrc", 120, "silent_drift", "protected_path"),
    (&[], "echo x > su; chmod 4755 su", 120, "silent_drift", "expectation"),
];

fn scene() -> Workspace {
    let here = Workspace::new();
    for name in ["edited", "gone", "mode", "from", "dir/inner", "tree/a/b", "kept/f", "untouched"] {
        here.write(name, format!("{name}\n"));
    }
    symlink("edited", here.join("link")).expect("link");
    std::fs::hard_link(here.join("kept/f"), here.join("hard")).expect("hard link");
    here
}

#[test]
fn an_agent_that_works_in_place_and_fails_leaves_the_tree_identical() {
    for view in views() {
        let here = scene();
        let before = here.exact();
        for (options, end, code, class, kind) in FAILURES {
            let options: Vec<&str> = ["--view", view].iter().chain(options).copied().collect();
            here.run(&options, &format!("{CHANGES}; {end}")).exits(code);
            assert_eq!(here.exact(), before, "{view}: {end} {options:?}");
            let record = here.last();
            let error = record.error.clone().expect("an error");
            assert_eq!((&*error.kind.to_string(), record.published), (kind, false), "{view}: {end}: {error:?}");
            assert_eq!(record.error_class.expect("a class").to_string(), class, "{view}: {end}");
            assert_eq!(record.guard_exit_code, Some(code));
            assert!(record.changes.is_none() && (record.output_hash.is_some() || code != 120), "{view}: {record:?}");
        }
        assert_eq!(here.records().len(), FAILURES.len());
        assert_eq!(here.leftovers(), Vec::<String>::new());
        here.ag(&["fsck"]).exits(0);
    }
}

#[test]
fn an_agent_that_fails_before_it_writes_is_a_clean_abort() {
    for view in views() {
        let here = scene();
        here.run(&["--view", view], "cat edited; exit 3").exits(3);
        assert_eq!(here.last().error_class.expect("a class").to_string(), "clean_abort", "{view}");
        here.ag(&["run", "--view", view, "--", "no-such-command-here"]).exits(127);
        assert_eq!(here.last().error_class.expect("a class").to_string(), "clean_abort", "{view}");
        here.write("script", "not executable");
        here.ag(&["run", "--view", view, "--", "./script"]).exits(126);
    }
}

#[test]
fn a_cancelled_agent_lands_nothing() {
    for view in views() {
        for (signal, number) in [("INT", 2), ("TERM", 15), ("HUP", 1)] {
            let here = scene();
            let before = here.exact();
            let running =
                here.start(&["--view", view, "--kill-after", "1s"], &format!("{CHANGES}; touch $OUT/up; sleep 60"));
            wait_until("the agent has written", || here.out("up").exists());
            running.signal(signal);
            running.outcome().exits(128 + number);
            let record = here.last();
            assert_eq!(record.status.to_string(), "cancelled");
            assert_eq!(record.error_class.expect("a class").to_string(), "partial_write");
            assert_eq!(here.exact(), before, "{view}");
            assert_eq!(here.leftovers(), Vec::<String>::new());
        }
    }
}

#[test]
fn an_accepted_result_is_what_the_same_script_does_without_agentguard() {
    for view in views() {
        let (here, bare) = (scene(), scene());
        bare.by_hand(CHANGES);
        here.run(&["--view", view], CHANGES).exits(0);
        assert_eq!(here.content(), bare.content(), "{view}");
        let links = here.join("hard").metadata().expect("stat");
        assert_eq!(links.ino(), here.join("kept/f").metadata().expect("stat").ino(), "{view}: untouched links stay");
    }
}

#[test]
fn the_record_counts_and_hashes_what_changed() {
    for view in views() {
        let here = Workspace::new();
        here.write("a", "old\n");
        here.write("d/gone", "x");
        here.write("m", "m");
        std::fs::set_permissions(here.join("m"), std::fs::Permissions::from_mode(0o644)).expect("mode");
        let script = "printf new > a; chmod 640 a; rm d/gone; mkdir n; printf 12345 > n/f; chmod 600 n/f; chmod 700 n; ln -s a l; chmod 755 m";
        here.run(&["--view", view], script).exits(0);
        let record = here.last();
        assert_eq!((&*record.status.to_string(), record.published, record.exit_code), ("succeeded", true, Some(0)));
        assert_eq!((record.error.is_none(), record.error_class), (true, None));
        assert_eq!(serde_json::to_value(record.mode).expect("JSON"), "workspace");
        assert_eq!(record.targets, [".".into()]);
        assert_eq!(record.isolation.view, view);
        assert_eq!((&*record.isolation.level, &*record.isolation.network), ("auto", "host"));
        let changes = record.changes.expect("changes");
        assert_eq!((changes.created, changes.modified, changes.deleted, changes.bytes), (3, 2, 1, 9), "{view}");
        let hash =
            |bytes: &[u8]| sha2::Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let mut expected = Vec::new();
        for (mode, kind, content, name) in [
            ("0640", 'f', "new", "a"),
            ("0000", '-', "", "d/gone"),
            ("0777", 'l', "a", "l"),
            ("0755", 'f', "m", "m"),
            ("0700", 'd', "", "n"),
            ("0600", 'f', "12345", "n/f"),
        ] {
            let line = format!("{mode} {kind} {} {}\t{name}\0", hash(content.as_bytes()), content.len());
            expected.extend_from_slice(line.as_bytes());
        }
        let listing = here.ag(&["show", "@", "--manifest", "outputs", "--listing"]).exits(0).stdout;
        assert_eq!(String::from_utf8_lossy(&listing), String::from_utf8_lossy(&expected), "{view}");
        assert_eq!(record.output_hash.expect("a hash").to_string(), hash(&listing), "{view}");
        let inputs = here.ag(&["show", "@", "--manifest", "inputs", "--listing"]).exits(0).stdout;
        assert_eq!(record.input_hash.expect("a hash").to_string(), hash(&inputs), "{view}");
    }
}

#[test]
fn a_named_workspace_is_staged_and_named_and_the_rest_is_live() {
    for view in views() {
        let here = Workspace::new();
        here.write("sub/f", "old\n");
        here.write("beside", "old\n");
        here.run(&["--view", view, "--workspace", "sub"], "cd $OUT; echo live > f").exits(0);
        assert!(!here.last().published && here.read_out("f") == "live\n");
        if !facilities().same_path {
            continue;
        }
        here.run(&["--view", view, "--workspace", "sub"], "echo new > sub/f; echo new > beside").exits(0);
        assert_eq!((here.read("sub/f"), here.read("beside")), ("new\n".into(), "new\n".into()));
        assert_eq!(here.last().targets, ["sub".into()]);
        assert_eq!(here.last().changes.expect("changes").modified, 1, "{view}: only the workspace counts");
    }
}

#[test]
fn a_run_that_changes_nothing_succeeds_and_touches_nothing() {
    let idle = [
        "true",
        "cat edited > t; cat t > edited; rm t",
        "touch edited; touch -d @5 gone",
        "chmod 600 edited; chmod --reference=gone edited",
        "mkdir x; rmdir x; mv from to; mv to from",
        "cp -p edited t; mv t edited",
        "rm link; ln -s edited link",
    ];
    for view in views() {
        let here = scene();
        here.by_hand("chmod 644 edited gone");
        let before = here.exact();
        for script in idle {
            here.run(&["--view", view, "--verify", "test -e edited"], script).exits(0);
            assert_eq!(here.exact(), before, "{view}: {script}");
            let record = here.last();
            assert_eq!((&*record.status.to_string(), record.published), ("succeeded", false), "{view}: {script}");
            assert_eq!((record.output_hash, record.error_class), (None, None), "{view}: {script}");
        }
    }
}

#[test]
fn changed_files_keep_the_time_the_agent_gave_them() {
    for view in views() {
        let here = scene();
        here.run(
            &["--view", view],
            "echo x >> edited; touch -d @1000000000 edited; echo y > n; touch -d @1234567890.5 n",
        )
        .exits(0);
        let time = |name: &str| here.join(name).metadata().map(|stat| (stat.mtime(), stat.mtime_nsec())).expect("stat");
        assert_eq!((time("edited"), time("n")), ((1_000_000_000, 0), (1_234_567_890, 500_000_000)), "{view}");
    }
}

#[test]
fn a_daemon_that_outlives_the_agent_changes_nothing() {
    for view in views() {
        let here = scene();
        let mark = here.out("go").to_str().expect("UTF-8").to_owned();
        let daemon = format!(
            "while [ ! -e {mark} ]; do sleep 0.01; done; echo late >> edited; echo late > late; touch $OUT/tried"
        );
        let script = format!(
            "setsid sh -c 'touch $OUT/daemon; {daemon}' > /dev/null 2>&1 < /dev/null & while [ ! -e $OUT/daemon ]; do sleep 0.01; done; \
                              echo new > created"
        );
        here.run(&["--view", view], &script).exits(0);
        std::fs::write(&mark, "").expect("let go");
        wait_until("it has tried or is dead", || here.out("tried").exists() || !is_running(&mark));
        assert_eq!((here.read("edited"), here.read("created")), ("edited\n".into(), "new\n".into()), "{view}");
        assert!(!here.join("late").exists(), "{view}");
        wait_until("it is gone", || !is_running(&mark));
    }
}

#[test]
fn inputs_that_change_under_the_run_are_counted_and_may_fail_it() {
    for view in views() {
        let here = scene();
        let script = format!("echo new > created; {MEET}");
        let edit = |here: &Workspace| {
            here.write("untouched", "by somebody else\n");
            here.write("appeared", "x");
        };
        here.meanwhile(&["--view", view], &script, edit).exits(0);
        let drift = here.last().input_drift.expect("observed");
        let names: Vec<String> = drift.paths.iter().map(|path| path.to_string_lossy().into_owned()).collect();
        assert_eq!((drift.count, names), (2, vec!["appeared".to_owned(), "untouched".to_owned()]), "{view}");
        assert_eq!(here.read("untouched"), "by somebody else\n");
        here.run(&["--view", view], "echo quiet > created").exits(0);
        assert_eq!(here.last().input_drift.expect("observed").count, 0, "{view}: nothing drifts by itself");
        let before = here.read("created");
        let outcome =
            here.meanwhile(&["--view", view, "--on-drift", "fail"], &format!("echo newer > created; {MEET}"), |here| {
                here.write("untouched", "again\n");
            });
        let outcome: Outcome = outcome.says("untouched");
        assert!(!matches!(outcome.code, None | Some(0)), "{view}: {outcome:?}");
        assert_eq!((here.read("created"), here.last().published), (before, false), "{view}");
    }
}

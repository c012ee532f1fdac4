//! agentguard inside agentguard: an agent prefixes its own agents with `agentguard run --`. What the inner run publishes
//! lands in the outer run's view, and with it or not at all; its record is found in the outer log.

use crate::project::binary;
use crate::workspace_scene::{Workspace, facilities, views};

/// The binary in a shell script.
fn ag() -> String {
    format!("'{}'", binary().display())
}

fn scene() -> Workspace {
    let here = Workspace::new();
    here.write("a", "old\n");
    here.write("b", "old\n");
    here
}

#[test]
fn an_inner_run_commits_into_the_outer_view_and_lands_with_it() {
    for view in views() {
        let here = scene();
        let ag = ag();
        let script = format!(
            "echo outer > a; {ag} run --agent inner -- sh -c 'test \"$(cat a)\" = outer && echo inner > b && rm a' || exit 8; \
             test ! -e a || exit 9; cat b > c"
        );
        here.run(&["--view", view, "--agent", "outer"], &script).exits(0);
        assert_eq!(
            (here.read("b"), here.read("c"), here.join("a").exists()),
            ("inner\n".into(), "inner\n".into(), false),
            "{view}"
        );
        let names = here.visible_names();
        assert_eq!(names, ["b", "c"], "{view}: nothing of the inner state lands");
        let records = here.records();
        assert_eq!(records.len(), 2, "{view}: {records:?}");
        let of = |agent: &str| records.iter().find(|one| one.agent.to_string_lossy() == agent).expect("a record");
        assert_eq!(of("inner").parent_run_id, Some(of("outer").run_id), "{view}");
        assert_eq!((of("outer").parent_run_id, of("inner").published, of("outer").published), (None, true, true));
        assert_eq!(of("outer").changes.expect("changes").deleted, 1);
        here.ag(&["show", &of("inner").run_id.to_string()]).exits(0);
        let shown = here.ag(&["show", &of("outer").run_id.to_string()]).exits(0).text();
        let line = format!("  {}  inner  succeeded", of("inner").run_id.short());
        assert!(shown.contains("runs inside") && shown.contains(&line), "{view}: {shown}");
        here.ag(&["fsck"]).exits(0);
        assert_eq!(here.leftovers(), Vec::<String>::new(), "{view}");
    }
}

#[test]
fn directories_are_renamed_in_an_inner_view_too() {
    let here = scene();
    here.write("dir/file", "x\n");
    let rename = "import os; os.rename('dir', 'moved'); os.mkdir('dir')";
    let script = format!("{} run -- python3 -c \"{rename}\" || exit 8; test -e moved/file", ag());
    here.run(&[], &script).exits(0);
    assert_eq!(here.read("moved/file"), "x\n");
}

#[test]
fn an_inner_run_that_fails_touches_nothing_and_the_outer_goes_on() {
    for view in views() {
        let here = scene();
        let ag = ag();
        let script = format!(
            "{ag} run --agent inner -- sh -c 'echo bad > a; rm b; exit 5'; test $? = 5 || exit 8; test \"$(cat a b)\" = \"$(printf 'old\\nold')\" || exit 9; \
             {ag} run --agent judged --verify false -- sh -c 'echo bad > a'; test $? = 120 || exit 10; echo outer > b"
        );
        here.run(&["--view", view, "--agent", "outer"], &script).exits(0);
        assert_eq!((here.read("a"), here.read("b")), ("old\n".into(), "outer\n".into()), "{view}");
        let records = here.records();
        let status = |agent: &str| {
            let record = records.iter().find(|one| one.agent.to_string_lossy() == agent).expect("a record");
            record.status.to_string()
        };
        assert_eq!(
            (&*status("inner"), &*status("judged"), &*status("outer")),
            ("failed", "rejected", "succeeded"),
            "{view}"
        );
    }
}

#[test]
fn an_outer_run_that_fails_drops_what_inner_runs_have_published() {
    for view in views() {
        let here = scene();
        let before = here.exact();
        let ag = ag();
        let script = format!("{ag} run --agent inner -- sh -c 'echo inner > a; rm b' || exit 8; test ! -e b && exit 7");
        here.run(&["--view", view, "--agent", "outer"], &script).exits(7);
        assert_eq!(here.exact(), before, "{view}");
        let records = here.records();
        assert_eq!(records.len(), 2, "{view}: every run is in the log exactly once");
        assert!(
            records.iter().any(|one| one.agent.to_string_lossy() == "inner" && one.parent_run_id.is_some()),
            "{view}"
        );
        here.ag(&["fsck"]).exits(0);
    }
}

#[test]
fn publish_mode_nests_in_a_workspace_and_a_workspace_in_publish_mode() {
    for view in views() {
        let here = scene();
        let ag = ag();
        let inner = format!(
            "{ag} run --agent inner --out report -- sh -c 'echo r > $AGENTGUARD_STAGING/r' || exit 8; test -e report/r || exit 9"
        );
        here.run(&["--view", view, "--agent", "outer"], &format!("{inner}; echo outer > a; exit 6")).exits(6);
        assert!(!here.join("report").exists() && here.read("a") == "old\n", "{view}");
        here.run(&["--view", view, "--agent", "outer"], &format!("{inner}; echo outer > a")).exits(0);
        assert_eq!((here.read("report/r"), here.read("a")), ("r\n".into(), "outer\n".into()), "{view}");
        assert_eq!(here.records().len(), 4, "{view}");
        if !facilities().same_path {
            // Publish mode has no throwaway layer here.
            continue;
        }
        // The other way round: the inner workspace is the outer's throwaway layer.
        let script =
            format!("{ag} run --agent inner -- sh -c 'echo inner > b' || exit 8; cp b $AGENTGUARD_STAGING/copy");
        here.run(&["--view", view, "--agent", "outer", "--out", "copied"], &script).exits(0);
        assert_eq!(here.read("copied/copy"), "inner\n", "{view}");
        assert_eq!(here.records().len(), 6, "{view}");
        here.ag(&["fsck"]).exits(0);
    }
}

#[test]
fn three_levels_land_as_one() {
    for view in views() {
        let here = scene();
        let ag = ag();
        let innermost = format!("{ag} run --agent third -- sh -c 'echo third > c'");
        let middle = format!("{ag} run --agent second -- sh -c \"echo second > b; {innermost}\"")
            .replace(&ag, &ag.replace('\'', ""));
        here.run(&["--view", view, "--agent", "first"], &format!("echo first > a; {middle} && cat c")).exits(0);
        assert_eq!(
            (here.read("a"), here.read("b"), here.read("c")),
            ("first\n".into(), "second\n".into(), "third\n".into()),
            "{view}"
        );
        let records = here.records();
        assert_eq!(records.len(), 3, "{view}");
        let of = |agent: &str| records.iter().find(|one| one.agent.to_string_lossy() == agent).expect("a record");
        assert_eq!(of("third").parent_run_id, Some(of("second").run_id), "{view}");
        assert_eq!(of("second").parent_run_id, Some(of("first").run_id), "{view}");
        let before = here.exact();
        here.run(&["--view", view], &format!("{middle}; echo x > a; exit 4")).exits(4);
        assert_eq!(here.exact(), before, "{view}");
        here.ag(&["fsck"]).exits(0);
    }
}

#[test]
fn an_inner_run_that_is_cut_off_with_the_outer_is_in_the_log_and_nothing_lands() {
    for view in views() {
        let here = scene();
        let before = here.exact();
        let ag = ag();
        let script = format!("{ag} run --agent inner -- sh -c 'echo bad > a; touch $OUT/up; sleep 100'");
        let running = here.start(&["--view", view, "--agent", "outer", "--kill-after", "1s"], &script);
        crate::project::wait_until("the innermost agent is at work", || here.out("up").exists() || running.has_ended());
        running.signal("TERM");
        running.outcome().exits(143);
        assert_eq!(here.exact(), before, "{view}");
        here.ag(&["recover"]).exits(0);
        assert!(here.records().iter().any(|one| one.agent.to_string_lossy() == "outer"), "{view}");
        here.ag(&["fsck"]).exits(0);
        std::fs::remove_file(here.out("up")).expect("removed");
    }
}

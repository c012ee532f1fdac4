//! `gc` removes what is asked for, never what somebody still needs, and leaves everything whole wherever it is cut short.

use std::fs;

use agentguard::model::{RunId, Status};

use crate::project::{MEET, Outcome, Project};

const ALL: [&str; 7] = ["gc", "--keep-days", "0", "--keep-runs", "0", "--max-size", "0"];

fn has_directory(project: &Project, run: RunId) -> bool {
    project.state().join("runs").join(run.to_string()).exists()
}

/// Bytes of packs and large contents.
fn stored(project: &Project) -> u64 {
    let files = walkdir::WalkDir::new(project.state().join("snapshots")).into_iter().flatten();
    let kept = |entry: &walkdir::DirEntry| entry.path().components().any(|part| part.as_os_str() == "kept");
    files
        .filter(|entry| entry.file_type().is_file() && !kept(entry))
        .map(|entry| entry.metadata().expect("stat").len())
        .sum()
}

/// A run that succeeds on an input of its own.
fn run_with(project: &Project, content: &str) -> RunId {
    project.write("in", content);
    project.run(&["--input", "in", "--out", "o"], "cp $AGENTGUARD_INPUTS/in $AGENTGUARD_STAGING/").exits(0);
    project.last().run_id
}

#[test]
fn what_must_stay_stays_whatever_is_asked() {
    let project = Project::new();
    project.write("f", "1\n");
    project.run(&["--hold"], "echo 2 > f").exits(0);
    let held = project.last().run_id;
    project.run(&["--out", "o"], "exit 3").exits(3);
    let failed = project.last().run_id;
    let over = run_with(&project, "x");
    let outcome = project.meanwhile(
        &["--input", "in", "--out", "o"],
        &format!("{MEET}; cat $AGENTGUARD_INPUTS/in > $AGENTGUARD_STAGING/r"),
        || {
            let said = project.ag(&ALL).exits(0).text();
            assert!(said.contains(&format!("removed run {over}")), "{said}");
            for (run, why) in [(held, "waits for apply"), (failed, "nobody has acknowledged")] {
                assert!(said.contains(&format!("kept run {run}")) && said.contains(why), "{said}");
            }
            assert!(said.contains("it is alive"), "{said}");
        },
    );
    outcome.exits(0);
    assert!(has_directory(&project, held) && has_directory(&project, failed) && !has_directory(&project, over));
    let lived = project.last().run_id;
    fs::write(project.outside("go"), "").expect("let go");
    project.ag(&["replay", &lived.to_string()]).exits(0).says("reproduced");
    project.ag(&["apply", &held.to_string()]).exits(0);
    assert_eq!(project.read("f"), "2\n");
    project.ag(&["failed", "ack", &failed.to_string(), "--reason", "known"]).exits(0);
    project.ag(&ALL).exits(0);
    assert!(!has_directory(&project, failed) && !has_directory(&project, held));
    assert_eq!(project.records().len(), 5, "every line stays in the log");
    project.ag(&["fsck"]).exits(0);
}

#[test]
fn an_unacknowledged_failure_goes_when_its_own_time_is_over() {
    let project = Project::new();
    project.run(&["--out", "o"], "exit 3").exits(3);
    project.ag(&["gc", "--keep-runs", "0", "--keep-failed-days", "0"]).exits(0);
    assert!(!has_directory(&project, project.last().run_id));
}

#[test]
fn a_run_without_its_directory_is_still_shown_and_says_so() {
    let project = Project::new();
    let gone = run_with(&project, "old").to_string();
    let kept = run_with(&project, "new").to_string();
    project.ag(&["gc", "--keep-runs", "1"]).exits(0);
    let shown = project.ag(&["show", &gone]).exits(0).text();
    assert!(shown.contains("kept        no: its directory is gone"), "{shown}");
    for command in [
        vec!["replay", &gone],
        vec!["show", &gone, "--stdout"],
        vec!["show", &gone, "--manifest", "inputs"],
        vec!["diff", &gone],
        vec!["export", &gone, "-o", "x"],
    ] {
        project.ag(&command).exits(125).says("is gone");
    }
    project.ag(&["replay", &kept]).exits(0).says("reproduced");
}

#[test]
fn contents_go_with_the_last_run_that_needs_them_and_not_before() {
    let project = Project::new();
    let big = "x".repeat(6 << 20);
    let first = run_with(&project, &big);
    let second = run_with(&project, &big);
    let other = run_with(&project, "small");
    assert!(stored(&project) > 6 << 20);
    project.ag(&["gc", "--keep-runs", "2"]).exits(0);
    assert!(!has_directory(&project, first) && has_directory(&project, second));
    assert!(stored(&project) > 6 << 20, "the second run has the same input");
    // Every content is read and hashed; a replay would need them too.
    project.ag(&["export", &second.to_string(), "-o", "second.tar.zst"]).exits(0);
    let said = project.ag(&["gc", "--max-size", "1MiB"]).exits(0).text();
    assert!(said.contains("too much is kept"), "{said}");
    assert!(!has_directory(&project, second) && stored(&project) < 1 << 20);
    project.ag(&["replay", &other.to_string()]).exits(0).says("reproduced");
    project.ag(&["fsck"]).exits(0);
    // What was removed is read again, whatever the stat cache had said of it.
    run_with(&project, &big);
    project.ag(&["replay", "@"]).exits(0).says("reproduced");
}

#[test]
fn without_a_policy_only_remains_go_and_a_dry_run_removes_nothing() {
    let project = Project::new();
    let run = run_with(&project, "x");
    let pack =
        fs::read_dir(project.state().join("snapshots/packs")).expect("packs").next().expect("one").expect("entry");
    fs::write(pack.path().with_extension("pack.damaged"), "broken").expect("put aside");
    fs::write(project.state().join("trash/old-run.dropped"), vec![0; 100_000]).expect("left");
    project.ag(&["fsck"]).exits(1);
    let state = || {
        let names = walkdir::WalkDir::new(project.state()).sort_by_file_name().into_iter().flatten();
        names.map(|entry| entry.path().to_path_buf()).filter(|path| !path.ends_with("kept.lock")).collect::<Vec<_>>()
    };
    let before = state();
    let told = project.ag(&[&ALL[..], &["--dry-run", "--rotate"]].concat()).exits(0).text();
    assert!(told.contains(&format!("would remove run {run}")) && told.contains("1 runs, 1 files"), "{told}");
    // The stat cache would answer for nothing any more.
    assert!(told.contains("3 remains") && told.contains("would close the log"), "{told}");
    assert_eq!(state(), before);
    let said = project.ag(&["gc"]).exits(0).text();
    assert!(said.contains("0 runs, 0 files of the snapshot store, 2 remains"), "{said}");
    assert!(has_directory(&project, run));
    project.ag(&["fsck"]).exits(0);
    project.ag(&["replay", "@"]).exits(0);
}

#[test]
fn the_policy_stands_in_the_configuration_and_a_flag_wins() {
    let project = Project::new();
    let runs: Vec<RunId> = ["a", "b", "c"].into_iter().map(|content| run_with(&project, content)).collect();
    project.write("agentguard.toml", "[gc]\nkeep-runs = 1\n");
    project.ag(&["gc", "--keep-runs", "3"]).exits(0);
    assert!(has_directory(&project, runs[0]));
    let mut command = project.command(&["gc"]);
    Outcome::of(command.env("AGENTGUARD_GC_KEEP_RUNS", "2").output().expect("runs")).exits(0);
    assert_eq!([0, 1, 2].map(|at| has_directory(&project, runs[at])), [false, true, true]);
    project.ag(&["gc"]).exits(0);
    assert_eq!([0, 1, 2].map(|at| has_directory(&project, runs[at])), [false, false, true]);
    for (table, words) in [
        ("keep-run = 1", "did you mean `keep-runs`?"),
        ("keep-runs = \"many\"", "is no whole number"),
        ("keep-runs = [1, 2]", "must be one value"),
        ("max-size = \"much\"", "`max-size` in"),
    ] {
        project.write("agentguard.toml", format!("[gc]\n{table}\n"));
        project.ag(&["gc"]).exits(125).says(words);
    }
    project.write("agentguard.toml", "");
    project.ag(&["gc", "--keep-days", "99999999999999999"]).exits(125).says("too much");
}

#[test]
fn a_journal_that_cannot_be_read_keeps_every_content() {
    let project = Project::new();
    let damaged = run_with(&project, "first");
    run_with(&project, "second");
    let journal = project.state().join("runs").join(damaged.to_string()).join("journal");
    let text = fs::read_to_string(&journal).expect("a journal");
    fs::write(&journal, format!("garbage\n{text}")).expect("damaged");
    let before = stored(&project);
    let said = project.ag(&ALL).exits(1).text();
    assert!(said.contains("cannot be told") && said.contains("its journal is damaged"), "{said}");
    assert_eq!(stored(&project), before);
    fs::write(&journal, text).expect("mended");
    project.ag(&["replay", &damaged.to_string()]).exits(0).says("reproduced");
}

#[test]
fn the_log_is_read_over_its_segments_by_every_command() {
    let project = Project::new();
    let runs: Vec<RunId> = (0..6)
        .map(|number| {
            let run = run_with(&project, &number.to_string());
            let said = project.ag(&["gc", "--log-segment", "1B"]).exits(0).text();
            assert!(said.contains("closed the log's newest file"), "{said}");
            run
        })
        .collect();
    let segments = |project: &Project| {
        let names = fs::read_dir(project.state()).expect("state").map(|entry| entry.expect("entry").file_name());
        names.filter(|name| name.to_string_lossy().starts_with("runs-")).count()
    };
    assert_eq!(segments(&project), 6);
    let listed = project.ag(&["log", "--format", "jsonl"]).exits(0).text();
    assert_eq!(listed.lines().count(), 6);
    assert!(project.ag(&["show", "@-5"]).exits(0).text().contains(&runs[0].to_string()));
    let first = runs[0].to_string();
    assert!(project.ag(&["show", &first[24..]]).exits(0).text().contains("runs-1.jsonl"));
    project.ag(&["replay", &first]).exits(0).says("reproduced");
    assert!(project.ag(&["fsck"]).exits(0).text().contains("7 records"));
    // Breakers are made anew from all of it.
    fs::remove_dir_all(project.state().join("breakers")).ok();
    project.ag(&["breaker", "list"]).exits(0);
    let path = project.state().join("runs-2.jsonl");
    let line = fs::read_to_string(&path).expect("a segment");
    fs::write(&path, line.replace("\"status\":\"succeeded\"", "\"status\":\"failed\"")).expect("changed");
    assert!(project.ag(&["fsck"]).exits(1).text().contains("does not follow the last line of runs-2.jsonl"));
}

#[test]
fn a_kill_at_any_point_leaves_everything_whole_and_the_next_gc_goes_on() {
    let points = [
        "gc.run_moved:kill",
        "gc.run_moved:kill@2",
        "gc.runs_moved:kill",
        "gc.marked:kill",
        "gc.swept:kill",
        "gc.swept:kill@2",
        "log.rotating:kill",
        "log.rotated:kill",
        "gc.runs_moved:eio",
        "log.rotating:enospc",
    ];
    for fault in points {
        let project = Project::new();
        for content in ["one", "two", "three"] {
            run_with(&project, content);
        }
        let kept = project.last().run_id;
        let records = project.records().len();
        let arguments = ["gc", "--keep-runs", "1", "--rotate"];
        let struck = Outcome::of(project.command(&arguments).env("AGENTGUARD_FAULT", fault).output().expect("runs"));
        assert_eq!(struck.code, if fault.contains("kill") { None } else { Some(125) }, "{fault}: {}", struck.stderr);
        project.ag(&["fsck"]).exits(0);
        project.ag(&["replay", &kept.to_string()]).exits(0).says("reproduced");
        project.ag(&["gc", "--keep-runs", "2", "--rotate"]).exits(0);
        let listed = project.ag(&["log", "--format", "jsonl"]).exits(0).text();
        assert_eq!(listed.lines().count(), records + 1, "{fault}: every line is there");
        assert_eq!(fs::read_dir(project.state().join("runs")).expect("runs").count(), 2, "{fault}");
        let left = fs::read_dir(project.state().join("trash")).expect("trash").flatten();
        let left = left.filter(|entry| entry.file_name().to_string_lossy().ends_with("dropped")).count();
        assert_eq!(left, 0, "{fault}: the trash is empty");
        project.ag(&["fsck"]).exits(0);
    }
}

#[test]
fn runs_and_replays_that_go_on_while_gc_does_lose_nothing() {
    let project = Project::new();
    let first = run_with(&project, "shared");
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|threads| {
        let collecting = threads.spawn(|| {
            let mut rounds = 0;
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                project.ag(&["gc", "--keep-runs", "1", "--log-segment", "2KiB"]).exits(0);
                rounds += 1;
            }
            rounds
        });
        let running: Vec<_> = (0..2)
            .map(|number| {
                let project = &project;
                threads.spawn(move || {
                    let out = format!("out{number}");
                    for _ in 0..12 {
                        // An unchanged input: the pack is found, not written, and may just be losing its last run.
                        project
                            .run(&["--input", "in", "--out", &out], "cp $AGENTGUARD_INPUTS/in $AGENTGUARD_STAGING/")
                            .exits(0);
                        let replayed = project.ag(&["replay", "@"]);
                        let is_gone = replayed.stderr.contains("is gone") || replayed.stderr.contains("no run");
                        assert!(replayed.code == Some(0) || is_gone, "{}", replayed.stderr);
                    }
                })
            })
            .collect();
        running.into_iter().for_each(|thread| thread.join().expect("a thread"));
        done.store(true, std::sync::atomic::Ordering::Relaxed);
        assert!(collecting.join().expect("a thread") > 0);
    });
    assert!(!has_directory(&project, first));
    project.ag(&["fsck"]).exits(0);
    project.run(&["--input", "in", "--out", "o"], "cp $AGENTGUARD_INPUTS/in $AGENTGUARD_STAGING/").exits(0);
    assert_eq!(project.last().status, Status::Succeeded);
    project.ag(&["replay", "@"]).exits(0).says("reproduced");
    let listed = project.ag(&["log", "--format", "jsonl", "-n", "1000"]).exits(0).text();
    let mut ids: Vec<&str> = listed.lines().map(|line| &line[11..47]).collect();
    ids.sort_unstable();
    let count = ids.len();
    ids.dedup();
    assert_eq!(ids.len(), count, "every run is in the log once");
}

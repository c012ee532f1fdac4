//! No lost update in workspace mode: a change by somebody else to a path that the run also changes, at any moment,
//! refuses the commit, names the path and writes nothing; a change elsewhere does not.

use std::fs;

use crate::project::wait_until;
use crate::workspace_scene::{MEET, Workspace, by_hand, content_of, run_arguments, views};

/// What the agent does, and the paths that it changes by that.
const AGENT: [(&str, &[&str]); 11] = [
    ("echo mine >> f", &["f"]),
    ("echo mine > t; mv t f", &["f"]),
    ("rm f", &["f"]),
    ("chmod 600 f", &["f"]),
    ("rm f; mkdir f; echo x > f/x", &["f"]),
    ("rm f; ln -s elsewhere f", &["f"]),
    ("mv f g", &["f", "g"]),
    ("echo mine > n", &["n"]),
    ("mkdir n; echo mine > n/mine", &["n"]),
    ("rm -r d", &["d"]),
    ("rm -r d; mkdir d; echo mine > d/mine", &["d"]),
];

/// What puts another object at a path in one step, or after nothing was left there.
const REPLACES: [&str; 3] = ["echo mine > t; mv t f", "rm f; ln -s elsewhere f", "rm f; mkdir f; echo x > f/x"];

/// What somebody else does meanwhile to such a path.
fn by_others(path: &str) -> &'static [&'static str] {
    match path {
        "f" => &[
            "echo theirs >> f",
            "echo theirs > t; mv t f",
            "rm f",
            "chmod 640 f",
            "rm f; mkdir f",
            "rm f; mkfifo f",
            "ln -sf elsewhere-else f",
            "printf X | dd of=f bs=1 conv=notrunc 2>/dev/null; touch -d @1000000000 f",
        ],
        "g" => &["echo theirs > g"],
        "n" => &["echo theirs > n", "mkdir n", "ln -s theirs n", "mkfifo n"],
        _ => &[
            "echo theirs > d/theirs",
            "echo theirs >> d/a",
            "rm d/a",
            "chmod 600 d/a",
            "chmod 700 d",
            "mkdir d/sub/deeper",
            "mv d d-moved; mkdir d",
        ],
    }
}

/// One directory where all of it happens: in the snapshot, or left out of it by git.
fn scene(place: &str) -> Workspace {
    let here = Workspace::with_git();
    here.write(&format!("{place}/untouched"), "u\n");
    reset(&here, place);
    here
}

fn reset(here: &Workspace, place: &str) {
    let script = "rm -rf f n d g t d-moved; echo f > f; chmod 644 f; touch -d @1000000000 f; mkdir -p d/sub; echo a > d/a; echo b > d/sub/b; chmod 755 d";
    by_hand(&here.join(place), script);
}

#[test]
fn any_change_by_somebody_else_to_a_touched_path_is_a_conflict_that_writes_nothing() {
    for view in views() {
        for place in ["plain", "ignored"] {
            let here = scene(place);
            let mut tried = 0;
            let pairs = AGENT.iter().flat_map(|(agent, paths)| paths.iter().map(move |path| (agent, path)));
            for (agent, path, other) in
                pairs.flat_map(|(agent, path)| by_others(path).iter().map(move |it| (agent, path, it)))
            {
                if place == "ignored" && *other == "rm f" && REPLACES.contains(agent) {
                    // No snapshot holds it, and what took its place in the view does not tell that it was there.
                    continue;
                }
                reset(&here, place);
                let script = format!("cd {place}; {agent}; cd ..; echo side > side; {MEET}");
                let mut theirs = Vec::new();
                let outcome = here.meanwhile(&["--view", view], &script, |here| {
                    by_hand(&here.join(place), other);
                    theirs = here.exact();
                });
                let about = format!("{view}, {place}: the agent: {agent}, meanwhile: {other}");
                assert_eq!(outcome.code, Some(122), "{about}\n{}", outcome.stderr);
                assert!(
                    outcome.stderr.contains(&format!("{place}/{path}")),
                    "{about}: not named in {}",
                    outcome.stderr
                );
                assert_eq!(here.exact(), theirs, "{about}");
                let record = here.last();
                assert_eq!(record.error.expect("an error").kind.to_string(), "conflict", "{about}");
                assert_eq!(record.error_class.expect("a class").to_string(), "publish_failed");
                assert!(!record.published && record.changes.is_none(), "{about}");
                tried += 1;
            }
            assert!(tried > 60, "{tried}");
            assert_eq!(here.leftovers(), Vec::<String>::new());
        }
    }
}

#[test]
fn a_change_before_the_agent_came_to_the_path_is_a_conflict_as_well() {
    for view in views() {
        let here = scene("plain");
        for (agent, other) in [
            ("echo mine >> f", "echo theirs >> f"),
            ("rm f", "chmod 600 f"),
            ("echo mine > n", "echo theirs > n"),
            ("rm -r d", "echo theirs > d/theirs"),
        ] {
            reset(&here, "plain");
            let mut theirs = Vec::new();
            here.meanwhile(&["--view", view], &format!("{MEET}; cd plain; {agent}"), |here| {
                by_hand(&here.join("plain"), other);
                theirs = here.exact();
            })
            .exits(122)
            .says("plain/");
            assert_eq!(here.exact(), theirs, "{view}: {agent} after {other}");
        }
    }
}

#[test]
fn a_change_to_an_untouched_path_is_none_and_both_are_there() {
    for view in views() {
        for place in ["plain", "ignored"] {
            let here = scene(place);
            for (agent, other) in [
                ("echo mine >> f; rm d/sub/b", "echo theirs >> untouched; echo theirs > d/theirs; chmod 600 d/a"),
                ("echo mine > n", "echo theirs > m; mkdir made"),
                ("rm f", "rm d/a; rmdir made"),
                ("mkdir q; echo mine > q/mine", "rm -r d"),
            ] {
                let script = format!("cd {place}; {agent}; {MEET}");
                here.meanwhile(&["--view", view], &script, |here| {
                    by_hand(&here.join(place), other);
                })
                .exits(0);
                assert!(here.last().published, "{view}, {place}: {agent}, meanwhile {other}");
            }
            assert_eq!(
                (here.read(&format!("{place}/untouched")), here.read(&format!("{place}/m"))),
                ("u\ntheirs\n".into(), "theirs\n".into())
            );
            assert!(!here.join(format!("{place}/d")).exists() && !here.join(format!("{place}/f")).exists());
            assert_eq!(
                (here.read(&format!("{place}/n")), here.read(&format!("{place}/q/mine"))),
                ("mine\n".into(), "mine\n".into())
            );
        }
    }
}

#[test]
fn a_file_that_was_only_touched_is_what_the_run_has_read() {
    for view in views() {
        let here = scene("plain");
        here.meanwhile(&["--view", view], &format!("echo mine > plain/f; {MEET}"), |here| {
            here.by_hand("touch plain/f");
        })
        .exits(0);
        assert_eq!(here.read("plain/f"), "mine\n", "{view}");
    }
}

#[test]
fn a_change_at_any_instant_of_the_commit_is_never_lost() {
    let points: Vec<&str> = agentguard::sys::crash::POINTS
        .into_iter()
        .filter(|point| ["judged", "commit.", "apply."].iter().any(|start| point.starts_with(start)))
        .collect();
    for view in views() {
        let here = scene("plain");
        let (mut refused, mut passed) = (0, 0);
        for point in &points {
            for passage in 1..20 {
                let mut stopped_once = false;
                for (path, other) in [
                    ("f", "echo theirs >> f"),
                    ("d/a", "echo theirs >> d/a"),
                    ("d/theirs", "echo theirs > d/theirs"),
                    ("n", "echo theirs >> n"),
                ] {
                    reset(&here, "plain");
                    let arguments = run_arguments(
                        &["--view", view],
                        "cd plain; echo mine >> f; rm -r d; mkdir d; echo mine > d/mine; echo mine > n; chmod 600 untouched",
                    );
                    let mut theirs = Vec::new();
                    let fault = format!("{point}:stop@{passage}");
                    let (stopped, outcome) = here.stopped_at(&arguments, &fault, |here| {
                        // A directory that is just being exchanged may not be there for the editor.
                        let _ = std::process::Command::new("sh")
                            .args(["-c", other])
                            .current_dir(here.join("plain"))
                            .output();
                        theirs = content_of(&here.join("plain"));
                    });
                    let about = format!("{view}: {other} at {fault}: {}", outcome.stderr);
                    if !stopped {
                        outcome.exits(0);
                        break;
                    }
                    stopped_once = true;
                    let kept = fs::read_to_string(here.join("plain").join(path)).unwrap_or_default();
                    assert!(kept.contains("theirs") || !theirs.concat().contains("theirs"), "lost: {about}");
                    match outcome.code {
                        Some(122) => {
                            let ours: Vec<String> = content_of(&here.join("plain"))
                                .into_iter()
                                .filter(|line| line.contains("mine"))
                                .collect();
                            assert_eq!(ours, Vec::<String>::new(), "half a commit: {about}");
                            refused += 1;
                        }
                        Some(0) => passed += 1,
                        _ => panic!("{about}"),
                    }
                }
                if !stopped_once {
                    break;
                }
            }
        }
        assert!(
            refused > 0 && passed > 0,
            "{view}: {refused} refused, {passed} passed: both sides of the commit were met"
        );
        here.ag(&["fsck"]).exits(0);
    }
}

#[test]
fn an_editor_that_had_the_file_open_keeps_what_it_wrote() {
    use std::io::Write as _;
    for view in views() {
        let here = scene("plain");
        for point in agentguard::sys::crash::POINTS
            .into_iter()
            .filter(|point| point.starts_with("commit.") || point.starts_with("apply."))
        {
            reset(&here, "plain");
            let mut open = fs::OpenOptions::new().append(true).open(here.join("plain/f")).expect("open");
            let arguments = run_arguments(&["--view", view], "echo mine >> plain/f; echo mine > plain/n");
            let mut was_ours = true;
            let (stopped, outcome) = here.stopped_at(&arguments, &format!("{point}:stop"), |here| {
                was_ours = here.read("plain/f") == "f\n";
                open.write_all(b"theirs\n").expect("written");
            });
            // Written before the commit had replaced the file: it must be there afterwards.
            if stopped && was_ours {
                assert_eq!(outcome.code, Some(122), "{view} at {point}: {}", outcome.stderr);
                assert_eq!(here.read("plain/f"), "f\ntheirs\n", "{view} at {point}");
            }
        }
    }
}

#[test]
fn a_conflict_may_be_held_and_applied_once_the_other_change_is_gone() {
    for view in views() {
        let here = scene("plain");
        let script = format!("echo mine > plain/f; echo mine > plain/n; {MEET}");
        let outcome = here.meanwhile(&["--view", view, "--on-conflict", "hold"], &script, |here| {
            here.by_hand("echo theirs >> plain/f");
        });
        outcome.exits(0).says("plain/f");
        assert_eq!((&*here.last().status.to_string(), here.last().published), ("held", false));
        assert_eq!((here.read("plain/f"), here.join("plain/n").exists()), ("f\ntheirs\n".into(), false), "{view}");
        let theirs = here.exact();
        here.ag(&["apply", "@"]).exits(122).says("plain/f");
        assert_eq!(here.exact(), theirs, "{view}");
        here.by_hand("echo f > plain/f");
        here.ag(&["apply", "@"]).exits(0);
        assert_eq!((here.read("plain/f"), here.read("plain/n")), ("mine\n".into(), "mine\n".into()), "{view}");
        assert_eq!(here.records().len(), 1);
        // Without a conflict nothing is held.
        here.run(&["--view", view, "--on-conflict", "hold"], "echo free > plain/n").exits(0);
        assert_eq!((here.read("plain/n"), here.last().published), ("free\n".into(), true), "{view}");
    }
}

#[test]
fn runs_at_once_land_each_if_they_are_disjoint_and_one_if_they_overlap() {
    const RUNS: usize = 12;
    for view in views() {
        for overlapping in [false, true] {
            let here = Workspace::new();
            here.write("shared", "before\n");
            let at_once: Vec<_> = (0..RUNS)
                .map(|number| {
                    let file = if overlapping { "shared".to_owned() } else { format!("own-{number}") };
                    let script = format!(
                        "echo {number} > {file}; touch $OUT/at-{number}; while [ ! -e $OUT/go ]; do sleep 0.02; done"
                    );
                    here.start(&["--view", view], &script)
                })
                .collect();
            wait_until("all are at work", || (0..RUNS).all(|number| here.out(format!("at-{number}")).exists()));
            fs::write(here.out("go"), "").expect("let go");
            let codes: Vec<Option<i32>> = at_once.into_iter().map(|running| running.outcome().code).collect();
            let landed: Vec<usize> = (0..RUNS).filter(|number| codes[*number] == Some(0)).collect();
            if overlapping {
                assert_eq!(landed.len(), 1, "{view}: {codes:?}");
                assert!(codes.iter().all(|code| matches!(code, Some(0 | 122))), "{view}: {codes:?}");
                assert_eq!(here.read("shared"), format!("{}\n", landed[0]));
            } else {
                assert_eq!(landed.len(), RUNS, "{view}: {codes:?}");
                for number in 0..RUNS {
                    assert_eq!(here.read(&format!("own-{number}")), format!("{number}\n"));
                }
            }
            let records = here.records();
            assert_eq!(records.len(), RUNS, "{view}: no line is lost");
            assert_eq!(records.iter().filter(|record| record.published).count(), landed.len());
            here.ag(&["fsck"]).exits(0);
        }
    }
}

#[test]
fn an_editor_that_saves_during_many_commits_loses_nothing() {
    let here = Workspace::new();
    here.write("notes", "");
    here.write("other", "");
    let (path, temporary) = (here.join("notes"), here.join("notes~"));
    let stop = std::sync::atomic::AtomicBool::new(false);
    let mut codes = Vec::new();
    let saved = std::thread::scope(|scope| {
        let editor = scope.spawn(|| {
            let mut saved = 0;
            while !stop.load(std::sync::atomic::Ordering::SeqCst) {
                saved += 1;
                // As editors do it: what stands there is read, and comes back with one line more.
                let mut text = fs::read_to_string(&path).expect("read");
                text.push_str(&format!("e{saved}\n"));
                if saved % 2 == 0 {
                    fs::write(&temporary, text).expect("written");
                    fs::rename(&temporary, &path).expect("renamed");
                } else {
                    let mut file = fs::OpenOptions::new().append(true).open(&path).expect("open");
                    std::io::Write::write_all(&mut file, format!("e{saved}\n").as_bytes()).expect("appended");
                }
                // Some commits meet nothing, some meet several saves.
                std::thread::sleep(std::time::Duration::from_millis(if saved % 4 == 0 { 150 } else { 3 }));
            }
            saved
        });
        for number in 0..200 {
            let script = format!("echo a{number} >> notes; echo a{number} >> other");
            codes.push(here.run(&[], &script).code);
        }
        stop.store(true, std::sync::atomic::Ordering::SeqCst);
        editor.join().expect("the editor ends")
    });
    let notes = here.read("notes");
    let lost: Vec<usize> =
        (1..=saved).filter(|number| !notes.lines().any(|line| line == format!("e{number}"))).collect();
    assert_eq!(lost, Vec::<usize>::new(), "of {saved} saves");
    let landed = codes.iter().filter(|code| **code == Some(0)).count();
    assert!(codes.iter().all(|code| matches!(code, Some(0 | 122))) && landed > 0 && landed < codes.len(), "{codes:?}");
    // All or nothing: both files of a run, or neither. (The editor may take back a line of the agent's that it never read.)
    assert_eq!(here.read("other").lines().count(), landed);
    assert_eq!(here.records().len(), codes.len());
}

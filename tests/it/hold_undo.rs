//! Decisions after a run: a held result waits and is applied or dropped once; a published one is taken back exactly, or
//! not at all where somebody has touched it since.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;

use agentguard::sys::crash::POINTS;

use crate::project::{Outcome, exact_state_of, rounds};
use crate::workspace_scene::{MEET, Workspace, views};

/// Changes of every kind.
const CHANGES: &str = "echo new >> edited; printf whole > t; mv t replaced; mkdir -p made/deep/empty; echo x > made/deep/x; rm gone; rm -r tree; \
    rm -r kind; echo k > kind; rm retyped; mkdir retyped; echo r > retyped/r; rm link; ln -s other link; chmod 700 dir; \
    echo in > dir/in; chmod 600 mode; ln -s edited fresh; mv dir/from dir/to; touch -d @1500000000 edited; rm -r again; mkdir again; echo y > again/y";

fn scene() -> Workspace {
    let here = Workspace::new();
    for name in [
        "edited",
        "replaced",
        "gone",
        "tree/a/b",
        "kind/x",
        "retyped",
        "dir/from",
        "dir/stays",
        "mode",
        "untouched",
        "again/y",
        "again/z",
    ] {
        here.write(name, format!("{name}\n"));
    }
    symlink("edited", here.join("link")).expect("link");
    fs::hard_link(here.join("gone"), here.join("gone-too")).expect("hard link");
    here.by_hand("find . -path ./.agentguard -prune -o -exec touch -h -d @1234567890.123456789 {} +; chmod 640 mode");
    // The first run makes the state directory: from here on nothing but commits changes the workspace's own time.
    here.run(&[], "true").exits(0);
    here.by_hand("touch -d @1234567890.123456789 .");
    here
}

/// Exact states, the workspace itself included.
fn exact(here: &Workspace) -> Vec<String> {
    exact_state_of(&here.path(), |entry| entry.file_name() != ".agentguard")
}

fn log(here: &Workspace) -> Vec<u8> {
    fs::read(here.state().join("runs.jsonl")).expect("a log")
}

#[test]
fn a_held_result_waits_is_shown_and_lands_when_it_is_applied() {
    for view in views() {
        let (here, bare) = (scene(), scene());
        bare.by_hand(CHANGES);
        let before = exact(&here);
        here.run(&["--view", view, "--hold", "--verify", "grep -q new edited"], CHANGES).exits(0).says("held");
        assert_eq!(exact(&here), before, "{view}");
        let record = here.last();
        assert_eq!((&*record.status.to_string(), record.published, record.error_class), ("held", false, None));
        assert!(record.output_hash.is_some() && record.verify.len() == 1);
        let diff = here.ag(&["diff", "@"]).exits(0).text();
        for words in ["edited", "+new", "gone", "made/deep/x", "+x"] {
            assert!(diff.contains(words), "{view}: {words} is not in {diff}");
        }
        assert!(here.ag(&["show", "@"]).exits(0).text().contains("held"));
        let line = log(&here);
        here.ag(&["apply", "@"]).exits(0);
        assert_eq!(here.content(), bare.content(), "{view}");
        assert_eq!(log(&here), line, "{view}: the line of an ended run stays what it was");
        assert!(here.ag(&["show", "@"]).exits(0).text().contains("applied"), "{view}");
        assert_eq!(here.ag(&["diff", "@"]).exits(0).text(), diff, "{view}: the same after as before");
        for again in ["apply", "discard"] {
            here.ag(&[again, "@"]).exits(125).says("applied");
        }
        here.ag(&["undo", "@"]).exits(0);
        assert_eq!(exact(&here), before, "{view}: what was applied can be taken back");
        here.ag(&["fsck"]).exits(0);
    }
}

#[test]
fn a_result_that_verify_rejects_is_not_held() {
    for view in views() {
        let here = scene();
        here.run(&["--view", view, "--hold", "--verify", "false"], CHANGES).exits(120);
        here.ag(&["apply", "@"]).exits(125);
        assert_eq!(here.leftovers(), Vec::<String>::new(), "{view}");
        here.run(&["--view", view, "--hold"], "true").exits(0);
        assert_eq!(here.last().status.to_string(), "succeeded", "{view}: there is nothing to hold");
    }
}

#[test]
fn a_held_result_that_is_discarded_is_gone() {
    for view in views() {
        let here = scene();
        let before = exact(&here);
        here.run(&["--view", view, "--hold"], CHANGES).exits(0);
        let dir = here.last_run_dir();
        let staged = |here: &Workspace| {
            let names = ["upper", "clone", "work", "agent", "removed"];
            let dir = here.last_run_dir();
            names.iter().filter(|name| dir.join(name).exists()).count()
        };
        assert!(staged(&here) > 0, "{view}: kept while held in {dir:?}");
        here.ag(&["discard", "@"]).exits(0);
        assert_eq!((exact(&here), staged(&here)), (before.clone(), 0), "{view}");
        for again in ["discard", "apply"] {
            here.ag(&[again, "@"]).exits(125).says("discarded");
        }
        here.ag(&["undo", "@"]).exits(125);
        assert!(here.ag(&["show", "@"]).exits(0).text().contains("discarded"), "{view}");
        assert_eq!(exact(&here), before);
        here.ag(&["fsck"]).exits(0);
    }
}

#[test]
fn a_held_result_that_meets_a_later_change_is_not_applied_and_waits() {
    for view in views() {
        let here = scene();
        here.run(&["--view", view, "--hold"], CHANGES).exits(0);
        for other in
            ["echo theirs >> edited", "chmod 600 gone", "mkdir fresh", "echo theirs > again/theirs", "rm -r tree/a"]
        {
            let kept = here.out("kept");
            here.by_hand(&format!("rm -rf {kept}; cp -a . {kept}; {other}", kept = kept.display()));
            let theirs = exact(&here);
            here.ag(&["apply", "@"]).exits(122);
            assert_eq!(exact(&here), theirs, "{view}: {other}");
            // Back to what it was, as far as content goes: other inodes, other times.
            here.by_hand(&format!(
                "find . -mindepth 1 -maxdepth 1 ! -name .agentguard -exec rm -r {{}} +; cd {}; find . -mindepth 1 -maxdepth 1 ! -name .agentguard \
                 -exec cp -a {{}} \"$OLDPWD\" \\;",
                kept.display()
            ));
        }
        here.ag(&["apply", "@"]).exits(0);
        assert!(here.read("edited").ends_with("new\n"), "{view}");
    }
}

#[test]
fn a_later_change_that_hides_behind_the_old_size_and_time_is_a_conflict_all_the_same() {
    // Also where another run has read the changed file meanwhile.
    for is_read in [false, true] {
        let here = scene();
        here.run(&["--hold"], "echo mine >> edited").exits(0);
        let held = here.last_run_dir();
        let held = held.file_name().expect("an id").to_string_lossy();
        here.by_hand("touch -r edited time; echo EDITED > edited; touch -r time edited; rm time");
        if is_read {
            here.run(&[], "true").exits(0);
        }
        here.ag(&["apply", &held]).exits(122).says("edited");
        assert_eq!(here.read("edited"), "EDITED\n");
        here.by_hand("echo edited > edited");
        here.ag(&["apply", &held]).exits(0);
        assert_eq!(here.read("edited"), "edited\nmine\n");
    }
}

#[test]
fn undo_restores_bytes_modes_times_links_and_inodes() {
    for view in views() {
        let here = scene();
        let before = exact(&here);
        here.run(&["--view", view], CHANGES).exits(0);
        assert_ne!(exact(&here), before);
        let line = log(&here);
        here.ag(&["undo", "@"]).exits(0);
        let after = exact(&here);
        let differing: Vec<_> = before.iter().zip(&after).filter(|(one, other)| one != other).collect();
        assert_eq!(after, before, "{view}: {differing:#?}");
        assert_eq!(log(&here), line);
        here.ag(&["undo", "@"]).exits(125).says("was taken back");
        assert_eq!(exact(&here), before);
        assert!(here.ag(&["show", "@"]).exits(0).text().contains("taken back"), "{view}");
        here.ag(&["fsck"]).exits(0);
    }
}

#[test]
fn runs_are_taken_back_newest_first() {
    for view in views() {
        let here = scene();
        let states: Vec<Vec<String>> = (0..3)
            .map(|number| {
                let before = here.exact();
                here.run(&["--view", view], &format!("echo {number} >> edited; echo {number} > own-{number}")).exits(0);
                before
            })
            .collect();
        here.ag(&["undo", "@-1"]).exits(122).says("edited");
        for (back, state) in states.iter().rev().enumerate() {
            here.ag(&["undo", &format!("@-{back}")]).exits(0);
            assert_eq!(&here.exact(), state, "{view}");
        }
    }
}

#[test]
fn undo_refuses_what_was_touched_since_and_names_it() {
    let touches = [
        ("echo theirs >> edited", "edited"),
        ("rm replaced", "replaced"),
        ("chmod 600 kind", "kind"),
        ("echo back > gone", "gone"),
        ("mkdir tree", "tree"),
        ("echo theirs > made/deep/theirs", "made"),
        ("rm made/deep/x", "made"),
        ("echo theirs > retyped/theirs", "retyped"),
        ("rm link; ln -s theirs link", "link"),
        ("chmod 750 dir", "dir"),
        ("chmod 644 mode", "mode"),
    ];
    for view in views() {
        for (touch, path) in touches {
            let here = scene();
            here.run(&["--view", view], CHANGES).exits(0);
            here.by_hand(touch);
            let theirs = exact(&here);
            here.ag(&["undo", "@"]).exits(122).says(path);
            assert_eq!(exact(&here), theirs, "{view}: {touch}");
        }
        // What the run did not change is not looked at.
        let here = scene();
        here.run(&["--view", view], CHANGES).exits(0);
        here.by_hand("echo theirs > untouched; echo theirs > dir/theirs; echo theirs > brand-new");
        here.ag(&["undo", "@"]).exits(0);
        assert_eq!(
            (here.read("untouched"), here.read("dir/theirs"), here.read("edited")),
            ("theirs\n".into(), "theirs\n".into(), "edited\n".into())
        );
    }
}

#[test]
fn decisions_that_make_no_sense_are_refused_in_clear_words() {
    let here = scene();
    let refused = |here: &Workspace, arguments: &[&str], words: &str| {
        let before = exact(here);
        let outcome = here.ag(arguments).exits(125);
        assert!(outcome.stderr.to_lowercase().contains(words), "{arguments:?}: {words:?} not in {}", outcome.stderr);
        assert_eq!(exact(here), before, "{arguments:?}");
    };
    here.run(&[], "true").exits(0);
    refused(&here, &["undo", "@"], "nothing");
    refused(&here, &["apply", "@"], "only a held run");
    refused(&here, &["discard", "@"], "only a held run");
    here.run(&[], "echo x > edited; exit 3").exits(3);
    refused(&here, &["undo", "@"], "nothing");
    refused(&here, &["apply", "@"], "only a held run");
    here.run(&[], "echo x > edited").exits(0);
    refused(&here, &["apply", "@"], "only a held run");
    refused(&here, &["discard", "@"], "only a held run");
    here.run(&["--out", "report"], "echo x > $AGENTGUARD_STAGING/x").exits(0);
    for command in ["apply", "discard", "undo"] {
        refused(&here, &[command, "@"], "workspace");
    }
    refused(&here, &["undo", "ffffffff"], "no run");
    here.ag(&["run", "--hold", "--out", "report", "--", "true"]).exits(125).says("--hold");
}

#[test]
fn a_run_that_is_alive_is_not_decided_on() {
    let here = scene();
    here.meanwhile(&["--hold"], &format!("echo x > edited; {MEET}"), |here| {
        let runs = here.state().join("live");
        let run = fs::read_dir(runs).expect("marks").next().expect("a mark").expect("an entry").file_name();
        for command in ["apply", "discard", "undo"] {
            here.ag(&[command, run.to_str().expect("UTF-8")]).exits(125);
        }
    })
    .exits(0);
    here.ag(&["apply", "@"]).exits(0);
    assert_eq!(here.read("edited"), "x\n");
}

#[test]
fn a_kill_at_any_point_of_a_decision_leaves_old_or_new() {
    for view in views() {
        let (bare, mut seen) = (scene(), BTreeSet::new());
        let old_content = bare.content();
        bare.by_hand(CHANGES);
        let new_content = bare.content();
        for command in ["apply", "undo"] {
            for point in POINTS {
                for passage in [1, 2, 3, 6, 10, 15, 21, 28].into_iter().step_by(rounds(1, 3)) {
                    let here = scene();
                    let before = exact(&here);
                    let options = ["--view", view, "--hold"];
                    here.run(&options[..if command == "apply" { 3 } else { 2 }], CHANGES).exits(0);
                    let fault = format!("{point}:kill@{passage}");
                    let about = format!("{view}: {command} {fault}");
                    let struck = here.command(&[command, "@"]).env("AGENTGUARD_FAULT", &fault).output().expect("runs");
                    if struck.status.code().is_some() {
                        Outcome::of(struck).exits(0);
                        break;
                    }
                    here.ag(&["recover"]).exits(0);
                    let now = here.content();
                    let is_new = now == new_content;
                    assert!(is_new || now == old_content, "{about}: {now:#?}");
                    let done = is_new == (command == "apply");
                    seen.insert((command, done));
                    if !is_new {
                        assert_eq!(exact(&here), before, "{about}");
                    }
                    assert_eq!(here.records().len(), 2, "{about}");
                    here.ag(&["fsck"]).exits(0);
                    // Done is done; what was not done can still be.
                    let again = here.ag(&[command, "@"]);
                    assert_eq!(again.code, Some(if done { 125 } else { 0 }), "{about}: {}", again.stderr);
                    here.ag(&["recover"]).exits(0);
                }
            }
        }
        // An undo writes its intention at once: a kill never comes before it.
        let all = [("apply", false), ("apply", true), ("undo", true)];
        assert!(all.iter().all(|one| seen.contains(one)), "{view}: {seen:?}");
    }
}

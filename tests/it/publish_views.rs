//! Publish mode on views: an agent may litter its working directory, write to the output's own path and read frozen
//! inputs at theirs; what is published is the output alone.

use crate::project::{Outcome, skip};
use crate::workspace_scene::{MEET, Workspace, facilities, run_arguments, views};

fn scene() -> Workspace {
    let here = Workspace::new();
    here.write("src/lib", "lib\n");
    here.write("data/a", "frozen\n");
    here.write("reports/old", "old\n");
    here
}

/// These need the view at the project's own path.
fn views_in_place() -> Vec<&'static str> {
    if facilities().same_path {
        return views();
    }
    skip("userns", "no view can stand at the project's own path here");
    Vec::new()
}

#[test]
fn litter_in_the_working_directory_neither_breaks_nor_leaks_and_is_counted() {
    for view in views_in_place() {
        let here = scene();
        let before = here.exact();
        let litter = "echo junk > junk.txt; mkdir node_modules; echo x > node_modules/x; echo edited > src/lib; rm data/a; \
                      test \"$(cat junk.txt src/lib)\" = \"$(printf 'junk\\nedited')\"";
        here.run(&["--view", view, "--out", "result"], &format!("{litter} && echo r > $AGENTGUARD_STAGING/r; exit 3"))
            .exits(3);
        assert_eq!(here.exact(), before, "{view}");
        here.run(&["--view", view, "--out", "result"], &format!("{litter} && echo r > $AGENTGUARD_STAGING/r")).exits(0);
        assert_eq!(here.read("result/r"), "r\n");
        std::fs::remove_dir_all(here.join("result")).expect("removed");
        assert_eq!(here.exact(), before, "{view}");
        let record = here.last();
        // A private copy is thrown away unread.
        let counted = if view == "overlay" { Some(3) } else { None };
        assert_eq!(record.discarded, counted, "{view}: junk.txt, node_modules/x and src/lib were written");
        assert_eq!((record.isolation.view, record.changes.expect("changes").created), (view.to_owned(), 1));
        here.run(&["--view", view, "--out", "result"], "echo r > $AGENTGUARD_STAGING/r").exits(0);
        assert_eq!(here.last().discarded, counted.map(|_| 0), "{view}");
        assert_eq!(here.leftovers(), Vec::<String>::new());
    }
}

#[test]
fn an_output_can_be_written_at_its_own_path() {
    for view in views_in_place() {
        let here = scene();
        let before = here.exact();
        let script = "test -z \"$(ls -A reports)\" && mkdir -p reports/sub && echo new > reports/sub/new && echo y > \"$PWD/reports/y\"";
        here.run(&["--view", view, "--out", "reports", "--verify", "false"], script).exits(120);
        assert_eq!(here.exact(), before, "{view}");
        here.run(&["--view", view, "--out", "reports", "--verify", "test -e $AGENTGUARD_RESULT/sub/new"], script)
            .exits(0);
        assert_eq!((here.read("reports/sub/new"), here.read("reports/y")), ("new\n".into(), "y\n".into()), "{view}");
        assert!(!here.join("reports/old").exists());
        // And beside another that is named by its place in staging.
        let options = ["--view", view, "--out", "reports", "--out-file", "fresh.txt"];
        here.run(&options, "echo z > reports/z; echo f > $AGENTGUARD_STAGING/fresh.txt").exits(0);
        assert_eq!((here.read("reports/z"), here.read("fresh.txt")), ("z\n".into(), "f\n".into()), "{view}");
        let options = ["--view", view, "--out", "reports", "--out-from", "current"];
        here.run(&options, "cat reports/z > $OUT/seen; echo more >> reports/z").exits(0);
        assert_eq!((here.read_out("seen"), here.read("reports/z")), ("z\n".into(), "z\nmore\n".into()), "{view}");
        std::fs::remove_file(here.join("fresh.txt")).expect("removed");
    }
}

#[test]
fn frozen_inputs_are_read_at_their_own_path_whatever_happens_to_the_live_ones() {
    for view in views_in_place() {
        let here = scene();
        let script = format!(
            "{MEET}; cat data/a > $AGENTGUARD_STAGING/copy; (echo mine > data/a) 2>/dev/null && exit 9; (echo n > data/new) 2>/dev/null && exit 8; true"
        );
        here.meanwhile(&["--view", view, "--input", "data", "--out", "result"], &script, |here| {
            here.write("data/a", "changed meanwhile\n");
            here.write("data/more", "x");
        })
        .exits(0);
        assert_eq!(
            (here.read("result/copy"), here.read("data/a")),
            ("frozen\n".into(), "changed meanwhile\n".into()),
            "{view}"
        );
        here.ag(&["replay", "@"]).exits(0);
        // A single file, and one outside of the project.
        let far = here.out("far");
        std::fs::write(&far, "far\n").expect("written");
        let script = format!("{MEET}; cat data/a $OUT/far > $AGENTGUARD_STAGING/copy");
        here.meanwhile(
            &["--view", view, "--input", "data/a", "--input", far.to_str().expect("UTF-8"), "--out", "result"],
            &script,
            |here| {
                here.write("data/a", "again\n");
                std::fs::write(here.out("far"), "farther\n").expect("written");
            },
        )
        .exits(0);
        assert_eq!(here.read("result/copy"), "changed meanwhile\nfar\n", "{view}");
    }
}

#[test]
fn somebody_elses_change_to_an_output_is_still_a_conflict() {
    for view in views_in_place() {
        let here = scene();
        here.meanwhile(&["--view", view, "--out", "reports"], &format!("echo mine > reports/a; {MEET}"), |here| {
            here.write("reports/old", "theirs\n");
        })
        .exits(122)
        .says("reports");
        assert_eq!(here.read("reports/old"), "theirs\n", "{view}");
        assert!(!here.join("reports/a").exists());
        // Something else in the project changes: no conflict, and the agent's litter does not undo it.
        here.meanwhile(
            &["--view", view, "--out", "reports"],
            &format!("echo junk > src/lib; echo mine > reports/a; {MEET}"),
            |here| {
                here.write("src/lib", "theirs\n");
            },
        )
        .exits(0);
        assert_eq!((here.read("reports/a"), here.read("src/lib")), ("mine\n".into(), "theirs\n".into()), "{view}");
    }
}

#[test]
fn without_a_view_staging_works_as_ever_and_the_record_says_so() {
    let here = scene();
    let arguments =
        run_arguments(&["--isolation", "none", "--out", "result"], "echo live > junk; echo r > $AGENTGUARD_STAGING/r");
    Outcome::of(here.command(&arguments).output().expect("runs")).exits(0);
    assert_eq!((here.read("result/r"), here.read("junk")), ("r\n".into(), "live\n".into()));
    let record = here.last();
    assert_eq!((&*record.isolation.view, &*record.isolation.level, record.discarded), ("staging", "none", None));
}

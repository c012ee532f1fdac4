//! Hostile results and hostile moments in workspace mode: whatever an agent plants, and whatever is swapped while a
//! commit is under way, nothing outside of the workspace is read, written or linked.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::sync::atomic::{AtomicBool, Ordering};

use agentguard::sys::crash::POINTS;

use crate::project::{exact_state, wait_until};
use crate::workspace_scene::{Workspace, facilities, run_arguments, views};

/// A workspace, and a directory outside of it with the same names in it.
fn scene() -> Workspace {
    let here = Workspace::new();
    for name in ["dir/f", "dir/sub/g", "file", "gone/x"] {
        here.write(name, "inside\n");
        let twin = here.out("victim").join(name);
        fs::create_dir_all(twin.parent().expect("a parent")).expect("directories");
        fs::write(twin, "outside\n").expect("written");
    }
    here
}

#[test]
fn planted_links_are_published_as_links_and_never_followed() {
    for view in views() {
        let here = scene();
        let victim = exact_state(&here.out("victim"));
        let plant = "ln -s /etc passwd-dir; ln -s /etc/shadow shadow; ln -s ../../.. up; ln -s . self; ln -s loop loop; ln -s $OUT/victim away; \
                     rm -r dir; ln -s $OUT/victim/dir dir; rm file; ln -s $OUT/victim/file file; rm -r gone; ln -s /nowhere gone";
        let gate = ["--view", view, "--verify", "true", "--verify", "test -L dir"];
        here.run(&gate, plant).exits(0);
        let target =
            |name: &str| fs::read_link(here.join(name)).unwrap_or_else(|error| panic!("{view} {name}: {error}"));
        assert_eq!(target("shadow").to_str(), Some("/etc/shadow"));
        assert_eq!((target("dir"), target("file")), (here.out("victim/dir"), here.out("victim/file")));
        assert_eq!(
            (target("up").to_str(), target("loop").to_str(), target("gone").to_str()),
            (Some("../../.."), Some("loop"), Some("/nowhere"))
        );
        let listing = here.ag(&["show", "@", "--manifest", "outputs", "--listing"]).exits(0).text();
        assert!(listing.contains("shadow") && !listing.contains("dir/f\0\u{0}up"), "{listing}");
        let diff = here.ag(&["diff", "@"]).exits(0).text();
        assert!(
            !diff.contains("+outside") && !diff.contains("root:"),
            "{view}: what a link leads to is not read: {diff}"
        );
        // What is written through such a link later is the agent's deed in the real place, and no change of the workspace.
        here.ag(&["undo", "@"]).exits(0);
        assert!(here.join("dir/sub/g").exists() && here.read("file") == "inside\n", "{view}");
        assert_eq!(exact_state(&here.out("victim")), victim, "{view}");
    }
}

#[test]
fn a_parent_swapped_for_a_link_at_any_instant_of_the_commit_leads_nowhere() {
    let script = "echo new > dir/f; echo new > dir/sub/g; echo new > dir/sub/new; mkdir dir/made; echo new > dir/made/x; rm -r gone; chmod 700 dir/sub; echo new > file";
    let points: Vec<&str> = POINTS
        .into_iter()
        .filter(|point| ["judged", "commit.", "apply."].iter().any(|start| point.starts_with(start)))
        .collect();
    for view in views() {
        let mut struck = 0;
        for point in &points {
            for passage in 1..20 {
                let mut stopped_once = false;
                for swapped in ["dir", "dir/sub"] {
                    let here = scene();
                    let victim = exact_state(&here.out("victim"));
                    let (stopped, outcome) = here.stopped_at(
                        &run_arguments(&["--view", view], script),
                        &format!("{point}:stop@{passage}"),
                        |here| {
                            here.by_hand(&format!(
                                "mv {swapped} aside; ln -s {} {swapped}",
                                here.out("victim").join(swapped).display()
                            ));
                        },
                    );
                    let about = format!("{view}: {swapped} at {point}@{passage}: {}", outcome.stderr);
                    assert_eq!(exact_state(&here.out("victim")), victim, "{about}");
                    if !stopped {
                        outcome.exits(0);
                        break;
                    }
                    stopped_once = true;
                    struck += 1;
                    assert!(matches!(outcome.code, Some(0 | 122)), "{about}");
                    assert!(here.join(swapped).symlink_metadata().expect("stat").is_symlink(), "theirs stays: {about}");
                    if outcome.code == Some(122) {
                        assert_eq!(here.read("file"), "inside\n", "{about}");
                        assert_eq!(here.read("gone/x"), "inside\n", "{about}");
                    }
                    here.ag(&["recover"]).exits(0);
                }
                if !stopped_once {
                    break;
                }
            }
        }
        assert!(struck > 8, "{view}: {struck}");
    }
}

#[test]
fn a_parent_that_is_swapped_all_the_time_leads_nowhere() {
    let here = scene();
    let victim = exact_state(&here.out("victim"));
    let (dir, aside, link) = (here.join("dir"), here.join("aside"), here.out("link"));
    std::os::unix::fs::symlink(here.out("victim/dir"), &link).expect("link");
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let swapper = scope.spawn(|| {
            while !stop.load(Ordering::SeqCst) {
                fs::rename(&dir, &aside).expect("aside");
                std::os::unix::fs::symlink(here.out("victim/dir"), &dir).expect("link");
                fs::remove_file(&dir).expect("unlinked");
                fs::rename(&aside, &dir).expect("back");
                std::thread::sleep(std::time::Duration::from_micros(300));
            }
        });
        for number in 0..60 {
            // Strict: what the agent itself follows to the outside is not the question here.
            let script = format!("echo {number} > dir/f; echo {number} > dir/sub/new-{number}; true");
            let outcome = here.run(&["--isolation", "strict"], &script);
            // Refused, in conflict, or done: whatever it met.
            assert!(outcome.code.is_some_and(|code| code < 126), "{outcome:?}");
        }
        stop.store(true, Ordering::SeqCst);
        swapper.join().expect("the swapper ends");
    });
    assert_eq!(exact_state(&here.out("victim")), victim);
    here.ag(&["recover"]).exits(0);
    here.ag(&["fsck"]).exits(0);
}

#[test]
fn marks_of_an_overlay_that_an_agent_sets_itself_delete_nothing() {
    for view in views() {
        let here = scene();
        let forge = "for mark in opaque whiteout redirect metacopy origin impure; do \
                       setfattr -n user.overlay.$mark -v y dir 2>/dev/null; setfattr -n user.overlay.$mark -v /gone dir/sub 2>/dev/null; \
                       setfattr -n user.overlay.$mark -v y dir/f 2>/dev/null; setfattr -n trusted.overlay.$mark -v y dir 2>/dev/null; done; \
                     mkdir fresh; setfattr -n user.overlay.opaque -v x fresh 2>/dev/null; : > fresh/white; setfattr -n user.overlay.whiteout -v y fresh/white 2>/dev/null; \
                     echo new > dir/new; true";
        here.run(&["--view", view], forge).exits(0);
        assert_eq!(
            (here.read("dir/f"), here.read("dir/sub/g"), here.read("dir/new")),
            ("inside\n".into(), "inside\n".into(), "new\n".into()),
            "{view}"
        );
        assert!(here.join("fresh/white").exists(), "{view}");
        assert_eq!(here.last().changes.expect("changes").deleted, 0, "{view}");
        let mut marks = std::process::Command::new("getfattr");
        marks.args(["-R", "-h", "-d", "-m", "overlay", "dir", "fresh", "file"]).current_dir(here.path());
        let left = String::from_utf8_lossy(&marks.output().expect("getfattr").stdout).into_owned();
        assert_eq!(left.lines().filter(|line| line.contains("overlay.")).count(), 0, "{view}: {left}");
        // A device that looks like a whiteout: refused by the view, or by the gate.
        let before = here.exact();
        let outcome = here.run(&["--view", view], "mknod dir/sub/g2 c 0 0 2>/dev/null || exit 9; rm file");
        assert!(matches!(outcome.code, Some(9 | 120)), "{view}: {outcome:?}");
        assert_eq!(here.exact(), before, "{view}");
    }
}

#[test]
fn an_agent_that_destroys_the_state_it_sees_destroys_its_own() {
    for view in views() {
        let here = scene();
        here.run(&["--view", view], "echo 1 > file").exits(0);
        let before = here.exact();
        let wreck = "rm -rf .agentguard; mkdir .agentguard; echo forged > .agentguard/runs.jsonl; rm -rf \"$AGENTGUARD_STATE_DIR\" 2>/dev/null; \
                     for place in /tmp/agentguard-*; do test -d \"$place/runs\" && touch $OUT/reached; done; echo 2 > file";
        let outcome = here.run(&["--view", view], wreck);
        assert!(matches!(outcome.code, Some(0 | 120)), "{view}: {outcome:?}");
        assert!(!here.out("reached").exists(), "{view}");
        if outcome.code == Some(120) {
            assert_eq!(here.exact(), before, "{view}");
        }
        assert_eq!(here.records().len(), 2, "{view}");
        here.ag(&["fsck"]).exits(0);
    }
}

#[test]
fn an_agent_that_kills_what_started_it_lands_nothing() {
    for view in views() {
        let here = scene();
        let before = here.exact();
        let mark = here.out("mark").to_str().expect("UTF-8").to_owned();
        let script = format!("echo bad > file; rm -r dir; : {mark}; kill -9 $PPID; kill -9 0; sleep 1");
        let running = here.start(&["--view", view], &script);
        wait_until("it has ended", || running.has_ended());
        let outcome = running.outcome();
        assert_ne!(outcome.code, Some(0), "{view}");
        wait_until("nothing of it is alive", || !crate::workspace_scene::is_running(&mark));
        here.ag(&["recover"]).exits(0);
        assert_eq!(here.exact(), before, "{view}");
        let record = here.last();
        assert!(!record.published && record.error_class.is_some(), "{view}: {record:?}");
        assert_eq!((here.records().len(), here.leftovers()), (1, Vec::<String>::new()), "{view}");
        here.ag(&["fsck"]).exits(0);
    }
}

#[test]
fn a_hard_link_to_something_outside_is_not_published_as_a_link() {
    for view in views() {
        let here = scene();
        fs::write(here.out("secret"), "secret\n").expect("written");
        // What the kernel allows: across the border of a view it is another mount, in a plain copy it is not.
        let outcome = here.run(&["--view", view], "ln $OUT/secret leak 2>/dev/null || exit 9; echo x > side");
        let secret = fs::metadata(here.out("secret")).expect("stat");
        match outcome.code {
            Some(9) => assert!(!here.join("leak").exists()),
            Some(120) => assert!(!here.join("leak").exists() && !here.join("side").exists(), "{view}"),
            _ => {
                outcome.exits(0);
                assert_ne!(here.join("leak").metadata().expect("stat").ino(), secret.ino(), "{view}");
            }
        }
        assert_eq!((secret.nlink(), here.read_out("secret")), (1, "secret\n".into()), "{view}");
    }
    if !facilities().overlay {
        return;
    }
    // The state directory's and the live tree's own files are out of reach by links as well.
    let here = scene();
    here.run(&[], "ln /proc/$PPID/cwd/file live 2>/dev/null; ln /proc/self/cwd/../$(basename $PWD)/file twin; echo bad > twin; exit 3").exits(3);
    assert_eq!(here.read("file"), "inside\n");
}

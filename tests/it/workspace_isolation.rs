//! Workspace mode, what the agent sees: where and who it is, what is real, what is hidden, and what each level of
//! isolation denies it; the record names what was in force.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::{Command, Stdio};

use crate::project::{Outcome, is_root, skip};
use crate::workspace_scene::{MEET, Workspace, facilities, run_arguments, views, without_namespaces};

fn scene() -> Workspace {
    let here = Workspace::new();
    for name in ["f", "sub/deep/g", "cache/old", "settings.local"] {
        here.write(name, format!("{name}\n"));
    }
    here
}

#[test]
fn an_agent_starts_where_it_was_started_also_through_a_symbolic_link() {
    for view in views() {
        let here = scene();
        symlink(here.path(), here.out("link")).expect("link");
        let script =
            "echo $PWD > $OUT/pwd; pwd -P > $OUT/physical; echo new > g; echo new > ../../f; echo new > ../sibling";
        let place = here.out("link").join("sub/deep");
        let mut command = here.command(&run_arguments(&["--view", view], script));
        Outcome::of(command.current_dir(&place).env("PWD", &place).output().expect("runs")).exits(0);
        assert_eq!(
            (here.read("f"), here.read("sub/deep/g"), here.read("sub/sibling")),
            ("new\n".into(), "new\n".into(), "new\n".into())
        );
        assert_eq!(here.last().changes.expect("changes").modified, 2, "{view}");
        assert_eq!(here.last().cwd.to_path_buf(), here.join("sub/deep"), "{view}");
        if facilities().same_path {
            assert_eq!(here.read_out("pwd").trim(), place.to_str().expect("UTF-8"), "{view}: as the shell had it");
            assert_eq!(here.read_out("physical").trim(), here.join("sub/deep").to_str().expect("UTF-8"), "{view}");
        }
        fs::remove_file(here.out("link")).expect("removed");
    }
}

#[test]
fn an_agent_is_who_it_was_with_the_environment_and_limits_it_had() {
    let script = "id -u; id -g; id -un; umask; ulimit -n -c -s; printf '%s|' \"$@\"; echo; env | \
                  grep -v -e ^AGENTGUARD_ -e ^TMPDIR= -e ^TRACEPARENT= -e ^PWD= -e ^OLDPWD= -e ^_= | sort";
    for view in views() {
        let here = scene();
        let words = ["sh", "-c", script, "name", "two words", "", "*", "-x", "new\nline"];
        let umask = "umask 027; ulimit -n 333; exec \"$@\"";
        let run = |prefix: &[&str]| {
            let command = here.command::<&str>(&[]);
            let mut shell = std::process::Command::new("sh");
            shell.args(["-c", umask, "sh"]).args(prefix).args(words).current_dir(here.path());
            for (name, value) in command.get_envs() {
                match value {
                    Some(value) => shell.env(name, value),
                    None => shell.env_remove(name),
                };
            }
            shell.env("ODD", "a\nb=c");
            Outcome::of(shell.output().expect("runs")).exits(0).text()
        };
        let binary = crate::project::binary();
        let guarded = run(&[binary.to_str().expect("UTF-8"), "run", "--view", view, "--"]);
        assert_eq!(guarded, run(&[]), "{view}");
    }
}

#[test]
fn the_state_directory_is_not_there_for_the_agent() {
    for view in views() {
        let here = scene();
        here.run(&["--view", view], "true").exits(0);
        let log = here.read(".agentguard/runs.jsonl");
        let state = here.state();
        let state = state.to_str().expect("UTF-8");
        let script = format!(
            "test ! -e .agentguard && ! ls -A | grep -q '^.agentguard$' && {} \
             for way in /proc/$PPID/cwd /proc/$PPID/root{path} /proc/self/root{path} /proc/1/root{path} ../{name}; do \
               test \"$way\" = \"${{way#/proc/}}\" || test ! -e $way/.agentguard/runs.jsonl || echo $way >> $OUT/reached; \
             done; echo reached nothing",
            if facilities().same_path { format!("test ! -e {state}/runs.jsonl &&") } else { String::new() },
            path = here.path().display(),
            name = here.path().file_name().expect("a name").display(),
        );
        here.run(&["--view", view], &script).exits(0);
        if facilities().same_path {
            assert!(!here.out("reached").exists(), "{view}: {}", here.read_out("reached"));
        }
        assert!(here.read(".agentguard/runs.jsonl").starts_with(&log));
        // What an agent makes of that name is its own, and never lands.
        let before = here.exact();
        here.run(&["--view", view], "mkdir -p .agentguard; echo forged > .agentguard/runs.jsonl; echo x > f")
            .exits(120)
            .says(".agentguard");
        assert_eq!(here.exact(), before, "{view}");
        here.ag(&["fsck"]).exits(0);
    }
}

#[test]
fn a_state_directory_elsewhere_in_the_workspace_is_hidden_as_well() {
    for view in views() {
        let here = scene();
        for place in ["sub/state", "own"] {
            let state = here.join(place);
            let state = state.to_str().expect("UTF-8");
            let script = format!("test ! -e {place}/runs.jsonl && echo new > f-{}", place.replace('/', "-"));
            let arguments: Vec<&str> =
                ["--state-dir", state].into_iter().chain(run_arguments(&["--view", view], &script)).collect();
            here.ag(&arguments).exits(0);
            here.ag(&arguments).exits(0);
            here.ag(&["--state-dir", state, "fsck"]).exits(0);
            let log = fs::read_to_string(here.join(place).join("runs.jsonl")).expect("a log");
            assert_eq!(log.lines().count(), 2, "{view} {place}");
        }
        assert_eq!(here.read("f-sub-state"), "new\n");
    }
}

#[test]
fn a_path_that_is_passed_through_is_real_for_agent_and_verify_and_no_part_of_the_run() {
    for view in views() {
        let here = scene();
        let options = [
            "--view",
            view,
            "--passthrough",
            "cache",
            "--passthrough",
            "settings.local",
            "--verify",
            "echo v > cache/verify; test -e cache/new",
        ];
        let script = format!("echo n > cache/new; rm cache/old; echo s > settings.local; echo new > f; {MEET}");
        here.meanwhile(&options, &script, |here| {
            assert_eq!(
                (here.read("cache/new"), here.read("settings.local")),
                ("n\n".into(), "s\n".into()),
                "{view}: at once"
            );
            assert_eq!(here.read("f"), "f\n");
            here.write("cache/theirs", "t");
        })
        .exits(0);
        assert_eq!((here.read("f"), here.read("cache/verify")), ("new\n".into(), "v\n".into()), "{view}");
        assert!(!here.join("cache/old").exists() && here.join("cache/theirs").exists());
        let changes = here.last().changes.expect("changes");
        assert_eq!((changes.created, changes.modified, changes.deleted), (0, 1, 0), "{view}");
        assert_eq!(here.last().input_drift.expect("observed").count, 0, "{view}");
        for side in ["inputs", "outputs"] {
            let listed = here.ag(&["show", "@", "--manifest", side]).exits(0).text();
            assert!(!listed.contains("cache") && !listed.contains("settings.local"), "{view} {side}: {listed}");
        }
        // What a failed run did there stays done: it is not staged.
        here.run(&options, "echo failed > cache/old; echo x > f; exit 4").exits(4);
        assert_eq!((here.read("cache/old"), here.read("f")), ("failed\n".into(), "new\n".into()), "{view}");
        // One that does not exist is made: a cache begins empty.
        here.run(&["--view", view, "--passthrough", "fresh/cache"], "echo x > fresh/cache/x; exit 5").exits(5);
        assert_eq!(here.read("fresh/cache/x"), "x\n", "{view}");
    }
}

#[test]
fn without_a_network_there_is_only_the_loopback_interface() {
    for view in views() {
        let here = scene();
        let script = "sed -n '3,$s/:.*//p' /proc/net/dev | tr -d ' ' > $OUT/interfaces; echo new > f";
        let outcome =
            here.run(&["--view", view, "--no-network", "--verify", "cat /proc/net/dev > $OUT/verify"], script);
        if !facilities().same_path {
            outcome.exits(125);
            continue;
        }
        outcome.exits(0);
        assert_eq!(here.read_out("interfaces"), "lo\n", "{view}");
        assert_eq!(here.read_out("verify").lines().count(), 3, "{view}: verify too");
        assert_eq!((&*here.last().isolation.network, here.read("f")), ("none", "new\n".into()));
    }
}

#[test]
fn strict_isolation_denies_every_write_outside_and_says_what_enforced_it() {
    for view in views() {
        let here = scene();
        let home = here.out("home");
        fs::create_dir(&home).expect("home");
        here.by_hand(&format!("echo old > {}", here.out("victim").display()));
        let attempts = "echo $? > $TMPDIR/x || echo TMPDIR; echo new > f || echo workspace; : > /dev/null || echo null; \
                        for path in $OUT/made $OUT/victim $HOME/made /tmp/ag-strict-$$ /var/tmp/ag-strict-$$; do \
                          (echo x >> $path) 2>/dev/null && echo wrote $path; done; \
                        mkdir $OUT/d 2>/dev/null && echo made; rm $OUT/victim 2>/dev/null && echo removed; \
                        mv $OUT/victim . 2>/dev/null && echo moved; ln -s x $OUT/l 2>/dev/null && echo linked; \
                        cat $OUT/victim > /dev/null || echo unreadable; true";
        let mut command = here.command(&run_arguments(
            &["--view", view, "--isolation", "strict", "--verify", "! touch $OUT/by-verify"],
            attempts,
        ));
        let outcome = Outcome::of(command.env("HOME", &home).output().expect("runs"));
        if outcome.code == Some(125) && outcome.stderr.contains("andlock") {
            return skip("landlock", "this kernel has no Landlock");
        }
        if !facilities().same_path {
            // Refused before anything is spawned, and the step that cannot be had is named.
            outcome.exits(125).says("namespace");
            assert_eq!((here.read("f"), here.read_out("victim")), ("f\n".into(), "old\n".into()), "{view}");
            continue;
        }
        let outcome = outcome.exits(0);
        assert_eq!(outcome.text(), "", "{view}");
        assert_eq!((here.read("f"), here.read_out("victim")), ("new\n".into(), "old\n".into()), "{view}");
        assert!(!here.out("by-verify").exists(), "{view}: verify runs in the same isolation");
        let isolation = here.last().isolation;
        assert_eq!((&*isolation.level, &*isolation.view), ("strict", view));
        assert!(isolation.landlock_abi.is_some_and(|abi| abi >= 1), "{view}: {isolation:?}");
        // What is opened is open, and nothing else.
        let open = here.out("open");
        fs::create_dir(&open).expect("open");
        let options = ["--view", view, "--isolation", "strict", "--allow-write", open.to_str().expect("UTF-8")];
        here.run(&options, "echo x > $OUT/open/x; (echo y > $OUT/y) 2>/dev/null; echo newer > f").exits(0);
        assert!(here.out("open/x").exists() && !here.out("y").exists() && here.read("f") == "newer\n", "{view}");
        here.run(&["--view", view], "echo x > $OUT/made").exits(0);
        assert_eq!((&*here.last().isolation.level, here.last().isolation.landlock_abi), ("auto", None));
    }
}

#[test]
fn no_isolation_is_still_no_licence_to_land_a_failure() {
    let here = scene();
    let before = here.exact();
    let outcome = here.run(&["--isolation", "none"], "echo new > f; echo x > $OUT/x; exit 7");
    assert_eq!(here.exact(), before, "{outcome:?}");
    outcome.exits(7);
    here.run(&["--isolation", "none"], "echo new > f; echo x > $OUT/x").exits(0);
    assert_eq!((here.read("f"), here.read_out("x")), ("new\n".into(), "x\n".into()));
    let isolation = here.last().isolation;
    assert_eq!((&*isolation.level, isolation.landlock_abi, &*isolation.network), ("none", None, "host"));
}

#[test]
fn without_namespaces_a_private_copy_takes_over_and_says_so() {
    let here = scene();
    let script = "pwd -P > $OUT/where; echo new > f; rm sub/deep/g; test ! -e .agentguard";
    let Some(mut command) = without_namespaces(&here.command(&run_arguments(&["--verify", "grep -q new f"], script)))
    else {
        return skip("userns", "a process tree without user namespaces cannot be arranged");
    };
    Outcome::of(command.output().expect("runs")).exits(0);
    assert_eq!((here.read("f"), here.join("sub/deep/g").exists()), ("new\n".into(), false));
    assert_ne!(here.read_out("where").trim(), here.path().to_str().expect("UTF-8"), "never the real tree");
    assert_eq!(here.last().isolation.view, "clone");
    let before = here.exact();
    let failing = here.command(&run_arguments(&[], "echo bad > f; exit 7"));
    Outcome::of(without_namespaces(&failing).expect("as before").output().expect("runs")).exits(7);
    assert_eq!(here.exact(), before);
    // What was asked for and cannot be had is refused before anything is spawned, by name.
    for options in [&["--view", "overlay"][..], &["--no-network"]] {
        let refused = here.command(&run_arguments(options, "touch $OUT/spawned"));
        Outcome::of(without_namespaces(&refused).expect("as before").output().expect("runs"))
            .exits(125)
            .says("namespace");
    }
    assert!(!here.out("spawned").exists());
}

#[test]
fn an_agent_cannot_take_its_view_away() {
    if !facilities().same_path {
        return skip("userns", "there is no mount to take away");
    }
    for view in views() {
        let here = scene();
        let script = "umount -l . 2>/dev/null; umount -l \"$PWD\" 2>/dev/null; unshare -Ur umount -l . 2>/dev/null; \
                      unshare -Urm umount -l . 2>/dev/null; cd /; cd \"$OLDPWD\"; echo escaped > f; exit 7";
        here.run(&["--view", view], script).exits(7);
        assert_eq!(here.read("f"), "f\n", "{view}");
    }
}

#[test]
fn an_owner_without_a_number_in_the_user_namespace_is_no_obstacle_to_a_private_copy() {
    if !is_root() {
        skip("root", "a file of another owner cannot be made");
        return;
    }
    let here = Workspace::new();
    here.write("theirs", "x\n");
    std::os::unix::fs::chown(here.join("theirs"), Some(1234), Some(1234)).expect("given away");
    let command = here.command(&["run", "--view", "clone", "--", "sh", "-c", "cat theirs > mine"]);
    let mut inside = Command::new("unshare");
    inside.arg("-Ur").arg(command.get_program()).args(command.get_args()).stdin(Stdio::null());
    inside.current_dir(command.get_current_dir().expect("a directory"));
    Outcome::of(inside.output().expect("run")).exits(0);
    assert_eq!(here.read("mine"), "x\n");
}

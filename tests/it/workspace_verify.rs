//! Workspace mode, the gate: verify commands judge the staged result where it will stand, and nothing they write lands;
//! paths that make the next command of a trusting person run something may not change unless it was allowed.

use crate::project::{Outcome, skip};
use crate::workspace_scene::{Workspace, facilities, views};

fn scene() -> Workspace {
    let here = Workspace::new();
    for name in ["edited", "gone", "untouched", "sub/f", "kind/x"] {
        here.write(name, format!("{name}\n"));
    }
    here
}

/// What the agent does in every test of verify commands.
const AGENT: &str = "echo new > edited; rm gone; echo c > created; rm -r kind; echo k > kind; chmod 700 sub";

#[test]
fn nothing_that_verify_does_lands() {
    for view in views() {
        let (here, bare) = (scene(), scene());
        bare.by_hand(AGENT);
        let verify = "mkdir __pycache__; echo junk > __pycache__/x; echo worse > edited; echo worse > untouched; rm created; rm -r sub; \
                      echo back > gone; chmod 777 kind; ln -s / root; mkfifo pipe";
        here.run(&["--view", view, "--verify", verify, "--verify", "true"], AGENT).exits(0);
        assert_eq!(here.content(), bare.content(), "{view}");
        assert_eq!(here.last().verify.len(), 2);
        assert_eq!(here.leftovers(), Vec::<String>::new());
    }
}

#[test]
fn verify_judges_the_staged_result_where_it_will_stand() {
    for view in views() {
        let here = scene();
        let verify = "test \"$(cat edited untouched created kind)\" = \"$(printf 'new\\nuntouched\\nc\\nk')\" && test ! -e gone && \
                      test \"$(stat -c %a sub)\" = 700 && test \"$(cat $AGENTGUARD_RESULT/created)\" = c && \
                      test \"$(cd $AGENTGUARD_RESULT && pwd -P)\" = \"$(pwd -P)\" && pwd -P > $OUT/where && test ! -e .agentguard";
        here.run(&["--view", view, "--verify", verify], &format!("{AGENT}; pwd -P > $OUT/agent")).exits(0);
        if facilities().same_path {
            assert_eq!(here.read_out("where").trim(), here.path().to_str().expect("UTF-8"), "{view}");
            assert_eq!(here.read_out("where"), here.read_out("agent"), "{view}");
        }
        // A verify command that depends on the result: it fails on the wrong one and passes on the right one.
        let options = ["--view", view, "--verify", "grep -q right edited"];
        here.run(&options, "echo wrong > edited").exits(120);
        here.run(&options, "echo right > edited").exits(0);
        assert_eq!(here.read("edited"), "right\n");
    }
}

#[test]
fn verify_commands_run_in_order_until_one_fails() {
    for view in views() {
        let here = scene();
        let options = [
            "--view",
            view,
            "--verify",
            "echo 1 >> $OUT/order",
            "--verify",
            "echo 2 >> $OUT/order; false",
            "--verify",
            "echo 3 >> $OUT/order",
        ];
        here.run(&options, AGENT).exits(120);
        assert_eq!(here.read_out("order"), "1\n2\n");
        let record = here.last();
        assert_eq!(record.verify.iter().map(|one| one.exit_code).collect::<Vec<_>>(), [Some(0), Some(1)], "{view}");
        assert_eq!(here.read("edited"), "edited\n");
        std::fs::remove_file(here.out("order")).expect("removed");
    }
}

#[test]
fn verify_is_told_every_changed_path() {
    for view in views() {
        let here = scene();
        here.write("odd", "x");
        let odd = "printf x > \"$(printf 'a\\nb\\377')\"";
        let script = format!("{AGENT}; {odd}; touch odd");
        here.run(&["--view", view, "--verify", "cat $AGENTGUARD_CHANGES > $OUT/changes"], &script).exits(0);
        let changes: Vec<(String, String)> = here
            .read_out("changes")
            .lines()
            .map(|line| {
                let value: serde_json::Value =
                    serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
                let path = value["path"].as_str().map_or_else(|| value["path"].to_string(), str::to_owned);
                (path, value["change"].as_str().expect("a word").to_owned())
            })
            .collect();
        let said =
            |path: &str| changes.iter().filter(|(one, _)| one == path).map(|(_, word)| &**word).collect::<Vec<_>>();
        for (path, word) in [
            ("edited", "modified"),
            ("gone", "deleted"),
            ("created", "created"),
            ("kind", "modified"),
            ("kind/x", "deleted"),
            ("sub", "modified"),
        ] {
            assert_eq!(said(path), [word], "{view}: {path} in {changes:?}");
        }
        assert_eq!(changes.len(), 7, "{view}: the odd name too, and nothing else: {changes:?}");
    }
}

#[test]
fn verify_runs_where_the_agent_ran_with_a_private_temporary_directory() {
    for view in views() {
        let here = scene();
        let verify = "basename $PWD > $OUT/cwd; echo $TMPDIR > $OUT/tmp; touch $TMPDIR/x; cat f";
        let mut command = here.command(&[
            "run",
            "--view",
            view,
            "--verify",
            verify,
            "--",
            "sh",
            "-c",
            "echo new > f; touch $TMPDIR/agent; echo $TMPDIR > $OUT/agent-tmp",
        ]);
        Outcome::of(command.current_dir(here.join("sub")).output().expect("runs")).exits(0);
        assert_eq!((here.read_out("cwd"), here.read("sub/f")), ("sub\n".into(), "new\n".into()), "{view}");
        for tmp in ["tmp", "agent-tmp"] {
            let path = here.read_out(tmp);
            assert!(!std::path::Path::new(path.trim()).exists(), "{view}: {path} is gone with the run");
            assert!(!std::path::Path::new(path.trim()).starts_with(here.path().join("sub")), "{view}: {path}");
        }
        assert_eq!(here.last().changes.expect("changes").created, 0, "{view}: TMPDIR is not staged");
    }
}

/// Changes that nobody may make unnoticed, and the path that is named.
const TRAPS: [(&str, &str); 18] = [
    ("echo '[defaults]' >> agentguard.toml", "agentguard.toml"),
    ("rm agentguard.toml", "agentguard.toml"),
    ("chmod 666 agentguard.toml", "agentguard.toml"),
    ("mv agentguard.toml other.toml", "agentguard.toml"),
    ("rm agentguard.toml; mkdir agentguard.toml", "agentguard.toml"),
    ("echo x > .envrc", ".envrc"),
    ("mkdir -p a/b; echo x > a/b/.envrc", "a/b/.envrc"),
    ("ln -s /tmp/x .envrc", ".envrc"),
    ("echo x > .git/hooks/pre-commit; chmod +x .git/hooks/pre-commit", ".git/hooks/pre-commit"),
    ("rm -rf .git/hooks; ln -s $OUT .git/hooks", ".git/hooks"),
    ("git config core.hooksPath /tmp/x", ".git/config"),
    ("git config core.fsmonitor 'touch /tmp/x'", ".git/config"),
    ("git config alias.st '!sh'", ".git/config"),
    ("git config filter.x.clean sh", ".git/config"),
    ("git config include.path ../evil", ".git/config"),
    ("git config url.evil.insteadOf https://example.org", ".git/config"),
    ("rm .git/config; ln -s $OUT/config .git/config", ".git/config"),
    ("git init -q nested; git -C nested config core.editor sh", "nested/.git/config"),
];

#[test]
fn what_the_next_command_of_a_trusting_person_would_run_may_not_change() {
    for view in views() {
        let here = Workspace::with_git();
        here.by_hand("mkdir -p .git/hooks");
        let before = here.exact();
        for (trap, path) in TRAPS {
            let outcome = here.run(&["--view", view], &format!("{trap}; echo x > harmless")).exits(120).says(path);
            assert_eq!(here.exact(), before, "{view}: {trap}");
            let record = here.last();
            assert_eq!(record.error.expect("an error").kind.to_string(), "protected_path", "{view}: {trap}");
            assert!(outcome.stderr.contains("--allow"), "{view}: the way out is named: {}", outcome.stderr);
        }
    }
}

#[test]
fn what_was_allowed_may_change_and_what_was_protected_may_not() {
    for view in views() {
        let here = Workspace::with_git();
        here.write("src/lib", "x\n");
        let allowed: [(&[&str], &str); 4] = [
            (&["--allow", ".envrc"], "echo x > .envrc"),
            (&["--allow", ".git/hooks/**"], "mkdir -p .git/hooks; echo x > .git/hooks/pre-push"),
            (&["--allow", ".git/config"], "git config alias.st status"),
            (&["--allow", "agentguard.toml"], "echo '# more' >> agentguard.toml"),
        ];
        for (options, script) in allowed {
            let options: Vec<&str> = ["--view", view].iter().chain(options).copied().collect();
            here.run(&options, script).exits(0);
            assert!(here.last().published, "{view}: {script}");
        }
        assert_eq!(here.git(&["config", "alias.st"]), "status\n");
        here.run(&["--view", view, "--allow", ".envrc"], "echo y > .envrc; git config alias.x '!sh'")
            .exits(120)
            .says(".git/config");
        for script in ["echo y > src/lib", "rm -r src", "chmod 600 src/lib", "echo n > src/new", "mv src lib"] {
            here.run(&["--view", view, "--protect", "src/**"], script).exits(120).says("src/");
            assert_eq!(here.read("src/lib"), "x\n", "{view}: {script}");
        }
        here.run(&["--view", view, "--protect", "src/**"], "echo fine > other").exits(0);
    }
}

#[test]
fn what_git_writes_all_day_passes() {
    for view in views() {
        let here = Workspace::with_git();
        let day = "git config user.name somebody; git config branch.main.remote origin; git remote add origin https://example.org/x; \
                   git checkout -q -b topic; echo more >> tracked; git commit -q -am second; git tag v1; git branch -D main; \
                   git config core.autocrlf false; git status > /dev/null";
        here.run(&["--view", view], day).exits(0);
        assert_eq!(here.git(&["log", "--format=%s"]), "second\nfirst\n");
        assert_eq!(
            (here.git(&["status", "--porcelain"]), here.git(&["tag"])),
            (String::new(), "v1\n".into()),
            "{view}"
        );
        here.git(&["fsck", "--strict"]);
    }
}

#[test]
fn agentguard_runs_nothing_that_a_repository_or_an_agent_has_configured() {
    for view in views() {
        let here = Workspace::with_git();
        let marker = here.write("marker.sh", format!("#!/bin/sh\ntouch '{}'\n", here.out("ran").display()));
        here.by_hand("chmod +x marker.sh");
        let marker = marker.to_str().expect("UTF-8").to_owned();
        for key in [
            "core.fsmonitor",
            "core.editor",
            "core.pager",
            "diff.external",
            "filter.f.clean",
            "filter.f.smudge",
            "core.sshCommand",
            "credential.helper",
        ] {
            here.git(&["config", key, &marker]);
        }
        here.write(".gitattributes", "* filter=f diff=f\n");
        here.by_hand("mkdir -p .git/hooks; for hook in pre-commit post-checkout post-index-change reference-transaction; do cp marker.sh .git/hooks/$hook; done");
        let plant = format!(
            "git config core.hooksPath $OUT; git config diff.f.textconv {marker}; cp marker.sh .git/hooks/post-merge; echo new > file"
        );
        let _ = std::fs::remove_file(here.out("ran"));
        // git itself runs what is configured, in the agent: not to be mistaken for agentguard.
        let agent = format!("{plant}; rm -f $OUT/ran");
        here.run(&["--view", view, "--allow", ".git/**", "--hold"], &agent).exits(0);
        for arguments in [
            &["show", "@"][..],
            &["diff", "@"],
            &["diff", "@", "--stat"],
            &["apply", "@"],
            &["diff", "@"],
            &["log"],
            &["fsck"],
            &["undo", "@"],
            &["recover"],
        ] {
            here.ag(arguments).exits(0);
        }
        here.run(&["--view", view, "--verify", "true"], "echo newer > file").exits(0);
        assert!(!here.out("ran").exists(), "{view}: something that an agent could have configured was run");
    }
}

#[test]
fn sockets_and_devices_in_the_result_are_refused() {
    for view in views() {
        let here = scene();
        let before = here.exact();
        let socket = "python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind(\"s\")'";
        here.run(&["--view", view], socket).exits(120).says("socket");
        assert_eq!(here.exact(), before);
        let device = here.run(&["--view", view], "mknod null c 1 3 2>/dev/null || exit 9; echo x > beside");
        match device.code {
            Some(9) => skip("device", "this user may not make devices"),
            _ => drop(device.exits(120).says("device")),
        }
        assert_eq!(here.exact(), before, "{view}");
        here.run(&["--view", view, "--verify", "test -p pipe"], "mkfifo pipe").exits(0);
        assert!(std::os::unix::fs::FileTypeExt::is_fifo(
            &here.join("pipe").symlink_metadata().expect("fifo").file_type()
        ));
    }
}

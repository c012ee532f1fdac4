//! Publishing: what was verified is what is published, all of it or nothing, and never over somebody else's change.

use std::os::unix::fs::{MetadataExt, PermissionsExt};

use crate::project::{MEET, Project, exact_state, is_root, rounds, skip, wait_until};
use crate::workspace_scene::facilities;

#[test]
fn a_directory_is_published_whole_with_modes_times_links_and_empty_directories() {
    let project = Project::new();
    let script = "cd $AGENTGUARD_STAGING && mkdir -p a/empty && echo x > a/f && chmod 640 a/f && touch -d @1000000000 a/f \
                  && ln -s a/f link && ln a/f hard && mkdir closed && echo y > closed/g && chmod 500 closed && mkfifo p";
    project.run(&["--out", "report"], script).exits(0).says("published 5 files");
    let stat = |name: &str| project.join(name).symlink_metadata().expect("stat");
    assert_eq!((stat("report/a/f").mode() & 0o7777, stat("report/a/f").mtime()), (0o640, 1_000_000_000));
    assert_eq!(stat("report/a/f").ino(), stat("report/hard").ino());
    assert!(stat("report/a/empty").is_dir() && stat("report/link").is_symlink());
    assert_eq!(stat("report/closed").mode() & 0o7777, 0o500);
    let changes = project.last().changes.expect("changes");
    assert_eq!((changes.created, changes.modified, changes.deleted), (5, 0, 0));
}

#[test]
fn a_new_version_replaces_the_old_one_whole_and_counts_what_changed() {
    let project = Project::new();
    project.write("report/kept", "same");
    project.write("report/edited", "old");
    project.write("report/gone", "bye");
    std::fs::set_permissions(project.join("report"), std::fs::Permissions::from_mode(0o750)).expect("mode");
    let script = "cd $AGENTGUARD_STAGING; printf same > kept; printf new > edited; printf x > fresh";
    project.run(&["--out", "report"], script).exits(0);
    assert_eq!(project.visible_names(), ["report"]);
    assert!(!project.join("report/gone").exists());
    assert_eq!(project.read("report/edited"), "new");
    assert_eq!(project.join("report").metadata().expect("stat").mode() & 0o7777, 0o750, "the directory keeps its mode");
    let changes = project.last().changes.expect("changes");
    assert_eq!((changes.created, changes.modified, changes.deleted), (1, 1, 1));
}

#[test]
fn an_agent_that_stages_nothing_leaves_the_target_alone() {
    let project = Project::new();
    project.write("report/a", "old");
    let before = exact_state(&project.join("report"));
    project.run(&["--out", "report"], "true").exits(0).says("nothing to publish");
    assert_eq!(exact_state(&project.join("report")), before);
    let record = project.last();
    assert_eq!((record.published, record.output_hash, record.error_class), (false, None, None));
}

#[test]
fn several_outputs_are_one_commit() {
    let project = Project::new();
    project.write("b.txt", "old b");
    let options = ["--out", "out/dir", "--out-file", "a.txt", "--out-file", "b.txt", "--stdout", "log.txt"];
    let script = "cd $AGENTGUARD_STAGING; mkdir dir; echo d > dir/d; echo a > a.txt; echo b > b.txt; echo printed";
    let outcome = project.run(&options, script).exits(0);
    assert_eq!(outcome.text(), "", "what is published by --stdout is not printed");
    assert_eq!(project.read("out/dir/d"), "d\n");
    assert_eq!(
        (project.read("a.txt"), project.read("b.txt"), project.read("log.txt")),
        ("a\n".into(), "b\n".into(), "printed\n".into())
    );
    assert_eq!(project.last().targets.len(), 4);
    // One of them in the way of somebody else: none is written.
    let script = format!("cd $AGENTGUARD_STAGING; echo a2 > a.txt; echo b2 > b.txt; {MEET}");
    let theirs = || {
        project.write("b.txt", "theirs\n");
    };
    project.meanwhile(&["--out-file", "a.txt", "--out-file", "b.txt"], &script, theirs).exits(122).says("b.txt");
    assert_eq!((project.read("a.txt"), project.read("b.txt")), ("a\n".into(), "theirs\n".into()));
}

#[test]
fn an_output_the_agent_did_not_write_stays_and_is_named() {
    let project = Project::new();
    project.write("b.txt", "old b");
    project
        .run(&["--out-file", "a.txt", "--out-file", "b.txt"], "echo a > $AGENTGUARD_STAGING/a.txt")
        .exits(0)
        .says("b.txt not written");
    assert_eq!((project.read("a.txt"), project.read("b.txt")), ("a\n".into(), "old b".into()));
}

#[test]
fn out_on_a_file_means_that_file_and_current_content_can_be_the_start() {
    let project = Project::new();
    project.write("notes.md", "one\n");
    project.run(&["--out", "notes.md", "--out-from", "current"], "echo two >> $AGENTGUARD_STAGING/notes.md").exits(0);
    assert_eq!(project.read("notes.md"), "one\ntwo\n");
    project.write("site/a", "a");
    project.write("site/b", "b");
    project
        .run(&["--out", "site", "--out-from", "current"], "rm $AGENTGUARD_STAGING/a; echo c > $AGENTGUARD_STAGING/c")
        .exits(0);
    assert!(!project.join("site/a").exists() && project.read("site/b") == "b" && project.read("site/c") == "c\n");
}

#[test]
fn no_lost_update_a_change_by_somebody_else_is_a_conflict_and_survives() {
    let edits = [
        "echo theirs > $T/a",
        "chmod 600 $T/a",
        "touch -d @5 $T/a",
        "rm $T/a",
        "echo theirs > $T/added",
        "mv $T $T.moved && mkdir $T && echo theirs > $T/a",
        "rm -r $T && echo theirs > $T",
        "ln -sf /etc/passwd $T/a",
    ];
    for edit in edits {
        let project = Project::new();
        project.write("report/a", "old");
        let mut after = Vec::new();
        let theirs = || {
            let mut shell = std::process::Command::new("sh");
            shell.args(["-c", &format!("T=$PWD/report; {edit}")]).current_dir(project.path());
            assert!(shell.status().expect("edited").success());
            after = content(&project);
        };
        let script = format!("echo mine > $AGENTGUARD_STAGING/a; {MEET}");
        project.meanwhile(&["--out", "report"], &script, theirs).exits(122).says("changed by somebody else");
        assert_eq!(content(&project), after, "{edit}");
        let record = project.last();
        assert_eq!(record.error_class.expect("a class").to_string(), "publish_failed");
        assert!(!record.published);
    }
}

/// Names, kinds and contents, without times.
fn content(project: &Project) -> Vec<String> {
    walkdir::WalkDir::new(project.path())
        .sort_by_file_name()
        .into_iter()
        .filter_entry(|entry| entry.file_name() != ".agentguard")
        .flatten()
        .map(|entry| {
            let text = std::fs::read_to_string(entry.path()).unwrap_or_default();
            format!("{:?} {:?} {text}", entry.path().strip_prefix(project.path()), entry.file_type())
        })
        .collect()
}

#[test]
fn a_target_that_appears_meanwhile_is_a_conflict() {
    let project = Project::new();
    let theirs = || std::fs::create_dir(project.join("report")).expect("made");
    project.meanwhile(&["--out", "report"], &format!("echo mine > $AGENTGUARD_STAGING/a; {MEET}"), theirs).exits(122);
    assert_eq!(std::fs::read_dir(project.join("report")).expect("theirs").count(), 0);
}

#[test]
fn what_was_verified_is_what_is_published() {
    let project = Project::new();
    let verify = "echo tampered > $AGENTGUARD_RESULT/a; echo more > $AGENTGUARD_RESULT/b; rm -f $AGENTGUARD_STAGING/c";
    project
        .run(&["--out", "report", "--verify", verify], "echo a > $AGENTGUARD_STAGING/a; echo c > $AGENTGUARD_STAGING/c")
        .exits(0);
    assert_eq!((project.read("report/a"), project.read("report/c")), ("a\n".into(), "c\n".into()));
    assert!(!project.join("report/b").exists(), "what verify writes is never published");
}

#[test]
fn a_staged_file_that_changes_after_verification_began_refuses_the_commit() {
    let project = Project::new();
    for edit in ["echo late > $S/a", "touch $S/a", "echo late > $S/new", "rm $S/a", "chmod 600 $S/a"] {
        // Verify finds staging beside its own copy, as a process that the agent left behind would.
        let verify = format!("S=$(dirname $(dirname $AGENTGUARD_RESULT))/staging; {edit}");
        let outcome = project.run(
            &["--isolation", "none", "--out", "report", "--verify", &verify],
            "echo a > $AGENTGUARD_STAGING/a; echo b > $AGENTGUARD_STAGING/b",
        );
        if edit.starts_with("touch") {
            // Same bytes, same mode: what was verified is still what is published.
            outcome.exits(0);
            std::fs::remove_dir_all(project.join("report")).expect("removed");
            continue;
        }
        outcome.exits(120).says("changed after it was judged");
        assert_eq!(project.last().error.expect("an error").kind.to_string(), "modified_after_verify");
        assert!(!project.join("report").exists());
    }
}

#[test]
fn in_a_view_verify_cannot_reach_what_the_agent_staged() {
    if !facilities().overlay {
        return skip("overlay", "no view of publish mode can be had");
    }
    let project = Project::new();
    // By its own path, by that of the process that started it, and wherever it may show by its name.
    let verify = "S=.agentguard/runs/$AGENTGUARD_RUN_ID/staging; test -e $S && exit 91; mkdir -p $S; echo late > $S/a; \
                  test -e /proc/$PPID/root$PWD/.agentguard/runs/$AGENTGUARD_RUN_ID/journal && exit 92; \
                  test -e /proc/$PPID/cwd/.agentguard/runs/$AGENTGUARD_RUN_ID/journal && exit 93; \
                  find ${AGENTGUARD_RESULT%/*} $PWD/report -name a -exec sh -c 'echo late > \"$1\"' - {} \\;; \
                  cat $AGENTGUARD_RESULT/a";
    project.run(&["--out", "report", "--verify", verify], "echo a > $AGENTGUARD_STAGING/a").exits(0);
    assert_eq!(project.read("report/a"), "a\n");
    let log = project.state().join("runs").join(project.last().run_id.to_string()).join("verify-1.log");
    assert_eq!(std::fs::read_to_string(log).expect("log"), "late\n", "what it wrote was its own copy");
}

#[test]
fn verify_sees_the_result_the_changes_and_the_environment_of_the_start() {
    let project = Project::new();
    project.write("report/old", "x");
    let verify = "test -f $AGENTGUARD_RESULT/new && test \"$(pwd)\" = \"$WHERE\" && test -n \"$AGENTGUARD_RUN_ID\" \
                  && grep -q '\"change\":\"created\",\"path\":\"report/new\"' $AGENTGUARD_CHANGES \
                  && grep -q '\"change\":\"deleted\",\"path\":\"report/old\"' $AGENTGUARD_CHANGES";
    let mut command = project.command(&[
        "run",
        "--out",
        "report",
        "--verify",
        verify,
        "--",
        "sh",
        "-c",
        "echo n > $AGENTGUARD_STAGING/new",
    ]);
    let outcome = crate::project::Outcome::of(command.env("WHERE", project.path()).output().expect("runs"));
    outcome.exits(0).says("verified in");
    assert_eq!(project.last().verify.len(), 1);
}

#[test]
fn a_file_hard_linked_to_one_outside_is_published_as_a_copy() {
    let project = Project::new();
    project.write("private", "secret\n");
    project
        .run(
            &["--isolation", "none", "--out", "report"],
            "ln $PWD/private $AGENTGUARD_STAGING/a; ln $AGENTGUARD_STAGING/a $AGENTGUARD_STAGING/b",
        )
        .exits(0);
    let ino = |name: &str| project.join(name).metadata().expect("stat").ino();
    assert_ne!(ino("report/a"), ino("private"), "writing to the report must not write to the private file");
    assert_eq!(project.read("report/a"), "secret\n");
}

#[test]
fn in_a_view_nothing_outside_can_be_hard_linked_into_staging() {
    if !facilities().overlay {
        return skip("overlay", "no view of publish mode can be had");
    }
    let project = Project::new();
    project.write("private", "secret\n");
    std::fs::write(project.outside("private"), "secret\n").expect("written");
    let script = "for from in $PWD/private $OUTSIDE/private; do python3 - $from <<'END' || exit 9\n\
                  import errno, os, sys\n\
                  try: os.link(sys.argv[1], os.environ['AGENTGUARD_STAGING'] + '/a')\n\
                  except OSError as error: sys.exit(error.errno != errno.EXDEV)\n\
                  sys.exit(8)\nEND\n\
                  done; cd $AGENTGUARD_STAGING; echo own > b; ln b c";
    project.run(&["--out", "report"], script).exits(0);
    let stat = |name: &str| project.join(name).metadata().expect("stat");
    assert_eq!(
        (stat("report/b").ino(), stat("report/b").nlink()),
        (stat("report/c").ino(), 2),
        "its own links are kept"
    );
    assert_eq!(stat("private").nlink(), 1);
}

#[test]
fn a_thousand_publishes_never_show_a_mixture() {
    let project = Project::new();
    for version in ["one", "two"] {
        for file in 0..50 {
            project.write(&format!("{version}/f{file}"), version);
        }
    }
    project.run(&["--out", "site"], "cp one/* $AGENTGUARD_STAGING").exits(0);
    let stop = std::sync::atomic::AtomicBool::new(false);
    let site = project.join("site");
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut seen = std::collections::BTreeSet::new();
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                seen.insert(read_through_one_descriptor(&site));
            }
            seen
        });
        for round in 0..rounds(1000, 100) {
            let version = if round % 2 == 0 { "two" } else { "one" };
            project.run(&["--out", "site", "--quiet"], &format!("cp {version}/* $AGENTGUARD_STAGING")).exits(0);
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        let seen = reader.join().expect("the path resolves every time, and every read succeeds");
        assert_eq!(seen.into_iter().collect::<Vec<_>>(), ["one", "two"]);
    });
    assert_eq!(project.records().len(), rounds(1000, 100) + 1);
}

/// Opens the directory once and reads all files through it: one version whole, also if it is displaced meanwhile.
fn read_through_one_descriptor(site: &std::path::Path) -> String {
    use rustix::fs::{Mode, OFlags, open, openat};
    use std::io::Read as _;
    let directory = open(site, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).expect("the path always resolves");
    let mut versions = std::collections::BTreeSet::new();
    for file in 0..50 {
        let opened = openat(&directory, format!("f{file}"), OFlags::RDONLY, Mode::empty());
        let mut text = String::new();
        std::fs::File::from(opened.expect("the displaced tree outlives its readers"))
            .read_to_string(&mut text)
            .expect("read");
        versions.insert(text);
    }
    assert_eq!(versions.len(), 1, "one version whole");
    versions.pop_first().expect("one")
}

#[test]
fn a_displaced_tree_is_removed_by_a_later_command_and_not_waited_for() {
    let project = Project::new();
    project.write("report/a", "old");
    project.run(&["--out", "report"], "echo new > $AGENTGUARD_STAGING/a").exits(0);
    let trash = || std::fs::read_dir(project.state().join("trash")).expect("trash").count();
    assert_eq!(trash(), 1, "it outlives its readers");
    project.ag(&["recover"]).exits(0);
    assert_eq!(trash(), 0);
}

#[test]
fn outputs_on_another_filesystem_are_published_atomically_too() {
    let other = std::path::Path::new("/dev/shm");
    let Ok(other) = tempfile::tempdir_in(other) else { return skip("second_filesystem", "/dev/shm is not writable") };
    let project = Project::new();
    if project.path().metadata().expect("stat").dev() == other.path().metadata().expect("stat").dev() {
        return skip("second_filesystem", "/dev/shm is the same filesystem");
    }
    let there = other.path().join("out");
    let there = there.to_str().expect("UTF-8");
    let staging =
        project.run(&["--isolation", "none", "--out", there], "echo $AGENTGUARD_STAGING; exit 9").exits(9).text();
    assert_eq!(std::path::Path::new(staging.trim()).ancestors().nth(2), Some(other.path()), "beside the target");
    for version in ["one", "two"] {
        project.run(&["--out", there], &format!("echo {version} > $AGENTGUARD_STAGING/a")).exits(0);
        assert_eq!(std::fs::read_to_string(other.path().join("out/a")).expect("published"), format!("{version}\n"));
    }
    // Mixed targets: one here, one there.
    let file = other.path().join("f.txt");
    let options = ["--out-file", file.to_str().expect("UTF-8"), "--out", "here"];
    let script = "cd $AGENTGUARD_STAGING; echo f > f.txt; chmod 640 f.txt; mkdir here; echo h > here/h";
    project.run(&options, script).exits(0);
    assert_eq!((std::fs::read_to_string(&file).expect("f"), project.read("here/h")), ("f\n".into(), "h\n".into()));
    assert_eq!(file.metadata().expect("stat").mode() & 0o7777, 0o640);
    project.ag(&["recover"]).exits(0);
    let hidden: Vec<_> = std::fs::read_dir(other.path())
        .expect("readable")
        .flatten()
        .map(|entry| entry.file_name())
        .filter(|name| name.to_string_lossy().starts_with('.'))
        .collect();
    assert!(hidden.is_empty(), "{hidden:?}");
}

#[test]
fn a_filesystem_without_exchange_gets_a_journaled_two_step() {
    if !has_strace() {
        return skip("strace", "not installed");
    }
    let project = Project::new();
    project.write("report/a", "old");
    let mut command = std::process::Command::new("strace");
    command.args(["-f", "-qq", "-o", "/dev/null", "-e", "trace=renameat2", "-e", "inject=renameat2:error=EINVAL"]);
    command.arg(crate::project::binary()).args([
        "run",
        "--out",
        "report",
        "--",
        "sh",
        "-c",
        "echo new > $AGENTGUARD_STAGING/a",
    ]);
    let output = command.current_dir(project.path()).stdin(std::process::Stdio::null()).output().expect("strace");
    crate::project::Outcome::of(output).exits(0);
    assert_eq!(project.read("report/a"), "new\n");
}

pub(crate) fn has_strace() -> bool {
    std::process::Command::new("strace").arg("-V").output().is_ok_and(|output| output.status.success())
}

#[test]
fn files_that_their_owner_may_not_read_are_published_with_their_modes() {
    if is_root() {
        return skip("ordinary_user", "root reads everything");
    }
    let project = Project::new();
    let script = "cd $AGENTGUARD_STAGING; echo s > secret; chmod 000 secret; mkdir d; echo x > d/x; chmod 300 d";
    project.run(&["--out", "report", "--verify", "true"], script).exits(0);
    let mode = |name: &str| project.join(name).symlink_metadata().expect("stat").mode() & 0o7777;
    assert_eq!((mode("report/secret"), mode("report/d")), (0o000, 0o300));
    std::fs::set_permissions(project.join("report/d"), std::fs::Permissions::from_mode(0o700)).expect("mode");
}

#[test]
fn fifty_concurrent_runs_are_fifty_lines_and_no_publish_is_lost() {
    let project = Project::new();
    let children: Vec<_> = (0..50)
        .map(|number| {
            let out = format!("out/{number}");
            project.spawn(&["--out", &out, "--quiet"], &format!("echo {number} > $AGENTGUARD_STAGING/n"))
        })
        .collect();
    for child in children {
        crate::project::Outcome::of(child.wait_with_output().expect("waited")).exits(0);
    }
    let records = project.records();
    assert_eq!(records.len(), 50);
    for number in 0..50 {
        assert_eq!(project.read(&format!("out/{number}/n")), format!("{number}\n"));
    }
    project.ag(&["fsck"]).exits(0);
}

#[test]
fn concurrent_runs_on_one_target_publish_or_conflict_and_never_overwrite() {
    let project = Project::new();
    let children: Vec<_> = (0..8)
        .map(|number| {
            let script = format!(
                "touch $OUTSIDE/s{number}; while [ ! -e $OUTSIDE/go ]; do sleep 0.01; done; echo {number} > $AGENTGUARD_STAGING/n"
            );
            project.spawn(&["--out", "report"], &script)
        })
        .collect();
    wait_until("all have begun", || (0..8).all(|number| project.outside(format!("s{number}")).exists()));
    std::fs::write(project.outside("go"), "").expect("let go");
    let codes: Vec<_> =
        children.into_iter().map(|child| child.wait_with_output().expect("waited").status.code()).collect();
    assert_eq!(codes.iter().filter(|code| **code == Some(0)).count(), 1, "{codes:?}");
    assert_eq!(codes.iter().filter(|code| **code == Some(122)).count(), 7, "{codes:?}");
}

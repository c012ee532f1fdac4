//! Defects that a second look found, each as the scenario in which it showed.

use std::process::Stdio;

use crate::project::{Outcome, Project, feed, is_root, wait_until};

#[test]
fn recovery_takes_a_commit_as_applied_only_on_evidence() {
    let project = Project::new();
    project.write("report/a", "old");
    let mut command =
        project.command(&["run", "--out", "report", "--", "sh", "-c", "echo new > $AGENTGUARD_STAGING/a"]);
    let struck = command.env("AGENTGUARD_FAULT", "commit.intended:kill").output().expect("runs");
    assert_eq!(struck.status.code(), None);
    // Another device number, as after a reboot: the inodes are what they were.
    let run =
        std::fs::read_dir(project.state().join("runs")).expect("runs").next().expect("a run").expect("entry").path();
    let journal = std::fs::read_to_string(run.join("journal")).expect("journal");
    let dev = std::os::unix::fs::MetadataExt::dev(&project.path().metadata().expect("stat"));
    std::fs::write(run.join("journal"), journal.replace(&format!("\"dev\":{dev}"), "\"dev\":1")).expect("journal");
    project.ag(&["recover"]).exits(0);
    assert_eq!(project.read("report/a"), "new\n");
    assert!(project.last().published);
}

#[test]
fn a_commit_whose_staging_was_taken_away_is_not_called_complete() {
    let project = Project::new();
    project.write("report/a", "old");
    let mut command =
        project.command(&["run", "--out", "report", "--", "sh", "-c", "echo new > $AGENTGUARD_STAGING/a"]);
    command.env("AGENTGUARD_FAULT", "commit.intended:kill").output().expect("runs");
    let run =
        std::fs::read_dir(project.state().join("runs")).expect("runs").next().expect("a run").expect("entry").path();
    std::fs::remove_dir_all(run.join("staging")).expect("taken away");
    project.ag(&["recover"]).exits(0);
    assert_eq!(project.read("report/a"), "old");
    let record = project.last();
    assert!(!record.published);
    assert_eq!(record.error.expect("an error").kind.to_string(), "tampered");
}

#[test]
fn standard_input_from_a_file_is_what_it_was_when_the_agent_began() {
    let project = Project::new();
    let input = project.outside("in.txt");
    std::fs::write(&input, "one\n").expect("written");
    let script = "cat > $AGENTGUARD_STAGING/x; echo two > $OUTSIDE/in.txt";
    let mut command = project.command(&["run", "--out", "o", "--", "sh", "-c", script]);
    let output = command.stdin(std::fs::File::open(input).expect("input")).output().expect("runs");
    Outcome::of(output).exits(0);
    assert_eq!(project.read_outside("in.txt"), "two\n");
    project.ag(&["replay", "@"]).exits(0).says("reproduced");
}

#[test]
fn damaged_or_missing_recorded_standard_input_is_said_and_not_used() {
    let project = Project::new();
    let command = ["run", "--out", "o", "--", "sh", "-c", "cat > $AGENTGUARD_STAGING/x"];
    let child = project.command(&command).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    feed(child.expect("spawned"), b"hello").exits(0);
    let kept = project.state().join("runs").join(project.last().run_id.to_string()).join("stdin");
    std::fs::write(&kept, "hullo").expect("damaged");
    project.ag(&["replay", "@"]).exits(125).says("standard input").says("damaged");
    project.ag(&["fsck"]).exits(1);
    std::fs::remove_file(&kept).expect("deleted");
    project.ag(&["replay", "@"]).exits(125).says("standard input");
}

#[test]
fn a_full_state_directory_does_not_cut_the_agents_input() {
    if !is_root() {
        return crate::project::skip("mount", "only root mounts a small disk");
    }
    let project = Project::new();
    std::fs::create_dir(project.join("disk")).expect("mount point");
    let mount = |arguments: &[&str]| {
        std::process::Command::new(arguments[0]).args(&arguments[1..]).current_dir(project.path()).status()
    };
    let mounted = mount(&["mount", "-t", "tmpfs", "-o", "size=400k,mode=700", "none", "disk"]);
    if !mounted.is_ok_and(|status| status.success()) {
        return crate::project::skip("mount", "this process may not mount a small disk");
    }
    // The result is published outside the small disk, which only holds the state: the kept input does not fit.
    let state = project.join("disk/state");
    let arguments = [
        "--state-dir",
        state.to_str().expect("UTF-8"),
        "run",
        "--out-file",
        "count",
        "--",
        "sh",
        "-c",
        "wc -c > $AGENTGUARD_STAGING/count",
    ];
    let child = project.command(&arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let outcome = feed(child.expect("spawned"), &vec![b'x'; 1_500_000]);
    let count = std::fs::read_to_string(project.join("count"));
    mount(&["umount", "-l", "disk"]).expect("unmounted");
    outcome.exits(0).says("was not kept");
    assert_eq!(count.expect("published").trim(), "1500000");
}

#[test]
fn a_signal_while_output_is_still_on_its_way_cancels_the_run() {
    let project = Project::new();
    let script = "head -c 500000 /dev/zero; echo x > $AGENTGUARD_STAGING/f; touch $OUTSIDE/done";
    let mut child = project.spawn(&["--out", "d"], script);
    wait_until("the agent is done or blocked", || project.outside("done").exists());
    // Nobody reads: agentguard waits for its reader, and is told to stop.
    std::process::Command::new("kill").args(["-TERM", &child.id().to_string()]).status().expect("kill");
    wait_until("it ends", || matches!(child.try_wait(), Ok(Some(_))));
    Outcome::of(child.wait_with_output().expect("waited")).exits(143);
    assert!(!project.join("d").exists());
    assert_eq!(project.last().status.to_string(), "cancelled");
}

#[test]
fn a_stopped_agent_whose_output_nobody_reads_does_not_hold_agentguard() {
    let project = Project::new();
    let mut child = project.spawn(&["--out", "d", "--timeout", "300ms"], "exec yes");
    wait_until("it ends", || matches!(child.try_wait(), Ok(Some(_))));
    assert_eq!(child.wait().expect("waited").code(), Some(124));
}

#[test]
fn a_process_that_floods_the_pipe_after_the_agent_does_not_hold_agentguard() {
    let project = Project::new();
    let script = "cd $OUTSIDE; setsid sh -c 'echo $$ > flood; exec yes' & while [ ! -s $OUTSIDE/flood ]; do sleep 0.01; done; echo 1 > $AGENTGUARD_STAGING/f";
    let mut child = project.spawn(&["--out", "d"], script);
    let mut out = child.stdout.take().expect("a pipe");
    let reader = std::thread::spawn(move || std::io::copy(&mut out, &mut std::io::sink()));
    wait_until("it ends", || matches!(child.try_wait(), Ok(Some(_))));
    std::process::Command::new("kill").args(["-9", project.read_outside("flood").trim()]).status().expect("kill");
    reader.join().expect("reader").expect("read");
    assert_eq!(child.wait().expect("waited").code(), Some(0));
}

#[test]
fn a_glob_means_what_was_typed_whatever_the_directory_is_called() {
    let project = Project::new();
    project.write("w1/t.txt", "wrong");
    project.write("w[1]/t.txt", "right");
    let mut command = project.command(&[
        "run",
        "--input",
        "*.txt",
        "--out",
        "o",
        "--",
        "sh",
        "-c",
        "cp -r $AGENTGUARD_INPUTS/. $AGENTGUARD_STAGING/",
    ]);
    Outcome::of(command.current_dir(project.join("w[1]")).output().expect("runs")).exits(0);
    assert_eq!(project.read("w[1]/o/w[1]/t.txt"), "right");
}

#[test]
fn a_gate_from_the_environment_is_never_silently_skipped() {
    use std::os::unix::ffi::OsStrExt as _;
    let project = Project::new();
    let mut command = project.command(&["run", "--out", "o", "--", "true"]);
    command.env("AGENTGUARD_VERIFY", std::ffi::OsStr::from_bytes(b"false #\xff"));
    Outcome::of(command.output().expect("runs")).exits(125).says("AGENTGUARD_VERIFY");
}

#[test]
fn what_staging_started_from_is_replayed_and_an_emptied_directory_is_a_result() {
    let project = Project::new();
    project.write("site/log", "one\n");
    let options = ["--out", "site", "--out-from", "current"];
    project.run(&options, "echo two >> $AGENTGUARD_STAGING/log").exits(0);
    assert_eq!(project.read("site/log"), "one\ntwo\n");
    project.write("site/log", "something else\n");
    project.ag(&["replay", "@"]).exits(0).says("reproduced");
    project.ag(&["replay", "@"]).exits(0).says("reproduced");
    project.run(&options, "rm $AGENTGUARD_STAGING/log").exits(0).says("published");
    assert_eq!(std::fs::read_dir(project.join("site")).expect("site").count(), 0);
    project.run(&options, "true").exits(0).says("nothing to publish");
}

#[test]
fn staged_links_are_never_followed() {
    let project = Project::new();
    project.write("outside/x", "x");
    let script = "ln -s nowhere $AGENTGUARD_STAGING/a; ln -s $PWD/outside $AGENTGUARD_STAGING/b";
    project.run(&["--out-file", "a", "--out-file", "b"], script).exits(0);
    assert_eq!(std::fs::read_link(project.join("a")).expect("a link").to_str(), Some("nowhere"));
    assert!(project.join("b").symlink_metadata().expect("stat").is_symlink());
}

#[test]
fn an_output_of_the_wrong_kind_and_stray_files_do_not_pass() {
    let project = Project::new();
    project.run(&["--out-file", "rep.md"], "mkdir $AGENTGUARD_STAGING/rep.md").exits(120).says("staged as a directory");
    let options = ["--out-file", "rep.md", "--verify", "test -e $AGENTGUARD_RESULT/other"];
    project.run(&options, "echo x > $AGENTGUARD_STAGING/rep.md; echo x > $AGENTGUARD_STAGING/other").exits(120);
    assert!(!project.join("rep.md").exists());
}

#[test]
fn a_directory_that_cannot_be_swapped_is_refused_before_anything_is_spawned() {
    if is_root() {
        return crate::project::skip("ordinary_user", "root writes everywhere");
    }
    use std::os::unix::fs::PermissionsExt as _;
    let project = Project::new();
    project.write("report/a", "x");
    std::fs::set_permissions(project.join("report"), std::fs::Permissions::from_mode(0o555)).expect("mode");
    project.run(&["--out", "report"], "touch $OUTSIDE/spawned").exits(125).says("chmod u+w");
    assert!(!project.outside("spawned").exists());
    std::fs::set_permissions(project.join("report"), std::fs::Permissions::from_mode(0o755)).expect("mode");
}

#[test]
fn a_record_that_cannot_be_written_refuses_the_run_and_options_of_an_outer_run_do_not_leak() {
    let project = Project::new();
    let options = ["--out", "o", "--record", "/nonexistent/r.json"];
    project.run(&options, "touch $OUTSIDE/spawned").exits(125).says("--record");
    assert!(!project.outside("spawned").exists());
    let mut command =
        project.command(&["run", "--", "sh", "-c", "echo ${AGENTGUARD_OUT-unset}; echo x > $AGENTGUARD_STAGING/x"]);
    let outcome = Outcome::of(command.env("AGENTGUARD_OUT", "o").output().expect("runs")).exits(0);
    assert_eq!(outcome.text(), "unset\n");
    project.write("agentguard.toml", "[defaults]\nagent = \"bob\"\n");
    project.run(&["--out", "o"], "true").exits(0);
    assert_eq!(project.last().agent.to_string_lossy(), "bob");
}

#[test]
fn the_output_of_verify_is_kept_within_bounds() {
    let project = Project::new();
    let options = ["--out", "o", "--verify", "yes | head -c 20000000; echo the end; exit 1"];
    project.run(&options, "echo x > $AGENTGUARD_STAGING/x").exits(120);
    let run = project.state().join("runs").join(project.last().run_id.to_string());
    let size = |name: &str| std::fs::metadata(run.join(name)).expect("kept").len();
    assert!(size("verify-1.log") + size("verify-1.log.tail") <= 2 * 1024 * 1024);
    assert!(std::fs::read_to_string(run.join("verify-1.log.tail")).expect("tail").ends_with("the end\n"));
    assert!(project.ag(&["show", "@"]).exits(0).text().contains("the end"));
}

#[test]
fn a_damaged_pack_does_not_poison_live_inputs() {
    let project = Project::new();
    project.write("data/a", "content\n");
    let script = "cp $AGENTGUARD_INPUTS/data/a $AGENTGUARD_STAGING/";
    project.run(&["--input", "data", "--out", "o"], script).exits(0);
    let packs = project.state().join("snapshots/packs");
    let pack = std::fs::read_dir(&packs).expect("packs").next().expect("a pack").expect("entry").path();
    let mut bytes = std::fs::read(&pack).expect("pack");
    for byte in &mut bytes {
        *byte ^= 1;
    }
    std::fs::write(&pack, bytes).expect("damaged");
    // Read again, whether the damage was met or the file was too young for the stat cache to be trusted.
    project.run(&["--input", "data", "--out", "o"], script).exits(0);
    assert_eq!(project.read("o/a"), "content\n");
    project.ag(&["replay", "@"]).exits(0);
}

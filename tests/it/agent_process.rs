//! Promise 9: the wrapped command cannot tell the difference in what it should rely on.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;
use std::process::Stdio;

use crate::project::{MEET, Outcome, Project, feed, mount_point, processes_with, unique, wait_until};
use crate::workspace_scene::facilities;

#[test]
fn arguments_arrive_byte_for_byte_and_placeholders_are_expanded() {
    let project = Project::new();
    let odd = ["", "a b", "-rf", "--", "$HOME", "new\nline", "\\", "'\"", "{staging}x{inputs}y{other}"];
    let mut arguments: Vec<OsString> =
        ["run", "--out", "o", "--input", "agentguard.toml", "--", "python3", "-c"].map(Into::into).to_vec();
    arguments.push("import os,sys; sys.stdout.buffer.write(b'\\0'.join(os.fsencode(a) for a in sys.argv[1:]))".into());
    arguments.extend(odd.map(OsString::from));
    arguments.push(OsString::from_vec(vec![0xff, 0xfe, b'x']));
    let outcome = project.ag(&arguments).exits(0);
    let found: Vec<&[u8]> = outcome.stdout.split(|byte| *byte == 0).collect();
    assert_eq!(found.len(), odd.len() + 1);
    for (found, sent) in found.iter().zip(odd).take(odd.len() - 1) {
        assert_eq!(found, &sent.as_bytes());
    }
    let expanded = String::from_utf8_lossy(found[odd.len() - 1]);
    assert!(
        expanded.contains("/staging") && expanded.contains("/inputs") && expanded.ends_with("{other}"),
        "{expanded}"
    );
    assert_eq!(found[odd.len()], [0xff, 0xfe, b'x']);
}

#[test]
fn directory_identity_umask_and_limits_are_those_of_the_caller() {
    let project = Project::new();
    let script = "pwd; echo $PWD; id -u; id -g; umask; ulimit -n; ulimit -c; cat /proc/self/status | grep -E 'SigIgn|SigBlk'; ls /proc/self/fd";
    let bare = std::process::Command::new("sh")
        .args(["-c", &format!("umask 027; ulimit -n 777; exec sh -c '{}'", script.replace('\'', "'\\''"))])
        .current_dir(project.path())
        .stdin(Stdio::null())
        .output()
        .expect("bare");
    let binary = crate::project::binary();
    let wrapped = std::process::Command::new("sh")
        .args(["-c", "umask 027; ulimit -n 777; exec \"$0\" run --out o --quiet -- sh -c \"$1\""])
        .arg(binary)
        .arg(script)
        .current_dir(project.path())
        .stdin(Stdio::null())
        .output()
        .expect("wrapped");
    assert_eq!(String::from_utf8_lossy(&wrapped.stdout), String::from_utf8_lossy(&bare.stdout));
}

#[test]
fn what_the_agent_creates_has_the_mode_its_umask_gives() {
    let project = Project::new();
    let mut command = project.command(&[
        "run",
        "--out",
        "o",
        "--out-file",
        "f",
        "--",
        "sh",
        "-c",
        "umask 022; cd $AGENTGUARD_STAGING; mkdir o; echo x > o/x; echo f > f",
    ]);
    Outcome::of(command.output().expect("runs")).exits(0);
    use std::os::unix::fs::MetadataExt as _;
    let mode = |name: &str| project.join(name).metadata().expect("stat").mode() & 0o7777;
    assert_eq!((mode("o"), mode("o/x"), mode("f")), (0o755, 0o644, 0o644));
}

#[test]
fn the_environment_is_the_callers_and_the_contracts_variables() {
    let project = Project::new();
    project.write("in.txt", "x");
    for isolation in ["auto", "none"] {
        let options = ["run", "--isolation", isolation, "--out", "o", "--input", "in.txt", "--", "sh", "-c", "env -0"];
        let outcome = Outcome::of(project.command(&options).env("MINE", "a\nb").output().expect("runs")).exits(0);
        let text = outcome.text();
        let variables: std::collections::BTreeMap<&str, &str> =
            text.split('\0').filter_map(|pair| pair.split_once('=')).collect();
        assert_eq!(variables["MINE"], "a\nb");
        let record = project.last();
        assert_eq!(variables["AGENTGUARD_RUN_ID"], record.run_id.to_string());
        assert_eq!(variables["AGENTGUARD_ATTEMPT"], "1");
        assert!(variables["TRACEPARENT"].starts_with(&format!("00-{}-", record.run_id.to_string().replace('-', ""))));
        // A view does not have the state directory.
        let place =
            if isolation == "none" || !facilities().overlay { project.state() } else { mount_point(record.run_id) };
        for name in ["AGENTGUARD_STAGING", "AGENTGUARD_INPUTS", "AGENTGUARD_USAGE", "TMPDIR"] {
            assert!(Path::new(variables[name]).starts_with(&place), "{name}: {}", variables[name]);
        }
        assert!(!Path::new(variables["TMPDIR"]).exists(), "the private TMPDIR goes with the run");
        assert_eq!(project.leftovers(), Vec::<String>::new());
        assert!(!variables.contains_key("AGENTGUARD_PARENT_RUN_ID"));
    }
}

#[test]
fn a_run_started_by_an_agent_records_its_parent() {
    let project = Project::new();
    let binary = crate::project::binary();
    let inner = format!(
        "{} run --out inner --quiet -- sh -c 'echo $AGENTGUARD_PARENT_RUN_ID; echo x > $AGENTGUARD_STAGING/x'",
        binary.display()
    );
    let outcome = project.run(&["--out", "outer"], &format!("{inner}; echo y > $AGENTGUARD_STAGING/y")).exits(0);
    let records = project.records();
    assert_eq!(records.len(), 2);
    assert_eq!(records[0].parent_run_id, Some(records[1].run_id));
    assert_eq!(outcome.text().trim(), records[1].run_id.to_string());
}

#[test]
fn both_streams_come_through_byte_exact_and_are_captured() {
    let project = Project::new();
    let script = "printf 'out\\0\\377\\033[31m'; printf 'err\\001' >&2; exit 3";
    let arguments = ["run", "--out", "o", "--quiet", "--", "sh", "-c", script];
    let output = project.command(&arguments).output().expect("runs");
    assert_eq!(output.status.code(), Some(3));
    assert_eq!(output.stdout, b"out\0\xff\x1b[31m");
    assert_eq!(output.stderr, b"err\x01");
    assert_eq!(project.command(&["show", "@", "--stdout"]).output().expect("show").stdout, b"out\0\xff\x1b[31m");
    assert_eq!(project.command(&["show", "@", "--stderr"]).output().expect("show").stdout, b"err\x01");
}

#[test]
fn output_is_passed_on_while_the_agent_still_runs() {
    use std::io::Read as _;
    let project = Project::new();
    let mut child = project.spawn(&["--out", "o"], &format!("printf early; {MEET}; printf late"));
    let mut out = child.stdout.take().expect("a pipe");
    let mut early = [0_u8; 5];
    out.read_exact(&mut early).expect("before the agent ends");
    assert_eq!(&early, b"early");
    std::fs::write(project.outside("go"), "").expect("let go");
    let mut rest = String::new();
    out.read_to_string(&mut rest).expect("the rest");
    assert_eq!(rest, "late");
    assert!(child.wait().expect("waited").success());
}

#[test]
fn exit_codes_and_signals_come_through_and_missing_commands_are_told_apart() {
    let project = Project::new();
    for code in [1, 42, 119, 120, 124, 255] {
        project.run(&["--out", "o"], &format!("exit {code}")).exits(code);
        assert_eq!((project.last().exit_code, project.last().guard_exit_code), (Some(code), Some(code)));
    }
    project.run(&["--out", "o"], "kill -SEGV $$").exits(139);
    assert_eq!(project.last().signal, Some(11));
    project.ag(&["run", "--out", "o", "--", "no-such-command-at-all"]).exits(127).says("command not found");
    let plain = project.write("plain", "not a program");
    let path = plain.to_str().expect("UTF-8").to_owned();
    project.ag(&["run", "--out", "o", "--", &path]).exits(126).says("cannot execute");
    assert_eq!(project.last().error.expect("an error").kind.to_string(), "spawn_failed");
    project.run(&["--out", "o"], "exit 127").exits(127);
    assert_eq!(project.last().error.expect("an error").kind.to_string(), "exit_code", "the agent's own 127");
}

#[test]
fn a_script_without_an_interpreter_line_runs_as_execvp_would_run_it() {
    use std::os::unix::fs::PermissionsExt as _;
    let project = Project::new();
    let script = project.write("script", "echo plain $1\n");
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).expect("mode");
    let outcome = project.ag(&["run", "--out", "o", "--", "./script", "arg"]).exits(0);
    assert_eq!(outcome.text(), "plain arg\n");
}

#[test]
fn standard_input_reaches_the_agent_and_is_kept_for_replay() {
    let project = Project::new();
    let arguments = ["run", "--out", "o", "--quiet", "--", "sh", "-c", "cat; echo x > $AGENTGUARD_STAGING/x"];
    let input: Vec<u8> = (0..3_000_000_u32).map(|at| (at % 251) as u8).collect();
    let child = project.command(&arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let outcome = feed(child.expect("spawned"), &input).exits(0);
    assert!(outcome.stdout == input);
    let piped = project.last().input_hash;
    let file = project.write("input", &input);
    let output = project.command(&arguments).stdin(std::fs::File::open(file).expect("input")).output().expect("runs");
    assert!(output.stdout == input);
    assert_eq!(project.last().input_hash, piped, "a file and a pipe with the same bytes are the same input");
    let replayed = project.ag(&["replay", "@", "--quiet"]).exits(0);
    assert!(replayed.stdout == input);
}

#[test]
fn an_agent_that_does_not_read_its_input_does_not_hang() {
    let project = Project::new();
    let mut command = project.command(&["run", "--out", "o", "--", "true"]);
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("spawned");
    // Held open, never written: as a CI system's standard input.
    let pipe = child.stdin.take();
    wait_until("the run ends", || matches!(child.try_wait(), Ok(Some(_))));
    drop(pipe);
    assert!(child.wait().expect("waited").success());
    let endless = project
        .command(&["run", "--out", "o", "--", "sh", "-c", "head -c 10"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let outcome = feed(endless.expect("spawned"), &vec![b'x'; 4_000_000]).exits(0);
    assert_eq!(outcome.text(), "xxxxxxxxxx");
}

#[test]
fn a_process_left_behind_in_the_group_is_killed_and_a_held_pipe_is_not_waited_for() {
    let project = Project::new();
    let (in_group, orphan) = (unique("300"), unique("301"));
    let script = format!(
        "cd $OUTSIDE; sleep {in_group} & setsid sh -c 'touch orphan; sleep {orphan}' & while [ ! -e orphan ]; do sleep 0.01; done; echo done"
    );
    let begun = std::time::Instant::now();
    project.run(&["--out", "o"], &script).exits(0);
    assert!(begun.elapsed() < std::time::Duration::from_secs(30));
    assert_eq!((processes_with(&in_group), processes_with(&orphan)), (vec![], vec![]));
    let record = project.last();
    assert!(record.leaked_processes >= Some(1) && record.exit_code == Some(0), "{record:?}");
}

#[test]
fn a_reader_that_goes_away_is_the_agents_sigpipe_as_without_agentguard() {
    let project = Project::new();
    let script = "\"$0\" run --out o -- yes 2>err | head -1";
    let output = std::process::Command::new("sh")
        .args(["-c", script])
        .arg(crate::project::binary())
        .current_dir(project.path())
        .output()
        .expect("runs");
    assert_eq!(output.stdout, b"y\n");
    let record = project.last();
    assert_eq!((record.signal, record.guard_exit_code), (Some(13), Some(141)));
}

#[test]
fn a_flood_of_output_is_relayed_exactly_with_bounded_capture() {
    let project = Project::new();
    let mut command = project.command(&[
        "run",
        "--out",
        "o",
        "--quiet",
        "--",
        "sh",
        "-c",
        "head -c 200000000 /dev/zero; echo end; exit 5",
    ]);
    let mut child = command.stdout(Stdio::piped()).spawn().expect("spawned");
    let copied = std::io::copy(&mut child.stdout.take().expect("a pipe"), &mut std::io::sink()).expect("read");
    assert_eq!((copied, child.wait().expect("waited").code()), (200_000_004, Some(5)));
    let shown = project.command(&["show", "@", "--stdout"]).output().expect("show").stdout;
    assert!(shown.len() < 17_000_000 && shown.ends_with(b"end\n"));
    let marker = b"bytes were not kept here";
    assert!(shown.windows(marker.len()).any(|window| window == marker));
}

#[test]
fn usage_that_the_agent_reports_is_in_the_record_and_silence_is_null() {
    let project = Project::new();
    project.run(&["--out", "o"], "true").exits(0);
    assert_eq!((project.last().tokens_used, project.last().cost_usd), (None, None));
    let script =
        "echo '{\"input_tokens\":100,\"output_tokens\":20,\"cost_usd\":0.5,\"model\":\"m\"}' >> $AGENTGUARD_USAGE";
    project.run(&["--out", "o"], script).exits(0);
    let record = project.last();
    assert_eq!((record.tokens_used, record.cost_usd), (Some(120), Some(0.5)));
    assert_eq!(record.cost_source.as_deref(), Some("reported"));
    assert_eq!(record.usage.expect("usage").source, "usage_file");
}

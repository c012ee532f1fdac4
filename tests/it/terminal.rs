//! On a real terminal: keys reach the agent once, it can be stopped and continued, and the terminal is afterwards what it
//! was before. A driver in Python holds the other end.

use std::process::{Command, Stdio};

use crate::project::{Project, binary};

/// Runs argv on a new terminal and follows steps: `expect` a text in the output that was not expected before, `send` keys,
/// `sleep` seconds, `size` rows and columns. Prints the exit status and then all output.
const DRIVER: &str = r#"
import fcntl, json, os, pty, select, struct, sys, termios, time
argv, steps = json.loads(sys.argv[1]), json.loads(sys.argv[2])
pid, terminal = pty.fork()
if pid == 0:
    os.execvp(argv[0], argv)
fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 33, 77, 0, 0))
out, seen = b"", 0
def pump(seconds):
    global out
    if not select.select([terminal], [], [], seconds)[0]:
        return True
    try:
        got = os.read(terminal, 65536)
    except OSError:
        got = b""
    out += got
    return bool(got)
def fail(why):
    os.kill(pid, 9)
    print("failed:", why)
    sys.stdout.flush()
    os.write(1, out)
    sys.exit(1)
for kind, value in steps:
    if kind == "expect":
        end = time.time() + 20
        while value.encode() not in out[seen:]:
            if time.time() > end or not pump(0.1):
                fail(f"expected {value!r} after {out[:seen]!r}")
        seen = out.index(value.encode(), seen) + len(value)
    elif kind == "send":
        os.write(terminal, value.encode())
    elif kind == "size":
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", value[0], value[1], 0, 0))
    else:
        end = time.time() + value
        while time.time() < end and pump(0.05):
            pass
end = time.time() + 20
while pump(0.1):
    if time.time() > end:
        fail("it does not end")
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
sys.stdout.flush()
os.write(1, out)
"#;

/// What a driven program came to.
#[derive(Debug)]
struct Driven {
    status: String,
    output: String,
}

fn drive(project: &Project, argv: &[&str], steps: &serde_json::Value) -> Driven {
    let argv = serde_json::to_string(argv).expect("JSON");
    let mut command = Command::new("python3");
    command.args(["-c", DRIVER, &argv, &steps.to_string()]).current_dir(project.path());
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("AGENTGUARD_")) {
        command.env_remove(name);
    }
    command.env("OUTSIDE", project.outside("")).env("PS1", "prompt> ").env("TERM", "dumb").env_remove("CI");
    let output = command.stdin(Stdio::null()).output().expect("python3 runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let (status, output) = text.split_once('\n').unwrap_or((&text, ""));
    assert!(!status.starts_with("failed"), "{text}");
    Driven { status: status.to_owned(), output: output.to_owned() }
}

/// `agentguard run --out o OPTIONS -- sh -c SCRIPT`.
fn run<'a>(binary: &'a str, options: &[&'a str], script: &'a str) -> Vec<&'a str> {
    [&[binary, "run", "--progress", "never", "--out", "o"], options, &["--", "sh", "-c", script]].concat()
}

const COUNTS: &str = "cd $OUTSIDE; trap 'echo x >> ints' INT; trap 'echo x >> quits' QUIT; trap 'echo x >> winches' WINCH; \
                      echo ready; n=0; while [ ! -s $WAIT_FOR ] && [ $n -lt 200 ]; do sleep 0.05; n=$((n+1)); done; sleep 0.3; echo over";

#[test]
fn each_key_and_each_new_size_reaches_the_agent_exactly_once() {
    let program = binary();
    let program = program.to_str().expect("UTF-8");
    for tty in ["auto", "never"] {
        for (file, step) in [
            ("ints", serde_json::json!(["send", "\u{3}"])),
            ("quits", serde_json::json!(["send", "\u{1c}"])),
            ("winches", serde_json::json!(["size", [40, 100]])),
        ] {
            let project = Project::new();
            let script = COUNTS.replace("$WAIT_FOR", file);
            let steps = serde_json::json!([["expect", "ready"], step, ["expect", "over"]]);
            let driven = drive(&project, &run(program, &["--tty", tty], &script), &steps);
            assert_eq!(driven.status, "0", "{tty} {file}: {driven:?}");
            for name in ["ints", "quits", "winches"] {
                let count = std::fs::read_to_string(project.outside(name)).unwrap_or_default().lines().count();
                assert_eq!(count, usize::from(name == file), "{tty}: {name} after {file}");
            }
        }
    }
}

#[test]
fn an_agent_that_is_interrupted_at_the_terminal_is_cancelled() {
    let program = binary();
    let program = program.to_str().expect("UTF-8");
    for tty in ["auto", "never"] {
        let project = Project::new();
        // The shell itself loses a signal that comes while it starts a program.
        let steps = serde_json::json!([["expect", "ready"], ["sleep", 0.3], ["send", "\u{3}"]]);
        let driven = drive(&project, &run(program, &["--tty", tty], "echo ready; sleep 60"), &steps);
        assert_eq!((driven.status.as_str(), project.last().status.to_string().as_str()), ("130", "cancelled"), "{tty}");
    }
}

#[test]
fn on_a_terminal_the_agent_has_one_too_and_what_it_says_is_kept() {
    let program = binary();
    let program = program.to_str().expect("UTF-8");
    let script =
        "test -t 0 && test -t 1 && test -t 2 && echo terminal; stty size; read line; echo \"got $line\"; echo err >&2";
    let project = Project::new();
    let steps = serde_json::json!([["expect", "77"], ["send", "typed\r"], ["expect", "got typed"]]);
    let driven = drive(&project, &run(program, &[], script), &steps);
    assert_eq!(driven.status, "0", "{driven:?}");
    assert!(driven.output.contains("terminal\r\n33 77\r\n"), "{driven:?}");
    let dir = project.state().join("runs").join(project.last().run_id.to_string());
    let kept = std::fs::read_to_string(dir.join("stdout")).expect("kept");
    assert!(kept.contains("got typed") && kept.contains("err"), "{kept}");
    // Without one of its own its output is two pipes.
    let steps = serde_json::json!([["expect", "plain"]]);
    let driven = drive(&project, &run(program, &["--tty", "never"], "test -t 1 || echo plain"), &steps);
    assert_eq!(driven.status, "0", "{driven:?}");
    // And where there is no terminal it is had for the asking.
    project.run(&["--out", "o", "--tty", "always"], "test -t 1 && test -t 0 && ! read line").exits(0);
}

#[test]
fn ctrl_z_stops_both_fg_continues_both_and_no_time_passes_meanwhile() {
    let program = binary();
    let program = program.to_str().expect("UTF-8");
    for tty in ["auto", "never"] {
        let project = Project::new();
        let line = format!(
            "stty -a > $OUTSIDE/before; '{program}' run --progress never --out o --tty {tty} --timeout 4s -- \
             sh -c 'echo re\"\"ady; sleep 1.5; echo aga\"\"in'\r"
        );
        let steps = serde_json::json!([
            ["sleep", 0.5],
            ["send", line],
            ["expect", "ready"],
            // A shell that is just starting a program cannot be stopped.
            ["sleep", 0.3],
            ["send", "\u{1a}"],
            ["expect", "Stopped"],
            ["sleep", 4.2],
            ["send", "fg\r"],
            ["expect", "again"],
            ["expect", "nothing to publish"],
            ["send", "stty -a > $OUTSIDE/after; exit\r"],
        ]);
        drive(&project, &["bash", "--norc", "--noprofile", "-i"], &steps);
        assert_eq!(project.last().status.to_string(), "succeeded", "{tty}");
        assert_eq!(project.read_outside("before"), project.read_outside("after"), "{tty}: the terminal's modes");
    }
}

#[test]
fn the_terminal_is_what_it_was_on_every_way_out() {
    let program = binary();
    let program = program.to_str().expect("UTF-8");
    let project = Project::new();
    let command =
        |options: &str, script: &str| format!("'{program}' run --progress never --out o {options} -- sh -c '{script}'");
    let line = [
        command("", "stty raw -echo; exit 3"),
        command("--timeout 200ms --kill-after 100ms", "sleep 60"),
        command("", "kill -9 0"),
        command("--tty never", "stty -echo; exit 3"),
    ]
    .join("; ");
    let line = format!("stty -a > $OUTSIDE/before; {line}; stty sane; echo don\"\"e\r");
    let steps = serde_json::json!([
        ["sleep", 0.5],
        ["send", line],
        ["expect", "done"],
        ["send", "stty -a > $OUTSIDE/after; exit\r"],
    ]);
    drive(&project, &["bash", "--norc", "--noprofile", "-i"], &steps);
    let wanted = |text: String| -> Vec<String> {
        text.split_whitespace()
            .filter(|word| ["isig", "icanon", "echo", "-isig", "-icanon", "-echo"].contains(word))
            .map(str::to_owned)
            .collect()
    };
    assert_eq!(wanted(project.read_outside("before")), wanted(project.read_outside("after")));
    assert_eq!(project.records().len(), 4);
}

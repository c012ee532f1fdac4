//! Nothing that an agent starts survives it, and a killed agentguard takes everything with it. Real processes that do
//! their best to get away (`adversaries.c`).

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::project::{Project, processes_with, source_root, unique, wait_until};
use crate::workspace_scene::facilities;

const KINDS: [&str; 9] = ["daemon", "deaf", "stopped", "subreaper", "sibling", "traced", "runner", "bomb", "holder"];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    Own,
    Timeout,
    Interrupt,
    Terminate,
    GuardKilled,
}

const ENDINGS: [Ending; 5] = [Ending::Own, Ending::Timeout, Ending::Interrupt, Ending::Terminate, Ending::GuardKilled];

/// The adversary, compiled once.
fn adversary() -> PathBuf {
    static BUILT: OnceLock<tempfile::TempDir> = OnceLock::new();
    let dir = BUILT.get_or_init(|| {
        let dir = tempfile::tempdir().expect("temporary directory");
        let source = source_root().join("tests/it/adversaries.c");
        let status = Command::new("cc").arg("-o").arg(dir.path().join("adversary")).arg(source).status();
        assert!(status.expect("a C compiler").success());
        dir
    });
    dir.path().join("adversary")
}

/// The ways to hold processes that this machine has, as options.
fn holds() -> Vec<(&'static str, Vec<&'static str>)> {
    let mut holds = vec![("subreaper", vec!["--isolation", "none"])];
    if facilities().overlay {
        holds.push(("namespace", vec!["--view", "overlay"]));
    }
    holds
}

fn tell(child: &Child, signal: Signal) {
    kill_process(Pid::from_child(child), signal).expect("sent");
}

fn ready(child: &mut Child) {
    use std::io::Read as _;
    let mut word = [0; 6];
    child.stdout.as_mut().expect("a pipe").read_exact(&mut word).expect("the adversary says that it is ready");
}

/// One run of one adversary, ended in one way: nothing of it is left.
fn nothing_survives(kind: &str, ending: Ending, hold: &str, options: &[&str]) {
    let about = format!("{kind}, {ending:?}, {hold}");
    let project = Project::new();
    let token = unique("1");
    let program = adversary();
    let program = program.to_str().expect("UTF-8");
    let mut arguments = vec!["run", "--out", "o", "--kill-after", "100ms"];
    arguments.extend(options);
    if ending == Ending::Timeout {
        arguments.extend(["--timeout", "300ms"]);
    }
    arguments.extend(["--", program, &token, kind]);
    if ending != Ending::Own {
        arguments.push("stay");
    }
    let mut child = project.command(&arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("spawned");
    if ending != Ending::Own {
        ready(&mut child);
    }
    match ending {
        Ending::Own | Ending::Timeout => {}
        Ending::Interrupt => tell(&child, Signal::INT),
        Ending::Terminate => tell(&child, Signal::TERM),
        Ending::GuardKilled => tell(&child, Signal::KILL),
    }
    let told = Instant::now();
    // The streams are read to their end: nobody may hold them.
    let output = child.wait_with_output().expect("waited");
    assert!(told.elapsed() < Duration::from_secs(8), "{about}: {:?}", told.elapsed());
    if ending == Ending::GuardKilled {
        let begun = Instant::now();
        // The adversary's own processes, not agentguard's that have it among their arguments.
        while !left(&token, program).is_empty() {
            assert!(begun.elapsed() < Duration::from_secs(10), "{about}: {:?}", left(&token, program));
            std::thread::sleep(Duration::from_millis(5));
        }
        project.ag(&["recover"]);
        assert_eq!(project.last().status.to_string(), "interrupted", "{about}");
        return;
    }
    assert_eq!(left(&token, program), Vec::<String>::new(), "{about}: {}", String::from_utf8_lossy(&output.stderr));
    let expected = match ending {
        Ending::Own => "succeeded",
        Ending::Timeout => "failed",
        _ => "cancelled",
    };
    let record = project.last();
    assert_eq!(record.status.to_string(), expected, "{about}: {record:?}");
    assert_eq!(record.isolation.processes.as_deref(), Some(hold), "{about}");
    if ending == Ending::Own {
        assert!(record.leaked_processes >= Some(1), "{about}: {record:?}");
    }
}

/// Living processes of the adversary.
fn left(token: &str, program: &str) -> Vec<String> {
    let is_own = |pid: &String| {
        let command = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        command.starts_with(program.as_bytes())
    };
    processes_with(token).into_iter().filter(is_own).collect()
}

#[test]
fn no_adversary_survives_any_ending() {
    let mut cases = Vec::new();
    for kind in KINDS {
        for ending in ENDINGS {
            for (hold, options) in holds() {
                cases.push((kind, ending, hold, options));
            }
        }
    }
    // Most of the time is waiting.
    let next = std::sync::Mutex::new(cases.into_iter());
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                loop {
                    let case = next.lock().expect("no panic").next();
                    let Some((kind, ending, hold, options)) = case else { return };
                    nothing_survives(kind, ending, hold, &options);
                }
            });
        }
    });
}

#[test]
fn a_killed_agentguard_takes_everything_with_it_and_the_next_command_writes_the_record() {
    for (hold, options) in holds() {
        let project = Project::new();
        let (agent, child) = (unique("1000"), unique("1001"));
        let mut all = vec!["--out", "o"];
        all.extend(&options);
        let script = format!("setsid sleep {child} & touch $OUTSIDE/ready; sleep {agent}; exit 0");
        let mut running = project.spawn(&all, &script);
        wait_until("the agent is there", || project.outside("ready").exists() && !processes_with(&child).is_empty());
        running.kill().expect("killed");
        let killed = Instant::now();
        wait_until("everything is gone", || processes_with(&agent).is_empty() && processes_with(&child).is_empty());
        assert!(killed.elapsed() < Duration::from_secs(3), "{hold}: {:?}", killed.elapsed());
        running.wait().expect("waited");
        project.ag(&["recover"]);
        assert_eq!(project.last().status.to_string(), "interrupted", "{hold}");
        assert_eq!(project.visible_names(), Vec::<String>::new(), "{hold}");
    }
}

#[test]
fn term_reaches_what_lives_in_a_session_of_its_own() {
    for (hold, options) in holds() {
        let project = Project::new();
        let mut all = vec!["--out", "o", "--kill-after", "5s"];
        all.extend(&options);
        // The launcher ignores the signal; its agent has its own session and cleans up.
        let script = "trap : TERM; cd $OUTSIDE; setsid sh -c 'trap \"touch cleaned; exit\" TERM; touch ready; while :; do sleep 0.05; done'; sleep 0.2; exit 7";
        let child = project.spawn(&all, script);
        wait_until("the agent is there", || project.outside("ready").exists());
        tell(&child, Signal::TERM);
        let outcome = child.wait_with_output().expect("waited");
        assert_eq!(outcome.status.code(), Some(143), "{hold}");
        assert!(project.outside("cleaned").exists(), "{hold}: it was asked before it was killed");
    }
}

#[test]
fn kill_zero_in_the_agent_does_not_take_agentguard_down() {
    for (hold, options) in holds() {
        let project = Project::new();
        let mut all = vec!["--out", "o"];
        all.extend(&options);
        project.run(&all, "trap '' TERM; echo x > $AGENTGUARD_STAGING/f; kill 0; exit 0").exits(0);
        assert!(project.last().published, "{hold}");
        project.run(&all, "echo y > $AGENTGUARD_STAGING/f; kill -9 0; exit 0").exits(137);
        assert_eq!((project.read("o/f").as_str(), project.last().signal), ("x\n", Some(9)), "{hold}");
    }
}

#[test]
fn ci_systems_ways_to_cancel_end_with_a_record_and_an_untouched_target() {
    // GitHub's: INT, 7.5 s, TERM, 2.5 s, KILL, to the first process only. The agent hears neither.
    let project = Project::new();
    let script = "trap '' INT TERM; touch $OUTSIDE/ready; while :; do sleep 0.1; done";
    let mut child = project.spawn(&["--out", "o", "--kill-after", "3s"], script);
    wait_until("the agent is there", || project.outside("ready").exists());
    let begun = Instant::now();
    tell(&child, Signal::INT);
    let status = child.wait().expect("waited");
    assert!(begun.elapsed() < Duration::from_secs(4), "within --kill-after and a second: {:?}", begun.elapsed());
    assert_eq!((status.code(), project.last().status.to_string().as_str()), (Some(130), "cancelled"));
    // A second signal does not wait.
    let project = Project::new();
    let mut child = project.spawn(&["--out", "o", "--kill-after", "60s"], script);
    wait_until("the agent is there", || project.outside("ready").exists());
    tell(&child, Signal::HUP);
    std::thread::sleep(Duration::from_millis(50));
    let begun = Instant::now();
    tell(&child, Signal::TERM);
    child.wait().expect("waited");
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    assert_eq!(project.last().status.to_string(), "cancelled");
    assert_eq!(project.visible_names(), Vec::<String>::new());
}

#[test]
fn a_run_that_is_cancelled_while_what_the_agent_left_ends_lands_nothing() {
    for (hold, options) in holds() {
        let project = Project::new();
        let mut all = vec!["--out", "o"];
        all.extend(&options);
        let script = "echo x > $AGENTGUARD_STAGING/f; setsid sh -c 'touch $OUTSIDE/ready; sleep 60' & \
                      while [ ! -e $OUTSIDE/ready ]; do sleep 0.01; done; touch $OUTSIDE/over";
        let token = unique("7");
        let mut arguments = vec!["run"];
        arguments.extend(&all);
        arguments.extend(["--", "sh", "-c", script, &token]);
        let mut child =
            project.command(&arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("spawned");
        wait_until("the agent is about to end", || project.outside("over").exists());
        // It has ended when its shell is gone; what it left has 300 ms from then on.
        let is_agents =
            |pid: &String| std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name == "sh\n");
        wait_until("the agent has ended", || !processes_with(&token).iter().any(is_agents));
        tell(&child, Signal::TERM);
        assert_eq!(child.wait().expect("waited").code(), Some(143), "{hold}");
        let record = project.last();
        assert_eq!((record.status.to_string().as_str(), record.published), ("cancelled", false), "{hold}: {record:?}");
        assert_eq!(project.visible_names(), Vec::<String>::new(), "{hold}");
    }
}

//! Cascades stop: what needs a broken agent is not started; one run at a time tries whether it works again; and a breaker
//! is never stuck, never counts twice, and never tells anything else than the log.

use std::fs;
use std::process::Child;

use agentguard::model::{ErrorClass, ErrorKind, RunRecord, Status};

use crate::project::{MEET, Outcome, Project, wait_until};

/// An agent that leaves a trace of having been started.
const TRACE: &str = "echo x >> $OUTSIDE/started";

fn fails(project: &Project, agent: &str, options: &[&str], times: usize) {
    let options: Vec<&str> = ["--quiet", "--agent", agent].iter().chain(options).copied().collect();
    for _ in 0..times {
        project.run(&options, "exit 7").exits(7);
    }
}

fn succeeds(project: &Project, options: &[&str]) -> Outcome {
    project.run(options, "true").exits(0)
}

fn starts(project: &Project) -> usize {
    fs::read_to_string(project.outside("started")).map_or(0, |text| text.lines().count())
}

/// One row of `breaker list --json`.
fn listed(project: &Project, agent: &str) -> serde_json::Value {
    let text = project.ag(&["breaker", "list", "--json"]).exits(0).text();
    let rows: Vec<serde_json::Value> = serde_json::from_str(&text).expect("JSON");
    rows.into_iter().find(|row| row["agent"] == agent).unwrap_or_else(|| panic!("no {agent} in {text}"))
}

fn counted(project: &Project, agent: &str) -> u64 {
    listed(project, agent)["consecutive"].as_u64().expect("a number")
}

#[track_caller]
fn is_blocked(record: &RunRecord) {
    assert_eq!((record.status, record.error_class), (Status::Blocked, Some(ErrorClass::Cascade)));
    assert_eq!(record.error.as_ref().map(|error| error.kind), Some(ErrorKind::UpstreamOpen));
    assert_eq!((record.guard_exit_code, record.exit_code, record.attempts.len()), (Some(121), None, 0));
}

#[test]
fn a_broken_agent_stops_the_chain_that_needs_it_and_its_repair_lets_it_run() {
    let project = Project::new();
    let summarise = ["--agent", "summarise", "--needs", "fetch"];
    let publish = ["--agent", "publish", "--needs", "summarise"];
    for options in [&["--agent", "fetch"][..], &summarise, &publish] {
        succeeds(&project, options);
    }
    fails(&project, "fetch", &[], 2);
    project.run(&["--agent", "fetch"], "exit 9").exits(9).says("the breaker of fetch is open (3 failures in a row)");
    let direct = project.run(&summarise, TRACE).exits(121);
    let direct =
        direct.says("blocked, nothing published: fetch (needed by this run) is broken: it failed 3 times in a row");
    let failed: Vec<String> = project.records()[3..6].iter().map(|record| record.run_id.short()).collect();
    for words in
        failed.iter().map(String::as_str).chain(["exited with 9", "hint: `agentguard log --agent fetch` shows"])
    {
        assert!(direct.stderr.contains(words), "{words} is not in {}", direct.stderr);
    }
    project.run(&publish, TRACE).exits(121).says("fetch (needed through summarise) is broken");
    assert_eq!(starts(&project), 0, "nothing was spawned");
    let records = project.records();
    records[6..].iter().for_each(is_blocked);
    let log = project.ag(&["log", "--status", "blocked"]).exits(0).text();
    assert_eq!(log.matches("fetch (needed").count(), 2, "the log tells why: {log}");
    let row = listed(&project, "fetch");
    assert_eq!((&row["state"], &row["blocks"]), (&"open".into(), &serde_json::json!(["publish", "summarise"])));
    assert_eq!(counted(&project, "summarise") + counted(&project, "publish"), 0, "blocked runs are not counted");
    succeeds(&project, &["--agent", "fetch"]).says("fetch works again");
    project.run(&summarise, TRACE).exits(0);
    project.run(&publish, TRACE).exits(0);
    assert_eq!((starts(&project), counted(&project, "fetch")), (2, 0));
}

#[test]
fn after_the_cool_down_one_run_tries_and_decides() {
    let project = Project::new();
    fails(&project, "fetch", &["--breaker-cooldown", "1ms"], 3);
    wait_until("the cool-down is over", || listed(&project, "fetch")["state"] == "half_open");
    let needs = ["--agent", "summarise", "--needs", "fetch"];
    project.run(&needs, "exit 5").exits(5).says("the breaker of fetch is open");
    let row = listed(&project, "fetch");
    assert_eq!((&row["cooldown_ms"], &row["consecutive"]), (&2.into(), &3.into()), "longer, and no failure of fetch");
    wait_until("the longer cool-down is over", || listed(&project, "fetch")["state"] == "half_open");
    // Its own run is never refused, and is the best of probes: nobody else tries meanwhile.
    let meanwhile = || drop(project.run(&needs, "true").exits(121).says("is trying whether it works again"));
    project
        .meanwhile(&["--agent", "fetch", "--breaker-cooldown", "1ms"], &format!("{MEET}; exit 7"), meanwhile)
        .exits(7);
    assert_eq!(counted(&project, "fetch"), 4);
    wait_until("the cool-down is over again", || listed(&project, "fetch")["state"] == "half_open");
    succeeds(&project, &needs).says("fetch works again");
    assert_eq!((&listed(&project, "fetch")["state"], counted(&project, "fetch")), (&"closed".into(), 0));
}

#[test]
fn of_32_runs_at_once_exactly_one_tries() {
    let project = Project::new();
    fails(&project, "fetch", &["--breaker-cooldown", "1ms"], 3);
    wait_until("the cool-down is over", || listed(&project, "fetch")["state"] == "half_open");
    let script = format!("{TRACE}; while [ ! -e $OUTSIDE/go ]; do sleep 0.01; done");
    let needs = ["--agent", "summarise", "--needs", "fetch", "--out", "o"];
    let mut running: Vec<Child> = (0..32).map(|_| project.spawn(&needs, &script)).collect();
    let mut refused = 0;
    wait_until("all but one have ended", || {
        running.retain_mut(|child| match child.try_wait().expect("waited") {
            Some(status) => {
                refused += 1;
                assert_eq!(status.code(), Some(121));
                false
            }
            None => true,
        });
        running.len() == 1
    });
    let row = listed(&project, "fetch");
    assert!(row["probe"].is_string(), "{row}");
    fs::write(project.outside("go"), "").expect("let go");
    let last = Outcome::of(running.remove(0).wait_with_output().expect("waited")).exits(0);
    last.says("fetch works again");
    assert_eq!((refused, starts(&project)), (31, 1));
    let records = project.records();
    let blocked: Vec<&RunRecord> = records.iter().filter(|record| record.status == Status::Blocked).collect();
    assert_eq!(blocked.len(), 31);
    assert!(blocked[30].error.as_ref().is_some_and(|error| error.message.contains("is trying whether it works again")));
    succeeds(&project, &needs);
}

#[test]
fn a_lease_dies_with_its_holder() {
    let project = Project::new();
    fails(&project, "fetch", &["--breaker-cooldown", "1ms"], 3);
    wait_until("the cool-down is over", || listed(&project, "fetch")["state"] == "half_open");
    let needs = ["--agent", "summarise", "--needs", "fetch"];
    let mut holder = project.spawn(&needs, MEET);
    wait_until("the probe is there", || project.outside("ready").exists());
    project.run(&needs, TRACE).exits(121).says("is trying whether it works again");
    assert!(listed(&project, "fetch")["probe"].is_string());
    holder.kill().expect("SIGKILL");
    holder.wait().expect("waited");
    fs::write(project.outside("go"), "").expect("let go");
    let row = listed(&project, "fetch");
    assert_eq!((&row["probe"], &row["state"]), (&serde_json::Value::Null, &"half_open".into()), "before any recovery");
    succeeds(&project, &needs).says("recovered run").says("fetch works again");
    assert_eq!(starts(&project), 0);
}

#[test]
fn an_end_is_counted_once_wherever_the_supervisor_dies() {
    for point in ["settle.event", "log.appended", "settle.recorded", "settle.swept"] {
        let project = Project::new();
        fails(&project, "fetch", &[], 1);
        let arguments = ["run", "--agent", "fetch", "--needs", "login", "--", "sh", "-c", "exit 7"];
        let struck =
            project.command(&arguments).env("AGENTGUARD_FAULT", format!("{point}:kill")).output().expect("runs");
        assert_eq!(struck.status.code(), None, "{point}");
        for _ in 0..2 {
            project.ag(&["recover"]).exits(0);
            assert_eq!(counted(&project, "fetch"), 2, "{point}");
        }
        assert_eq!(listed(&project, "fetch")["needs"], serde_json::json!(["login"]), "{point}");
        fs::remove_dir_all(project.state().join("breakers")).expect("removed");
        assert_eq!(counted(&project, "fetch"), 2, "{point}: the log says the same");
    }
}

#[test]
fn a_decision_about_an_ended_run_is_no_end_of_it() {
    let project = Project::new();
    project.run(&["--agent", "fetch", "--hold"], "echo x > x").exits(0);
    fails(&project, "fetch", &[], 2);
    let held = project.records()[0].run_id.to_string();
    let struck =
        project.command(&["apply", &held]).env("AGENTGUARD_FAULT", "commit.intended:kill").output().expect("runs");
    assert_eq!(struck.status.code(), None);
    project.ag(&["recover"]).exits(0);
    assert_eq!((project.read("x"), counted(&project, "fetch")), ("x\n".to_owned(), 2));
}

#[test]
fn a_damaged_breaker_is_rebuilt_from_the_log_and_that_is_said() {
    let project = Project::new();
    fails(&project, "fetch", &[], 3);
    let file = project.state().join("breakers/fetch.json");
    let sound = fs::read(&file).expect("there");
    let flipped: Vec<u8> =
        String::from_utf8(sound.clone()).expect("text").replace("consecutive\":3", "consecutive\":1").into();
    let of_another = String::from_utf8(sound.clone()).expect("text").replace("\"fetch\"", "\"other\"").into();
    let needs = ["--agent", "summarise", "--needs", "fetch"];
    project.run(&needs, TRACE).exits(121);
    let before = listed(&project, "fetch");
    for damage in [Vec::new(), b"garbage".to_vec(), flipped, sound[..sound.len() / 2].to_vec(), of_another] {
        fs::write(&file, &damage).expect("damaged");
        project.ag(&["fsck"]).exits(1);
        project.run(&needs, TRACE).exits(121).says("the breaker of fetch was damaged; it was rebuilt from the run log");
        assert_eq!(listed(&project, "fetch"), before, "{damage:?}");
        project.ag(&["fsck"]).exits(0);
    }
    fs::write(&file, "garbage").expect("damaged");
    project.ag(&["breaker", "list"]).exits(0).says("was rebuilt from the run log");
    fs::write(&file, "garbage").expect("damaged");
    project.run(&["--agent", "fetch"], "exit 7").exits(7).says("was rebuilt from the run log");
    assert_eq!(counted(&project, "fetch"), 4);
    fs::remove_dir_all(project.state().join("breakers")).expect("removed");
    project.run(&needs, TRACE).exits(121);
    assert_eq!((starts(&project), counted(&project, "fetch")), (0, 4));
}

#[test]
fn what_is_not_the_agents_fault_is_not_counted_and_success_resets() {
    let project = Project::new();
    project.write("file", "before");
    fails(&project, "fetch", &[], 2);
    let agent = ["--agent", "fetch"];
    let conflict = || fs::write(project.join("file"), "theirs").expect("written");
    project.meanwhile(&agent, &format!("{MEET}; echo mine > file"), conflict).exits(122);
    let mut child = project.spawn(&agent, MEET);
    wait_until("the agent is there", || project.outside("ready").exists());
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("told to stop");
    assert_eq!(child.wait().expect("waited").code(), Some(143));
    project.ag(&["replay", &project.records()[0].run_id.to_string()]).exits(0);
    project.run(&["--agent", "fetch", "--input", "/dev/null"], "true");
    project.run(&["--agent", "fetch", "--isolation", "none"], "kill -9 $(ps -o ppid= -p $PPID)");
    project.ag(&["recover"]).exits(0);
    let statuses: Vec<Status> = project.records().iter().skip(2).map(|record| record.status).collect();
    for status in [Status::Failed, Status::Cancelled, Status::Interrupted] {
        assert!(statuses.contains(&status), "{statuses:?}");
    }
    assert_eq!(counted(&project, "fetch"), 2);
    project.run(&["--agent", "fetch", "--verify", "false", "--breaker-threshold", "9"], "echo new > new").exits(120);
    assert_eq!(counted(&project, "fetch"), 3, "a rejected result is a failure");
    succeeds(&project, &agent);
    assert_eq!(counted(&project, "fetch"), 0);
}

#[test]
fn an_agent_that_is_missing_counts_as_broken() {
    let project = Project::new();
    let missing = ["run", "--agent", "fetch", "--breaker-threshold", "1", "--", "/no/such/agent"];
    project.ag(&missing).exits(127).says("the breaker of fetch is open (1 failure)");
    project.run(&["--agent", "a", "--needs", "fetch"], TRACE).exits(121).says("it failed: command not found");
    project.run(&["--agent", "a", "--needs", "fetch", "--no-breaker"], TRACE).exits(0);
    assert_eq!(starts(&project), 1);
}

#[test]
fn its_own_runs_are_refused_where_that_was_asked_for() {
    let project = Project::new();
    let own = ["--agent", "fetch", "--breaker-self"];
    fails(&project, "fetch", &["--breaker-self"], 3);
    project.run(&own, TRACE).exits(121).says("fetch (this agent itself) is broken");
    is_blocked(&project.last());
    assert_eq!((starts(&project), counted(&project, "fetch")), (0, 3));
    project.run(&["--agent", "fetch"], TRACE).exits(0);
    project.run(&own, TRACE).exits(0);
    assert_eq!(starts(&project), 2);
}

#[test]
fn a_person_may_list_reset_and_trip() {
    let project = Project::new();
    project.ag(&["breaker", "list"]).exits(125).says("no run was ever recorded here");
    succeeds(&project, &["--agent", "fetch"]);
    succeeds(&project, &["--agent", "summarise", "--needs", "fetch"]);
    let list = project.ag(&["breaker", "list"]).exits(0).text();
    let lines: Vec<Vec<&str>> = list.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines[0], ["AGENT", "STATE", "SINCE", "FAILED", "NEXT", "PROBE", "BLOCKS"]);
    assert_eq!(lines[1], ["fetch", "closed", "-", "0", "-"]);
    project.ag(&["breaker", "trip", "fetch", "--for", "2h"]).exits(0);
    succeeds(&project, &["--agent", "fetch"]);
    project
        .run(&["--agent", "summarise", "--needs", "fetch"], TRACE)
        .exits(121)
        .says("its breaker was tripped by hand");
    let row = listed(&project, "fetch");
    assert_eq!(
        (&row["state"], &row["cause"], &row["cooldown_ms"]),
        (&"open".into(), &"tripped".into(), &7_200_000.into())
    );
    let reset = project.ag(&["breaker", "reset", "fetch"]).exits(0).text();
    assert_eq!(reset, "fetch is closed; its failures are forgotten\n");
    project.run(&["--agent", "summarise", "--needs", "fetch"], TRACE).exits(0);
    project
        .ag(&["breaker", "reset", "fetsh"])
        .exits(125)
        .says("no run of agent \"fetsh\" is known here: did you mean \"fetch\"?");
    project.ag(&["breaker", "trip", "not-yet"]).exits(0).says("no run of agent \"not-yet\" is known here");
    assert_eq!(listed(&project, "not-yet")["state"], "open");
    project.ag(&["breaker", "reset", "--all"]).exits(0);
    assert_eq!(project.ag(&["breaker", "reset", "--all"]).exits(0).text(), "no breaker is open\n");
    project.ag(&["breaker", "reset"]).exits(125);
    project.ag(&["breaker", "trip", "fetch", "--for", "0s"]).exits(125);
}

#[test]
fn a_need_that_names_nobody_or_itself_is_warned_about() {
    let project = Project::new();
    succeeds(&project, &["--agent", "fetch"]);
    assert!(!project.state().join("breakers").exists(), "where nothing failed and nothing is needed, nothing is kept");
    let warned = project.run(&["--agent", "summarise", "--needs", "fecth"], TRACE).exits(0);
    warned.says("warning: --needs fecth: no run of that agent is known here: did you mean fetch?");
    fails(&project, "fetch", &["--needs", "fetch"], 3);
    project.run(&["--agent", "fetch", "--needs", "fetch"], TRACE).exits(0).says("a run cannot need its own agent");
    assert_eq!(starts(&project), 2);
    for wrong in
        [["--needs", "a,,b"], ["--breaker-threshold", "0"], ["--breaker-cooldown", "0s"], ["--breaker-cooldown", "-1s"]]
    {
        let [option, value] = wrong;
        project.run(&[&format!("{option}={value}")], TRACE).exits(125).says(option);
    }
    assert_eq!(starts(&project), 2);
}

#[test]
fn names_of_any_kind_have_breakers_and_the_configuration_knows_the_options() {
    let project = Project::new();
    project.write(
        "agentguard.toml",
        "[agents.\"a b/'\"]\nbreaker-threshold = 1\n[agents.summarise]\nneeds = [\"x\", \"a b/'\"]\n",
    );
    fails(&project, "a b/'", &[], 1);
    let refused = project.run(&["--agent", "summarise"], TRACE).exits(121);
    refused.says("a b/' (needed by this run) is broken").says("agentguard log --agent 'a b/'");
}

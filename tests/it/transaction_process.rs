//! Another process that carries out a plan, so that it can be killed, stopped, or given a failing disk at any point.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};

use agentguard::model::Digest;
use agentguard::store::transaction::{ApplyError, Plan, apply, complete};

use crate::project::wait_until;
use crate::transaction_scene::Scene;

/// What the process does with the plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Road {
    Apply,
    Complete,
}

/// A plan in a file, as a commit's intention leaves it.
pub(crate) struct Written {
    plan: std::path::PathBuf,
    outcome: std::path::PathBuf,
    digest: Digest,
}

impl Written {
    pub(crate) fn new(scene: &Scene, plan: &Plan) -> Self {
        let file = scene.path().join("plan");
        let digest = plan.write(&file).expect("written");
        Self { plan: file, outcome: scene.path().join("outcome"), digest }
    }

    /// The plan as the next process finds it.
    pub(crate) fn read(&self) -> Plan {
        Plan::read(&self.plan, self.digest).expect("the plan is there and whole")
    }

    /// Starts the process; `fault` arms a crash point.
    pub(crate) fn spawn(&self, road: Road, fault: &str) -> Child {
        self.command(&[], road).env("AGENTGUARD_FAULT", fault).spawn().expect("spawned")
    }

    /// Runs it under strace(1), which strikes as each of `injections` says (`call:error=…`, `call:signal=…:when=…`).
    pub(crate) fn traced(&self, road: Road, injections: &[String]) -> Option<String> {
        let calls: Vec<&str> = injections.iter().filter_map(|one| one.split(':').next()).collect();
        let mut prefix: Vec<String> = ["strace", "-f", "-qq", "-o", "/dev/null", "-e"].map(str::to_owned).to_vec();
        prefix.push(format!("trace={}", calls.join(",")));
        for injection in injections {
            prefix.extend(["-e".to_owned(), format!("inject={injection}")]);
        }
        self.end(self.command(&prefix, road).spawn().expect("strace"))
    }

    fn command(&self, prefix: &[String], road: Road) -> Command {
        let _ = fs::remove_file(&self.outcome);
        let binary = std::env::current_exe().expect("this binary");
        let mut command = match prefix.split_first() {
            Some((program, arguments)) => {
                let mut command = Command::new(program);
                command.args(arguments).arg(binary);
                command
            }
            None => Command::new(binary),
        };
        command
            .args(["--exact", "transaction_process::carries_out_the_plan_that_it_is_given", "--quiet"])
            .env("TRANSACTION_PLAN", &self.plan)
            .env("TRANSACTION_DIGEST", self.digest.to_string())
            .env("TRANSACTION_OUTCOME", &self.outcome)
            .env("TRANSACTION_ROAD", format!("{road:?}"))
            .env_remove("AGENTGUARD_FAULT")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        command
    }

    /// Runs it to its end; what came of it, or none if it was killed.
    pub(crate) fn run(&self, road: Road, fault: &str) -> Option<String> {
        self.end(self.spawn(road, fault))
    }

    pub(crate) fn end(&self, mut child: Child) -> Option<String> {
        let status: ExitStatus = child.wait().expect("waited");
        status.code().map(|_| fs::read_to_string(&self.outcome).expect("an outcome"))
    }

    /// Runs it to a `stop` fault; does something; lets it go on.
    pub(crate) fn interrupted(&self, road: Road, fault: &str, meanwhile: impl FnOnce()) -> String {
        let child = self.spawn(road, fault);
        wait_until("the process stops", || is_stopped(child.id()));
        meanwhile();
        let pid = rustix::process::Pid::from_child(&child);
        rustix::process::kill_process(pid, rustix::process::Signal::CONT).expect("continued");
        self.end(child).expect("it ends by itself")
    }
}

fn is_stopped(pid: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = status.rsplit(')').next().and_then(|rest| rest.split_whitespace().next());
    assert!(state.is_some_and(|state| state != "Z"), "it ended before it stopped");
    state == Some("T")
}

/// One word for how it came out, and the paths.
pub(crate) fn told<T>(outcome: &Result<T, ApplyError>) -> String {
    match outcome {
        Ok(_) => "applied".to_owned(),
        Err(ApplyError::Conflict { paths, kept }) => format!("conflict {paths:?} {kept:?}"),
        Err(ApplyError::Mixed { path, .. }) => format!("mixed {path:?}"),
        Err(error) => format!("error {error:?}"),
    }
}

/// The body of the other process; in the test run itself it has nothing to do.
#[test]
fn carries_out_the_plan_that_it_is_given() {
    let Some(file) = std::env::var_os("TRANSACTION_PLAN") else { return };
    let text = |name: &str| std::env::var(name).expect("set");
    let digest = text("TRANSACTION_DIGEST").parse().expect("a digest");
    let plan = Plan::read(Path::new(&file), digest).expect("the plan");
    let outcome = if text("TRANSACTION_ROAD") == "Apply" { apply(&plan) } else { complete(&plan) };
    fs::write(text("TRANSACTION_OUTCOME"), told(&outcome)).expect("written");
}

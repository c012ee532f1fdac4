//! Runs as JUnit XML, in the dialect of Jenkins that nextest writes too: a suite per agent, a case per run; attempts that
//! failed before the one that succeeded are `flakyFailure`, before the one that failed `rerunFailure`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, Write};

use super::Export;
use super::xml::{attribute, content};
use crate::cmd::captured::end_of;
use crate::cmd::render::escape;
use crate::model::record::AttemptRecord;
use crate::model::{ErrorClass, RunRecord, Status, Timestamp};
use crate::store::run_dir::RunDir;
use crate::store::state_dir::StateDir;

/// Bytes of the end of each stream and log.
const LOG_BYTES: usize = 32 * 1024;
/// Characters of a message.
const MESSAGE: usize = 1000;

/// What a case is called. CI systems follow a case from build to build by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Named {
    /// As its agent: there is one run.
    ByAgent,
    /// By its id: there are many.
    ById,
}

/// Suites, as they grow.
pub(super) struct Junit {
    state: Option<StateDir>,
    named: Named,
    suites: BTreeMap<String, Suite>,
}

#[derive(Default)]
struct Suite {
    cases: String,
    tests: u64,
    failures: u64,
    errors: u64,
    seconds: f64,
    start: Option<Timestamp>,
}

/// The report of one run.
pub fn run_report(state: &StateDir, record: &RunRecord) -> String {
    let mut junit = Junit { state: Some(state.clone()), named: Named::ByAgent, suites: BTreeMap::new() };
    junit.take(record);
    junit.document()
}

impl Junit {
    pub(super) fn new(state: Option<StateDir>) -> Self {
        Self { state, named: Named::ById, suites: BTreeMap::new() }
    }

    fn take(&mut self, run: &RunRecord) {
        let dir = self.state.as_ref().map(|state| RunDir::of(state, run.run_id));
        let agent = escape(&run.agent.0);
        let verdict = Verdict::of(run);
        let seconds = seconds(run.start_time, run.end_time);
        let name = match self.named {
            Named::ByAgent => agent.clone(),
            Named::ById => run.run_id.to_string(),
        };
        let case = case(run, &name, &agent, verdict, dir.as_ref());
        let suite = self.suites.entry(agent).or_default();
        suite.cases.push_str(&case);
        suite.tests += 1;
        suite.failures += u64::from(verdict == Verdict::Failure);
        suite.errors += u64::from(verdict == Verdict::Error);
        suite.seconds += seconds;
        suite.start = Some(suite.start.map_or(run.start_time, |start| start.min(run.start_time)));
    }

    fn document(&self) -> String {
        let suites = self.suites.values();
        let sum = |count: fn(&Suite) -> u64| self.suites.values().map(count).sum::<u64>();
        let mut xml = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
        // Writing to a String cannot fail.
        _ = writeln!(
            xml,
            "<testsuites name=\"agentguard\" tests=\"{}\" failures=\"{}\" errors=\"{}\" time=\"{:.3}\">",
            sum(|suite| suite.tests),
            sum(|suite| suite.failures),
            sum(|suite| suite.errors),
            suites.map(|suite| suite.seconds).sum::<f64>()
        );
        for (agent, suite) in &self.suites {
            let start = suite.start.map(|start| format!(" timestamp=\"{start}\"")).unwrap_or_default();
            // Writing to a String cannot fail.
            _ = writeln!(
                xml,
                "  <testsuite name=\"{}\" tests=\"{}\" failures=\"{}\" errors=\"{}\" skipped=\"0\" time=\"{:.3}\"{start}>\n{}  </testsuite>",
                attribute(agent.as_bytes()),
                suite.tests,
                suite.failures,
                suite.errors,
                suite.seconds,
                suite.cases
            );
        }
        xml + "</testsuites>\n"
    }
}

impl Export for Junit {
    fn add(&mut self, _: &[u8], record: &RunRecord, _: &mut dyn Write) -> io::Result<()> {
        self.take(record);
        Ok(())
    }

    fn finish(self: Box<Self>, out: &mut dyn Write) -> io::Result<()> {
        out.write_all(self.document().as_bytes())
    }
}

/// What a run is for JUnit: a failure is a judgement, an error is that there was none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Passed,
    Failure,
    Error,
}

impl Verdict {
    fn of(run: &RunRecord) -> Self {
        match (run.status, run.error_class) {
            (Status::Succeeded | Status::Held, _) => Self::Passed,
            (Status::Failed | Status::Rejected, Some(ErrorClass::PublishFailed)) => Self::Error,
            (Status::Failed | Status::Rejected, _) => Self::Failure,
            (Status::Blocked | Status::Cancelled | Status::Interrupted, _) => Self::Error,
        }
    }

    fn element(self) -> &'static str {
        if self == Self::Error { "error" } else { "failure" }
    }
}

fn case(run: &RunRecord, name: &str, agent: &str, verdict: Verdict, dir: Option<&RunDir>) -> String {
    let mut xml = String::new();
    // Writing to a String cannot fail.
    _ = writeln!(
        xml,
        "    <testcase name=\"{}\" classname=\"agentguard.{}\" time=\"{:.3}\" timestamp=\"{}\">",
        attribute(name.as_bytes()),
        attribute(agent.as_bytes()),
        seconds(run.start_time, run.end_time),
        run.start_time
    );
    properties(run, &mut xml);
    if verdict != Verdict::Passed {
        let (kind, message) = match &run.error {
            Some(error) => (error.kind.to_string(), error.message.clone()),
            None => (run.status.to_string(), run.status.to_string()),
        };
        let body = failed_verify(run, dir);
        // Writing to a String cannot fail.
        _ = writeln!(
            xml,
            "      <{element} type=\"{kind}\" message=\"{}\">{}</{element}>",
            attribute(shown(&message).as_bytes()),
            content(&body),
            element = verdict.element()
        );
    }
    attempts(run, verdict, &mut xml);
    if verdict != Verdict::Passed {
        for (name, element) in [("stdout", "system-out"), ("stderr", "system-err")] {
            if let Some(end) = dir.and_then(|dir| end_of(&dir.join(name), LOG_BYTES)) {
                // Writing to a String cannot fail.
                _ = writeln!(xml, "      <{element}>{}</{element}>", content(&end));
            }
        }
    }
    xml + "    </testcase>\n"
}

fn properties(run: &RunRecord, xml: &mut String) {
    let mut pairs = vec![
        ("run_id".to_owned(), run.run_id.to_string()),
        ("status".to_owned(), run.status.to_string()),
        ("published".to_owned(), run.published.to_string()),
    ];
    pairs.extend(run.error_class.map(|class| ("error_class".to_owned(), class.to_string())));
    pairs.extend(run.tokens_used.map(|tokens| ("tokens_used".to_owned(), tokens.to_string())));
    pairs.extend(run.cost_usd.map(|cost| ("cost_usd".to_owned(), cost.to_string())));
    pairs.extend(run.labels.iter().map(|(name, value)| (format!("label.{name}"), value.clone())));
    xml.push_str("      <properties>\n");
    for (name, value) in pairs {
        // Writing to a String cannot fail.
        _ = writeln!(
            xml,
            "        <property name=\"{}\" value=\"{}\"/>",
            attribute(shown(&name).as_bytes()),
            attribute(shown(&value).as_bytes())
        );
    }
    xml.push_str("      </properties>\n");
}

/// Attempts before the last one: what they failed of.
fn attempts(run: &RunRecord, verdict: Verdict, xml: &mut String) {
    let element = if verdict == Verdict::Passed { "flakyFailure" } else { "rerunFailure" };
    let earlier = run.attempts.len().saturating_sub(1);
    for (attempt, number) in run.attempts[..earlier].iter().zip(1..) {
        let (kind, message) = why(attempt);
        // Writing to a String cannot fail.
        _ = writeln!(
            xml,
            "      <{element} type=\"{kind}\" message=\"{}\" timestamp=\"{}\" time=\"{:.3}\">attempt {number}</{element}>",
            attribute(shown(&message).as_bytes()),
            attempt.start,
            seconds(attempt.start, attempt.end)
        );
    }
}

/// An attempt whose agent succeeded was followed by another because the gate rejected what it made.
fn why(attempt: &AttemptRecord) -> (String, String) {
    match &attempt.error {
        Some(error) => (error.kind.to_string(), error.message.clone()),
        None => ("rejected".to_owned(), "the result was rejected".to_owned()),
    }
}

/// What the failed verify command said.
fn failed_verify(run: &RunRecord, dir: Option<&RunDir>) -> Vec<u8> {
    let failed = run.verify.iter().position(|verify| verify.exit_code != Some(0));
    let path = dir.zip(failed).map(|(dir, at)| dir.join(&format!("verify-{}.log", at + 1)));
    path.and_then(|path| end_of(&path, LOG_BYTES)).unwrap_or_default()
}

/// A name or a message: what would command a reader is spelled out.
fn shown(text: &str) -> String {
    let text = escape(text.as_bytes());
    match text.char_indices().nth(MESSAGE) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text,
    }
}

fn seconds(start: Timestamp, end: Timestamp) -> f64 {
    (end.unix_micros().saturating_sub(start.unix_micros()).max(0)) as f64 / 1e6
}

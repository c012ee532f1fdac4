//! The verify commands: each run by `sh -c` in the run's directory, on a throwaway copy of the sealed result.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::model::Text;
use crate::model::error_kind::{ErrorKind, Failure};
use crate::model::record::VerifyRecord;
use crate::model::spec::TimePolicy;
use crate::rules::redact::redact_text;
use crate::rules::step::{AttemptOutcome, ProcessEnd, StopCause};
use crate::store::capture::Capture;
use crate::sys::descriptor::Flag;
use crate::sys::process::{ChildStdin, ChildStdout, Launch, Limits};
use crate::sys::relay::{Passing, relay_output};
use crate::sys::terminal::Terminal;

/// Bytes kept of the beginning of a verify command's output, and again of its end.
const LOG_BYTES: usize = 1024 * 1024;

use super::attempt::unkillable;
use super::attend::{Attended, Attending, attend};
use super::processes::Processes;
use super::signals::Signals;
use super::supervise::StartError;
use super::using::Using;
use super::verify_view::VerifyView;

/// One verify command, about to run.
#[derive(Debug)]
pub struct Check<'a> {
    /// The shell command.
    pub command: &'a Text,
    /// Where it runs.
    pub cwd: &'a Path,
    /// What it sees and finds in its environment.
    pub view: &'a VerifyView,
    /// Where its output goes.
    pub log: PathBuf,
    /// How long it may take.
    pub timeout: Option<Duration>,
    /// From TERM to KILL.
    pub kill_after: Duration,
}

/// What a verify command came to.
#[derive(Debug)]
pub struct Checked {
    /// For the record.
    pub record: VerifyRecord,
    /// Why the result is rejected; `None`: it passed.
    pub rejection: Option<Failure>,
    /// A signal told agentguard to stop meanwhile.
    pub cancelled_by: Option<i32>,
}

/// Runs one verify command to its end. A command that cannot run rejects: no verification, no trust.
pub async fn run(check: &Check<'_>, processes: &mut Processes, signals: &mut Signals) -> Checked {
    let begun = Instant::now();
    let outcome = watch(check, processes, signals).await;
    let duration_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
    let shown = redact_text(check.command);
    let (exit_code, cancelled_by, rejection) = match outcome {
        Err(error) => (None, None, Some(unrunnable(&shown, &format!("cannot be started: {error}")))),
        Ok(Attended { swept, .. }) if !swept.left.is_empty() => (None, None, unkillable(&swept)),
        Ok(Attended { outcome: AttemptOutcome { end: ProcessEnd::Code(0), stopped: None }, .. }) => {
            (Some(0), None, None)
        }
        Ok(Attended { outcome: AttemptOutcome { end, stopped }, .. }) => {
            let code = if let ProcessEnd::Code(code) = end { Some(code) } else { None };
            let cancelled_by = if let Some(StopCause::Cancelled(signal)) = stopped { Some(signal) } else { None };
            (code, cancelled_by, Some(judge(&shown, end, stopped, check)))
        }
    };
    let record = VerifyRecord { command: shown, exit_code, duration_ms };
    Checked { record, rejection, cancelled_by }
}

fn judge(shown: &Text, end: ProcessEnd, stopped: Option<StopCause>, check: &Check<'_>) -> Failure {
    let name = shown.to_string_lossy();
    match (stopped, end) {
        (Some(StopCause::Timeout), _) => {
            let limit = humantime::format_duration(check.timeout.unwrap_or_default());
            let message = format!("verify {name:?} ran longer than --verify-timeout {limit}");
            where_it_said(Failure::new(ErrorKind::VerifyTimeout, message), check)
        }
        (Some(StopCause::Cancelled(signal)), _) => {
            Failure::new(ErrorKind::Cancelled, format!("told to stop by signal {signal}"))
        }
        (Some(_), _) => {
            let message = format!("the run's --deadline came while verify {name:?} was running");
            where_it_said(Failure::new(ErrorKind::Deadline, message), check)
        }
        // What a shell says when it cannot find or execute a command.
        (None, ProcessEnd::Code(code @ (126 | 127))) => {
            where_it_said(unrunnable(shown, &format!("cannot run (exit code {code})")), check)
        }
        (None, ProcessEnd::Code(code)) => {
            where_it_said(Failure::new(ErrorKind::VerifyFailed, format!("verify {name:?} exited with {code}")), check)
        }
        (None, ProcessEnd::Signal(signal)) => where_it_said(
            Failure::new(ErrorKind::VerifyFailed, format!("verify {name:?} died of signal {signal}")),
            check,
        ),
    }
}

/// Names the log, if the command said anything.
fn where_it_said(failure: Failure, check: &Check<'_>) -> Failure {
    if check.log.exists() { failure.with_hint(format!("its output: {}", check.log.display())) } else { failure }
}

fn unrunnable(shown: &Text, why: &str) -> Failure {
    Failure::new(ErrorKind::VerifyUnrunnable, format!("verify {:?} {why}", shown.to_string_lossy()))
}

async fn watch(check: &Check<'_>, processes: &mut Processes, signals: &mut Signals) -> Result<Attended, StartError> {
    let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).map_err(io::Error::from)?;
    let argv = [OsString::from("/bin/sh"), OsString::from("-c"), check.command.as_os_str().to_owned()];
    let stop = Arc::new(Flag::new()?);
    let mut log = Capture::into(&check.log, LOG_BYTES);
    let launch = Launch {
        argv: &argv,
        cwd: check.cwd,
        environment: &check.view.variables,
        stdin: ChildStdin::Null,
        stdout: ChildStdout::File(File::from(writer)),
        terminal: &Terminal::None,
        limits: Limits::default(),
    };
    let (child, _) = processes.start_in(&check.view.scene, &launch)?;
    // Its end of the pipe must be the only one.
    drop(launch);
    let relay = {
        let stop = Arc::clone(&stop);
        let keep = move || {
            // A log that cannot be written is none; the verdict is the command's.
            let _ = relay_output(reader, Passing::Withheld, &stop, |bytes| log.write(bytes));
            let _ = log.finish();
        };
        std::thread::Builder::new().spawn(keep)?
    };
    let time = TimePolicy { timeout: check.timeout, idle_timeout: None, deadline: None, kill_after: check.kill_after };
    let using = Using::unlimited();
    let attended = attend(
        child,
        &Attending { time: &time, using: &using, foreground: None, own: None, processes, progress: None },
        signals,
    )
    .await;
    stop.raise();
    // It passes on what is in the pipe, to a file: it ends at once.
    let _ = relay.join();
    Ok(attended?)
}

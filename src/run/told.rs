//! What an agent has told of an attempt when it is over: its usage, its cost, and how it says that it came out.
//!
//! Of several sources the meter, which saw every call, counts before what the agent was asked to write
//! (`$AGENTGUARD_USAGE`), that before a file of its own format, and that before what it printed.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::model::call::Call;
use crate::model::error_kind::{ErrorKind, Failure};
use crate::model::event::Event;
use crate::model::record::Usage;
use crate::model::{Timestamp, UsageFormat};
use crate::rules::step::{AttemptOutcome, ProcessEnd};
use crate::sys::clock;
use crate::usage::api_error::{Verdict, Weight};
use crate::usage::figures::Figures;
use crate::usage::reader::Reading;
use crate::usage::{usage_file, written_file};

use super::ended::Life;
use super::environment::{AttemptPlaces, USAGE};
use super::scene::{Scene, Way};
use super::spending::{Spending, figures_of};

/// What was told.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Told {
    /// Token usage.
    pub usage: Option<Usage>,
    /// US dollars.
    pub cost_usd: Option<f64>,
    /// What is known of them.
    pub known_usd: f64,
    /// `reported` or `priced:<day>`.
    pub cost_source: Option<String>,
    /// Models that have no price.
    pub unpriced: Vec<String>,
    /// How it says that it failed.
    pub verdict: Option<Verdict>,
}

/// What an agent printed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Said {
    /// On standard output.
    pub stdout: Reading,
    /// On standard error.
    pub stderr: Reading,
}

/// Puts together what an attempt told.
pub fn gather(
    life: &Life,
    places: &AttemptPlaces,
    scene: &Scene,
    said: &Said,
    spending: &Spending,
    calls: &[Call],
) -> Told {
    let format = life.spec.usage;
    let written =
        written_path(life, places, scene, said).and_then(|path| written_file::read(&path, format, began(life)));
    let file = format.wants_file().then(|| usage_file::read(&places.private.host.join(USAGE))).flatten();
    let metered = figures_of(calls);
    let (figures, source) = match (metered, file, written.as_ref().and_then(|told| told.figures.clone())) {
        (Some(figures), ..) => (Some(figures), "meter".to_owned()),
        (None, Some(figures), _) => (Some(figures), "usage_file".to_owned()),
        (None, None, Some(figures)) => (Some(figures), "session_file".to_owned()),
        (None, None, None) => printed(said),
    };
    let cost = figures.as_ref().map(|figures| spending.cost(figures)).unwrap_or_default();
    let figures = figures.and_then(Figures::unless_nothing);
    Told {
        usage: figures.map(|figures| figures.usage(&source)),
        cost_usd: cost.usd,
        known_usd: cost.known_usd,
        cost_source: cost.source,
        unpriced: cost.unpriced,
        verdict: match verdict(said) {
            LastWord::Said(verdict) => verdict,
            LastWord::None => written.and_then(|told| told.verdict).or_else(|| seen(calls)),
        },
    }
}

/// How the last call ended that the meter saw: it explains a failing exit code.
fn seen(calls: &[Call]) -> Option<Verdict> {
    let last = calls.last()?;
    let verdict = match last.status {
        Some(status) if status >= 400 => Verdict::of_error(Some(status), &format!("the API answered with {status}")),
        Some(_) if last.complete => return None,
        Some(_) => Verdict::new(ErrorKind::ApiStreamCut, "the API's answer was cut"),
        None => Verdict::new(ErrorKind::ApiStreamCut, "the API gave no answer"),
    };
    let retry_after = last.retry_after_ms.map(Duration::from_millis);
    (verdict.kind != ErrorKind::AgentReported).then(|| Verdict { retry_after, ..verdict.with_exit_code() })
}

/// Of both streams together: an agent uses one of them for this.
fn printed(said: &Said) -> (Option<Figures>, String) {
    let mut formats = [said.stdout.formats.clone(), said.stderr.formats.clone()].concat();
    formats.sort_unstable();
    formats.dedup();
    let both = [said.stdout.figures.clone(), said.stderr.figures.clone()];
    (both.into_iter().flatten().reduce(Figures::and), format!("stdout:{}", formats.join("+")))
}

/// What an agent said last of how it came out.
enum LastWord {
    /// That it failed so, or that it did not.
    Said(Option<Verdict>),
    /// Nothing.
    None,
}

/// The last word on either stream.
fn verdict(said: &Said) -> LastWord {
    match (said.stdout.concluded, said.stderr.concluded) {
        (None, None) => LastWord::None,
        (stdout, stderr) if stdout > stderr => LastWord::Said(said.stdout.verdict.clone()),
        _ => LastWord::Said(said.stderr.verdict.clone()),
    }
}

/// Where a file with figures lies on the host, if the agent's command or the agent itself names one.
fn written_path(life: &Life, places: &AttemptPlaces, scene: &Scene, said: &Said) -> Option<PathBuf> {
    if matches!(life.spec.usage, UsageFormat::Off | UsageFormat::File) {
        return None;
    }
    let arguments = places.arguments(&life.spec.command);
    let words: Vec<&str> = arguments.iter().filter_map(|word| word.to_str()).collect();
    let named = written_file::named_by(&words).map(str::to_owned);
    let named = named.or_else(|| said.stdout.named_file.clone()).or_else(|| said.stderr.named_file.clone())?;
    let cwd = places.moved_cwd.clone().unwrap_or_else(|| life.spec.cwd.to_path_buf());
    Some(on_host(places, scene, &cwd.join(named)))
}

/// When the attempt began.
fn began(life: &Life) -> Timestamp {
    let started = life.journal.events().iter().rev().find_map(|event| match event {
        Event::AttemptStarted(start) => Some(start.time),
        _ => None,
    });
    started.unwrap_or_else(clock::now)
}

/// The file behind a path of the agent's view.
fn on_host(places: &AttemptPlaces, scene: &Scene, seen: &Path) -> PathBuf {
    if let (Some(staging), Some(seen_staging)) = (&places.staging, &places.seen_staging)
        && let Ok(inside) = seen.strip_prefix(seen_staging)
    {
        return staging.path.join(inside);
    }
    if let Ok(inside) = seen.strip_prefix(&places.private.seen) {
        return places.private.host.join(inside);
    }
    match (scene.way, seen.strip_prefix(&scene.covered)) {
        (Way::Overlay, Ok(inside)) => scene.changes.upper.join(inside),
        (Way::Clone, Ok(inside)) => scene.copy.join(inside),
        _ => seen.to_path_buf(),
    }
}

/// What an agent's word makes of how it ended. A success that it calls a failure is one; a failing exit code is explained.
pub fn judged(outcome: &AttemptOutcome, failure: Option<Failure>, verdict: Option<&Verdict>) -> Option<Failure> {
    let Some(verdict) = verdict else { return failure };
    match (&failure, outcome.end) {
        (None, ProcessEnd::Code(0)) if verdict.weight == Weight::Alone => Some(told_failure(verdict, None)),
        (Some(known), ProcessEnd::Code(code)) if known.kind == ErrorKind::ExitCode => {
            Some(told_failure(verdict, Some(code)))
        }
        _ => failure,
    }
}

fn told_failure(verdict: &Verdict, code: Option<i32>) -> Failure {
    let exit = code
        .map_or_else(|| "the agent exited with 0 and".to_owned(), |code| format!("the agent exited with {code} and"));
    let failure = Failure::new(verdict.kind, format!("{exit} says: {}", verdict.message));
    match (verdict.kind, code) {
        (ErrorKind::ApiAuth, _) => failure.with_hint("the API did not accept the key: check it, it is not tried again"),
        (_, None) => failure.with_hint("--usage off believes the exit code alone"),
        _ => failure,
    }
}

/// How long the API asks to be left alone, if that is why the attempt failed.
pub fn retry_after(verdict: Option<&Verdict>, failure: Option<&Failure>) -> Option<Duration> {
    let kind = failure.map(|failure| failure.kind);
    verdict.filter(|verdict| kind == Some(verdict.kind)).and_then(|verdict| verdict.retry_after)
}

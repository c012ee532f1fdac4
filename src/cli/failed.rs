//! `agentguard failed`: its subcommands, and where their answers go.

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand, ValueEnum};

use crate::cmd::failed::{
    Acknowledged, LetterFilters, ListFormat, ListRequest, ManyRequest, OneRequest, Outcome, Rate, Redriven, Tally,
    acknowledge, list, many, one,
};
use crate::cmd::render::{escape, unless_closed};
use crate::cmd::run::{report_recovered, surroundings};
use crate::model::Text;
use crate::model::letter::MAX_RECEIVES;
use crate::rules::exit_code::GUARD_FAILED;
use crate::run::progress::Progress;
use crate::run::recover::recover;
use crate::store::state_dir::StateDir;
use crate::sys::worker;

use super::args::{TalkArgs, When};
use super::dispatch::{code, is_closed, parse_word, tell};
use super::progress::Shown;
use super::settings::{Talk, Volume, volume};
use super::terminal::{paint, say, width};

/// Some letters wait as before.
const SOME_FAILED: i32 = 1;

/// Rows of the table, unless told otherwise.
const LIMIT: usize = 50;

/// `agentguard failed`.
#[derive(Debug, Args)]
#[command(after_long_help = "\
A run that failed, was rejected or blocked, or was interrupted is a dead letter until a redrive of it succeeds or somebody
acknowledges it. Replays neither make a letter nor answer one. A letter whose redrives failed three times (--max-receives) is
set aside: `redrive` leaves it alone unless it is named.

Examples:
  agentguard failed list
  agentguard failed list --agent nightly --format json
  agentguard failed redrive --dry-run
  agentguard failed redrive --agent nightly --since 2d -j 4
  agentguard failed redrive --class silent_drift -- ./fixed-agent --to '{staging}'
  agentguard failed ack 7f3a91c2 --reason 'done by hand'")]
pub struct FailedArgs {
    /// What to do
    #[command(subcommand)]
    pub command: FailedCommand,
}

/// The subcommands of `failed`.
#[derive(Debug, Subcommand)]
pub enum FailedCommand {
    /// List the dead letters, newest first
    List(ListArgs),
    /// Run them again from the inputs they had, oldest first, and publish what the gate accepts
    Redrive(RedriveArgs),
    /// Say that failed runs need no redrive, and why
    #[command(after_long_help = "Examples:\n  agentguard failed ack @failed --reason 'the report was sent by hand'")]
    Ack {
        /// Run id, a unique prefix or suffix of one, @ (newest), @-1, @failed
        #[arg(value_name = "RUN", required = true)]
        runs: Vec<String>,
        /// Why; kept in acks.jsonl
        #[arg(long, value_name = "TEXT", required = true)]
        reason: String,
    },
}

/// Which letters.
#[derive(Debug, Args)]
pub struct LetterArgs {
    /// Only of this agent; several may be given
    #[arg(long, value_name = "NAME")]
    pub agent: Vec<String>,
    /// Only of this error class; several may be given
    #[arg(long, value_name = "CLASS")]
    pub class: Vec<String>,
    /// Only runs that began at or after this time (RFC 3339, a date, or an age such as 2h)
    #[arg(long, value_name = "TIME")]
    pub since: Option<String>,
    /// So many failed redrives set a letter aside
    #[arg(long, value_name = "N", default_value_t = MAX_RECEIVES)]
    pub max_receives: u32,
}

/// `agentguard failed list`.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  agentguard failed list
  agentguard failed list --class silent_drift --format csv

Columns: attempts and cost are those of the run and of all its redrives; receives are the redrives that failed. The cost is
unknown (-, null, empty) where that of one attempt is.")]
pub struct ListArgs {
    #[command(flatten)]
    #[expect(missing_docs, reason = "a doc comment here would become the command's help")]
    pub letters: LetterArgs,
    /// At most this many [default: 50 in a table, else all]
    #[arg(long, short = 'n', value_name = "N")]
    pub limit: Option<usize>,
    /// How to print them
    #[arg(long, value_name = "FORMAT", default_value = "table")]
    pub format: Format,
}

/// How `failed list` prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people
    Table,
    /// One JSON array
    Json,
    /// One JSON object per line
    Jsonl,
    /// RFC 4180, with titles
    Csv,
    /// A table for a document
    Markdown,
}

/// `agentguard failed redrive`.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  agentguard failed redrive --dry-run
  agentguard failed redrive -j 8 --rate 30/m
  agentguard failed redrive 7f3a91c2                     (this one, even if it was set aside)
  agentguard failed redrive --agent nightly -- ./fixed-agent --to '{staging}'

Each redrive is a new run (its record's redrive_of names the failed one) with the recorded arguments, environment values,
standard input and inputs; one that was blocked reads its inputs now. A breaker that is open stops the redrive of what
needs it. A letter is redriven by one process at a time; to kill the command and start it again goes on where it was.

Exit codes: 0 all that were redriven succeeded; 1 some failed again or were not started; 125 some could not be run.")]
pub struct RedriveArgs {
    /// These letters only, set-aside ones too: run id, a unique prefix or suffix of one, @failed
    #[arg(value_name = "RUN", conflicts_with_all = ["agent", "class", "since"])]
    pub runs: Vec<String>,
    #[command(flatten)]
    #[expect(missing_docs, reason = "a doc comment here would become the command's help")]
    pub letters: LetterArgs,
    /// At most this many, the oldest
    #[arg(long, value_name = "N")]
    pub max: Option<usize>,
    /// This many at a time
    #[arg(long, short, value_name = "N", default_value = "1")]
    pub jobs: usize,
    /// Begin at most so many in a second, minute or hour (5/s, 30/m, 100/h)
    #[arg(long, value_name = "N/UNIT")]
    pub rate: Option<String>,
    /// Say what would be redriven, in which order; run nothing
    #[arg(long)]
    pub dry_run: bool,
    #[command(flatten)]
    #[expect(missing_docs, reason = "a doc comment here would become the command's help")]
    pub talk: TalkArgs,
    /// Another command instead of the recorded ones
    #[arg(last = true, value_name = "CMD")]
    pub command: Vec<OsString>,
}

/// Carries it out.
pub(super) fn failed_command(args: FailedArgs, state_dir: Option<&Path>, color: When) -> anyhow::Result<ExitCode> {
    let state = StateDir::open(&surroundings(state_dir)?.state)?;
    match args.command {
        FailedCommand::List(args) => list_command(&args, &state, color),
        FailedCommand::Redrive(args) => redrive_command(args, &state),
        FailedCommand::Ack { runs, reason } => {
            told(&acknowledge(&state, &runs, &reason)?)?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

impl LetterArgs {
    fn filters(&self) -> anyhow::Result<LetterFilters> {
        Ok(LetterFilters {
            agents: self.agent.iter().map(|agent| Text::from(agent.as_str())).collect(),
            classes: self.class.iter().map(|word| parse_word("class", word)).collect::<anyhow::Result<_>>()?,
            since: self.since.as_deref().map(|text| super::when::parse("since", text)).transpose()?,
        })
    }
}

fn list_command(args: &ListArgs, state: &StateDir, color: When) -> anyhow::Result<ExitCode> {
    let format = match args.format {
        Format::Table => ListFormat::Table { width: width(), paint: paint(color) },
        Format::Json => ListFormat::Json,
        Format::Jsonl => ListFormat::Jsonl,
        Format::Csv => ListFormat::Csv,
        Format::Markdown => ListFormat::Markdown,
    };
    let request = ListRequest {
        filters: args.letters.filters()?,
        limit: args.limit.or((args.format == Format::Table).then_some(LIMIT)),
        max_receives: args.letters.max_receives,
        format,
    };
    let mut out = io::BufWriter::new(io::stdout().lock());
    let left = match list(state, &request, &mut out) {
        Err(error) if is_closed(&error) => return Ok(ExitCode::SUCCESS),
        listed => listed?,
    };
    unless_closed(out.flush()).context("cannot write to standard output")?;
    if left > 0 && args.format == Format::Table {
        say(&format!("agentguard: {left} older ones are not shown (--limit)"));
    }
    Ok(ExitCode::SUCCESS)
}

fn told(done: &Acknowledged) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    let mut write = || -> io::Result<()> {
        for run_id in &done.now {
            writeln!(out, "run {} is acknowledged", run_id.short())?;
        }
        for run_id in &done.before {
            writeln!(out, "run {} was acknowledged before", run_id.short())?;
        }
        out.flush()
    };
    unless_closed(write()).context("cannot write to standard output")
}

fn redrive_command(args: RedriveArgs, state: &StateDir) -> anyhow::Result<ExitCode> {
    let talk =
        Talk { volume: volume(args.talk.quiet, args.talk.verbose), progress: args.talk.progress.unwrap_or(When::Auto) };
    if args.jobs == 0 {
        bail!("--jobs 0 would redrive nothing: write 1 or more");
    }
    let rate = args.rate.as_deref().map(parse_rate).transpose()?;
    if args.runs.len() == 1 && !args.dry_run {
        let run = args.runs.into_iter().next().unwrap_or_default();
        return one_command(&OneRequest { run, command: args.command }, state, talk);
    }
    let shown = Arc::new(Shown::new(talk));
    let progress: Arc<dyn Progress> = Arc::<Shown>::clone(&shown);
    report_recovered(&recover(state), &progress);
    shown.clear();
    let request = ManyRequest {
        filters: args.letters.filters()?,
        runs: args.runs,
        max: args.max,
        jobs: args.jobs,
        rate,
        options: if talk.volume == Volume::Quiet { vec!["--quiet".into()] } else { Vec::new() },
        max_receives: args.letters.max_receives,
        command: args.command,
    };
    let mut out = io::stdout();
    if args.dry_run {
        let mut text = Vec::new();
        request.preview(state, &mut text)?;
        unless_closed(out.write_all(&text).and_then(|()| out.flush())).context("cannot write to standard output")?;
        return Ok(ExitCode::SUCCESS);
    }
    worker::notice_signals();
    let tally = many(state, &request, &mut out, &mut io::stderr())?;
    Ok(code(tally_code(&tally)))
}

fn tally_code(tally: &Tally) -> i32 {
    match tally.signal {
        Some(signal) => 128 + signal,
        None if tally.unrunnable > 0 => GUARD_FAILED,
        None if tally.failed + tally.stopped + tally.cancelled > 0 => SOME_FAILED,
        None => 0,
    }
}

fn one_command(request: &OneRequest, state: &StateDir, talk: Talk) -> anyhow::Result<ExitCode> {
    let shown = Arc::new(Shown::new(talk));
    let progress: Arc<dyn Progress> = Arc::<Shown>::clone(&shown);
    let redriven = one(state, request, &progress);
    shown.clear();
    let redriven = redriven?;
    if let Some(finished) = &redriven.finished {
        tell(finished, talk);
    }
    if talk.volume > Volume::Quiet {
        say(&format!("agentguard: {}", sentence(&redriven)));
    }
    Ok(code(match redriven.outcome {
        Outcome::Succeeded | Outcome::DoneBefore => 0,
        Outcome::Failed | Outcome::Stopped => SOME_FAILED,
        // Told to stop: by which signal is in the record.
        Outcome::Cancelled => redriven.finished.and_then(|run| run.record.guard_exit_code).unwrap_or(SOME_FAILED),
        Outcome::Unrunnable => GUARD_FAILED,
    }))
}

/// What became of the letter, in one line.
fn sentence(redriven: &Redriven) -> String {
    let letter = redriven.letter.short();
    let record = redriven.finished.as_ref().map(|finished| &finished.record);
    let (run, agent) = record.map_or_else(Default::default, |record| (record.run_id.short(), escape(&record.agent.0)));
    match redriven.outcome {
        Outcome::Succeeded => format!("redriven: run {letter} of {agent} succeeded as run {run}"),
        Outcome::Failed => format!("failed again: run {letter} of {agent} as run {run}"),
        Outcome::Stopped => format!("stopped: run {letter} of {agent} was not started; it waits as before"),
        Outcome::Cancelled => format!("cancelled: run {letter} of {agent} waits as before"),
        Outcome::DoneBefore => format!("done with: run {letter} needs no redrive any more"),
        Outcome::Unrunnable => format!("run {letter} could not be redriven"),
    }
}

fn parse_rate(text: &str) -> anyhow::Result<Rate> {
    let wrong = || format!("--rate: {text:?} is no rate: write e.g. 5/s, 30/m or 100/h");
    let (number, unit) = text.split_once('/').with_context(wrong)?;
    let number: u32 = number.trim().parse().ok().filter(|number| *number > 0).with_context(wrong)?;
    let seconds = match unit.trim() {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        _ => bail!(wrong()),
    };
    Ok(Rate { pause: Duration::from_secs(seconds) / number })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_a_pause_from_one_beginning_to_the_next() {
        let pause = |text| parse_rate(text).map(|rate| rate.pause.as_millis()).ok();
        assert_eq!((pause("5/s"), pause("30/m"), pause("60/h")), (Some(200), Some(2000), Some(60_000)));
        for wrong in ["0/s", "5", "/s", "-1/m", "5/d", "1.5/s", ""] {
            assert_eq!(pause(wrong), None, "{wrong}");
        }
    }
}

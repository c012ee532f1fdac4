//! The filters that `log` and `stats` share, and `agentguard stats`.

use std::io;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use clap::{Args, ValueEnum};

use crate::cmd::run::surroundings;
use crate::cmd::stats::{StatsFormat, StatsRequest, stats};
use crate::model::Text;
use crate::rules::filter::RunFilters;
use crate::rules::tally::By;
use crate::store::log::RunLog;
use crate::store::state_dir::StateDir;

use super::args::When;
use super::dispatch::parse_word;
use super::terminal::{paint, width};

/// Which runs.
#[derive(Debug, Args)]
pub struct FilterArgs {
    /// Only runs of this agent; several may be given
    #[arg(long, value_name = "NAME")]
    pub agent: Vec<String>,
    /// Only runs that ended so (succeeded, failed, rejected, …); several may be given
    #[arg(long, value_name = "STATUS")]
    pub status: Vec<String>,
    /// Only runs of this error class (clean_abort, partial_write, …); several may be given
    #[arg(long, value_name = "CLASS")]
    pub class: Vec<String>,
    /// Only runs that failed of this cause (exit_code, timeout, verify_failed, …); several may be given
    #[arg(long, value_name = "KIND")]
    pub kind: Vec<String>,
    /// Only runs with this label; all that are given must be there
    #[arg(long, value_name = "K=V")]
    pub label: Vec<String>,
    /// Only runs that began at or after this time (RFC 3339, a date, or an age such as 2h)
    #[arg(long, value_name = "TIME")]
    pub since: Option<String>,
    /// Only runs that began before this time
    #[arg(long, value_name = "TIME")]
    pub until: Option<String>,
    /// Only runs that cost so many US dollars or more, as far as is known
    #[arg(long, value_name = "USD")]
    pub min_cost: Option<f64>,
    /// Only runs that cost so many US dollars or less, as far as is known
    #[arg(long, value_name = "USD")]
    pub max_cost: Option<f64>,
    /// Only runs with this text in the message or the hint of their failure
    #[arg(long, value_name = "TEXT")]
    pub grep: Option<String>,
}

impl FilterArgs {
    /// What they mean.
    pub(super) fn filters(&self) -> anyhow::Result<RunFilters> {
        let filters = RunFilters {
            agents: self.agent.iter().map(|agent| Text::from(agent.as_str())).collect(),
            statuses: self.status.iter().map(|word| parse_word("status", word)).collect::<anyhow::Result<_>>()?,
            classes: self.class.iter().map(|word| parse_word("class", word)).collect::<anyhow::Result<_>>()?,
            kinds: self.kind.iter().map(|word| parse_word("kind", word)).collect::<anyhow::Result<_>>()?,
            labels: self.label.iter().map(|pair| label(pair)).collect::<anyhow::Result<_>>()?,
            since: self.since.as_deref().map(|text| super::when::parse("since", text)).transpose()?,
            until: self.until.as_deref().map(|text| super::when::parse("until", text)).transpose()?,
            min_cost: self.min_cost,
            max_cost: self.max_cost,
            grep: self.grep.clone(),
        };
        if let (Some(since), Some(until)) = (filters.since, filters.until)
            && until <= since
        {
            bail!("--until {until} is not after --since {since}: no run can be meant");
        }
        Ok(filters)
    }
}

fn label(pair: &str) -> anyhow::Result<(String, String)> {
    let (key, value) = pair.split_once('=').with_context(|| format!("--label: {pair:?} is no label: write K=V"))?;
    Ok((key.to_owned(), value.to_owned()))
}

/// `agentguard stats`.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  agentguard stats
  agentguard stats --since 7d                  (compared with the seven days before)
  agentguard stats --by day --agent nightly
  agentguard stats --by label:team --format csv

The success rate is that of succeeded and held runs among all but cancelled ones, with its 95 % Wilson interval. Sums are over
what is known; (+3?) means that of three more runs it is not known, and what is not known is null or empty for programs, never
zero. Percentiles are exact for up to 4096 runs in a group, and within 0.4 % for more. A run that used several models is in
the group of each.")]
pub struct StatsArgs {
    /// What to group by: agent, class, day, model, or label:KEY
    #[arg(long, value_name = "WHAT", default_value = "agent")]
    pub by: String,
    #[command(flatten)]
    #[expect(missing_docs, reason = "a doc comment here would become the command's help")]
    pub filters: FilterArgs,
    /// At most this many groups, those with the most runs
    #[arg(long, short = 'n', value_name = "N")]
    pub limit: Option<usize>,
    /// How to print them
    #[arg(long, value_name = "FORMAT", default_value = "table")]
    pub format: Format,
}

/// How `stats` prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people
    Table,
    /// One JSON object: the groups, and the total
    Json,
    /// One JSON object per group
    Jsonl,
    /// RFC 4180, with titles
    Csv,
    /// A table for a document
    Markdown,
}

fn parse_by(text: &str) -> anyhow::Result<By> {
    Ok(match text {
        "agent" => By::Agent,
        "class" => By::Class,
        "day" => By::Day,
        "model" => By::Model,
        _ => match text.strip_prefix("label:").filter(|key| !key.is_empty()) {
            Some(key) => By::Label(key.to_owned()),
            None => bail!("--by: {text:?} is nothing to group by: write agent, class, day, model or label:KEY"),
        },
    })
}

/// Carries it out.
pub(super) fn stats_command(args: &StatsArgs, state_dir: Option<&Path>, color: When) -> anyhow::Result<ExitCode> {
    let state = StateDir::open(&surroundings(state_dir)?.state)?;
    let request = StatsRequest {
        filters: args.filters.filters()?,
        by: parse_by(&args.by)?,
        limit: args.limit,
        format: match args.format {
            Format::Table => StatsFormat::Table { width: width(), paint: paint(color) },
            Format::Json => StatsFormat::Json,
            Format::Jsonl => StatsFormat::Jsonl,
            Format::Csv => StatsFormat::Csv,
            Format::Markdown => StatsFormat::Markdown,
        },
    };
    stats(&RunLog::at(state.path()), &request, &mut io::stdout().lock(), &mut io::stderr())?;
    Ok(ExitCode::SUCCESS)
}

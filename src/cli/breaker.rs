//! `agentguard breaker`: its subcommands, and where their answers go.

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::{Args, Subcommand};

use crate::cmd::breaker::{Decision, ListForm, Whose, decide, list};
use crate::cmd::render::unless_closed;
use crate::cmd::run::surroundings;
use crate::model::breaker::BreakerPolicy;
use crate::store::state_dir::StateDir;

use super::args::When;
use super::dispatch::is_closed;
use super::layered::parse_duration;
use super::terminal::{paint, width};

/// `agentguard breaker`.
#[derive(Debug, Args)]
#[command(after_long_help = "\
An agent that fails three times in a row (--breaker-threshold) is taken for broken: its breaker opens, and what --needs it,
itself or through others, is not started and ends with 121. After ten minutes (--breaker-cooldown) one run at a time is let
through to try. If it succeeds the breaker closes, if it fails it stays open for twice as long. A success of the agent
itself closes it at any time.

Cancelled runs, conflicts, blocked runs, replays and failures of agentguard itself are not counted.

Examples:
  agentguard run --agent publish --needs summarise -- ./publish
  agentguard breaker list
  agentguard breaker trip fetch --for 2h       (before its server is taken down)
  agentguard breaker reset fetch")]
pub struct BreakerArgs {
    /// What to do
    #[command(subcommand)]
    pub command: BreakerCommand,
}

/// The subcommands of `breaker`.
#[derive(Debug, Subcommand)]
pub enum BreakerCommand {
    /// List the breakers: state, since when, failures in a row, next probe, who is blocked
    List {
        /// Print one JSON array
        #[arg(long)]
        json: bool,
    },
    /// Close a breaker and forget the failures
    Reset {
        /// Whose
        #[arg(value_name = "AGENT", required_unless_present = "all", conflicts_with = "all")]
        agents: Vec<String>,
        /// All that are open or have counted a failure
        #[arg(long)]
        all: bool,
    },
    /// Open a breaker, so that what needs the agent is not started
    Trip {
        /// Whose
        #[arg(value_name = "AGENT", required = true)]
        agents: Vec<String>,
        /// Until a run is let through to try [default: 10m]
        #[arg(long = "for", value_name = "TIME")]
        duration: Option<String>,
    },
}

/// Carries it out.
pub(super) fn breaker_command(
    args: BreakerArgs,
    state_dir: Option<&Path>,
    color: When,
    out: &mut dyn Write,
) -> anyhow::Result<ExitCode> {
    let at = surroundings(state_dir)?.state;
    let mut warn = io::stderr();
    let done = match args.command {
        BreakerCommand::List { json } => {
            let form = if json { ListForm::Json } else { ListForm::Table { width: width(), paint: paint(color) } };
            list(&StateDir::open(&at)?, form, out, &mut warn)
        }
        BreakerCommand::Reset { agents, all } => {
            let whose = if all { Whose::All } else { Whose::Of(agents) };
            decide(&StateDir::open(&at)?, &whose, Decision::Reset, out, &mut warn)
        }
        BreakerCommand::Trip { agents, duration } => {
            let duration = duration.map(|text| parse_duration("for", &text)).transpose()?;
            let decision = Decision::Trip(duration.unwrap_or_else(cooldown));
            decide(&StateDir::open_or_create(&at)?, &Whose::Of(agents), decision, out, &mut warn)
        }
    };
    match done {
        Err(error) if is_closed(&error) => {}
        done => done?,
    }
    unless_closed(out.flush()).context("cannot write to standard output")?;
    Ok(ExitCode::SUCCESS)
}

fn cooldown() -> Duration {
    BreakerPolicy::default().cooldown
}

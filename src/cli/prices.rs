//! `agentguard prices`: its subcommands, and where their answers go.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Args, Subcommand, ValueEnum};

use crate::cmd::prices::{ListForm, forget, import, list};
use crate::cmd::render::unless_closed;
use crate::cmd::run::surroundings;
use crate::store::state_dir::StateDir;

use super::args::When;
use super::config::ConfigFile;
use super::dispatch::is_closed;
use super::terminal::{paint, width};

/// `agentguard prices`.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Agents that say what they cost are believed; for the others tokens are priced, in US dollars per million tokens: by
[prices.\"MODEL\"] of agentguard.toml, else by the table that was imported here, else by the one that agentguard carries. The
record's cost_source tells which (reported, or priced:DATE). A model without a price costs an unknown amount, never nothing.

Examples:
  agentguard prices list claude-sonnet-4-5
  agentguard prices import model_prices_and_context_window.json

In agentguard.toml:
  [prices.\"my-model\"]
  input = 1.25
  output = 10.0
  cached = 0.125          (also: cache-write, cache-write-hour, reasoning)")]
pub struct PricesArgs {
    /// What to do
    #[command(subcommand)]
    pub command: PricesCommand,
}

/// The subcommands of `prices`.
#[derive(Debug, Subcommand)]
pub enum PricesCommand {
    /// List the prices, or that of one model
    List {
        /// Of which model, by any name that an agent gives it [default: all]
        model: Option<String>,
        /// As columns, one JSON object, or what `import` reads
        #[arg(long, value_name = "FORMAT", default_value = "table")]
        format: PriceFormat,
    },
    /// Take a newer table over: LiteLLM's model_prices_and_context_window.json, or what `list --format tsv` prints
    Import {
        /// The file
        file: PathBuf,
    },
    /// Go back to the table that agentguard carries
    Forget,
}

/// The form of the list.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum PriceFormat {
    /// Columns.
    Table,
    /// One JSON object.
    Json,
    /// A table for `import`.
    Tsv,
}

/// Carries it out.
pub(super) fn prices_command(
    args: PricesArgs,
    state_dir: Option<&Path>,
    color: When,
    out: &mut dyn Write,
) -> anyhow::Result<ExitCode> {
    let at = surroundings(state_dir)?;
    let done = match args.command {
        PricesCommand::List { model, format } => {
            let own = ConfigFile::find(&at.cwd)?.prices()?;
            let form = match format {
                PriceFormat::Table => ListForm::Table { width: width(), paint: paint(color) },
                PriceFormat::Json => ListForm::Json,
                PriceFormat::Tsv => ListForm::Tsv,
            };
            // Where nothing ever ran there is nothing imported.
            list(StateDir::open(&at.state).ok().as_ref(), &own, model.as_deref(), form, out)
        }
        PricesCommand::Import { file } => import(&StateDir::open_or_create(&at.state)?, &file, out),
        PricesCommand::Forget => forget(&StateDir::open(&at.state)?, out),
    };
    match done {
        Err(error) if is_closed(&error) => {}
        done => done?,
    }
    unless_closed(out.flush()).context("cannot write to standard output")?;
    Ok(ExitCode::SUCCESS)
}

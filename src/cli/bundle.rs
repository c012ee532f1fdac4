//! `agentguard export` and `import`: their options, and where their answers go.

use std::io::{self, IsTerminal as _, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use clap::Args;

use crate::cmd::export::{Destination, ExportRequest, Which, export};
use crate::cmd::import::{ImportRequest, import};
use crate::cmd::render::unless_closed;
use crate::cmd::run::surroundings;
use crate::model::ByteSize;

use super::terminal::say;

/// `agentguard export`.
#[derive(Debug, Args)]
#[command(after_long_help = "\
A bundle is a tar archive, compressed with zstd. It holds the run's record, what was asked, what the agent and the verify
commands printed, its standard input, and the contents of its inputs and of its small outputs.

Keys of known shapes and the values of secret options and variables are replaced in the record, the arguments, the recorded
environment and everything that was printed. Input files, outputs and standard input are hashed and stay as they were: look
at `agentguard show RUN --manifest inputs` before you give a bundle away.

Examples:
  agentguard export @failed -o failed.tar.zst
  agentguard export @ -o - | ssh laptop 'cd project && agentguard import -'
  agentguard export --all-failed -o failures.tar.zst    (one bundle for all: a CI step that keeps what failed)
  agentguard export --all-failed -o failures/           (one bundle for each run)

Exits with 0 also where --all-failed finds no failed run; then nothing is written.")]
pub struct ExportArgs {
    /// Run ids, unique prefixes or suffixes of them, @ (newest), @-1, @failed
    #[arg(value_name = "RUN", required_unless_present = "all_failed")]
    pub run: Vec<String>,
    /// Every failed run that was not acknowledged
    #[arg(long, conflicts_with = "run")]
    pub all_failed: bool,
    /// One bundle in this file; `-` is standard output; a directory, or a name that ends in /, takes one bundle per run
    #[arg(long, short, value_name = "FILE|DIR/|-")]
    pub output: PathBuf,
    /// Say nothing but errors
    #[arg(long, short)]
    pub quiet: bool,
}

/// `agentguard import`.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Every hash in a bundle is verified before anything is stored; a bundle is taken whole or not at all. Its runs join this
project's log under their own ids: `log` and `show` have them, and `agentguard replay` runs them in this project, whatever
the paths were where they were recorded. What they published cannot be applied or taken back here.

Examples:
  agentguard import failed.tar.zst
  agentguard import failures/*.tar.zst && agentguard replay @failed")]
pub struct ImportArgs {
    /// The bundles; `-` is standard input
    #[arg(value_name = "FILE", required = true)]
    pub file: Vec<PathBuf>,
    /// Refuse a bundle that would unpack to more than this
    #[arg(long, value_name = "SIZE", default_value = "4GiB")]
    pub limit: String,
}

/// Runs `export`.
pub(super) fn export_command(
    args: ExportArgs,
    state_dir: Option<&Path>,
    out: &mut dyn Write,
) -> anyhow::Result<ExitCode> {
    let to = match args.output {
        path if path == Path::new("-") => Destination::Stdout,
        path => Destination::Path(path),
    };
    if to == Destination::Stdout && io::stdout().is_terminal() {
        bail!("a bundle is not for a terminal: give -o FILE, or pipe it on");
    }
    let which = if args.all_failed { Which::AllFailed } else { Which::Named(args.run) };
    let request = ExportRequest { at: surroundings(state_dir)?, which, to };
    export(&request, out, &mut |text| {
        if !args.quiet {
            say(&format!("agentguard: {text}"));
        }
    })?;
    out.flush().context("cannot write to standard output")?;
    Ok(ExitCode::SUCCESS)
}

/// Runs `import`.
pub(super) fn import_command(
    args: &ImportArgs,
    state_dir: Option<&Path>,
    out: &mut dyn Write,
) -> anyhow::Result<ExitCode> {
    let ByteSize(limit) = args.limit.parse().context("--limit")?;
    let request = ImportRequest { at: surroundings(state_dir)?, files: args.file.clone(), limit };
    import(&request, out)?;
    unless_closed(out.flush()).context("cannot write to standard output")?;
    Ok(ExitCode::SUCCESS)
}

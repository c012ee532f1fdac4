//! `agentguard report`: its options, and the file that is replaced whole or not at all.

use std::fs::Permissions;
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;

use crate::cmd::render::unless_closed;
use crate::cmd::report::{ReportAnswer, ReportRequest, report};
use crate::cmd::run::surroundings;
use crate::model::Text;
use crate::store::state_dir::StateDir;

use super::terminal::say;
use super::when;

/// The log has damaged lines: the page is good and not complete.
const INCOMPLETE: u8 = 1;

/// `agentguard report`.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  agentguard report -o report.html
  agentguard report -o week.html --since 7d
  agentguard report -o - --agent nightly | gzip > report.html.gz

The page needs no network, no other file and no script; with a script, all runs can be searched and sorted. It holds what
the log holds, and the end of what the newest failed runs and their verify commands printed.

Exits with 1 if the log has damaged lines; they are named, and the page has the rest.")]
pub struct ReportArgs {
    /// The page; `-` is standard output
    #[arg(long, short, value_name = "FILE")]
    pub output: PathBuf,
    /// Only runs of this agent (repeatable)
    #[arg(long, value_name = "NAME")]
    pub agent: Vec<String>,
    /// Only runs that began at or after this time (RFC 3339, a date, or an age such as 2h)
    #[arg(long, value_name = "TIME")]
    pub since: Option<String>,
    /// Only runs that began before this time
    #[arg(long, value_name = "TIME")]
    pub until: Option<String>,
}

/// Makes the page.
pub(super) fn report_command(
    args: &ReportArgs,
    state_dir: Option<&Path>,
    out: &mut dyn Write,
) -> anyhow::Result<ExitCode> {
    let state = StateDir::open(&surroundings(state_dir)?.state)?;
    let request = ReportRequest {
        agents: args.agent.iter().map(|agent| Text::from(agent.as_str())).collect(),
        since: args.since.as_deref().map(|text| when::parse("since", text)).transpose()?,
        until: args.until.as_deref().map(|text| when::parse("until", text)).transpose()?,
    };
    let mut warn = io::stderr();
    let answer = if args.output == Path::new("-") {
        let mut page = Vec::new();
        let answer = report(&state, &request, &mut page, &mut warn)?;
        unless_closed(out.write_all(&page).and_then(|()| out.flush())).context("cannot write to standard output")?;
        answer
    } else {
        replace(&args.output, |file| report(&state, &request, file, &mut warn))?
    };
    Ok(if answer.damaged == 0 { ExitCode::SUCCESS } else { ExitCode::from(INCOMPLETE) })
}

/// Writes a file beside the old one and renames it: whoever reads meanwhile, and whatever fails, has the old one or the
/// new one. A link is followed; what is no regular file (a pipe, a device) is written as it is.
fn replace(
    path: &Path,
    write: impl FnOnce(&mut dyn Write) -> anyhow::Result<ReportAnswer>,
) -> anyhow::Result<ReportAnswer> {
    let cannot = || format!("cannot write {path:?}");
    let target = path.canonicalize().unwrap_or_else(|_| path.to_path_buf());
    if let Ok(metadata) = target.metadata()
        && !metadata.is_file()
    {
        anyhow::ensure!(!metadata.is_dir(), "-o {path:?} is a directory: name a file in it");
        let mut file = BufWriter::new(std::fs::File::options().write(true).open(&target).with_context(cannot)?);
        let answer = write(&mut file)?;
        file.flush().with_context(cannot)?;
        return Ok(answer);
    }
    let parent = target.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mode = target.metadata().map_or(0o666, |metadata| metadata.permissions().mode() & 0o777);
    let mut builder = tempfile::Builder::new();
    builder.prefix(".agentguard-report-").suffix(".tmp").permissions(Permissions::from_mode(mode));
    let temporary = builder.tempfile_in(parent).with_context(|| {
        let hint = if parent.is_dir() { "" } else { ": make its directory first" };
        format!("cannot write {path:?}{hint}")
    })?;
    let mut file = BufWriter::new(temporary);
    let answer = write(&mut file)?;
    file.flush().with_context(cannot)?;
    let temporary = file.into_inner().map_err(io::IntoInnerError::into_error).with_context(cannot)?;
    temporary.persist(&target).with_context(cannot)?;
    let runs = if answer.runs == 1 { "run" } else { "runs" };
    say(&format!(
        "agentguard: wrote {} {runs} to {}",
        answer.runs,
        crate::cmd::render::escape(path.as_os_str().as_encoded_bytes())
    ));
    Ok(answer)
}

//! From arguments to an exit code.

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use clap::error::ErrorKind as ClapError;
use clap::{ArgMatches, CommandFactory as _, FromArgMatches as _};

use crate::cmd::decide::{DecideRequest, decide};
use crate::cmd::export_format::ExportFormat;
use crate::cmd::log::{LogRequest, log};
use crate::cmd::recover::Health;
use crate::cmd::render::{escape, unless_closed};
use crate::cmd::replay::{ReplayRequest, Replayed, replay, report};
use crate::cmd::run::{RunRequest, run, surroundings};
use crate::cmd::run_choice::choose;
use crate::cmd::show::{CallForm, ShowRequest, ShowWhat, calls, show};
use crate::cmd::{demo, doctor, fsck, log as log_command, manifest, recover, schema};
use crate::model::Status;
use crate::model::error_kind::ErrorKind;
use crate::model::event::Purpose;
use crate::model::spec::{OutputKind, PublishPolicy};
use crate::rules::exit_code::{AgentExit, GUARD_FAILED, exit_code};
use crate::run::progress::Progress;
use crate::run::settle::Finished;
use crate::store::log::RunLog;
use crate::store::run_dir::RunDir;
use crate::store::state_dir::StateDir;
use crate::sys::host;

use super::args::{Cli, Command, DecideArgs, LogArgs, LogFormat, ManifestSide, ReplayArgs, RunArgs, ShowArgs, When};
use super::breaker::breaker_command;
use super::bundle::{export_command, import_command};
use super::ci::{Ci, CiPlan, ends_within_a_line};
use super::diff::diff_command;
use super::explain::explain_command;
use super::failed::failed_command;
use super::gc::gc_command;
use super::generated;
use super::prices::prices_command;
use super::progress::Shown;
use super::query::stats_command;
use super::report::report_command;
use super::settings::{Talk, Volume, run_settings, volume};
use super::summary::summary;
use super::terminal::{paint, say, width};

/// Something was found wrong, and named.
const UNWELL: u8 = 1;

/// Runs the program.
pub fn main(arguments: Vec<OsString>) -> ExitCode {
    // Asked by every script that looks for a version: answered before anything is set up.
    if arguments.len() == 2 && (arguments[1] == "--version" || arguments[1] == "-V") {
        return print(concat!("agentguard ", env!("CARGO_PKG_VERSION"), "\n").as_bytes());
    }
    host::keep_own_rights();
    let read = Cli::command().try_get_matches_from(arguments);
    let (cli, matches) = match read.and_then(|matches| Ok((Cli::from_arg_matches(&matches)?, matches))) {
        Ok(read) => read,
        Err(error) => return usage(&error),
    };
    match dispatch(cli, &matches) {
        Ok(code) => code,
        Err(error) => {
            say(&format!("agentguard: {}", escape_lines(&format!("{error:#}"))));
            code(GUARD_FAILED)
        }
    }
}

pub(super) fn code(code: i32) -> ExitCode {
    ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX))
}

/// Lists of candidates keep their lines; everything else is escaped.
fn escape_lines(text: &str) -> String {
    text.split('\n').map(|line| escape(line.as_bytes())).collect::<Vec<_>>().join("\n")
}

fn print(bytes: &[u8]) -> ExitCode {
    let mut out = io::stdout().lock();
    match unless_closed(out.write_all(bytes).and_then(|()| out.flush())) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("agentguard: cannot write to standard output: {error}"));
            code(GUARD_FAILED)
        }
    }
}

/// Help and version are answers; everything else clap says is a wrong call.
fn usage(error: &clap::Error) -> ExitCode {
    // A closed stream: nobody is there to read it.
    let _ = error.print();
    match error.kind() {
        ClapError::DisplayHelp | ClapError::DisplayVersion => ExitCode::SUCCESS,
        _ => code(GUARD_FAILED),
    }
}

fn dispatch(cli: Cli, matches: &ArgMatches) -> anyhow::Result<ExitCode> {
    let state_dir = cli.state_dir.as_deref();
    let mut out = io::BufWriter::new(io::stdout().lock());
    match cli.command {
        // These relay the agent's output: they take the stream themselves.
        Command::Run(args) => {
            drop(out);
            run_command(*args, state_dir, matches)
        }
        Command::Replay(args) => {
            drop(out);
            replay_command(args, state_dir)
        }
        // Its answer may go to a pager.
        Command::Diff(args) => {
            drop(out);
            diff_command(args, state_dir, cli.color)
        }
        Command::Log(args) => log_answer(&args, state_dir, cli.color, &mut out),
        Command::Stats(args) => {
            drop(out);
            stats_command(&args, state_dir, cli.color)
        }
        Command::Show(args) => show_answer(&args, state_dir, cli.color, &mut out),
        Command::Apply(args) => decide_command(args, Purpose::Apply, state_dir, &mut out),
        Command::Discard(args) => decide_command(args, Purpose::Discard, state_dir, &mut out),
        Command::Undo(args) => decide_command(args, Purpose::Undo, state_dir, &mut out),
        Command::Export(args) => export_command(args, state_dir, &mut out),
        Command::Import(args) => import_command(&args, state_dir, &mut out),
        Command::Breaker(args) => breaker_command(args, state_dir, cli.color, &mut out),
        Command::Failed(args) => {
            drop(out);
            failed_command(args, state_dir, cli.color)
        }
        Command::Prices(args) => prices_command(args, state_dir, cli.color, &mut out),
        Command::Report(args) => report_command(&args, state_dir, &mut out),
        Command::Recover => health(recover::recover(&surroundings(state_dir)?, &mut out)?, &mut out),
        Command::Gc(args) => gc_command(&args, state_dir, &mut out),
        Command::Fsck => health(fsck::fsck(&surroundings(state_dir)?, &mut out)?, &mut out),
        Command::Doctor => health(doctor::doctor(&surroundings(state_dir)?, &mut out)?, &mut out),
        Command::Demo => {
            drop(out);
            demo::demo(&std::env::current_exe().context("cannot find the program's own path")?, &mut io::stdout())?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Schema => Ok(print_through(&mut out, schema::schema_json().as_bytes())?),
        Command::Completions { shell } => Ok(print_through(&mut out, &generated::completions(shell))?),
        Command::Man { subcommand } => match generated::man_page(subcommand.as_deref())? {
            Some(page) => Ok(print_through(&mut out, &page)?),
            None => bail!("no subcommand {:?}: see `agentguard --help`", subcommand.unwrap_or_default()),
        },
    }
}

fn print_through(out: &mut dyn Write, bytes: &[u8]) -> anyhow::Result<ExitCode> {
    unless_closed(out.write_all(bytes).and_then(|()| out.flush())).context("cannot write to standard output")?;
    Ok(ExitCode::SUCCESS)
}

pub(super) fn health(health: Health, out: &mut dyn Write) -> anyhow::Result<ExitCode> {
    unless_closed(out.flush()).context("cannot write to standard output")?;
    Ok(match health {
        Health::Well => ExitCode::SUCCESS,
        Health::Unwell => ExitCode::from(UNWELL),
    })
}

fn run_command(args: RunArgs, state_dir: Option<&Path>, matches: &ArgMatches) -> anyhow::Result<ExitCode> {
    let explain = args.explain;
    let settings = run_settings(args, surroundings(state_dir)?)?;
    if explain {
        return explain_command(&settings, matches);
    }
    let reports = settings.reports.open()?;
    let shown = Arc::new(Shown::new(settings.talk));
    let progress: Arc<dyn Progress> = Arc::<Shown>::clone(&shown);
    let mut ci = Ci::begin(settings.reports.ci, &name(&settings.request));
    let finished = run(&settings.request, &progress);
    shown.clear();
    let finished = match finished {
        Ok(finished) => finished,
        Err(error) => {
            ci.failed(&error);
            return Err(error);
        }
    };
    ci.agent_ended();
    tell(&finished, settings.talk);
    reports.write(&finished.record, &settings.request.at.state);
    let is_relayed = settings.request.outputs.iter().all(|output| output.kind != OutputKind::Stdout);
    ci.finished(&finished.record, is_relayed && ends_within_a_line(&settings.request.at.state, finished.record.run_id));
    Ok(code(finished.record.guard_exit_code.unwrap_or(GUARD_FAILED)))
}

/// What the run is called before it has a record.
fn name(request: &RunRequest) -> String {
    let command = request.command.first().map(|word| word.to_string_lossy().into_owned()).unwrap_or_default();
    request.agent.clone().unwrap_or(command)
}

pub(super) fn tell(finished: &Finished, talk: Talk) {
    if let Some(path) = &finished.repaired {
        say(&format!(
            "agentguard: warning: the log's torn end was moved to {}",
            escape(path.as_os_str().as_encoded_bytes())
        ));
    }
    if let Some(why) = &finished.unswept {
        say(&format!("agentguard: warning: the next command cleans up after this run: {}", escape(why.as_bytes())));
    }
    for warning in &finished.breakers.warnings {
        say(&format!("agentguard: warning: {}", escape(warning.as_bytes())));
    }
    if talk.volume > Volume::Quiet {
        for told in &finished.breakers.news {
            say(&format!("agentguard: {}", escape(told.as_bytes())));
        }
    }
    // Of an agent that fails by itself the exit code tells, as it would without agentguard.
    let failure = finished.record.error.as_ref().map(|error| error.kind);
    let is_own = failure.is_some_and(|kind| !matches!(kind, ErrorKind::ExitCode | ErrorKind::Signal));
    if talk.volume > Volume::Quiet || is_own {
        say(&summary(finished));
    }
}

fn replay_command(args: ReplayArgs, state_dir: Option<&Path>) -> anyhow::Result<ExitCode> {
    let talk =
        Talk { volume: volume(args.talk.quiet, args.talk.verbose), progress: args.talk.progress.unwrap_or(When::Auto) };
    let as_recorded = args.command.is_empty() && !args.commit;
    let request = ReplayRequest {
        at: surroundings(state_dir)?,
        run: args.run,
        command: args.command,
        publish: if args.commit { PublishPolicy::Commit } else { PublishPolicy::Drop },
    };
    let plan = CiPlan::resolve(args.ci.as_deref(), |name| std::env::var_os(name))?;
    let shown = Arc::new(Shown::new(talk));
    let progress: Arc<dyn Progress> = Arc::<Shown>::clone(&shown);
    let mut ci = Ci::begin(plan, &request.run);
    let replayed = replay(&request, &progress);
    shown.clear();
    let replayed = replayed?;
    ci.agent_ended();
    tell(&replayed.finished, talk);
    if talk.volume > Volume::Quiet {
        let mut text = Vec::new();
        report(&replayed, &mut text)?;
        say(&format!("agentguard: {}", String::from_utf8_lossy(&text).trim_end()));
    }
    ci.closed(ends_within_a_line(&request.at.state, replayed.finished.record.run_id));
    Ok(replay_code(&replayed, as_recorded))
}

fn replay_code(replayed: &Replayed, as_recorded: bool) -> ExitCode {
    let own = replayed.finished.record.guard_exit_code.unwrap_or(GUARD_FAILED);
    // A replay that was told to stop, or that agentguard could not carry out, says nothing about the original.
    let stopped =
        replayed.finished.record.error.as_ref().is_some_and(|error| error.kind == crate::model::ErrorKind::Cancelled);
    match (as_recorded && !stopped, replayed.comparison.reproduced()) {
        (true, true) => ExitCode::SUCCESS,
        (true, false) if own == GUARD_FAILED => code(own),
        (true, false) => ExitCode::from(UNWELL),
        (false, _) => code(own),
    }
}

fn decide_command(
    args: DecideArgs,
    purpose: Purpose,
    state_dir: Option<&Path>,
    out: &mut dyn Write,
) -> anyhow::Result<ExitCode> {
    let talk = Talk { volume: volume(args.quiet, false), progress: When::Never };
    let progress: Arc<dyn Progress> = Arc::new(Shown::new(talk));
    let request = DecideRequest { at: surroundings(state_dir)?, run: args.run, purpose };
    let mut said = Vec::new();
    let refused = decide(&request, &progress, &mut said)?;
    if !args.quiet {
        unless_closed(out.write_all(&said).and_then(|()| out.flush())).context("cannot write to standard output")?;
    }
    let Some(failure) = refused else { return Ok(ExitCode::SUCCESS) };
    say(&format!("agentguard: {}", escape(failure.message.as_bytes())));
    if let Some(hint) = &failure.hint {
        say(&format!("hint: {}", escape(hint.as_bytes())));
    }
    Ok(code(exit_code(Status::Failed, Some(&failure), AgentExit::default())))
}

fn log_answer(args: &LogArgs, state_dir: Option<&Path>, color: When, out: &mut dyn Write) -> anyhow::Result<ExitCode> {
    let state = StateDir::open(&surroundings(state_dir)?.state)?;
    let request = LogRequest {
        filters: args.filters.filters()?,
        limit: args.limit.or(default_limit(args.format)),
        format: match args.format {
            LogFormat::Table => log_command::LogFormat::Table { width: width(), paint: paint(color) },
            LogFormat::Json => log_command::LogFormat::Json,
            LogFormat::Jsonl => log_command::LogFormat::Jsonl,
            LogFormat::Csv => log_command::LogFormat::Csv,
            LogFormat::Markdown => log_command::LogFormat::Markdown,
            LogFormat::Otlp => log_command::LogFormat::Export(ExportFormat::Otlp),
            LogFormat::Prometheus => log_command::LogFormat::Export(ExportFormat::Prometheus),
            LogFormat::Intoto => log_command::LogFormat::Export(ExportFormat::InToto),
            LogFormat::Junit => log_command::LogFormat::Export(ExportFormat::Junit),
        },
    };
    let answer = log(&RunLog::at(state.path()), &request, out, &mut io::stderr())?;
    unless_closed(out.flush()).context("cannot write to standard output")?;
    Ok(if answer.damaged == 0 { ExitCode::SUCCESS } else { ExitCode::from(UNWELL) })
}

/// A person wants the newest runs; a program that counts or keeps them would be wrong without the others.
fn default_limit(format: LogFormat) -> Option<usize> {
    match format {
        LogFormat::Table | LogFormat::Json | LogFormat::Jsonl | LogFormat::Csv | LogFormat::Markdown => Some(50),
        LogFormat::Otlp | LogFormat::Prometheus | LogFormat::Intoto | LogFormat::Junit => None,
    }
}

/// A word of the record's vocabulary; a stranger is told the whole of it.
pub(super) fn parse_word<T: serde::de::DeserializeOwned>(option: &str, word: &str) -> anyhow::Result<T> {
    serde_json::from_value(serde_json::Value::String(word.to_owned()))
        .map_err(|error| anyhow::anyhow!("--{option}: {error}"))
}

fn show_answer(
    args: &ShowArgs,
    state_dir: Option<&Path>,
    color: When,
    out: &mut dyn Write,
) -> anyhow::Result<ExitCode> {
    let state = StateDir::open(&surroundings(state_dir)?.state)?;
    let run_id = || -> anyhow::Result<_> {
        let log = RunLog::at(state.path());
        Ok(choose(&log, &args.run)?.head().with_context(|| format!("cannot read {:?}", log.path()))?.run_id)
    };
    let request = |what| ShowRequest { run: args.run.clone(), what };
    let shown = match (args.stdout, args.stderr, args.manifest) {
        (true, _, _) => manifest::stream(&state, run_id()?, manifest::Stream::Stdout, out),
        (_, true, _) => manifest::stream(&state, run_id()?, manifest::Stream::Stderr, out),
        (_, _, Some(side)) => {
            let side = match side {
                ManifestSide::Inputs => manifest::Side::Inputs,
                ManifestSide::Outputs => manifest::Side::Outputs,
            };
            match &args.listing {
                None => manifest::checksums(&state, run_id()?, side, out),
                Some(directory) => manifest::listing(&state, run_id()?, side, directory.as_deref(), out),
            }
        }
        _ if args.calls => {
            let form = match args.jsonl {
                true => CallForm::Json,
                false => CallForm::Table { width: width(), paint: paint(color) },
            };
            calls(&RunDir::of(&state, run_id()?), form, out)
        }
        _ if args.json => show(state.path(), &request(ShowWhat::Json), out),
        _ => show(state.path(), &request(ShowWhat::Summary(paint(color))), out),
    };
    match shown.and_then(|()| Ok(out.flush()?)) {
        Err(error) if is_closed(&error) => Ok(ExitCode::SUCCESS),
        other => other.map(|()| ExitCode::SUCCESS),
    }
}

/// `agentguard show … | head` has seen enough.
pub(super) fn is_closed(error: &anyhow::Error) -> bool {
    error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<io::Error>())
        .any(|cause| cause.kind() == io::ErrorKind::BrokenPipe)
}

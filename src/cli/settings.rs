//! From what was typed and configured to what it means: the strongest layer that names an option wins.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::bail;
use clap::ValueEnum as _;

use crate::cmd::run::{RunRequest, StdinWish, ViewWish, WorkspaceWish};
use crate::model::breaker::{BreakerPolicy, Refusal};
use crate::model::spec::{
    Feedback, GatePolicy, Hold, IsolationLevel, Network, OnConflict, OnDrift, OutputKind, RetryPolicy, StagingBase,
    TimePolicy, Tty, ViewKind,
};
use crate::model::{ByteSize, Text};
use crate::rules::nearest::nearest;
use crate::run::resolve::{OutputWish, Surroundings, check_glob};

use super::args::{RunArgs, When};
use super::config::{ConfigFile, Layer, Origin};
use super::layered::{Layered, parse_count, word};
use super::limits;
use super::origins::Origins;
use super::reports::Reports;

/// TERM to KILL: a CI system gives ten seconds from its first signal to SIGKILL.
const KILL_AFTER: Duration = Duration::from_secs(5);

/// New bytes of one snapshot.
const SNAPSHOT_LIMIT: ByteSize = ByteSize(4 << 30);

/// Everything `run` needs to know.
#[derive(Debug)]
pub struct Settings {
    /// What to run, and how.
    pub request: RunRequest,
    /// Where else what came of it is written.
    pub reports: Reports,
    /// How much is said.
    pub talk: Talk,
    /// Where all of it comes from.
    pub origins: Origins,
}

/// How much is said on standard error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Talk {
    /// How many words.
    pub volume: Volume,
    /// Whether progress is shown.
    pub progress: When,
}

/// How many words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Volume {
    /// Errors only.
    Quiet,
    /// One line at the end.
    Normal,
    /// More about what is done.
    Verbose,
}

/// Resolves `run`.
pub fn run_settings(args: RunArgs, at: Surroundings) -> anyhow::Result<Settings> {
    let config = ConfigFile::find(&at.cwd)?;
    let environment = Layer::from_environment(|name| std::env::var_os(name))?;
    let origins = Origins::default();
    let agent = agent(args.agent, &environment, &config, &origins)?;
    let command = command(args.command, agent.as_deref(), &config, &origins)?;
    let named = agent.clone().or_else(|| basename(&command));
    let layers: Vec<Layer> = std::iter::once(environment).chain(config.layers(named.as_deref())).collect();
    let layered = Layered { layers: &layers, origins: &origins };
    let quiet = layered.flag("quiet", args.talk.quiet)?;
    let progress = match args.talk.progress {
        Some(when) => {
            let word = when.to_possible_value().map(|value| value.get_name().into());
            origins.note("progress", word.into_iter().collect(), &Origin::Flag);
            when
        }
        None => layered.one("progress", None)?.map_or(Ok(When::Auto), |text| parse_when("progress", &text))?,
    };
    if args.talk.verbose {
        origins.note("verbose", Vec::new(), &Origin::Flag);
    }
    let talk = Talk { volume: volume(quiet, args.talk.verbose), progress };
    let reports = Reports::resolve(&layered, [args.record, args.junit, args.dotenv], args.ci)?;
    let verify = layered.list("verify", args.verify)?;
    let no_verify = layered.flag("no-verify", args.no_verify)?;
    let gate = GatePolicy {
        verify: if no_verify { Vec::new() } else { verify.into_iter().map(Text::from).collect() },
        verify_timeout: layered.duration("verify-timeout", args.verify_timeout)?,
        expect: globs("expect", layered.strings("expect", args.expect)?)?,
        max_files: layered.one("max-files", args.max_files)?.map(|text| parse_count("max-files", &text)).transpose()?,
        max_bytes: layered.size("max-bytes", args.max_bytes)?,
        protect: globs("protect", layered.strings("protect", args.protect)?)?,
        allow: globs("allow", layered.strings("allow", args.allow)?)?,
    };
    let view = ViewWish {
        wanted: word("view", layered.one("view", args.view)?, &VIEWS)?.unwrap_or_default(),
        isolation: word("isolation", layered.one("isolation", args.isolation)?, &LEVELS)?.unwrap_or_default(),
        allow_write: layered.paths("allow-write", args.allow_write)?,
        network: if layered.flag("no-network", args.no_network)? { Network::None } else { Network::Host },
    };
    let time = TimePolicy {
        timeout: layered.duration("timeout", args.timeout)?,
        idle_timeout: layered.duration("idle-timeout", args.idle_timeout)?,
        deadline: layered.duration("deadline", args.deadline)?,
        kill_after: layered.duration("kill-after", args.kill_after)?.unwrap_or(KILL_AFTER),
    };
    let asks_about_retries = args.backoff.is_some() || args.backoff_max.is_some() || !args.retry_on.is_empty();
    let retry = RetryPolicy {
        retries: match layered.one("retries", args.retries)? {
            Some(text) => parse_count("retries", &text)?
                .try_into()
                .map_err(|_| anyhow::anyhow!("--retries: {text:?} is more than anybody waits for"))?,
            None => 0,
        },
        backoff: layered.duration("backoff", args.backoff)?.unwrap_or(RetryPolicy::default().backoff),
        backoff_max: layered.duration("backoff-max", args.backoff_max)?.unwrap_or(RetryPolicy::default().backoff_max),
        on: limits::retry_on(&layered.strings("retry-on", args.retry_on)?)?,
        feedback: if layered.flag("feedback", args.feedback)? { Feedback::File } else { Feedback::No },
    };
    if retry.retries == 0 && (asks_about_retries || args.feedback) {
        bail!("there is no further attempt to say that about: add --retries N");
    }
    let limits::Spendable { budget, usage, meter } =
        limits::budget(&layered, args.budget, config.daily_usd(named.as_deref())?)?;
    let stdin = layered.path("stdin", args.stdin)?;
    let tty = word("tty", layered.one("tty", args.tty)?, &TTYS)?.unwrap_or_default();
    let default = BreakerPolicy::default();
    let breaker = BreakerPolicy {
        threshold: layered
            .one("breaker-threshold", args.breaker_threshold)?
            .map_or(Ok(default.threshold), |text| parse_threshold(&text))?,
        cooldown: layered.duration("breaker-cooldown", args.breaker_cooldown)?.unwrap_or(default.cooldown),
        refusal: match (layered.flag("no-breaker", args.no_breaker)?, layered.flag("breaker-self", args.breaker_self)?)
        {
            (true, _) => Refusal::Never,
            (false, true) => Refusal::UpstreamAndSelf,
            (false, false) => Refusal::Upstream,
        },
    };
    let workspace_typed = args.workspace.is_some();
    let (hold_typed, conflict_typed) = (args.hold, args.on_conflict.is_some());
    let passthrough_typed = !args.passthrough.is_empty();
    let outputs = outputs(&layered, workspace_typed, args.out, args.out_file, args.stdout)?;
    let directory = match args.workspace {
        Some(typed) => {
            origins.note("workspace", typed.iter().map(OsString::from).collect(), &Origin::Flag);
            typed
        }
        None => layered.path("workspace", None)?,
    };
    let workspace = WorkspaceWish {
        directory,
        passthrough: layered.paths("passthrough", args.passthrough)?,
        hold: if layered.flag("hold", args.hold)? { Hold::Yes } else { Hold::No },
        on_conflict: word("on-conflict", layered.one("on-conflict", args.on_conflict)?, &CONFLICTS)?
            .unwrap_or_default(),
    };
    if !outputs.is_empty() && workspace_typed {
        bail!("--workspace and the output options are two ways to give a place to write: choose one");
    }
    let of_workspace =
        [("--hold", hold_typed), ("--passthrough", passthrough_typed), ("--on-conflict", conflict_typed)];
    if let Some((option, _)) = of_workspace.iter().find(|(_, typed)| *typed && !outputs.is_empty()) {
        bail!("{option} is about the changes of a workspace; it does not go with --out, --out-file or --stdout");
    }
    let request = RunRequest {
        at,
        agent,
        command,
        inputs: layered.paths("input", args.input)?,
        exclude: globs("exclude", layered.strings("exclude", args.exclude)?)?,
        snapshot_limit: layered.size("snapshot-limit", args.snapshot_limit)?.unwrap_or(SNAPSHOT_LIMIT),
        outputs,
        staging_base: staging_base(layered.one("out-from", args.out_from)?.as_deref())?,
        workspace,
        view,
        on_drift: word("on-drift", layered.one("on-drift", args.on_drift)?, &DRIFTS)?.unwrap_or_default(),
        gate,
        time,
        retry,
        budget,
        usage,
        meter,
        prices: config.prices()?,
        stdin: stdin_wish(stdin),
        tty,
        needs: needs(layered.strings("needs", args.needs)?)?,
        breaker,
        labels: labels(layered.strings("label", args.label)?)?,
        record_env: layered.strings("record-env", args.record_env)?,
    };
    Ok(Settings { request, reports, talk, origins })
}

/// The words of `--quiet` and `--verbose`.
pub fn volume(quiet: bool, verbose: bool) -> Volume {
    match (quiet, verbose) {
        (true, _) => Volume::Quiet,
        (false, true) => Volume::Verbose,
        (false, false) => Volume::Normal,
    }
}

/// The agent's name, which decides what layers there are.
fn agent(
    typed: Option<String>,
    environment: &Layer,
    config: &ConfigFile,
    origins: &Origins,
) -> anyhow::Result<Option<String>> {
    let note = |agent: String, origin: &Origin| {
        origins.note("agent", vec![OsString::from(&agent)], origin);
        Some(agent)
    };
    if let Some(agent) = typed {
        return Ok(note(agent, &Origin::Flag));
    }
    if let Some(agent) = environment.get("agent")?.and_then(|mut values| values.pop()) {
        return Ok(note(agent, &environment.origin));
    }
    Ok(config.default_agent()?.and_then(|agent| note(agent, &config.origin("defaults"))))
}

/// The command after `--`, else the one of `[agents.NAME]`.
fn command(
    typed: Vec<OsString>,
    agent: Option<&str>,
    config: &ConfigFile,
    origins: &Origins,
) -> anyhow::Result<Vec<OsString>> {
    if !typed.is_empty() {
        return Ok(origins.note("command", typed, &Origin::Flag));
    }
    let Some(agent) = agent else {
        bail!("no command: write `agentguard run [OPTIONS] -- CMD [ARGS]`");
    };
    if let Some(command) = config.command(agent)?.filter(|command| !command.is_empty()) {
        return Ok(origins.note("command", command, &config.origin(&format!("agents.{agent}"))));
    }
    let near = nearest(agent, config.agent_names()).filter(|near| *near != agent);
    let near = near.map_or_else(String::new, |near| format!(" (did you mean `{near}`?)"));
    bail!("no command: write one after `--`, or as `command = [\"…\"]` under [agents.{agent}] in agentguard.toml{near}")
}

fn basename(command: &[OsString]) -> Option<String> {
    Path::new(command.first()?).file_name()?.to_str().map(str::to_owned)
}

fn parse_when(key: &str, text: &str) -> anyhow::Result<When> {
    match text {
        "auto" => Ok(When::Auto),
        "always" => Ok(When::Always),
        "never" => Ok(When::Never),
        other => bail!("--{key} is auto, always or never, not {other:?}"),
    }
}

const TTYS: [(&str, Tty); 3] = [("auto", Tty::Auto), ("always", Tty::Always), ("never", Tty::Never)];

/// A file that is called like a word has a slash: `./null`.
fn stdin_wish(text: Option<PathBuf>) -> StdinWish {
    match text {
        None => StdinWish::Inherit,
        Some(text) if text.as_os_str() == "inherit" => StdinWish::Inherit,
        Some(text) if text.as_os_str() == "null" => StdinWish::Null,
        Some(path) => StdinWish::File(path),
    }
}

fn parse_threshold(text: &str) -> anyhow::Result<u32> {
    match text.parse() {
        Ok(0) => bail!("--breaker-threshold: no failure is none to count: write 1 or more, or use --no-breaker"),
        Ok(count) => Ok(count),
        Err(_) => bail!("--breaker-threshold: {text:?} is no number"),
    }
}

/// Names, each once, also where several stand in one value.
fn needs(values: Vec<String>) -> anyhow::Result<Vec<String>> {
    let mut names: Vec<String> = Vec::new();
    for name in values.iter().flat_map(|value| value.split(',')).map(str::trim) {
        if name.is_empty() {
            bail!("--needs: an empty name names no agent");
        }
        if !names.iter().any(|known| known == name) {
            names.push(name.to_owned());
        }
    }
    Ok(names)
}

fn globs(key: &str, globs: Vec<String>) -> anyhow::Result<Vec<String>> {
    for glob in &globs {
        check_glob(glob).map_err(|why| anyhow::anyhow!("--{key}: {why}"))?;
    }
    Ok(globs)
}

fn staging_base(text: Option<&str>) -> anyhow::Result<StagingBase> {
    match text {
        None | Some("empty") => Ok(StagingBase::Empty),
        Some("current") => Ok(StagingBase::Current),
        Some(other) => bail!("--out-from is empty or current, not {other:?}"),
    }
}

const VIEWS: [(&str, ViewKind); 3] =
    [("auto", ViewKind::Auto), ("overlay", ViewKind::Overlay), ("clone", ViewKind::Clone)];
const LEVELS: [(&str, IsolationLevel); 3] =
    [("auto", IsolationLevel::Auto), ("strict", IsolationLevel::Strict), ("none", IsolationLevel::None)];
const CONFLICTS: [(&str, OnConflict); 2] = [("fail", OnConflict::Fail), ("hold", OnConflict::Hold)];
const DRIFTS: [(&str, OnDrift); 2] = [("record", OnDrift::Record), ("fail", OnDrift::Fail)];

fn outputs(
    layered: &Layered<'_>,
    workspace_typed: bool,
    out: Vec<PathBuf>,
    out_file: Vec<PathBuf>,
    stdout: Option<PathBuf>,
) -> anyhow::Result<Vec<OutputWish>> {
    // Outputs are one thing: those typed replace those configured, of whatever kind.
    let typed = workspace_typed || !(out.is_empty() && out_file.is_empty() && stdout.is_none());
    let none = Layered { layers: &[], origins: layered.origins };
    let layered = if typed { &none } else { layered };
    let wish = |kind| move |path| OutputWish { path, kind };
    let mut wishes: Vec<OutputWish> = Vec::new();
    wishes.extend(layered.paths("out", out)?.into_iter().map(wish(OutputKind::Directory)));
    wishes.extend(layered.paths("out-file", out_file)?.into_iter().map(wish(OutputKind::File)));
    wishes.extend(layered.path("stdout", stdout)?.into_iter().map(wish(OutputKind::Stdout)));
    Ok(wishes)
}

fn labels(pairs: Vec<String>) -> anyhow::Result<BTreeMap<String, String>> {
    let split = |pair: String| match pair.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => bail!("--label: {pair:?} is no pair: write NAME=VALUE"),
    };
    pairs.into_iter().map(split).collect()
}

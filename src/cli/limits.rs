//! The options that limit a run: budgets, and after which failures it is tried again.

use anyhow::bail;

use crate::model::UsageFormat;
use crate::model::error_kind::{ErrorClass, ErrorKind};
use crate::model::spec::{Budget, RetryOn, RetryPolicy};
use crate::rules::nearest::nearest;

use super::args::BudgetArgs;
use super::layered::{Layered, parse_count};

/// What an agent may use, and who is asked what it used.
pub(super) struct Spendable {
    /// The budgets.
    pub(super) budget: Budget,
    /// Whose words count.
    pub(super) usage: UsageFormat,
    /// Where the meter sends calls, beside what is known; `None` without one.
    pub(super) meter: Option<Vec<(String, String)>>,
}

/// Resolves the budgets.
pub(super) fn budget(layered: &Layered<'_>, typed: BudgetArgs, daily_usd: Option<f64>) -> anyhow::Result<Spendable> {
    let count = |key: &str, typed| layered.one(key, typed)?.map(|text| parse_limit(key, &text)).transpose();
    let budget = Budget {
        max_output: layered.size("max-output", typed.max_output)?,
        nice: layered.one("nice", typed.nice)?.map(|text| parse_nice(&text)).transpose()?,
        memory: layered.size("memory", typed.memory)?,
        pids: layered.one("pids", typed.pids)?.map(|text| parse_count("pids", &text)).transpose()?,
        max_tokens: count("max-tokens", typed.max_tokens)?,
        max_cost_usd: layered.one("max-cost-usd", typed.max_cost_usd)?.map(|text| parse_usd(&text)).transpose()?,
        max_calls: count("max-calls", typed.max_calls)?,
        daily_usd,
        left_today_usd: None,
    };
    let upstreams_typed = !typed.meter_upstream.is_empty();
    let upstreams = layered.strings("meter-upstream", typed.meter_upstream)?;
    let is_metered = layered.flag("meter", typed.meter)?;
    if upstreams_typed && !is_metered {
        bail!("--meter-upstream is about the meter: add --meter");
    }
    let meter = is_metered.then(|| upstreams.iter().map(|pair| upstream(pair)).collect()).transpose()?;
    let usage = layered.one("usage", typed.usage)?.map_or(Ok(UsageFormat::Auto), |text| parse_format(&text))?;
    let is_spent = budget.max_tokens.is_some() || budget.max_cost_usd.is_some() || budget.max_calls.is_some();
    if usage == UsageFormat::Off && is_spent && !is_metered {
        bail!("--usage off asks nobody what was used: a budget of tokens, cost or calls would never be passed");
    }
    Ok(Spendable { budget, usage, meter })
}

fn upstream(pair: &str) -> anyhow::Result<(String, String)> {
    match pair.split_once('=') {
        Some((variable, address)) if !variable.is_empty() => Ok((variable.to_owned(), address.to_owned())),
        _ => bail!(
            "--meter-upstream: {pair:?} is no pair: write VARIABLE=URL, e.g. OPENAI_BASE_URL=http://127.0.0.1:8080/v1"
        ),
    }
}

/// A number of tokens or calls: nothing at all is no budget but a mistake.
fn parse_limit(key: &str, text: &str) -> anyhow::Result<u64> {
    // 200k and 1.5M are how people say it.
    let (digits, factor) = match text.as_bytes().last() {
        Some(b'k' | b'K') => (&text[..text.len() - 1], 1e3),
        Some(b'm' | b'M') => (&text[..text.len() - 1], 1e6),
        _ => (text, 1.0),
    };
    const MOST: f64 = 1e15;
    let number = digits.parse::<f64>().ok().map(|number| number * factor).filter(|number| number.fract() == 0.0);
    match number {
        Some(number) if (1.0..=MOST).contains(&number) => Ok(number as u64),
        _ => bail!("--{key}: {text:?} is no number of at least 1: write e.g. 50000 or 200k"),
    }
}

/// An amount of US dollars.
pub(super) fn parse_usd(text: &str) -> anyhow::Result<f64> {
    match text.trim_start_matches('$').parse::<f64>() {
        Ok(amount) if amount.is_finite() && amount > 0.0 => Ok(amount),
        _ => bail!("--max-cost-usd: {text:?} is no amount of US dollars above zero: write e.g. 0.50"),
    }
}

const FORMATS: [(&str, UsageFormat); 14] = [
    ("auto", UsageFormat::Auto),
    ("off", UsageFormat::Off),
    ("file", UsageFormat::File),
    ("claude", UsageFormat::Claude),
    ("codex", UsageFormat::Codex),
    ("gemini", UsageFormat::Gemini),
    ("qwen", UsageFormat::Qwen),
    ("opencode", UsageFormat::Opencode),
    ("pi", UsageFormat::Pi),
    ("copilot", UsageFormat::Copilot),
    ("aider", UsageFormat::Aider),
    ("mini", UsageFormat::Mini),
    ("llm", UsageFormat::Llm),
    ("cn", UsageFormat::Cn),
];

fn parse_format(text: &str) -> anyhow::Result<UsageFormat> {
    if let Some((_, format)) = FORMATS.iter().find(|(name, _)| *name == text) {
        return Ok(*format);
    }
    let names: Vec<&str> = FORMATS.iter().map(|(name, _)| *name).collect();
    let near = nearest(text, names.iter().copied()).map(|near| format!(" (did you mean `{near}`?)"));
    bail!("--usage is one of {}, not {text:?}{}", names.join(", "), near.unwrap_or_default())
}

fn parse_nice(text: &str) -> anyhow::Result<i32> {
    match text.parse() {
        Ok(nice @ 1..=19) => Ok(nice),
        _ => bail!("--nice: {text:?} is none of 1 to 19"),
    }
}

/// Classes and kinds, separated by commas; none: the default.
pub(super) fn retry_on(texts: &[String]) -> anyhow::Result<Vec<RetryOn>> {
    let words: Vec<&str> = texts.iter().flat_map(|text| text.split(',')).map(str::trim).collect();
    if words.is_empty() {
        return Ok(RetryPolicy::default().on);
    }
    let known: Vec<(String, RetryOn)> = CLASSES
        .into_iter()
        .map(|class| (class.to_string(), RetryOn::Class(class)))
        .chain(KINDS.into_iter().map(|kind| (kind.to_string(), RetryOn::Kind(kind))))
        .collect();
    words
        .into_iter()
        .map(|word| {
            let found = known.iter().find(|(name, _)| name == word).map(|(_, on)| *on);
            found.ok_or_else(|| {
                let names: Vec<&str> = known.iter().map(|(name, _)| name.as_str()).collect();
                let hint = nearest(word, names.iter().copied()).map(|near| format!(": {near:?}?"));
                anyhow::anyhow!(
                    "--retry-on: {word:?} is nothing to try again after{}; write one of {}",
                    hint.unwrap_or_default(),
                    names.join(", ")
                )
            })
        })
        .collect()
}

/// Classes of failures that another attempt may mend.
const CLASSES: [ErrorClass; 3] = [ErrorClass::CleanAbort, ErrorClass::PartialWrite, ErrorClass::SilentDrift];

/// Precise causes of failures that another attempt may mend.
const KINDS: [ErrorKind; 17] = [
    ErrorKind::ExitCode,
    ErrorKind::Signal,
    ErrorKind::OutOfMemory,
    ErrorKind::Timeout,
    ErrorKind::IdleTimeout,
    ErrorKind::SpawnFailed,
    ErrorKind::AgentReported,
    ErrorKind::ApiAuth,
    ErrorKind::ApiRateLimit,
    ErrorKind::ApiOverloaded,
    ErrorKind::ApiStreamCut,
    ErrorKind::EmptyOutput,
    ErrorKind::OutputLimit,
    ErrorKind::VerifyFailed,
    ErrorKind::VerifyTimeout,
    ErrorKind::VerifyUnrunnable,
    ErrorKind::Expectation,
];

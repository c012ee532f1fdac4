//! `agentguard gc`: its options, what `[gc]` says where they are not given, and where its answer goes.

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Args;

use crate::cmd::gc::{Doing, GcRequest, gc};
use crate::cmd::run::surroundings;
use crate::model::ByteSize;
use crate::rules::retention::RetentionPolicy;
use crate::sys::clock;

use super::config::{ConfigFile, Layer};
use super::dispatch::health;

const DAY_SECONDS: u64 = 24 * 60 * 60;
const KEEP_FAILED_DAYS: u64 = 30;
const SEGMENT: ByteSize = ByteSize(64 << 20);

/// `agentguard gc`.
#[derive(Debug, Args)]
#[command(after_long_help = "\
A run that goes loses its directory: it stays in the log, and can no longer be replayed, exported, shown in detail or taken
back. Contents that no other run relies on go with it. Without --keep-days, --keep-runs and --max-size no run goes.

Never removed: a run that is alive, one that is held, and a failure that nobody has acknowledged and that is younger than
--keep-failed-days.

Whatever is asked: contents that no run relies on, displaced trees whose readers had their time, files that were put aside as
damaged, and stale caches are removed; and once the log's newest file has 64 MiB (--log-segment) it becomes runs-<n>.jsonl.
No line of the log is ever removed.

The options may stand in agentguard.toml under [gc] (keep-days = 90), and as AGENTGUARD_GC_<OPTION>.

Examples:
  agentguard gc --dry-run --keep-days 90
  agentguard gc --keep-runs 200 --max-size 5GiB
  agentguard gc                                (what [gc] says, from a nightly job)

Exits with 1 if something was damaged so that not all could be removed.")]
pub struct GcArgs {
    /// Remove runs that ended more days ago
    #[arg(long, value_name = "N")]
    pub keep_days: Option<String>,
    /// Keep the newest runs only
    #[arg(long, value_name = "N")]
    pub keep_runs: Option<String>,
    /// Remove the oldest runs until the state directory takes no more than this
    #[arg(long, value_name = "SIZE")]
    pub max_size: Option<String>,
    /// Keep failures that nobody has acknowledged for so many days in any case [default: 30]
    #[arg(long, value_name = "N")]
    pub keep_failed_days: Option<String>,
    /// Close the log's newest file once it has so much [default: 64MiB]
    #[arg(long, value_name = "SIZE")]
    pub log_segment: Option<String>,
    /// Close the log's newest file now
    #[arg(long, conflicts_with = "log_segment")]
    pub rotate: bool,
    /// Remove nothing: say what would go, and how much that is
    #[arg(long)]
    pub dry_run: bool,
}

/// Runs `gc`.
pub(super) fn gc_command(args: &GcArgs, state_dir: Option<&Path>, out: &mut dyn Write) -> anyhow::Result<ExitCode> {
    let at = surroundings(state_dir)?;
    let wishes = Wishes { file: ConfigFile::find(&at.cwd)?.gc() };
    let days = |key, typed: &Option<String>| -> anyhow::Result<Option<Duration>> {
        let Some(count) = wishes.number(key, typed)? else { return Ok(None) };
        let seconds = count.checked_mul(DAY_SECONDS).with_context(|| format!("--{key} {count} is too much"))?;
        Ok(Some(Duration::from_secs(seconds)))
    };
    let failed = days("keep-failed-days", &args.keep_failed_days)?;
    let policy = RetentionPolicy {
        keep_for: days("keep-days", &args.keep_days)?,
        keep_runs: wishes.number("keep-runs", &args.keep_runs)?,
        max_bytes: wishes.size("max-size", &args.max_size)?.map(|size| size.0),
        keep_failed_for: failed.unwrap_or(Duration::from_secs(KEEP_FAILED_DAYS * DAY_SECONDS)),
    };
    let segment = wishes.size("log-segment", &args.log_segment)?.unwrap_or(SEGMENT);
    let request = GcRequest {
        at,
        policy,
        segment_bytes: if args.rotate { 0 } else { segment.0 },
        doing: if args.dry_run { Doing::Tell } else { Doing::Remove },
    };
    health(gc(&request, clock::now(), out)?, out)
}

/// Where a value comes from: typed, else the environment, else the file.
struct Wishes {
    file: Layer,
}

impl Wishes {
    fn value(&self, key: &str, typed: &Option<String>) -> anyhow::Result<Option<(String, String)>> {
        if let Some(value) = typed {
            return Ok(Some((value.clone(), format!("--{key}"))));
        }
        let name = format!("AGENTGUARD_GC_{}", key.to_ascii_uppercase().replace('-', "_"));
        if let Some(value) = std::env::var_os(&name).filter(|value| !value.is_empty()) {
            let Ok(value) = value.into_string() else { bail!("{name} is no UTF-8: give the option as a flag") };
            return Ok(Some((value, name)));
        }
        let origin = format!("`{key}` in {}", self.file.origin);
        match self.file.get(key)?.as_deref() {
            None => Ok(None),
            Some([value]) => Ok(Some((value.clone(), origin))),
            Some(_) => bail!("{origin} must be one value"),
        }
    }

    fn number(&self, key: &str, typed: &Option<String>) -> anyhow::Result<Option<u64>> {
        let Some((value, origin)) = self.value(key, typed)? else { return Ok(None) };
        value.parse().map(Some).with_context(|| format!("{origin}: {value:?} is no whole number"))
    }

    fn size(&self, key: &str, typed: &Option<String>) -> anyhow::Result<Option<ByteSize>> {
        let Some((value, origin)) = self.value(key, typed)? else { return Ok(None) };
        value.parse().map(Some).context(origin)
    }
}

//! Files with figures that some agents write beside what they print: copilot's `--usage-output-file`, mini-swe-agent's
//! trajectory.

use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use rustix::fs::OFlags;
use serde_json::Value;

use crate::model::Timestamp;

use super::api_error::Verdict;
use super::figures::Figures;
use super::{Format, copilot, mini};

/// No honest one is larger.
const MOST_BYTES: u64 = 64 << 20;

/// Files are stamped by a clock that may be so far behind.
const TICK_MICROS: i64 = 20_000;

/// What such a file told.
#[derive(Clone, Debug, PartialEq)]
pub struct Told {
    /// Whose format it is.
    pub format: &'static str,
    /// What was used.
    pub figures: Option<Figures>,
    /// How the agent says that it failed.
    pub verdict: Option<Verdict>,
}

/// The file that a command names on its line, for agents that write one.
pub fn named_by<'a>(command: &[&'a str]) -> Option<&'a str> {
    let program = Path::new(command.first()?).file_name()?.to_str()?;
    let options: &[&str] = match program {
        "mini" | "mini-swe-agent" => &["-o", "--output"],
        _ => &["--usage-output-file"],
    };
    command.iter().enumerate().find_map(|(at, argument)| {
        let (option, value) =
            argument.split_once('=').map_or((*argument, None), |(option, value)| (option, Some(value)));
        let next = || command.get(at + 1).copied();
        options.contains(&option).then(|| value.or_else(next)).flatten()
    })
}

/// Reads one. What is no such file, or was not written since then, says nothing.
pub fn read(path: &Path, format: Format, since: Timestamp) -> Option<Told> {
    // What the agent has put there may be anything: a fifo must not be waited for.
    let file =
        File::options().read(true).custom_flags((OFlags::NONBLOCK | OFlags::NOFOLLOW).bits() as i32).open(path).ok()?;
    let about = file.metadata().ok()?;
    let written = about.mtime().saturating_mul(1_000_000).saturating_add(about.mtime_nsec() / 1000);
    let is_new = written >= since.unix_micros() - TICK_MICROS;
    let is_honest = about.is_file() && about.len() <= MOST_BYTES && is_new;
    let mut bytes = Vec::new();
    if !is_honest || file.take(MOST_BYTES).read_to_end(&mut bytes).is_err() {
        return None;
    }
    let value: Value = serde_json::from_slice(&bytes).ok()?;
    if value.get("modelMetrics").is_some() && format.wants("copilot") {
        return Some(Told { format: "copilot", figures: copilot::of_file(&value), verdict: None });
    }
    if value.get("trajectory_format").is_some() && format.wants("mini") {
        let (figures, verdict) = mini::of_file(&value);
        return Some(Told { format: "mini", figures, verdict });
    }
    None
}

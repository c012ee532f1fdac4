//! From times to the table.

use std::fmt::Write as _;

use anyhow::Context as _;

use crate::place::{AGENTGUARD, Place};
use crate::rows::{Goal, RowSpec};
use crate::timing::{Rounds, Timed};

/// What became of a row.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// Both sides ran.
    Measured(Rounds),
    /// A program that it needs is not there.
    Skipped(&'static str),
    /// A command failed.
    Failed(anyhow::Error),
}

/// What was measured and where, and the names of the columns.
pub(crate) fn heading(place: &Place) -> anyhow::Result<String> {
    let system = rustix::system::uname();
    let cores = std::thread::available_parallelism()?;
    let mut text = format!(
        "agentguard {}, {cores} cores, Linux {}, {}\n{AGENTGUARD}\n\n",
        env!("CARGO_PKG_VERSION"),
        system.release().to_string_lossy(),
        file_system(place)?,
    );
    writeln!(
        text,
        "{:<35} {:<16} {:>3} {:>9} {:>9} {:>9} {:>9} {:>6} {:>6} {:>13} {:>7}",
        "row", "yardstick", "n", "its ms", "ours ms", "min", "max", "MiB", "ratio", "quartiles", "goal"
    )?;
    Ok(text)
}

/// The lines of one row: times, and memory where there is a goal for it.
pub(crate) fn lines(row: &RowSpec, outcome: &Outcome) -> String {
    let start = format!("{:<35} {:<16}", row.name, row.yardstick);
    match outcome {
        Outcome::Measured(rounds) => measured_lines(row, rounds, &start),
        Outcome::Skipped(program) => format!("{start} skipped: no {program}\n"),
        Outcome::Failed(error) => format!("{start} failed: {error:#}\n"),
    }
}

fn measured_lines(row: &RowSpec, rounds: &Rounds, start: &str) -> String {
    let (theirs, ours) = (sorted_millis(&rounds.yardstick), sorted_millis(&rounds.ours));
    let ratios = ratios(rounds, row.goal);
    let peak = rounds.ours.iter().map(|timed| timed.peak_mib).fold(0.0, f64::max);
    let (ratio, quartiles) = (median(&ratios), [ratios[ratios.len() / 4], ratios[ratios.len() * 3 / 4]]);
    let mut text = format!(
        "{start} {:>3} {:>9.2} {:>9.2} {:>9.2} {:>9.2} {peak:>6.1} {ratio:>6.2} {:>13} {}\n",
        ours.len(),
        median(&theirs),
        median(&ours),
        ours[0],
        ours[ours.len() - 1],
        format!("[{:.2}..{:.2}]", quartiles[0], quartiles[1]),
        judged(row.goal, ratio),
    );
    if let Some(most) = row.peak_mib {
        let verdict = if peak <= most { "ok" } else { "MISSED" };
        // Writing to a String cannot fail.
        _ = writeln!(text, "{:<35} peak memory {peak:.1} MiB  ≤ {most} MiB {verdict}", row.name);
    }
    text
}

fn sorted_millis(times: &[Timed]) -> Vec<f64> {
    let mut millis: Vec<f64> = times.iter().map(|timed| timed.millis).collect();
    millis.sort_by(f64::total_cmp);
    millis
}

/// Of each round, sorted. Where more is better, the ratio is of rates.
fn ratios(rounds: &Rounds, goal: Goal) -> Vec<f64> {
    let ratio = |(theirs, ours): (&Timed, &Timed)| match goal {
        Goal::RateAtLeast(_) | Goal::Rate => theirs.millis / ours.millis,
        Goal::TimeAtMost(_) | Goal::Time => ours.millis / theirs.millis,
    };
    let mut ratios: Vec<f64> = rounds.yardstick.iter().zip(&rounds.ours).map(ratio).collect();
    ratios.sort_by(f64::total_cmp);
    ratios
}

fn median(sorted: &[f64]) -> f64 {
    let middle = sorted.len() / 2;
    if sorted.len() % 2 == 1 { sorted[middle] } else { (sorted[middle - 1] + sorted[middle]) / 2.0 }
}

fn judged(goal: Goal, ratio: f64) -> String {
    let verdict = |holds| if holds { "ok" } else { "MISSED" };
    match goal {
        Goal::TimeAtMost(most) => format!("≤ {most:<5} {}", verdict(ratio <= most)),
        Goal::RateAtLeast(least) => format!("≥ {least:<5} {}", verdict(ratio >= least)),
        Goal::Time | Goal::Rate => "-".to_owned(),
    }
}

/// The type of the file system that is measured on, and whether it has a journal.
fn file_system(place: &Place) -> anyhow::Result<String> {
    use std::os::unix::fs::MetadataExt as _;
    let device = place.root().metadata()?.dev();
    let number = format!("{}:{}", rustix::fs::major(device), rustix::fs::minor(device));
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").context("mountinfo")?;
    let Some(mount) = mounts.lines().find(|line| line.split(' ').nth(2) == Some(&number)) else {
        return Ok("unknown file system".to_owned());
    };
    let mut after = mount.split(" - ").nth(1).unwrap_or_default().split(' ');
    let (kind, source) = (after.next().unwrap_or_default(), after.next().unwrap_or_default());
    if kind != "ext4" {
        return Ok(kind.to_owned());
    }
    let journals = format!("{}-", source.trim_start_matches("/dev/"));
    let has_journal = std::fs::read_dir("/proc/fs/jbd2")
        .is_ok_and(|dirs| dirs.flatten().any(|dir| dir.file_name().to_string_lossy().starts_with(&journals)));
    Ok(format!("{kind} {}", if has_journal { "with a journal" } else { "without a journal (see --journaled)" }))
}

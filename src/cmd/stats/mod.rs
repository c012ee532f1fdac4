//! `agentguard stats`: runs counted, by agent, failure class, day, model or label.

mod row;
mod sheet;

use std::io::{BufWriter, Write};

use anyhow::Context as _;

pub use sheet::StatsFormat;

use super::render::{escape, unless_closed};
use crate::model::Timestamp;
use crate::rules::filter::RunFilters;
use crate::rules::tally::{By, Key, MOST_GROUPS, Period, Tally};
use crate::store::log::{Damage, Damaged, Reading, RunLog};
use crate::sys::clock;
use row::Row;

/// What to count and how.
#[derive(Clone, Debug)]
pub struct StatsRequest {
    /// Which runs.
    pub filters: RunFilters,
    /// What they are grouped by.
    pub by: By,
    /// At most so many groups, those with the most runs.
    pub limit: Option<usize>,
    /// In which form.
    pub format: StatsFormat,
}

/// Counts, and writes the answer to `out`; damaged lines are named on `warn` with their offset and left out.
pub fn stats(log: &RunLog, request: &StatsRequest, out: &mut dyn Write, warn: &mut dyn Write) -> anyhow::Result<()> {
    let earlier = earlier(&request.filters);
    let (tally, damaged) = count(log, request, earlier)?;
    warn_of(log, &damaged, warn)?;
    let (mut groups, total) = tally.finish();
    if groups.iter().any(|(key, _)| *key == Key::Others) {
        let what = format!("there are more than {MOST_GROUPS} groups: the rest are counted as one");
        unless_closed(writeln!(warn, "agentguard: warning: {what}"))?;
    }
    if let Some(limit) = request.limit {
        let mut most: Vec<u64> = groups.iter().map(|(_, group)| group.runs).collect();
        most.sort_unstable_by_key(|runs| std::cmp::Reverse(*runs));
        let least = most.get(limit.saturating_sub(1)).copied().unwrap_or(0);
        groups.retain(|(_, group)| group.runs >= least);
        groups.truncate(limit);
    }
    let rows: Vec<Row> = groups.iter().map(|(key, group)| Row::of(Some(key), group)).collect();
    let answer = sheet::Answer {
        by: &request.by,
        since: request.filters.since,
        until: request.filters.until,
        trend: earlier.is_some(),
        groups: &rows,
        total: &Row::of(None, &total),
        damaged_lines: damaged.count,
    };
    let mut out = BufWriter::new(out);
    let written = answer.write(request.format, &mut out).and_then(|()| out.flush());
    unless_closed(written).context("write the statistics")
}

/// Where the period before begins: it is as long as the one that is asked about, which must have a beginning.
fn earlier(filters: &RunFilters) -> Option<Timestamp> {
    let since = filters.since?.unix_micros();
    let until = filters.until.unwrap_or_else(clock::now).unix_micros();
    let length = until.checked_sub(since).filter(|length| *length > 0)?;
    Some(Timestamp::from_unix_micros(since.saturating_sub(length)))
}

fn count(log: &RunLog, request: &StatsRequest, earlier: Option<Timestamp>) -> anyhow::Result<(Tally, Damaged)> {
    let filters = &request.filters;
    let reading = Reading { wanted: filters.wanted().or(request.by.wanted()), needle: filters.needle() };
    let since = filters.since.map_or(i64::MIN, Timestamp::unix_micros);
    let begin = earlier.map_or(since, Timestamp::unix_micros);
    let (mut tally, newer, damaged) = log.fold(
        &reading,
        || Tally::new(request.by.clone()),
        |tally, run| {
            if run.start >= begin && filters.let_through_before(run) {
                tally.add(run, if run.start < since { Period::Before } else { Period::Now });
            }
        },
    )?;
    tally.merge(newer);
    Ok((tally, damaged))
}

fn warn_of(log: &RunLog, damaged: &Damaged, warn: &mut dyn Write) -> anyhow::Result<()> {
    let path = escape(log.path().as_os_str().as_encoded_bytes());
    for damage in &damaged.named {
        let place = log.locate(damage.offset);
        let (path, damage) =
            (escape(place.path.as_os_str().as_encoded_bytes()), Damage { offset: place.offset, ..damage.clone() });
        unless_closed(writeln!(warn, "agentguard: warning: {path}: {damage}"))?;
    }
    let more = damaged.count - damaged.named.len() as u64;
    if more > 0 {
        unless_closed(writeln!(warn, "agentguard: warning: {path}: {more} more lines are damaged (agentguard fsck)"))?;
    }
    Ok(())
}

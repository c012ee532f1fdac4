//! The runs that an agent made with agentguards of its own, as a tree.

use std::collections::HashMap;

use crate::cmd::render::{duration_between, escape};
use crate::model::{RunId, RunRecord};
use crate::store::log::{Line, RunLog};

/// The lines of the tree below a run; none if there is nothing below it.
///
/// A run inside another is in the log before it and has ended while it lived, so that only lines of that time are read.
pub(super) fn tree(log: &RunLog, line: &Line, run: &RunRecord) -> anyhow::Result<Vec<String>> {
    let mut below: HashMap<RunId, Vec<RunRecord>> = HashMap::new();
    for line in log.before(line)? {
        let line = line?;
        match line.head() {
            Ok(head) if head.end_time < run.start_time => break,
            Ok(_) => {}
            // `fsck` has a word about it.
            Err(_) => continue,
        }
        let Ok(record) = line.record() else { continue };
        if let Some(parent) = record.parent_run_id {
            below.entry(parent).or_default().push(record);
        }
    }
    let mut lines = Vec::new();
    write(&mut below, run.run_id, 0, &mut lines);
    Ok(lines)
}

/// Depth first, the oldest first.
fn write(below: &mut HashMap<RunId, Vec<RunRecord>>, parent: RunId, depth: usize, lines: &mut Vec<String>) {
    let mut runs = below.remove(&parent).unwrap_or_default();
    runs.sort_by_key(|run| run.start_time);
    for run in runs {
        let class = run.error_class.map(|class| format!(" {class}")).unwrap_or_default();
        let took = duration_between(run.start_time, run.end_time);
        let (indent, agent) = ("  ".repeat(depth), escape(&run.agent.0));
        lines.push(format!("{indent}{}  {agent}  {}{class}  {took}", run.run_id.short(), run.status));
        write(below, run.run_id, depth + 1, lines);
    }
}

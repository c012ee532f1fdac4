//! Lists of runs: the slowest, the costliest, dead letters, and the newest as they are there without a script.

use std::fmt::Write as _;
use std::rc::Rc;

use crate::model::Timestamp;

use super::gather::Top;
use super::html;
use super::island::{STATUSES, status_place};
use super::row::{Row, millis_between};
use super::words;

/// Characters of a message in a list.
const SHORT: usize = 120;

/// The status with its class, as a coloured word.
pub(super) fn outcome(run: &Row) -> String {
    let status = STATUSES[usize::from(status_place(run.status))];
    let class = run.error_class.map(|class| format!(" <small>{class}</small>")).unwrap_or_default();
    format!("<span class=\"dot c{}\"></span>{status}{class}", run.class())
}

/// The run's id as it is named on the command line, with the whole of it behind.
pub(super) fn id(run: &Row) -> String {
    format!("<code title=\"{}\">{}</code>", run.run_id, run.run_id.short())
}

/// What went wrong, cut short.
fn message(run: &Row) -> String {
    run.error.as_ref().map(|error| html::text(error.message.as_bytes(), SHORT)).unwrap_or_default()
}

/// The runs with most of something.
pub(super) fn top(list: &Top, of: &str, tell: impl Fn(f64) -> String) -> String {
    if list.0.is_empty() {
        return "<p class=\"note\">None is known.</p>\n".to_owned();
    }
    let mut table = format!(
        "<div class=\"wide\"><table><thead><tr><th>Run</th><th>Agent</th><th>Outcome</th><th class=\"n\">{of}</th></tr></thead><tbody>\n"
    );
    for (value, run) in &list.0 {
        // Writing to a String cannot fail.
        _ = writeln!(
            table,
            "<tr><td>{}</td><td>{}</td><td>{}</td><td class=\"n\">{}</td></tr>",
            id(run),
            html::name(&run.agent),
            outcome(run),
            tell(*value)
        );
    }
    table + "</tbody></table></div>\n"
}

/// Failed runs that wait for a redrive or an acknowledgement.
pub(super) fn dead_letters(dead: &[Rc<Row>], count: u64, now: Timestamp) -> String {
    if dead.is_empty() {
        return "<p class=\"note\">None waits.</p>\n".to_owned();
    }
    let mut table = String::from(
        "<div class=\"wide tall\" tabindex=\"0\"><table><thead><tr><th>Run</th><th class=\"n\">Age</th><th>Agent</th><th>Outcome</th>\
         <th class=\"n\">Attempts</th><th class=\"n\">Cost</th><th>What went wrong</th></tr></thead><tbody>\n",
    );
    for run in dead {
        // Writing to a String cannot fail.
        _ = writeln!(
            table,
            "<tr><td>{}</td><td class=\"n\">{}</td><td>{}</td><td>{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td>{}</td></tr>",
            id(run),
            words::millis(millis_between(run.end_time, now)),
            html::name(&run.agent),
            outcome(run),
            run.attempts.len(),
            words::cost(run.cost_usd),
            message(run)
        );
    }
    table.push_str("</tbody></table></div>\n");
    if count > dead.len() as u64 {
        // Writing to a String cannot fail.
        _ = writeln!(table, "<p class=\"note\">The newest {} of {} are listed.</p>", dead.len(), words::count(count));
    }
    table
}

/// The newest runs.
pub(super) fn newest(runs: &[Rc<Row>]) -> String {
    let mut rows = String::new();
    for run in runs {
        // Writing to a String cannot fail.
        _ = writeln!(
            rows,
            "<tr><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td>\
             <td class=\"n\">{}</td><td>{}</td></tr>",
            id(run),
            words::time(run.start_time),
            html::name(&run.agent),
            outcome(run),
            words::millis(run.millis()),
            run.attempts.len(),
            words::tokens(run.tokens_used),
            words::cost(run.cost_usd),
            message(run)
        );
    }
    rows
}

//! The newest failures in detail: attempts, verify commands, and the end of what was printed, read from the runs'
//! directories as far as they are still there. Secrets are replaced as they are in the log: the page is handed on.

use std::fmt::Write as _;
use std::path::Path;
use std::rc::Rc;

use crate::cmd::captured::end_of;
use crate::cmd::render::escape_line;
use crate::store::run_dir::RunDir;
use crate::store::state_dir::StateDir;

use super::html;
use super::island::command_line;
use super::lists;
use super::row::Row;
use super::words;

/// Bytes of the end of each log, and its lines.
const LOG_BYTES: usize = 4096;
const LOG_LINES: usize = 40;
/// Verify commands and attempts of one run.
const MOST: usize = 10;
/// Bytes of HTML of all logs; runs past that have none.
const ALL_LOGS: usize = 3 << 17;

/// One element per failure, newest first.
pub(super) fn failures(state: &StateDir, runs: &[Rc<Row>]) -> String {
    let mut html = String::new();
    let mut logs = 0;
    for run in runs {
        let dir = RunDir::of(state, run.run_id);
        // Writing to a String cannot fail.
        _ = writeln!(
            html,
            "<details class=\"run\" id=\"run-{}\"><summary>{} <time>{}</time> <b>{}</b> {} <span class=\"what\">{}</span></summary>",
            run.run_id,
            lists::id(run),
            words::time(run.start_time),
            html::name(&run.agent),
            lists::outcome(run),
            run.error.as_ref().map(|error| html::sentence(&error.message)).unwrap_or_default(),
        );
        html.push_str("<div class=\"body\">\n");
        facts(run, &mut html);
        attempts(run, &mut html);
        let before = html.len();
        verify(run, &dir, logs < ALL_LOGS, &mut html);
        if logs < ALL_LOGS {
            for (name, title) in [("stdout", "End of standard output"), ("stderr", "End of standard error")] {
                log(&dir.join(name), title, &mut html);
            }
        }
        logs += html.len() - before;
        html.push_str("</div></details>\n");
    }
    html
}

fn facts(run: &Row, html: &mut String) {
    html.push_str("<dl>");
    let mut fact = |name: &str, value: String| {
        // Writing to a String cannot fail.
        _ = write!(html, "<dt>{name}</dt><dd>{value}</dd>");
    };
    fact("run", format!("<code>{}</code>", run.run_id));
    fact("command", format!("<code>{}</code>", html::text(&command_line(&run.command), html::SENTENCE)));
    if let Some(error) = &run.error {
        fact("cause", error.kind.to_string());
        error.hint.iter().for_each(|hint| fact("hint", html::sentence(hint)));
    }
    let exit = match (run.signal, run.exit_code) {
        (Some(signal), _) => format!("signal {signal}"),
        (None, Some(code)) => code.to_string(),
        (None, None) => words::UNKNOWN.to_owned(),
    };
    fact("exit", exit);
    for (name, value) in run.labels.iter().take(MOST) {
        fact("label", html::sentence(&format!("{name}={value}")));
    }
    let links = [("replay of", run.replay_of), ("redrive of", run.redrive_of)];
    links.iter().for_each(|(name, id)| id.iter().for_each(|id| fact(name, format!("<code>{id}</code>"))));
    fact("more", format!("<code>agentguard show {}</code>", run.run_id.short()));
    html.push_str("</dl>\n");
}

fn attempts(run: &Row, html: &mut String) {
    if run.attempts.is_empty() {
        return;
    }
    html.push_str(
        "<table><thead><tr><th class=\"n\">Attempt</th><th>Started</th><th class=\"n\">Took</th><th class=\"n\">Exit</th>\
         <th class=\"n\">Tokens</th><th class=\"n\">Cost</th><th class=\"n\">Staged files</th><th>Error</th></tr></thead><tbody>",
    );
    for (at, attempt) in run.attempts.iter().enumerate().take(MOST) {
        let exit = match (attempt.signal, attempt.exit_code) {
            (Some(signal), _) => format!("signal {signal}"),
            (None, Some(code)) => code.to_string(),
            (None, None) => words::UNKNOWN.to_owned(),
        };
        // Writing to a String cannot fail.
        _ = write!(
            html,
            "<tr><td class=\"n\">{}</td><td>{}</td><td class=\"n\">{}</td><td class=\"n\">{exit}</td><td class=\"n\">{}</td>\
             <td class=\"n\">{}</td><td class=\"n\">{}</td><td>{}</td></tr>",
            at + 1,
            words::time(attempt.start),
            words::millis(super::row::millis_between(attempt.start, attempt.end)),
            words::tokens(attempt.tokens),
            words::cost(attempt.cost),
            words::count(attempt.staged_files),
            attempt.error.as_ref().map(|error| html::sentence(&error.message)).unwrap_or_default(),
        );
    }
    html.push_str("</tbody></table>\n");
    beyond(run.attempts.len(), html);
}

fn beyond(count: usize, html: &mut String) {
    if count > MOST {
        // Writing to a String cannot fail.
        _ = writeln!(html, "<p class=\"note\">and {} more</p>", count - MOST);
    }
}

fn verify(run: &Row, dir: &RunDir, with_logs: bool, html: &mut String) {
    for (at, verify) in run.verify.iter().enumerate().take(MOST) {
        let verdict = match verify.exit_code {
            Some(0) => "passed".to_owned(),
            Some(code) => format!("exited with {code}"),
            None => "was killed".to_owned(),
        };
        // Writing to a String cannot fail.
        _ = writeln!(
            html,
            "<p class=\"verify\">Verify {}: <code>{}</code> {verdict} after {}</p>",
            at + 1,
            html::text(&verify.command.0, html::SENTENCE),
            words::millis(verify.duration_ms)
        );
        if verify.exit_code != Some(0) && with_logs {
            log(&dir.join(&format!("verify-{}.log", at + 1)), "End of its output", html);
        }
    }
    beyond(run.verify.len(), html);
}

/// The end of a capture; nothing where it is gone or empty.
fn log(path: &Path, title: &str, html: &mut String) {
    let Some(end) = end_of(path, LOG_BYTES) else { return };
    let lines: Vec<&[u8]> = end.trim_ascii_end().split(|byte| *byte == b'\n').collect();
    // Writing to a String cannot fail.
    _ = write!(html, "<h4>{title}</h4><pre>");
    for line in &lines[lines.len().saturating_sub(LOG_LINES)..] {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        html.push_str(&html::entities(&escape_line(line, ("", ""))));
        html.push('\n');
    }
    html.push_str("</pre>\n");
}

//! GitHub Actions: workflow commands on standard error, and the step's summary.
//!
//! The runner reads both streams line by line and obeys `::command::` in either, also where an agent printed it. A fence
//! around the run (`::stop-commands::`) takes that power away; its token is random, so that nothing in between can end
//! it. The fence stands on standard error, because standard output is the agent's, byte for byte: it holds for both
//! streams, as the runner has one parser for them.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context as _;

use super::write;
use crate::cmd::render::{cost, duration_between, escape, tokens};
use crate::model::{RunRecord, Status};
use crate::rules::run_ref::is_failure;
use crate::sys::clock;

/// Characters of a message that are shown.
const MESSAGE: usize = 2000;
/// Characters in a cell of the summary.
const CELL: usize = 200;
/// What GitHub shows of one step's summary; with more it shows nothing.
const SUMMARY_BYTES: u64 = 1 << 20;
/// How long the runner is waited for to read what the agent printed.
const DRAINED_WITHIN: Duration = Duration::from_secs(2);
/// Ends each row of the summary: the next run in the same step adds one to the table.
const ROW_END: &str = "<!-- agentguard --> |\n";
const TITLES: &str =
    "| Run | Agent | Result | Took | Attempts | Tokens | Cost | What went wrong |\n|---|---|---|---|---|---|---|---|\n";

/// Workflow commands are off until this is dropped.
#[derive(Debug)]
pub(super) struct Fence {
    token: Option<String>,
}

impl Fence {
    pub(super) fn open() -> Self {
        let token: String = clock::random::<16>().iter().fold(String::from("agentguard-"), |mut text, byte| {
            // Writing to a String cannot fail.
            _ = write!(text, "{byte:02x}");
            text
        });
        // Somebody may have left a line without its end.
        write(&format!("\n::stop-commands::{token}\n"));
        Self { token: Some(token) }
    }

    /// For the rest of the step: the end of an agent's unfinished line would be read after the fence.
    pub(super) fn leave_open(mut self) {
        self.token = None;
    }
}

impl Drop for Fence {
    fn drop(&mut self) {
        let Some(token) = self.token.take() else { return };
        wait_until_read();
        write(&format!("\n::{token}::\n"));
    }
}

/// The end of the fence comes on another stream than what it is to stand behind: what is still in the pipe of standard
/// output would be read after it.
fn wait_until_read() {
    let begun = Instant::now();
    let stdout = io::stdout();
    // No pipe has nothing to wait for.
    while rustix::io::ioctl_fionread(&stdout).is_ok_and(|unread| unread > 0) && begun.elapsed() < DRAINED_WITHIN {
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// One annotation for a run that failed; of one that was cancelled a warning.
pub(super) fn annotate(record: &RunRecord) {
    let command = match record.status {
        status if is_failure(status) => "error",
        Status::Cancelled => "warning",
        _ => return,
    };
    let class = record.error_class.map(|class| format!(" ({class})")).unwrap_or_default();
    let title = format!("{} {}{class}", cut(&escape(&record.agent.0), 100), record.status);
    let message = record.error.as_ref().map_or_else(
        || record.status.to_string(),
        |error| {
            let hint = error.hint.as_ref().map(|hint| format!("\nhint: {}", escape(hint.as_bytes())));
            format!("{}{}", escape(error.message.as_bytes()), hint.unwrap_or_default())
        },
    );
    let run = format!("\nrun {} · agentguard show {}", record.run_id, record.run_id.short());
    annotation(command, &title, &(cut(&message, MESSAGE) + &run));
}

/// One annotation for a run that did not come to be.
pub(super) fn annotate_failure(message: &str) {
    annotation("error", "agentguard failed", &cut(message, MESSAGE));
}

fn annotation(command: &str, title: &str, message: &str) {
    write(&format!("::{command} title={}::{}\n", property(title), data(message)));
}

/// As the runner's `escapeData` does.
fn data(text: &str) -> String {
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

/// As the runner's `escapeProperty` does.
fn property(text: &str) -> String {
    data(text).replace(':', "%3A").replace(',', "%2C")
}

fn cut(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}

/// Adds a row to the step's summary, if there is one.
pub(super) fn summarise(record: &RunRecord) -> anyhow::Result<()> {
    let Some(path) = std::env::var_os("GITHUB_STEP_SUMMARY").filter(|path| !path.is_empty()).map(PathBuf::from) else {
        return Ok(());
    };
    append_row(&path, &row(record)).with_context(|| format!("cannot add the run to the step's summary {path:?}"))
}

fn append_row(path: &Path, row: &str) -> anyhow::Result<()> {
    let mut file = File::options().read(true).append(true).create(true).open(path)?;
    let len = file.metadata()?.len();
    let mut text = String::new();
    if !ends_with_row(&mut file, len)? {
        // What somebody else wrote ends first.
        text.push_str(if len > 0 { "\n\n" } else { "" });
        text.push_str(TITLES);
    }
    text.push_str(row);
    if len + text.len() as u64 > SUMMARY_BYTES {
        anyhow::bail!("it has {len} bytes, and GitHub shows none of more than {SUMMARY_BYTES}");
    }
    Ok(io::Write::write_all(&mut file, text.as_bytes())?)
}

fn ends_with_row(file: &mut File, len: u64) -> io::Result<bool> {
    let want = ROW_END.len() as u64;
    if len < want {
        return Ok(false);
    }
    file.seek(SeekFrom::Start(len - want))?;
    let mut end = Vec::new();
    file.take(want).read_to_end(&mut end)?;
    Ok(end == ROW_END.as_bytes())
}

fn row(record: &RunRecord) -> String {
    let class = record.error_class.map(|class| format!(" ({class})")).unwrap_or_default();
    let mark = match record.status {
        Status::Succeeded => "✅",
        Status::Held | Status::Cancelled => "⚠️",
        Status::Failed | Status::Rejected | Status::Blocked | Status::Interrupted => "❌",
    };
    let message = record.error.as_ref().map(|error| error.message.as_str()).unwrap_or_default();
    let cells = [
        markdown(&record.run_id.short()),
        markdown(&escape(&record.agent.0)),
        format!("{mark} {}", markdown(&format!("{}{class}", record.status))),
        markdown(&duration_between(record.start_time, record.end_time)),
        record.attempts.len().to_string(),
        markdown(&tokens(record.tokens_used)),
        markdown(&cost(record.cost_usd)),
        markdown(&escape(message.as_bytes())),
    ];
    let mut row = cells.iter().fold(String::new(), |row, cell| row + "| " + cell + " ");
    row.push_str(ROW_END);
    row
}

/// Text in a cell of a Markdown table: every sign that could mean something is an entity.
fn markdown(text: &str) -> String {
    let mut cell = String::new();
    for letter in cut(text, CELL).chars() {
        match letter {
            ' ' | '-' => cell.push(letter),
            // Writing to a String cannot fail.
            sign if sign.is_ascii_punctuation() => _ = write!(cell, "&#{};", u32::from(sign)),
            other => cell.push(other),
        }
    }
    cell
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn annotations_are_one_line_whatever_is_in_them() {
        assert_eq!(data("100%\r\n::error::x"), "100%25%0D%0A::error::x");
        assert_eq!(property("a:b,c%\n"), "a%3Ab%2Cc%25%0A");
    }

    #[test]
    fn a_cell_has_no_markdown_and_no_html() {
        assert_eq!(markdown("a|b <i>*x*"), "a&#124;b &#60;i&#62;&#42;x&#42;");
        let signs = "|<>*_`[](){}#!~\\@:&\"'";
        assert!(markdown(signs).chars().all(|letter| letter.is_ascii_digit() || "&#;".contains(letter)));
    }

    #[test]
    fn rows_of_one_step_are_one_table_and_a_summary_that_is_full_is_left_alone() {
        let dir = tempfile::tempdir().expect("directory");
        let path = dir.path().join("summary");
        let row = |name: &str| format!("| {name} {ROW_END}");
        std::fs::write(&path, "# Build").expect("written");
        append_row(&path, &row("a")).expect("added");
        append_row(&path, &row("b")).expect("added");
        let text = std::fs::read_to_string(&path).expect("read");
        assert_eq!(text, format!("# Build\n\n{TITLES}{}{}", row("a"), row("b")));
        std::fs::write(&path, vec![b'x'; 1 << 20]).expect("written");
        append_row(&path, &row("c")).expect_err("full");
        assert_eq!(std::fs::metadata(&path).expect("there").len(), 1 << 20);
    }
}

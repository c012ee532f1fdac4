//! The page about one run: facts by name, then a section for whatever there is more than one of.

use std::fmt::Write as _;
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use crate::cmd::log::status_tint;
use crate::cmd::render::{
    Cell, Paint, Table, byte_count, cost, duration, duration_between, escape, local_time, shell_quote, tokens,
};
use crate::model::record::Mode;
use crate::model::{Digest, RunRecord, Text};
use crate::rules::standing::{Standing, standing};
use crate::store::bundle::IMPORTED_NAME;
use crate::store::journal;
use crate::store::log::Place;

/// How much of a failed verify command's output is shown.
const LOG_LINES: usize = 10;
const LOG_BYTES: u64 = 16 * 1024;

/// What the page is made of.
pub(super) struct Page<'a> {
    pub(super) record: &'a RunRecord,
    /// The tree of the runs inside it.
    pub(super) inside: &'a [String],
    pub(super) paint: Paint,
    pub(super) state_dir: &'a Path,
    /// Where the record's line begins.
    pub(super) place: &'a Place,
}

impl Page<'_> {
    pub(super) fn text(&self) -> String {
        let mut text = self.facts();
        self.outcome(&mut text);
        self.attempts(&mut text);
        self.verify(&mut text);
        self.runs_inside(&mut text);
        self.origin(&mut text);
        text
    }

    fn runs_inside(&self, text: &mut String) {
        if !self.inside.is_empty() {
            section(text, "runs inside");
            self.inside.iter().for_each(|line| text.push_str(&format!("  {line}\n")));
        }
    }

    fn facts(&self) -> String {
        let run = self.record;
        let mut text = String::new();
        fact(&mut text, "run", &run.run_id.to_string());
        fact(&mut text, "agent", &escape(&run.agent.0));
        let took = duration_between(run.start_time, run.end_time);
        fact(&mut text, "started", &format!("{}, took {took}", local_time(run.start_time)));
        fact(&mut text, "command", &shell_quote(&run.command));
        fact(&mut text, "cwd", &escape(&run.cwd.0));
        let mode = if run.mode == Mode::Publish { "publish" } else { "workspace" };
        fact(&mut text, "mode", &format!("{mode} {}", names(&run.targets)));
        for (name, value) in &run.labels {
            fact(&mut text, "label", &escape(format!("{name}={value}").as_bytes()));
        }
        text
    }

    fn outcome(&self, text: &mut String) {
        let run = self.record;
        section(text, "outcome");
        let status = self.painted(&run.status.to_string());
        let class = run.error_class.map(|class| format!(" ({class})")).unwrap_or_default();
        fact(text, "status", &format!("{status}{class}"));
        if let Some(error) = &run.error {
            fact(text, "error", &format!("{}: {}", error.kind, escape(error.message.as_bytes())));
            error.hint.iter().for_each(|hint| fact(text, "hint", &escape(hint.as_bytes())));
        }
        fact(text, "published", &published(run));
        standing_of(self.state_dir, run).iter().for_each(|words| fact(text, "decision", words));
        fact(text, "exit", &exits(run));
        fact(text, "tokens", &usage(run));
        // Models that nobody has a price for are named, not counted as free.
        let models = run.usage.as_ref().filter(|_| run.cost_usd.is_none()).map(|usage| usage.models.join(" "));
        let unpriced = models
            .filter(|models| !models.is_empty())
            .map(|models| format!(" (no price of all of {})", escape(models.as_bytes())));
        let source = run.cost_source.as_deref().map(|source| format!(" ({})", escape(source.as_bytes())));
        fact(text, "cost", &format!("{}{}", cost(run.cost_usd), source.or(unpriced).unwrap_or_default()));
        fact(text, "inputs", &hash(run.input_hash));
        fact(text, "outputs", &hash(run.output_hash));
        if !self.is_kept() {
            fact(
                text,
                "kept",
                "no: its directory is gone (`gc` removes old ones), and with it replay, diff and output",
            );
        } else if run.mode == Mode::Workspace {
            fact(text, "changes", &format!("agentguard diff {}", run.run_id.short()));
        }
        if let Some(drift) = run.input_drift.as_ref().filter(|drift| drift.count > 0) {
            fact(text, "drift", &format!("{} inputs changed under the run: {}", drift.count, names(&drift.paths)));
        }
        count_fact(text, "discarded", run.discarded, "files written where nothing is kept");
        count_fact(text, "leaked", run.leaked_processes, "processes outlived the agent and were killed");
    }

    fn is_kept(&self) -> bool {
        self.state_dir.join("runs").join(self.record.run_id.to_string()).exists()
    }

    fn attempts(&self, text: &mut String) {
        let run = self.record;
        if run.attempts.is_empty() {
            return;
        }
        section(text, "attempts");
        let titles = ["#", "STARTED", "TOOK", "EXIT", "TOKENS", "COST", "STAGED", "ERROR"].map(Cell::left).to_vec();
        let rows = run.attempts.iter().enumerate().map(|(at, attempt)| {
            let error = attempt.error.as_ref();
            vec![
                Cell::right((at + 1).to_string()),
                Cell::left(local_time(attempt.start)),
                Cell::right(duration_between(attempt.start, attempt.end)),
                Cell::right(exit(attempt.exit_code, attempt.signal)),
                Cell::right(tokens(attempt.tokens)),
                Cell::right(cost(attempt.cost)),
                Cell::left(format!("{} in {} files", byte_count(attempt.staged_bytes), attempt.staged_files)),
                Cell::left(error.map(|error| escape(error.message.as_bytes())).unwrap_or_default()),
            ]
        });
        text.push_str(&self.table(titles, rows));
    }

    fn verify(&self, text: &mut String) {
        let run = self.record;
        if run.verify.is_empty() {
            return;
        }
        section(text, "verify");
        for (at, verify) in run.verify.iter().enumerate() {
            let took = duration(std::time::Duration::from_millis(verify.duration_ms));
            let verdict = match verify.exit_code {
                Some(0) => "passed".to_owned(),
                code => format!("failed ({})", exit(code, None)),
            };
            // Writing to a String cannot fail.
            _ = writeln!(text, "  {}  {verdict} in {took}  {}", at + 1, escape(&verify.command.0));
            if verify.exit_code != Some(0) {
                self.verify_output(text, at + 1);
            }
        }
    }

    /// The end of `verify-N.log`, which is in `verify-N.log.tail` where the output was longer than is kept of its
    /// beginning; nothing where both are gone, because `gc` may have taken them.
    fn verify_output(&self, text: &mut String, number: usize) {
        let run_dir = self.state_dir.join("runs").join(self.record.run_id.to_string());
        let parts = [format!("verify-{number}.log.tail"), format!("verify-{number}.log")];
        let Some(end) = parts.iter().filter_map(|part| end_of(&run_dir.join(part))).find(|end| !end.is_empty()) else {
            return;
        };
        let lines: Vec<&[u8]> = end.trim_ascii_end().split(|byte| *byte == b'\n').collect();
        for line in &lines[lines.len().saturating_sub(LOG_LINES)..] {
            // Writing to a String cannot fail.
            _ = writeln!(text, "     | {}", escape(line));
        }
    }

    fn origin(&self, text: &mut String) {
        let run = self.record;
        section(text, "origin");
        let links = [("parent", run.parent_run_id), ("replay of", run.replay_of), ("redrive of", run.redrive_of)];
        for (name, id) in links {
            id.iter().for_each(|id| fact(text, name, &id.to_string()));
        }
        if !run.needs.is_empty() {
            fact(text, "needs", &escape(run.needs.join(" ").as_bytes()));
        }
        fact(text, "isolation", &isolation(run));
        fact(
            text,
            "by",
            &format!(
                "{} on {}, agentguard {}",
                escape(&run.user.0),
                escape(&run.host.0),
                escape(run.agentguard.as_bytes())
            ),
        );
        git(run).iter().for_each(|git| fact(text, "git", git));
        let path = escape(self.place.path.as_os_str().as_encoded_bytes());
        fact(text, "log", &format!("byte {} of {path}", self.place.offset));
        imported(self.state_dir, run).iter().for_each(|from| fact(text, "imported", from));
        fact(text, "prev", &hash(run.prev));
    }

    fn painted(&self, status: &str) -> String {
        match self.paint {
            Paint::Plain => status.to_owned(),
            Paint::Colour => status_tint(self.record.status).paint(status),
        }
    }

    fn table(&self, titles: Vec<Cell>, mut rows: impl Iterator<Item = Vec<Cell>>) -> String {
        let mut bytes = Vec::new();
        let mut table = Table::new(&mut bytes, self.paint, None, titles);
        // A Vec takes every write.
        let written = rows.try_for_each(|row| table.row(row)).and_then(|()| table.finish());
        debug_assert!(written.is_ok());
        String::from_utf8_lossy(&bytes).lines().fold(String::new(), |text, line| text + "  " + line + "\n")
    }
}

/// What can still be decided about a workspace run, or what was.
fn standing_of(state_dir: &Path, run: &RunRecord) -> Option<String> {
    let journal = state_dir.join("runs").join(run.run_id.to_string()).join("journal");
    let events = journal::read(&journal).ok()?;
    let short = run.run_id.short();
    match standing(&events) {
        Standing::Held => Some(format!("waiting: agentguard diff {short}, then apply {short} or discard {short}")),
        Standing::Applied(_) => Some(format!("applied; agentguard undo {short} takes it back")),
        Standing::Published(_) => Some(format!("agentguard undo {short} takes it back")),
        Standing::Discarded(time) => Some(format!("discarded {}", local_time(time))),
        Standing::Undone(time) => Some(format!("taken back {}", local_time(time))),
        Standing::Unsettled | Standing::Replaced | Standing::Over(_) => None,
    }
}

/// Where an imported run was recorded.
fn imported(state_dir: &Path, run: &RunRecord) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct Imported {
        project: Text,
    }
    let path = state_dir.join("runs").join(run.run_id.to_string()).join(IMPORTED_NAME);
    let imported: Imported = serde_json::from_slice(&std::fs::read(path).ok()?).ok()?;
    Some(format!("recorded in {} on {}", escape(&imported.project.0), escape(&run.host.0)))
}

fn section(text: &mut String, name: &str) {
    // Writing to a String cannot fail.
    _ = writeln!(text, "\n{name}");
}

fn fact(text: &mut String, name: &str, value: &str) {
    // Writing to a String cannot fail.
    _ = writeln!(text, "  {name:<10}  {}", value.trim_end());
}

fn count_fact(text: &mut String, name: &str, count: Option<u64>, what: &str) {
    if let Some(count) = count.filter(|count| *count > 0) {
        fact(text, name, &format!("{count} {what}"));
    }
}

fn names(names: &[Text]) -> String {
    names.iter().map(|name| escape(&name.0)).collect::<Vec<_>>().join(" ")
}

fn hash(digest: Option<Digest>) -> String {
    digest.map_or_else(|| "-".to_owned(), |digest| digest.to_string())
}

fn exit(code: Option<i32>, signal: Option<i32>) -> String {
    match (code, signal) {
        (Some(code), _) => code.to_string(),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => "-".to_owned(),
    }
}

fn exits(run: &RunRecord) -> String {
    format!("{}, of agentguard {}", exit(run.exit_code, run.signal), exit(run.guard_exit_code, None))
}

fn published(run: &RunRecord) -> String {
    match run.changes {
        _ if !run.published => "no".to_owned(),
        None => "yes".to_owned(),
        Some(changes) => format!(
            "{} created, {} modified, {} deleted, {}",
            changes.created,
            changes.modified,
            changes.deleted,
            byte_count(changes.bytes)
        ),
    }
}

fn usage(run: &RunRecord) -> String {
    let total = run.tokens_used.map_or_else(|| "-".to_owned(), |count| count.to_string());
    let Some(usage) = &run.usage else { return total };
    let exact = if usage.exact { "" } else { ", perhaps not all" };
    format!(
        "{total}: input {}, cached {}, cache written {}, output {} ({}{exact}) {}",
        usage.input_uncached,
        usage.input_cached,
        usage.cache_write,
        usage.output,
        escape(usage.source.as_bytes()),
        escape(usage.models.join(" ").as_bytes())
    )
}

fn isolation(run: &RunRecord) -> String {
    let isolation = &run.isolation;
    let landlock = isolation.landlock_abi.map_or_else(|| "no landlock".to_owned(), |abi| format!("landlock {abi}"));
    let words =
        format!("view {}, level {}, {landlock}, network {}", isolation.view, isolation.level, isolation.network);
    escape(words.as_bytes())
}

fn git(run: &RunRecord) -> Option<String> {
    let git = run.git.as_ref()?;
    let state = match git.dirty {
        Some(true) => ", changed",
        Some(false) => ", clean",
        None => "",
    };
    let (commit, branch) = (git.commit.as_deref().unwrap_or("no commit"), git.branch.as_deref().unwrap_or("detached"));
    Some(escape(format!("{commit} ({branch}{state})").as_bytes()))
}

/// The last bytes of a file, if it can be read.
fn end_of(path: &Path) -> Option<Vec<u8>> {
    let file = File::open(path).ok()?;
    let len = file.metadata().ok()?.len();
    let take = len.min(LOG_BYTES);
    let mut bytes = vec![0_u8; usize::try_from(take).ok()?];
    file.read_exact_at(&mut bytes, len - take).ok()?;
    Some(bytes)
}

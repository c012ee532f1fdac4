//! `agentguard run --explain`: what a run would be and do, and where each of its settings comes from, without one.

use std::fmt::Write as _;
use std::io::Write;
use std::path::Path;

use anyhow::Context as _;

use super::render::{byte_count, escape, shell_quote, unless_closed};
use super::run::{RunRequest, specify};
use crate::model::breaker::Refusal as BreakerRefusal;
use crate::model::spec::{
    Feedback, Hold, InputSource, IsolationLevel, Network, OnConflict, OnDrift, OutputKind, OutputTarget, RetryOn,
    RunSpec, StagingBase, ViewKind, WorkspacePolicy,
};
use crate::model::{ByteSize, Text};
use crate::rules::breaker::Passage;
use crate::rules::redact::{redact_command, redact_text};
use crate::rules::retry::longest_wait;
use crate::run::breaker::Answer;
use crate::run::explain::{Outlook, Program, Refusal, Trial, stands};
use crate::run::scene::{Way, level_in_force};
use crate::run::snapshot::workspace_root;
use crate::store::snapshot::{Counted, LeftOut};

/// So many roots are named.
const NAMED_ROOTS: usize = 10;

/// So many waits between attempts are told.
const NAMED_WAITS: u32 = 5;

/// One option of `run`.
#[derive(Clone, Debug)]
pub struct Choice {
    /// Its long name.
    pub name: String,
    /// What it is set to.
    pub value: Chosen,
    /// Who set it.
    pub origin: String,
}

/// What an option is set to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Chosen {
    /// These words; none where the option alone says it.
    Set(Vec<Text>),
    /// What the help says.
    Default(String),
    /// Nothing.
    Unset,
}

/// A run that is only explained.
#[derive(Debug)]
pub struct ExplainRequest<'a> {
    /// What was asked, every layer of configuration resolved.
    pub run: &'a RunRequest,
    /// All options, in the order of the help.
    pub options: Vec<Choice>,
    /// Where the command comes from.
    pub command_origin: String,
    /// Where the record would be written too.
    pub record: Option<&'a Path>,
}

/// Explains a run on `out`; the answer is why it would not start, if it would not. An error is what `run` would say, too,
/// before it began.
pub fn explain(request: &ExplainRequest<'_>, out: &mut dyn Write) -> anyhow::Result<Option<Refusal>> {
    let spec = specify(request.run)?;
    // A file that cannot be read is refused before the run begins.
    drop(request.run.stdin.plan()?);
    let outlook = Outlook::of(&request.run.at.state, &spec)?;
    let refusal = outlook.refusal();
    let page = Page { request, spec: &spec, outlook: &outlook };
    let text = page.text(refusal.as_ref());
    unless_closed(out.write_all(text.as_bytes()).and_then(|()| out.flush()))
        .context("cannot write to standard output")?;
    Ok(refusal)
}

struct Page<'a> {
    request: &'a ExplainRequest<'a>,
    spec: &'a RunSpec,
    outlook: &'a Outlook,
}

fn section(text: &mut String, name: &str) {
    // Writing to a String cannot fail.
    _ = writeln!(text, "\n{name}");
}

fn fact(text: &mut String, name: &str, value: &str) {
    _ = writeln!(text, "  {name:12} {value}");
}

fn shown(text: &Text) -> String {
    escape(&redact_text(text).0)
}

fn path(path: &Path) -> String {
    escape(path.as_os_str().as_encoded_bytes())
}

impl Page<'_> {
    fn text(&self, refusal: Option<&Refusal>) -> String {
        let mut text = String::new();
        self.what(&mut text);
        self.options(&mut text);
        self.view(&mut text);
        self.snapshot(&mut text);
        self.result(&mut text);
        self.gate(&mut text);
        self.attempts(&mut text);
        self.breakers(&mut text);
        match refusal {
            None => text.push_str("\nit would start; nothing was run\n"),
            Some(Refusal { failure, code }) => {
                let hint = failure.hint.as_ref().map(|hint| format!("\nhint: {}", escape(hint.as_bytes())));
                let (message, hint) = (escape(failure.message.as_bytes()), hint.unwrap_or_default());
                _ = writeln!(text, "\nit would end with {code}: {message}{hint}");
            }
        }
        text
    }

    fn what(&self, text: &mut String) {
        let at = &self.request.run.at;
        text.push_str("run\n");
        let command = shell_quote(&redact_command(&self.spec.command));
        fact(text, "command", &format!("{command}  ({})", self.request.command_origin));
        match &self.outlook.program {
            Program::Found(found) => fact(text, "program", &path(found)),
            Program::Missing(failure, _) => fact(text, "program", &escape(failure.message.as_bytes())),
        }
        fact(text, "agent", &escape(&self.spec.agent.0));
        fact(text, "directory", &path(&at.cwd));
        fact(text, "project", &path(&at.project));
        let missing = if self.outlook.state.is_none() { "  (a run would make it)" } else { "" };
        fact(text, "state", &format!("{}{missing}", path(&at.state)));
        if self.outlook.abandoned > 0 {
            let what = "runs whose supervisor is gone would be recovered first";
            fact(text, "before it", &format!("{} {what}", self.outlook.abandoned));
        }
        if let Some(record) = self.request.record {
            let to = if record == Path::new("-") { "standard output".to_owned() } else { path(record) };
            fact(text, "record", &format!("the run log, and {to}"));
        }
    }

    fn options(&self, text: &mut String) {
        section(text, "options");
        let rows: Vec<(&str, String, &str)> =
            self.request.options.iter().map(|choice| (&*choice.name, self.value(choice), &*choice.origin)).collect();
        // A long value pushes its own origin aside only.
        let width = rows.iter().map(|(_, value, _)| value.chars().count()).filter(|width| *width <= 40).max();
        let width = width.unwrap_or_default();
        for (name, value, origin) in rows {
            _ = writeln!(text, "  {name:18} {value:width$}  {}", escape(origin.as_bytes()));
        }
    }

    /// What a setting means, where that is known only now.
    fn value(&self, choice: &Choice) -> String {
        match (&*choice.name, &choice.value) {
            ("agent", _) => escape(&self.spec.agent.0),
            ("state-dir", _) => path(&self.request.run.at.state),
            ("workspace", _) => self.spec.workspace.as_ref().map_or("-".to_owned(), |policy| escape(&policy.path.0)),
            (_, Chosen::Set(words)) if words.is_empty() => "true".to_owned(),
            (_, Chosen::Set(words)) => shell_quote(&words.iter().map(redact_text).collect::<Vec<_>>()),
            (_, Chosen::Default(value)) => value.clone(),
            (_, Chosen::Unset) => "-".to_owned(),
        }
    }

    fn view(&self, text: &mut String) {
        section(text, "view");
        let policy = &self.spec.view;
        let level = match policy.isolation {
            IsolationLevel::Auto => "auto: what works here",
            IsolationLevel::Strict => "strict: no writes outside of the view, or no run",
            IsolationLevel::None => "none",
        };
        fact(text, "isolation", level);
        let wanted = match policy.wanted {
            ViewKind::Auto => "auto: the best that works here, in this order",
            ViewKind::Overlay => "overlay, and nothing else",
            ViewKind::Clone => "clone, and nothing else",
        };
        fact(text, "wanted", if policy.isolation == IsolationLevel::None { "no view is mounted" } else { wanted });
        if let Some(obstacle) = &self.outlook.obstacle {
            fact(text, "no overlay", &escape(obstacle.0.as_bytes()));
        }
        for (way, trial) in &self.outlook.ways {
            let came = match trial {
                Trial::Works(_) => "works here: the agent would have this one".to_owned(),
                Trial::Refused(why) => format!("not here: {}", escape(why.as_bytes())),
                Trial::NotNeeded => "not needed".to_owned(),
            };
            fact(text, way.word(), &format!("{} ({came})", self.words(*way)));
        }
        let Some((way, entered)) = self.outlook.way() else { return };
        if let Some(kind) = self.outlook.doubtful_layer.as_ref().filter(|_| way == Way::Overlay) {
            let what = "may not hold an overlay's changes: then the next way would be tried, if there is one";
            fact(text, "doubtful", &format!("the state directory's filesystem ({}) {what}", escape(kind.as_bytes())));
        }
        fact(text, "in force", level_in_force(policy.isolation, way));
        let processes = if entered.pids { "an id namespace of their own" } else { "a subreaper" };
        fact(text, "processes", &format!("{processes}; none outlives the run"));
        if let Some(abi) = entered.landlock_abi {
            fact(text, "landlock", &format!("ABI {abi}"));
        }
        let network = if policy.network == Network::None { "the loopback interface only" } else { "the host's" };
        fact(text, "network", network);
        if let Some(workspace) = self.spec.workspace.as_ref().filter(|workspace| !workspace.passthrough.is_empty()) {
            fact(text, "passed", &format!("{}: real, and not staged", passed_through(workspace)));
        }
    }

    fn words(&self, way: Way) -> &'static str {
        let is_workspace = self.spec.workspace.is_some();
        match way {
            Way::Overlay if is_workspace => "the workspace at its own path, copied on write",
            Way::Overlay => "the project at its own path, a throwaway layer beside staging",
            Way::Clone if is_workspace => "a private copy, mounted at the workspace's own path",
            Way::Clone => "a private copy, mounted at the project's own path, beside staging",
            Way::EnteredClone => "a private copy at another path, the workspace itself closed by Landlock",
            Way::LooseClone => "a private copy at another path, absolute paths lead to the workspace",
            Way::Plain => "the project itself, only staging apart",
        }
    }

    fn snapshot(&self, text: &mut String) {
        section(text, "snapshot");
        let mut roots = workspace_root(self.spec);
        if let InputSource::Live(inputs) = &self.spec.inputs.source
            && inputs.is_empty()
            && self.spec.workspace.is_none()
        {
            roots.clear();
            fact(text, "inputs", "none are frozen: add --input PATH to have them recorded");
        }
        for root in roots.iter().take(NAMED_ROOTS) {
            fact(text, "root", &format!("{}  {}", shown(&root.name), path(&root.path)));
        }
        if roots.len() > NAMED_ROOTS {
            fact(text, "", &format!("and {} more", roots.len() - NAMED_ROOTS));
        }
        match &self.outlook.snapshot {
            Ok(counted) => self.counted(counted, text),
            Err(failure) => fact(text, "fails", &escape(failure.message.as_bytes())),
        }
        let drift = match self.spec.on_drift {
            OnDrift::Record => "is recorded",
            OnDrift::Fail => "rejects the result",
        };
        fact(text, "drift", &format!("an input that changes under the run {drift}"));
    }

    fn counted(&self, counted: &Counted, text: &mut String) {
        fact(text, "files", &format!("{}, {}", counted.files, byte_count(counted.bytes)));
        let limit = byte_count(self.spec.inputs.limit.0);
        fact(text, "to read", &format!("{} (limit {limit})", byte_count(counted.new_bytes)));
        left_out(text, "excluded", "match --exclude or are passed through", &counted.excluded);
        left_out(text, "ignored", "are left out by ignore files or are git's own large state", &counted.ignored);
        if counted.skipped > 0 {
            fact(text, "skipped", &format!("{} sockets and devices", counted.skipped));
        }
    }

    fn result(&self, text: &mut String) {
        section(text, "result");
        match &self.spec.workspace {
            Some(workspace) => workspace_result(workspace, text),
            None => self.outputs(text),
        }
    }

    fn outputs(&self, text: &mut String) {
        if self.spec.outputs.is_empty() {
            fact(text, "target", "none: nothing would be published");
        }
        for output in &self.spec.outputs {
            fact(text, "target", &target(output));
        }
        let staged = match &self.outlook.staged_beside {
            Some(above) => format!("in a hidden directory in {}, on the targets' filesystem", path(above)),
            None => "in the state directory".to_owned(),
        };
        let base = match self.spec.staging_base {
            StagingBase::Empty => "empty at first",
            StagingBase::Current => "a copy of the targets at first",
        };
        fact(text, "staged", &format!("{staged}; {base}"));
        fact(text, "published", "all of it by renames if the gate accepts it, else nothing");
        fact(text, "conflict", "if a target changed meanwhile nothing is written, and the run ends with 122");
    }

    fn gate(&self, text: &mut String) {
        section(text, "gate");
        let gate = &self.spec.gate;
        let within = gate.verify_timeout.map(|limit| format!("  (within {})", humantime::format_duration(limit)));
        for command in &gate.verify {
            fact(text, "verify", &format!("{}{}", shown(command), within.as_deref().unwrap_or_default()));
        }
        if gate.verify.is_empty() {
            fact(text, "verify", "no command: a result is published unseen");
        }
        let list = |text: &mut String, name: &str, globs: &[String]| {
            if !globs.is_empty() {
                fact(text, name, &escape(globs.join(" ").as_bytes()));
            }
        };
        list(text, "expect", &gate.expect);
        if let Some(files) = gate.max_files {
            fact(text, "files", &format!("at most {files}"));
        }
        if let Some(ByteSize(bytes)) = gate.max_bytes {
            fact(text, "bytes", &format!("at most {}", byte_count(bytes)));
        }
        if self.spec.workspace.is_some() {
            let always = "agentguard.toml .agentguard/** .envrc, hooks of git and what its configuration runs";
            let more: String = gate.protect.iter().map(|glob| format!(" {}", escape(glob.as_bytes()))).collect();
            fact(text, "protected", &format!("{always}{more}"));
            list(text, "allowed", &gate.allow);
        }
    }

    fn attempts(&self, text: &mut String) {
        section(text, "attempts");
        let retry = &self.spec.retry;
        fact(text, "at most", &(u64::from(retry.retries) + 1).to_string());
        if retry.retries == 0 {
            return;
        }
        let words: Vec<String> = retry
            .on
            .iter()
            .map(|on| match on {
                RetryOn::Class(class) => class.to_string(),
                RetryOn::Kind(kind) => kind.to_string(),
            })
            .collect();
        fact(text, "again after", &words.join(", "));
        let waits = (1..=retry.retries.min(NAMED_WAITS)).map(|made| longest_wait(retry, made));
        let waits: Vec<String> = waits.map(|wait| humantime::format_duration(wait).to_string()).collect();
        let more = if retry.retries > NAMED_WAITS { ", \u{2026}" } else { "" };
        fact(text, "waits", &format!("up to {}{more}", waits.join(", ")));
        let feedback = match retry.feedback {
            Feedback::File => "the next one finds the reason in $AGENTGUARD_FEEDBACK",
            Feedback::No => "none: each begins like the first",
        };
        fact(text, "feedback", feedback);
    }

    fn breakers(&self, text: &mut String) {
        section(text, "breakers");
        let policy = &self.spec.breaker;
        let cooldown = humantime::format_duration(policy.cooldown);
        fact(text, "this agent", &format!("broken after {} failures in a row, for {cooldown}", policy.threshold));
        if policy.refusal == BreakerRefusal::Never {
            fact(text, "asked", "none (--no-breaker)");
            return;
        }
        match &self.outlook.breakers {
            Err(why) => fact(text, "unknown", &format!("{}; the run would start", escape(why.as_bytes()))),
            Ok(foresight) => {
                for answer in &foresight.answers {
                    fact(text, &escape(&answer.agent.0), &said(answer));
                }
                for warning in &foresight.warnings {
                    fact(text, "warning", &escape(warning.as_bytes()));
                }
            }
        }
    }
}

fn passed_through(workspace: &WorkspacePolicy) -> String {
    let named = |inside: &Text| {
        let is_there = workspace.path.as_path().join(inside.as_path()).symlink_metadata().is_ok();
        let missing = if is_there { "" } else { " (would be made)" };
        format!("{}{missing}", escape(&inside.0))
    };
    workspace.passthrough.iter().map(named).collect::<Vec<_>>().join(", ")
}

fn left_out(text: &mut String, name: &str, why: &str, left_out: &LeftOut) {
    if left_out.count == 0 {
        return;
    }
    let first: Vec<String> = left_out.first.iter().map(shown).collect();
    let more = if left_out.count > first.len() as u64 { ", \u{2026}" } else { "" };
    fact(text, name, &format!("{} names {why}: {}{more}", left_out.count, first.join(", ")));
}

fn workspace_result(workspace: &WorkspacePolicy, text: &mut String) {
    fact(text, "target", &format!("{}  {}  (there, and writable)", shown(&workspace.name), escape(&workspace.path.0)));
    fact(text, "staged", "in the state directory, or the private copy");
    let published = match workspace.hold {
        Hold::No => "changes are applied through a journal if the gate accepts them, else dropped",
        Hold::Yes => "nothing yet: the result is held for `agentguard apply` or `discard`",
    };
    fact(text, "published", published);
    let conflict = match workspace.on_conflict {
        OnConflict::Fail => "if somebody else changed one of the paths nothing is written, and the run ends with 122",
        OnConflict::Hold => "if somebody else changed one of the paths the result is held",
    };
    fact(text, "conflict", conflict);
}

fn target(output: &OutputTarget) -> String {
    let standing = match stands(output) {
        Some(what) => format!("{what} stands there and would be replaced"),
        None => "nothing stands there yet".to_owned(),
    };
    let staged = match (&output.kind, output.staged_as.0.is_empty()) {
        (OutputKind::Stdout, _) => "the agent's standard output".to_owned(),
        (_, true) => "{staging}".to_owned(),
        (_, false) => format!("{{staging}}/{}", escape(&output.staged_as.0)),
    };
    let name = if output.name == output.path { String::new() } else { format!("{}  ", escape(&output.name.0)) };
    format!("{name}{}  from {staged}  ({standing}; writable)", escape(&output.path.0))
}

fn said(answer: &Answer) -> String {
    let role = match &answer.upstream {
        None => "the run's own".to_owned(),
        Some(upstream) if upstream.through.is_empty() => "needed".to_owned(),
        Some(upstream) => {
            let through: Vec<String> = upstream.through.iter().map(|agent| escape(&agent.0)).collect();
            format!("needed through {}", through.join(", "))
        }
    };
    let state = match answer.passage {
        Passage::Free if answer.consecutive == 0 => "closed".to_owned(),
        Passage::Free => format!("closed, {} failures in a row", answer.consecutive),
        Passage::Probe => "half open: this run would be the probe".to_owned(),
        Passage::CoolingDown { until } => format!("open, no probe before {until}"),
        Passage::Probing { run } => format!("half open, run {} is the probe", run.short()),
    };
    let obeyed = match (&answer.refusal, answer.passage) {
        (Some(_), _) => "; the run would be refused",
        (None, Passage::CoolingDown { .. } | Passage::Probing { .. }) => "; it does not refuse its own runs",
        (None, _) => "",
    };
    format!("{role}: {state}{obeyed}")
}

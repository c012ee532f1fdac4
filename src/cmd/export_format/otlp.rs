//! Runs as OpenTelemetry traces in OTLP/JSON: lowerCamelCase names, ids in hex, 64-bit integers as strings, enums as
//! numbers. The trace id is the run's 16 bytes, and the span of an attempt is the one that the attempt finds in its
//! `TRACEPARENT`, so that what an agent exports by itself hangs below it.
//!
//! The run is the span of a command (semantic conventions, `cli/cli-spans.md`), attempts are `invoke_agent` spans of the
//! conventions for generative AI. Those have no attribute for cost yet: it is `agentguard.cost_usd`.

use std::io::{self, Write};

use serde_json::{Map, Value, json};

use super::Export;
use crate::model::record::{AttemptRecord, Usage, VerifyRecord};
use crate::model::{RunId, RunRecord, Text, Timestamp};

/// `SPAN_KIND_INTERNAL`.
const INTERNAL: u8 = 1;
/// `SPAN_KIND_CLIENT`.
const CLIENT: u8 = 3;
/// `STATUS_CODE_ERROR`.
const ERROR: u8 = 2;
/// Spans of verify commands are numbered from here: no attempt has such a number.
const VERIFY: u32 = 1 << 31;

/// Writes traces.
pub(super) struct Otlp;

impl Export for Otlp {
    fn add(&mut self, _: &[u8], record: &RunRecord, out: &mut dyn Write) -> io::Result<()> {
        serde_json::to_writer(&mut *out, &traces(record))?;
        out.write_all(b"\n")
    }
}

fn traces(run: &RunRecord) -> Value {
    let mut spans = vec![run_span(run)];
    spans.extend(run.attempts.iter().zip(1..).map(|(attempt, number)| attempt_span(run, attempt, number)));
    spans.extend(verify_spans(run));
    let scope = json!({"name": "agentguard", "version": run.agentguard});
    json!({"resourceSpans": [{"resource": resource(run), "scopeSpans": [{"scope": scope, "spans": spans}]}]})
}

fn resource(run: &RunRecord) -> Value {
    let mut attributes = Attributes::default();
    attributes.text("service.name", "agentguard");
    attributes.text("service.version", &run.agentguard);
    attributes.bytes("host.name", &run.host);
    if let Some(git) = &run.git {
        git.commit.iter().for_each(|commit| attributes.text("vcs.ref.head.revision", commit));
        git.branch.iter().for_each(|branch| attributes.text("vcs.ref.head.name", branch));
    }
    json!({"attributes": attributes.0})
}

fn run_span(run: &RunRecord) -> Value {
    let mut attributes = Attributes::default();
    let executable = executable(run);
    attributes.text("process.executable.name", &executable);
    attributes.texts("process.command_args", run.command.iter().map(lossy));
    attributes.bytes("process.working_directory", &run.cwd);
    attributes.int("process.exit.code", run.guard_exit_code.map(i64::from));
    attributes.text("gen_ai.operation.name", "invoke_agent");
    attributes.bytes("gen_ai.agent.name", &run.agent);
    if let Some(usage) = &run.usage {
        usage_attributes(usage, &mut attributes);
    }
    attributes.text("agentguard.run_id", &run.run_id.to_string());
    attributes.text("agentguard.status", &run.status.to_string());
    attributes.flag("agentguard.published", run.published);
    attributes.unsigned("agentguard.tokens_used", run.tokens_used);
    attributes.double("agentguard.cost_usd", run.cost_usd);
    run.cost_source.iter().for_each(|source| attributes.text("agentguard.cost_source", source));
    run.error_class.iter().for_each(|class| attributes.text("agentguard.error_class", &class.to_string()));
    run.input_hash.iter().for_each(|hash| attributes.text("agentguard.input_hash", &hash.to_string()));
    run.output_hash.iter().for_each(|hash| attributes.text("agentguard.output_hash", &hash.to_string()));
    attributes.int("agentguard.agent_exit_code", run.exit_code.map(i64::from));
    attributes.int("agentguard.agent_signal", run.signal.map(i64::from));
    run.labels.iter().for_each(|(name, value)| attributes.text(&format!("agentguard.label.{name}"), value));
    let mut span = span(run, span_id(run.run_id, 0), &executable, (run.start_time, run.end_time), INTERNAL);
    let links: Vec<Value> =
        [("parent", run.parent_run_id), ("replay_of", run.replay_of), ("redrive_of", run.redrive_of)]
            .into_iter()
            .filter_map(|(name, other)| other.map(|other| link(name, other)))
            .collect();
    if !links.is_empty() {
        span.insert("links".into(), links.into());
    }
    let error = run.error.as_ref().map(|error| (error.kind.to_string(), error.message.clone()));
    let failed = error.or_else(|| run.error_class.map(|class| (class.to_string(), run.status.to_string())));
    finish(span, attributes, failed)
}

fn attempt_span(run: &RunRecord, attempt: &AttemptRecord, number: u32) -> Value {
    let mut attributes = Attributes::default();
    attributes.text("gen_ai.operation.name", "invoke_agent");
    attributes.bytes("gen_ai.agent.name", &run.agent);
    attributes.int("agentguard.attempt", Some(i64::from(number)));
    attributes.int("process.exit.code", attempt.exit_code.map(i64::from));
    attributes.int("agentguard.agent_signal", attempt.signal.map(i64::from));
    attributes.unsigned("agentguard.tokens_used", attempt.tokens);
    attributes.double("agentguard.cost_usd", attempt.cost);
    attributes.unsigned("agentguard.staged_files", Some(attempt.staged_files));
    attributes.unsigned("agentguard.staged_bytes", Some(attempt.staged_bytes));
    let name = format!("invoke_agent {}", lossy(&run.agent));
    let times = (attempt.start, attempt.end);
    let mut span = span(run, span_id(run.run_id, number), &name, times, CLIENT);
    span.insert("parentSpanId".into(), span_id(run.run_id, 0).into());
    let failed = attempt.error.as_ref().map(|error| (error.kind.to_string(), error.message.clone()));
    finish(span, attributes, failed)
}

/// The record knows how long verify commands took, not when: they ran one after the other, before the run's end.
fn verify_spans(run: &RunRecord) -> Vec<Value> {
    let mut end = run.end_time.unix_micros();
    let spans = run.verify.iter().enumerate().rev().map(|(at, verify)| {
        let number = VERIFY | u32::try_from(at).unwrap_or(u32::MAX >> 1);
        let took = i64::try_from(verify.duration_ms.saturating_mul(1000)).unwrap_or(i64::MAX);
        let start = end.saturating_sub(took).max(run.start_time.unix_micros()).min(end);
        let times = (Timestamp::from_unix_micros(start), Timestamp::from_unix_micros(end));
        end = start;
        verify_span(run, verify, number, times)
    });
    let mut spans: Vec<Value> = spans.collect();
    spans.reverse();
    spans
}

fn verify_span(run: &RunRecord, verify: &VerifyRecord, number: u32, times: (Timestamp, Timestamp)) -> Value {
    let mut attributes = Attributes::default();
    attributes.text("process.executable.name", "sh");
    attributes.texts("process.command_args", ["sh".to_owned(), "-c".to_owned(), lossy(&verify.command)].into_iter());
    attributes.int("process.exit.code", verify.exit_code.map(i64::from));
    let mut span = span(run, span_id(run.run_id, number), "verify", times, CLIENT);
    span.insert("parentSpanId".into(), span_id(run.run_id, 0).into());
    let failed = (verify.exit_code != Some(0)).then(|| {
        let code = verify.exit_code.map_or_else(|| "killed".to_owned(), |code| code.to_string());
        let words = format!("the verify command ended with {code}");
        (code, words)
    });
    finish(span, attributes, failed)
}

fn span(run: &RunRecord, id: String, name: &str, times: (Timestamp, Timestamp), kind: u8) -> Map<String, Value> {
    let (start, end) = times;
    let nanos = |time: Timestamp| (i128::from(time.unix_micros().max(0)) * 1000).to_string();
    let mut span = Map::new();
    span.insert("traceId".into(), hex(run.run_id.as_bytes()).into());
    span.insert("spanId".into(), id.into());
    span.insert("name".into(), name.into());
    span.insert("kind".into(), kind.into());
    span.insert("startTimeUnixNano".into(), nanos(start).into());
    // A clock that was set back would give a span of negative length.
    span.insert("endTimeUnixNano".into(), nanos(end.max(start)).into());
    span
}

/// `failed`: the kind of the failure and its words. On success the status stays unset, as the conventions say.
fn finish(mut span: Map<String, Value>, mut attributes: Attributes, failed: Option<(String, String)>) -> Value {
    if let Some((kind, message)) = failed {
        attributes.text("error.type", &kind);
        span.insert("status".into(), json!({"code": ERROR, "message": message}));
    }
    span.insert("attributes".into(), attributes.0.into());
    span.into()
}

fn link(name: &str, other: RunId) -> Value {
    let mut attributes = Attributes::default();
    attributes.text("agentguard.link", name);
    json!({"traceId": hex(other.as_bytes()), "spanId": span_id(other, 0), "attributes": attributes.0})
}

/// Derived from the id's random half: the same in every export. 0 is the run itself.
fn span_id(run: RunId, number: u32) -> String {
    hex(&run.span_id(number))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn executable(run: &RunRecord) -> String {
    let name = run.command.first().and_then(|word| word.as_path().file_name()).map(Text::from);
    name.map_or_else(|| lossy(&run.agent), |name| lossy(&name))
}

/// Strings of OTLP are UTF-8.
fn lossy(text: &Text) -> String {
    text.to_string_lossy().into_owned()
}

fn usage_attributes(usage: &Usage, attributes: &mut Attributes) {
    if let [model] = usage.models.as_slice() {
        attributes.text("gen_ai.request.model", model);
        provider(model).iter().for_each(|name| attributes.text("gen_ai.provider.name", name));
    } else if !usage.models.is_empty() {
        attributes.texts("agentguard.models", usage.models.iter().cloned());
    }
    // Theirs holds what came from a cache and what went there.
    let input = usage.input_uncached.checked_add(usage.input_cached).and_then(|sum| sum.checked_add(usage.cache_write));
    attributes.unsigned("gen_ai.usage.input_tokens", input);
    attributes.unsigned("gen_ai.usage.output_tokens", Some(usage.output));
    attributes.unsigned("gen_ai.usage.cache_read.input_tokens", Some(usage.input_cached));
    attributes.unsigned("gen_ai.usage.cache_creation.input_tokens", Some(usage.cache_write));
    attributes.unsigned("gen_ai.usage.reasoning.output_tokens", usage.reasoning);
    attributes.unsigned("agentguard.calls", usage.calls);
    attributes.text("agentguard.usage_source", &usage.source);
    attributes.flag("agentguard.usage_exact", usage.exact);
}

/// Who makes the model, where its name says so.
fn provider(model: &str) -> Option<&'static str> {
    const KNOWN: [(&str, &str); 8] = [
        ("claude", "anthropic"),
        ("gpt-", "openai"),
        ("o1", "openai"),
        ("o3", "openai"),
        ("o4", "openai"),
        ("codex", "openai"),
        ("gemini", "gcp.gemini"),
        ("mistral", "mistral_ai"),
    ];
    KNOWN.iter().find(|(prefix, _)| model.starts_with(prefix)).map(|(_, name)| *name)
}

/// Attributes in the form of OTLP; what is unknown is not there.
#[derive(Default)]
struct Attributes(Vec<Value>);

impl Attributes {
    fn put(&mut self, key: &str, value: Value) {
        self.0.push(json!({"key": key, "value": value}));
    }

    fn text(&mut self, key: &str, value: &str) {
        self.put(key, json!({"stringValue": value}));
    }

    fn bytes(&mut self, key: &str, value: &Text) {
        self.text(key, &value.to_string_lossy());
    }

    fn texts(&mut self, key: &str, values: impl Iterator<Item = String>) {
        let values: Vec<Value> = values.map(|value| json!({"stringValue": value})).collect();
        self.put(key, json!({"arrayValue": {"values": values}}));
    }

    fn flag(&mut self, key: &str, value: bool) {
        self.put(key, json!({"boolValue": value}));
    }

    fn int(&mut self, key: &str, value: Option<i64>) {
        value.iter().for_each(|value| self.put(key, json!({"intValue": value.to_string()})));
    }

    /// Counts past the signed 64 bits of OTLP are not counts.
    fn unsigned(&mut self, key: &str, value: Option<u64>) {
        self.int(key, value.and_then(|value| i64::try_from(value).ok()));
    }

    fn double(&mut self, key: &str, value: Option<f64>) {
        value.iter().for_each(|value| self.put(key, json!({"doubleValue": value})));
    }
}

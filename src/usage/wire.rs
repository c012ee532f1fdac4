//! What an API's answer says that a call used: OpenAI's chat and Responses, Anthropic's and Gemini's, as one JSON document or
//! as server-sent events. Bytes are shown to it as they pass; nothing of them is kept but figures.

use memchr::{memchr, memmem};
use serde_json::Value;

use crate::model::Tokens;

use super::json::{at, count, text};

/// Longest document, and longest event, that is looked at.
const MOST_BYTES: usize = 16 << 20;

/// What an answer has told by now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Heard {
    /// The model.
    pub model: Option<String>,
    /// What was used.
    pub tokens: Option<Tokens>,
    /// Whether it said that it was at its end.
    pub ended: bool,
}

/// How an answer is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// One JSON document.
    Document,
    /// Server-sent events.
    Events,
}

/// The reader of one answer.
#[derive(Debug)]
pub struct AnswerReader {
    form: Form,
    pending: Vec<u8>,
    too_long: bool,
    heard: Heard,
}

impl AnswerReader {
    /// Of an answer with this content type.
    pub fn new(content_type: &str) -> Self {
        let form = if content_type.starts_with("text/event-stream") { Form::Events } else { Form::Document };
        Self { form, pending: Vec::new(), too_long: false, heard: Heard::default() }
    }

    /// Takes the next bytes.
    pub fn take(&mut self, mut bytes: &[u8]) {
        if self.form == Form::Events {
            while let Some(end) = memchr(b'\n', bytes) {
                self.keep(&bytes[..end]);
                self.end_line();
                bytes = &bytes[end + 1..];
            }
        }
        self.keep(bytes);
    }

    /// The answer is over: what it told.
    pub fn finish(mut self) -> Heard {
        match self.form {
            Form::Events => self.end_line(),
            Form::Document if !self.too_long => {
                if let Ok(document) = serde_json::from_slice::<Value>(&self.pending) {
                    self.heard.ended = true;
                    match &document {
                        // Gemini's stream without events: an array of what would be one each.
                        Value::Array(parts) => parts.iter().for_each(|part| self.heard.take(part)),
                        document => self.heard.take(document),
                    }
                }
            }
            Form::Document => {}
        }
        self.heard
    }

    fn keep(&mut self, bytes: &[u8]) {
        if self.pending.len() + bytes.len() > MOST_BYTES {
            self.too_long = true;
            self.pending = Vec::new();
        } else if !self.too_long {
            self.pending.extend_from_slice(bytes);
        }
    }

    fn end_line(&mut self) {
        let line = std::mem::take(&mut self.pending);
        if std::mem::take(&mut self.too_long) {
            return;
        }
        if let Some(data) = line.strip_prefix(b"data:") {
            self.heard.event(data.trim_ascii());
        }
        self.pending = line;
        self.pending.clear();
    }
}

/// Words that stand in every event that tells of use or of an end.
const TELLING: [&[u8]; 6] =
    [b"\"usage\"", b"\"usageMetadata\"", b"\"message_stop\"", b"\"finishReason\"", b"\"response.", b"\"error\""];

impl Heard {
    fn event(&mut self, data: &[u8]) {
        if data == b"[DONE]" {
            self.ended = true;
            return;
        }
        // Most events are a few letters of an answer.
        if self.model.is_some() && !TELLING.iter().any(|word| memmem::find(data, word).is_some()) {
            return;
        }
        if let Ok(event) = serde_json::from_slice::<Value>(data) {
            self.take(&event);
        }
    }

    fn take(&mut self, value: &Value) {
        let kind = text(value, &["type"]).unwrap_or_default();
        let ends = ["message_stop", "response.completed", "response.incomplete", "response.failed"];
        self.ended |= ends.contains(&kind);
        let candidates = at(value, &["candidates"]).and_then(Value::as_array).into_iter().flatten();
        self.ended |= candidates.into_iter().any(|candidate| text(candidate, &["finishReason"]).is_some());
        // Anthropic's first event has a message in it, and the Responses API's have a response.
        for told in [value.get("message"), value.get("response"), Some(value)].into_iter().flatten() {
            let model = text(told, &["model"]).or_else(|| text(told, &["modelVersion"]));
            self.model = self.model.take().or_else(|| model.map(str::to_owned));
            if let Some(tokens) = tokens_of(told) {
                // Figures of one call grow while it streams.
                self.tokens = Some(self.tokens.map_or(tokens, |known| known.larger(tokens)));
            }
        }
    }
}

fn tokens_of(told: &Value) -> Option<Tokens> {
    if let Some(usage) = told.get("usageMetadata") {
        return gemini(usage);
    }
    let usage = told.get("usage").filter(|usage| usage.is_object())?;
    if usage.get("prompt_tokens").is_some() {
        return chat(usage);
    }
    let has_details = usage.get("input_tokens_details").is_some() || usage.get("output_tokens_details").is_some();
    if has_details || usage.get("total_tokens").is_some() { responses(usage) } else { anthropic(usage) }
}

/// Figures that say something.
fn counted(tokens: Tokens) -> Option<Tokens> {
    (!tokens.is_nothing()).then_some(tokens)
}

fn chat(usage: &Value) -> Option<Tokens> {
    let cached = count(usage, &["prompt_tokens_details", "cached_tokens"]).unwrap_or(0);
    let reasoning = count(usage, &["completion_tokens_details", "reasoning_tokens"]);
    let output = count(usage, &["completion_tokens"]).unwrap_or(0);
    counted(Tokens::of_whole_input(count(usage, &["prompt_tokens"])?, cached, output, reasoning))
}

fn responses(usage: &Value) -> Option<Tokens> {
    let cached = count(usage, &["input_tokens_details", "cached_tokens"]).unwrap_or(0);
    let reasoning = count(usage, &["output_tokens_details", "reasoning_tokens"]);
    let output = count(usage, &["output_tokens"]).unwrap_or(0);
    counted(Tokens::of_whole_input(count(usage, &["input_tokens"])?, cached, output, reasoning))
}

fn anthropic(usage: &Value) -> Option<Tokens> {
    let number = |key: &str| count(usage, &[key]).unwrap_or(0);
    let hour = count(usage, &["cache_creation", "ephemeral_1h_input_tokens"]).unwrap_or(0);
    counted(Tokens {
        input_uncached: number("input_tokens"),
        input_cached: number("cache_read_input_tokens"),
        cache_write: number("cache_creation_input_tokens").max(hour),
        cache_write_hour: hour,
        output: number("output_tokens"),
        reasoning: None,
    })
}

fn gemini(usage: &Value) -> Option<Tokens> {
    let number = |key: &str| count(usage, &[key]).unwrap_or(0);
    let thoughts = number("thoughtsTokenCount");
    let output = number("candidatesTokenCount").saturating_add(thoughts);
    let mut tokens =
        Tokens::of_whole_input(number("promptTokenCount"), number("cachedContentTokenCount"), output, Some(thoughts));
    tokens.input_uncached = tokens.input_uncached.saturating_add(number("toolUsePromptTokenCount"));
    counted(tokens)
}

/// Whether a request is a model call: what else an API offers (lists of models, files, counts of tokens) costs nothing.
pub fn is_model_call(method: &str, path: &str) -> bool {
    const CALLS: [&str; 6] =
        ["/chat/completions", "/completions", "/responses", "/messages", ":generateContent", ":streamGenerateContent"];
    method == "POST" && CALLS.iter().any(|call| path.ends_with(call))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(content_type: &str, answer: &str) -> Heard {
        let whole = {
            let mut reader = AnswerReader::new(content_type);
            reader.take(answer.as_bytes());
            reader.finish()
        };
        let mut reader = AnswerReader::new(content_type);
        answer.as_bytes().chunks(3).for_each(|chunk| reader.take(chunk));
        assert_eq!(reader.finish(), whole, "however it arrives");
        whole
    }

    fn figures(heard: &Heard) -> Option<(u64, u64, u64, Option<u64>)> {
        heard.tokens.map(|tokens| (tokens.input_uncached, tokens.input_cached, tokens.output, tokens.reasoning))
    }

    #[test]
    fn every_api_tells_in_its_own_way() {
        let cases = [
            (
                "application/json",
                r#"{"model":"m","object":"chat.completion","choices":[],"usage":{"prompt_tokens":1234,"completion_tokens":56,"prompt_tokens_details":{"cached_tokens":1000},"completion_tokens_details":{"reasoning_tokens":7}}}"#,
                Some(7),
            ),
            (
                "text/event-stream; charset=utf-8",
                "data: {\"model\":\"m\",\"choices\":[{\"delta\":{\"content\":\"x\"}}]}\n\ndata: {\"model\":\"m\",\"choices\":[],\"usage\":{\"prompt_tokens\":1234,\"completion_tokens\":56,\"prompt_tokens_details\":{\"cached_tokens\":1000},\"completion_tokens_details\":{\"reasoning_tokens\":7}}}\n\ndata: [DONE]\n\n",
                Some(7),
            ),
            (
                "text/event-stream",
                "event: response.completed\r\ndata: {\"type\":\"response.completed\",\"response\":{\"model\":\"m\",\"usage\":{\"input_tokens\":1234,\"input_tokens_details\":{\"cached_tokens\":1000},\"output_tokens\":56,\"output_tokens_details\":{\"reasoning_tokens\":7}}}}\r\n\r\n",
                Some(7),
            ),
            (
                "text/event-stream",
                "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"model\":\"m\",\"usage\":{\"input_tokens\":234,\"cache_read_input_tokens\":1000,\"output_tokens\":1}}}\n\ndata: {\"type\":\"message_delta\",\"delta\":{},\"usage\":{\"output_tokens\":56}}\n\ndata: {\"type\":\"message_stop\"}\n\n",
                None,
            ),
            (
                "text/event-stream",
                "data: {\"modelVersion\":\"m\",\"candidates\":[{}],\"usageMetadata\":{\"promptTokenCount\":1234,\"cachedContentTokenCount\":1000,\"candidatesTokenCount\":10}}\n\ndata: {\"modelVersion\":\"m\",\"candidates\":[{\"finishReason\":\"STOP\"}],\"usageMetadata\":{\"promptTokenCount\":1234,\"cachedContentTokenCount\":1000,\"candidatesTokenCount\":49,\"thoughtsTokenCount\":7}}\n\n",
                Some(7),
            ),
            (
                "application/json",
                r#"[{"modelVersion":"m","usageMetadata":{"promptTokenCount":1234,"cachedContentTokenCount":1000,"candidatesTokenCount":49,"thoughtsTokenCount":7}}]"#,
                Some(7),
            ),
        ];
        for (content_type, answer, reasoning) in cases {
            let heard = read(content_type, answer);
            assert_eq!(figures(&heard), Some((234, 1000, 56, reasoning)), "{answer}");
            assert_eq!((heard.model.as_deref(), heard.ended), (Some("m"), true), "{answer}");
        }
    }

    #[test]
    fn what_was_cut_or_is_no_answer_has_no_figures() {
        for (content_type, answer) in [
            ("application/json", "{\"model\":\"m\",\"usage\":{\"prompt_tokens\":12"),
            ("application/json", "{\"usage\":{\"prompt_tokens\":0,\"completion_tokens\":0}}"),
            ("text/event-stream", "data: {\"choices\":[]}\n\n"),
            ("text/html", "<html>"),
            ("application/json", "{\"usage\":{\"prompt_tokens\":-4,\"completion_tokens\":1e99}}"),
        ] {
            assert_eq!(read(content_type, answer).tokens, None, "{answer}");
        }
        assert!(!read("text/event-stream", "data: {\"choices\":[]}\n\n").ended);
    }

    #[test]
    fn calls_are_told_from_what_costs_nothing() {
        for path in ["/v1/chat/completions", "/v1/responses", "/v1/messages", "/v1beta/models/g:streamGenerateContent"]
        {
            assert!(is_model_call("POST", path), "{path}");
        }
        for path in ["/v1/models", "/v1/messages/count_tokens", "/v1beta/models/g:countTokens", "/v1/files"] {
            assert!(!is_model_call("POST", path), "{path}");
        }
        assert!(!is_model_call("GET", "/v1/responses"));
    }
}

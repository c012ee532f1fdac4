//! What leaves the machine in a bundle, without its secrets: values of JSON, and what a run has printed.
//!
//! Beside the shapes that [`super::redact`] knows, the very values that stand as secrets in a run's arguments and recorded
//! environment are looked for everywhere: an agent may print its password on a line that names nothing.

use std::collections::BTreeMap;

use serde_json::Value;

use super::redact::{REDACTED, is_secret_name, redact_bytes, redact_command, secrets_in};
use crate::model::Text;
use crate::model::spec::RunSpec;

/// Shorter values are words that stand anywhere.
const SHORTEST: usize = 8;

/// A word at a cut that is longer is no key.
const LONGEST_WORD: usize = 4096;

/// The secrets of one run, by value.
#[derive(Clone, Debug, Default)]
pub struct Secrets(Vec<Vec<u8>>);

impl Secrets {
    /// Those of its arguments and of its recorded environment.
    pub fn of(spec: &RunSpec) -> Self {
        let mut values = secrets_in(&spec.command);
        for (name, value) in &spec.environment {
            if is_secret_name(&name.0) {
                values.push(value.0.clone());
            } else {
                let _ = redact_bytes(&value.0, &mut values);
            }
        }
        values.retain(|value| value.len() >= SHORTEST && value != REDACTED.as_bytes());
        // The longest first: one may be a part of another.
        values.sort_by(|one, other| other.len().cmp(&one.len()).then_with(|| one.cmp(other)));
        values.dedup();
        Self(values)
    }

    /// Text of any length without secrets.
    pub fn redact(&self, bytes: &[u8]) -> Vec<u8> {
        let mut text = redact_bytes(bytes, &mut Vec::new());
        for value in &self.0 {
            if memchr::memmem::find(&text, value).is_some() {
                text = replaced(&text, value);
            }
        }
        text
    }

    /// The beginning and the end of a text that lost what was between them: a word that was cut may be half a key.
    pub fn redact_cut(&self, head: &[u8], tail: &[u8]) -> (Vec<u8>, Vec<u8>) {
        let is_space = |byte: &u8| byte.is_ascii_whitespace();
        let head_end = head.iter().rposition(is_space).map_or(0, |at| at + 1);
        let tail_start = tail.iter().position(is_space).unwrap_or(tail.len());
        let mut before = head.to_vec();
        if head.len() - head_end <= LONGEST_WORD && head_end < head.len() {
            before.truncate(head_end);
            before.extend_from_slice(REDACTED.as_bytes());
        }
        let after = if tail_start <= LONGEST_WORD && tail_start > 0 {
            [REDACTED.as_bytes(), &tail[tail_start..]].concat()
        } else {
            tail.to_vec()
        };
        (self.redact(&before), self.redact(&after))
    }

    /// Every string of a JSON value without secrets; `command` is an argument vector.
    pub fn redact_json(&self, value: &mut Value) {
        match value {
            Value::String(text) => *text = String::from_utf8_lossy(&self.redact(text.as_bytes())).into_owned(),
            Value::Array(values) => values.iter_mut().for_each(|value| self.redact_json(value)),
            Value::Object(fields) if fields.len() == 1 && fields.contains_key("b64") => self.redact_encoded(value),
            Value::Object(fields) => {
                for (name, value) in fields.iter_mut() {
                    self.redact_field(name, value);
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    fn redact_field(&self, name: &str, value: &mut Value) {
        if let (true, Value::String(text)) = (is_secret_name(name.as_bytes()), &mut *value) {
            if !text.is_empty() {
                *text = REDACTED.to_owned();
            }
            return;
        }
        if name == "command"
            && let Ok(command) = serde_json::from_value::<Vec<Text>>(value.clone())
        {
            put(value, &redact_command(&command));
        }
        self.redact_json(value);
    }

    /// Bytes that are not UTF-8.
    fn redact_encoded(&self, value: &mut Value) {
        if let Ok(text) = serde_json::from_value::<Text>(value.clone()) {
            put(value, &Text(self.redact(&text.0)));
        }
    }
}

fn put(place: &mut Value, redacted: &impl serde::Serialize) {
    // Text and vectors of it are always JSON.
    if let Ok(value) = serde_json::to_value(redacted) {
        *place = value;
    }
}

/// The recorded variables whose name and value are no secrets; a replay takes the others from where it runs.
pub fn public_environment(environment: &BTreeMap<Text, Text>) -> BTreeMap<Text, Text> {
    let is_public =
        |(name, value): &(&Text, &Text)| !is_secret_name(&name.0) && redact_bytes(&value.0, &mut Vec::new()) == value.0;
    environment.iter().filter(is_public).map(|(name, value)| (name.clone(), value.clone())).collect()
}

fn replaced(text: &[u8], secret: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut from = 0;
    for at in memchr::memmem::find_iter(text, secret) {
        out.extend_from_slice(&text[from..at]);
        out.extend_from_slice(REDACTED.as_bytes());
        from = at + secret.len();
    }
    out.extend_from_slice(&text[from..]);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secrets(values: &[&str]) -> Secrets {
        Secrets(values.iter().map(|value| value.as_bytes().to_vec()).collect())
    }

    #[test]
    fn a_known_value_is_found_on_a_line_that_names_nothing() {
        let text = secrets(&["hunter2hunter2"]).redact(b"using hunter2hunter2, then hunter2hunter2.");
        assert_eq!(String::from_utf8_lossy(&text), "using [redacted], then [redacted].");
    }

    #[test]
    fn a_word_that_was_cut_is_replaced_on_both_sides_of_the_cut() {
        let (head, tail) = secrets(&[]).redact_cut(b"the key is sk-abc", b"defghi and more");
        assert_eq!((&head[..], &tail[..]), (&b"the key is [redacted]"[..], &b"[redacted] and more"[..]));
    }

    #[test]
    fn json_loses_its_secrets_and_nothing_else() {
        let mut value = serde_json::json!({
            "command": ["agent", "--api-key", "abcdefgh", "--out", "x"],
            "labels": {"deploy_token": "abc", "team": "blue"},
            "error": {"message": "refused: Bearer abcdefghijkl"},
            "tokens_used": 12,
            "path": {"b64": "//5hYmNkZWZnaA=="},
        });
        secrets(&["abcdefgh"]).redact_json(&mut value);
        let path: Text = serde_json::from_value(value["path"].take()).expect("text");
        assert_eq!(path.0, b"\xff\xfe[redacted]");
        value["path"] = Value::Null;
        let expected = serde_json::json!({
            "command": ["agent", "--api-key", "[redacted]", "--out", "x"],
            "labels": {"deploy_token": "[redacted]", "team": "blue"},
            "error": {"message": "refused: Bearer [redacted]"},
            "tokens_used": 12,
            "path": null,
        });
        assert_eq!(value, expected);
    }
}

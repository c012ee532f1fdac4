//! From what an agent says of a failed model call to the kind of failure, and to how long the API wants to be left alone.

use std::time::Duration;

use crate::model::error_kind::ErrorKind;

/// What an agent's output says of how it ended, where that is a failure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The kind.
    pub kind: ErrorKind,
    /// Its words, shortened.
    pub message: String,
    /// How long to wait before trying again, where it said.
    pub retry_after: Option<Duration>,
    /// What it takes to be believed.
    pub weight: Weight,
}

/// What it takes to believe a verdict: a good result must not be thrown away for a line that only looks like one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weight {
    /// The agent is known to exit with 0 after it has said so.
    Alone,
    /// Only with a failing exit code, which it then explains.
    WithExitCode,
}

/// Longest part of an agent's words that is kept.
const MOST_CHARS: usize = 300;

impl Verdict {
    /// A failure that is no API's.
    pub fn new(kind: ErrorKind, message: &str) -> Self {
        let retry_after = retry_after(message);
        Self { kind, message: shorten(message), retry_after, weight: Weight::Alone }
    }

    /// The same, to be believed only with a failing exit code.
    #[must_use]
    pub fn with_exit_code(mut self) -> Self {
        self.weight = Weight::WithExitCode;
        self
    }

    /// Judged by the HTTP status, where there is one, else by the words.
    pub fn of_error(status: Option<u16>, message: &str) -> Self {
        Self::new(kind_of(status, message), message)
    }
}

fn shorten(message: &str) -> String {
    let one_line = message.split_whitespace().collect::<Vec<_>>().join(" ");
    match one_line.char_indices().nth(MOST_CHARS) {
        Some((at, _)) => format!("{}…", &one_line[..at]),
        None => one_line,
    }
}

fn kind_of(status: Option<u16>, message: &str) -> ErrorKind {
    let words = message.to_ascii_lowercase();
    let says = |any: &[&str]| any.iter().any(|word| words.contains(word));
    match status.or_else(|| status_in(&words)) {
        Some(401 | 403) => return ErrorKind::ApiAuth,
        Some(429) => return ErrorKind::ApiRateLimit,
        Some(500..=599) => return ErrorKind::ApiOverloaded,
        _ => {}
    }
    if says(&["empty response", "no response text", "empty reply"]) {
        ErrorKind::EmptyOutput
    } else if says(&["authenticat", "unauthorized", "api key", "api_key", "not logged in", "login required"]) {
        ErrorKind::ApiAuth
    } else if says(&["ratelimit", "rate limit", "rate_limit", "too many requests", "quota", "usage limit"]) {
        ErrorKind::ApiRateLimit
    } else if says(&["overloaded", "unavailable", "internalservererror", "internal server error", "capacity"]) {
        ErrorKind::ApiOverloaded
    } else if says(&[
        "stream disconnected",
        "stream ended",
        "finish reason",
        "connection error",
        "connection reset",
        "apiconnectionerror",
        "error decoding response",
        "socket hang up",
        "terminated",
        "premature",
        "incomplete",
    ]) {
        ErrorKind::ApiStreamCut
    } else {
        ErrorKind::AgentReported
    }
}

/// A three-digit HTTP error that stands alone behind a word that announces one, or at the very beginning.
fn status_in(words: &str) -> Option<u16> {
    const BEFORE: [&str; 8] = ["status", "code", "error", "http", "status_code", "statuscode", "api", "error:"];
    let mut before = "";
    for (at, word) in words.split([' ', ':', '(', ')', '[', ']', ',', '"', '=', '\n', '{', '}']).enumerate() {
        if word.is_empty() {
            continue;
        }
        let is_number = word.len() == 3 && word.bytes().all(|byte| byte.is_ascii_digit());
        if is_number
            && (at == 0 || BEFORE.contains(&before.trim_end_matches('.')))
            && let Ok(status @ 400..=599) = word.parse()
        {
            return Some(status);
        }
        before = word;
    }
    None
}

/// `retry-after: 30`, `"retry_after": 30`, `try again in 1.5s`, `retry in 20 seconds`.
fn retry_after(message: &str) -> Option<Duration> {
    const MOST: f64 = 24.0 * 60.0 * 60.0;
    let words = message.to_ascii_lowercase();
    let found = ["retry-after", "retry_after", "retry after", "retryafter", "try again in", "retry in", "retrying in"]
        .iter()
        .find_map(|word| words.find(word).map(|at| &words[at + word.len()..]))?;
    let rest = found.trim_start_matches(|one: char| !one.is_ascii_alphanumeric());
    let end = rest.find(|one: char| !one.is_ascii_digit() && one != '.').unwrap_or(rest.len());
    let number: f64 = rest[..end].trim_end_matches('.').parse().ok()?;
    let unit = rest[end..].trim_start();
    let word = unit.split(|one: char| !one.is_ascii_alphabetic()).next().unwrap_or_default();
    let factor = match word {
        "ms" | "millisecond" | "milliseconds" => 0.001,
        "m" | "min" | "mins" | "minute" | "minutes" => 60.0,
        "h" | "hour" | "hours" => 3600.0,
        "d" | "day" | "days" => 86_400.0,
        _ => 1.0,
    };
    let seconds = number * factor;
    (seconds > 0.0 && seconds <= MOST).then(|| Duration::from_secs_f64(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_codes_of_real_agents_are_told_apart() {
        let cases = [
            ("unexpected status 401 Unauthorized: stub: status 401, url: http://x/v1/responses", ErrorKind::ApiAuth),
            ("[API Error: 401 stub: status 401]", ErrorKind::ApiAuth),
            ("401 stub: status 401", ErrorKind::ApiAuth),
            ("Error: Error code: 429 - slow down", ErrorKind::ApiRateLimit),
            ("litellm.RateLimitError: RateLimitError: OpenAIException", ErrorKind::ApiRateLimit),
            ("API Error: 529 {\"type\":\"overloaded_error\"}", ErrorKind::ApiOverloaded),
            ("Model stream ended without a finish reason.", ErrorKind::ApiStreamCut),
            ("stream disconnected before completion: Transport error", ErrorKind::ApiStreamCut),
            ("Connection error.", ErrorKind::ApiStreamCut),
            ("Model stream ended with empty response text.", ErrorKind::EmptyOutput),
            ("I could not find file 401 in the list of 500 names", ErrorKind::AgentReported),
        ];
        for (words, kind) in cases {
            assert_eq!(Verdict::of_error(None, words).kind, kind, "{words}");
        }
        assert_eq!(Verdict::of_error(Some(503), "x").kind, ErrorKind::ApiOverloaded);
    }

    #[test]
    fn what_the_api_asks_for_is_waited() {
        let after = |words| Verdict::of_error(None, words).retry_after;
        assert_eq!(after("429: please try again in 1.5s"), Some(Duration::from_millis(1500)));
        assert_eq!(after("{\"retry-after\": \"30\"}"), Some(Duration::from_secs(30)));
        assert_eq!(after("Rate limit reached, try again in 250ms."), Some(Duration::from_millis(250)));
        assert_eq!(after("retry after 2 minutes"), Some(Duration::from_secs(120)));
        assert_eq!(after("retry after some rest"), None);
        assert_eq!(after("retry after 99999999999 hours"), None);
        assert_eq!(after("try again in 3 days 4 hours"), None, "longer than anybody waits");
        assert_eq!(after("retry after 20 or so"), Some(Duration::from_secs(20)));
    }
}

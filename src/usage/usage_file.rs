//! The generic usage file (`$AGENTGUARD_USAGE`): JSON lines that an agent or a script around it may append.
//!
//! `{"input_tokens": 12, "output_tokens": 3, "cost_usd": 0.01, "model": "m"}`; every field is optional. A line that
//! is no such object, or whose figures are negative, says nothing: unknown is null, never zero.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use serde::Deserialize;

use crate::model::record::Usage;

/// What a usage file said.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Reported {
    /// Tokens; `None` if no line had any.
    pub usage: Option<Usage>,
    /// US dollars; `None` if no line had any.
    pub cost_usd: Option<f64>,
}

#[derive(Deserialize)]
struct Line {
    input_tokens: Option<u64>,
    cached_input_tokens: Option<u64>,
    cache_write_tokens: Option<u64>,
    output_tokens: Option<u64>,
    reasoning_tokens: Option<u64>,
    cost_usd: Option<f64>,
    model: Option<String>,
}

/// No honest usage file is larger; the rest of one that is is not read.
const MOST_BYTES: u64 = 64 * 1024 * 1024;

/// Reads a usage file. One that is missing says nothing.
pub fn read(path: &Path) -> Reported {
    let regular = path.symlink_metadata().is_ok_and(|metadata| metadata.is_file());
    let Some(file) = regular.then(|| std::fs::File::open(path).ok()).flatten() else { return Reported::default() };
    let mut reported = Reported::default();
    for line in BufReader::new(file.take(MOST_BYTES)).split(b'\n') {
        let Ok(line) = line else { break };
        if let Ok(line) = serde_json::from_slice::<Line>(&line) {
            reported.take(line);
        }
    }
    if let Some(usage) = &mut reported.usage {
        usage.models.sort();
        usage.models.dedup();
    }
    reported
}

impl Reported {
    fn take(&mut self, line: Line) {
        if let Some(cost) = line.cost_usd.filter(|cost| cost.is_finite() && *cost >= 0.0) {
            self.cost_usd = Some(self.cost_usd.unwrap_or(0.0) + cost);
        }
        let figures = [line.input_tokens, line.cached_input_tokens, line.cache_write_tokens, line.output_tokens];
        if figures.iter().all(Option::is_none) {
            return;
        }
        let usage = self.usage.get_or_insert_with(|| Usage { source: "usage_file".to_owned(), ..Usage::default() });
        let add = |sum: &mut u64, more: Option<u64>| *sum = sum.saturating_add(more.unwrap_or(0));
        add(&mut usage.input_uncached, line.input_tokens);
        add(&mut usage.input_cached, line.cached_input_tokens);
        add(&mut usage.cache_write, line.cache_write_tokens);
        add(&mut usage.output, line.output_tokens);
        if let Some(reasoning) = line.reasoning_tokens {
            add(usage.reasoning.get_or_insert(0), Some(reasoning));
        }
        add(usage.calls.get_or_insert(0), Some(1));
        usage.models.extend(line.model);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reported(text: &str) -> Reported {
        let dir = tempfile::tempdir().expect("temporary directory");
        let path = dir.path().join("usage.jsonl");
        std::fs::write(&path, text).expect("write");
        read(&path)
    }

    #[test]
    fn lines_add_up_and_what_says_nothing_stays_unknown() {
        assert_eq!(read(Path::new("/nonexistent/usage")), Reported::default());
        assert_eq!(reported("garbage\n{\"input_tokens\":-1}\n{\"input_tok"), Reported::default());
        let two = reported(
            "{\"input_tokens\":10,\"output_tokens\":2,\"model\":\"b\"}\n{\"input_tokens\":5,\"cost_usd\":0.5,\"model\":\"a\"}\n",
        );
        let usage = two.usage.expect("figures");
        assert_eq!((usage.input_uncached, usage.output, usage.calls, usage.tokens()), (15, 2, Some(2), Some(17)));
        assert_eq!(usage.models, ["a", "b"]);
        assert_eq!(two.cost_usd, Some(0.5));
        let cost_only = reported("{\"cost_usd\":0.25}\n");
        assert_eq!((cost_only.usage, cost_only.cost_usd), (None, Some(0.25)));
    }
}

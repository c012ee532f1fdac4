//! The generic usage file (`$AGENTGUARD_USAGE`): JSON lines that an agent or a script around it may append.
//!
//! `{"input_tokens": 12, "output_tokens": 3, "cost_usd": 0.01, "model": "m"}`; every field is optional. A line that
//! is no such object, or whose figures are negative, says nothing: unknown is null, never zero.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use serde::Deserialize;

use crate::model::Tokens;

use super::figures::{Entry, Figures};

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

/// Reads a usage file. One that is missing, or has no figure, says nothing.
pub fn read(path: &Path) -> Option<Figures> {
    let regular = path.symlink_metadata().is_ok_and(|metadata| metadata.is_file());
    let file = regular.then(|| File::open(path).ok()).flatten()?;
    let mut figures = Figures { exact: true, ..Figures::default() };
    let (mut with_cost, mut without) = (0_u64, 0_u64);
    for line in BufReader::new(file.take(MOST_BYTES)).split(b'\n') {
        let Ok(line) = line else { break };
        match serde_json::from_slice::<Line>(&line) {
            Ok(line) => {
                let has_tokens = line.input_tokens.is_some() || line.output_tokens.is_some();
                *(if line.cost_usd.is_some() { &mut with_cost } else { &mut without }) += u64::from(has_tokens);
                take(&mut figures, line);
            }
            // What cannot be read may have been a figure.
            Err(_) if !line.trim_ascii().is_empty() => figures.exact = false,
            Err(_) => {}
        }
    }
    // The cost of some calls is not that of all: the table knows, or nobody.
    if with_cost > 0 && without > 0 {
        figures.cost_usd = None;
    }
    (!figures.entries.is_empty() || figures.cost_usd.is_some()).then_some(figures)
}

fn take(figures: &mut Figures, line: Line) {
    if let Some(cost) = line.cost_usd.filter(|cost| cost.is_finite() && *cost >= 0.0) {
        figures.cost_usd = Some(figures.cost_usd.unwrap_or(0.0) + cost);
    }
    let told = [line.input_tokens, line.cached_input_tokens, line.cache_write_tokens, line.output_tokens];
    if told.iter().all(Option::is_none) {
        return;
    }
    let [input_uncached, input_cached, cache_write, output] = told.map(Option::unwrap_or_default);
    let reasoning = line.reasoning_tokens;
    let tokens = Tokens { input_uncached, input_cached, cache_write, output, reasoning, ..Tokens::default() };
    figures.calls = Some(figures.calls.unwrap_or(0).saturating_add(1));
    figures.entries.push(Entry { model: line.model, tokens, calls: Some(1) });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reported(text: &str) -> Option<Figures> {
        let dir = tempfile::tempdir().expect("temporary directory");
        let path = dir.path().join("usage.jsonl");
        std::fs::write(&path, text).expect("write");
        read(&path)
    }

    #[test]
    fn lines_add_up_and_what_says_nothing_stays_unknown() {
        assert_eq!(read(Path::new("/nonexistent/usage")), None);
        assert_eq!(reported("garbage\n{\"input_tokens\":-1}\n{\"input_tok"), None);
        let two = reported(
            "{\"input_tokens\":10,\"output_tokens\":2,\"model\":\"b\"}\n{\"input_tokens\":5,\"cost_usd\":0.5,\"model\":\"a\"}\n",
        );
        let two = two.expect("figures");
        let usage = two.usage("usage_file");
        assert_eq!((usage.input_uncached, usage.output, usage.calls, usage.tokens()), (15, 2, Some(2), Some(17)));
        assert_eq!((usage.models, usage.exact), (vec!["a".to_owned(), "b".to_owned()], true));
        assert_eq!(two.cost_usd, None, "the cost of one call is not that of both");
        let both = reported("{\"input_tokens\":10,\"cost_usd\":0.25}\n{\"input_tokens\":5,\"cost_usd\":0.5}\n");
        assert_eq!(both.expect("figures").cost_usd, Some(0.75));
        let cost_only = reported("{\"cost_usd\":0.25}\n").expect("a cost");
        assert_eq!((cost_only.tokens().total(), cost_only.cost_usd), (Some(0), Some(0.25)));
    }
}

//! Failures that somebody has acknowledged: JSON lines in `acks.jsonl`, each with a `run_id`.

use std::collections::HashSet;
use std::io;

use serde::Deserialize;

use crate::model::RunId;

use super::state_dir::StateDir;

const NAME: &str = "acks.jsonl";

#[derive(Deserialize)]
struct Ack {
    run_id: RunId,
}

/// The runs that were acknowledged. A line that is none acknowledges nothing.
pub fn read(state: &StateDir) -> io::Result<HashSet<RunId>> {
    let text = match std::fs::read(state.path().join(NAME)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(HashSet::new()),
        read => read?,
    };
    let lines = text.split(|byte| *byte == b'\n');
    Ok(lines.filter_map(|line| serde_json::from_slice::<Ack>(line).ok()).map(|ack| ack.run_id).collect())
}

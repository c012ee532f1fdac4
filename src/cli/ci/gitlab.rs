//! GitLab CI: the run is a section of the job's log, which the page shows with its duration and can fold away.

use super::write;
use crate::cmd::render::{escape, truncate};
use crate::sys::clock;

/// Columns of the section's title.
const TITLE: usize = 80;

/// A section that is closed when this is dropped.
#[derive(Debug)]
pub(super) struct Section {
    name: String,
}

impl Section {
    pub(super) fn open(agent: &str) -> Self {
        // Two of one name would be one: the name is random.
        let random = u64::from_le_bytes(clock::random());
        let name = format!("agentguard_{random:016x}");
        let title = truncate(&escape(agent.as_bytes()), TITLE);
        write(&format!("\x1b[0Ksection_start:{}:{name}\r\x1b[0Kagentguard run {title}\n", seconds()));
        Self { name }
    }
}

impl Drop for Section {
    fn drop(&mut self) {
        // On a line of its own, whatever was printed last.
        write(&format!("\n\x1b[0Ksection_end:{}:{}\r\x1b[0K\n", seconds(), self.name));
    }
}

fn seconds() -> i64 {
    clock::now().unix_micros().div_euclid(1_000_000)
}

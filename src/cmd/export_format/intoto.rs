//! Runs as in-toto Statements (v1) with the predicate link (v0.3): what was run, on which materials, with which result.
//! Unsigned: `cosign attest-blob` and the like sign a line.
//!
//! Subjects are the files that the run published, and always the run's own line of the log, whose SHA-256 is what the
//! line after it has as `prev`: a statement needs a subject, and a run that published nothing vouches for no file.
//! Materials are the files of its input snapshot. Where the run's directory is gone there are only the hashes of the
//! listings, under the digest name `agentguardTree`.

use std::io::{self, Write};

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::Export;
use crate::cmd::render::escape;
use crate::cmd::replay::snapshot_of;
use crate::model::{Digest, EntryKind, RunRecord};
use crate::rules::standing::{Standing, standing};
use crate::store::run_dir::RunDir;
use crate::store::snapshot::{Manifest, SnapshotStore};
use crate::store::state_dir::StateDir;
use crate::store::{change_set, journal, outputs};

/// Writes statements.
pub(super) struct InToto {
    state: Option<StateDir>,
}

impl InToto {
    pub(super) fn new(state: Option<StateDir>) -> Self {
        Self { state }
    }

    /// The files that the run published; `None` where that is not known any more.
    fn published(&self, run: &RunRecord) -> Option<Vec<Value>> {
        let dir = RunDir::of(self.state.as_ref()?, run.run_id);
        if let Some(changes) = change_set::read(&dir).ok()? {
            let files = changes.paths.iter().filter_map(|changed| {
                let side = changed.after.filter(|side| side.kind == EntryKind::File)?;
                Some(resource(&changed.path.0, side.digest?))
            });
            return Some(files.collect());
        }
        Some(files_of(&outputs::read(&dir).ok()??))
    }

    /// The files that the run read; `None` where that is not known any more.
    fn materials(&self, run: &RunRecord) -> Option<Vec<Value>> {
        let state = self.state.as_ref()?;
        let snapshot = snapshot_of(state, run.run_id).ok()??;
        Some(files_of(&SnapshotStore::at(state.path()).load(&snapshot).ok()?))
    }

    /// Whether the result is in place: published when it ended, or applied since.
    fn is_published(&self, run: &RunRecord) -> bool {
        let applied = || {
            let dir = RunDir::of(self.state.as_ref()?, run.run_id);
            let events = journal::read(&dir.journal()).ok()?;
            Some(matches!(standing(&events), Standing::Applied(_)))
        };
        run.published || applied().unwrap_or(false)
    }

    fn statement(&self, line: &[u8], run: &RunRecord) -> Value {
        let is_published = self.is_published(run);
        let mut whole_line = Sha256::new();
        whole_line.update(line);
        whole_line.update(b"\n");
        let line_digest = Digest(whole_line.finalize().into());
        let mut subject = vec![resource(format!("runs.jsonl#{}", run.run_id).as_bytes(), line_digest)];
        if is_published {
            subject.extend(self.published(run).unwrap_or_else(|| tree("outputs", run.output_hash)));
        }
        let materials = self.materials(run).unwrap_or_else(|| tree("inputs", run.input_hash));
        json!({
            "_type": "https://in-toto.io/Statement/v1",
            "subject": subject,
            "predicateType": "https://in-toto.io/attestation/link/v0.3",
            "predicate": {
                "name": escape(&run.agent.0),
                "command": run.command.iter().map(|word| escape(&word.0)).collect::<Vec<_>>(),
                "materials": materials,
                "byproducts": byproducts(run, is_published),
                "environment": environment(run),
            },
        })
    }
}

impl Export for InToto {
    fn add(&mut self, line: &[u8], record: &RunRecord, out: &mut dyn Write) -> io::Result<()> {
        serde_json::to_writer(&mut *out, &self.statement(line, record))?;
        out.write_all(b"\n")
    }
}

fn byproducts(run: &RunRecord, is_published: bool) -> Value {
    json!({
        "run_id": run.run_id,
        "start_time": run.start_time,
        "end_time": run.end_time,
        "status": run.status,
        "error_class": run.error_class,
        "error_kind": run.error.as_ref().map(|error| error.kind),
        "published": is_published,
        "return-value": run.exit_code,
        "signal": run.signal,
        "guard_exit_code": run.guard_exit_code,
        "attempts": run.attempts.len(),
        "verify": run.verify.iter().map(|verify| {
            json!({"command": escape(&verify.command.0), "exit_code": verify.exit_code})
        }).collect::<Vec<_>>(),
        "tokens_used": run.tokens_used,
        "cost_usd": run.cost_usd,
        "models": run.usage.as_ref().map(|usage| &usage.models),
        "input_hash": run.input_hash,
        "output_hash": run.output_hash,
        "replay_of": run.replay_of,
        "redrive_of": run.redrive_of,
    })
}

fn environment(run: &RunRecord) -> Value {
    json!({
        "agentguard": run.agentguard,
        "host": escape(&run.host.0),
        "cwd": escape(&run.cwd.0),
        "isolation": run.isolation,
        "git": run.git,
    })
}

fn files_of(manifest: &Manifest) -> Vec<Value> {
    let entries = manifest.entries().iter().enumerate().filter(|(_, entry)| entry.kind == EntryKind::File);
    entries.map(|(index, entry)| resource(&manifest.path_of(index), entry.digest)).collect()
}

/// A name is a string: bytes that are none are spelled out, and backslashes doubled, so that names stay apart.
fn resource(name: &[u8], digest: Digest) -> Value {
    json!({"name": escape(name), "digest": {"sha256": digest}})
}

/// What stands for files that are not known by name any more.
fn tree(name: &str, hash: Option<Digest>) -> Vec<Value> {
    hash.map(|hash| json!({"name": name, "digest": {"agentguardTree": hash}})).into_iter().collect()
}

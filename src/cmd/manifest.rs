//! `agentguard show RUN --manifest` and `--stdout`, `--stderr`: what a run read, wrote and printed.
//!
//! The manifest is printed as `sha256sum -c` lines; with `--listing` as the raw bytes that `input_hash` and
//! `output_hash` are the SHA-256 of.

use std::io::{self, Write};

use anyhow::{Context as _, bail};

use crate::model::change::ChangeSet;
use crate::model::event::Event;
use crate::model::{Digest, EntryKind, RunId};
use crate::run::snapshot::listing_with_stdin;
use crate::store::capture;
use crate::store::change_set;
use crate::store::journal;
use crate::store::outputs;
use crate::store::run_dir::RunDir;
use crate::store::snapshot::{Manifest, SnapshotStore};
use crate::store::state_dir::StateDir;

use super::replay::snapshot_of;

/// Which side of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// What it read.
    Inputs,
    /// What it staged.
    Outputs,
}

/// Which captured stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// Prints a captured stream, byte for byte; a line says how much was not kept, if anything was not.
pub fn stream(state: &StateDir, run_id: RunId, which: Stream, out: &mut dyn Write) -> anyhow::Result<()> {
    let dir = kept(state, run_id)?;
    let name = match which {
        Stream::Stdout => "stdout",
        Stream::Stderr => "stderr",
    };
    let total = journal::read(&dir.journal())?.iter().rev().find_map(|event| match (event, which) {
        (Event::AttemptEnded(end), Stream::Stdout) => Some(end.stdout_bytes),
        (Event::AttemptEnded(end), Stream::Stderr) => Some(end.stderr_bytes),
        _ => None,
    });
    match capture::copy_to(&dir.join(name), total, out) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => bail!("run {run_id} has no captured {name}"),
        other => other.with_context(|| format!("cannot print {:?}", dir.join(name))),
    }
}

/// The directory of a run of the log, if it is there.
fn kept(state: &StateDir, run_id: RunId) -> anyhow::Result<RunDir> {
    let dir = RunDir::of(state, run_id);
    if !dir.exists() {
        bail!("run {run_id} is in the log and its directory {:?} is gone (`gc` removes old ones)", dir.path());
    }
    Ok(dir)
}

/// What is known of one side.
enum Listed {
    /// Trees.
    Trees(Manifest),
    /// What was changed below a workspace.
    Changes(ChangeSet),
}

/// The manifest of one side; `None` if the run has none.
fn load(state: &StateDir, run_id: RunId, side: Side) -> anyhow::Result<Option<Listed>> {
    let dir = kept(state, run_id)?;
    match side {
        Side::Inputs => {
            let Some(snapshot) = snapshot_of(state, run_id)? else { return Ok(None) };
            Ok(Some(Listed::Trees(SnapshotStore::at(state.path()).load(&snapshot)?)))
        }
        Side::Outputs => match change_set::read(&dir)? {
            Some(changes) => Ok(Some(Listed::Changes(changes))),
            None => Ok(outputs::read(&dir)?.map(Listed::Trees)),
        },
    }
}

/// Prints `sha256sum -c` lines: one per regular file, sorted by path.
pub fn checksums(state: &StateDir, run_id: RunId, side: Side, out: &mut dyn Write) -> anyhow::Result<()> {
    let Some(listed) = load(state, run_id, side)? else { bail!("run {run_id} has no such manifest") };
    match listed {
        Listed::Trees(manifest) => {
            for (index, entry) in manifest.entries().iter().enumerate() {
                if entry.kind == EntryKind::File {
                    checksum(entry.digest, &manifest.path_of(index), out)?;
                }
            }
        }
        Listed::Changes(changes) => {
            for changed in &changes.paths {
                let file = changed.after.filter(|side| side.kind == EntryKind::File);
                if let Some(digest) = file.and_then(|side| side.digest) {
                    checksum(digest, &changed.path.0, out)?;
                }
            }
        }
    }
    Ok(())
}

fn checksum(digest: Digest, path: &[u8], out: &mut dyn Write) -> io::Result<()> {
    let (escaped, name) = sum_name(path);
    out.write_all(if escaped { b"\\" } else { b"" })?;
    write!(out, "{digest}  ")?;
    out.write_all(&name)?;
    out.write_all(b"\n")
}

/// A name as `sha256sum` writes it: backslash, newline and carriage return escaped, and the line marked.
fn sum_name(name: &[u8]) -> (bool, Vec<u8>) {
    let mut escaped = Vec::with_capacity(name.len());
    for byte in name {
        match byte {
            b'\\' => escaped.extend_from_slice(b"\\\\"),
            b'\n' => escaped.extend_from_slice(b"\\n"),
            b'\r' => escaped.extend_from_slice(b"\\r"),
            byte => escaped.push(*byte),
        }
    }
    (escaped.len() != name.len(), escaped)
}

/// Prints the raw listing: of the roots (its SHA-256 is the run's hash), or of one directory.
pub fn listing(
    state: &StateDir,
    run_id: RunId,
    side: Side,
    directory: Option<&std::ffi::OsStr>,
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    let Some(listed) = load(state, run_id, side)? else { bail!("run {run_id} has no such manifest") };
    let manifest = match listed {
        Listed::Trees(manifest) => manifest,
        Listed::Changes(changes) if directory.is_none() => {
            out.write_all(&changes.listing())?;
            return Ok(());
        }
        Listed::Changes(_) => bail!("the changes of run {run_id} are one list: --listing takes no directory"),
    };
    let bytes = match directory {
        None if side == Side::Inputs => with_recorded_stdin(state, run_id, manifest.root_listing())?,
        None => manifest.root_listing(),
        Some(directory) => manifest
            .listing_of(directory.as_encoded_bytes())
            .with_context(|| format!("the manifest has no directory {directory:?}"))?,
    };
    out.write_all(&bytes)?;
    Ok(())
}

/// Standard input is a root like the others, known from the attempt that read it.
fn with_recorded_stdin(state: &StateDir, run_id: RunId, roots: Vec<u8>) -> anyhow::Result<Vec<u8>> {
    let journal = journal::read(&RunDir::of(state, run_id).journal())?;
    let stdin = journal.iter().rev().find_map(|event| match event {
        Event::AttemptEnded(end) => end.stdin,
        _ => None,
    });
    Ok(match stdin.and_then(|stdin| stdin.digest.map(|digest| (digest, stdin.size))) {
        Some((digest, size)) => listing_with_stdin(&roots, digest, size),
        None => roots,
    })
}

#[cfg(test)]
mod tests {
    use super::sum_name;

    #[test]
    fn names_are_escaped_as_sha256sum_does() {
        assert_eq!(sum_name(b"plain"), (false, b"plain".to_vec()));
        assert_eq!(sum_name(b"a\nb\\c\r"), (true, b"a\\nb\\\\c\\r".to_vec()));
    }
}

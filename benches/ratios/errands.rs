//! What this program does as another process: library calls that are timed like the commands they stand beside, and
//! corpora, which are made elsewhere so that this program stays small. (The kernel starts a child's peak memory at
//! its parent's size.)

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{BufWriter, Write as _};
use std::path::Path;
use std::process::Command;

use agentguard::model::{Digest, RunId, RunRecord, Text, Timestamp};
use agentguard::store::log::RunLog;
use agentguard::store::snapshot::{CapturePolicy, CaptureRoot, SnapshotStore};
use agentguard::store::state_dir::StateDir;
use agentguard::view::clone_copy::{self, Hollow, LeftOut};
use anyhow::{Context as _, bail, ensure};
use sha2::Digest as _;

use crate::corpus;

/// The errand among the arguments, if there is one.
pub(crate) fn asked_for(arguments: &[OsString]) -> Option<(&str, &[OsString])> {
    let (first, rest) = arguments.split_first()?;
    Some((first.to_str()?.strip_prefix("__")?, rest))
}

/// Does one errand.
pub(crate) fn run(errand: &str, arguments: &[OsString]) -> anyhow::Result<()> {
    let number = |at: usize| -> anyhow::Result<u64> {
        let text = arguments.get(at).with_context(|| format!("{errand}: argument {at}"))?;
        Ok(text.to_string_lossy().parse()?)
    };
    let path = Path::new(arguments.first().context("a path")?);
    match errand {
        "tree" => corpus::tree(path, number(1)?, number(2)?, number(3)?),
        "random_file" => corpus::random_file(path, number(1)?, 11),
        "records" => records(path, number(1)?),
        "snapshot" => snapshot(path, Path::new(&arguments[1]), arguments.get(2).is_some_and(|word| word == "new")),
        "edit" => edit(path, number(1)?),
        "clone" => clone(path, Path::new(&arguments[1])),
        "append" => append(path, number(1)?, number(2)?),
        "append_plainly" => append_plainly(path, number(1)?),
        _ => bail!("no errand {errand}"),
    }
}

/// Captures one tree as `run --input` does, and makes sure that it was the kind of capture that was to be timed.
fn snapshot(state: &Path, tree: &Path, is_new: bool) -> anyhow::Result<()> {
    let project = tree.parent().context("the tree lies in a directory")?;
    let name = Text::from(tree.strip_prefix(project)?);
    let roots = [CaptureRoot { name, path: tree.to_path_buf() }];
    let captured = SnapshotStore::at(state).capture(project, &roots, &CapturePolicy::default(), &|_| {})?;
    ensure!((captured.new_bytes > 0) == is_new, "{} new bytes", captured.new_bytes);
    Ok(())
}

/// Appends a line to the first so many files of a tree, by their paths.
fn edit(tree: &Path, count: u64) -> anyhow::Result<()> {
    let is_theirs =
        |entry: &walkdir::DirEntry| !entry.file_name().to_string_lossy().starts_with('.') || entry.depth() == 0;
    let line = format!("edited {:?}\n", std::time::SystemTime::now());
    let mut left = count;
    for entry in walkdir::WalkDir::new(tree).sort_by_file_name().into_iter().filter_entry(is_theirs) {
        let entry = entry?;
        if left == 0 {
            break;
        }
        if entry.file_type().is_file() && entry.file_name() != "agentguard.toml" {
            File::options().append(true).open(entry.path())?.write_all(line.as_bytes())?;
            left -= 1;
        }
    }
    ensure!(left == 0, "{left} files too few");
    Ok(())
}

/// Makes the private copy of a clone view.
fn clone(from: &Path, to: &Path) -> anyhow::Result<()> {
    clone_copy::make(from, to, &LeftOut::default(), Hollow::Mounted, |_| Ok(()))?;
    Ok(())
}

/// The id of a record that [`records`] makes.
pub(crate) fn record_id(number: u64) -> RunId {
    let mut random = [0_u8; 10];
    random[2..].copy_from_slice(&(number + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15).to_be_bytes());
    RunId::mint(start_millis(number), random)
}

fn start_millis(number: u64) -> u64 {
    1_764_000_000_000 + number * 1500
}

/// The agent of one run in ten thousand.
pub(crate) const RARE_AGENT: &str = "quarterly";

/// A record like that of a small real run.
fn record() -> anyhow::Result<RunRecord> {
    let hash = "6a9f2c1e".repeat(8);
    serde_json::from_value(serde_json::json!({
        "run_id": record_id(0), "start_time": Timestamp::from_unix_micros(0), "end_time": Timestamp::from_unix_micros(0),
        "status": "succeeded", "input_hash": hash, "output_hash": hash, "tokens_used": 41_532, "cost_usd": null,
        "error_class": null, "schema": 1, "agent": "nightly", "command": ["python3", "-m", "agent", "--task"],
        "cwd": "/home/user/project", "mode": "publish", "targets": ["reports"], "published": true, "exit_code": 0,
        "signal": null, "guard_exit_code": 0, "error": null, "attempts": [], "verify": [], "changes": null,
        "discarded": null, "leaked_processes": null, "usage": null, "cost_source": null,
        "isolation": {"view": "staging", "level": "none", "landlock_abi": null, "network": "host"},
        "input_drift": null, "needs": [], "labels": {}, "parent_run_id": null, "replay_of": null, "redrive_of": null,
        "host": "host", "user": "user", "agentguard": "0.1.0", "git": null, "prev": null
    }))
    .context("the record's shape has changed")
}

/// A state directory with that many runs in its log, chained.
fn records(state: &Path, count: u64) -> anyhow::Result<()> {
    StateDir::open_or_create(state)?;
    let mut out = BufWriter::with_capacity(1 << 20, File::create(RunLog::at(state).path())?);
    let mut record = record()?;
    for number in 0..count {
        let micros = |millis: u64| i64::try_from(millis * 1000).map(Timestamp::from_unix_micros);
        record.run_id = record_id(number);
        record.agent = if number % 10_000 == 0 { RARE_AGENT } else { "nightly" }.into();
        record.start_time = micros(start_millis(number))?;
        record.end_time = micros(start_millis(number) + 1400)?;
        let mut line = serde_json::to_vec(&record)?;
        line.push(b'\n');
        record.prev = Some(Digest(sha2::Sha256::digest(&line).into()));
        out.write_all(&line)?;
    }
    Ok(out.flush()?)
}

/// Adds `count` durable records to the log of a state directory, shared among so many processes.
fn append(state: &Path, count: u64, processes: u64) -> anyhow::Result<()> {
    if processes <= 1 {
        let (log, mut record) = (RunLog::at(state), record()?);
        return (0..count).try_for_each(|_| log.append(&mut record).map(drop).map_err(Into::into));
    }
    let share = (count / processes).to_string();
    let mut writers = Vec::new();
    for _ in 0..processes {
        let mut writer = Command::new(std::env::current_exe()?);
        writers.push(writer.arg("__append").arg(state).args([&share, "1"]).spawn()?);
    }
    writers.into_iter().try_for_each(|mut writer| {
        ensure!(writer.wait()?.success(), "a writer failed");
        Ok(())
    })
}

/// The same lines with nothing around them: no lock, no chain, each flushed before the next.
fn append_plainly(file: &Path, count: u64) -> anyhow::Result<()> {
    let record = RunRecord { prev: Some(Digest([7; 32])), ..record()? };
    let mut out = fs::OpenOptions::new().append(true).create(true).open(file)?;
    for _ in 0..count {
        let mut line = serde_json::to_vec(&record)?;
        line.push(b'\n');
        out.write_all(&line)?;
        out.sync_data()?;
    }
    Ok(())
}

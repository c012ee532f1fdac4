//! The run log's operations as one program each, to be timed by an interleaving timer beside `tail`, `rg` and others.
//!
//! ```text
//! run_log gen DIR N           a log of N records in DIR, hash chain included; prints the id of one in the middle
//! run_log log DIR N           the N newest as a table
//! run_log jsonl DIR N         the N newest as they are stored
//! run_log scan DIR            no run at all, having looked at every one for its status
//! run_log show DIR RUN        one run
//! run_log find DIR RUN        the stored line of one run
//! run_log check DIR           the whole chain
//! run_log append DIR N P      N durable lines by P processes; prints lines per second
//! ```

use std::io::{BufWriter, Write as _};
use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::Instant;

use agentguard::cmd::log::{LogFormat, LogRequest, log};
use agentguard::cmd::render::Paint;
use agentguard::cmd::show::{ShowRequest, ShowWhat, show};
use agentguard::model::error_kind::{ErrorClass, ErrorKind, Failure, Status};
use agentguard::model::record::{Isolation, Mode, RECORD_SCHEMA, RunRecord};
use agentguard::model::{Digest, RunId, Timestamp};
use agentguard::rules::filter::RunFilters;
use agentguard::store::log::RunLog;
use anyhow::{Context as _, bail};
use sha2::Digest as _;

/// A record like that of a small real run, and 1.5 s after the one before.
fn record(number: u64) -> RunRecord {
    let bits = number.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let start = 1_764_000_000_000 + number * 1500;
    let mut random = [0_u8; 10];
    random[2..].copy_from_slice(&bits.to_be_bytes());
    let digest = |salt: u64| Some(Digest(sha2::Sha256::digest((bits ^ salt).to_be_bytes()).into()));
    let micros = |millis: u64| Timestamp::from_unix_micros(i64::try_from(millis * 1000).unwrap_or(0));
    let failed = number % 23 == 22;
    RunRecord {
        run_id: RunId::mint(start, random),
        start_time: micros(start),
        end_time: micros(start + 1400),
        status: if failed { Status::Failed } else { Status::Succeeded },
        input_hash: digest(1),
        output_hash: digest(2),
        tokens_used: Some(bits % 50_000),
        cost_usd: None,
        error_class: failed.then_some(ErrorClass::CleanAbort),
        schema: RECORD_SCHEMA,
        agent: format!("agent-{}", bits % 17).into(),
        command: ["python3", "-m", "agent", "--task"].map(Into::into).to_vec(),
        cwd: "/home/user/project".into(),
        mode: Mode::Publish,
        targets: vec!["reports".into()],
        published: !failed,
        exit_code: Some(i32::from(failed)),
        signal: None,
        guard_exit_code: Some(i32::from(failed)),
        error: failed.then(|| Failure::new(ErrorKind::ExitCode, "the agent exited with 1")),
        attempts: Vec::new(),
        verify: Vec::new(),
        changes: None,
        discarded: None,
        leaked_processes: None,
        usage: None,
        cost_source: None,
        isolation: Isolation {
            view: "overlay".into(),
            level: "auto".into(),
            landlock_abi: Some(7),
            network: "host".into(),
            processes: None,
        },
        input_drift: None,
        needs: Vec::new(),
        labels: Default::default(),
        parent_run_id: None,
        replay_of: None,
        redrive_of: None,
        host: "host".into(),
        user: "user".into(),
        agentguard: "0.1.0".into(),
        git: None,
        prev: None,
    }
}

fn generate(dir: &Path, count: u64) -> anyhow::Result<()> {
    std::fs::create_dir_all(dir)?;
    let mut out = BufWriter::with_capacity(1 << 20, std::fs::File::create(dir.join("runs.jsonl"))?);
    let mut prev = None;
    for number in 0..count {
        let mut line = serde_json::to_vec(&RunRecord { prev, ..record(number) })?;
        line.push(b'\n');
        prev = Some(Digest(sha2::Sha256::digest(&line).into()));
        out.write_all(&line)?;
    }
    out.flush()?;
    writeln!(std::io::stdout(), "{}", record(count * 7 / 10).run_id)?;
    Ok(())
}

fn list(dir: &Path, limit: usize, format: LogFormat, filters: RunFilters) -> anyhow::Result<()> {
    let request = LogRequest { filters, limit: Some(limit), format };
    let answer = log(&RunLog::at(dir), &request, &mut std::io::stdout().lock(), &mut std::io::stderr().lock())?;
    if answer.damaged > 0 {
        bail!("{} damaged lines", answer.damaged);
    }
    Ok(())
}

fn append(dir: &Path, count: u64, processes: u64) -> anyhow::Result<()> {
    std::fs::create_dir_all(dir)?;
    if processes == 0 {
        let log = RunLog::at(dir);
        let mut record = record(count);
        return (0..count).try_for_each(|_| log.append(&mut record).map(drop).map_err(Into::into));
    }
    let started = Instant::now();
    let me = std::env::current_exe()?;
    let share = (count / processes).to_string();
    let writers: Vec<_> = (0..processes)
        .map(|_| Command::new(&me).arg("append").arg(dir).args([&share, "0"]).spawn())
        .collect::<Result<_, _>>()?;
    for mut writer in writers {
        anyhow::ensure!(writer.wait()?.success(), "a writer failed");
    }
    let rate = count as f64 / started.elapsed().as_secs_f64();
    writeln!(std::io::stdout(), "{processes} processes: {rate:.0} lines/s")?;
    Ok(())
}

fn run(arguments: &[&str]) -> anyhow::Result<()> {
    match *arguments {
        ["gen", dir, count] => generate(Path::new(dir), count.parse()?),
        ["log", dir, limit] => {
            let format = LogFormat::Table { width: Some(120), paint: Paint::Plain };
            list(Path::new(dir), limit.parse()?, format, RunFilters::default())
        }
        ["jsonl", dir, limit] => list(Path::new(dir), limit.parse()?, LogFormat::Jsonl, RunFilters::default()),
        ["scan", dir] => {
            let filters = RunFilters { statuses: vec![Status::Interrupted], ..RunFilters::default() };
            list(Path::new(dir), 1, LogFormat::Jsonl, filters)
        }
        ["show", dir, run] => {
            let request = ShowRequest { run: run.to_owned(), what: ShowWhat::Summary(Paint::Plain) };
            show(Path::new(dir), &request, &mut std::io::stdout().lock())
        }
        ["find", dir, run] => {
            let line = agentguard::cmd::run_choice::choose(&RunLog::at(Path::new(dir)), run)?;
            std::io::stdout().write_all(&line.bytes).context("write")
        }
        ["check", dir] => {
            let checked = RunLog::at(Path::new(dir)).check(&mut |_| {})?;
            writeln!(std::io::stdout(), "{checked:?}").context("write")
        }
        ["append", dir, count, processes] => append(Path::new(dir), count.parse()?, processes.parse()?),
        // `cargo bench` runs every bench with arguments of its own.
        _ => Ok(()),
    }
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            _ = writeln!(std::io::stderr(), "run_log: {error:#}");
            ExitCode::FAILURE
        }
    }
}

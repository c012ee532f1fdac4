//! One command, timed from before it is started until it has been waited for, and rounds of two of them.

use std::fs::File;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::time::Instant;

use anyhow::{Context as _, bail};

use std::os::unix::process::ExitStatusExt as _;

/// One way to do the work of a row.
pub(crate) struct Side<'a> {
    /// Not timed; before every run of the command.
    pub(crate) prepare: Box<dyn Fn() -> anyhow::Result<()> + 'a>,
    /// What is timed.
    pub(crate) command: Box<dyn Fn() -> Command + 'a>,
}

/// What a command took.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timed {
    pub(crate) millis: f64,
    /// Of the largest process among the command and everything it has waited for.
    pub(crate) peak_mib: f64,
}

/// What both sides took, round by round.
#[derive(Debug, Default)]
pub(crate) struct Rounds {
    pub(crate) yardstick: Vec<Timed>,
    pub(crate) ours: Vec<Timed>,
}

/// One round that does not count, then `count` that do: yardstick, ours, yardstick, ours, …
pub(crate) fn interleaved(sides: &[Side<'_>; 2], count: u32, errors: &Path) -> anyhow::Result<Rounds> {
    let mut rounds = Rounds::default();
    for round in 0..=count {
        for (side, times) in sides.iter().zip([&mut rounds.yardstick, &mut rounds.ours]) {
            (side.prepare)()?;
            let timed = time(&mut (side.command)(), errors)?;
            if round > 0 {
                times.push(timed);
            }
        }
    }
    Ok(rounds)
}

/// Runs a command to its end; what it says on standard error goes to the file `errors` and into the error.
pub(crate) fn time(command: &mut Command, errors: &Path) -> anyhow::Result<Timed> {
    let said = File::create(errors).with_context(|| format!("create {}", errors.display()))?;
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(said);
    let begun = Instant::now();
    let child = command.spawn().with_context(|| format!("start {command:?}"))?;
    let (status, usage) = wait(child.id())?;
    let millis = begun.elapsed().as_secs_f64() * 1e3;
    if !status.success() {
        let said = std::fs::read_to_string(errors).unwrap_or_default();
        bail!("{command:?}: {status}: {}", said.trim());
    }
    Ok(Timed { millis, peak_mib: usage.ru_maxrss as f64 / 1024.0 })
}

fn wait(pid: u32) -> anyhow::Result<(ExitStatus, libc::rusage)> {
    let (mut status, pid) = (0, libc::pid_t::try_from(pid)?);
    // SAFETY: rusage is a struct of integers, for which zeroes are a value.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    loop {
        // SAFETY: both pointers are to values of this frame that outlive the call.
        let waited = unsafe { libc::wait4(pid, &raw mut status, 0, &raw mut usage) };
        if waited == pid {
            return Ok((ExitStatus::from_raw(status), usage));
        }
        let error = std::io::Error::last_os_error();
        if error.kind() != std::io::ErrorKind::Interrupted {
            return Err(error).context("wait4");
        }
    }
}

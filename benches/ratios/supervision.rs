//! The rows of supervision: what it costs to refuse a run, to end a tree of processes, and to pass a terminal through.

use std::process::Command;

use crate::place::{AGENTGUARD, Place, quoted, shell};
use crate::rows::plain;
use crate::timing::Side;

/// A run that needs an agent whose breaker is open.
pub(crate) fn blocked(place: &Place) -> anyhow::Result<[Side<'_>; 2]> {
    let project = place.project("blocked")?;
    let mut trip = place.agentguard(&project);
    trip.args(["breaker", "trip", "fetch", "--for", "24h"]);
    place.run(&mut trip)?;
    // Through a shell like the other side, which reads the exit code.
    let version = format!("{} --version >/dev/null; test $? = 0", quoted(AGENTGUARD.as_ref())?);
    let run = format!("{} run --quiet --needs fetch --out o -- true; test $? = 121", quoted(AGENTGUARD.as_ref())?);
    let ours = move || in_project(&run, &project);
    Ok([plain(move || shell(version.clone())), plain(ours)])
}

/// A thousand processes in sessions of their own, ended with the run.
pub(crate) fn thousand<'a>(place: &'a Place, options: &'static str) -> anyhow::Result<[Side<'a>; 2]> {
    let project = place.project("thousand")?;
    // The yardstick: the same processes, which end by themselves, without a supervisor.
    let agent = |last: &str| {
        format!(
            "python3 -c 'import os, time\nfor i in range(1000):\n  if os.fork() == 0:\n    os.setsid(); {last}; os._exit(0)'"
        )
    };
    let bare = agent("pass");
    let guard = quoted(AGENTGUARD.as_ref())?;
    let run = format!("{guard} run --quiet {options} --out o -- {}", agent("time.sleep(60)"));
    Ok([plain(move || shell(bare.clone())), plain(move || in_project(&run, &project))])
}

/// What an agent prints on a terminal of its own.
pub(crate) fn terminal(place: &Place) -> anyhow::Result<[Side<'_>; 2]> {
    const AGENT: &str = "head -c 100000000 /dev/zero";
    let project = place.project("terminal")?;
    let guard = quoted(AGENTGUARD.as_ref())?;
    let run = format!("{guard} run --quiet --tty always --out o -- {AGENT} >/dev/null");
    let script = format!("script -qc '{AGENT}' /dev/null >/dev/null");
    Ok([plain(move || shell(script.clone())), plain(move || in_project(&run, &project))])
}

fn in_project(script: &str, project: &std::path::Path) -> Command {
    let mut command = shell(script.to_owned());
    command.current_dir(project).env_remove("AGENTGUARD_STATE_DIR");
    command
}

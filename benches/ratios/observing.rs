//! The rows of observability: what is asked of a log of a million runs, and what it costs to listen to an agent.

use std::io::Write as _;

use crate::errands::RARE_AGENT;
use crate::place::{AGENTGUARD, Place, quoted, shell};
use crate::rows::{RECORDS, plain, program};
use crate::timing::Side;

/// Everything counted by agent.
pub(crate) fn stats(place: &Place) -> anyhow::Result<[Side<'_>; 2]> {
    let state = place.log(RECORDS)?;
    let log = quoted(&state.join("runs.jsonl"))?.replace('\'', "");
    let columns = "{agent: 'VARCHAR', status: 'VARCHAR', error_class: 'VARCHAR', published: 'BOOLEAN', \
                   start_time: 'VARCHAR', end_time: 'VARCHAR', tokens_used: 'BIGINT', cost_usd: 'DOUBLE'}";
    let query = format!(
        "select agent, count(*), count(*) filter (published), count(*) filter (status = 'failed'), sum(tokens_used), \
         sum(cost_usd), quantile_cont(epoch_ms(end_time::timestamptz) - epoch_ms(start_time::timestamptz), [0.5, 0.95]) \
         from read_json('{log}', format = 'newline_delimited', columns = {columns}) group by agent order by agent"
    );
    let theirs = move || program("duckdb", ["-c", &query]);
    let ours = move || {
        let mut command = place.agentguard(place.root());
        command.arg("--state-dir").arg(&state).arg("stats");
        command
    };
    Ok([plain(theirs), plain(ours)])
}

/// A filter that a hundred runs pass.
pub(crate) fn filter(place: &Place) -> anyhow::Result<[Side<'_>; 2]> {
    let state = place.log(RECORDS)?;
    let log = state.join("runs.jsonl");
    let needle = format!("\"agent\":\"{RARE_AGENT}\"");
    let search = move || {
        let mut command = program("rg", ["-F", &needle]);
        command.arg(&log);
        command
    };
    let ours = move || {
        let mut command = place.agentguard(place.root());
        command
            .arg("--state-dir")
            .arg(&state)
            .args(["log", "--agent", RARE_AGENT, "--limit", "1000", "--format", "jsonl"]);
        command
    };
    Ok([plain(search), plain(ours)])
}

/// The output of an agent whose format is known, with and without somebody who listens to it.
pub(crate) fn listening(place: &Place) -> anyhow::Result<[Side<'_>; 2]> {
    let (project, said) = (place.project("listening")?, place.path("said.jsonl"));
    if !said.exists() {
        let mut out = std::io::BufWriter::new(std::fs::File::create(&said)?);
        writeln!(out, "{{\"type\":\"thread.started\",\"thread_id\":\"t\"}}")?;
        let text = "what an agent says of what it does ".repeat(20);
        for at in 0..400_000 {
            writeln!(
                out,
                "{{\"type\":\"item.completed\",\"item\":{{\"id\":\"i{at}\",\"type\":\"agent_message\",\"text\":\"{text}\"}}}}"
            )?;
        }
        writeln!(out, "{{\"type\":\"turn.completed\",\"usage\":{{\"input_tokens\":9,\"output_tokens\":1}}}}")?;
        out.flush()?;
    }
    let run = |usage: &str| {
        let (guard, said) = (quoted(AGENTGUARD.as_ref())?, quoted(&said)?);
        anyhow::Ok(format!("{guard} run --quiet --usage {usage} --out o -- cat {said} | cat >/dev/null"))
    };
    let (deaf, listening) = (run("off")?, run("auto")?);
    let there = project.clone();
    let side = move |script: &str, project: &std::path::Path| {
        let mut command = shell(script.to_owned());
        command.current_dir(project).env_remove("AGENTGUARD_STATE_DIR");
        command
    };
    Ok([plain(move || side(&deaf, &there)), plain(move || side(&listening, &project))])
}

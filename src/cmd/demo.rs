//! `agentguard demo`: the main job on nothing but this program and a shell. Small agents in a temporary project go
//! through success, a partial write, a drift, a replay and a cascade; each step shows the command a user would type and what
//! came of it, and the demo fails if anything came out otherwise.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail};

use crate::model::Text;

use super::render::shell_quote;

/// The agents: what they are, and what they do.
const AGENTS: [(&str, &str); 4] = [
    (
        "report.sh",
        "# Sums what was sold, from the frozen inputs.\nset -eu\ntotal=$(cut -d, -f2 \"$AGENTGUARD_INPUTS/sales.csv\" | paste -sd+ - | sed 's/^/echo $((/; s/$/))/' | sh)\nprintf '# Sales\\n\\nTotal: %s\\n' \"$total\" > \"$AGENTGUARD_STAGING/summary.md\"\ncp \"$AGENTGUARD_INPUTS/sales.csv\" \"$AGENTGUARD_STAGING/rows.csv\"\n",
    ),
    (
        "dies-half-way.sh",
        "# Writes one file of two, then its model hangs up.\nprintf '# Sales\\n\\nTotal:' > \"$AGENTGUARD_STAGING/summary.md\"\necho 'stream closed by peer' >&2\nexit 7\n",
    ),
    (
        "drifts.sh",
        "# Says it is done. The total is made up.\nprintf '# Sales\\n\\nTotal: about 300\\n' > \"$AGENTGUARD_STAGING/summary.md\"\necho 'All done!'\n",
    ),
    (
        "verify.sh",
        "# A total is digits, and nothing else.\ngrep -Eqx 'Total: [0-9]+' \"$AGENTGUARD_RESULT/summary.md\"\n",
    ),
];

const VERIFY: &str = "sh agents/verify.sh";

/// One step: what it shows, what is typed, and how it must end.
struct Step {
    title: &'static str,
    arguments: &'static [&'static str],
    exit_code: i32,
}

const STEPS: [Step; 8] = [
    Step {
        title: "An agent writes a report. It is verified, then published in one rename.",
        arguments: &[
            "run",
            "--input",
            "sales.csv",
            "--out",
            "report",
            "--verify",
            VERIFY,
            "--",
            "sh",
            "agents/report.sh",
        ],
        exit_code: 0,
    },
    Step {
        title: "The next one dies half way. Nobody ever sees its half of a report.",
        arguments: &[
            "run",
            "--input",
            "sales.csv",
            "--out",
            "report",
            "--verify",
            VERIFY,
            "--",
            "sh",
            "agents/dies-half-way.sh",
        ],
        exit_code: 7,
    },
    Step {
        title: "The next one says it succeeded, and is wrong. The gate rejects it.",
        arguments: &[
            "run",
            "--input",
            "sales.csv",
            "--out",
            "report",
            "--verify",
            VERIFY,
            "--",
            "sh",
            "agents/drifts.sh",
        ],
        exit_code: 120,
    },
    Step {
        title: "sales.csv is changed, and the failed run is replayed: it reads what it read then.",
        arguments: &["replay", "@failed"],
        exit_code: 0,
    },
    Step {
        title: "With a repaired command the same scenario passes; --commit publishes it.",
        arguments: &["replay", "@failed", "--commit", "--", "sh", "agents/report.sh"],
        exit_code: 0,
    },
    Step {
        title: "An agent that fails in a row (here: once) is taken for broken.",
        arguments: &[
            "run",
            "--agent",
            "fetch",
            "--breaker-threshold",
            "1",
            "--out",
            "data",
            "--",
            "sh",
            "agents/dies-half-way.sh",
        ],
        exit_code: 7,
    },
    Step {
        title: "What needs it is not even started: no cascade.",
        arguments: &["run", "--needs", "fetch", "--out", "site", "--", "sh", "agents/report.sh"],
        exit_code: 121,
    },
    Step { title: "Every run is in the log.", arguments: &["log"], exit_code: 0 },
];

/// The input of every step but the last ones, and what it is changed to before the replay.
const SALES: [&str; 2] = ["ants,100\nbees,180\n", "ants,1\n"];

/// Plays the demo with `program`.
pub fn demo(program: &Path, out: &mut dyn Write) -> anyhow::Result<()> {
    let project = tempfile::Builder::new().prefix("agentguard-demo-").tempdir().context("cannot make a project")?;
    prepare(project.path())?;
    writeln!(out, "A project in {}, with four small scripts in agents/:", project.path().display())?;
    for (name, script) in AGENTS {
        let what = script.lines().next().unwrap_or_default().trim_start_matches("# ");
        writeln!(out, "  {name:18} {what}")?;
    }
    for (number, step) in STEPS.iter().enumerate() {
        if step.arguments[0] == "replay" {
            std::fs::write(project.path().join("sales.csv"), SALES[1]).context("cannot change sales.csv")?;
        }
        play(program, project.path(), number + 1, step, out)?;
    }
    let published = std::fs::read_to_string(project.path().join("report/summary.md"));
    if published.as_deref().ok() != Some("# Sales\n\nTotal: 280\n") {
        bail!("the demo did not come out as it should: report/summary.md holds {published:?}");
    }
    writeln!(out, "\nAll as it should be. Put `agentguard run --out DIR --` in front of a command of yours.")?;
    Ok(())
}

fn prepare(project: &Path) -> anyhow::Result<()> {
    let agents = project.join("agents");
    std::fs::create_dir(&agents).context("cannot make the project")?;
    for (name, script) in AGENTS {
        std::fs::write(agents.join(name), script).context("cannot write the agents")?;
    }
    // An own configuration file makes this the project, whatever lies above the temporary directory.
    std::fs::write(project.join("agentguard.toml"), "[defaults]\n").context("cannot write agentguard.toml")?;
    std::fs::write(project.join("sales.csv"), SALES[0]).context("cannot write sales.csv")
}

fn play(program: &Path, project: &Path, number: usize, step: &Step, out: &mut dyn Write) -> anyhow::Result<()> {
    let words: Vec<Text> =
        std::iter::once("agentguard").chain(step.arguments.iter().copied()).map(Text::from).collect();
    writeln!(out, "\n{number}. {}\n   $ {}", step.title, shell_quote(&words))?;
    out.flush()?;
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        // The user's own settings and an outer run have no business in the demo.
        if name.as_encoded_bytes().starts_with(b"AGENTGUARD_") {
            command.env_remove(name);
        }
    }
    let played = command
        .args(step.arguments)
        .current_dir(project)
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot run {program:?}"))?;
    for line in String::from_utf8_lossy(&played.stdout).lines().chain(String::from_utf8_lossy(&played.stderr).lines()) {
        writeln!(out, "   {line}")?;
    }
    if let Ok(summary) = std::fs::read_to_string(project.join("report/summary.md")) {
        writeln!(
            out,
            "   exit code {}; report/summary.md says {:?}",
            code(&played),
            summary.lines().last().unwrap_or("")
        )?;
    }
    if played.status.code() != Some(step.exit_code) {
        bail!(
            "the demo did not come out as it should: step {number} ended with {}, not {}",
            code(&played),
            step.exit_code
        );
    }
    Ok(())
}

fn code(played: &std::process::Output) -> String {
    played.status.code().map_or_else(|| "a signal".to_owned(), |code| code.to_string())
}

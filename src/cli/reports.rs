//! Where `run` writes what came of it, besides the log: `--record`, `--junit`, `--dotenv`, and the CI system around it.
//! Files are opened before the run, so that a path that cannot be written refuses it.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use crate::cmd::export_format::run_report;
use crate::cmd::render::{escape, unless_closed};
use crate::model::RunRecord;
use crate::store::state_dir::StateDir;

use super::ci::CiPlan;
use super::layered::Layered;
use super::terminal::say;

/// What GitLab takes of a dotenv report.
const DOTENV_BYTES: usize = 5 * 1024;

/// Where to write.
#[derive(Debug, Default)]
pub struct Reports {
    /// The record, as JSON.
    pub record: Option<PathBuf>,
    /// The run, as JUnit XML.
    pub junit: Option<PathBuf>,
    /// Its figures, as variables.
    pub dotenv: Option<PathBuf>,
    /// The CI system.
    pub ci: CiPlan,
}

impl Reports {
    /// From the options and the layers below them. `typed`: `--record`, `--junit` and `--dotenv`.
    pub(super) fn resolve(
        layered: &Layered<'_>,
        typed: [Option<PathBuf>; 3],
        ci: Option<String>,
    ) -> anyhow::Result<Self> {
        let [record, junit, dotenv] = typed;
        Ok(Self {
            record: layered.path("record", record)?,
            junit: layered.path("junit", junit)?,
            dotenv: layered.path("dotenv", dotenv)?,
            ci: CiPlan::resolve(layered.one("ci", ci)?.as_deref(), |name| std::env::var_os(name))?,
        })
    }

    /// The files that are asked for, with their options.
    pub fn files(&self) -> Vec<(&'static str, &Path)> {
        [("record", &self.record), ("junit", &self.junit), ("dotenv", &self.dotenv)]
            .into_iter()
            .filter_map(|(option, path)| Some((option, path.as_deref()?)))
            .collect()
    }

    /// Opens them.
    pub(super) fn open(&self) -> anyhow::Result<Opened> {
        self.files().into_iter().map(|(option, path)| Target::open(option, path)).collect::<Result<_, _>>().map(Opened)
    }
}

/// The files of one run.
#[derive(Debug)]
pub(super) struct Opened(Vec<Target>);

impl Opened {
    /// Writes all of them. One that cannot be written is a warning: what came of the run does not change any more.
    pub(super) fn write(self, record: &RunRecord, state: &Path) {
        for target in self.0 {
            let text = match target.option {
                "record" => record_line(record),
                "junit" => StateDir::open(state).map_err(Into::into).map(|state| run_report(&state, record).into()),
                _ => Ok(dotenv(record).into()),
            };
            if let Err(error) = text.and_then(|text| target.write(&text)) {
                say(&format!("agentguard: warning: {}", escape(format!("{error:#}").as_bytes())));
            }
        }
    }
}

/// A file, or standard output.
#[derive(Debug)]
struct Target {
    option: &'static str,
    file: Option<(File, PathBuf)>,
}

impl Target {
    fn open(option: &'static str, path: &Path) -> anyhow::Result<Self> {
        if path == Path::new("-") {
            return Ok(Self { option, file: None });
        }
        let file = File::options().write(true).create(true).truncate(false).open(path);
        let file = file.with_context(|| format!("--{option} {path:?} cannot be written"))?;
        Ok(Self { option, file: Some((file, path.to_path_buf())) })
    }

    fn write(self, bytes: &[u8]) -> anyhow::Result<()> {
        let option = self.option;
        match self.file {
            None => unless_closed(io::stdout().write_all(bytes)).with_context(|| format!("cannot write the {option}")),
            Some((mut file, path)) => file
                // A pipe has no length.
                .set_len(0)
                .or_else(|error| if file.metadata()?.is_file() { Err(error) } else { Ok(()) })
                .and_then(|()| file.write_all(bytes))
                .with_context(|| format!("cannot write the {option} to {path:?}")),
        }
    }
}

fn record_line(record: &RunRecord) -> anyhow::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(record).context("cannot write the record")?;
    line.push(b'\n');
    Ok(line)
}

/// `KEY=value` lines: what is unknown is empty. None begins with `AGENTGUARD_`, where an agentguard in a later job would
/// take it for an option of its own.
fn dotenv(record: &RunRecord) -> String {
    let error = record.error.as_ref();
    let known = |value: Option<String>| value.unwrap_or_default();
    let lines = [
        ("AGENT_RUN_ID", record.run_id.to_string()),
        ("AGENT_RUN_NAME", escape(&record.agent.0).chars().take(100).collect()),
        ("AGENT_RUN_STATUS", record.status.to_string()),
        ("AGENT_RUN_CLASS", known(record.error_class.map(|class| class.to_string()))),
        ("AGENT_RUN_KIND", known(error.map(|error| error.kind.to_string()))),
        ("AGENT_RUN_PUBLISHED", record.published.to_string()),
        ("AGENT_RUN_EXIT_CODE", known(record.guard_exit_code.map(|code| code.to_string()))),
        ("AGENT_RUN_ATTEMPTS", record.attempts.len().to_string()),
        ("AGENT_RUN_TOKENS", known(record.tokens_used.map(|tokens| tokens.to_string()))),
        ("AGENT_RUN_COST_USD", known(record.cost_usd.map(|cost| cost.to_string()))),
    ];
    let text = lines.iter().fold(String::new(), |text, (key, value)| text + key + "=" + value + "\n");
    debug_assert!(text.len() <= DOTENV_BYTES);
    text
}

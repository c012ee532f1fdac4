//! What a run says to the CI system around it, in that system's own words, on standard error and in the files it names.
//! Nothing of it is said outside of CI, inside another run, or with `--ci off`.

mod github;
mod gitlab;

use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use anyhow::bail;

use crate::cmd::render::escape;
use crate::model::{RunId, RunRecord};
use crate::rules::nearest::nearest;
use crate::store::capture;

use super::terminal::say;

/// The words of `--ci`: a system first, then what is not wanted of it.
const SYSTEMS: [&str; 4] = ["auto", "github", "gitlab", "off"];
const SWITCHES: [&str; 4] = ["no-fence", "no-annotation", "no-summary", "no-section"];

/// Whom to tell what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CiPlan {
    system: Option<System>,
    without: [bool; SWITCHES.len()],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum System {
    GitHub,
    GitLab,
}

/// One of the outputs, by its switch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Output {
    Fence = 0,
    Annotation = 1,
    Summary = 2,
    Section = 3,
}

impl CiPlan {
    /// From the words of `--ci`, and for `auto` from the environment.
    pub fn resolve(words: Option<&str>, read: impl Fn(&str) -> Option<std::ffi::OsString>) -> anyhow::Result<Self> {
        let mut words = words.unwrap_or("auto").split(',').map(str::trim);
        let system = match words.next().unwrap_or_default() {
            "off" => None,
            "github" => Some(System::GitHub),
            "gitlab" => Some(System::GitLab),
            "auto" => detect(read),
            other => bail!("--ci is one of {}, not {other:?}{}", SYSTEMS.join(", "), suggestion(other, &SYSTEMS)),
        };
        let mut without = [false; SWITCHES.len()];
        for word in words {
            let Some(at) = SWITCHES.iter().position(|switch| *switch == word) else {
                bail!(
                    "--ci: after the system comes one of {}, not {word:?}{}",
                    SWITCHES.join(", "),
                    suggestion(word, &SWITCHES)
                );
            };
            without[at] = true;
        }
        Ok(Self { system, without })
    }

    fn wants(self, output: Output) -> bool {
        !self.without[output as usize]
    }
}

fn suggestion(word: &str, known: &[&str]) -> String {
    nearest(word, known.iter().copied()).map_or_else(String::new, |near| format!(": did you mean {near:?}?"))
}

/// Inside another run the outer one does the talking, and what is said here stands in its fence.
fn detect(read: impl Fn(&str) -> Option<std::ffi::OsString>) -> Option<System> {
    let is_true = |name: &str| read(name).is_some_and(|value| value == "true");
    match () {
        () if read("AGENTGUARD_RUN_ID").is_some_and(|run| !run.is_empty()) => None,
        () if is_true("GITHUB_ACTIONS") => Some(System::GitHub),
        () if is_true("GITLAB_CI") => Some(System::GitLab),
        () => None,
    }
}

/// What has been opened around a run. It is closed on every way out.
#[derive(Debug)]
#[must_use = "what was opened is closed when this is dropped"]
pub struct Ci {
    plan: CiPlan,
    fence: Option<github::Fence>,
    section: Option<gitlab::Section>,
}

impl Ci {
    /// Before the agent starts.
    pub fn begin(plan: CiPlan, agent: &str) -> Self {
        let fence = (plan.system == Some(System::GitHub) && plan.wants(Output::Fence)).then(github::Fence::open);
        let section =
            (plan.system == Some(System::GitLab) && plan.wants(Output::Section)).then(|| gitlab::Section::open(agent));
        Self { plan, fence, section }
    }

    /// The agent has ended: what agentguard says about it is not a part of its output.
    pub fn agent_ended(&mut self) {
        drop(self.section.take());
    }

    /// After everything else was said about a run. `unterminated`: the agent's last line of output has no end.
    pub fn finished(mut self, record: &RunRecord, unterminated: bool) {
        self.agent_ended();
        drop(self.fence.take());
        if self.plan.system == Some(System::GitHub) && self.plan.wants(Output::Annotation) {
            github::annotate(record);
        }
        if self.plan.system == Some(System::GitHub)
            && self.plan.wants(Output::Summary)
            && let Err(error) = github::summarise(record)
        {
            say(&format!("agentguard: warning: {}", escape(format!("{error:#}").as_bytes())));
        }
        self.closed(unterminated);
    }

    /// After everything else was said about something that is not counted, such as a replay.
    pub fn closed(mut self, unterminated: bool) {
        self.agent_ended();
        drop(self.fence.take());
        if unterminated && self.plan.system == Some(System::GitHub) && self.plan.wants(Output::Fence) {
            github::Fence::open().leave_open();
        }
    }

    /// There is no run, because agentguard itself could not do its part.
    pub fn failed(mut self, error: &anyhow::Error) {
        self.agent_ended();
        drop(self.fence.take());
        if self.plan.system == Some(System::GitHub) && self.plan.wants(Output::Annotation) {
            github::annotate_failure(&escape(format!("{error:#}").as_bytes()));
        }
    }
}

/// Whether what an agent printed last on standard output has no end of its line, so that it is still to be read.
pub fn ends_within_a_line(state: &Path, run: RunId) -> bool {
    let dir = state.join("runs").join(run.to_string());
    let attempts = dir.join("attempts");
    // Of an attempt that printed nothing the one before counts.
    let numbers = std::fs::read_dir(&attempts).into_iter().flatten().flatten();
    let mut numbers: Vec<u32> = numbers.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    numbers.sort_unstable_by(|left, right| right.cmp(left));
    let places = std::iter::once(dir).chain(numbers.iter().map(|number| attempts.join(number.to_string())));
    let last = places
        .map(|place| place.join("stdout"))
        .find_map(|head| last_byte(&capture::tail_path(&head)).or_else(|| last_byte(&head)));
    last.is_some_and(|byte| byte != b'\n')
}

fn last_byte(path: &Path) -> Option<u8> {
    let file = File::open(path).ok()?;
    let mut byte = [0];
    file.read_exact_at(&mut byte, file.metadata().ok()?.len().checked_sub(1)?).ok()?;
    Some(byte[0])
}

/// Writes to standard error in one piece. It may be gone: there is nobody left to tell.
fn write(text: &str) {
    let _ = io::stderr().write_all(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_system_is_found_by_its_variable_and_by_nothing_else() {
        let plan = |words: Option<&str>, set: &[(&str, &str)]| {
            let read = |name: &str| set.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).into());
            CiPlan::resolve(words, read)
        };
        let system = |words, set: &[(&str, &str)]| plan(words, set).expect("valid").system;
        assert_eq!(system(None, &[]), None);
        assert_eq!(system(None, &[("CI", "true")]), None);
        assert_eq!(system(Some("auto"), &[("GITHUB_ACTIONS", "true")]), Some(System::GitHub));
        assert_eq!(system(None, &[("GITLAB_CI", "true"), ("GITHUB_ACTIONS", "false")]), Some(System::GitLab));
        assert_eq!(system(None, &[("GITLAB_CI", "true"), ("AGENTGUARD_RUN_ID", "x")]), None);
        assert_eq!(system(Some("off"), &[("GITLAB_CI", "true")]), None);
        assert_eq!(system(Some("github"), &[]), Some(System::GitHub));
        let some = plan(Some("github, no-summary"), &[]).expect("valid");
        assert!(some.wants(Output::Fence) && !some.wants(Output::Summary));
        let told = |words| format!("{:#}", plan(Some(words), &[]).expect_err("a typo"));
        assert!(told("githb").contains("did you mean \"github\"?"));
        assert!(told("auto,no-sumary").contains("did you mean \"no-summary\"?"));
    }
}

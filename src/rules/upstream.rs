//! What a run depends on, through what other agents were recorded to need; and the words of a refusal.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::model::breaker::{Breaker, Cause};
use crate::model::error_kind::{ErrorKind, Failure};
use crate::model::{RunId, Text};

use super::breaker::Passage;

/// What each agent needed in its newest run.
pub type Needs = BTreeMap<Text, Vec<String>>;

/// An agent that a run depends on, and the agents between them: empty where the run needs it itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstream {
    /// The agent.
    pub agent: Text,
    /// From the run's own need on.
    pub through: Vec<Text>,
}

/// All that a run of `agent` with these needs depends on, nearest first, each once; never the agent itself, whatever
/// circle the needs make.
pub fn upstream(agent: &Text, needs: &[String], recorded: &Needs) -> Vec<Upstream> {
    let mut seen = BTreeSet::from([agent.clone()]);
    let mut waiting: VecDeque<Upstream> = VecDeque::new();
    let mut found = Vec::new();
    let mut enqueue = |needs: &[String], through: &[Text], waiting: &mut VecDeque<Upstream>| {
        for need in needs {
            let agent = Text::from(need.as_str());
            if seen.insert(agent.clone()) {
                waiting.push_back(Upstream { agent, through: through.to_vec() });
            }
        }
    };
    enqueue(needs, &[], &mut waiting);
    while let Some(next) = waiting.pop_front() {
        let further = recorded.get(&next.agent).map_or(&[][..], Vec::as_slice);
        let through: Vec<Text> = next.through.iter().chain([&next.agent]).cloned().collect();
        enqueue(further, &through, &mut waiting);
        found.push(next);
    }
    found
}

/// The agents that depend on `agent`, directly or not, by name.
pub fn dependents(agent: &Text, recorded: &Needs) -> Vec<Text> {
    let needs_it = |other: &Text, needs: &[String]| {
        other != agent && upstream(other, needs, recorded).iter().any(|upstream| upstream.agent == *agent)
    };
    recorded.iter().filter(|(other, needs)| needs_it(other, needs)).map(|(other, _)| other.clone()).collect()
}

/// Why a run is not started: the agent, its last failures, and the command that looks at them.
pub fn refusal(upstream: Option<&Upstream>, breaker: &Breaker, passage: Passage) -> Failure {
    let agent = breaker.agent.to_string_lossy();
    let role = match upstream {
        None => "this agent itself".to_owned(),
        Some(upstream) if upstream.through.is_empty() => "needed by this run".to_owned(),
        Some(upstream) => {
            let through: Vec<_> = upstream.through.iter().map(Text::to_string_lossy).collect();
            format!("needed through {}", through.join(", "))
        }
    };
    let message = format!("{agent} ({role}) is broken: {}{}", reason(breaker), probing(passage));
    let name = word(&agent);
    let look = format!("`agentguard log --agent {name}` shows its runs");
    let next = match passage {
        Passage::CoolingDown { until } => format!("the next probe may go at {until}"),
        _ => "its end decides".to_owned(),
    };
    let hint = format!("{look}; {next}; `agentguard breaker reset {name}` lets everything through now");
    Failure::new(ErrorKind::UpstreamOpen, message).with_hint(hint)
}

fn reason(breaker: &Breaker) -> String {
    let failures: Vec<String> =
        breaker.failures.iter().rev().map(|one| format!("{} (run {})", one.message, one.run_id.short())).collect();
    let failed = match (breaker.consecutive, failures.as_slice()) {
        (0, _) | (_, []) => String::new(),
        (1, [only, ..]) => format!("it failed: {only}"),
        (count, failures) => format!("it failed {count} times in a row, last {}", failures.join(", before that ")),
    };
    match breaker.opened.as_ref().map(|opened| opened.cause) {
        Some(Cause::Tripped) if failed.is_empty() => "its breaker was tripped by hand".to_owned(),
        Some(Cause::Tripped) => format!("its breaker was tripped by hand; {failed}"),
        _ => failed,
    }
}

fn probing(passage: Passage) -> String {
    let short = |run: RunId| run.short();
    match passage {
        Passage::Probing { run } => format!("; run {} is trying whether it works again", short(run)),
        _ => String::new(),
    }
}

/// A word that a shell reads back as it is.
fn word(text: &str) -> String {
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "._-+@%/:".contains(letter);
    if !text.is_empty() && text.chars().all(is_plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recorded(pairs: &[(&str, &[&str])]) -> Needs {
        let owned = |needs: &[&str]| needs.iter().map(|need| (*need).to_owned()).collect();
        pairs.iter().map(|(agent, needs)| (Text::from(*agent), owned(needs))).collect()
    }

    #[test]
    fn needs_are_followed_through_what_is_recorded_and_circles_end() {
        let known =
            recorded(&[("summarise", &["fetch"]), ("fetch", &["login", "publish"]), ("publish", &["summarise"])]);
        let found = upstream(&Text::from("publish"), &["summarise".to_owned()], &known);
        let names: Vec<_> = found.iter().map(|one| one.agent.to_string_lossy().into_owned()).collect();
        assert_eq!(names, ["summarise", "fetch", "login"]);
        assert_eq!(found[2].through, [Text::from("summarise"), Text::from("fetch")]);
        assert_eq!(dependents(&Text::from("login"), &known).len(), 3);
        assert_eq!(dependents(&Text::from("fetch"), &known), [Text::from("publish"), Text::from("summarise")]);
    }
}

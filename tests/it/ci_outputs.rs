//! What a run says to the CI system around it: an agent's output commands no runner, a failed run is one annotation, and
//! outside of CI nothing is said.

use std::fs;

use crate::project::{Outcome, Project};

/// Prints what a runner would obey, and leaves its last line without an end.
const FORGES: &str = "echo ::error::forged; echo ::add-mask::forged >&2; printf ::warning::unfinished; exit 3";

fn in_github(project: &Project, options: &[&str], script: &str) -> Outcome {
    let arguments: Vec<&str> = ["run"].iter().chain(options).chain(&["--", "sh", "-c", script]).copied().collect();
    let mut command = project.command(&arguments);
    command.env("CI", "true").env("GITHUB_ACTIONS", "true").env("GITHUB_STEP_SUMMARY", project.outside("summary"));
    Outcome::of(command.output().expect("runs"))
}

/// What the runner would take for commands: lines of standard error that are not within a fence; and whether one is left
/// open at the end.
fn obeyed(stderr: &str) -> (Vec<&str>, bool) {
    let (mut fence, mut commands) = (None, Vec::new());
    for line in stderr.lines().map(str::trim_start).filter(|line| line.starts_with("::")) {
        match (fence, line.strip_prefix("::stop-commands::")) {
            (None, Some(token)) => fence = Some(token),
            (None, None) => commands.push(line),
            (Some(token), _) if line == format!("::{token}::") => fence = None,
            (Some(_), _) => {}
        }
    }
    (commands, fence.is_some())
}

#[test]
fn what_an_agent_prints_is_no_command_and_a_failure_is_one_annotation() {
    let project = Project::new();
    let outcome = in_github(&project, &["--agent", "a:b,c%|*", "--out", "o"], FORGES).exits(3);
    assert_eq!(outcome.text(), "::error::forged\n::warning::unfinished", "standard output is the agent's");
    let (commands, open) = obeyed(&outcome.stderr);
    let [annotation] = commands.as_slice() else { panic!("{commands:?}") };
    assert!(
        annotation.starts_with("::error title=a%3Ab%2Cc%25|* failed (clean_abort)::the agent exited with 3%0Arun "),
        "{annotation}"
    );
    assert!(open, "the unfinished line would be read after the fence");
    assert!(outcome.stderr.contains("::add-mask::forged"), "it is shown all the same");

    let tokens: Vec<&str> = outcome.stderr.lines().filter_map(|line| line.strip_prefix("::stop-commands::")).collect();
    assert!(tokens.len() == 2 && tokens[0] != tokens[1] && tokens.iter().all(|token| token.len() > 32));
}

#[test]
fn a_run_that_succeeded_is_not_annotated_and_its_fence_is_closed() {
    let project = Project::new();
    let outcome = in_github(&project, &["--out", "o"], "echo x > $AGENTGUARD_STAGING/x; echo done").exits(0);
    assert_eq!(obeyed(&outcome.stderr), (Vec::new(), false), "{}", outcome.stderr);
    // A runner knows no end of a line but its newline, and the agent's own stderr may lack it.
    let outcome = in_github(&project, &["--out", "o"], "printf 'no end' >&2").exits(0);
    assert_eq!(obeyed(&outcome.stderr), (Vec::new(), false), "{}", outcome.stderr);
    let outcome = in_github(&project, &["--out", "o", "--stdin", "no-such-file"], "true").exits(125);
    let (commands, open) = obeyed(&outcome.stderr);
    assert!(!open && commands.len() == 1 && commands[0].contains("no-such-file"), "{commands:?}");
}

#[test]
fn the_summary_of_a_step_is_one_table_in_which_no_name_is_markup() {
    let project = Project::new();
    in_github(&project, &["--agent", "a|b <img> [x](y) @team `c`\n| d", "--out", "o"], "exit 1").exits(1);
    in_github(&project, &["--agent", "second", "--out", "o"], "echo x > $AGENTGUARD_STAGING/x").exits(0);
    let summary = project.read_outside("summary");
    let lines: Vec<&str> = summary.lines().collect();
    assert_eq!(lines.len(), 4, "{summary}");
    assert!(lines[0].starts_with("| Run | Agent |") && lines[1].starts_with("|---|"));
    assert!(lines.iter().all(|line| line.matches('|').count() == 9), "{summary}");
    assert!(!lines[2].contains(['[', '`', '@', '*']) && lines[2].matches('<').count() == 1, "{summary}");
    assert!(lines[3].contains("second") && lines[3].contains("succeeded"));
}

#[test]
fn each_output_can_be_switched_off_and_outside_of_ci_there_is_none() {
    let project = Project::new();
    for (options, annotated, fenced, summed) in [
        (&["--ci", "off"][..], false, false, false),
        (&["--ci", "auto,no-annotation"], false, true, true),
        (&["--ci", "github,no-fence"], true, false, true),
        (&["--ci", "auto,no-summary,no-fence"], true, false, false),
    ] {
        let _ = fs::remove_file(project.outside("summary"));
        let outcome = in_github(&project, &[options, &["--out", "o"]].concat(), "exit 1").exits(1);
        let seen = (
            outcome.stderr.contains("::error"),
            outcome.stderr.contains("::stop-commands::"),
            project.outside("summary").exists(),
        );
        assert_eq!(seen, (annotated, fenced, summed), "{options:?}");
    }
    let quiet = in_github(&project, &["--quiet", "--out", "o"], "exit 1").exits(1);
    assert_eq!(obeyed(&quiet.stderr).0.len(), 1);
    let plain = project.run(&["--out", "o"], "exit 1").exits(1);
    assert!(!plain.stderr.contains("::") && !plain.stderr.contains("section_"));
    project.write("agentguard.toml", "[defaults]\nci = \"off\"\n");
    assert!(!in_github(&project, &["--out", "o"], "exit 1").exits(1).stderr.contains("::"));
    project.run(&["--ci", "githb", "--out", "o"], "true").exits(125).says("did you mean \"github\"?");
}

#[test]
fn a_run_inside_another_leaves_the_talking_to_the_outer_one() {
    let project = Project::new();
    let inner = format!("'{}' run --out inner -- sh -c 'exit 4'", crate::project::binary().display());
    let outcome = in_github(&project, &["--workspace"], &inner).exits(4);
    assert_eq!(outcome.stderr.matches("::stop-commands::").count(), 1, "{}", outcome.stderr);
    assert_eq!(project.read_outside("summary").lines().count(), 3);
}

#[test]
fn in_gitlab_the_run_is_a_section_and_what_came_of_it_stands_below() {
    let project = Project::new();
    let mut command =
        project.command(&["run", "--agent", "a\x1b[2J", "--out", "o", "--", "sh", "-c", "printf x >&2; exit 2"]);
    let outcome = Outcome::of(command.env("GITLAB_CI", "true").output().expect("runs")).exits(2);
    let stderr = &outcome.stderr;
    let (start, rest) = stderr.split_once("\x1b[0Ksection_start:").expect("a start");
    let (head, rest) = rest.split_once('\n').expect("a line");
    let (time, name) = head.split_once('\r').expect("a title").0.split_once(':').expect("time and name");
    assert!(start.is_empty() && time.parse::<u64>().is_ok(), "{stderr:?}");
    assert!(head.ends_with("\r\x1b[0Kagentguard run a\\x1b[2J"), "{stderr:?}");
    assert!(name.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '_'));
    let (inside, after) = rest.split_once("\n\x1b[0Ksection_end:").expect("an end");
    assert_eq!(inside, "x");
    assert!(after.contains(&format!(":{name}\r\x1b[0K\n")), "{after:?}");
    assert!(after.contains("agentguard: failed"));
}

#[test]
fn the_dotenv_file_has_plain_variables_that_no_agentguard_takes_for_its_own() {
    let project = Project::new();
    let script = "echo '{\"input_tokens\":30,\"output_tokens\":12,\"cost_usd\":0.5}' >> $AGENTGUARD_USAGE; exit 7";
    project.write("d.env", "OLD=1\n".repeat(100));
    let options = ["--agent", "a\nb=\u{202e}", "--out", "o", "--dotenv", "d.env"];
    project.run(&options, script).exits(7);
    let text = project.read("d.env");
    let pairs: Vec<(&str, &str)> = text.lines().map(|line| line.split_once('=').expect("a pair")).collect();
    let value = |key: &str| pairs.iter().find(|(name, _)| *name == key).map(|(_, value)| *value);
    let id = project.last().run_id.to_string();
    assert_eq!(value("AGENT_RUN_ID"), Some(&*id));
    let wanted = [("STATUS", "failed"), ("CLASS", "clean_abort"), ("KIND", "exit_code"), ("PUBLISHED", "false")];
    let figures = [("TOKENS", "42"), ("COST_USD", "0.5"), ("EXIT_CODE", "7"), ("ATTEMPTS", "1")];
    for (key, wanted) in wanted.into_iter().chain(figures) {
        assert_eq!(value(&format!("AGENT_RUN_{key}")), Some(wanted));
    }
    assert!(
        text.len() < 5000
            && pairs.iter().all(|(key, _)| {
                !key.starts_with("AGENTGUARD_") && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
            })
    );
    assert!(!text.chars().any(|letter| letter == '\u{202e}' || letter == '\r'));
    project.run(&["--out", "o", "--dotenv", "-"], "true").exits(0);
    assert!(project.run(&["--out", "o", "--dotenv", "-"], "exit 1").text().contains("AGENT_RUN_TOKENS=\n"));
    project.run(&["--out", "o", "--dotenv", "no/such"], "touch $OUTSIDE/ran").exits(125).says("--dotenv");
    assert!(!project.outside("ran").exists(), "refused before anything was run");
}

#[test]
fn the_record_goes_to_standard_output_after_what_the_agent_printed() {
    let project = Project::new();
    let outcome = project.run(&["--out", "o", "--record", "-"], "echo hello").exits(0);
    let text = outcome.text();
    let record = text.strip_prefix("hello\n").expect("the agent's output first");
    crate::support::validate_record(record);
    assert_eq!(record.trim_end(), fs::read_to_string(project.state().join("runs.jsonl")).expect("log").trim_end());
}

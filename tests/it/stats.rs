//! `stats` and the filters of `log`: figures that can be counted by hand, unknown is never zero, and a damaged line costs
//! that line only.

use std::fs;

use agentguard::model::error_kind::Failure;
use agentguard::model::record::Usage;
use agentguard::model::{ErrorClass, ErrorKind, RunRecord, Status, Text, Timestamp};
use agentguard::store::log::RunLog;
use agentguard::store::state_dir::StateDir;

use crate::project::Project;
use crate::support::record;

const DAY: i64 = 86_400_000_000;

fn log_of(records: impl IntoIterator<Item = RunRecord>) -> Project {
    let project = Project::new();
    let state = StateDir::open_or_create(&project.state()).expect("state directory");
    let log = RunLog::at(state.path());
    for mut record in records {
        let _ = log.append(&mut record).expect("append");
    }
    project
}

fn failed(number: u64, agent: &str, kind: ErrorKind, message: &str) -> RunRecord {
    RunRecord {
        agent: agent.into(),
        status: Status::Failed,
        published: false,
        error_class: Some(ErrorClass::CleanAbort),
        error: Some(Failure::new(kind, message).with_hint("try again")),
        ..record(number)
    }
}

fn stats(project: &Project, options: &[&str]) -> serde_json::Value {
    let arguments = [&["stats", "--format", "json"], options].concat();
    serde_json::from_str(&project.ag(&arguments).exits(0).text()).expect("JSON")
}

fn sample() -> Project {
    let costs = [Some(0.5), None, Some(1.5), Some(0.25)];
    let mut runs: Vec<RunRecord> =
        (0..4).map(|number| RunRecord { cost_usd: costs[number as usize], ..record(number) }).collect();
    runs[2].tokens_used = Some(1200);
    runs[3].labels.insert("team".into(), "se\"arch".into());
    runs[3].usage =
        Some(Usage { models: vec!["m-1".into(), "m-2".into()], source: "meter".into(), ..Usage::default() });
    runs.push(failed(4, "reader", ErrorKind::ApiRateLimit, "too many requests: \"429\""));
    runs.push(RunRecord { agent: "reader".into(), status: Status::Cancelled, published: false, ..record(5) });
    log_of(runs)
}

#[test]
fn figures_are_those_that_one_counts_by_hand_and_unknown_is_null() {
    let project = sample();
    let answer = stats(&project, &[]);
    let groups = answer["groups"].as_array().expect("groups");
    let [reader, writer] = groups.as_slice() else { panic!("{answer}") };
    assert_eq!((&reader["group"], &reader["runs"], &reader["cancelled"]), (&"reader".into(), &2.into(), &1.into()));
    assert_eq!(reader["success_rate"], 0.0);
    assert_eq!((&reader["cost_usd"], &reader["tokens"], &reader["cost_p95_usd"]), (&().into(), &().into(), &().into()));
    assert_eq!((&reader["cost_unknown"], &reader["classes"]), (&2.into(), &serde_json::json!({"clean_abort": 1})));
    assert_eq!(reader["kinds"], serde_json::json!({"api_rate_limit": 1}));
    assert_eq!((&writer["runs"], &writer["published"], &writer["success_rate"]), (&4.into(), &4.into(), &1.0.into()));
    let low = writer["success_rate_low"].as_f64().expect("a number");
    assert!((low - 0.5101).abs() < 1e-3, "{low}");
    assert_eq!((&writer["cost_usd"], &writer["cost_unknown"]), (&2.25.into(), &1.into()));
    assert_eq!((&writer["cost_p50_usd"], &writer["cost_p95_usd"]), (&0.5.into(), &1.5.into()));
    assert_eq!(writer["cost_per_published_usd"], 0.5625);
    assert_eq!((&writer["tokens"], &writer["tokens_unknown"]), (&1200.into(), &3.into()));
    assert_eq!((&writer["duration_p50_ms"], &writer["duration_p95_ms"]), (&400.0.into(), &400.0.into()));
    assert_eq!((&answer["total"]["runs"], &answer["damaged_lines"]), (&6.into(), &0.into()));
}

#[test]
fn runs_are_grouped_by_what_is_asked() {
    let project = sample();
    let names = |by: &str| -> Vec<(serde_json::Value, u64)> {
        let answer = stats(&project, &["--by", by]);
        let groups = answer["groups"].as_array().expect("groups").iter();
        groups.map(|row| (row["group"].clone(), row["runs"].as_u64().expect("a number"))).collect()
    };
    assert_eq!(names("class"), [("clean_abort".into(), 1), (().into(), 5)]);
    assert_eq!(names("day"), [("2025-11-24".into(), 6)]);
    assert_eq!(names("model"), [("m-1".into(), 1), ("m-2".into(), 1), (().into(), 5)]);
    assert_eq!(names("label:team"), [("se\"arch".into(), 1), (().into(), 5)]);
    project.ag(&["stats", "--by", "label:"]).exits(125).says("label:KEY");
    project.ag(&["stats", "--by", "moon"]).exits(125).says("label:KEY");
}

#[test]
fn log_and_stats_let_the_same_runs_through() {
    let project = sample();
    let cases: [(&[&str], usize); 13] = [
        (&["--agent", "reader"], 2),
        (&["--agent", "reader", "--agent", "writer"], 6),
        (&["--status", "cancelled"], 1),
        (&["--class", "clean_abort"], 1),
        (&["--kind", "api_rate_limit"], 1),
        (&["--kind", "timeout"], 0),
        (&["--label", "team=se\"arch"], 1),
        (&["--label", "team=other"], 0),
        (&["--min-cost", "0.5"], 2),
        (&["--max-cost", "0.4"], 1),
        (&["--grep", "\"429\""], 1),
        (&["--grep", "try again"], 1),
        (&["--grep", "try again", "--agent", "writer"], 0),
    ];
    for (options, expected) in cases {
        let lines = project.ag(&[&["log", "--format", "jsonl"], options].concat()).exits(0).text();
        assert_eq!(lines.lines().count(), expected, "log {options:?}");
        assert_eq!(stats(&project, options)["total"]["runs"], expected, "stats {options:?}");
    }
    for wrong in [["--label", "team"], ["--kind", "nonsense"], ["--status", "nonsense"], ["--min-cost", "much"]] {
        project.ag(&[&["stats"], &wrong[..]].concat()).exits(125);
    }
    project.ag(&["stats", "--since", "2026-01-02", "--until", "2026-01-01"]).exits(125).says("is not after");
}

#[test]
fn the_trend_is_against_the_period_before_of_the_same_length() {
    let at = |number: u64, day: i64, run: RunRecord| RunRecord {
        start_time: Timestamp::from_unix_micros(1_764_000_000_000_000 + day * DAY),
        end_time: Timestamp::from_unix_micros(1_764_000_000_000_000 + day * DAY + 1000),
        run_id: record(number).run_id,
        ..run
    };
    let paid = |cost| RunRecord { cost_usd: Some(cost), ..record(0) };
    let project = log_of([
        at(0, 0, paid(9.0)),
        at(1, 2, paid(1.0)),
        at(2, 3, failed(0, "writer", ErrorKind::ExitCode, "no")),
        at(3, 4, paid(3.0)),
        at(4, 5, paid(2.0)),
    ]);
    let since = Timestamp::from_unix_micros(1_764_000_000_000_000 + 4 * DAY).to_string();
    let until = Timestamp::from_unix_micros(1_764_000_000_000_000 + 6 * DAY).to_string();
    let answer = stats(&project, &["--since", &since, "--until", &until]);
    let writer = &answer["groups"][0];
    assert_eq!((&writer["runs"], &writer["runs_before"]), (&2.into(), &2.into()));
    assert_eq!((&writer["success_rate_change"], &writer["cost_change_usd"]), (&0.5.into(), &4.0.into()));
    let table = project.ag(&["stats", "--since", &since, "--until", &until]).exits(0).text();
    assert!(table.contains("+50.0 pp") && table.contains("+$4.00"), "{table}");
}

#[test]
fn a_damaged_line_is_named_with_its_offset_and_the_rest_is_counted() {
    let project = sample();
    let path = project.state().join("runs.jsonl");
    let text = fs::read_to_string(&path).expect("log");
    let lines: Vec<&str> = text.lines().collect();
    let offset = lines[0].len() + 1;
    for damage in [&lines[1][..200], "\u{1b}[31mgarbage", "", &lines[1].replace("succeeded", "\u{202e}")] {
        let rest = lines[2..].join("\n");
        fs::write(&path, [lines[0], damage, &rest, ""].join("\n")).expect("write");
        for options in [&[][..], &["--agent", "writer"]] {
            let outcome = project.ag(&[&["stats", "--format", "json"], options].concat()).exits(0);
            let outcome = outcome.says(&format!("the line at byte {offset} is damaged"));
            assert!(!outcome.stderr.contains('\x1b') && !outcome.stderr.contains('\u{202e}'));
            let answer: serde_json::Value = serde_json::from_str(&outcome.text()).expect("JSON");
            assert_eq!((&answer["damaged_lines"], &answer["groups"][0]["cost_usd"]).0, &1);
            let listed = project.ag(&[&["log"], options].concat());
            assert!(listed.stderr.contains(&format!("the line at byte {offset} is damaged")), "{}", listed.stderr);
        }
    }
}

#[test]
fn two_threads_count_what_one_counts_whatever_the_lines_are_like() {
    // Past the size from which the log is read in halves, with lines longer than a chunk and shorter ones between them.
    let long = "x".repeat(600_000);
    let run = |number: u64| match number % 100 {
        7 => RunRecord { command: vec![long.as_str().into()], ..record(number) },
        _ => RunRecord { agent: Text(format!("é{}", number % 3).into_bytes()), ..record(number) },
    };
    let project = log_of((0..700).map(run));
    let answer = stats(&project, &[]);
    let counts: Vec<u64> = answer["groups"]
        .as_array()
        .expect("groups")
        .iter()
        .map(|row| row["runs"].as_u64().expect("a number"))
        .collect();
    let expected = |agent: u64| (0..700).filter(|number| number % 100 != 7 && number % 3 == agent).count() as u64;
    assert_eq!(counts, [7, expected(0), expected(1), expected(2)]);
    let listed = project.ag(&["log", "--agent", "é1", "-n", "1000", "--format", "jsonl"]).exits(0).text();
    assert_eq!(listed.lines().count() as u64, expected(1));
    let times: Vec<&str> = listed.lines().map(|line| &line[11..47]).collect();
    assert!(times.is_sorted_by(|newer, older| newer > older), "newest first");
}

#[test]
fn every_form_has_every_group_and_no_name_commands_a_terminal() {
    let hostile = || Text(b"a|b\x1b[2J,\"\n\xff".to_vec());
    let project = log_of([record(0), RunRecord { agent: hostile(), ..record(1) }]);
    for command in ["stats", "log"] {
        for format in ["table", "markdown"] {
            let text = project.ag(&[command, "--format", format]).exits(0).text();
            assert!(!text.contains('\x1b') && text.contains("writer"), "{text:?}");
        }
        let csv = project.ag(&[command, "--format", "csv"]).exits(0).text();
        assert!(csv.contains("\"a|b\x1b[2J,\"\"\n\u{fffd}\""), "{csv:?}");
        let lines = project.ag(&[command, "--format", "jsonl"]).exits(0).text();
        let parsed: Vec<serde_json::Value> =
            lines.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        assert_eq!(parsed.len(), 2);
    }
    let markdown = project.ag(&["stats", "--format", "markdown"]).exits(0).text();
    assert!(markdown.lines().all(|line| line.starts_with('|')), "{markdown}");
    let empty = log_of([]);
    assert_eq!(stats(&empty, &[])["total"]["success_rate"], serde_json::Value::Null);
    empty.ag(&["stats"]).exits(0);
}

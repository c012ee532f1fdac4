//! `log` and `show` answer from what is good, name what is not, and never let a run's bytes command the terminal.

use std::fs;
use std::io::{self, Write};
use std::os::unix::ffi::OsStringExt as _;

use agentguard::cmd::log::{LogAnswer, LogFormat, LogRequest, log};
use agentguard::cmd::render::Paint;
use agentguard::cmd::show::{ShowRequest, ShowWhat, show};
use agentguard::model::error_kind::Failure;
use agentguard::model::record::VerifyRecord;
use agentguard::model::{ErrorClass, ErrorKind, RunRecord, Status, Text};
use agentguard::rules::filter::RunFilters;
use agentguard::store::log::RunLog;
use tempfile::TempDir;

use crate::support::{record, run_id, validate_record};

const TABLE: LogFormat = LogFormat::Table { width: None, paint: Paint::Plain };

fn log_of(records: impl IntoIterator<Item = RunRecord>) -> (TempDir, RunLog) {
    let dir = TempDir::new().expect("temporary directory");
    let log = RunLog::at(dir.path());
    for mut record in records {
        let _ = log.append(&mut record).expect("append");
    }
    (dir, log)
}

fn listed(runs: &RunLog, filters: RunFilters, limit: Option<usize>, format: LogFormat) -> (String, String, LogAnswer) {
    let (mut out, mut warn) = (Vec::new(), Vec::new());
    let answer = log(runs, &LogRequest { filters, limit, format }, &mut out, &mut warn).expect("list");
    (String::from_utf8(out).expect("text"), String::from_utf8(warn).expect("text"), answer)
}

fn shown(dir: &TempDir, run: &str, what: ShowWhat) -> String {
    let mut out = Vec::new();
    show(dir.path(), &ShowRequest { run: run.into(), what }, &mut out).expect("show");
    String::from_utf8(out).expect("text")
}

/// The numbers of the runs that a filter lets through, as `jsonl` gives them.
fn numbers(runs: &RunLog, filters: RunFilters) -> Vec<u64> {
    let (out, _, _) = listed(runs, filters, None, LogFormat::Jsonl);
    let ids = out.lines().map(|line| serde_json::from_str::<RunRecord>(line).expect("a record").run_id);
    ids.map(|id| (0..100).find(|number| run_id(*number) == id).expect("one of them")).collect()
}

#[test]
fn jsonl_is_the_stored_lines_newest_first_and_json_is_one_array_of_the_same() {
    let (_dir, runs) = log_of((0..5).map(record));
    let stored = fs::read_to_string(runs.path()).expect("log");
    let newest: Vec<&str> = stored.lines().rev().take(3).collect();
    newest.iter().for_each(|line| validate_record(line));
    let (jsonl, warned, answer) = listed(&runs, RunFilters::default(), Some(3), LogFormat::Jsonl);
    assert_eq!(jsonl.lines().collect::<Vec<_>>(), newest);
    assert_eq!((warned.as_str(), answer), ("", LogAnswer { shown: 3, damaged: 0 }));
    let (json, _, _) = listed(&runs, RunFilters::default(), Some(3), LogFormat::Json);
    let array: Vec<RunRecord> = serde_json::from_str(&json).expect("an array");
    assert_eq!(array, newest.iter().map(|line| serde_json::from_str(line).expect("a record")).collect::<Vec<_>>());
    let (_empty, none) = log_of([]);
    assert_eq!(listed(&none, RunFilters::default(), None, LogFormat::Json).0, "[]\n");
}

#[test]
fn filters_let_through_what_they_name() {
    let failed = |number, class| RunRecord { status: Status::Failed, error_class: Some(class), ..record(number) };
    let (_dir, runs) = log_of([
        record(0),
        failed(1, ErrorClass::CleanAbort),
        RunRecord { agent: "reader".into(), ..failed(2, ErrorClass::PartialWrite) },
        record(3),
    ]);
    let none = RunFilters::default;
    assert_eq!(numbers(&runs, none()), [3, 2, 1, 0]);
    assert_eq!(numbers(&runs, RunFilters { agents: vec!["reader".into()], ..none() }), [2]);
    assert_eq!(numbers(&runs, RunFilters { statuses: vec![Status::Failed], ..none() }), [2, 1]);
    assert_eq!(numbers(&runs, RunFilters { classes: vec![ErrorClass::CleanAbort], ..none() }), [1]);
    let (since, until) = (Some(record(1).start_time), Some(record(3).start_time));
    assert_eq!(numbers(&runs, RunFilters { since, until, ..none() }), [2, 1]);
}

#[test]
fn the_table_says_who_when_how_and_what_came_of_it() {
    let mut failed = RunRecord { status: Status::Rejected, error_class: Some(ErrorClass::SilentDrift), ..record(1) };
    failed.error = Some(Failure::new(ErrorKind::VerifyFailed, "make check exited with 2"));
    failed.tokens_used = Some(18_249);
    failed.cost_usd = Some(0.0512);
    failed.published = false;
    let (_dir, runs) = log_of([record(0), failed]);
    let (table, _, _) = listed(&runs, RunFilters::default(), None, TABLE);
    let words = |at: usize| table.lines().nth(at).expect("a line").split_whitespace().collect::<Vec<_>>();
    assert_eq!(words(0), ["RUN", "STARTED", "AGENT", "STATUS", "TOOK", "TOKENS", "COST", "RESULT"]);
    assert_eq!(words(1)[0], run_id(1).short());
    let cells =
        ["writer", "rejected", "silent_drift", "400ms", "18.2k", "$0.0512", "make", "check", "exited", "with", "2"];
    assert_eq!(words(1)[3..], cells);
    assert_eq!(words(2)[3..], ["writer", "succeeded", "400ms", "-", "-", "reports"]);
    let narrow = LogFormat::Table { width: Some(100), paint: Paint::Plain };
    let (table, _, _) = listed(&runs, RunFilters::default(), None, narrow);
    assert!(table.lines().all(|line| line.chars().count() <= 100), "{table}");
}

#[test]
fn a_damaged_line_is_named_with_its_offset_and_the_rest_is_listed() {
    let (_dir, runs) = log_of((0..3).map(record));
    let text = fs::read_to_string(runs.path()).expect("log");
    let lines: Vec<&str> = text.lines().collect();
    let offset = lines[0].len() + 1;
    fs::write(runs.path(), [lines[0], &lines[1][..200], lines[2], ""].join("\n")).expect("write");
    for format in [TABLE, LogFormat::Json, LogFormat::Jsonl] {
        let (out, warned, answer) = listed(&runs, RunFilters::default(), None, format);
        assert_eq!(answer, LogAnswer { shown: 2, damaged: 1 });
        assert!(warned.contains(&format!("the line at byte {offset} is damaged: ")), "{warned}");
        let (newest, oldest) = (run_id(2).short(), run_id(0).short());
        assert!(out.contains(&newest) && out.contains(&oldest), "{out}");
    }
}

#[test]
fn names_that_would_command_a_terminal_are_spelled_out_and_come_back_from_json_as_they_were() {
    let hostile = b"a\nb\x1b]0;title\x07\xff\xe2\x80\xaegpj".to_vec();
    let text = || Text(hostile.clone());
    let mut run = RunRecord { agent: text(), command: vec![text()], cwd: text(), targets: vec![text()], ..record(0) };
    run.labels.insert("l\x1b".into(), "\u{202e}\r\n".into());
    run.verify = vec![VerifyRecord { command: text(), exit_code: Some(1), duration_ms: 5 }];
    run.error = Some(Failure::new(ErrorKind::VerifyFailed, "\x1b[2J").with_hint("\u{9b}2J"));
    run.host = text();
    let (dir, runs) = log_of([run.clone()]);
    let run_dir = dir.path().join("runs").join(run_id(0).to_string());
    fs::create_dir_all(&run_dir).expect("run directory");
    fs::write(run_dir.join("verify-1.log"), b"fine\n\x1b[31mred\r\xff\n").expect("verify log");

    let table = listed(&runs, RunFilters::default(), None, TABLE).0;
    let page = shown(&dir, "@", ShowWhat::Summary(Paint::Plain));
    for output in [&table, &page] {
        let obeyed = |letter: char| (letter.is_control() && letter != '\n') || "\u{202e}\u{9b}".contains(letter);
        assert!(!output.chars().any(obeyed), "{output:?}");
    }
    assert_eq!(table.lines().count(), 2);
    assert!(page.contains("| \\x1b[31mred\\x0d\\xff"), "{page}");

    for json in [listed(&runs, RunFilters::default(), None, LogFormat::Jsonl).0, shown(&dir, "@", ShowWhat::Json)] {
        validate_record(&json);
        let back: RunRecord = serde_json::from_str(&json).expect("a record");
        assert_eq!(back.agent.as_os_str(), std::ffi::OsString::from_vec(hostile.clone()));
        assert_eq!(back, run);
    }
}

#[test]
fn what_is_said_about_a_damaged_line_holds_nothing_that_a_terminal_obeys() {
    let (_dir, runs) = log_of([record(0)]);
    let text = fs::read_to_string(runs.path()).expect("log");
    fs::write(runs.path(), text.replace("succeeded", "\\u001b[2J\u{202e}")).expect("write");
    let (_, warned, answer) = listed(&runs, RunFilters::default(), None, TABLE);
    assert_eq!(answer.damaged, 1);
    assert!(warned.contains("\\u{1b}[2J\\u{202e}"), "{warned:?}");
}

#[test]
fn the_page_has_the_failure_its_hint_the_end_of_the_failed_verify_and_the_place_in_the_log() {
    let mut run = RunRecord { status: Status::Rejected, error_class: Some(ErrorClass::SilentDrift), ..record(1) };
    run.error = Some(Failure::new(ErrorKind::VerifyFailed, "make check exited with 2").with_hint("read the log"));
    run.command = vec!["python3".into(), "two words".into()];
    run.verify = vec![
        VerifyRecord { command: "true".into(), exit_code: Some(0), duration_ms: 5 },
        VerifyRecord { command: "make check".into(), exit_code: Some(2), duration_ms: 1500 },
    ];
    run.replay_of = Some(run_id(0));
    let (dir, runs) = log_of([record(0), run]);
    let run_dir = dir.path().join("runs").join(run_id(1).to_string());
    fs::create_dir_all(&run_dir).expect("run directory");
    let output: String = (0..30).map(|line| format!("line {line}\n")).collect();
    fs::write(run_dir.join("verify-2.log"), output).expect("verify log");
    let page = shown(&dir, &run_id(1).short(), ShowWhat::Summary(Paint::Plain));
    let offset = runs.in_order().expect("read").nth(1).expect("a line").expect("read").offset;
    for part in [
        "python3 'two words'",
        "rejected (silent_drift)",
        "verify_failed: make check exited with 2",
        "read the log",
        "1  passed in 5ms  true",
        "2  failed (2) in 1.5s  make check",
        "     | line 20\n",
        "     | line 29\n",
        &run_id(0).to_string(),
        &format!("byte {offset} of "),
    ] {
        assert!(page.contains(part), "{part:?} is missing in\n{page}");
    }
    assert!(!page.contains("| line 19"));
    fs::write(run_dir.join("verify-2.log.tail"), "the very end\n").expect("tail of the verify log");
    let page = shown(&dir, "@", ShowWhat::Summary(Paint::Plain));
    assert!(page.contains("     | the very end\n") && !page.contains("| line 29"), "{page}");
}

#[test]
fn a_reader_that_leaves_early_is_no_error() {
    struct Closed;
    impl Write for Closed {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let (dir, runs) = log_of((0..300).map(record));
    for format in [TABLE, LogFormat::Json, LogFormat::Jsonl] {
        let request = LogRequest { filters: RunFilters::default(), limit: None, format };
        let _ = log(&runs, &request, &mut Closed, &mut Closed).expect("no error");
    }
    let request = ShowRequest { run: "@".into(), what: ShowWhat::Json };
    show(dir.path(), &request, &mut Closed).expect("no error");
}

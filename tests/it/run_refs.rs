//! Every way to name a run finds that run and no other, or says which ones it could have been.

use std::fs;

use agentguard::cmd::run_choice::choose;
use agentguard::model::{RunId, RunRecord, Status};
use agentguard::rules::run_ref::RunRef;
use agentguard::store::log::{FindError, RunLog};
use proptest::prelude::*;
use tempfile::TempDir;

use crate::support::{record, run_id};

fn log_of(records: impl IntoIterator<Item = RunRecord>) -> (TempDir, RunLog) {
    let dir = TempDir::new().expect("temporary directory");
    let log = RunLog::at(dir.path());
    for mut record in records {
        let _ = log.append(&mut record).expect("append");
    }
    (dir, log)
}

fn found(log: &RunLog, text: &str) -> RunId {
    choose(log, text).expect(text).record().expect("a record").run_id
}

fn with_status(number: u64, status: Status) -> RunRecord {
    RunRecord { status, ..record(number) }
}

#[test]
fn ids_prefixes_suffixes_and_positions_find_their_run() {
    let (_dir, log) = log_of((0..40).map(record));
    for number in 0..40 {
        let id = run_id(number);
        assert_eq!(found(&log, &id.to_string()), id);
        assert_eq!(found(&log, &id.to_string().to_uppercase()), id);
        assert_eq!(found(&log, &id.short()), id);
        assert_eq!(found(&log, &id.to_string()[..13]), id, "a second apart: the time is enough");
        assert_eq!(found(&log, &id.to_string().replace('-', "")), id);
        assert_eq!(found(&log, &format!("@-{}", 39 - number)), id);
    }
    assert_eq!(found(&log, "@"), run_id(39));
    assert!(choose(&log, "@-40").is_err());
}

#[test]
fn the_newest_failed_run_is_one_that_went_wrong_and_not_one_that_was_stopped_or_held() {
    use Status::{Blocked, Cancelled, Failed, Held, Interrupted, Rejected, Succeeded};
    for failed in [Failed, Rejected, Blocked, Interrupted] {
        let statuses = [Failed, Succeeded, failed, Cancelled, Held, Succeeded];
        let (_dir, log) = log_of((0..).zip(statuses).map(|(number, status)| with_status(number, status)));
        assert_eq!(found(&log, "@failed"), run_id(2));
    }
    let (_dir, log) = log_of([record(0)]);
    assert!(choose(&log, "@failed").expect_err("none failed").to_string().starts_with("no run @failed"));
}

#[test]
fn an_ambiguous_beginning_lists_the_newest_ten_candidates() {
    let (_dir, log) = log_of((0..25).map(record));
    let error = choose(&log, "019a").expect_err("all of them begin so").to_string();
    let lines: Vec<&str> = error.lines().collect();
    assert_eq!(lines[0], "019a may be any of 25 runs, the newest of them:");
    let ids: Vec<&str> = lines[1..].iter().map(|line| line.split_whitespace().next().expect("an id")).collect();
    assert_eq!(ids, (15..25).rev().map(|number| run_id(number).to_string()).collect::<Vec<_>>());
    assert!(lines[1].ends_with("  writer  succeeded"), "{}", lines[1]);
}

#[test]
fn a_part_that_begins_one_id_and_ends_another_is_ambiguous() {
    let one = RunId::mint(0xabcd_1234_5678, [7; 10]);
    let other = RunId::mint(0x1111_1111_1111, [0, 0, 0, 0, 0, 0, 0, 0, 0xab, 0xcd]);
    let (_dir, log) = log_of([one, other].map(|run_id| RunRecord { run_id, ..record(0) }));
    let reference: RunRef = "abcd".parse().expect("a reference");
    assert!(matches!(log.find(&reference), Err(FindError::Ambiguous { count: 2, .. })));
    assert_eq!(found(&log, "abcd1"), one);
    assert_eq!(found(&log, "0abcd"), other);
}

#[test]
fn a_run_with_two_lines_is_still_one_run() {
    let (_dir, log) = log_of([record(0), record(1), record(0)]);
    assert_eq!(found(&log, &run_id(0).short()), run_id(0));
    assert_eq!(found(&log, &run_id(0).to_string()), run_id(0));
}

#[test]
fn an_unknown_run_names_the_newest_ones_and_text_that_is_no_reference_is_refused() {
    let (_dir, log) = log_of((0..8).map(record));
    let error = choose(&log, &run_id(100).to_string()).expect_err("not there").to_string();
    assert_eq!(error.lines().count(), 6);
    assert!(error.contains(&run_id(7).to_string()) && !error.contains(&run_id(2).to_string()));
    for text in ["../runs", "/etc/passwd", "", "@\u{1b}[31m"] {
        assert!(choose(&log, text).expect_err(text).to_string().contains("is no run"));
    }
    let (_empty, log) = log_of([]);
    assert!(choose(&log, "@").expect_err("empty").to_string().ends_with("holds none"));
}

#[test]
fn an_id_that_another_run_mentions_is_not_taken_for_that_run() {
    let original = run_id(1);
    let replay = RunRecord { replay_of: Some(original), parent_run_id: Some(original), ..record(2) };
    let (_dir, log) = log_of([replay.clone()]);
    assert!(!log.contains(&original).expect("read"));
    assert!(choose(&log, &original.to_string()).is_err());
    assert!(choose(&log, &original.short()).is_err());
    let (_dir, log) = log_of([replay, record(1)]);
    assert_eq!(found(&log, &original.to_string()), original);
}

#[test]
fn a_run_is_found_wherever_its_line_is_even_if_clocks_jumped_or_it_was_written_late() {
    // Long lines, so that the log is larger than one read and the binary search has something to get wrong.
    let padded = |number: u64| {
        let mut record = record(number);
        record.labels.insert("padding".into(), "x".repeat(8000));
        record
    };
    let order: Vec<u64> = (100..300).chain(0..100).chain([400, 350]).chain(301..320).collect();
    let (_dir, log) = log_of(order.iter().map(|number| padded(*number)));
    for number in order {
        assert_eq!(found(&log, &run_id(number).to_string()), run_id(number), "run {number}");
    }
    assert!(!log.contains(&run_id(340)).expect("read"));
}

#[test]
fn large_logs_are_searched_on_two_threads_and_no_line_is_missed_at_a_seam() {
    let dir = TempDir::new().expect("temporary directory");
    let mut bytes = Vec::new();
    for number in 0..9000 {
        let mut record = record(number);
        record.labels.insert("padding".into(), "x".repeat(usize::try_from(number * 31 % 211).expect("small")));
        bytes.extend(serde_json::to_vec(&record).expect("JSON"));
        bytes.push(b'\n');
    }
    assert!(bytes.len() > 8 << 20, "large enough for two threads");
    fs::write(dir.path().join("runs.jsonl"), bytes).expect("write");
    let log = RunLog::at(dir.path());
    for number in (0..9000).step_by(7) {
        assert!(log.contains(&run_id(number)).expect("read"), "run {number}");
    }
    for number in (0..9000).step_by(301) {
        assert_eq!(found(&log, &run_id(number).to_string()[20..]), run_id(number));
    }
    let reference: RunRef = "019a".parse().expect("a reference");
    assert!(matches!(log.find(&reference), Err(FindError::Ambiguous { count: 9000, .. })), "every line is seen once");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20))]

    #[test]
    fn any_part_finds_what_a_plain_search_finds(numbers in prop::collection::btree_set(0_u64..5000, 1..30), at in 0..29_usize, len in 4..32_usize) {
        let (_dir, log) = log_of(numbers.iter().map(|number| record(*number)));
        let ids: Vec<String> = numbers.iter().map(|number| run_id(*number).to_string().replace('-', "")).collect();
        let id = &ids[at % ids.len()];
        for part in [&id[..len], &id[32 - len..]] {
            let matching = ids.iter().filter(|id| id.starts_with(part) || id.ends_with(part)).count() as u64;
            match log.find(&part.parse().expect("hex")) {
                Ok(line) => {
                    prop_assert_eq!(matching, 1);
                    prop_assert_eq!(&line.record().expect("a record").run_id.to_string().replace('-', ""), id);
                }
                Err(FindError::Ambiguous { count, .. }) => prop_assert_eq!(count, matching),
                Err(other) => prop_assert!(false, "{}", other),
            }
        }
    }
}

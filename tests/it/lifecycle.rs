//! The one table of a run's life, walked whole: every (phase, event) pair, and recovery of every prefix of every
//! legal journal.

use std::collections::{BTreeMap, BTreeSet};

use agentguard::model::error_kind::{ErrorKind, Failure, Status};
use agentguard::model::event::*;
use agentguard::model::record::{Changes, Isolation, Mode, VerifyRecord};
use agentguard::model::{Digest, Event, RunId, Text, Timestamp};
use agentguard::rules::fold::fold;
use agentguard::rules::lifecycle::{PHASES, Phase, phase_after};
use agentguard::rules::recovery::{Recovery, decide, purpose_of};

fn time(seconds: i64) -> Timestamp {
    Timestamp::from_unix_micros(1_764_000_000_000_000 + seconds * 1_000_000)
}

fn digest(byte: u8) -> Digest {
    Digest([byte; 32])
}

fn header() -> Header {
    Header {
        run_id: RunId::mint(1_764_000_000_000, [1; 10]),
        time: time(0),
        agent: Text::from("agent"),
        command: vec![Text::from("agent")],
        cwd: Text::from("/p"),
        mode: Mode::Publish,
        targets: vec![Text::from("report")],
        needs: Vec::new(),
        labels: BTreeMap::new(),
        parent_run_id: None,
        replay_of: None,
        redrive_of: None,
        host: Text::from("host"),
        user: Text::from("user"),
        agentguard: "0".to_owned(),
        git: None,
        isolation: Isolation {
            view: "staging".to_owned(),
            level: "none".to_owned(),
            landlock_abi: None,
            network: "host".to_owned(),
            processes: None,
        },
    }
}

fn attempt_end(failure: Option<Failure>) -> AttemptEnd {
    AttemptEnd {
        time: time(3),
        exit_code: Some(i32::from(failure.is_some())),
        signal: None,
        failure,
        cancelled_by: None,
        stdin: None,
        usage: None,
        cost_usd: None,
        cost_source: None,
        retry_after_ms: None,
        stdout_bytes: 0,
        stderr_bytes: 0,
        isolation: None,
        leaked_processes: None,
    }
}

/// One event of each kind (and both kinds of judgement).
fn events() -> Vec<Event> {
    let failure = || Failure::new(ErrorKind::VerifyFailed, "no");
    let snapshot = SnapshotRef { manifest: digest(2), pack: digest(3) };
    vec![
        Event::Started(Box::new(header())),
        Event::Snapshotted(SnapshotTaken {
            time: time(1),
            input_hash: digest(1),
            snapshot,
            files: 1,
            bytes: 1,
            unstable: Vec::new(),
            skipped: 0,
            left_out: 0,
            began: None,
        }),
        Event::AttemptStarted(AttemptStart { number: 1, time: time(2), staging: Text::from("/s"), private: None }),
        Event::AttemptEnded(attempt_end(None)),
        Event::Sealed(Sealed {
            time: time(4),
            output_hash: Some(digest(4)),
            files: 2,
            bytes: 9,
            contents: None,
            discarded: None,
            drift: None,
        }),
        Event::VerifyEnded(VerifyRecord { command: Text::from("true"), exit_code: Some(0), duration_ms: 1 }),
        Event::Judged(Judgement { time: time(5), rejection: None }),
        Event::Judged(Judgement { time: time(5), rejection: Some(failure()) }),
        Event::CommitIntended(CommitPlan {
            time: time(6),
            operations: Vec::new(),
            plan: None,
            changes: Changes::default(),
        }),
        Event::CommitDone(CommitDone { time: time(7) }),
        Event::CommitAborted(CommitAborted { time: time(7), failure: failure() }),
        Event::Interrupted(Interrupted { time: time(8), staged_files: 0, staged_bytes: 0 }),
        Event::Settled(Settled { time: time(9), status: Status::Failed, failure: None, guard_exit_code: Some(1) }),
        Event::Reopened(Reopened { time: time(10), purpose: Purpose::Undo }),
        Event::Closed(Closed { time: time(11), purpose: Purpose::Undo, failure: None }),
    ]
}

/// Every legal journal up to a length: a walk of the table from its beginning.
fn legal_journals(longest: usize) -> Vec<Vec<Event>> {
    let mut found = vec![Vec::new()];
    let mut edge = vec![Vec::new()];
    for _ in 0..longest {
        let mut longer = Vec::new();
        for journal in &edge {
            for event in events() {
                let mut next: Vec<Event> = journal.clone();
                next.push(event);
                if phase_after(&next).is_ok() {
                    longer.push(next);
                }
            }
        }
        found.extend(longer.iter().cloned());
        edge = longer;
    }
    found
}

#[test]
fn every_phase_is_reachable_and_every_pair_has_an_answer() {
    let reached: BTreeSet<String> =
        legal_journals(11).iter().map(|journal| format!("{:?}", phase_after(journal).expect("legal"))).collect();
    let all: BTreeSet<String> = PHASES.iter().map(|phase| format!("{phase:?}")).collect();
    assert_eq!(reached, all);
    for phase in PHASES {
        for event in events() {
            // A run that is over takes nothing; one that is not there takes only its beginning.
            match (phase, phase.next(&event)) {
                // It can only be taken up again.
                (Phase::Settled, answer) => assert_eq!(answer.is_ok(), matches!(event, Event::Reopened(_))),
                (Phase::Absent, answer) => assert_eq!(answer.is_ok(), matches!(event, Event::Started(_))),
                (Phase::Committing | Phase::Recommitting, answer) => {
                    let decided = matches!(event, Event::CommitDone(_) | Event::CommitAborted(_));
                    assert_eq!(answer.is_ok(), decided, "mixed targets are only completed or taken back");
                }
                _ => {}
            }
        }
    }
}

#[test]
fn recovery_has_an_answer_to_every_prefix_and_its_end_is_a_record() {
    for journal in legal_journals(8) {
        let decision = decide(&journal).expect("an answer");
        let phase = phase_after(&journal).expect("legal");
        let mut completed = journal.clone();
        let settle =
            |status, failure| Event::Settled(Settled { time: time(20), status, failure, guard_exit_code: None });
        let close = |purpose, failure| Event::Closed(Closed { time: time(20), purpose, failure });
        match decision {
            Recovery::Forget => {
                assert!(journal.is_empty());
                continue;
            }
            Recovery::Drop => {
                assert!(phase.may_be_dropped());
                completed.push(Event::Interrupted(Interrupted { time: time(19), staged_files: 1, staged_bytes: 1 }));
                completed.push(settle(Status::Interrupted, Some(Failure::new(ErrorKind::SupervisorDied, "died"))));
            }
            Recovery::RollForward(_) => {
                completed.push(Event::CommitDone(CommitDone { time: time(19) }));
                completed.push(match phase {
                    Phase::Committing => settle(Status::Succeeded, None),
                    Phase::Recommitting => close(purpose_of(&journal), None),
                    other => panic!("nothing to roll forward in {other:?}"),
                });
            }
            Recovery::Close { purpose, failure } => {
                assert!(matches!(phase, Phase::Reopened | Phase::Recommitted | Phase::Reaborted));
                completed.push(close(purpose, failure));
            }
            Recovery::Settle { status, failure } => completed.push(settle(status, failure)),
            Recovery::Append => assert_eq!(phase, Phase::Settled),
        }
        let record = fold(&completed).expect("a record");
        // What is decided after the run's end is in its journal, not in its record.
        let end = completed.iter().position(|event| matches!(event, Event::Settled(_))).expect("an end");
        assert_eq!(record.published, completed[..end].iter().any(|event| matches!(event, Event::CommitDone(_))));
        assert_eq!(decide(&completed), Ok(Recovery::Append), "recovery is idempotent");
    }
}

#[test]
fn an_interrupted_run_is_classed_by_what_it_had_staged() {
    let events = events();
    let mut journal = events[..3].to_vec();
    journal.push(Event::Interrupted(Interrupted { time: time(5), staged_files: 3, staged_bytes: 5 }));
    let died = Failure::new(ErrorKind::SupervisorDied, "died");
    journal.push(Event::Settled(Settled {
        time: time(6),
        status: Status::Interrupted,
        failure: Some(died),
        guard_exit_code: None,
    }));
    let record = fold(&journal).expect("a record");
    assert_eq!(record.status, Status::Interrupted);
    assert_eq!(record.error_class.map(|class| class.to_string()), Some("partial_write".to_owned()));
    assert_eq!(record.attempts.len(), 1);
    assert_eq!((record.exit_code, record.guard_exit_code), (None, None));
}

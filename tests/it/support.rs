//! What several test files need: records, and the judgement of every record that a test writes.

use std::sync::LazyLock;

use agentguard::model::record::{Isolation, Mode, RECORD_SCHEMA, RunRecord};
use agentguard::model::{Digest, RunId, Status, Timestamp};

static RECORD_SCHEMA_VALIDATOR: LazyLock<jsonschema::Validator> = LazyLock::new(|| {
    let schema = serde_json::from_str(&agentguard::cmd::schema::schema_json()).expect("the schema is JSON");
    jsonschema::draft202012::new(&schema).expect("the schema is a schema")
});

/// Fails unless the line is a run record by the JSON Schema.
pub(crate) fn validate_record(line: &str) {
    let record = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
    let wrong: Vec<String> = RECORD_SCHEMA_VALIDATOR
        .iter_errors(&record)
        .map(|error| format!("{}: {error}", error.instance_path()))
        .collect();
    assert!(wrong.is_empty(), "{}\n{line}", wrong.join("\n"));
}

/// Run number `number` of a test: each starts a second after the one before and takes 0.4 s.
pub(crate) fn run_id(number: u64) -> RunId {
    let mut random = [0x5a; 10];
    random[2..].copy_from_slice(&number.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_be_bytes());
    RunId::mint(1_764_000_000_000 + number * 1000, random)
}

/// A record of a run that succeeded.
pub(crate) fn record(number: u64) -> RunRecord {
    let start = 1_764_000_000_000_000 + i64::try_from(number).expect("small") * 1_000_000;
    RunRecord {
        run_id: run_id(number),
        start_time: Timestamp::from_unix_micros(start),
        end_time: Timestamp::from_unix_micros(start + 400_000),
        status: Status::Succeeded,
        input_hash: Some(Digest([1; 32])),
        output_hash: Some(Digest([2; 32])),
        tokens_used: None,
        cost_usd: None,
        error_class: None,
        schema: RECORD_SCHEMA,
        agent: "writer".into(),
        command: vec!["python3".into(), "agent.py".into()],
        cwd: "/work".into(),
        mode: Mode::Publish,
        targets: vec!["reports".into()],
        published: true,
        exit_code: Some(0),
        signal: None,
        guard_exit_code: Some(0),
        error: None,
        attempts: Vec::new(),
        verify: Vec::new(),
        changes: None,
        discarded: None,
        leaked_processes: None,
        usage: None,
        cost_source: None,
        isolation: Isolation {
            view: "overlay".into(),
            level: "auto".into(),
            landlock_abi: Some(7),
            network: "host".into(),
            processes: None,
        },
        input_drift: None,
        needs: Vec::new(),
        labels: Default::default(),
        parent_run_id: None,
        replay_of: None,
        redrive_of: None,
        host: "host".into(),
        user: "user".into(),
        agentguard: "0.1.0".into(),
        git: None,
        prev: None,
    }
}

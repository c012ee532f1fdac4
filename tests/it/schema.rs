//! The checked-in JSON Schema is the one the code means. `AGENTGUARD_BLESS=1` rewrites it.

use std::path::Path;

#[test]
fn the_checked_in_record_schema_is_what_the_types_say() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("schema/run-record.schema.json");
    let rendered = agentguard::cmd::schema::schema_json();
    if std::env::var_os("AGENTGUARD_BLESS").is_some() {
        std::fs::write(&path, &rendered).expect("write the schema");
    }
    let kept = std::fs::read_to_string(&path).expect("schema/run-record.schema.json is checked in");
    assert!(kept == rendered, "{} differs from the types: AGENTGUARD_BLESS=1 cargo test rewrites it", path.display());
    let others = std::fs::read_dir(path.parent().expect("a directory")).expect("schema directory").count();
    assert_eq!(others, 1, "schema/ holds what is rendered and nothing else");
}

#[test]
fn the_schema_takes_a_record_and_refuses_one_without_a_contract_field_or_with_a_new_word() {
    let schema: serde_json::Value = serde_json::from_str(&agentguard::cmd::schema::schema_json()).expect("JSON");
    let validator = jsonschema::draft202012::new(&schema).expect("a schema");
    let good = serde_json::to_value(crate::support::record(1)).expect("JSON");
    assert!(validator.is_valid(&good));
    let nine = [
        "run_id",
        "start_time",
        "end_time",
        "status",
        "input_hash",
        "output_hash",
        "tokens_used",
        "cost_usd",
        "error_class",
    ];
    for field in nine {
        let mut without = good.clone();
        without.as_object_mut().expect("an object").remove(field);
        assert!(!validator.is_valid(&without), "{field} may not be missing");
    }
    for (field, value) in [("status", "done"), ("run_id", "../x"), ("error_class", "oops"), ("start_time", "today")] {
        let mut wrong = good.clone();
        wrong[field] = value.into();
        assert!(!validator.is_valid(&wrong), "{field} may not be {value}");
    }
}

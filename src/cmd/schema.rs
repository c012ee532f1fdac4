//! The JSON Schema of a line of the run log, rendered from the Rust types; the copy in `schema/` is compared with it
//! by a test.

use schemars::generate::SchemaSettings;

use crate::model::RunRecord;

/// The JSON Schema (draft 2020-12) of what is written: every field is there, unknown is null.
pub fn schema_json() -> String {
    let mut schema =
        SchemaSettings::draft2020_12().for_serialize().into_generator().into_root_schema_for::<RunRecord>();
    schema.insert("title".to_owned(), "agentguard run record".into());
    let mut text = format!("{:#}", schema.as_value());
    text.push('\n');
    text
}

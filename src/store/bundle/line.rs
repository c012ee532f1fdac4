//! The three JSON files of a run as they leave the machine: its record, what was asked, and its journal.

use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::BundleError;
use crate::model::event::{Closed, Event, Purpose, Reopened};
use crate::model::spec::{RunFile, RunSpec};
use crate::model::{RunId, RunRecord, Status};
use crate::rules::redact_bundle::{Secrets, public_environment};
use crate::store::run_dir::RUN_FILE_SCHEMA;

/// A record without its secrets, and without its place in a log.
pub fn public_record(record: &RunRecord, secrets: &Secrets) -> Result<RunRecord, BundleError> {
    let record = RunRecord { prev: None, ..record.clone() };
    redacted(&record, secrets, "record.json")
}

/// What was asked, without its secrets.
pub(super) fn public_spec(run_id: RunId, spec: &RunSpec, secrets: &Secrets) -> Result<RunFile, BundleError> {
    let spec = RunSpec { environment: public_environment(&spec.environment), ..spec.clone() };
    redacted(&RunFile { schema: RUN_FILE_SCHEMA, run_id, spec }, secrets, "run.json")
}

/// The events that a replay needs. Commits are left out: what they displaced stays where it was, so that nothing can be
/// taken back elsewhere; for the same reason a result that is held is one that was dropped.
pub(super) fn public_events(events: &[Event], secrets: &Secrets) -> Result<Vec<Event>, BundleError> {
    let mut public = Vec::with_capacity(events.len());
    for event in events {
        match event {
            Event::CommitIntended(_) | Event::CommitDone(_) | Event::CommitAborted(_) => {}
            Event::Reopened(_) | Event::Closed(_) => {}
            event => public.push(redacted(event, secrets, "journal")?),
        }
        if let Event::Settled(settled) = event
            && settled.status == Status::Held
        {
            let (time, purpose) = (settled.time, Purpose::Discard);
            public.push(Event::Reopened(Reopened { time, purpose }));
            public.push(Event::Closed(Closed { time, purpose, failure: None }));
        }
    }
    Ok(public)
}

/// JSON and a newline.
pub(super) fn to_line(value: &impl Serialize, name: &str) -> Result<Vec<u8>, BundleError> {
    let mut bytes = serde_json::to_vec(value).map_err(|error| as_io(name, error))?;
    bytes.push(b'\n');
    Ok(bytes)
}

/// By way of plain JSON, and back, so that the order of fields is that of the type.
fn redacted<T: Serialize + DeserializeOwned>(value: &T, secrets: &Secrets, name: &str) -> Result<T, BundleError> {
    let mut json = serde_json::to_value(value).map_err(|error| as_io(name, error))?;
    secrets.redact_json(&mut json);
    serde_json::from_value(json).map_err(|error| as_io(name, error))
}

fn as_io(name: &str, error: serde_json::Error) -> BundleError {
    BundleError::at("write", Path::new(name))(error.into())
}

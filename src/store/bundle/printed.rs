//! What a run has printed, without its secrets.

use std::io;
use std::path::Path;

use super::BundleError;
use crate::rules::redact_bundle::Secrets;
use crate::store::capture::tail_path;

/// A captured stream, at most twice [`crate::store::capture::KEPT_BYTES`] in memory.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Printed {
    /// The beginning; all of it, where nothing is missing.
    pub(super) head: Option<Vec<u8>>,
    /// The end, where something is missing between them.
    pub(super) tail: Option<Vec<u8>>,
    /// By how many bytes both are longer than what was kept.
    pub(super) longer_by: i64,
}

/// Reads a stream that had `total` bytes, as far as that is known.
pub(super) fn read(path: &Path, total: Option<u64>, secrets: &Secrets) -> Result<Printed, BundleError> {
    let tail = tail_path(path);
    let (head, tail) = (read_if_there(path)?, read_if_there(&tail)?);
    let kept = |part: &Option<Vec<u8>>| part.as_ref().map_or(0, |bytes| bytes.len() as u64);
    let before = kept(&head) + kept(&tail);
    let mut printed = match (head, tail) {
        (Some(head), Some(tail)) if total.is_none_or(|total| total > before) => {
            let (head, tail) = secrets.redact_cut(&head, &tail);
            Printed { head: Some(head), tail: Some(tail), longer_by: 0 }
        }
        // Nothing is missing between the two: a key may stand across them.
        (Some(head), Some(tail)) => {
            Printed { head: Some(secrets.redact(&[head, tail].concat())), tail: None, longer_by: 0 }
        }
        (head, tail) => {
            let redacted = |part: Option<Vec<u8>>| part.map(|bytes| secrets.redact(&bytes));
            Printed { head: redacted(head), tail: redacted(tail), longer_by: 0 }
        }
    };
    let after = kept(&printed.head) + kept(&printed.tail);
    printed.longer_by = after.cast_signed() - before.cast_signed();
    Ok(printed)
}

fn read_if_there(path: &Path) -> Result<Option<Vec<u8>>, BundleError> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(BundleError::at("read", path)(error)),
    }
}

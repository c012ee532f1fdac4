//! A plan as a file: `agentguard-plan 1\n`, the root, the parents, the operations, then the SHA-256 of all that.

use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use crate::model::{Digest, RelPath, Text};
use crate::sys::durable;

use super::parents::Parent;
use super::plan::{Action, Operation, Plan};
use super::wire::{Fields, put_after, put_attributes, put_number, put_seen, put_time};

const MAGIC: &[u8] = b"agentguard-plan 1\n";

/// Bytes of the hash at the end.
const TRAILER: usize = 32;

/// Why a plan cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadPlanError {
    /// The kernel said no.
    #[error("cannot read {path:?}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The kernel's words.
        source: io::Error,
    },
    /// Its bytes are not those that were written, or not the plan that was asked for.
    #[error("{path:?} is damaged: its hash does not match")]
    Hash {
        /// The file.
        path: PathBuf,
    },
    /// Its bytes are those that were written and no plan of this version.
    #[error("{path:?} is not a plan of this version")]
    Parse {
        /// The file.
        path: PathBuf,
    },
}

impl Plan {
    /// Writes the plan to a file of its own, durably, and names it by its hash: what is written down before the first
    /// rename, for whoever has to complete it. A crash leaves a file that does not match; nothing relies on it yet.
    pub fn write(&self, path: &Path) -> io::Result<Digest> {
        let mut bytes = self.to_bytes();
        let digest = Sha256::digest(&bytes);
        bytes.extend_from_slice(&digest);
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
        file.write_all(&bytes)?;
        durable::sync_data(&file)?;
        durable::sync_directory(path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new(".")))?;
        Ok(Digest(digest.into()))
    }

    /// Reads a plan back; it must be the one that [`Self::write`] named so.
    pub fn read(path: &Path, digest: Digest) -> Result<Self, ReadPlanError> {
        let bytes = std::fs::read(path).map_err(|source| ReadPlanError::Io { path: path.into(), source })?;
        let body = bytes.split_last_chunk::<TRAILER>();
        let Some((body, _)) = body.filter(|(_, trailer)| **trailer == digest.0) else {
            return Err(ReadPlanError::Hash { path: path.into() });
        };
        if Sha256::digest(body)[..] != digest.0 {
            return Err(ReadPlanError::Hash { path: path.into() });
        }
        Self::from_bytes(body).ok_or_else(|| ReadPlanError::Parse { path: path.into() })
    }

    fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(MAGIC.len() + 128 * self.operations.len() + TRAILER);
        out.extend_from_slice(MAGIC);
        put_after(&mut out, b"", &self.root.0);
        put_number(&mut out, self.parents.len() as u64);
        let mut last: &[u8] = b"";
        for parent in &self.parents {
            put_after(&mut out, last, parent.bytes());
            put_number(&mut out, parent.ino);
            put_number(&mut out, parent.mode.into());
            put_time(&mut out, Some(parent.before));
            put_time(&mut out, parent.after);
            last = parent.bytes();
        }
        put_number(&mut out, self.operations.len() as u64);
        let (mut last, mut last_place): (&[u8], &[u8]) = (b"", &self.root.0);
        for Operation { path, action } in &self.operations {
            put_after(&mut out, last, path.as_bytes());
            last = path.as_bytes();
            out.push(match action {
                Action::Place { .. } => 0,
                Action::Replace { .. } => 1,
                Action::Remove { .. } => 2,
                Action::Adjust { .. } => 3,
            });
            if let Some(place) = action.place() {
                put_after(&mut out, last_place, &place.0);
                last_place = &place.0;
            }
            match action {
                Action::Place { after, .. } => put_seen(&mut out, after),
                Action::Replace { before, after, .. } => {
                    put_seen(&mut out, before);
                    put_seen(&mut out, after);
                }
                Action::Remove { before, .. } => put_seen(&mut out, before),
                Action::Adjust { before, after } => {
                    put_attributes(&mut out, before);
                    put_attributes(&mut out, after);
                }
            }
        }
        out
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let mut fields = Fields(bytes.strip_prefix(MAGIC)?);
        let root = Text(fields.after(b"")?);
        let mut parents: Vec<Parent> = Vec::new();
        for _ in 0..fields.number()? {
            let path = fields.after(parents.last().map_or(b"", Parent::bytes))?;
            parents.push(Parent {
                path: if path.is_empty() { None } else { Some(RelPath::new(path).ok()?) },
                ino: fields.number()?,
                mode: fields.number()?.try_into().ok()?,
                before: fields.time()??,
                after: fields.time()?,
            });
        }
        let count = fields.number()?;
        // No operation takes fewer bytes than this, whatever the number says.
        let most = fields.0.len() / 16;
        let mut operations: Vec<Operation> = Vec::with_capacity(usize::try_from(count).unwrap_or(most).min(most));
        let mut last_place = root.clone();
        for _ in 0..count {
            let last = operations.last().map_or(&b""[..], |operation| operation.path.as_bytes());
            let path = RelPath::new(fields.after(last)?).ok()?;
            let action = read_action(&mut fields, &last_place)?;
            if let Some(place) = action.place() {
                last_place = place.clone();
            }
            operations.push(Operation { path, action });
        }
        fields.0.is_empty().then_some(Self { root, operations, parents })
    }
}

fn read_action(fields: &mut Fields<'_>, last_place: &Text) -> Option<Action> {
    let place = |fields: &mut Fields<'_>| fields.after(&last_place.0).map(Text);
    Some(match fields.byte()? {
        0 => Action::Place { staged: place(fields)?, after: fields.seen()? },
        1 => Action::Replace { staged: place(fields)?, before: fields.seen()?, after: fields.seen()? },
        2 => {
            let aside = place(fields)?;
            Action::Remove { before: fields.seen()?, aside }
        }
        3 => Action::Adjust { before: fields.attributes()?, after: fields.attributes()? },
        _ => return None,
    })
}

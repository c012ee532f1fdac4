//! The header of a bundle, and the names that an entry may have. A name that is none of them is refused before anything is
//! made of it, so that no path can leave the place it is unpacked to.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

use super::BundleError;
use crate::model::{Digest, RunId};

/// The first entry.
pub(super) const NAME: &str = "bundle.json";

/// What a bundle says it is.
const FORMAT: &str = "agentguard-bundle";

/// The version of the format.
const VERSION: u32 = 1;

/// A header that is longer is none: it has some hundred bytes for each run.
pub(super) const LONGEST: u64 = 64 << 20;

/// What every version has.
#[derive(Deserialize)]
struct Versioned {
    format: String,
    version: u32,
}

/// What is in a bundle.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// Always `agentguard-bundle`.
    format: String,
    /// Version of this shape.
    version: u32,
    /// Version of the agentguard that wrote it.
    pub agentguard: String,
    /// User and group of whoever wrote it: what was theirs becomes the importer's.
    pub owner: (u32, u32),
    /// Its runs, by id.
    pub runs: Vec<RunHeader>,
    /// The listings, in their order.
    pub manifests: Vec<Listed>,
    /// How many contents.
    pub contents: u64,
    /// How many bytes in them.
    pub content_bytes: u64,
}

/// One run of a bundle.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunHeader {
    /// Which run.
    pub run_id: RunId,
    /// Its files, in their order.
    pub files: Vec<FileHeader>,
    /// The listing of what staging started from.
    pub base: Option<Digest>,
}

/// One file of a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileHeader {
    /// Its path in the run's directory.
    pub name: String,
    /// Bytes.
    pub size: u64,
    /// SHA-256 of them.
    pub sha256: Digest,
}

/// One entry that is named by its hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listed {
    /// SHA-256 of its bytes.
    pub sha256: Digest,
    /// How many.
    pub size: u64,
}

impl Header {
    /// A header of this version.
    pub(super) fn new(owner: (u32, u32), runs: Vec<RunHeader>, manifests: Vec<Listed>, contents: (u64, u64)) -> Self {
        Self {
            format: FORMAT.to_owned(),
            version: VERSION,
            agentguard: env!("CARGO_PKG_VERSION").to_owned(),
            owner,
            runs,
            manifests,
            contents: contents.0,
            content_bytes: contents.1,
        }
    }

    /// Reads a header and judges what it declares: names, sizes, and that nothing is there twice.
    pub(super) fn parse(bytes: &[u8], limit: u64) -> Result<Self, BundleError> {
        let no_bundle = |error: serde_json::Error| BundleError::NotBundle(error.to_string().escape_debug().to_string());
        let versioned: Versioned = serde_json::from_slice(bytes).map_err(no_bundle)?;
        if versioned.format != FORMAT {
            return Err(BundleError::NotBundle(format!("its format is {:?}", versioned.format)));
        }
        if versioned.version > VERSION {
            return Err(BundleError::Newer(versioned.version));
        }
        let header: Self = serde_json::from_slice(bytes).map_err(no_bundle)?;
        header.judge(limit)?;
        Ok(header)
    }

    fn judge(&self, limit: u64) -> Result<(), BundleError> {
        let mut seen = HashSet::new();
        for run in &self.runs {
            let twice = run.files.iter().find(|file| !seen.insert((Some(run.run_id), file.name.clone())));
            if let Some(file) = twice {
                return Err(BundleError::Refused(format!("runs/{}/{:?} is there twice", run.run_id, file.name)));
            }
            if let Some(file) = run.files.iter().find(|file| !is_file_of_run(&file.name)) {
                return Err(BundleError::Refused(format!("{:?} is no file of a run", file.name)));
            }
            if !seen.insert((None, run.run_id.to_string())) {
                return Err(BundleError::Refused(format!("run {} is there twice", run.run_id)));
            }
        }
        if let Some(listed) = self.manifests.iter().find(|one| !seen.insert((None, one.sha256.to_string()))) {
            return Err(BundleError::Refused(format!("the listing {} is there twice", listed.sha256)));
        }
        if self.runs.is_empty() {
            return Err(BundleError::Refused("it holds no run".to_owned()));
        }
        match self.bytes() {
            Some(declared) if declared <= limit => Ok(()),
            declared => Err(BundleError::TooLarge { declared: declared.unwrap_or(u64::MAX), limit }),
        }
    }

    /// Everything that it declares, in bytes; none where that overflows.
    fn bytes(&self) -> Option<u64> {
        let files = self.runs.iter().flat_map(|run| &run.files).map(|file| file.size);
        let sizes = files.chain(self.manifests.iter().map(|listed| listed.size));
        sizes.chain([self.content_bytes]).try_fold(0_u64, u64::checked_add)
    }
}

/// Files of a run's directory that a bundle may hold; those that one attempt has may stand below `attempts/N/` as well.
fn is_file_of_run(name: &str) -> bool {
    const OWN: [&str; 6] = ["record.json", "run.json", "journal", "outputs", "changes", "stdin"];
    if OWN.contains(&name) {
        return true;
    }
    let printed = match name.strip_prefix("attempts/") {
        None => name,
        Some(rest) => match rest.split_once('/') {
            Some((number, printed)) if is_number(number) => printed,
            _ => return false,
        },
    };
    let head = printed.strip_suffix(".tail").unwrap_or(printed);
    let verify = head.strip_prefix("verify-").and_then(|rest| rest.strip_suffix(".log"));
    matches!(head, "stdout" | "stderr") || verify.is_some_and(is_number)
}

fn is_number(text: &str) -> bool {
    (1..=9).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// The name of a run's file in the archive.
pub(super) fn run_file(run_id: RunId, name: &str) -> String {
    format!("runs/{run_id}/{name}")
}

/// The name of a listing in the archive.
pub(super) fn manifest_file(digest: Digest) -> String {
    format!("manifests/{digest}")
}

/// How the names of contents begin.
pub(super) const CONTENTS: &str = "contents/";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_files_that_a_run_has_are_let_in() {
        for name in ["journal", "stdout", "stdout.tail", "verify-1.log", "verify-12.log.tail", "attempts/1/stderr"] {
            assert!(is_file_of_run(name), "{name}");
        }
        for name in [
            "",
            "/etc/passwd",
            "../journal",
            "attempts/../stdout",
            "attempts/1/journal",
            "attempts/1/../x",
            "lock",
            "verify-.log",
            "verify-1.log/x",
            "stdout/",
            "plan",
            "upper",
            "attempts//stdout",
            "./stdout",
            "imported",
        ] {
            assert!(!is_file_of_run(name), "{name}");
        }
    }

    #[test]
    fn a_header_declares_each_thing_once_and_no_more_than_is_allowed() {
        let run_id: RunId = "019ab3c4-5d6e-7f80-9123-456789abcdef".parse().expect("an id");
        let file = |size| FileHeader { name: "journal".to_owned(), size, sha256: Digest([1; 32]) };
        let run = |files| RunHeader { run_id, files, base: None };
        let of = |runs, listed: Vec<Listed>, bytes| {
            let header = Header::new((0, 0), runs, listed, (1, bytes));
            Header::parse(&serde_json::to_vec(&header).expect("JSON"), 100).map_err(|error| error.to_string())
        };
        let listed = Listed { sha256: Digest([2; 32]), size: 1 };
        assert!(of(vec![run(vec![file(99)])], vec![listed], 0).is_ok());
        for (wrong, word) in [
            (of(vec![run(vec![file(99)])], vec![listed], 1), "--limit"),
            (of(vec![run(vec![file(99)])], vec![], u64::MAX), "--limit"),
            (of(vec![run(vec![file(1), file(1)])], vec![], 0), "twice"),
            (of(vec![run(vec![]), run(vec![])], vec![], 0), "twice"),
            (of(vec![run(vec![])], vec![listed, listed], 0), "twice"),
            (of(vec![], vec![], 0), "no run"),
        ] {
            assert!(wrong.as_ref().is_err_and(|text| text.contains(word)), "{word}: {wrong:?}");
        }
    }
}

//! What has become of some trees since they were captured.

use std::path::{Path, PathBuf};

use super::baseline::Baseline;
use super::capture::sorted_roots;
use super::compare::{Finding, compare, is_same};
use super::error::CaptureError;
use super::fast::trees_are_same;
use super::gather::RootLinks;
use super::policy::{CapturePolicy, CaptureRoot};
use super::read::Sink;
use super::survey::Survey;
use crate::model::Text;

/// Most paths that are named.
const NAMED_PATHS: usize = 20;

/// How many entries are not what they were. Times do not count, and a directory counts for its own mode, owner and
/// attributes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Drift {
    /// Entries with another content, kind, mode, owner or attributes.
    pub changed: u64,
    /// Entries that are no longer there.
    pub gone: u64,
    /// Entries that were not there, and are not left out.
    pub new: u64,
    /// The first paths of all three, in the order of the listing; twenty at most.
    pub first_paths: Vec<Text>,
}

impl Drift {
    /// All of them.
    pub fn count(&self) -> u64 {
        self.changed + self.gone + self.new
    }
}

pub(super) fn drift(baseline: &Baseline, roots: &[CaptureRoot], policy: &CapturePolicy) -> Result<Drift, CaptureError> {
    let mut roots = sorted_roots(roots)?;
    if trees_are_same(&baseline.table, None, &near(&roots), &roots) {
        return Ok(Drift::default());
    }
    roots.retain(|root| root.path.symlink_metadata().is_ok());
    // Nothing is stored, so nothing is too much.
    let policy = CapturePolicy { limit_bytes: u64::MAX, ..policy.clone() };
    let survey = Survey {
        roots: &roots,
        root_links: RootLinks::Follow,
        policy: &policy,
        known: Some(baseline.known()),
        sink: Sink::Hash,
        progress: &|_| (),
    };
    let gathered = survey.take()?;
    let mut drift = Drift::default();
    compare(baseline.roots(), &gathered.tree, |path, _, finding| {
        let count = match finding {
            Finding::Both(base, node) if is_same(&base, node, &gathered.tree) => return,
            Finding::Both(..) => &mut drift.changed,
            Finding::Gone(_) => &mut drift.gone,
            Finding::New(_) => &mut drift.new,
        };
        *count += 1;
        if drift.first_paths.len() < NAMED_PATHS {
            drift.first_paths.push(Text(path.to_vec()));
        }
    });
    Ok(drift)
}

/// A directory from which the first root is not far.
fn near(roots: &[CaptureRoot]) -> PathBuf {
    let Some(root) = roots.first() else { return PathBuf::from("/") };
    if root.path.is_dir() { root.path.clone() } else { root.path.parent().unwrap_or(Path::new("/")).to_path_buf() }
}

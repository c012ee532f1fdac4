//! What a capture would take and leave out, found out without reading a content or writing anything.

use std::collections::BTreeSet;

use super::capture::{Request, key_of, sorted_roots};
use super::error::CaptureError;
use super::gather::RootLinks;
use super::largest::largest_directories;
use super::layout::Layout;
use super::policy::CapturePolicy;
use super::read::Sink;
use super::storing::{Storing, newest_packs};
use super::survey::Survey;
use super::table::StatTable;
use crate::model::Text;
use crate::sys::mmap::Mapped;

/// So many of the names that are left out are told.
const NAMED: usize = 5;

/// What a capture would find.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counted {
    /// Entries that are no directories.
    pub files: u64,
    /// Bytes of the files.
    pub bytes: u64,
    /// Bytes of those that no earlier capture has read as they are: the most that the store would grow by, and what counts
    /// against the limit.
    pub new_bytes: u64,
    /// If that is more than the limit: the three largest directories, as in [`CaptureError::TooLarge`].
    pub too_large: Option<Vec<(Text, u64)>>,
    /// Names that match an exclusion, or are passed through. What is below them is not counted.
    pub excluded: LeftOut,
    /// Names that ignore files leave out, or that are no small state of a git directory; counted in the same way.
    pub ignored: LeftOut,
    /// Sockets and devices.
    pub skipped: u64,
    /// Entries of another owner or group than the caller's.
    pub foreign: u64,
}

/// Names that are left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LeftOut {
    /// How many.
    pub count: u64,
    /// The first of them, by listing path.
    pub first: BTreeSet<Text>,
}

impl LeftOut {
    fn note(&mut self, path: Text) {
        self.count += 1;
        self.first.insert(path);
        if self.first.len() > NAMED {
            self.first.pop_last();
        }
    }

    fn absorb(&mut self, other: Self) {
        let count = self.count + other.count;
        other.first.into_iter().for_each(|path| self.note(path));
        self.count = count;
    }
}

/// The same by the reason, while a walk is under way.
#[derive(Debug, Default)]
pub(super) struct NamedLeftOut {
    excluded: LeftOut,
    ignored: LeftOut,
}

impl NamedLeftOut {
    pub(super) fn note(&mut self, path: Text, is_excluded: bool) {
        if is_excluded { self.excluded.note(path) } else { self.ignored.note(path) }
    }

    pub(super) fn absorb(&mut self, other: Self) {
        self.excluded.absorb(other.excluded);
        self.ignored.absorb(other.ignored);
    }
}

/// Walks like a capture. What could not be opened fails it as it would fail the capture.
pub(super) fn count(layout: &Layout, request: &Request<'_>) -> Result<Counted, CaptureError> {
    let roots = sorted_roots(request.roots)?;
    let key = key_of(request, &roots);
    let table = Mapped::open(&layout.table(key)).ok().and_then(|mapped| StatTable::from_file(mapped, key));
    let storing = Storing::new(layout, table.as_ref().map_or_else(|| newest_packs(layout), StatTable::packs));
    // All of it is counted before it is compared with the limit.
    let policy = CapturePolicy { limit_bytes: u64::MAX, ..request.policy.clone() };
    let survey = Survey {
        roots: &roots,
        root_links: RootLinks::Follow,
        policy: &policy,
        known: table.as_ref(),
        sink: Sink::Count(&storing),
        progress: request.progress,
    };
    let gathered = survey.take()?;
    let (files, bytes) = gathered.tree.totals();
    let owner = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    let is_too_large = gathered.read_bytes > request.policy.limit_bytes;
    Ok(Counted {
        files,
        bytes,
        new_bytes: gathered.read_bytes,
        too_large: is_too_large.then(|| survey.with_plan(largest_directories)),
        excluded: gathered.named.excluded,
        ignored: gathered.named.ignored,
        skipped: gathered.specials.len() as u64,
        foreign: gathered.tree.foreign(owner),
    })
}

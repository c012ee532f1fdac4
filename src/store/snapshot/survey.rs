//! One look at some trees: rules are read, roots walked, and the git directories outside of them that belong to them.

use super::capture::skipped;
use super::error::CaptureError;
use super::gather::{Gathered, Plan, RootLinks, Scope, gather};
use super::git_roots::outer_git_roots;
use super::largest::largest_directories;
use super::policy::{CapturePolicy, CaptureProgress, CaptureRoot};
use super::read::Sink;
use super::table::StatTable;
use super::visit::SystemTick;
use crate::store::ignore::{Sources, WatchedState};

/// What is to be looked at, and what for.
pub(super) struct Survey<'a> {
    /// Sorted by name, without duplicates.
    pub(super) roots: &'a [CaptureRoot],
    pub(super) root_links: RootLinks,
    pub(super) policy: &'a CapturePolicy,
    pub(super) known: Option<&'a StatTable>,
    pub(super) sink: Sink<'a>,
    pub(super) progress: &'a (dyn Fn(CaptureProgress) + Sync),
}

impl Survey<'_> {
    /// Walks all roots.
    pub(super) fn take(&self) -> Result<Gathered, CaptureError> {
        let sources = Sources::new(&self.policy.ignore);
        let scopes: Vec<Scope> = self.roots.iter().map(|root| Scope::of_root(&sources, root)).collect();
        self.take_scopes(&sources, &scopes)
    }

    /// The same with scopes that are known, one for each root.
    pub(super) fn take_scopes(&self, sources: &Sources, scopes: &[Scope]) -> Result<Gathered, CaptureError> {
        let begun = SystemTick::now();
        let mut gathered = self.gather(self.roots, sources, scopes)?;
        let (roots, outer) = outer_git_roots(sources, scopes);
        if !roots.is_empty() {
            gathered.absorb(self.gather(&roots, sources, &outer)?);
        }
        gathered.watched = sources.watched();
        let is_racy = |state: &WatchedState| matches!(state, WatchedState::Is(stat) if begun.is_racy(stat));
        gathered.untrusted = gathered.tree.untrusted()
            + gathered.watched.iter().filter(|watched| is_racy(&watched.state)).count() as u64;
        if let Some(known) = self.known
            && (known.header.untrusted != gathered.untrusted || known.watched().as_ref() != Some(&gathered.watched))
        {
            gathered.news += 1;
        }
        Ok(gathered)
    }

    /// The walk of the roots, looked at without taking it.
    pub(super) fn with_plan<T>(&self, look: impl FnOnce(&Plan<'_>) -> T) -> T {
        let sources = Sources::new(&self.policy.ignore);
        let scopes: Vec<Scope> = self.roots.iter().map(|root| Scope::of_root(&sources, root)).collect();
        look(&self.plan(self.roots, &sources, &scopes))
    }

    fn plan<'b>(&'b self, roots: &'b [CaptureRoot], sources: &'b Sources, scopes: &'b [Scope]) -> Plan<'b> {
        Plan {
            roots,
            scopes,
            sources,
            root_links: self.root_links,
            policy: self.policy,
            skip: skipped(&self.policy.skip),
            known: self.known,
            sink: self.sink,
            progress: self.progress,
        }
    }

    fn gather(&self, roots: &[CaptureRoot], sources: &Sources, scopes: &[Scope]) -> Result<Gathered, CaptureError> {
        let plan = self.plan(roots, sources, scopes);
        gather(&plan).map_err(|error| match error {
            CaptureError::TooLarge { limit_bytes, .. } => {
                CaptureError::TooLarge { limit_bytes, largest: largest_directories(&plan) }
            }
            other => other,
        })
    }
}

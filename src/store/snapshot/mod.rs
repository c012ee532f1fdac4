//! The content-addressed snapshot store: what a run's inputs were, kept so that they can be given back exactly.

mod base_entry;
mod baseline;
mod capture;
mod compare;
mod contents;
mod count;
mod difference;
mod drift;
mod error;
mod fast;
mod fingerprint;
mod gather;
mod git_roots;
mod intake;
mod large;
mod largest;
mod lay_out;
mod layout;
mod manifest;
mod materialise;
mod pack;
mod pack_writer;
mod policy;
mod read;
mod seal;
mod siblings;
mod special;
mod storing;
mod survey;
mod sweep;
mod table;
mod table_header;
mod table_record;
mod tree;
mod visit;
mod wire;

use std::path::Path;

pub use base_entry::{BaseDir, BaseEntry, Siblings};
pub use baseline::{Baseline, LinkGroup, SameNow};
pub use capture::Captured;
pub use contents::{Contents, LoadError, Problem};
pub use count::{Counted, LeftOut};
pub use difference::Difference;
pub use drift::Drift;
pub use error::CaptureError;
pub use fingerprint::{RootChange, fingerprint};
pub use intake::{Intake, Owner};
pub use lay_out::Style;
pub use layout::StoreError;
pub use manifest::{Extras, Location, Manifest, ManifestEntry, NO_PARENT, ParseManifestError};
pub use materialise::MaterialiseError;
pub use pack::Damage;
pub use policy::{CapturePolicy, CaptureProgress, CaptureRoot, Durability, Exclude, KeepLimit};
pub use seal::{Sealed, hash_roots, still_equal};
pub use special::{OverlayMark, Special};
pub use sweep::StoredFile;

use capture::Request;
use layout::Layout;

use crate::model::Text;
use crate::model::event::SnapshotRef;

/// The store of one state directory: its `snapshots/` and `cache/`.
#[derive(Clone, Debug)]
pub struct SnapshotStore {
    layout: Layout,
}

impl SnapshotStore {
    /// Names the store; nothing is touched until something is captured.
    pub fn at(state_dir: &Path) -> Self {
        Self { layout: Layout::at(state_dir) }
    }

    /// Reads the trees and keeps what the store does not hold yet; durable on return. An unchanged tree writes
    /// nothing. A crash leaves temporary files, see [`Self::sweep_temporaries`], and nothing that is half written
    /// under a final name.
    pub fn capture(
        &self,
        project: &Path,
        roots: &[CaptureRoot],
        policy: &CapturePolicy,
        progress: &(dyn Fn(CaptureProgress) + Sync),
    ) -> Result<Captured, CaptureError> {
        capture::capture(&self.layout, &Request { project, roots, policy, progress })
    }

    /// What [`Self::capture`] would take and leave out. Reads no content and writes nothing.
    pub fn count(
        &self,
        project: &Path,
        roots: &[CaptureRoot],
        policy: &CapturePolicy,
    ) -> Result<Counted, CaptureError> {
        count::count(&self.layout, &Request { project, roots, policy, progress: &|_| () })
    }

    /// Hashes the trees like [`hash_roots`], and keeps the contents of small files in one pack, so that they can be
    /// shown later: [`Self::load`] and [`Self::read_content`] give them back. Contents that were not kept, and those of
    /// a pack that was lost, are [`LoadError::NotKept`].
    pub fn seal_roots(
        &self,
        roots: &[CaptureRoot],
        policy: &CapturePolicy,
        keep: KeepLimit,
        durability: Durability,
    ) -> Result<(Sealed, SnapshotRef), CaptureError> {
        seal::seal_roots(&self.layout, roots, policy, (keep, durability))
    }

    /// Reads a snapshot's manifest; its hash is checked.
    pub fn load(&self, snapshot: &SnapshotRef) -> Result<Manifest, LoadError> {
        contents::load(&self.layout, snapshot)
    }

    /// Writes every entry below `dest`: the root `a/b.csv` to `dest/a/b.csv`, the root `/etc/hosts` to
    /// `dest/etc/hosts`. Contents are hashed again on the way. Nothing is replaced, nothing is synced; what an error
    /// leaves is the caller's to remove.
    pub fn materialise(&self, manifest: &Manifest, dest: &Path) -> Result<(), MaterialiseError> {
        self.materialise_some(manifest, dest, &|_| true)
    }

    /// The same for the roots whose names are wanted.
    pub fn materialise_some(
        &self,
        manifest: &Manifest,
        dest: &Path,
        wanted: &dyn Fn(&[u8]) -> bool,
    ) -> Result<(), MaterialiseError> {
        materialise::materialise(&self.layout, manifest, dest, wanted)
    }

    /// What differs between a root of a snapshot and the tree that is at `live_root` today, looked at under the policy of
    /// the capture. What stat tells is not read again if some capture has read it since.
    pub fn difference<'a>(
        &'a self,
        manifest: &'a Manifest,
        root: &Text,
        live_root: &Path,
        policy: &CapturePolicy,
    ) -> Result<Difference<'a>, CaptureError> {
        difference::difference(
            &self.layout,
            manifest,
            &CaptureRoot { name: root.clone(), path: live_root.into() },
            policy,
        )
    }

    /// The baseline of a snapshot of which the manifest is left, for a root that is at `live_root` today: what some capture
    /// has read there since need not be read again.
    pub fn baseline_of(&self, manifest: &Manifest, root: &Text, live_root: &Path) -> Baseline {
        let root = CaptureRoot { name: root.clone(), path: live_root.into() };
        Baseline::from_manifest(manifest).seen_by(difference::newest_table(&self.layout, &root))
    }

    /// The baseline of a snapshot whose root is at `live_root` today: of the stat table that its capture left, as long as
    /// no later one has taken its place, else as [`Self::baseline_of`] its manifest.
    pub fn baseline(&self, snapshot: &SnapshotRef, root: &Text, live_root: &Path) -> Result<Baseline, LoadError> {
        let root = CaptureRoot { name: root.clone(), path: live_root.into() };
        match difference::newest_table(&self.layout, &root) {
            Some(table) if table.header.snapshot() == *snapshot => Ok(Baseline::of(table)),
            seen => Ok(Baseline::from_manifest(&self.load(snapshot)?).seen_by(seen)),
        }
    }

    /// The content of one entry (of a link its target, of anything else nothing), hashed again.
    pub fn read_content(&self, manifest: &Manifest, entry: &ManifestEntry) -> Result<Vec<u8>, LoadError> {
        Contents::new(&self.layout, manifest).read(entry)
    }

    /// The contents of a manifest's entries, for who reads many of them: each pack is opened once.
    pub fn contents<'a>(&'a self, manifest: &'a Manifest) -> Contents<'a> {
        Contents::new(&self.layout, manifest)
    }

    /// Takes contents that come from elsewhere.
    pub fn intake(&self) -> Intake<'_> {
        Intake::new(&self.layout)
    }

    /// Gives a damaged file of the store a name under which nothing relies on it: the next capture reads the live
    /// files again. Nothing is lost, and [`Self::check`] goes on naming it.
    pub fn set_aside(&self, damaged: &Path) -> std::io::Result<()> {
        let mut name = damaged.as_os_str().to_owned();
        name.push(".damaged");
        std::fs::rename(damaged, name)
    }

    /// Reads and hashes everything in the store and says what is damaged.
    pub fn check(&self) -> Vec<Problem> {
        contents::check(&self.layout)
    }

    /// Removes files of captures that were killed. A live capture holds the lock of its files and keeps them.
    pub fn sweep_temporaries(&self) -> Result<u64, StoreError> {
        layout::sweep(&self.layout)
    }
}

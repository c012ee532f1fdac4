//! The content-addressed snapshot store: what a run's inputs were, kept so that they can be given back exactly.

mod capture;
mod error;
mod fast;
mod gather;
mod large;
mod largest;
mod layout;
mod manifest;
mod pack;
mod pack_writer;
mod policy;
mod read;
mod storing;
mod table;
mod tree;
mod visit;
mod wire;

use std::path::Path;

pub use capture::Captured;
pub use error::CaptureError;
pub use layout::StoreError;
pub use manifest::{Extras, Location, Manifest, ManifestEntry, NO_PARENT, ParseManifestError};
pub use pack::Damage;
pub use policy::{CapturePolicy, CaptureProgress, CaptureRoot, Exclude};

use capture::Request;
use layout::Layout;

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

    /// Removes files of captures that were killed. A live capture holds the lock of its files and keeps them.
    pub fn sweep_temporaries(&self) -> Result<u64, StoreError> {
        layout::sweep(&self.layout)
    }
}

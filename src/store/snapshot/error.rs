//! Why a tree could not be captured, sealed or compared.

use std::io;

use super::layout::StoreError;
use crate::model::{ByteSize, Text};

/// A capture ended without a snapshot; the store is as it was.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// Something in the trees could not be read; it is named by its listing path.
    #[error("cannot read {}", path.to_string_lossy())]
    Unreadable {
        /// The listing path.
        path: Text,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// A root's name is no path below the project and no absolute path.
    #[error("not a name for an input: {}", .0.to_string_lossy())]
    RootName(Text),
    /// The snapshot has no root of this name.
    #[error("the snapshot has no {}", .0.to_string_lossy())]
    NoSuchRoot(Text),
    /// More new bytes than allowed; nothing was stored.
    #[error("more than {} of new content", ByteSize(*limit_bytes))]
    TooLarge {
        /// The limit that was passed.
        limit_bytes: u64,
        /// The three largest directories directly below the roots, with their bytes, largest first.
        largest: Vec<(Text, u64)>,
    },
    /// More entries than the formats can number (2^32).
    #[error("too many entries")]
    TooMany,
    /// The store could not be written.
    #[error(transparent)]
    Store(#[from] StoreError),
}

//! Bundles: runs in one portable file, with all that a replay needs.
//!
//! A tar archive, compressed with zstd. Every entry is a regular file; the first one lists the others, in their order:
//!
//! ```text
//! bundle.json                the header: version, runs, sizes and hashes of their files, totals of the contents
//! runs/<id>/record.json      the line of the log, without `prev`
//! runs/<id>/run.json         what was asked
//! runs/<id>/journal          the run's events, as far as a replay needs them
//! runs/<id>/...              outputs or changes, stdin, stdout, stderr, verify-N.log, attempts/N/...
//! manifests/<digest>         listings of inputs, of kept outputs, of what staging started from
//! contents/<digest>          contents of files, each once, by the first entry of a manifest that has them
//! ```
//!
//! What people wrote or agents printed (arguments, environment, output) goes through redaction; contents of files and
//! standard input are hashed and are what they were. The same runs make the same bytes.
//!
//! Importing is all or nothing. A bundle is unpacked into `import/`, a state directory of its own, and every hash in it is
//! checked; then `import/intended` is written, and from there on whoever comes next (the import itself, or any recovery)
//! moves contents and run directories to their places and adds all lines to the log with one write. Without that file
//! `import/` is removed. `import.lock` is held by whoever does either.

mod check;
mod collect;
mod error;
mod header;
mod line;
mod place;
mod printed;
mod unpack;
mod write;

pub use collect::{Plan, plan};
pub use error::BundleError;
pub use header::{Header, RunHeader};
pub use line::public_record;
pub use place::{Imported, import, settle};
pub use write::{Written, write};

/// The file in a run's directory that says where an imported run comes from.
pub const IMPORTED_NAME: &str = "imported";

/// How a bundle's file is called.
pub const SUFFIX: &str = ".tar.zst";

/// The most that a bundle may unpack to, unless somebody says otherwise.
pub const DEFAULT_LIMIT: u64 = 4 << 30;

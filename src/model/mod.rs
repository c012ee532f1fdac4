//! Floor 0: values of the domain. No IO, no clock, no environment; std, serde and chrono types only.

pub mod breaker;
pub mod call;
pub mod change;
pub mod digest;
pub mod entry;
pub mod error_kind;
pub mod event;
pub mod facts;
pub mod letter;
pub mod price;
pub mod record;
pub mod rel_path;
pub mod run_id;
pub mod size;
pub mod spec;
pub mod text;
pub mod timestamp;
pub mod tokens;
pub mod usage_format;

pub use digest::Digest;
pub use entry::{Entry, EntryKind};
pub use error_kind::{ErrorClass, ErrorKind, Failure, Status};
pub use event::Event;
pub use record::RunRecord;
pub use rel_path::RelPath;
pub use run_id::RunId;
pub use size::ByteSize;
pub use spec::RunSpec;
pub use text::Text;
pub use timestamp::Timestamp;
pub use tokens::Tokens;
pub use usage_format::UsageFormat;

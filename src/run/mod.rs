//! Floor 4: the road of one run, one stage per file, and the driver that knows their order.
//!
//! ```text
//! begin → Begun → take → Snapshotted → make → Attempted → seal → Sealed → judge → Accepted ─ commit ─→ settle
//! ```
//! Each stage consumes the one before. Whatever ends a run early is an [`ended::Ended`], and every `Ended` is settled
//! by the same code.

pub mod attempt;
pub mod attend;
pub mod begin;
pub mod breaker;
pub mod commit;
pub mod day_budget;
pub mod driver;
pub mod ended;
pub mod environment;
pub mod explain;
pub mod judge;
mod lay_out;
mod layer;
mod nested;
mod own_terminal;
pub mod processes;
pub mod progress;
pub mod recover;
pub mod resolve;
pub mod resolve_workspace;
pub mod retrying;
pub mod scene;
pub mod seal;
pub mod settle;
pub mod signals;
pub mod snapshot;
pub mod spending;
pub mod stdin;
pub mod supervise;
pub mod told;
pub mod using;
pub mod verify;
pub mod verify_view;
pub mod workspace;

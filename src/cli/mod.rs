//! Floor 6: what was typed, what is shown, and the exit code.

pub mod args;
pub mod breaker;
pub mod bundle;
pub mod ci;
pub mod config;
pub mod diff;
pub mod dispatch;
pub mod explain;
pub mod failed;
pub mod gc;
pub mod generated;
mod layered;
mod limits;
pub mod origins;
pub mod pager;
pub mod prices;
pub mod progress;
pub mod query;
pub mod report;
pub mod reports;
pub mod settings;
pub mod summary;
pub mod terminal;
pub mod when;

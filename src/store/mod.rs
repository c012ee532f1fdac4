//! Floor 3: bytes on disk, their formats and versions.

pub mod breakers;
pub mod bundle;
pub mod capture;
pub mod change_set;
pub mod changes;
pub mod git_state;
pub mod ignore;
pub mod journal;
pub mod kept;
pub mod letters;
pub mod log;
pub mod outputs;
pub mod price_table;
pub mod publish;
pub mod retention;
pub mod run_dir;
pub mod snapshot;
pub mod staged;
pub mod state_dir;
pub mod transaction;
pub mod trash;

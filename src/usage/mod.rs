//! Floor 3: tokens and cost, read from what agents say.

pub mod usage_file;

//! Floor 3: what an agent may see and change, composed from kernel facilities.

pub mod overlay;
pub mod staging;

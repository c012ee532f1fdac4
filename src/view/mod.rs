//! Floor 3: what an agent may see and change, composed from kernel facilities.

pub mod clone;
pub mod clone_copy;
pub mod facilities;
pub mod harvest;
mod layer_clean;
pub mod linked;
pub mod overlay;
pub mod staging;

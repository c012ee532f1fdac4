//! agentguard.

pub mod model;
pub mod rules;
pub mod store;
pub mod sys;

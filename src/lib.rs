//! agentguard.

pub mod cmd;
pub mod model;
pub mod rules;
pub mod store;
pub mod sys;

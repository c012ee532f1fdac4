//! agentguard.

pub mod cli;
pub mod cmd;
pub mod model;
pub mod rules;
pub mod run;
pub mod store;
pub mod sys;
pub mod usage;
pub mod view;

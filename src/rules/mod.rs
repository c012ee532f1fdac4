//! Floor 1: pure decisions. No IO, no clock, no environment: time and randomness are parameters.

pub mod breaker;
pub mod classify;
pub mod exit_code;
pub mod expectation;
pub mod filter;
pub mod fold;
pub mod git_config;
mod ignore_glob;
pub mod ignore_pattern;
pub mod letters;
pub mod lifecycle;
pub mod nearest;
pub mod placeholder;
pub mod pricing;
pub mod protected;
pub mod recovery;
pub mod redact;
pub mod reproduction;
pub mod retry;
pub mod run_ref;
pub mod spread;
pub mod standing;
pub mod step;
pub mod tally;
pub mod upstream;

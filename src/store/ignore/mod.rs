//! What a capture leaves out of a work tree: what git would ignore, and what `.ignore` and `.agentguardignore` name.
//!
//! Git is never run; its files are read, and only as far as a rule needs them. Directories are entered one by one by
//! whoever walks: [`Rules`] are what holds in one of them.

mod git_config;
mod git_dir;
mod git_index;
mod policy;
mod repository;
mod rules;
mod sources;
mod watched;

pub use policy::{IgnorePolicy, UserGit};

pub(super) use git_dir::{is_git_dir, is_taken_at_top};
pub(super) use rules::{Entered, Rules, Verdict, Whereabouts};
pub(super) use sources::{GitDirs, Sources};
pub(super) use watched::{Watched, WatchedState};

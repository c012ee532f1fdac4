//! The journaled multi-file apply: many operations below one root, all of them or none, never over somebody else's
//! edit.
//!
//! The caller decides what changes and has the staged objects on the root's filesystem; this moves them. In order:
//! [`Plan::new`], [`check`], [`flush`], [`Plan::write`] and the caller's durable intention to carry it out, then
//! [`apply`], [`make_durable`], the caller's record, [`forget`]. After a crash behind the intention [`complete`] and
//! [`make_durable`] finish. [`reverse`] is the plan that undoes an applied one.
//!
//! Every operation is one rename (or metadata set in place), and its redo test is where an inode is found: while the
//! staged object is under its staged name, nothing has happened. What is displaced is looked at again, and goes back if
//! it is not what was seen. No byte is overwritten, no symbolic link followed, no pipe or device opened.

mod adjust;
mod apply;
mod attributes;
mod below;
mod carry;
mod check;
mod clean;
mod directories;
mod durable;
mod entry;
mod error;
mod finish;
mod forget;
mod hands;
mod moves;
mod parents;
mod passage;
mod plan;
mod plan_file;
mod reverse;
mod seen;
mod take_back;
mod wire;

pub use apply::{Applied, apply, complete};
pub use attributes::{Attributes, observe_attributes};
pub use check::check;
pub use clean::{clean, clean_at};
pub use durable::{flush, make_durable};
pub use error::ApplyError;
pub use forget::forget;
pub use parents::Parent;
pub use plan::{Action, Operation, Plan};
pub use plan_file::ReadPlanError;
pub use reverse::reverse;
pub use seen::{Observer, Seen, observe, observe_at, observe_own};

//! Landlock: no writes outside of some trees.

use std::error::Error as _;
use std::io;
use std::path::Path;

use landlock::{
    ABI, Access as _, AccessFs, CompatLevel, Compatible as _, LandlockStatus, PathBeneath, Ruleset, RulesetAttr as _,
    RulesetCreatedAttr as _, RulesetError, RulesetStatus, Scope,
};
use rustix::fs::{Mode, OFlags, open};
use rustix::io::Errno;

use crate::model::Text;

use super::plan::{FailedStep, errno_of};

/// The newest ABI whose rules are known here; an older kernel enforces those of its own.
const NEWEST: ABI = ABI::V10;

/// What every program needs: devices, and `/proc/self`.
const ALWAYS: [&str; 2] = ["/dev", "/proc"];

/// Refuses every write outside of the given trees, signals to processes outside, and abstract sockets of others.
/// Reading stays free. Returns the ABI in force.
pub(super) fn confine(writable: &[Text]) -> Result<u32, FailedStep> {
    let access = AccessFs::from_write(NEWEST);
    let failed = |error: RulesetError| FailedStep { step: "landlock".to_owned(), path: None, errno: errno_in(&error) };
    let mut rules = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(access)
        .and_then(|rules| rules.scope(Scope::from_all(NEWEST)))
        .and_then(Ruleset::create)
        .map_err(failed)?;
    for path in writable.iter().map(Text::as_path).chain(ALWAYS.iter().map(Path::new)) {
        let tree = match open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()) {
            // One of many that were listed a moment ago: nothing can be written there that could be allowed.
            Err(Errno::NOENT) => continue,
            opened => opened.map_err(FailedStep::at("landlock", path))?,
        };
        rules = rules
            .add_rule(PathBeneath::new(tree, access))
            .map_err(|error| FailedStep { path: Some(path.into()), ..failed(error) })?;
    }
    let status = rules.restrict_self().map_err(failed)?;
    match (status.ruleset, status.landlock) {
        (
            RulesetStatus::FullyEnforced | RulesetStatus::PartiallyEnforced,
            LandlockStatus::Available { effective_abi, .. },
        ) => Ok(effective_abi as u32),
        _ => Err(FailedStep { step: "landlock".to_owned(), path: None, errno: libc::EOPNOTSUPP }),
    }
}

/// The system's error at the bottom of the crate's.
fn errno_in(error: &RulesetError) -> i32 {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = error.source();
    while let Some(found) = cause {
        if let Some(error) = found.downcast_ref::<io::Error>() {
            return errno_of(error);
        }
        cause = found.source();
    }
    libc::EINVAL
}

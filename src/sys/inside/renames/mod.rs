//! x
use super::plan::{FailedStep, RenameService};
pub(super) fn serve() -> Result<RenameService, FailedStep> {
    Ok(RenameService::None)
}

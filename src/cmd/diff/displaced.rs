//! What a run's commit has displaced, and keeps so that it can be taken back.

use std::collections::HashMap;
use std::path::PathBuf;

use anyhow::Context as _;

use crate::model::Event;
use crate::rules::standing::{Standing, standing};
use crate::run::workspace::commit::read_plan;
use crate::store::run_dir::RunDir;
use crate::store::transaction::Action;

/// Where the displaced objects are, by the path they stood at; a directory with all that was in it.
#[derive(Debug, Default)]
pub(super) struct Displaced(HashMap<Vec<u8>, PathBuf>);

impl Displaced {
    /// Reads the plan of a published run; a run that is not published has displaced nothing.
    pub(super) fn of(dir: &RunDir, events: &[Event]) -> anyhow::Result<Self> {
        let (Standing::Published(file) | Standing::Applied(file)) = standing(events) else {
            return Ok(Self::default());
        };
        let plan =
            read_plan(dir, &file).with_context(|| format!("the plan {:?} cannot be read", dir.join(&file.name)))?;
        let places = plan.operations.into_iter().filter_map(|operation| match operation.action {
            Action::Replace { staged: place, .. } | Action::Remove { aside: place, .. } => {
                Some((operation.path.as_bytes().to_vec(), place.to_path_buf()))
            }
            Action::Place { .. } | Action::Adjust { .. } => None,
        });
        Ok(Self(places.collect()))
    }

    /// Where what stood at this path would be: an object, and the path below it (empty for itself).
    pub(super) fn place<'p>(&self, path: &'p [u8]) -> Option<(&PathBuf, &'p [u8])> {
        if let Some(place) = self.0.get(path) {
            return Some((place, b""));
        }
        memchr::memrchr_iter(b'/', path).find_map(|slash| Some((self.0.get(&path[..slash])?, &path[slash + 1..])))
    }
}

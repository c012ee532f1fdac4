//! What the verify commands of a run see: the staged result at the place where it will be published, on a layer (or in a
//! copy) that is thrown away with everything they write.

use std::io;
use std::path::{Path, PathBuf};

use crate::store::state_dir::make_private_directory;
use crate::sys::inside::Access;
use crate::view::overlay::{Bound, Changes};

use super::ended::Life;
use super::environment::{self, AttemptPlaces, Variables};
use super::scene::{PRIVATE, Private, Scene, Way};
use super::workspace::UPPER;

/// Directory of a run with everything that verify commands write.
const SCRATCH: &str = "scratch";
/// Below the private directory: the list of changes.
const CHANGES: &str = "changes.jsonl";
/// Below the private directory: the result of publish mode.
const RESULT: &str = "result";

/// The world of the verify commands of one run.
#[derive(Clone, Debug)]
pub struct VerifyView {
    /// How they see it.
    pub scene: Scene,
    /// What they find in their environment.
    pub variables: Variables,
    /// Where the list of changes is to be written.
    pub changes: PathBuf,
}

impl VerifyView {
    /// Of a workspace: what the agent changed lies below the throwaway layer. A private copy is itself thrown away.
    pub fn of_workspace(life: &Life, places: &AttemptPlaces, scene: &Scene) -> io::Result<Self> {
        let scratch = make_scratch(life)?;
        let mut scene = Scene { private: private(&scratch, scene), ..scene.clone() };
        if scene.way == Way::Overlay {
            scene.above.insert(0, life.dir.join(UPPER));
            scene.changes = Changes { upper: scratch.join("upper"), work: scratch.join("work") };
        }
        let result = scene.seen_covered();
        Ok(Self::new(places, scene, &result))
    }

    /// Of publish mode: a copy of the staged result is shown where the agent was shown staging.
    pub fn of_publish(life: &Life, places: &AttemptPlaces, scene: &Scene, result: &Path) -> io::Result<Self> {
        let scratch = life.dir.join(SCRATCH);
        make_private(&scratch)?;
        let private = private(&scratch, scene);
        let mut scene = Scene { private: private.clone(), ..scene.clone() };
        if !scene.way.mounts() {
            return Ok(Self::new(places, scene, result));
        }
        let staging = places.staging.as_ref().map(|staging| staging.path.clone()).unwrap_or_default();
        let inner = private.host.join(RESULT);
        make_private_directory(&inner)?;
        for name in [environment::STAGING, environment::INPUTS] {
            make_private_directory(&private.host.join(name))?;
        }
        for bind in scene.binds.iter_mut().filter(|bind| bind.host_path == staging) {
            bind.host_path = result.to_path_buf();
        }
        // Verify judges the copy; it has no business in staging.
        let seen = private.seen.join(RESULT);
        scene.binds.push(Bound { host_path: result.to_path_buf(), view_path: seen.clone(), access: Access::ReadWrite });
        if scene.way == Way::Overlay {
            let upper = scratch.join("upper");
            scene.changes = Changes { upper: upper.clone(), work: scratch.join("work") };
            make_mount_points(&scene, &upper)?;
        }
        Ok(Self::new(places, scene, &seen))
    }

    fn new(places: &AttemptPlaces, scene: Scene, result: &Path) -> Self {
        let changes = scene.private.host.join(CHANGES);
        let seen = AttemptPlaces { private: scene.private.clone(), ..places.clone() };
        let mut variables = seen.variables(&[]);
        variables.push(("AGENTGUARD_RESULT".into(), Some(result.into())));
        variables.push(("AGENTGUARD_CHANGES".into(), Some(scene.private.seen.join(CHANGES).into())));
        if places.seen_staging.is_some() {
            variables.push(("AGENTGUARD_STAGING".into(), Some(result.into())));
        }
        Self { scene, variables, changes }
    }
}

/// Targets that do not exist yet are shown on directories of the throwaway layer.
fn make_mount_points(scene: &Scene, upper: &Path) -> io::Result<()> {
    make_private_directory(upper)?;
    for bind in scene.binds.iter().filter(|bind| bind.access == Access::ReadWrite) {
        if let Ok(inside) = bind.view_path.strip_prefix(&scene.covered)
            && bind.view_path.symlink_metadata().is_err()
        {
            std::fs::create_dir_all(upper.join(inside))?;
        }
    }
    Ok(())
}

fn private(scratch: &Path, scene: &Scene) -> Private {
    let host = scratch.join(PRIVATE);
    let seen = if scene.way.mounts() { scene.private.seen.clone() } else { host.clone() };
    Private { host, seen }
}

fn make_scratch(life: &Life) -> io::Result<PathBuf> {
    let scratch = life.dir.join(SCRATCH);
    crate::sys::remove::remove_tree(&scratch)?;
    make_private_directory(&scratch)?;
    make_private(&scratch)?;
    Ok(scratch)
}

fn make_private(scratch: &Path) -> io::Result<()> {
    let private = scratch.join(PRIVATE);
    make_private_directory(&private)?;
    make_private_directory(&private.join(environment::TEMPORARY))
}

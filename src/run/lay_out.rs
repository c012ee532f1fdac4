//! What an attempt needs on the host before its agent starts: staging, the private directory, layers or a copy.

use std::io;
use std::path::{Path, PathBuf};

use crate::model::Text;
use crate::model::event::AttemptStart;
use crate::model::spec::{Feedback, InputRoot, InputSource, OutputKind, OutputTarget};
use crate::store::run_dir::{self, BASE_NAME, RunDirError};
use crate::store::snapshot::SnapshotStore;
use crate::sys::clock;
use crate::sys::inside::Access;
use crate::sys::remove;
use crate::view::clone_copy::{self, CopyBase, CopyError, Hollow, LeftOut};
use crate::view::linked;
use crate::view::overlay::{Bound, Changes};
use crate::view::staging::{self, Staging, StagingError};

use super::begin::Target;
use super::ended::Life;
use super::environment::{self, AttemptPlaces, Nested, SeenFeedback};
use super::retrying::Turn;
use super::scene::{PRIVATE, Private, Scene, Way, mount_point};
use super::signals::{Signals, Worked, interruptible};
use super::snapshot::{self, apply_recorded};
use super::workspace::{ROOT_NAME, UPPER};

/// Directory of a run that the kernel needs beside an overlay's upper layer.
const WORK: &str = "work";
/// Directory of a run with a private copy of the workspace.
const COPY: &str = "clone";

/// What is known of an attempt before it is laid out.
pub(super) struct StagePlan<'a> {
    /// Which attempt.
    pub(super) turn: &'a Turn,
    /// Where the frozen inputs were laid out.
    pub(super) inputs: Option<PathBuf>,
    /// A layer that makes the live tree what a recorded snapshot says.
    pub(super) difference: Option<&'a Path>,
    /// The targets of publish mode.
    pub(super) targets: &'a [Target],
    /// Files of the workspace that stand under several names.
    pub(super) links: Vec<Vec<PathBuf>>,
}

/// What one way needs is there.
pub(super) struct LaidOut {
    /// How the agent will see the world.
    pub(super) scene: Scene,
    /// Where it has its things.
    pub(super) places: AttemptPlaces,
    /// What the private copy was when it was made.
    pub(super) copied: Option<CopyBase>,
}

/// The attempt's directories could not be made.
#[derive(Debug, thiserror::Error)]
pub(super) enum LayOutError {
    #[error("cannot prepare staging")]
    Staging(#[source] StagingError),
    #[error("cannot prepare the attempt")]
    Directory(#[source] RunDirError),
    #[error("cannot prepare {path:?}")]
    Make { path: PathBuf, source: io::Error },
    #[error("cannot copy the workspace")]
    Copy(#[source] CopyError),
    #[error("cannot copy the workspace")]
    Thread(#[source] io::Error),
}

fn make_failed(path: &Path) -> impl FnOnce(io::Error) -> LayOutError {
    let path = path.to_path_buf();
    move |source| LayOutError::Make { path, source }
}

impl StagePlan<'_> {
    /// The event that says where everything will be.
    pub(super) fn start(&self, life: &Life, ways: &[Way]) -> AttemptStart {
        let private = ways.iter().any(|way| way.mounts()).then(|| Text::from(mount_point(life.dir.run_id())));
        AttemptStart {
            number: self.turn.number,
            time: clock::now(),
            staging: Text::from(self.staging_path(life)),
            private,
        }
    }

    fn staging_path(&self, life: &Life) -> PathBuf {
        match life.spec.workspace {
            Some(_) => life.dir.join(UPPER),
            None => staging::place(&life.dir.join("staging"), life.dir.run_id(), self.outputs()),
        }
    }

    fn outputs(&self) -> impl Iterator<Item = &OutputTarget> + Clone {
        self.targets.iter().map(|target| &target.output)
    }

    /// What every way needs; whatever an earlier attempt left is gone.
    pub(super) fn prepare(&self, life: &Life) -> Result<Option<Staging>, LayOutError> {
        let private = life.dir.join(PRIVATE);
        remove::remove_tree(&private).map_err(make_failed(&private))?;
        life.dir.make(PRIVATE).map_err(LayOutError::Directory)?;
        let mut wanted = vec![environment::TEMPORARY];
        if life.spec.workspace.is_none() {
            wanted.push(environment::STAGING);
        }
        if self.inputs.is_some() {
            wanted.push(environment::INPUTS);
        }
        for name in wanted {
            let path = private.join(name);
            crate::store::state_dir::make_private_directory(&path).map_err(make_failed(&path))?;
        }
        if life.spec.retry.feedback == Feedback::File {
            let path = private.join(environment::FEEDBACK);
            let text = self.turn.feedback.as_deref().unwrap_or_default();
            run_dir::write_private(&path, text.as_bytes()).map_err(make_failed(&path))?;
        }
        if let Some(inputs) = self.inputs.as_ref().filter(|_| self.turn.number > 1) {
            snapshot::lay_out_inputs(life, inputs)
                .map_err(|error| make_failed(inputs)(io::Error::other(error.to_string())))?;
        }
        if life.spec.workspace.is_some() {
            return Ok(None);
        }
        let base = life.dir.join(BASE_NAME);
        staging::prepare(&self.staging_path(life), self.outputs(), life.spec.staging_base, &base)
            .map(Some)
            .map_err(LayOutError::Staging)
    }

    /// Makes what one way needs, and says where everything is.
    pub(super) async fn lay_out(
        &self,
        life: &Life,
        way: Way,
        staging: Option<Staging>,
        signals: &mut Signals,
    ) -> Result<Worked<LaidOut>, LayOutError> {
        let private = Private::of(&life.dir, way);
        let covered = match &life.spec.workspace {
            Some(workspace) => workspace.path.to_path_buf(),
            None => life.spec.project.to_path_buf(),
        };
        let mut binds = self.input_binds(life, way, &private, &covered);
        if let Some(staging) = &staging {
            binds.extend(self.staging_binds(life, way, staging, &private, &covered)?);
        }
        if let Some(workspace) = &life.spec.workspace {
            binds.extend(workspace.passthrough.iter().map(|inside| Bound {
                host_path: covered.join(inside.as_path()),
                view_path: covered.join(inside.as_path()),
                access: Access::ReadWrite,
            }));
        }
        let scene = Scene {
            way,
            above: self.difference.map(Path::to_path_buf).into_iter().collect(),
            changes: Changes { upper: life.dir.join(UPPER), work: life.dir.join(WORK) },
            copy: life.dir.join(COPY),
            state: life.state.path().to_path_buf(),
            binds,
            cwd: life.spec.cwd.to_path_buf(),
            allow_write: life.spec.view.allow_write.iter().map(Text::to_path_buf).collect(),
            level: life.spec.view.isolation,
            network: life.spec.view.network,
            not_before: None,
            private: private.clone(),
            covered,
        };
        if way == Way::Overlay && !self.links.is_empty() {
            linked::lay_out(&scene.covered, &scene.changes.upper, &self.links)
                .map_err(make_failed(&scene.changes.upper))?;
        }
        let copied = match self.make_copy(life, &scene, signals).await? {
            Worked::Done(copied) => copied,
            Worked::Cancelled(signal) => return Ok(Worked::Cancelled(signal)),
        };
        if way == Way::Clone && life.spec.workspace.is_none() {
            make_mount_points(&scene)?;
        }
        let places = self.places(life, &scene, staging, private);
        Ok(Worked::Done(LaidOut { scene, places, copied }))
    }

    fn places(&self, life: &Life, scene: &Scene, staging: Option<Staging>, private: Private) -> AttemptPlaces {
        let shown = |name: &str, host: &Path| {
            if scene.way.mounts() { private.seen.join(name) } else { host.to_path_buf() }
        };
        let has_view = scene.way.mounts() || scene.way.is_moved();
        let nested = has_view
            .then(|| Nested { workspace: scene.seen_covered(), state: private.seen.join(environment::NESTED_STATE) });
        AttemptPlaces {
            run_id: life.dir.run_id(),
            number: self.turn.number,
            parent: life.spec.parent_run_id,
            seen_staging: staging.as_ref().map(|staging| shown(environment::STAGING, &staging.path)),
            seen_inputs: self.inputs.as_ref().map(|inputs| shown(environment::INPUTS, inputs)),
            staging,
            feedback: (life.spec.retry.feedback == Feedback::File).then(|| SeenFeedback {
                path: private.seen.join(environment::FEEDBACK),
                has_failed: self.turn.feedback.is_some(),
            }),
            moved_cwd: scene.way.is_moved().then(|| scene.seen_cwd()),
            nested,
            private,
        }
    }

    /// Frozen inputs: in their place below the private directory, and over the live ones outside of a workspace.
    fn input_binds(&self, life: &Life, way: Way, private: &Private, covered: &Path) -> Vec<Bound> {
        let Some(inputs) = self.inputs.as_ref().filter(|_| way.mounts()) else { return Vec::new() };
        let mut binds = vec![Bound {
            host_path: inputs.clone(),
            view_path: private.seen.join(environment::INPUTS),
            access: Access::ReadOnly,
        }];
        let is_workspace = life.spec.workspace.is_some();
        let outside = |root: &InputRoot| !is_workspace || !root.path.as_path().starts_with(covered);
        let roots = roots_of(life).into_iter().filter(outside);
        binds.extend(roots.filter_map(|root| frozen_over_live(inputs, &root)));
        binds
    }

    /// Staging: in its place below the private directory, and over the only directory that is published.
    fn staging_binds(
        &self,
        life: &Life,
        way: Way,
        staging: &Staging,
        private: &Private,
        covered: &Path,
    ) -> Result<Vec<Bound>, LayOutError> {
        if !way.mounts() {
            return Ok(Vec::new());
        }
        let bound =
            |view_path: PathBuf| Bound { host_path: staging.path.clone(), view_path, access: Access::ReadWrite };
        let mut binds = vec![bound(private.seen.join(environment::STAGING))];
        let single = self.outputs().find(|output| output.staged_as.0.is_empty());
        if let Some(output) = single.filter(|output| output.kind == OutputKind::Directory) {
            let target = output.path.as_path();
            let is_there = target.symlink_metadata().is_ok_and(|metadata| metadata.is_dir());
            if is_there || self.make_mount_point(life, target, covered)? {
                binds.push(bound(target.to_path_buf()));
            }
        }
        // One of several cannot be staged before the agent makes it: what is written in its place is taken afterwards.
        for output in self.outputs().filter(|output| !output.staged_as.0.is_empty()) {
            let target = output.path.as_path();
            if output.kind == OutputKind::Directory && target.is_dir() {
                let place = life.dir.join(PRIVATE).join(environment::IN_PLACE).join(output.staged_as.as_path());
                std::fs::create_dir_all(&place).map_err(make_failed(&place))?;
                let mode = std::fs::metadata(target).map_err(make_failed(target))?.permissions();
                std::fs::set_permissions(&place, mode).map_err(make_failed(&place))?;
                binds.push(Bound { host_path: place, view_path: target.to_path_buf(), access: Access::ReadWrite });
            }
        }
        Ok(binds)
    }

    /// A target that does not exist yet is mounted on a directory of the throwaway layer.
    fn make_mount_point(&self, life: &Life, target: &Path, covered: &Path) -> Result<bool, LayOutError> {
        let Ok(inside) = target.strip_prefix(covered) else { return Ok(false) };
        let above = target.parent().unwrap_or(covered);
        if !above.is_dir() {
            return Ok(false);
        }
        let upper = life.dir.join(UPPER);
        let path = upper.join(inside);
        std::fs::create_dir_all(&path).map_err(make_failed(&path))?;
        // Directories above it are in the lower layer already: what they look like comes from this one.
        for level in inside.ancestors().skip(1).filter(|level| !level.as_os_str().is_empty()) {
            let live = covered.join(level);
            if let Ok(metadata) = live.metadata() {
                let layer = upper.join(level);
                std::fs::set_permissions(&layer, metadata.permissions()).map_err(make_failed(&layer))?;
            }
        }
        Ok(true)
    }

    async fn make_copy(
        &self,
        life: &Life,
        scene: &Scene,
        signals: &mut Signals,
    ) -> Result<Worked<Option<CopyBase>>, LayOutError> {
        if matches!(scene.way, Way::Overlay | Way::Plain) {
            return Ok(Worked::Done(None));
        }
        let (from, to) = (scene.covered.clone(), scene.copy.clone());
        let passthrough = life.spec.workspace.iter().flat_map(|policy| &policy.passthrough);
        let left_out = LeftOut {
            absent: vec![life.state.path().to_path_buf()],
            hollow: passthrough.map(Text::to_path_buf).collect(),
        };
        let hollow = if scene.way.is_moved() { Hollow::Linked } else { Hollow::Mounted };
        let recorded = match &life.spec.inputs.source {
            InputSource::Recorded(snapshot) => Some(snapshot.clone()),
            InputSource::Live(_) => None,
        };
        let (spec, state) = (life.spec.clone(), life.state.path().to_path_buf());
        let work = move || {
            clone_copy::make(&from, &to, &left_out, hollow, |copy| match recorded {
                Some(snapshot) => apply_recorded(&snapshot, &spec, &state, copy).map_err(io::Error::other),
                None => Ok(()),
            })
        };
        match interruptible(signals, work).await.map_err(LayOutError::Thread)? {
            Worked::Done(made) => made.map(|base| Worked::Done(Some(base))).map_err(LayOutError::Copy),
            Worked::Cancelled(signal) => Ok(Worked::Cancelled(signal)),
        }
    }

    /// Removes what a way that was not entered has made.
    pub(super) fn take_down(&self, life: &Life, way: Way) {
        let mut names = vec![WORK];
        match way {
            Way::Overlay => names.push(UPPER),
            Way::Clone | Way::EnteredClone | Way::LooseClone => names.push(COPY),
            Way::Plain => {}
        }
        for name in names {
            // What stays is in the way of the next attempt at most, and swept with the run.
            let _ = remove::remove_tree(&life.dir.join(name));
        }
    }
}

/// A target that does not exist yet is mounted on a directory of the copy, which is thrown away.
fn make_mount_points(scene: &Scene) -> Result<(), LayOutError> {
    for bind in scene.binds.iter().filter(|bind| bind.access == Access::ReadWrite) {
        let Ok(inside) = bind.view_path.strip_prefix(&scene.covered) else { continue };
        let place = scene.copy.join(inside);
        if place.symlink_metadata().is_err() {
            std::fs::create_dir_all(&place).map_err(make_failed(&place))?;
        }
    }
    Ok(())
}

/// The inputs by name and place; those of a replay as its original named them.
fn roots_of(life: &Life) -> Vec<InputRoot> {
    match &life.spec.inputs.source {
        InputSource::Live(roots) => roots.clone(),
        // What cannot be loaded could not be laid out, either.
        InputSource::Recorded(snapshot) => {
            let manifest = SnapshotStore::at(life.state.path()).load(snapshot).ok();
            let names = manifest.iter().flat_map(|manifest| manifest.roots()).map(|(_, root)| Text(root.name.to_vec()));
            let own = life.spec.workspace.as_ref().map(|_| Text::from(ROOT_NAME));
            names
                .filter(|name| Some(name) != own.as_ref() && *name != Text::from("stdin"))
                .map(|name| InputRoot { path: life.spec.project.as_path().join(name.as_path()).into(), name })
                .collect()
        }
    }
}

/// A frozen input over the live one; a link is left alone: a mount would land on what it points to.
fn frozen_over_live(inputs: &Path, root: &InputRoot) -> Option<Bound> {
    let live = root.path.as_path();
    let found = live.symlink_metadata().ok()?;
    if found.is_symlink() {
        return None;
    }
    let name = root.name.as_path();
    let below = name.strip_prefix("/").unwrap_or(name);
    let host_path = if below == Path::new(".") { inputs.to_path_buf() } else { inputs.join(below) };
    Some(Bound { host_path, view_path: live.to_path_buf(), access: Access::ReadOnly })
}

//! The clone view: a private copy of the workspace, mounted over its path, or entered where nothing can be mounted.

use std::path::{Path, PathBuf};

use rustix::process::{getegid, geteuid};

use crate::model::spec::Network;
use crate::sys::inside::{Access, Bind, Step, may_mount};

use super::overlay::{Bound, Confinement, Shown};

/// What an agent is to see.
#[derive(Clone, Debug)]
pub struct CloneLayout {
    /// The live tree, and where the copy is shown.
    pub workspace: PathBuf,
    /// The copy.
    pub copy: PathBuf,
    /// The state directory: it is no part of the copy, and masked where it lies outside of the workspace.
    pub state_dir: PathBuf,
    /// Directories that are shown at another path, which is made if it is missing.
    pub private: Vec<Shown>,
    /// Files and directories that are shown over the copy.
    pub binds: Vec<Bound>,
    /// The working directory.
    pub cwd: PathBuf,
    /// How much more is closed.
    pub confinement: Confinement,
}

/// Namespaces for a copy that is mounted.
pub fn opening(network: Network) -> Vec<Step> {
    let mut steps = Vec::new();
    if !may_mount() {
        steps.push(own_ids());
    }
    steps.push(Step::MountNamespace);
    if network == Network::None {
        steps.push(Step::NetworkNamespace);
    }
    steps
}

/// Namespaces where nothing is mounted.
pub fn opening_without_mounts(network: Network) -> Vec<Step> {
    match network {
        Network::Host => Vec::new(),
        Network::None if may_mount() => vec![Step::NetworkNamespace],
        Network::None => vec![own_ids(), Step::NetworkNamespace],
    }
}

fn own_ids() -> Step {
    Step::UserNamespace { uid: geteuid().as_raw(), gid: getegid().as_raw() }
}

/// The mounts, and what follows them.
pub fn steps(layout: &CloneLayout) -> Vec<Step> {
    let mut steps = vec![bind(&layout.copy, &layout.workspace, Access::ReadWrite)];
    if !layout.state_dir.starts_with(&layout.workspace) && layout.state_dir.is_dir() {
        steps.push(Step::Mask { path: layout.state_dir.as_path().into() });
    }
    for Shown { host_path, view_path } in &layout.private {
        steps.push(Step::MakeDirectory { path: view_path.as_path().into() });
        steps.push(bind(host_path, view_path, Access::ReadWrite));
    }
    for Bound { host_path, view_path, access } in &layout.binds {
        steps.push(bind(host_path, view_path, *access));
    }
    steps.push(Step::Enter { directory: layout.cwd.as_path().into() });
    steps.extend(confine(&layout.confinement));
    steps.push(Step::DropAdmin);
    steps
}

/// What is left where nothing is mounted.
pub fn steps_without_mounts(cwd: &Path, confinement: &Confinement) -> Vec<Step> {
    let mut steps = vec![Step::Enter { directory: cwd.into() }];
    steps.extend(confine(confinement));
    steps
}

fn confine(confinement: &Confinement) -> Option<Step> {
    match confinement {
        Confinement::Open => None,
        Confinement::Confined(writable) => {
            Some(Step::Confine { writable: writable.iter().map(|path| path.as_path().into()).collect() })
        }
    }
}

fn bind(host_path: &Path, view_path: &Path, access: Access) -> Step {
    Step::Bind(Bind { from: host_path.into(), to: view_path.into(), access })
}

//! From what was typed to what it means, for workspaces and views: what cannot be carried out is refused here.

use std::fs;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, access};

use crate::model::Text;
use crate::model::spec::{Hold, IsolationLevel, Network, OnConflict, ViewKind, ViewPolicy, WorkspacePolicy};
use crate::sys::{mount, mount_table};

use super::resolve::{Surroundings, lexical, physical};

/// The workspace as typed.
#[derive(Clone, Debug, Default)]
pub struct WorkspaceWish {
    /// The directory; the project root if none was named.
    pub directory: Option<PathBuf>,
    /// Paths inside that are not staged.
    pub passthrough: Vec<PathBuf>,
    /// Whether the result waits for a decision.
    pub hold: Hold,
    /// What becomes of a result that meets somebody else's change.
    pub on_conflict: OnConflict,
}

/// The view as typed.
#[derive(Clone, Debug, Default)]
pub struct ViewWish {
    /// Which view.
    pub wanted: ViewKind,
    /// How much must be enforced.
    pub isolation: IsolationLevel,
    /// Further writable paths.
    pub allow_write: Vec<PathBuf>,
    /// Whether there is a network.
    pub network: Network,
}

/// A wish that cannot be carried out: what is wrong, and what to type.
#[derive(Debug, thiserror::Error)]
pub enum ResolveWorkspaceError {
    /// The directory cannot be a workspace.
    #[error("the workspace {path:?} {why}")]
    Workspace {
        /// The directory.
        path: PathBuf,
        /// What is wrong, and what to type.
        why: String,
    },
    /// A path cannot be passed through.
    #[error("--passthrough {path:?} {why}")]
    Passthrough {
        /// The path as typed.
        path: PathBuf,
        /// What is wrong, and what to type.
        why: String,
    },
    /// A path cannot be opened for writing.
    #[error("--allow-write {path:?} {why}")]
    AllowWrite {
        /// The path as typed.
        path: PathBuf,
        /// What is wrong, and what to type.
        why: String,
    },
}

/// The workspace, checked.
pub fn workspace(at: &Surroundings, wish: &WorkspaceWish) -> Result<WorkspacePolicy, ResolveWorkspaceError> {
    let typed = wish.directory.as_ref().map_or_else(|| at.project.clone(), |directory| at.cwd.join(directory));
    let refuse = |why: String| ResolveWorkspaceError::Workspace { path: typed.clone(), why };
    let path = fs::canonicalize(&typed).map_err(|error| refuse(format!("cannot be used: {error}")))?;
    check_workspace(at, &path).map_err(refuse)?;
    let mut passthrough = wish
        .passthrough
        .iter()
        .map(|path_typed| passthrough(at, &path, path_typed))
        .collect::<Result<Vec<Text>, ResolveWorkspaceError>>()?;
    passthrough.extend(shown_by_outer(at, &path).map_err(refuse)?);
    check_mounts(&path, &passthrough).map_err(|why| ResolveWorkspaceError::Workspace { path: path.clone(), why })?;
    let name = match path.strip_prefix(&at.project) {
        Ok(inside) if inside.as_os_str().is_empty() => Text::from("."),
        Ok(inside) => Text::from(inside),
        Err(_) => Text::from(path.as_path()),
    };
    Ok(WorkspacePolicy { path: path.into(), name, passthrough, hold: wish.hold, on_conflict: wish.on_conflict })
}

fn check_workspace(at: &Surroundings, path: &Path) -> Result<(), String> {
    if !path.is_dir() {
        return Err("is not a directory: name one with --workspace DIR".to_owned());
    }
    if path == Path::new("/") {
        return Err("is the root directory: name a project with --workspace DIR".to_owned());
    }
    if let Some(home) = at.home.as_deref().filter(|home| home.starts_with(path)) {
        let what = if home == path { "is" } else { "contains" };
        return Err(format!("{what} your home directory: name a project below it with --workspace DIR"));
    }
    for system in ["/proc", "/sys", "/dev"] {
        if path.starts_with(system) {
            return Err("is not on a filesystem that keeps files: name a project with --workspace DIR".to_owned());
        }
    }
    if path.starts_with(&at.state) {
        return Err("lies inside the state directory, which is agentguard's own: name another".to_owned());
    }
    access(path, Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK)
        .map_err(|error| format!("is not yours to write ({error}): what an agent changes there could not be applied"))
}

/// A path inside the workspace, relative to it. One that does not exist is made later, see [`make_passthrough`].
fn passthrough(at: &Surroundings, workspace: &Path, typed: &Path) -> Result<Text, ResolveWorkspaceError> {
    let refuse = |why: &str| ResolveWorkspaceError::Passthrough { path: typed.to_path_buf(), why: why.to_owned() };
    let from_workspace = workspace.join(typed);
    let from_cwd = at.cwd.join(typed);
    let path = if from_cwd.symlink_metadata().is_ok() { from_cwd } else { from_workspace };
    let path = match path.symlink_metadata() {
        Ok(_) => fs::canonicalize(&path).map_err(|error| refuse(&format!("cannot be used: {error}")))?,
        Err(_) => place_of_missing(&path).map_err(|why| refuse(&why))?,
    };
    let inside = path.strip_prefix(workspace).map_err(|_| refuse("is not inside the workspace"))?;
    if inside.as_os_str().is_empty() {
        return Err(refuse("is the workspace itself: nothing would be staged"));
    }
    if path.starts_with(&at.state) || at.state.starts_with(&path) {
        return Err(refuse("would show the state directory, which is agentguard's own"));
    }
    Ok(Text::from(inside))
}

/// Where a directory would be made.
fn place_of_missing(path: &Path) -> Result<PathBuf, String> {
    let path = physical(&lexical(path))?;
    let above = mount::nearest_existing(&path);
    if above.is_dir() { Ok(path) } else { Err(format!("cannot be made: {above:?} is not a directory")) }
}

/// Makes what is passed through and does not exist yet: a cache begins empty.
pub fn make_passthrough(policy: &WorkspacePolicy) -> Result<(), ResolveWorkspaceError> {
    for inside in &policy.passthrough {
        let path = policy.path.as_path().join(inside.as_path());
        if path.symlink_metadata().is_err() {
            fs::create_dir_all(&path).map_err(|error| ResolveWorkspaceError::Passthrough {
                path: inside.to_path_buf(),
                why: format!("cannot be made: {error}"),
            })?;
        }
    }
    Ok(())
}

/// Inside the view of another agentguard every mount below the workspace is that one's: its staging, its frozen inputs,
/// what it passes through. They are as real to this run as to that one's agent.
fn shown_by_outer(at: &Surroundings, workspace: &Path) -> Result<Vec<Text>, String> {
    if !at.outer.as_deref().is_some_and(|outer| workspace.starts_with(outer)) {
        return Ok(Vec::new());
    }
    let mounts = mount_table::below(workspace).map_err(|error| format!("cannot be looked at: {error}"))?;
    Ok(mounts.iter().filter_map(|mount| mount.strip_prefix(workspace).ok()).map(Text::from).collect())
}

/// What is mounted below the workspace is no part of the tree that is staged: it must be passed through, or the agent
/// would change it for real (or see what lies hidden under it).
fn check_mounts(workspace: &Path, passthrough: &[Text]) -> Result<(), String> {
    let mounts = mount_table::below(workspace).map_err(|error| format!("cannot be looked at: {error}"))?;
    let covered =
        |mount: &PathBuf| passthrough.iter().any(|inside| mount.starts_with(workspace.join(inside.as_path())));
    let open: Vec<String> = mounts
        .iter()
        .filter(|mount| !covered(mount))
        .map(|mount| mount.strip_prefix(workspace).unwrap_or(mount).display().to_string())
        .collect();
    if open.is_empty() {
        return Ok(());
    }
    Err(format!(
        "has other filesystems mounted below it, which cannot be staged: {}; unmount them, or let them be changed for real \
         with --passthrough {:?}",
        open.join(", "),
        open[0]
    ))
}

/// The view, checked.
pub fn view(at: &Surroundings, wish: &ViewWish) -> Result<ViewPolicy, ResolveWorkspaceError> {
    let allow_write = wish
        .allow_write
        .iter()
        .map(|typed| {
            let path = fs::canonicalize(at.cwd.join(typed));
            path.map(Text::from).map_err(|error| ResolveWorkspaceError::AllowWrite {
                path: typed.clone(),
                why: format!("cannot be used: {error}"),
            })
        })
        .collect::<Result<Vec<Text>, ResolveWorkspaceError>>()?;
    Ok(ViewPolicy { wanted: wish.wanted, isolation: wish.isolation, allow_write, network: wish.network })
}

//! A recorded specification in another project than it was recorded in: what lay below the old root lies below the new
//! one. Pure: whether anything is there is looked at by whoever asks.

use std::path::Path;

use crate::model::Text;
use crate::model::spec::RunSpec;

/// Variables that describe a machine and its user, not what a run is given: a replay elsewhere takes those of its place.
const OF_THE_MACHINE: [&str; 4] = ["HOME", "PATH", "PWD", "SHELL"];

/// Moves a specification to the project at `root`. Paths outside of the recorded project stay as they are.
pub fn relocate(spec: &mut RunSpec, root: &Path) {
    let from = spec.project.clone();
    let moved = |path: &mut Text| *path = below(path, &from, root);
    spec.command.iter_mut().for_each(moved);
    moved(&mut spec.cwd);
    spec.outputs.iter_mut().for_each(|output| moved(&mut output.path));
    spec.view.allow_write.iter_mut().for_each(moved);
    if let Some(workspace) = &mut spec.workspace {
        moved(&mut workspace.path);
    }
    spec.project = root.into();
    spec.environment.retain(|name, _| !OF_THE_MACHINE.iter().any(|own| name.0 == own.as_bytes()));
}

/// The path below the new root, if it is the old one or below it.
fn below(path: &Text, from: &Text, root: &Path) -> Text {
    if !path.as_path().is_absolute() {
        return path.clone();
    }
    match path.as_path().strip_prefix(from.as_path()) {
        Ok(inside) if inside.as_os_str().is_empty() => root.into(),
        Ok(inside) => root.join(inside).into(),
        Err(_) => path.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_lies_below_the_old_root_moves() {
        let moved =
            |path: &str| below(&path.into(), &"/old/project".into(), Path::new("/new")).to_string_lossy().into_owned();
        assert_eq!(moved("/old/project"), "/new");
        assert_eq!(moved("/old/project/a/b"), "/new/a/b");
        for same in ["/old/projects/a", "/etc/hosts", "relative/old", "--flag"] {
            assert_eq!(moved(same), same);
        }
    }
}

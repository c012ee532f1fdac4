//! The throwaway layer of publish mode: what the agent wrote beside staging. Outputs that it wrote at their own paths are
//! taken from there; the rest is counted and dropped.

use std::io;
use std::os::unix::fs::FileTypeExt as _;
use std::path::Path;

use walkdir::WalkDir;

use crate::model::spec::OutputKind;
use crate::view::staging::Staging;

use super::begin::Target;
use super::scene::{Scene, Way};

/// Moves outputs that were written in place into staging, and counts what else lies in the layer; `None` where there is
/// no layer.
///
/// A directory that exists in the live tree is merged with it inside, and so is no result of its own: only new ones are
/// taken.
pub(super) fn take_outputs(scene: &Scene, targets: &[Target], staging: &Staging) -> io::Result<Option<u64>> {
    if scene.way != Way::Overlay {
        return Ok(None);
    }
    let upper = &scene.changes.upper;
    for output in targets.iter().map(|target| &target.output).filter(|output| !output.staged_as.0.is_empty()) {
        let Ok(inside) = output.path.as_path().strip_prefix(&scene.covered) else { continue };
        let (written, staged) = (upper.join(inside), staging.path.join(output.staged_as.as_path()));
        let merged = output.kind == OutputKind::Directory && output.path.as_path().is_dir();
        if !merged && is_written(&written)? && staged.symlink_metadata().is_err() {
            std::fs::rename(&written, &staged)?;
        }
    }
    count(upper).map(Some)
}

/// Whether a path of the layer is something the agent wrote, and no note of a removal.
fn is_written(path: &Path) -> io::Result<bool> {
    match path.symlink_metadata() {
        Ok(metadata) => Ok(!metadata.file_type().is_char_device()),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Files, links and pipes in a layer.
fn count(upper: &Path) -> io::Result<u64> {
    let mut found = 0;
    for entry in WalkDir::new(upper).follow_root_links(false).min_depth(1) {
        match entry {
            Ok(entry) if entry.file_type().is_dir() || entry.file_type().is_char_device() => {}
            Ok(_) => found += 1,
            // A directory that the agent has closed: what is in it is not counted.
            Err(error) if error.io_error().is_some_and(|error| error.kind() == io::ErrorKind::PermissionDenied) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(found)
}

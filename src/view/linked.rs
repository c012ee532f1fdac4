//! Files that stand in a workspace under several names, laid into an overlay's upper layer before the agent starts.
//!
//! The kernel copies up one name of such a file and leaves the others as they are; in the upper layer they stay one file,
//! as they are without a view.

use std::fs;
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use crate::sys::copy_tree::copy_tree;
use crate::sys::metadata::Metadata;
use crate::sys::overlay_layer;
use crate::sys::walk::Access;
use crate::sys::xattr;

/// Copies each group (paths below `covered`) into the layer, once, under all its names. A group that cannot be copied
/// (somebody changes it at this moment, a path is too long) is left to the kernel.
pub fn lay_out(covered: &Path, upper: &Path, groups: &[Vec<PathBuf>]) -> io::Result<()> {
    match fs::DirBuilder::new().mode(0o700).create(upper) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    let mut made: Vec<PathBuf> = Vec::new();
    for group in groups {
        let Some((first, others)) = group.split_first() else { continue };
        if group.iter().any(|name| make_above(upper, name, &mut made).is_err()) {
            continue;
        }
        if copy_tree(&covered.join(first), &upper.join(first), Access::AsIs).is_err() {
            continue;
        }
        for other in others {
            fs::hard_link(upper.join(first), upper.join(other))?;
        }
    }
    // Innermost first: what is made in a directory changes its time.
    made.sort_unstable();
    for inside in made.iter().rev() {
        finish(&covered.join(inside), &upper.join(inside))?;
    }
    Ok(())
}

fn make_above(upper: &Path, name: &Path, made: &mut Vec<PathBuf>) -> io::Result<()> {
    let above: Vec<&Path> = name.ancestors().skip(1).filter(|above| !above.as_os_str().is_empty()).collect();
    for above in above.into_iter().rev() {
        match fs::DirBuilder::new().mode(0o700).create(upper.join(above)) {
            Ok(()) => made.push(above.to_path_buf()),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// A directory of the layer looks like the one it is merged with.
fn finish(live: &Path, layer: &Path) -> io::Result<()> {
    let (from, to) = (fs::File::open(live)?, fs::File::open(layer)?);
    let metadata = from.metadata()?;
    let xattrs = xattr::read_all(from.as_fd())?;
    let mtime = (metadata.mtime(), u32::try_from(metadata.mtime_nsec()).unwrap_or(0));
    let owner = (metadata.uid(), metadata.gid());
    overlay_layer::mark_impure(to.as_fd())?;
    Metadata { mode: metadata.mode() & 0o7777, owner, mtime, xattrs: &xattrs }.apply_to(to.as_fd())
}

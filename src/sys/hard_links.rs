//! Hard links that lead out of a tree: published as they are, a write to the result would write to whatever private
//! file the agent had linked in.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use walkdir::WalkDir;

use super::copy_tree::copy_tree;
use super::walk::Access;

/// Files below `top` that have further names elsewhere become copies; names within the tree stay one file.
///
/// A crash leaves a copy under a hidden name in `top`'s directory of the file; staging is dropped with it.
pub fn separate_from_outside(top: &Path) -> io::Result<()> {
    let mut linked: HashMap<(u64, u64), (u64, Vec<PathBuf>)> = HashMap::new();
    for entry in WalkDir::new(top) {
        let entry = entry?;
        if !entry.file_type().is_file() {
            continue;
        }
        let metadata = entry.metadata()?;
        if metadata.nlink() > 1 {
            let names = linked.entry((metadata.dev(), metadata.ino())).or_insert((metadata.nlink(), Vec::new()));
            names.1.push(entry.into_path());
        }
    }
    for (links, names) in linked.into_values() {
        if let [first, rest @ ..] = names.as_slice()
            && links > names.len() as u64
        {
            separate(first, rest)?;
        }
    }
    Ok(())
}

fn separate(first: &Path, rest: &[PathBuf]) -> io::Result<()> {
    let copy = first.with_file_name(format!(".agentguard-copy-{}", super::clock::new_run_id()));
    copy_tree(first, &copy, Access::Own).map_err(io::Error::other)?;
    fs::rename(&copy, first)?;
    for name in rest {
        fs::hard_link(first, &copy)?;
        fs::rename(&copy, name)?;
    }
    Ok(())
}

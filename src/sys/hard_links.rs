//! Hard links that lead out of a tree: published as they are, a write to the result would write to whatever private
//! file the agent had linked in.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::copy_tree::copy_tree;
use super::walk::{self, Access, ObjectKind};

/// Files with further names: how many names each has, and those that were found.
type Linked = HashMap<(u64, u64), (u64, Vec<PathBuf>)>;

/// Files below `top` (one's own tree) that have further names elsewhere become copies; names within the tree stay one
/// file.
///
/// A crash leaves a copy under a hidden name beside the file; staging is dropped with it.
pub fn separate_from_outside(top: &Path) -> io::Result<()> {
    for (links, names) in linked_files(top)?.into_values() {
        if let [first, rest @ ..] = names.as_slice()
            && links > names.len() as u64
        {
            separate(first, rest)?;
        }
    }
    Ok(())
}

fn linked_files(top: &Path) -> io::Result<Linked> {
    let mut linked = Linked::new();
    let base = walk::open_dir_itself(top.as_os_str().as_bytes())?;
    let mut dirents = vec![MaybeUninit::uninit(); 64 << 10];
    let mut waiting = vec![Vec::new()];
    while let Some(below) = waiting.pop() {
        let dir = walk::open_dir_below_as(Access::Own, base.as_fd(), &below)?;
        for name in walk::sorted_names(dir.as_fd(), &mut dirents)? {
            let path = if below.is_empty() { name.bytes.to_vec() } else { [&*below, b"/", &*name.bytes].concat() };
            let stat = walk::lstat_at(dir.as_fd(), &name.bytes)?;
            match stat.kind() {
                ObjectKind::Directory => waiting.push(path),
                ObjectKind::File if stat.nlink > 1 => {
                    let names = linked.entry((stat.dev, stat.ino)).or_insert((stat.nlink, Vec::new()));
                    names.1.push(top.join(OsStr::from_bytes(&path)));
                }
                _ => {}
            }
        }
    }
    Ok(linked)
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

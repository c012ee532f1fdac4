//! Which directories make a capture too large: a walk that only stats, made when the limit was passed.

use std::collections::BTreeMap;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;

use super::gather::{Plan, Scope};
use crate::model::Text;
use crate::store::ignore::{Verdict, Whereabouts};
use crate::sys::walk::{self, ObjectKind};

/// The three largest directories directly below the roots (or a root itself, for the files in it), largest first.
/// What cannot be read is left out: this only words an error.
pub(super) fn largest_directories(plan: &Plan<'_>) -> Vec<(Text, u64)> {
    let mut sizes = BTreeMap::<Vec<u8>, u64>::new();
    for (root, scope) in plan.roots.iter().zip(plan.scopes) {
        if let Ok(base) = walk::open_dir(root.path.as_os_str().as_bytes()) {
            add_up(plan, &base, (&root.name.0, scope), &mut sizes);
        } else if let Ok(metadata) = std::fs::metadata(&root.path) {
            *sizes.entry(root.name.0.clone()).or_default() += metadata.len();
        }
    }
    let mut sizes: Vec<_> = sizes.into_iter().map(|(path, bytes)| (Text(path), bytes)).collect();
    sizes.sort_by_key(|(_, bytes)| std::cmp::Reverse(*bytes));
    sizes.truncate(3);
    sizes
}

fn add_up(plan: &Plan<'_>, base: &OwnedFd, (root, scope): (&[u8], &Scope), sizes: &mut BTreeMap<Vec<u8>, u64>) {
    let mut dirents = vec![MaybeUninit::uninit(); 64 << 10];
    let mut waiting = vec![(Vec::new(), scope.rules.clone())];
    while let Some((path, rules)) = waiting.pop() {
        let Ok(dir) = walk::open_dir_below(base.as_fd(), &path) else { continue };
        let Ok(names) = walk::sorted_names(dir.as_fd(), &mut dirents) else { continue };
        let at = Whereabouts { root: &scope.path, below: &path };
        let rules = rules.enter(plan.sources, dir.as_fd(), at, &names);
        for name in names {
            let Ok(stat) = walk::lstat_at(dir.as_fd(), &name.bytes) else { continue };
            let below = if path.is_empty() { name.bytes.to_vec() } else { [&*path, b"/", &*name.bytes].concat() };
            if plan.policy.leaves_out(|| Text([root, b"/", &*below].concat()), &name.bytes) {
                continue;
            }
            let Verdict::Taken(rules) = rules.verdict(plan.sources, at, &name.bytes, &stat) else { continue };
            match stat.kind() {
                ObjectKind::Directory if !plan.skip.contains(&(stat.dev, stat.ino)) => waiting.push((below, rules)),
                ObjectKind::File => {
                    let first = below.split(|byte| *byte == b'/').next().filter(|first| first.len() < below.len());
                    let place = first.map_or_else(|| root.to_vec(), |first| [root, b"/", first].concat());
                    *sizes.entry(place).or_default() += stat.size;
                }
                _ => {}
            }
        }
    }
}

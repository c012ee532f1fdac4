//! Git directories outside the captured trees whose work trees are in them: roots of their own, named by their
//! absolute paths.

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use super::gather::Scope;
use super::policy::CaptureRoot;
use crate::model::Text;
use crate::store::ignore::{GitDirs, Rules, Sources};

/// The git directories that were met and lie in none of the scopes; sorted by name. Of a directory that several work
/// trees share, the state of those is taken whose work trees were met.
pub(super) fn outer_git_roots(sources: &Sources, scopes: &[Scope]) -> (Vec<CaptureRoot>, Vec<Scope>) {
    let mut wanted = BTreeMap::<PathBuf, Option<Vec<Box<[u8]>>>>::new();
    for GitDirs { own, common } in sources.outer_git_dirs() {
        if own == common {
            wanted.entry(own).or_insert(None);
            continue;
        }
        let name = own.strip_prefix(common.join("worktrees")).ok().and_then(|below| below.components().next());
        match name {
            Some(name) => {
                let names = wanted.entry(common).or_insert_with(|| Some(Vec::new()));
                names.iter_mut().for_each(|names| names.push(name.as_os_str().as_bytes().into()));
            }
            None => {
                wanted.entry(own).or_insert(None);
                wanted.entry(common).or_insert_with(|| Some(Vec::new()));
            }
        }
    }
    let is_outside = |path: &Path| !scopes.iter().any(|scope| path.starts_with(&scope.path));
    let within_another = |path: &Path| path.ancestors().skip(1).any(|above| wanted.contains_key(above));
    wanted
        .iter()
        .filter(|(path, _)| is_outside(path) && !within_another(path))
        .map(|(path, worktrees)| {
            let root = CaptureRoot { name: Text(path.as_os_str().as_bytes().to_vec()), path: path.clone() };
            let rules = Rules::of_git_dir(worktrees.clone().map(Into::into));
            (root, Scope { path: path.clone(), rules })
        })
        .unzip()
}

//! Commit and branch of the work tree around a directory, read from git's files: git itself is never run, so nothing
//! that an agent could have configured is.

use std::path::{Path, PathBuf};

use crate::model::record::GitState;

/// The state of the nearest work tree upward; `None` outside one, or where its files make no sense.
pub fn read(cwd: &Path) -> Option<GitState> {
    let top = cwd.ancestors().find(|dir| dir.join(".git").symlink_metadata().is_ok())?;
    let git_dir = git_dir(&top.join(".git"))?;
    let head = read_line(&git_dir.join("HEAD"))?;
    let Some(reference) = head.strip_prefix("ref: ") else {
        return object_id(&head).map(|commit| GitState { commit: Some(commit), branch: None, dirty: None });
    };
    // A linked worktree keeps its own HEAD; branches live in the common directory.
    let common = read_line(&git_dir.join("commondir")).map_or_else(|| git_dir.clone(), |dir| git_dir.join(dir));
    let commit = loose(&common, reference).or_else(|| packed(&common, reference));
    let branch = reference.strip_prefix("refs/heads/").unwrap_or(reference).to_owned();
    Some(GitState { commit, branch: Some(branch), dirty: None })
}

/// `.git` is a directory, or a file that names one.
fn git_dir(dot_git: &Path) -> Option<PathBuf> {
    if dot_git.is_dir() {
        return Some(dot_git.to_path_buf());
    }
    let named = read_line(dot_git)?;
    Some(dot_git.parent()?.join(named.strip_prefix("gitdir: ")?))
}

fn loose(common: &Path, reference: &str) -> Option<String> {
    let plain = !reference.split('/').any(|part| part.is_empty() || part == "..");
    plain.then(|| read_line(&common.join(reference))).flatten().as_deref().and_then(object_id)
}

fn packed(common: &Path, reference: &str) -> Option<String> {
    let refs = std::fs::read_to_string(common.join("packed-refs")).ok()?;
    refs.lines().find_map(|line| object_id(line.strip_suffix(reference)?.strip_suffix(' ')?))
}

fn object_id(text: &str) -> Option<String> {
    let hex = matches!(text.len(), 40 | 64) && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    hex.then(|| text.to_owned())
}

fn read_line(path: &Path) -> Option<String> {
    let metadata = path.metadata().ok()?;
    // A hostile repository may hold anything here; a reference is short and a regular file.
    if !metadata.is_file() || metadata.len() > 64 * 1024 {
        return None;
    }
    Some(std::fs::read_to_string(path).ok()?.trim_end().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

    #[test]
    fn head_is_read_loose_packed_detached_and_through_a_linked_worktree() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let top = dir.path();
        assert_eq!(read(&top.join("nowhere")).map(|_| ()), read(Path::new("/")).map(|_| ()));
        fs::create_dir_all(top.join(".git/refs/heads/x")).expect("git");
        fs::write(top.join(".git/HEAD"), "ref: refs/heads/x/y\n").expect("head");
        let branch = Some("x/y".to_owned());
        assert_eq!(read(top), Some(GitState { commit: None, branch: branch.clone(), dirty: None }));
        fs::write(top.join(".git/packed-refs"), format!("# pack\n{COMMIT} refs/heads/x/y\n")).expect("packed");
        let commit = Some(COMMIT.to_owned());
        assert_eq!(read(top), Some(GitState { commit: commit.clone(), branch: branch.clone(), dirty: None }));
        fs::create_dir_all(top.join("linked")).expect("linked");
        fs::create_dir_all(top.join(".git/worktrees/linked")).expect("worktree");
        fs::write(top.join("linked/.git"), "gitdir: ../.git/worktrees/linked\n").expect("file");
        fs::write(top.join(".git/worktrees/linked/commondir"), "../..\n").expect("common");
        fs::write(top.join(".git/worktrees/linked/HEAD"), "ref: refs/heads/x/y\n").expect("head");
        assert_eq!(read(&top.join("linked")), Some(GitState { commit: commit.clone(), branch, dirty: None }));
        fs::write(top.join(".git/HEAD"), format!("{COMMIT}\n")).expect("detached");
        assert_eq!(read(top), Some(GitState { commit, branch: None, dirty: None }));
    }
}

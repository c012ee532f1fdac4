//! Paths that a run may not change unless it was allowed to: the guard's own configuration, and what the next command
//! of a person who trusts the project would run.

/// Why a path is protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protection {
    /// Any change to it is refused.
    Whole,
    /// A git configuration file: only keys that make git run something or read elsewhere count.
    GitConfig,
}

/// What protects a path (relative to the workspace) in any case; `None`: nothing does.
///
/// At every depth: `agentguard.toml`, `.agentguard/**`, `.agentguard-*/**`, `.envrc`, and of every git directory `hooks/**` and the
/// configuration files. Samples of hooks (`*.sample`) are not run by git and not protected.
pub fn protection(path: &[u8]) -> Option<Protection> {
    let parts: Vec<&[u8]> = path.split(|byte| *byte == b'/').collect();
    let (name, above) = parts.split_last()?;
    // `.agentguard-<run>`: of a commit that an agentguard inside has left half done.
    let is_own = |part: &&[u8]| *part == b".agentguard" || part.starts_with(b".agentguard-");
    if matches!(*name, b"agentguard.toml" | b".envrc") || parts.iter().any(is_own) {
        return Some(Protection::Whole);
    }
    let git = above.iter().position(|part| *part == b".git")?;
    let below = &parts[git + 1..];
    let hooks = below.iter().position(|part| *part == b"hooks");
    // `refs/heads/hooks/x` is a branch: only the directory of hooks itself, and that of a module or work tree.
    let is_hooks = hooks.is_some_and(|at| at == 0 || matches!(below[0], b"modules" | b"worktrees"));
    if is_hooks && !name.ends_with(b".sample") {
        return Some(Protection::Whole);
    }
    let at_top = below.len() == 1 || matches!(below[0], b"modules" | b"worktrees");
    (at_top && matches!(*name, b"config" | b"config.worktree")).then_some(Protection::GitConfig)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn configuration_hooks_and_environment_files_are_protected_at_any_depth() {
        let whole = [
            "agentguard.toml",
            "sub/agentguard.toml",
            ".agentguard/runs.jsonl",
            ".agentguard-0123abcd/upper/f",
            ".envrc",
            "a/.envrc",
            ".git/hooks/pre-commit",
            "sub/.git/hooks/post-checkout",
            ".git/modules/m/hooks/pre-push",
        ];
        for path in whole {
            assert_eq!(protection(path.as_bytes()), Some(Protection::Whole), "{path}");
        }
        for path in [".git/config", "sub/.git/config", ".git/modules/m/config", ".git/worktrees/w/config.worktree"] {
            assert_eq!(protection(path.as_bytes()), Some(Protection::GitConfig), "{path}");
        }
    }

    #[test]
    fn what_an_agent_works_with_is_not() {
        let free = [
            "src/main.rs",
            ".git/index",
            ".git/refs/heads/hooks/x",
            ".git/refs/heads/config",
            ".git/hooks/pre-commit.sample",
            "hooks/pre-commit",
            "config",
            ".gitignore",
        ];
        for path in free {
            assert_eq!(protection(path.as_bytes()), None, "{path}");
        }
    }
}

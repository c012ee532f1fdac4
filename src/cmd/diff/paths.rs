//! Which paths are shown: those below the paths, or matching the globs, that follow `--`.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context as _, bail};
use globset::{Glob, GlobMatcher};

/// Paths that are let through; none lets all through.
#[derive(Debug, Default)]
pub(super) struct Filter(Vec<Pattern>);

#[derive(Debug)]
struct Pattern {
    /// The path as it was typed, relative to the root; empty is the root itself.
    literal: Vec<u8>,
    /// The same read as a glob, where it is one; `*` matches slashes, as in git's pathspecs.
    glob: Option<GlobMatcher>,
}

impl Filter {
    /// Paths as typed in `cwd`. They are relative to it where it is inside `root`, else to `root`.
    pub(super) fn new(typed: &[OsString], cwd: &Path, root: Option<&Path>) -> anyhow::Result<Self> {
        let patterns = typed.iter().map(|one| Pattern::new(one, cwd, root.unwrap_or(Path::new("/"))));
        Ok(Self(patterns.collect::<anyhow::Result<_>>()?))
    }

    pub(super) fn lets_through(&self, path: &[u8]) -> bool {
        self.0.is_empty() || self.0.iter().any(|pattern| pattern.matches(path))
    }
}

impl Pattern {
    fn new(typed: &OsStr, cwd: &Path, root: &Path) -> anyhow::Result<Self> {
        let base = if cwd.starts_with(root) { cwd } else { root };
        let whole = plain(&base.join(typed));
        let Ok(inside) = whole.strip_prefix(root) else { bail!("{typed:?} is outside of {root:?}") };
        let literal = inside.as_os_str().as_bytes().to_vec();
        let is_glob = typed.as_bytes().iter().any(|byte| b"*?[{".contains(byte));
        let glob = match inside.to_str().filter(|_| is_glob) {
            Some(text) => Some(Glob::new(text).with_context(|| format!("{typed:?} is no glob"))?.compile_matcher()),
            None => None,
        };
        Ok(Self { literal, glob })
    }

    fn matches(&self, path: &[u8]) -> bool {
        let below = path
            .strip_prefix(&self.literal[..])
            .is_some_and(|rest| self.literal.is_empty() || rest.is_empty() || rest[0] == b'/');
        below || self.glob.as_ref().is_some_and(|glob| glob.is_match(OsStr::from_bytes(path)))
    }
}

/// The path without `.` and `..`, as typed: what it names may not exist any more.
fn plain(path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir => {
                out.pop();
            }
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn let_through(cwd: &str, typed: &[&str]) -> Vec<&'static str> {
        let typed: Vec<OsString> = typed.iter().map(OsString::from).collect();
        let filter = Filter::new(&typed, Path::new(cwd), Some(Path::new("/w"))).expect("inside");
        ["a", "ab", "d/a.rs", "d/e/b.rs", "d[1]"]
            .into_iter()
            .filter(|path| filter.lets_through(path.as_bytes()))
            .collect()
    }

    #[test]
    fn a_path_lets_through_what_is_below_it_and_a_glob_what_it_matches() {
        assert_eq!(let_through("/w", &[]).len(), 5);
        assert_eq!(let_through("/w", &["."]).len(), 5);
        assert_eq!(let_through("/w", &["a"]), ["a"]);
        assert_eq!(let_through("/w", &["d/", "/w/ab"]), ["ab", "d/a.rs", "d/e/b.rs"]);
        assert_eq!(let_through("/w/d", &["*.rs", "../a"]), ["a", "d/a.rs", "d/e/b.rs"]);
        assert_eq!(let_through("/elsewhere", &["d/e"]), ["d/e/b.rs"]);
        assert_eq!(let_through("/w", &["d[1]"]), ["d[1]"]);
        let outside = Filter::new(&["../x".into()], Path::new("/w"), Some(Path::new("/w")));
        assert!(outside.expect_err("outside").to_string().contains("outside of \"/w\""));
    }
}

//! Which ignore rules hold, and where the user keeps git's.

use std::ffi::OsString;
use std::path::PathBuf;

/// Which files of a tree are left out because a file says so.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum IgnorePolicy {
    /// None are.
    #[default]
    Nothing,
    /// Those that git would ignore, and those that `.ignore` and `.agentguardignore` name; of a git directory only its
    /// small mutable state is taken.
    Git(UserGit),
}

/// Where git looks for the user's settings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UserGit {
    /// Configuration files, weakest first.
    pub config_files: Vec<PathBuf>,
    /// Patterns that hold in every work tree unless `core.excludesFile` names others.
    pub default_excludes: Option<PathBuf>,
    /// What `~` means.
    pub home: Option<PathBuf>,
}

impl UserGit {
    /// What git would find in this environment (git-config(1), FILES).
    pub fn of_environment(variable: impl Fn(&str) -> Option<OsString>) -> Self {
        let path = |name: &str| variable(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let home = path("HOME");
        let xdg = path("XDG_CONFIG_HOME").or_else(|| home.as_ref().map(|home| home.join(".config")));
        let mut config_files = Vec::new();
        if path("GIT_CONFIG_NOSYSTEM").is_none() {
            config_files.push(path("GIT_CONFIG_SYSTEM").unwrap_or_else(|| PathBuf::from("/etc/gitconfig")));
        }
        match path("GIT_CONFIG_GLOBAL") {
            Some(global) => config_files.push(global),
            None => {
                config_files.extend(xdg.as_ref().map(|xdg| xdg.join("git/config")));
                config_files.extend(home.as_ref().map(|home| home.join(".gitconfig")));
            }
        }
        Self { config_files, default_excludes: xdg.map(|xdg| xdg.join("git/ignore")), home }
    }
}

//! Where the measuring is done: corpora that are made when a row first needs them, and what rows do to files.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};
use tempfile::TempDir;

use crate::rows::git_in;
use crate::timing;

/// The program that is measured.
pub(crate) const AGENTGUARD: &str = env!("CARGO_BIN_EXE_agentguard");

/// A tree to measure on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tree {
    name: &'static str,
    files: u64,
    bytes: u64,
    seed: u64,
}

impl Tree {
    pub(crate) const fn new(name: &'static str, files: u64, bytes: u64, seed: u64) -> Self {
        Self { name, files, bytes, seed }
    }

    pub(crate) fn name(&self) -> &'static str {
        self.name
    }
}

pub(crate) const SMALL: Tree = Tree { name: "10k", files: 10_000, bytes: 100_000_000, seed: 7 };
/// As large as `SMALL`, and every file another.
pub(crate) const SMALL_OTHER: Tree = Tree { name: "10k-other", files: 10_000, bytes: 100_000_000, seed: 8 };
pub(crate) const LARGE: Tree = Tree { name: "100k", files: 100_000, bytes: 1_000_000_000, seed: 9 };

/// A working directory, on the file system that is measured.
#[derive(Debug)]
pub(crate) struct Place {
    root: PathBuf,
    own: PathBuf,
    /// Removed at the end, where nobody has named the directory.
    _temporary: Option<TempDir>,
}

impl Place {
    /// The directory that was named, else a temporary one beside the built program.
    pub(crate) fn make(named: Option<&Path>) -> anyhow::Result<Self> {
        let own = std::env::current_exe()?;
        if let Some(dir) = named {
            fs::create_dir_all(dir).with_context(|| format!("make {}", dir.display()))?;
            return Ok(Self { root: dir.canonicalize()?, own, _temporary: None });
        }
        let beside = Path::new(AGENTGUARD).parent().context("the program lies in a directory")?;
        let temporary = tempfile::Builder::new().prefix("ratios-").tempdir_in(beside)?;
        Ok(Self { root: temporary.path().canonicalize()?, own, _temporary: Some(temporary) })
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// Where the timed commands' complaints go.
    pub(crate) fn errors(&self) -> PathBuf {
        self.path("stderr")
    }

    /// This program, as another process.
    pub(crate) fn errand<I: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = I>) -> Command {
        let mut command = Command::new(&self.own);
        command.args(arguments);
        command
    }

    /// The program that is measured, in a directory.
    pub(crate) fn agentguard(&self, cwd: &Path) -> Command {
        let mut command = Command::new(AGENTGUARD);
        command.current_dir(cwd).env_remove("AGENTGUARD_STATE_DIR");
        command
    }

    /// Runs something that is not measured.
    pub(crate) fn run(&self, command: &mut Command) -> anyhow::Result<()> {
        timing::time(command, &self.errors()).map(drop)
    }

    /// A project directory of its own, so that no repository around it is taken for the project.
    pub(crate) fn project(&self, name: &str) -> anyhow::Result<PathBuf> {
        let dir = self.path(name);
        remove(&dir)?;
        fs::create_dir_all(&dir)?;
        fs::write(dir.join("agentguard.toml"), "")?;
        Ok(dir)
    }

    /// A tree, in the page cache.
    pub(crate) fn tree(&self, tree: Tree) -> anyhow::Result<PathBuf> {
        self.made(tree.name, |path| {
            let numbers = [tree.files, tree.bytes, tree.seed].map(|number| number.to_string());
            self.run(self.errand([OsStr::new("__tree"), path.as_os_str()]).args(numbers))
        })
    }

    /// A project that is a git repository with a tree in it, all of it committed.
    pub(crate) fn repository(&self, tree: Tree, name: &str) -> anyhow::Result<PathBuf> {
        let source = self.tree(tree)?;
        self.made(name, |path| {
            self.copy(&source, path)?;
            fs::write(path.join("agentguard.toml"), "")?;
            for step in [&["init", "-q"][..], &["add", "-A"], &["commit", "-q", "-m", "all"]] {
                self.run(&mut git_in(path, step))?;
            }
            Ok(())
        })
    }

    /// This program.
    pub(crate) fn own(&self) -> &Path {
        &self.own
    }

    /// A directory of one random file of 1 GiB, in the page cache.
    pub(crate) fn gibibyte(&self) -> anyhow::Result<PathBuf> {
        self.made("1gib", |path| {
            fs::create_dir(path)?;
            self.run(self.errand([OsStr::new("__random_file"), path.join("big.bin").as_os_str()]).args(["1073741824"]))
        })
    }

    /// A state directory whose log has that many records, in the page cache.
    pub(crate) fn log(&self, records: u64) -> anyhow::Result<PathBuf> {
        self.made("log", |path| {
            self.run(self.errand([OsStr::new("__records"), path.as_os_str()]).arg(records.to_string()))
        })
    }

    /// Made whole or not at all: an interrupted one is made again.
    fn made(&self, name: &str, make: impl FnOnce(&Path) -> anyhow::Result<()>) -> anyhow::Result<PathBuf> {
        let (path, unfinished) = (self.path(name), self.path(&format!("{name}.unfinished")));
        if !path.exists() {
            remove(&unfinished)?;
            make(&unfinished).with_context(|| format!("make the corpus {name}"))?;
            fs::rename(&unfinished, &path)?;
            self.settle()?;
        }
        for entry in walkdir::WalkDir::new(&path) {
            let entry = entry?;
            if entry.file_type().is_file() {
                io::copy(&mut File::open(entry.path())?, &mut io::sink())?;
            }
        }
        Ok(path)
    }

    /// Everything written so far is on the disk, so that the next command does not pay for the one before.
    pub(crate) fn settle(&self) -> anyhow::Result<()> {
        rustix::fs::syncfs(File::open(&self.root)?).context("syncfs")
    }

    /// Removes these, and settles.
    pub(crate) fn clear(&self, paths: &[&Path]) -> anyhow::Result<()> {
        paths.iter().try_for_each(|path| remove(path))?;
        self.settle()
    }

    /// `cp -a`, not timed, not synced.
    pub(crate) fn copy(&self, from: &Path, to: &Path) -> anyhow::Result<()> {
        self.run(&mut copy(from, to))
    }
}

/// `cp -a`.
pub(crate) fn copy(from: &Path, to: &Path) -> Command {
    let mut command = Command::new("cp");
    command.arg("-a").args([from, to]);
    command
}

/// Removes a tree or a file; none is fine.
pub(crate) fn remove(path: &Path) -> anyhow::Result<()> {
    agentguard::sys::remove::remove_tree(path).with_context(|| format!("remove {}", path.display()))
}

/// Whether a program is on the search path.
pub(crate) fn is_installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|dir| dir.join(program).is_file())
}

/// A shell command.
pub(crate) fn shell(text: String) -> Command {
    let mut command = Command::new("sh");
    command.arg("-c").arg(text);
    command
}

/// A path in single quotes. Paths of this program's own making hold none themselves; others are refused.
pub(crate) fn quoted(path: &Path) -> anyhow::Result<String> {
    match path.to_str() {
        Some(text) if !text.contains('\'') => Ok(format!("'{text}'")),
        _ => bail!("{} cannot be written in a shell command: name another --dir", path.display()),
    }
}

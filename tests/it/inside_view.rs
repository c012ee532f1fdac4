//! A workspace with a state directory, and commands run in an overlay view of it: what several test files need.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::Read as _;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use agentguard::model::spec::Network;
use agentguard::sys::inside::{Entered, InsideError, Running, Starter, Step};
use agentguard::sys::process::{ChildStdin, ChildStdout, Ended, Launch, Limits};
use agentguard::sys::terminal::Terminal;
use agentguard::view::overlay::{Changes, Confinement, OverlayLayout, opening, steps};

use super::project::{binary, skip};

/// A live tree at `tree` with its state at `tree/.agentguard`.
pub(crate) struct View {
    dir: tempfile::TempDir,
    pub(crate) layout: OverlayLayout,
    pub(crate) network: Network,
    pub(crate) environment: Vec<(OsString, Option<OsString>)>,
    /// Instead of what is usually entered first.
    pub(crate) opening: Option<Vec<Step>>,
}

/// What came of a command.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) end: Ended,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) entered: Entered,
}

impl Seen {
    /// The output of a command that succeeded.
    #[track_caller]
    pub(crate) fn text(self) -> String {
        assert_eq!(self.end.code, Some(0), "{:?}\n{}\n{}", self.end, self.stdout, self.stderr);
        self.stdout
    }
}

impl View {
    pub(crate) fn new() -> Self {
        Self::named(OsStr::new("tree"))
    }

    /// With a workspace of that name (or path, if it has slashes) in a fresh directory.
    pub(crate) fn named(name: &OsStr) -> Self {
        Self::below(&std::env::temp_dir(), name)
    }

    pub(crate) fn below(parent: &Path, name: &OsStr) -> Self {
        let dir = tempfile::Builder::new().prefix("ag-view-").tempdir_in(parent).expect("temporary directory");
        let workspace = dir.path().canonicalize().expect("exists").join(name);
        let state_dir = workspace.join(".agentguard");
        let run = state_dir.join("runs/one");
        let changes = Changes { upper: run.join("upper"), work: run.join("work") };
        for path in [&changes.upper, &changes.work] {
            fs::create_dir_all(path).expect("made");
        }
        let layout = OverlayLayout {
            cwd: workspace.clone(),
            workspace,
            above: Vec::new(),
            changes: Some(changes),
            state_dir,
            private: Vec::new(),
            binds: Vec::new(),
            confinement: Confinement::Open,
        };
        Self { dir, layout, network: Network::Host, environment: Vec::new(), opening: None }
    }

    /// What is around the workspace.
    pub(crate) fn outside(&self) -> PathBuf {
        self.dir.path().canonicalize().expect("exists")
    }

    pub(crate) fn live(&self, name: &str) -> PathBuf {
        self.layout.workspace.join(name)
    }

    pub(crate) fn upper(&self, name: &str) -> PathBuf {
        self.layout.changes.as_ref().expect("changes").upper.join(name)
    }

    /// A live file.
    pub(crate) fn write(&self, name: &str, content: &str) -> PathBuf {
        let path = self.live(name);
        fs::create_dir_all(path.parent().expect("a parent")).expect("directories");
        fs::write(&path, content).expect("written");
        path
    }

    /// Another place for changes, with what was staged so far as a read-only layer.
    pub(crate) fn stack(&mut self) {
        let run = self.layout.state_dir.join("runs/one");
        let before = self.layout.changes.take().expect("changes");
        self.layout.above.insert(0, before.upper);
        let changes = Changes { upper: run.join("scratch"), work: run.join("scratch-work") };
        for path in [&changes.upper, &changes.work] {
            fs::create_dir_all(path).expect("made");
        }
        self.layout.changes = Some(changes);
    }

    /// Starts a command in the view.
    pub(crate) fn launch(&self, argv: &[&OsStr]) -> Result<(Running, Entered), InsideError> {
        let argv: Vec<OsString> = argv.iter().map(|argument| (*argument).to_owned()).collect();
        let launch = Launch {
            argv: &argv,
            cwd: &self.layout.cwd,
            environment: &self.environment,
            stdin: ChildStdin::Null,
            stdout: ChildStdout::Pipes,
            terminal: &Terminal::None,
            limits: Limits::default(),
        };
        if let Some(changes) = &self.layout.changes {
            // The kernel takes it once (`volatile`); its own directory in there is closed.
            agentguard::sys::remove::remove_tree(&changes.work).expect("removed");
            fs::create_dir(&changes.work).expect("made");
        }
        let usual = || opening(self.network, self.layout.confinement != Confinement::Open);
        let waiting = starter().start(&self.opening.clone().unwrap_or_else(usual))?;
        waiting.go(&launch, &steps(&self.layout).expect("composed"))
    }

    /// Runs a command to its end.
    pub(crate) fn exec(&self, argv: &[&OsStr]) -> Result<Seen, InsideError> {
        let (child, entered) = self.launch(argv)?;
        Ok(finish(child, entered))
    }

    /// Runs a script that must get as far as being started.
    #[track_caller]
    pub(crate) fn sh(&self, script: &str) -> Seen {
        self.exec(&["sh", "-c", script].map(OsStr::new)).unwrap_or_else(|error| panic!("{error:?}"))
    }

    /// Runs a Python program.
    #[track_caller]
    pub(crate) fn python(&self, program: &str) -> Seen {
        self.exec(&["python3", "-c", program].map(OsStr::new)).unwrap_or_else(|error| panic!("{error:?}"))
    }
}

/// What processes are started with.
pub(crate) fn starter() -> Starter {
    Starter::executed(&binary()).expect("started")
}

/// Reads what a child says and waits for its end.
pub(crate) fn finish(mut child: Running, entered: Entered) -> Seen {
    let stderr = child.stderr.take();
    let reader = std::thread::spawn(move || read_all(stderr));
    let stdout = read_all(child.stdout.take());
    let end = child.wait_end().expect("waited");
    Seen { end, stdout, stderr: reader.join().expect("read"), entered }
}

fn read_all(from: Option<OwnedFd>) -> String {
    let mut bytes = Vec::new();
    fs::File::from(from.expect("a pipe")).read_to_end(&mut bytes).expect("read");
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Whether overlay views work for whoever runs the tests; a test that needs them says so where they do not.
pub(crate) fn views_work() -> bool {
    let view = View::new();
    match view.exec(&[OsStr::new("true")]) {
        Ok(_) => true,
        Err(error) => {
            skip("overlay", &error.to_string());
            false
        }
    }
}

/// Whether this is an overlay's mark for a deleted name.
pub(crate) fn is_whiteout(path: &Path) -> bool {
    path.symlink_metadata().is_ok_and(|stat| stat.file_type().is_char_device() && stat.rdev() == 0)
}

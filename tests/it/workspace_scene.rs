//! What the tests of workspace mode share: a workspace and a directory outside it where an agent and a test can meet,
//! the views that work here, and exact states of trees to compare.

use std::ffi::OsStr;
use std::fs;
use std::io::Read;
use std::ops::Deref;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, ChildStdout, Command, Stdio};
use std::sync::LazyLock;

use super::project::{Outcome, Project, exact_state_of, is_alive, skip, wait_until};

/// An agent's half of a meeting: it says that it is ready and waits until the test has let it go.
pub(crate) const MEET: &str = "touch $OUT/ready; while [ ! -e $OUT/go ]; do sleep 0.01; done";

/// What this machine gives an agent to see.
#[derive(Debug)]
pub(crate) struct Facilities {
    /// Whether an overlay may be mounted.
    pub(crate) overlay: bool,
    /// Whether a view stands at the workspace's own path (else it is a copy elsewhere).
    pub(crate) same_path: bool,
}

static FACILITIES: LazyLock<Facilities> = LazyLock::new(|| {
    let here = Workspace::new();
    let overlay = here.run(&["--view", "overlay"], "true").code == Some(0);
    let seen = here.run(&["--view", "clone"], "pwd -P").exits(0).text();
    Facilities { overlay, same_path: seen.trim_end() == here.path().to_str().expect("UTF-8") }
});

/// What was found out once by trying.
pub(crate) fn facilities() -> &'static Facilities {
    &FACILITIES
}

/// The views that work here.
pub(crate) fn views() -> Vec<&'static str> {
    if facilities().overlay {
        return vec!["overlay", "clone"];
    }
    skip("overlay", "no overlay may be mounted here");
    vec!["clone"]
}

/// A project that is a workspace, with a directory outside that an agent may reach (`$OUT`).
pub(crate) struct Workspace {
    project: Project,
    outside: tempfile::TempDir,
}

impl Deref for Workspace {
    type Target = Project;

    fn deref(&self) -> &Project {
        &self.project
    }
}

impl Workspace {
    pub(crate) fn new() -> Self {
        Self::of(Project::new())
    }

    pub(crate) fn of(project: Project) -> Self {
        let outside = tempfile::Builder::new().prefix("ag-outside-").tempdir().expect("temporary directory");
        Self { project, outside }
    }

    /// With a git repository, one commit of `tracked`, and a `.gitignore` that leaves out `ignored/`.
    pub(crate) fn with_git() -> Self {
        let here = Self::new();
        here.git(&["init", "-q", "-b", "main"]);
        here.write(".gitignore", "ignored/\n");
        here.write("tracked", "tracked\n");
        here.git(&["add", ".gitignore", "tracked", "agentguard.toml"]);
        here.git(&["commit", "-q", "-m", "first"]);
        here
    }

    /// git, run by the test in the live tree with nothing of this machine's configuration.
    pub(crate) fn git(&self, arguments: &[&str]) -> String {
        let mut command = Command::new("git");
        command.args(arguments).current_dir(self.path());
        with_plain_git(&mut command);
        let output = command.output().expect("git");
        assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// A path in the directory outside.
    pub(crate) fn out(&self, name: impl AsRef<OsStr>) -> PathBuf {
        self.outside.path().canonicalize().expect("exists").join(Path::new(name.as_ref()))
    }

    /// What stands in a file of the directory outside.
    pub(crate) fn read_out(&self, name: &str) -> String {
        fs::read_to_string(self.out(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    /// The binary, to be run here, with `$OUT` in its environment and `TMPDIR` of its own.
    pub(crate) fn command<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Command {
        let mut command = self.project.command(arguments);
        command.env("OUT", self.out(""));
        with_plain_git(&mut command);
        command
    }

    pub(crate) fn ag<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Outcome {
        Outcome::of(self.command(arguments).output().expect("the binary runs"))
    }

    /// `agentguard run OPTIONS -- sh -c SCRIPT`.
    pub(crate) fn run(&self, options: &[&str], script: &str) -> Outcome {
        self.ag(&run_arguments(options, script))
    }

    /// The same, left running.
    pub(crate) fn start(&self, options: &[&str], script: &str) -> Running {
        Running::start(self.command(&run_arguments(options, script)))
    }

    /// Runs an agent up to where its script says [`MEET`], does something else meanwhile, and lets it go on.
    pub(crate) fn meanwhile(&self, options: &[&str], script: &str, other: impl FnOnce(&Self)) -> Outcome {
        for name in ["ready", "go"] {
            let _ = fs::remove_file(self.out(name));
        }
        let running = self.start(options, script);
        wait_until("the agent is ready", || self.out("ready").exists() || running.has_ended());
        if self.out("ready").exists() {
            other(self);
        }
        fs::write(self.out("go"), "").expect("let go");
        running.outcome()
    }

    /// Stops agentguard at a named point, does something else there, and lets it go on; `None` if it never came there.
    pub(crate) fn stopped_at(&self, arguments: &[&str], point: &str, other: impl FnOnce(&Self)) -> (bool, Outcome) {
        let mut command = self.command(arguments);
        command.env("AGENTGUARD_FAULT", point);
        let running = Running::start(command);
        wait_until("it stops or ends", || running.is_stopped() || running.has_ended());
        let stopped = running.is_stopped();
        if stopped {
            other(self);
            running.signal("CONT");
        }
        (stopped, running.outcome())
    }

    /// Everything about the workspace that must not change when nothing lands. The state directory is agentguard's own,
    /// and so is the modification time of the directory it stands in.
    pub(crate) fn exact(&self) -> Vec<String> {
        exact_below(&self.path())
    }

    /// Kinds, modes, contents and links of the workspace, without times and inodes.
    pub(crate) fn content(&self) -> Vec<String> {
        content_of(&self.path())
    }

    /// A shell script of a person, in the live tree.
    #[track_caller]
    pub(crate) fn by_hand(&self, script: &str) {
        by_hand(&self.path(), script);
    }

    /// The directory of the newest run.
    pub(crate) fn last_run_dir(&self) -> PathBuf {
        self.state().join("runs").join(self.last().run_id.to_string())
    }
}

/// The same commits on every machine, and no configuration of whoever runs the tests.
fn with_plain_git(command: &mut Command) {
    command.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_SYSTEM", "/dev/null");
    for role in ["AUTHOR", "COMMITTER"] {
        command.env(format!("GIT_{role}_NAME"), "a").env(format!("GIT_{role}_EMAIL"), "a@example.org");
        command.env(format!("GIT_{role}_DATE"), "2001-02-03T04:05:06Z");
    }
}

pub(crate) fn run_arguments<'a>(options: &[&'a str], script: &'a str) -> Vec<&'a str> {
    ["run"].iter().chain(options).chain(&["--", "sh", "-c", script]).copied().collect()
}

#[track_caller]
pub(crate) fn by_hand(directory: &Path, script: &str) {
    let output = Command::new("sh").args(["-ec", script]).current_dir(directory).output().expect("sh");
    assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Exact states below a directory, without the state directory and without the directory itself.
pub(crate) fn exact_below(top: &Path) -> Vec<String> {
    exact_state_of(top, |entry| entry.depth() > 0 && entry.file_name() != ".agentguard")
}

/// Kinds, modes, contents and links below a directory, in the order of names.
pub(crate) fn content_of(top: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    let walk = walkdir::WalkDir::new(top).min_depth(1).sort_by_file_name().into_iter();
    for entry in walk.filter_entry(|entry| entry.file_name() != ".agentguard").flatten() {
        let stat = entry.path().symlink_metadata().expect("stat");
        let content = match stat.file_type() {
            kind if kind.is_file() => {
                format!("{:?}", fs::read(entry.path()).map(|it| String::from_utf8_lossy(&it).into_owned()))
            }
            kind if kind.is_symlink() => format!("{:?}", fs::read_link(entry.path()).ok()),
            kind if kind.is_fifo() => "fifo".to_owned(),
            kind => format!("{kind:?}"),
        };
        lines.push(format!("{:?} {:o} {content}", entry.path().strip_prefix(top).expect("below"), stat.mode()));
    }
    lines
}

/// A running agentguard, ended with the test that started it.
pub(crate) struct Running {
    child: Option<Child>,
    pipes: Option<(ChildStdout, ChildStderr)>,
}

impl Running {
    pub(crate) fn start(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("spawned");
        let pipes = Some((child.stdout.take().expect("a pipe"), child.stderr.take().expect("a pipe")));
        Self { child: Some(child), pipes }
    }

    pub(crate) fn pid(&self) -> String {
        self.child.as_ref().expect("running").id().to_string()
    }

    pub(crate) fn signal(&self, name: &str) {
        let status = Command::new("kill").args([format!("-{name}"), self.pid()]).status().expect("kill");
        assert!(status.success(), "kill -{name}");
    }

    pub(crate) fn has_ended(&self) -> bool {
        !is_alive(&self.pid())
    }

    pub(crate) fn is_stopped(&self) -> bool {
        let status = fs::read_to_string(format!("/proc/{}/stat", self.pid())).unwrap_or_default();
        status.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('T'))
    }

    /// Waits for its end.
    pub(crate) fn outcome(mut self) -> Outcome {
        let (mut out, mut err) = self.pipes.take().expect("pipes");
        let reader = std::thread::spawn(move || {
            let mut bytes = Vec::new();
            err.read_to_end(&mut bytes).map(|_| bytes)
        });
        let mut stdout = Vec::new();
        out.read_to_end(&mut stdout).expect("stdout");
        let stderr = reader.join().expect("the reader ends").expect("stderr");
        let status = self.child.take().expect("running").wait().expect("waited");
        Outcome::of(std::process::Output { status, stdout, stderr })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            // A test that failed leaves nothing behind, also not something that is stopped.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// A command in a process tree that may have no user namespace (more), and looks like an ordinary user's: what a
/// locked-down machine is like. `None` where even that cannot be arranged.
pub(crate) fn without_namespaces(command: &Command) -> Option<Command> {
    let (uid, gid) = (rustix::process::geteuid().as_raw().max(1000), rustix::process::getegid().as_raw().max(1000));
    let inner = format!("exec unshare -U --map-user={uid} --map-group={gid} \"$@\"");
    let script = format!("echo 1 > /proc/sys/user/max_user_namespaces && {inner}");
    let mut wrapped = Command::new("unshare");
    wrapped.args(["-Ur", "sh", "-c", &script, "sh"]);
    let mut trial = Command::new("unshare");
    trial.args(["-Ur", "sh", "-c", &script, "sh", "true"]).stderr(Stdio::null());
    if !trial.status().is_ok_and(|status| status.success()) {
        return None;
    }
    wrapped.arg(command.get_program()).args(command.get_args()).stdin(Stdio::null());
    if let Some(directory) = command.get_current_dir() {
        wrapped.current_dir(directory);
    }
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => wrapped.env(name, value),
            None => wrapped.env_remove(name),
        };
    }
    Some(wrapped)
}

/// Whether a process is alive that has this in its arguments: process ids say nothing across namespaces.
pub(crate) fn is_running(mark: &str) -> bool {
    let processes = fs::read_dir("/proc").expect("/proc").flatten().map(|entry| entry.path());
    let said = |path: &Path| fs::read(path.join("cmdline")).unwrap_or_default();
    processes
        .filter(|path| String::from_utf8_lossy(&said(path)).contains(mark))
        .any(|path| is_alive(&path.file_name().expect("a name").to_string_lossy()))
}

//! A temporary project, and the built binary run in it as a user would.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use agentguard::model::record::Mode;
use agentguard::model::{RunId, RunRecord, Status};
use agentguard::store::log::RunLog;

/// The built binary; `AGENTGUARD_TEST_BIN` names a copy that an ordinary user may reach.
pub(crate) fn binary() -> PathBuf {
    std::env::var_os("AGENTGUARD_TEST_BIN").map_or_else(|| env!("CARGO_BIN_EXE_agentguard").into(), PathBuf::from)
}

/// The sources that tests compare with; `AGENTGUARD_TEST_ROOT` names a copy that an ordinary user may reach.
pub(crate) fn source_root() -> PathBuf {
    std::env::var_os("AGENTGUARD_TEST_ROOT").map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from)
}

/// What stands in a run's directory only while the run is alive.
const TRANSIENT: [&str; 7] = ["staging", "scratch", "inputs", "tmp", "agent", "work", "clone"];

/// The same, unless something can still be decided about the run.
const STAGED: [&str; 2] = ["upper", "removed"];

/// An agent's half of a meeting: it says that it is there, and waits until the test has let it go.
pub(crate) const MEET: &str = "touch $OUTSIDE/ready; while [ ! -e $OUTSIDE/go ]; do sleep 0.01; done";

/// A project of its own, with its own configuration file so that nothing above it counts; and a directory outside of it
/// (`$OUTSIDE`), where an agent whose own tree is a view leaves what a test is to see.
pub(crate) struct Project {
    dir: tempfile::TempDir,
    outside: tempfile::TempDir,
}

impl Project {
    pub(crate) fn new() -> Self {
        Self::below(&std::env::temp_dir())
    }

    pub(crate) fn below(parent: &Path) -> Self {
        let dir = tempfile::Builder::new().prefix("ag-test-").tempdir_in(parent).expect("temporary directory");
        // By a shell that is there: the path may be too long for the kernel.
        let made = Command::new("sh").args(["-c", ": > agentguard.toml"]).current_dir(dir.path()).status().expect("sh");
        assert!(made.success(), "configuration");
        let outside = tempfile::Builder::new().prefix("ag-outside-").tempdir().expect("temporary directory");
        Self { dir, outside }
    }

    /// The project's directory, links resolved.
    pub(crate) fn path(&self) -> PathBuf {
        self.dir.path().canonicalize().expect("exists")
    }

    pub(crate) fn join(&self, name: impl AsRef<OsStr>) -> PathBuf {
        self.path().join(Path::new(name.as_ref()))
    }

    /// A path outside of the project: real for everybody.
    pub(crate) fn outside(&self, name: impl AsRef<OsStr>) -> PathBuf {
        self.outside.path().canonicalize().expect("exists").join(Path::new(name.as_ref()))
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.join(".agentguard")
    }

    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.join(name);
        fs::create_dir_all(path.parent().expect("a parent")).expect("directories");
        fs::write(&path, content).expect("written");
        path
    }

    pub(crate) fn read(&self, name: &str) -> String {
        read(&self.join(name))
    }

    pub(crate) fn read_outside(&self, name: &str) -> String {
        read(&self.outside(name))
    }

    /// The binary, to be run here, with nothing of an outer agentguard in its environment.
    pub(crate) fn command<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Command {
        let mut command = Command::new(binary());
        for (name, _) in std::env::vars_os() {
            if name.as_bytes().starts_with(b"AGENTGUARD_") {
                command.env_remove(name);
            }
        }
        // What is said in CI is said by the tests that ask for it.
        for name in ["CI", "GITHUB_ACTIONS", "GITHUB_STEP_SUMMARY", "GITLAB_CI"] {
            command.env_remove(name);
        }
        command.env("OUTSIDE", self.outside(""));
        command.args(arguments).current_dir(self.path()).stdin(Stdio::null());
        command
    }

    pub(crate) fn ag<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Outcome {
        Outcome::of(self.command(arguments).output().expect("the binary runs"))
    }

    /// `agentguard run OPTIONS -- sh -c SCRIPT`.
    pub(crate) fn run(&self, options: &[&str], script: &str) -> Outcome {
        let arguments: Vec<&str> = ["run"].iter().chain(options).chain(&["--", "sh", "-c", script]).copied().collect();
        self.ag(&arguments)
    }

    /// The same, left running.
    pub(crate) fn spawn(&self, options: &[&str], script: &str) -> Child {
        let arguments: Vec<&str> = ["run"].iter().chain(options).chain(&["--", "sh", "-c", script]).copied().collect();
        self.command(&arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("spawned")
    }

    /// Runs an agent up to where its script says [`MEET`], does something else meanwhile, and lets it go on.
    #[track_caller]
    pub(crate) fn meanwhile(&self, options: &[&str], script: &str, other: impl FnOnce()) -> Outcome {
        let child = self.spawn(options, script);
        wait_until("the agent is there", || self.outside("ready").exists());
        other();
        fs::write(self.outside("go"), "").expect("let go");
        let outcome = Outcome::of(child.wait_with_output().expect("waited"));
        for name in ["ready", "go"] {
            fs::remove_file(self.outside(name)).expect("met");
        }
        outcome
    }

    /// Every record of the log, oldest first, each validated against the schema.
    pub(crate) fn records(&self) -> Vec<RunRecord> {
        let files = RunLog::at(&self.state()).files().expect("the log's files");
        let log: String = files.iter().map(|path| fs::read_to_string(path).unwrap_or_default()).collect();
        log.lines()
            .map(|line| {
                super::support::validate_record(line);
                serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))
            })
            .collect()
    }

    /// The newest record.
    pub(crate) fn last(&self) -> RunRecord {
        self.records().pop().expect("a record")
    }

    /// Names in the project that are neither the state directory nor the configuration.
    pub(crate) fn visible_names(&self) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(self.path())
            .expect("readable")
            .map(|entry| entry.expect("entry").file_name().to_string_lossy().into_owned())
            .filter(|name| name != ".agentguard" && name != "agentguard.toml")
            .collect();
        names.sort();
        names
    }

    /// What is left of ended runs that should be gone: staging, views, scratch, inputs, tmp, marks, temporary names, and
    /// mount points of views. A run that published changes of a workspace keeps what it displaced, so that it can be taken
    /// back; a held one what it staged.
    pub(crate) fn leftovers(&self) -> Vec<String> {
        let records = self.records();
        let keeps =
            |record: &RunRecord| record.status == Status::Held || (record.published && record.mode == Mode::Workspace);
        let keeping: Vec<String> =
            records.iter().filter(|record| keeps(record)).map(|record| record.run_id.to_string()).collect();
        let mut runs: BTreeSet<RunId> = records.iter().map(|record| record.run_id).collect();
        let mut left = Vec::new();
        for entry in walkdir::WalkDir::new(self.state()).into_iter().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let parent = entry.path().parent().and_then(Path::file_name).map(OsStr::to_string_lossy);
            let parent = parent.as_deref().unwrap_or_default();
            if entry.depth() == 2 && parent == "runs" {
                runs.extend(name.parse::<RunId>());
            }
            let of_a_run = |names: &[&str]| entry.depth() == 3 && names.contains(&&*name);
            let transient = of_a_run(&TRANSIENT) || (of_a_run(&STAGED) && !keeping.iter().any(|run| run == parent));
            if transient || parent == "live" || name.starts_with("tmp-") {
                left.push(entry.path().display().to_string());
            }
        }
        let mount_points = runs.iter().map(|run| mount_point(*run)).filter(|path| path.symlink_metadata().is_ok());
        left.extend(mount_points.map(|path| path.display().to_string()));
        left
    }
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{path:?}: {error}"))
}

/// Where processes of a run find what is theirs alone, if they have a view.
pub(crate) fn mount_point(run: RunId) -> PathBuf {
    std::env::temp_dir().join(format!("agentguard-{}", run.short()))
}

/// What a command came to.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: String,
}

impl Outcome {
    pub(crate) fn of(output: Output) -> Self {
        Self {
            code: output.status.code(),
            stdout: output.stdout,
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Asserts the exit code, showing everything if it is another.
    #[track_caller]
    pub(crate) fn exits(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "stdout: {}\nstderr: {}", self.text(), self.stderr);
        self
    }

    /// Asserts that standard error says something.
    #[track_caller]
    pub(crate) fn says(self, words: &str) -> Self {
        assert!(self.stderr.contains(words), "not said: {words:?}\nstderr: {}", self.stderr);
        self
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }
}

/// Everything about a tree that must not change when a run fails: kind, mode, times, inode, links, content.
pub(crate) fn exact_state(top: &Path) -> Vec<String> {
    exact_state_of(top, |_| true)
}

/// The same of what is wanted; a directory that is not wanted is not entered, except the top.
pub(crate) fn exact_state_of(top: &Path, wanted: impl Fn(&walkdir::DirEntry) -> bool) -> Vec<String> {
    let mut lines = Vec::new();
    let walk = walkdir::WalkDir::new(top).sort_by_file_name().into_iter();
    for entry in walk.filter_entry(|entry| entry.depth() == 0 || wanted(entry)) {
        let Ok(entry) = entry else { continue };
        if !wanted(&entry) {
            continue;
        }
        let stat = entry.path().symlink_metadata().expect("stat");
        let content = if stat.is_file() {
            format!("{:?}", fs::read(entry.path()).map(|bytes| agentguard_hash(&bytes)))
        } else {
            format!("{:?}", fs::read_link(entry.path()).ok())
        };
        lines.push(format!(
            "{:?} {:o} {} {} {}.{} {content}",
            entry.path().strip_prefix(top).expect("below"),
            stat.mode(),
            stat.ino(),
            stat.nlink(),
            stat.mtime(),
            stat.mtime_nsec()
        ));
    }
    lines
}

fn agentguard_hash(bytes: &[u8]) -> String {
    use sha2::Digest as _;
    sha2::Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Waits for a condition; a test that waits for nothing fails with its name.
#[track_caller]
pub(crate) fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < Duration::from_secs(20), "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Whether a process is alive and no zombie.
pub(crate) fn is_alive(pid: &str) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = status.rsplit(')').next().and_then(|rest| rest.split_whitespace().next());
    state.is_some_and(|state| state != "Z" && state != "X")
}

/// A number of seconds for `sleep` that no other process sleeps: by it a process is found again.
pub(crate) fn unique(seconds: &str) -> String {
    static COUNT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    let count = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    format!("{seconds}.{:07}{count:03}", std::process::id())
}

/// Living processes with this argument: numbers that they are told themselves may be of a namespace of their own.
pub(crate) fn processes_with(argument: &str) -> Vec<String> {
    let entries = fs::read_dir("/proc").expect("proc").flatten().map(|entry| entry.path());
    entries
        .filter(|path| {
            let arguments = fs::read(path.join("cmdline")).unwrap_or_default();
            arguments.split(|byte| *byte == 0).any(|one| one == argument.as_bytes())
        })
        .filter_map(|path| path.file_name().map(|name| name.to_string_lossy().into_owned()))
        .filter(|pid| is_alive(pid))
        .collect()
}

/// Feeds a child's standard input and waits for it.
pub(crate) fn feed(mut child: Child, input: &[u8]) -> Outcome {
    let mut pipe = child.stdin.take().expect("a pipe");
    let input = input.to_vec();
    let writer = std::thread::spawn(move || {
        // The agent may close its end before everything was written.
        let _ = pipe.write_all(&input);
    });
    let outcome = Outcome::of(child.wait_with_output().expect("waited"));
    writer.join().expect("the writer ends");
    outcome
}

/// Whether the tests run as root.
pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// How much of a long sweep is done: all of it, or a part where `AGENTGUARD_TEST_AGAIN` says that the whole suite has just
/// passed under another user, and only what differs between them is looked for.
pub(crate) fn rounds(all: usize, part: usize) -> usize {
    if is_again() { part } else { all }
}

pub(crate) fn is_again() -> bool {
    std::env::var_os("AGENTGUARD_TEST_AGAIN").is_some()
}

/// A test that needs what is missing says so, unless CI demands it.
pub(crate) fn skip(facility: &str, why: &str) {
    let required = std::env::var("AGENTGUARD_TEST_REQUIRE").unwrap_or_default();
    assert!(!required.split(',').any(|one| one == facility), "{facility} is required here: {why}");
    let mut err = std::io::stderr().lock();
    let _ = writeln!(err, "skipped: {facility}: {why}");
}

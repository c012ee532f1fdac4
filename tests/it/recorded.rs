//! A workspace run as it is recorded, made by hand: a tree before, a tree after, and what lies in the state directory.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use agentguard::model::change::{ChangeKind, ChangeSet, ChangedPath, Side};
use agentguard::model::event::{
    AttemptEnd, AttemptStart, Event, Header, Sealed, Settled, SnapshotRef, SnapshotTaken, StdinCapture,
};
use agentguard::model::record::{Mode, RunRecord};
use agentguard::model::spec::{
    Budget, GatePolicy, Hold, InputPolicy, InputSource, OnConflict, OnDrift, PublishPolicy, RetryPolicy, RunSpec,
    StagingBase, TimePolicy, Tty, ViewPolicy, WorkspacePolicy,
};
use agentguard::model::{ByteSize, EntryKind, Status, Text};
use agentguard::store::change_set;
use agentguard::store::journal::Journal;
use agentguard::store::log::RunLog;
use agentguard::store::run_dir::RunDir;
use agentguard::store::snapshot::{CapturePolicy, CaptureRoot, Captured, Manifest, SnapshotStore};
use agentguard::store::state_dir::StateDir;

use crate::project::Project;
use crate::support::record;

/// Trees of one run: `before`, and `after`. The workspace itself is `w`; it is not made.
pub(crate) struct Trees {
    pub(crate) project: Project,
}

/// What is left out of what a run would record.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kept {
    /// Both trees are in the store.
    Both,
    /// The result is nowhere but where the caller puts it.
    OnlyBefore,
    /// What was there before is nowhere but where the caller puts it.
    OnlyAfter,
}

impl Trees {
    pub(crate) fn new() -> Self {
        let project = Project::new();
        fs::create_dir(project.join("before")).expect("made");
        fs::create_dir(project.join("after")).expect("made");
        Self { project }
    }

    pub(crate) fn before(&self) -> PathBuf {
        self.project.join("before")
    }

    pub(crate) fn after(&self) -> PathBuf {
        self.project.join("after")
    }

    pub(crate) fn workspace(&self) -> PathBuf {
        self.project.join("w")
    }

    fn state(&self) -> StateDir {
        StateDir::open_or_create(&self.project.state()).expect("state")
    }

    /// Records run number `number` that made `after` of `before`.
    pub(crate) fn record(&self, number: u64, kept: Kept) -> RunDir {
        self.record_as(number, kept, |_, _| {})
    }

    /// The same, with another record or specification.
    pub(crate) fn record_as(&self, number: u64, kept: Kept, edit: impl FnOnce(&mut RunRecord, &mut RunSpec)) -> RunDir {
        let (mut before, mut after) = (self.capture("before"), self.capture("after"));
        let mut changes = changes(&self.load(&before.snapshot), &self.load(&after.snapshot));
        let hash_of_before = before.input_hash;
        match kept {
            Kept::Both => {}
            Kept::OnlyBefore => after = self.capture("nothing"),
            Kept::OnlyAfter => before = self.capture("nothing"),
        }
        changes.paths.sort_by(|one, other| one.path.cmp(&other.path));
        let mut record = record(number);
        record.mode = Mode::Workspace;
        record.targets = vec!["w".into()];
        record.input_hash = Some(hash_of_before);
        record.output_hash = change_set::output_hash(&changes);
        let mut spec = self.spec(&record);
        edit(&mut record, &mut spec);
        let (dir, alive) = RunDir::create(&self.state(), record.run_id).expect("run directory");
        dir.write_spec(&spec).expect("run.json");
        change_set::write(&dir, &changes).expect("changes");
        let contents = (kept != Kept::OnlyBefore).then_some(after.snapshot);
        write_journal(&dir, &record, &before, contents);
        let _ = RunLog::at(self.state().path()).append(&mut record).expect("logged");
        alive.finish().expect("ended");
        dir
    }

    fn capture(&self, tree: &str) -> Captured {
        let path = self.project.join(tree);
        if tree == "nothing" && !path.exists() {
            fs::create_dir(&path).expect("made");
        }
        let root = CaptureRoot { name: "workspace".into(), path };
        let store = SnapshotStore::at(self.state().path());
        store.capture(&self.project.path(), &[root], &CapturePolicy::default(), &|_| {}).expect("captured")
    }

    fn load(&self, snapshot: &SnapshotRef) -> Manifest {
        SnapshotStore::at(self.state().path()).load(snapshot).expect("loaded")
    }

    fn spec(&self, record: &RunRecord) -> RunSpec {
        RunSpec {
            agent: record.agent.clone(),
            command: record.command.clone(),
            cwd: record.cwd.clone(),
            project: self.project.path().into(),
            inputs: InputPolicy {
                source: InputSource::Live(Vec::new()),
                exclude: Vec::new(),
                limit: ByteSize(1 << 30),
            },
            outputs: Vec::new(),
            staging_base: StagingBase::Empty,
            gate: GatePolicy::default(),
            time: TimePolicy { timeout: None, idle_timeout: None, deadline: None, kill_after: Duration::from_secs(5) },
            retry: RetryPolicy::default(),
            budget: Budget::default(),
            usage: agentguard::model::UsageFormat::Auto,
            meter: None,
            prices: std::collections::BTreeMap::new(),
            tty: Tty::Auto,
            publish: PublishPolicy::Commit,
            workspace: Some(WorkspacePolicy {
                path: self.workspace().into(),
                name: "w".into(),
                passthrough: Vec::new(),
                hold: Hold::No,
                on_conflict: OnConflict::Fail,
            }),
            view: ViewPolicy::default(),
            on_drift: OnDrift::Record,
            breaker: agentguard::model::breaker::BreakerPolicy::default(),
            recorded_inputs: false,
            environment: BTreeMap::new(),
            labels: BTreeMap::new(),
            needs: Vec::new(),
            parent_run_id: None,
            replay_of: None,
            redrive_of: None,
        }
    }
}

fn write_journal(dir: &RunDir, record: &RunRecord, before: &Captured, contents: Option<SnapshotRef>) {
    let mut journal = Journal::create(&dir.journal()).expect("journal");
    let time = record.start_time;
    let header = Header {
        run_id: record.run_id,
        time,
        agent: record.agent.clone(),
        command: record.command.clone(),
        cwd: record.cwd.clone(),
        mode: record.mode,
        targets: record.targets.clone(),
        needs: Vec::new(),
        labels: BTreeMap::new(),
        parent_run_id: None,
        replay_of: None,
        redrive_of: None,
        host: record.host.clone(),
        user: record.user.clone(),
        agentguard: record.agentguard.clone(),
        git: None,
        isolation: record.isolation.clone(),
    };
    let taken = SnapshotTaken {
        time,
        input_hash: before.input_hash,
        snapshot: before.snapshot.clone(),
        files: before.files,
        bytes: before.bytes,
        unstable: Vec::new(),
        skipped: 0,
        left_out: 0,
        began: None,
    };
    let stdin: Option<StdinCapture> = None;
    let end = AttemptEnd {
        time,
        exit_code: Some(0),
        signal: None,
        failure: None,
        cancelled_by: None,
        stdin,
        usage: None,
        cost_usd: None,
        cost_source: None,
        retry_after_ms: None,
        stdout_bytes: 0,
        stderr_bytes: 0,
        isolation: None,
        leaked_processes: None,
    };
    let sealed =
        Sealed { time, output_hash: record.output_hash, files: 0, bytes: 0, contents, discarded: None, drift: None };
    let settled = Settled { time, status: Status::Succeeded, failure: None, guard_exit_code: Some(0) };
    for event in [
        Event::Started(Box::new(header)),
        Event::Snapshotted(taken),
        Event::AttemptStarted(AttemptStart { number: 1, time, staging: Text::default(), private: None }),
        Event::AttemptEnded(end),
        Event::Sealed(sealed),
        Event::Settled(settled),
    ] {
        journal.append(event).expect("appended");
    }
}

/// From one manifest's workspace to the other's.
fn changes(before: &Manifest, after: &Manifest) -> ChangeSet {
    let sides = |manifest: &Manifest| -> BTreeMap<Vec<u8>, Side> {
        let entries = manifest.entries().iter().enumerate();
        let below = entries.filter_map(|(index, entry)| {
            let path = manifest.path_of(index).strip_prefix(b"workspace/")?.to_vec();
            let is_directory = entry.kind == EntryKind::Directory;
            let (digest, size) = if is_directory { (None, 0) } else { (Some(entry.digest), entry.size) };
            Some((path, Side { kind: entry.kind, mode: entry.mode, digest, size }))
        });
        below.collect()
    };
    let (old, new) = (sides(before), sides(after));
    let names: std::collections::BTreeSet<&Vec<u8>> = old.keys().chain(new.keys()).collect();
    let paths = names.into_iter().filter(|name| old.get(*name) != new.get(*name)).map(|name| {
        let (before, after) = (old.get(name).copied(), new.get(name).copied());
        let change = match (before, after) {
            (None, _) => ChangeKind::Created,
            (_, None) => ChangeKind::Deleted,
            _ => ChangeKind::Modified,
        };
        ChangedPath { change, path: Text(name.clone()), before, after }
    });
    ChangeSet { paths: paths.collect() }
}

/// What a patch can carry of a tree: files with git's two modes, and links. Sorted by path.
pub(crate) fn as_git_sees(top: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    for entry in walkdir::WalkDir::new(top).min_depth(1).sort_by_file_name() {
        let entry = entry.expect("entry");
        let below = entry.path().strip_prefix(top).expect("below");
        let stat = entry.path().symlink_metadata().expect("stat");
        let shown = if stat.is_file() {
            let content = fs::read(entry.path()).expect("read");
            format!("{} {}", stat.permissions().mode() & 0o100 != 0, content.escape_ascii())
        } else if stat.is_symlink() {
            format!("-> {:?}", fs::read_link(entry.path()).expect("link"))
        } else {
            assert!(stat.is_dir() || stat.file_type().is_fifo());
            continue;
        };
        lines.push(format!("{} {shown}", below.as_os_str().as_bytes().escape_ascii()));
    }
    lines
}

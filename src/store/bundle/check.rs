//! Whether the runs of an unpacked bundle are what they say: files agree with each other, and hashes with what they are
//! taken over. Afterwards their journals name the snapshots as they are called here.

use sha2::{Digest as _, Sha256};

use super::header::{RunHeader, run_file};
use super::line::to_line;
use super::unpack::Unpacked;
use super::{BundleError, IMPORTED_NAME};
use crate::model::event::{Event, StdinCapture};
use crate::model::record::RECORD_SCHEMA;
use crate::model::spec::RunSpec;
use crate::model::{Digest, Entry, EntryKind, RunRecord};
use crate::rules::fold::fold;
use crate::rules::lifecycle::{Phase, phase_after};
use crate::store::run_dir::{BASE_NAME, RunDir, write_private};
use crate::store::snapshot::{Manifest, SnapshotStore};
use crate::store::state_dir::StateDir;
use crate::store::{change_set, journal, outputs};

/// Longer ones are none.
const LONGEST_JSON: u64 = 64 << 20;

/// What a replay needs to know of where an imported run comes from; kept beside the run.
#[derive(serde::Serialize)]
struct Imported<'a> {
    project: &'a crate::model::Text,
    agentguard: &'a str,
}

/// Checks every run, makes each as it will be, and gives their records, in the order of the bundle.
pub(super) fn check(staging: &StateDir, unpacked: &Unpacked) -> Result<Vec<RunRecord>, BundleError> {
    unpacked.header.runs.iter().map(|run| Checking { staging, unpacked, run }.run()).collect()
}

struct Checking<'a> {
    staging: &'a StateDir,
    unpacked: &'a Unpacked,
    run: &'a RunHeader,
}

impl Checking<'_> {
    fn run(&self) -> Result<RunRecord, BundleError> {
        let dir = RunDir::of(self.staging, self.run.run_id);
        for name in ["record.json", "run.json", "journal"] {
            match self.run.files.iter().find(|file| file.name == name) {
                None => return Err(BundleError::Truncated(run_file(self.run.run_id, name))),
                Some(file) if file.size > LONGEST_JSON => return self.forged(name, "it is too long"),
                Some(_) => {}
            }
        }
        let record = self.record(&dir)?;
        let spec = self.spec(&dir)?;
        let mut events = journal::read(&dir.journal()).or_else(|error| self.forged("journal", &error.to_string()))?;
        self.journal(&events, &record)?;
        self.inputs(&dir, &events, &record)?;
        self.outputs(&dir, &events)?;
        self.name_here(&mut events);
        self.make(&dir, &spec, &events)?;
        Ok(record)
    }

    fn forged<T>(&self, name: &str, what: &str) -> Result<T, BundleError> {
        Err(BundleError::forged(run_file(self.run.run_id, name), what.escape_debug().to_string()))
    }

    fn record(&self, dir: &RunDir) -> Result<RunRecord, BundleError> {
        #[derive(serde::Deserialize)]
        struct Version {
            schema: u32,
        }
        let name = "record.json";
        let path = dir.join(name);
        let bytes = std::fs::read(&path).map_err(BundleError::at("read", &path))?;
        match serde_json::from_slice::<Version>(&bytes) {
            Ok(Version { schema }) if schema > RECORD_SCHEMA => return Err(BundleError::Newer(schema)),
            _ => {}
        }
        let record: RunRecord =
            serde_json::from_slice(&bytes).or_else(|error| self.forged(name, &error.to_string()))?;
        if record.run_id != self.run.run_id || record.prev.is_some() {
            return self.forged(name, "it is that of another run");
        }
        Ok(record)
    }

    fn spec(&self, dir: &RunDir) -> Result<RunSpec, BundleError> {
        #[derive(serde::Deserialize)]
        struct Whose {
            run_id: crate::model::RunId,
        }
        let path = dir.join("run.json");
        let bytes = std::fs::read(&path).map_err(BundleError::at("read", &path))?;
        let spec = match dir.read_spec() {
            Err(crate::store::run_dir::RunDirError::Newer { found, .. }) => return Err(BundleError::Newer(found)),
            read => read.or_else(|error| self.forged("run.json", &error.to_string()))?,
        };
        match serde_json::from_slice::<Whose>(&bytes) {
            Ok(whose) if whose.run_id == self.run.run_id => Ok(spec),
            _ => self.forged("run.json", "it is that of another run"),
        }
    }

    /// The journal is the life of this run, ended, and tells what the record says.
    fn journal(&self, events: &[Event], record: &RunRecord) -> Result<(), BundleError> {
        if !matches!(phase_after(events), Ok(Phase::Settled)) {
            return self.forged("journal", "it is not the life of a run that ended");
        }
        if events.iter().any(|event| matches!(event, Event::CommitIntended(_))) {
            return self.forged("journal", "it has a commit, which is nobody's to complete here");
        }
        let told = fold(events).or_else(|error| self.forged("journal", &error.to_string()))?;
        let key = |run: &RunRecord| (run.run_id, run.start_time, run.input_hash, run.output_hash, run.agent.clone());
        if key(&told) != key(record) {
            return self.forged("record.json", "the journal tells of another run");
        }
        Ok(())
    }

    fn manifest(&self, digest: Digest) -> Option<&Manifest> {
        self.unpacked.manifests.get(&digest).map(|(manifest, _)| manifest)
    }

    /// `input_hash` is that of the listing, with the standard input that was kept.
    fn inputs(&self, dir: &RunDir, events: &[Event], record: &RunRecord) -> Result<(), BundleError> {
        let taken = events.iter().find_map(|event| match event {
            Event::Snapshotted(taken) => Some(taken),
            _ => None,
        });
        let Some(taken) = taken else {
            return if record.input_hash.is_none() { Ok(()) } else { self.forged("journal", "it has no snapshot") };
        };
        let Some(manifest) = self.manifest(taken.snapshot.manifest) else {
            return Err(BundleError::Truncated(format!("the listing {}", taken.snapshot.manifest)));
        };
        if manifest.root_digest() != taken.input_hash {
            return self.forged("journal", "its input_hash is not that of the listing");
        }
        let stdin = events.iter().rev().find_map(|event| match event {
            Event::AttemptEnded(end) => end.stdin,
            _ => None,
        });
        let expected = match stdin {
            Some(StdinCapture { digest: Some(digest), size, .. }) => {
                self.stdin(dir, digest, size)?;
                with_stdin(manifest, digest, size)
            }
            _ => taken.input_hash,
        };
        let told = [Some(expected), Some(taken.input_hash)];
        if told.contains(&record.input_hash) { Ok(()) } else { self.forged("record.json", "its input_hash is wrong") }
    }

    fn stdin(&self, dir: &RunDir, digest: Digest, size: u64) -> Result<(), BundleError> {
        match self.run.files.iter().find(|file| file.name == "stdin") {
            Some(file) if file.sha256 == digest && file.size == size => Ok(()),
            Some(_) => self.forged("stdin", "it is not what the run has read"),
            None if size == 0 && !dir.join("stdin").exists() => Ok(()),
            None => Err(BundleError::Truncated(run_file(self.run.run_id, "stdin"))),
        }
    }

    /// `output_hash` is that of what was staged.
    fn outputs(&self, dir: &RunDir, events: &[Event]) -> Result<(), BundleError> {
        let sealed = events.iter().rev().find_map(|event| match event {
            Event::Sealed(sealed) => Some(sealed),
            _ => None,
        });
        let wanted = sealed.and_then(|sealed| sealed.output_hash);
        let listed = outputs::read(dir).or_else(|error| self.forged("outputs", &error.to_string()))?;
        if let Some(manifest) = &listed
            && (manifest.first_wrong().is_some() || wanted.is_some_and(|hash| hash != manifest.root_digest()))
        {
            return self.forged("outputs", "its hash is not the run's output_hash");
        }
        let changes = change_set::read(dir).or_else(|error| self.forged("changes", &error.to_string()))?;
        if let Some(changes) = &changes
            && change_set::output_hash(changes) != wanted
        {
            return self.forged("changes", "its hash is not the run's output_hash");
        }
        Ok(())
    }

    /// Snapshots have another pack here, and other owners.
    fn name_here(&self, events: &mut [Event]) {
        let here = |digest: Digest| self.unpacked.manifests.get(&digest).map(|(_, snapshot)| snapshot.clone());
        for event in events {
            match event {
                Event::Snapshotted(taken) => {
                    taken.snapshot = here(taken.snapshot.manifest).unwrap_or_else(|| taken.snapshot.clone());
                }
                Event::Sealed(sealed) => {
                    sealed.contents = sealed.contents.take().and_then(|contents| here(contents.manifest));
                }
                _ => {}
            }
        }
    }

    /// The run's directory as it will be.
    fn make(&self, dir: &RunDir, spec: &RunSpec, events: &[Event]) -> Result<(), BundleError> {
        let mut lines = Vec::new();
        for event in events {
            lines.extend(to_line(event, "journal")?);
        }
        let write = |name: &str, bytes: &[u8]| {
            let path = dir.join(name);
            write_private(&path, bytes).map_err(BundleError::at("write", &path))
        };
        write("journal", &lines)?;
        let imported = Imported { project: &spec.project, agentguard: &self.unpacked.header.agentguard };
        write(IMPORTED_NAME, &to_line(&imported, IMPORTED_NAME)?)?;
        let Some(base) = self.run.base else { return Ok(()) };
        let Some((manifest, snapshot)) = self.unpacked.manifests.get(&base) else {
            return Err(BundleError::Truncated(format!("the listing {base}")));
        };
        let is_base = |(_, root): (usize, &crate::store::snapshot::ManifestEntry)| *root.name == *BASE_NAME.as_bytes();
        if !manifest.roots().all(is_base) {
            return self.forged(BASE_NAME, "it lists something else");
        }
        let store = SnapshotStore::at(self.staging.path());
        let manifest = store.load(snapshot)?;
        store.materialise(&manifest, dir.path()).map_err(BundleError::Materialise)
    }
}

/// The hash of a listing with one more root, named `stdin`.
fn with_stdin(manifest: &Manifest, digest: Digest, size: u64) -> Digest {
    let entry = |name: &[u8]| Entry { mode: 0o600, kind: EntryKind::File, digest, size, name: name.to_vec() };
    let mut entries: Vec<Entry> = manifest.roots().map(|(_, root)| root.to_entry()).collect();
    entries.push(entry(b"stdin"));
    entries.sort_by(|one, other| one.name.cmp(&other.name));
    let mut listing = Vec::new();
    entries.iter().for_each(|entry| entry.write_to(&mut listing));
    Digest(Sha256::digest(&listing).into())
}

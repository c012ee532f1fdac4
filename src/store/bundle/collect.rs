//! What goes into a bundle: everything is looked at, hashed and counted before the first byte is written, because the
//! header comes first. Contents of files are not read yet; of what was printed only the hash is kept.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use super::header::{FileHeader, Header, Listed, RunHeader};
use super::line::{public_events, public_record, public_spec, to_line};
use super::{BundleError, printed};
use crate::model::event::{Event, SnapshotRef};
use crate::model::{Digest, EntryKind, RunId, RunRecord};
use crate::rules::lifecycle::{Phase, phase_after};
use crate::rules::redact_bundle::Secrets;
use crate::store::journal;
use crate::store::run_dir::{BASE_NAME, RunDir};
use crate::store::snapshot::{CapturePolicy, CaptureRoot, Location, Manifest, SnapshotStore, hash_roots};
use crate::store::state_dir::StateDir;

/// A bundle that is not written yet.
#[derive(Debug)]
pub struct Plan {
    pub(super) header: Header,
    pub(super) runs: Vec<RunPlan>,
    pub(super) manifests: Vec<ManifestSource>,
    /// Contents that no manifest before has: the manifest's number, and the entry's.
    pub(super) contents: Vec<(usize, usize)>,
}

/// One run of it.
#[derive(Debug)]
pub(super) struct RunPlan {
    pub(super) run_id: RunId,
    pub(super) secrets: Secrets,
    /// Beside the files of the header, in the same order.
    pub(super) sources: Vec<FileSource>,
}

/// Where the bytes of a file come from.
#[derive(Debug)]
pub(super) enum FileSource {
    /// They are here.
    Bytes(Vec<u8>),
    /// A file as it is.
    File(PathBuf),
    /// One half of a captured stream, redacted again.
    Printed { path: PathBuf, total: Option<u64>, half: Half },
}

/// Beginning or end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Half {
    Head,
    Tail,
}

/// Where a manifest comes from.
#[derive(Debug)]
pub(super) enum ManifestSource {
    /// The store.
    Stored(RunId, SnapshotRef),
    /// A directory that is no snapshot.
    Base(RunDir, Box<Manifest>),
}

/// Plans a bundle of runs whose directories are there. The caller sees to it that nothing is removed meanwhile.
pub fn plan(state: &StateDir, records: &[RunRecord]) -> Result<Plan, BundleError> {
    let mut records: Vec<&RunRecord> = records.iter().collect();
    records.sort_by_key(|record| record.run_id);
    records.dedup_by_key(|record| record.run_id);
    let mut collecting = Collecting::new(state);
    let mut runs = Vec::with_capacity(records.len());
    let mut headers = Vec::with_capacity(records.len());
    for record in records {
        let (header, run) = collecting.run(&RunDir::of(state, record.run_id), record)?;
        headers.push(header);
        runs.push(run);
    }
    let owner = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    let totals = (collecting.contents.len() as u64, collecting.bytes);
    let header = Header::new(owner, headers, collecting.listed, totals);
    Ok(Plan { header, runs, manifests: collecting.sources, contents: collecting.contents })
}

struct Collecting {
    store: SnapshotStore,
    /// Manifests by their hash: their number.
    known: HashMap<Digest, usize>,
    listed: Vec<Listed>,
    sources: Vec<ManifestSource>,
    seen: HashSet<Digest>,
    contents: Vec<(usize, usize)>,
    bytes: u64,
}

impl Collecting {
    fn new(state: &StateDir) -> Self {
        Self {
            store: SnapshotStore::at(state.path()),
            known: HashMap::new(),
            listed: Vec::new(),
            sources: Vec::new(),
            seen: HashSet::new(),
            contents: Vec::new(),
            bytes: 0,
        }
    }

    fn run(&mut self, dir: &RunDir, record: &RunRecord) -> Result<(RunHeader, RunPlan), BundleError> {
        let spec = dir.read_spec()?;
        let events = journal::read(&dir.journal())?;
        if !matches!(phase_after(&events), Ok(Phase::Settled)) {
            return Err(BundleError::Unsettled(dir.run_id()));
        }
        let secrets = Secrets::of(&spec);
        let mut public = public_events(&events, &secrets)?;
        let mut files = Files { secrets: &secrets, files: Vec::new(), sources: Vec::new() };
        files.printed(dir, &mut public)?;
        let mut lines = Vec::new();
        for event in &public {
            lines.extend(to_line(event, "journal")?);
        }
        let mut first = Files { secrets: &secrets, files: Vec::new(), sources: Vec::new() };
        first.bytes("record.json", to_line(&public_record(record, &secrets)?, "record.json")?);
        first.bytes("run.json", to_line(&public_spec(dir.run_id(), &spec, &secrets)?, "run.json")?);
        first.bytes("journal", lines);
        for name in ["outputs", "changes", "stdin"] {
            first.file(name, dir.join(name))?;
        }
        first.files.append(&mut files.files);
        first.sources.append(&mut files.sources);
        let (files, sources) = (first.files, first.sources);
        self.snapshots(dir.run_id(), &events)?;
        let base = self.base(dir)?;
        let header = RunHeader { run_id: dir.run_id(), files, base };
        Ok((header, RunPlan { run_id: dir.run_id(), secrets, sources }))
    }

    fn snapshots(&mut self, run_id: RunId, events: &[Event]) -> Result<(), BundleError> {
        for event in events {
            match event {
                Event::Snapshotted(taken) => self.stored(run_id, &taken.snapshot)?,
                // A pack of kept outputs may be lost; nothing but showing them relies on it.
                Event::Sealed(sealed) => {
                    if let Some(contents) = &sealed.contents
                        && self.store.load(contents).is_ok()
                    {
                        self.stored(run_id, contents)?;
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn stored(&mut self, run_id: RunId, snapshot: &SnapshotRef) -> Result<(), BundleError> {
        if self.known.contains_key(&snapshot.manifest) {
            return Ok(());
        }
        let manifest = self.store.load(snapshot)?;
        self.add(&manifest, snapshot.manifest, ManifestSource::Stored(run_id, snapshot.clone()));
        Ok(())
    }

    fn base(&mut self, dir: &RunDir) -> Result<Option<Digest>, BundleError> {
        let path = dir.join(BASE_NAME);
        if path.symlink_metadata().is_err() {
            return Ok(None);
        }
        let root = CaptureRoot { name: BASE_NAME.into(), path };
        let sealed = hash_roots(&[root], &CapturePolicy::default()).map_err(BundleError::Base)?;
        let manifest = Box::new(sealed.manifest.all_kept());
        let digest = manifest.digest();
        if !self.known.contains_key(&digest) {
            self.add(&manifest.clone(), digest, ManifestSource::Base(dir.clone(), manifest));
        }
        Ok(Some(digest))
    }

    fn add(&mut self, manifest: &Manifest, digest: Digest, source: ManifestSource) {
        let number = self.sources.len();
        self.known.insert(digest, number);
        self.listed.push(Listed { sha256: digest, size: manifest.to_bytes().len() as u64 });
        for (index, entry) in manifest.entries().iter().enumerate() {
            let is_there = entry.kind == EntryKind::File && entry.location != Location::Nothing;
            if is_there && entry.size > 0 && self.seen.insert(entry.digest) {
                self.contents.push((number, index));
                self.bytes += entry.size;
            }
        }
        self.sources.push(source);
    }
}

/// The files of one run.
struct Files<'a> {
    secrets: &'a Secrets,
    files: Vec<FileHeader>,
    sources: Vec<FileSource>,
}

impl Files<'_> {
    fn add(&mut self, name: &str, bytes: &[u8], source: FileSource) {
        let sha256 = Digest(Sha256::digest(bytes).into());
        self.files.push(FileHeader { name: name.to_owned(), size: bytes.len() as u64, sha256 });
        self.sources.push(source);
    }

    fn bytes(&mut self, name: &str, bytes: Vec<u8>) {
        self.add(name, &bytes.clone(), FileSource::Bytes(bytes));
    }

    fn file(&mut self, name: &str, path: PathBuf) -> Result<(), BundleError> {
        let mut file = match std::fs::File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            opened => opened.map_err(BundleError::at("read", &path))?,
        };
        let (mut sum, mut size, mut buffer) = (Sha256::new(), 0, vec![0; 1 << 16]);
        loop {
            match file.read(&mut buffer).map_err(BundleError::at("read", &path))? {
                0 => break,
                read => {
                    sum.update(&buffer[..read]);
                    size += read as u64;
                }
            }
        }
        self.files.push(FileHeader { name: name.to_owned(), size, sha256: Digest(sum.finalize().into()) });
        self.sources.push(FileSource::File(path));
        Ok(())
    }

    /// What each attempt and the verify commands have printed; the events say how long the redacted streams are.
    fn printed(&mut self, dir: &RunDir, events: &mut [Event]) -> Result<(), BundleError> {
        let ends: Vec<usize> = (0..events.len()).filter(|at| matches!(events[*at], Event::AttemptEnded(_))).collect();
        let mut places: Vec<(String, Option<usize>)> =
            (1..ends.len()).map(|number| (format!("attempts/{number}/"), Some(ends[number - 1]))).collect();
        places.push((String::new(), ends.last().copied()));
        for (prefix, end) in places {
            for stem in streams_in(&dir.join(&prefix))? {
                self.stream(dir, &format!("{prefix}{stem}"), &stem, end.map(|at| &mut events[at]))?;
            }
        }
        Ok(())
    }

    fn stream(&mut self, dir: &RunDir, name: &str, stem: &str, end: Option<&mut Event>) -> Result<(), BundleError> {
        let path = dir.join(name);
        let mut total = match (stem, end) {
            ("stdout", Some(Event::AttemptEnded(end))) => Some(&mut end.stdout_bytes),
            ("stderr", Some(Event::AttemptEnded(end))) => Some(&mut end.stderr_bytes),
            _ => None,
        };
        let known = total.as_deref().copied();
        let printed = printed::read(&path, known, self.secrets)?;
        if let Some(total) = &mut total {
            **total = total.saturating_add_signed(printed.longer_by);
        }
        let source = |half| FileSource::Printed { path: path.clone(), total: known, half };
        if let Some(head) = &printed.head {
            self.add(name, head, source(Half::Head));
        }
        if let Some(tail) = &printed.tail {
            self.add(&format!("{name}.tail"), tail, source(Half::Tail));
        }
        Ok(())
    }
}

/// The names of captured streams in a directory, sorted, without that of their ends.
fn streams_in(dir: &Path) -> Result<BTreeSet<String>, BundleError> {
    let entries = match std::fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeSet::new()),
        read => read.map_err(BundleError::at("read", dir))?,
    };
    let mut found = BTreeSet::new();
    for entry in entries {
        let name = entry.map_err(BundleError::at("read", dir))?.file_name();
        let Some(name) = name.to_str() else { continue };
        let stem = name.strip_suffix(".tail").unwrap_or(name);
        if matches!(stem, "stdout" | "stderr") || stem.starts_with("verify-") {
            found.insert(stem.to_owned());
        }
    }
    Ok(found)
}

impl Plan {
    /// What will be in it.
    pub fn header(&self) -> &Header {
        &self.header
    }
}

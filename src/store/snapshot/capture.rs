//! One capture from beginning to end: ask the stat table, walk, write the pack, write the table.

use std::io::{BufWriter, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use super::baseline::Baseline;
use super::error::CaptureError;
use super::fast;
use super::gather::{Gathered, RootLinks};
use super::layout::{Layout, StoreError, make_dir};
use super::manifest::{Location, is_root_name};
use super::policy::{CapturePolicy, CaptureProgress, CaptureRoot};
use super::read::Sink;
use super::storing::{Storing, newest_packs};
use super::survey::Survey;
use super::table::StatTable;
use super::table_header::Header;
use super::tree::Encoded;
use crate::model::event::SnapshotRef;
use crate::model::{Digest, Text};
use crate::store::ignore::{IgnorePolicy, UserGit};
use crate::sys::crash;
use crate::sys::mmap::Mapped;

/// A snapshot that is in the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Captured {
    /// SHA-256 of the listing of the roots.
    pub input_hash: Digest,
    /// Where the store keeps it.
    pub snapshot: SnapshotRef,
    /// Entries that are no directories.
    pub files: u64,
    /// Bytes of the files.
    pub bytes: u64,
    /// Bytes of content that the store did not hold.
    pub new_bytes: u64,
    /// Paths that would not hold still while they were read.
    pub unstable: Vec<Text>,
    /// Sockets and devices that were left out.
    pub skipped: u64,
    /// Names that were left out because they are excluded or ignored, or are no small state of a git directory. What
    /// is below a directory that was left out is not counted.
    pub left_out: u64,
    /// What stat said of every entry; valid whatever is captured later.
    pub baseline: Arc<Baseline>,
}

/// What is to be captured.
pub(super) struct Request<'a> {
    pub(super) project: &'a Path,
    pub(super) roots: &'a [CaptureRoot],
    pub(super) policy: &'a CapturePolicy,
    pub(super) progress: &'a (dyn Fn(CaptureProgress) + Sync),
}

/// Captures the trees. A crash leaves at most a temporary file and whole, unreferenced contents.
pub(super) fn capture(layout: &Layout, request: &Request<'_>) -> Result<Captured, CaptureError> {
    let roots = sorted_roots(request.roots)?;
    let key = key_of(request, &roots);
    let table = match Mapped::open(&layout.table(key)).ok().and_then(|mapped| StatTable::from_file(mapped, key)) {
        Some(table) if fast::is_unchanged(&table, layout, request.project, &roots) => return Ok(unchanged(table)),
        table => table,
    };
    crash::point("snapshot.begun").map_err(StoreError::at("write", &layout.snapshots))?;
    let storing = Storing::new(layout, table.as_ref().map_or_else(|| newest_packs(layout), StatTable::packs));
    let survey = Survey {
        roots: &roots,
        root_links: RootLinks::Follow,
        policy: request.policy,
        known: table.as_ref(),
        sink: Sink::Store(&storing),
        progress: request.progress,
    };
    let gathered = survey.take()?;
    storing.sync_large()?;
    store(layout, storing, &gathered, table, key)
}

fn unchanged(table: StatTable) -> Captured {
    let header = table.header;
    Captured {
        input_hash: header.input_hash,
        snapshot: header.snapshot(),
        files: header.files,
        bytes: header.bytes,
        new_bytes: 0,
        unstable: Vec::new(),
        skipped: header.skipped,
        left_out: header.left_out,
        baseline: Arc::new(Baseline::of(table)),
    }
}

/// Sorted by name, each name once.
pub(super) fn sorted_roots(roots: &[CaptureRoot]) -> Result<Vec<CaptureRoot>, CaptureError> {
    if let Some(root) = roots.iter().find(|root| !is_root_name(&root.name.0)) {
        return Err(CaptureError::RootName(root.name.clone()));
    }
    let mut roots = roots.to_vec();
    roots.sort_by(|one, other| one.name.cmp(&other.name));
    roots.dedup_by(|one, other| one.name == other.name);
    Ok(roots)
}

/// What a stat table is for: the same roots of the same project under the same excludes. What ignore files say is not
/// part of it: the table knows which of them it was made under.
pub(super) fn key_of(request: &Request<'_>, roots: &[CaptureRoot]) -> Digest {
    let mut sum = Sha256::new();
    let mut put = |bytes: &[u8]| {
        sum.update((bytes.len() as u64).to_le_bytes());
        sum.update(bytes);
    };
    put(request.project.as_os_str().as_bytes());
    for root in roots {
        put(&root.name.0);
        put(root.path.as_os_str().as_bytes());
    }
    put(b"excluding");
    for pattern in request.policy.exclude.patterns() {
        put(pattern.as_bytes());
    }
    for path in &request.policy.skip {
        put(path.as_os_str().as_bytes());
    }
    put(b"without");
    for path in &request.policy.without {
        put(&path.0);
    }
    if let IgnorePolicy::Git(UserGit { config_files, default_excludes, home }) = &request.policy.ignore {
        put(b"what git ignores");
        for path in config_files.iter().chain(default_excludes).chain(home) {
            put(path.as_os_str().as_bytes());
        }
    }
    Digest(sum.finalize().into())
}

/// Device and inode of the directories that are never entered.
pub(super) fn skipped(paths: &[std::path::PathBuf]) -> Vec<(u64, u64)> {
    paths
        .iter()
        .filter_map(|path| std::fs::metadata(path).ok())
        .map(|metadata| (metadata.dev(), metadata.ino()))
        .collect()
}

/// The manifest of what was gathered, and the packs that it and the stat table name.
struct Placed {
    encoded: Encoded,
    pack: (Digest, u64),
}

/// Publishes what is new, if anything is, and remembers the stats.
fn store(
    layout: &Layout,
    storing: Storing<'_>,
    gathered: &Gathered,
    table: Option<StatTable>,
    key: Digest,
) -> Result<Captured, CaptureError> {
    let packs: Vec<(Digest, u64)> = storing.packs.iter().map(|pack| (pack.name, pack.size)).collect();
    let names: Vec<Digest> = packs.iter().map(|(name, _)| *name).collect();
    let new_bytes = storing.new_bytes();
    let unchanged = table.as_ref().and_then(|table| still_there(&storing, gathered, &names, &table.header));
    let known = table.filter(|_| unchanged.is_some() && gathered.news == 0);
    let placed = match unchanged {
        Some(placed) => placed,
        None => {
            let mut encoded = gathered.tree.encode_manifest(&names, None);
            let published = storing.writer.publish(&encoded.bytes)?;
            encoded.bytes = Vec::new();
            Placed { encoded, pack: (published.name, published.size) }
        }
    };
    let table = match known {
        Some(table) => table,
        None => write_table(layout, key, gathered, &packs, &placed)?,
    };
    Ok(Captured { new_bytes, unstable: gathered.unstable.clone(), ..self::unchanged(table) })
}

/// The previous snapshot, if what was gathered is the same again.
fn still_there(storing: &Storing<'_>, gathered: &Gathered, names: &[Digest], header: &Header) -> Option<Placed> {
    let own = names.iter().position(|name| *name == header.pack)?;
    let pack = &storing.packs[own];
    if !pack.is_there || !storing.writer.is_empty() {
        return None;
    }
    let own = u32::try_from(own).ok();
    let encoded = gathered.tree.encode_manifest(names, own);
    (encoded.digest == header.manifest).then_some(Placed { encoded, pack: (pack.name, pack.size) })
}

/// Replaces the stat table by rename. It is derived data and is not synced: a torn one is ignored.
fn write_table(
    layout: &Layout,
    key: Digest,
    gathered: &Gathered,
    packs: &[(Digest, u64)],
    placed: &Placed,
) -> Result<StatTable, StoreError> {
    let own_number = placed.encoded.used.len() as u32;
    let mut listed: Vec<_> = placed.encoded.used.iter().map(|number| packs[*number as usize]).collect();
    listed.push(placed.pack);
    let mut numbers = vec![own_number; packs.len()];
    for (new, old) in placed.encoded.used.iter().enumerate() {
        numbers[*old as usize] = new as u32;
    }
    let header = Header { key, pack: placed.pack.0, packs: listed.len() as u64, ..gathered.header(&placed.encoded) };
    make_dir(&layout.cache)?;
    let temporary = layout.temporary()?;
    let renumber = |location| match location {
        Location::Own => Location::Pack(own_number),
        Location::Pack(number) => Location::Pack(numbers[number as usize]),
        other => other,
    };
    let out = BufWriter::with_capacity(256 << 10, &temporary.file);
    let mut out = gathered
        .tree
        .encode_table(out, (header, &placed.encoded.dirs), (&listed, &gathered.watched), renumber)
        .map_err(StoreError::at("write", &temporary.path))?;
    out.flush().map_err(StoreError::at("write", &temporary.path))?;
    drop(out);
    // The mapping outlives the name: a later capture replaces the file, it does not change it.
    let written = Mapped::of(&temporary.file).map(StatTable::from_written);
    let table = written.map_err(StoreError::at("read", &temporary.path))?.ok_or_else(|| StoreError {
        step: "read",
        path: temporary.path.clone(),
        source: std::io::ErrorKind::InvalidData.into(),
    })?;
    temporary.publish(&layout.table(key))?;
    crash::point("snapshot.cache_written").map_err(StoreError::at("write", &layout.cache))?;
    Ok(table)
}

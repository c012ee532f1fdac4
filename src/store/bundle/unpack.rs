//! Reading a bundle into a state directory of its own, where nobody sees it. Every entry must be the one that comes next
//! by the header, a regular file of the size that was declared, with the hash that was declared.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use sha2::{Digest as _, Sha256};

use super::BundleError;
use super::header::{CONTENTS, FileHeader, Header, LONGEST, Listed, NAME, manifest_file, run_file};
use crate::model::event::SnapshotRef;
use crate::model::{Digest, EntryKind};
use crate::store::run_dir::RunDir;
use crate::store::snapshot::{Location, Manifest, Owner, SnapshotStore};
use crate::store::state_dir::{StateDir, make_private_directory};

/// A window that is larger would let a small bundle take much memory.
const WINDOW_LOG_MAX: u32 = 27;

/// What may follow the end of the archive: the blocks that fill up its last record.
const LONGEST_END: u64 = 1 << 20;

/// A bundle whose bytes are what it says, in a state directory of its own.
pub(super) struct Unpacked {
    pub(super) header: Header,
    /// The manifests as they came, by their hash, and what they are called here.
    pub(super) manifests: HashMap<Digest, (Manifest, SnapshotRef)>,
}

/// Unpacks into `staging`.
pub(super) fn unpack(from: &mut dyn Read, staging: &StateDir, limit: u64) -> Result<Unpacked, BundleError> {
    let mut decoder = zstd::Decoder::new(from).map_err(unreadable)?;
    decoder.window_log_max(WINDOW_LOG_MAX).map_err(unreadable)?;
    let mut archive = tar::Archive::new(decoder);
    let mut entries = Entries { entries: archive.entries().map_err(unreadable)?.raw(true) };
    let header = read_header(&mut entries, limit)?;
    for run in &header.runs {
        let dir = RunDir::of(staging, run.run_id);
        make_private_directory(dir.path()).map_err(BundleError::at("make", dir.path()))?;
        for file in &run.files {
            unpack_file(&mut entries, &dir, file)?;
        }
    }
    let mut manifests = Vec::with_capacity(header.manifests.len());
    for listed in &header.manifests {
        manifests.push(read_manifest(&mut entries, *listed)?);
    }
    let store = SnapshotStore::at(staging.path());
    let snapshots = unpack_contents(&mut entries, &store, &header, &manifests)?;
    if let Some(more) = entries.next()? {
        return Err(BundleError::Refused(format!("{} is more than its header lists", more.name)));
    }
    end_of(archive.into_inner())?;
    let named = header.manifests.iter().map(|listed| listed.sha256);
    let manifests = named.zip(manifests.into_iter().zip(snapshots)).collect();
    Ok(Unpacked { header, manifests })
}

fn unreadable(source: io::Error) -> BundleError {
    match source.kind() {
        io::ErrorKind::UnexpectedEof => BundleError::Truncated("its end".to_owned()),
        _ => BundleError::Stream { step: "read", source },
    }
}

struct Entries<'a, R: Read> {
    entries: tar::Entries<'a, R>,
}

/// An entry that is a regular file, whatever its name.
struct Next<'a, R: Read> {
    name: String,
    size: u64,
    entry: tar::Entry<'a, R>,
}

impl<'a, R: Read> Entries<'a, R> {
    fn next(&mut self) -> Result<Option<Next<'a, R>>, BundleError> {
        let Some(entry) = self.entries.next().transpose().map_err(unreadable)? else { return Ok(None) };
        let bytes = entry.path_bytes();
        let name = String::from_utf8_lossy(&bytes).escape_debug().to_string();
        let refused = |what: &str| Err(BundleError::Refused(format!("{name} {what}")));
        if bytes.starts_with(b"/") {
            return refused("is an absolute path");
        }
        if bytes.split(|byte| *byte == b'/').any(|part| part == b"..") {
            return refused("leads out of the bundle");
        }
        match entry.header().entry_type() {
            tar::EntryType::Regular => {}
            tar::EntryType::Symlink | tar::EntryType::Link => return refused("is a link: bundles hold none"),
            other => return refused(&format!("is of the type {other:?}: bundles hold regular files only")),
        }
        let size = entry.header().entry_size().map_err(unreadable)?;
        Ok(Some(Next { name, size, entry }))
    }

    /// The entry that must come next.
    fn expect(&mut self, name: &str) -> Result<Next<'a, R>, BundleError> {
        match self.next()? {
            None => Err(BundleError::Truncated(name.to_owned())),
            Some(next) if next.name != name => {
                Err(BundleError::Refused(format!("{} stands where {name} should", next.name)))
            }
            Some(next) => Ok(next),
        }
    }

    fn expect_sized(&mut self, name: &str, size: u64) -> Result<Next<'a, R>, BundleError> {
        let next = self.expect(name)?;
        if next.size != size {
            return Err(BundleError::forged(name, format!("it has {} bytes, not {size}", next.size)));
        }
        Ok(next)
    }
}

fn read_header<R: Read>(entries: &mut Entries<'_, R>, limit: u64) -> Result<Header, BundleError> {
    let first = match entries.next() {
        Ok(Some(first)) if first.name == NAME => first,
        Ok(_) => return Err(BundleError::NotBundle(format!("its first entry is not {NAME}"))),
        Err(BundleError::Stream { source, .. }) => return Err(BundleError::NotBundle(source.to_string())),
        Err(error) => return Err(error),
    };
    if first.size > LONGEST {
        return Err(BundleError::NotBundle(format!("its header has {} bytes", first.size)));
    }
    Header::parse(&read_whole(first)?, limit)
}

fn read_whole<R: Read>(mut next: Next<'_, R>) -> Result<Vec<u8>, BundleError> {
    let mut bytes = Vec::new();
    next.entry.read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 != next.size {
        return Err(BundleError::Truncated(format!("the rest of {}", next.name)));
    }
    Ok(bytes)
}

fn unpack_file<R: Read>(entries: &mut Entries<'_, R>, dir: &RunDir, file: &FileHeader) -> Result<(), BundleError> {
    let name = run_file(dir.run_id(), &file.name);
    let mut next = entries.expect_sized(&name, file.size)?;
    let path = dir.join(&file.name);
    if let Some(parent) = path.parent().filter(|parent| *parent != dir.path()) {
        std::fs::create_dir_all(parent).map_err(BundleError::at("make", parent))?;
    }
    let opened = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
    let mut out = opened.map_err(BundleError::at("write", &path))?;
    let digest = copy_hashed(&mut next.entry, &mut out, &path)?;
    if digest != file.sha256 {
        return Err(BundleError::forged(name, "its hash is another one"));
    }
    Ok(())
}

fn copy_hashed(from: &mut dyn Read, to: &mut File, path: &Path) -> Result<Digest, BundleError> {
    let (mut sum, mut buffer) = (Sha256::new(), vec![0; 1 << 16]);
    loop {
        let read = from.read(&mut buffer).map_err(unreadable)?;
        if read == 0 {
            return Ok(Digest(sum.finalize().into()));
        }
        sum.update(&buffer[..read]);
        to.write_all(&buffer[..read]).map_err(BundleError::at("write", path))?;
    }
}

fn read_manifest<R: Read>(entries: &mut Entries<'_, R>, listed: Listed) -> Result<Manifest, BundleError> {
    let name = manifest_file(listed.sha256);
    let bytes = read_whole(entries.expect_sized(&name, listed.size)?)?;
    if Sha256::digest(&bytes)[..] != listed.sha256.0 {
        return Err(BundleError::forged(name, "its hash is another one"));
    }
    let manifest = Manifest::from_bytes(&bytes).map_err(|error| BundleError::forged(&name, error.to_string()))?;
    match manifest.first_wrong() {
        None => Ok(manifest),
        Some(index) => {
            let path = String::from_utf8_lossy(&manifest.path_of(index)).escape_debug().to_string();
            Err(BundleError::forged(name, format!("the hash of {path} does not follow from what it lists")))
        }
    }
}

/// Takes the contents that the manifests name, each once and in any order, and nothing else.
fn unpack_contents<R: Read>(
    entries: &mut Entries<'_, R>,
    store: &SnapshotStore,
    header: &Header,
    manifests: &[Manifest],
) -> Result<Vec<SnapshotRef>, BundleError> {
    let mut wanted = wanted(manifests)?;
    let (mut intake, mut left) = (store.intake(), header.content_bytes);
    for _ in 0..header.contents {
        let missing = || BundleError::Truncated("a content".to_owned());
        let mut next = entries.next()?.ok_or_else(missing)?;
        let digest: Option<Digest> = next.name.strip_prefix(CONTENTS).and_then(|digits| digits.parse().ok());
        let Some(size) = digest.and_then(|digest| wanted.remove(&digest)) else {
            return Err(BundleError::Refused(format!("{} is in no listing, or there twice", next.name)));
        };
        if next.size != size || size > left {
            return Err(BundleError::forged(&next.name, format!("it has {} bytes, not {size}", next.size)));
        }
        left -= size;
        let digest = digest.unwrap_or(Digest::OF_NOTHING);
        match intake.take(digest, size, &mut next.entry)? {
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                return Err(BundleError::forged(&next.name, "its hash is another one"));
            }
            taken => taken.map_err(unreadable)?,
        }
    }
    if let Some(digest) = wanted.keys().min() {
        return Err(BundleError::Truncated(format!("{CONTENTS}{digest}")));
    }
    let own = Owner { uid: rustix::process::geteuid().as_raw(), gid: rustix::process::getegid().as_raw() };
    let theirs = Owner { uid: header.owner.0, gid: header.owner.1 };
    // Only root can give files to others.
    let owner = |owner| if owner == theirs || own.uid != 0 { own } else { owner };
    Ok(intake.finish(manifests.to_vec(), &owner)?)
}

/// Contents that manifests say are kept, with their sizes.
fn wanted(manifests: &[Manifest]) -> Result<HashMap<Digest, u64>, BundleError> {
    let mut wanted = HashMap::new();
    for entry in manifests.iter().flat_map(Manifest::entries) {
        if entry.kind != EntryKind::File || entry.size == 0 || entry.location == Location::Nothing {
            continue;
        }
        if *wanted.entry(entry.digest).or_insert(entry.size) != entry.size {
            return Err(BundleError::forged(format!("{CONTENTS}{}", entry.digest), "it has two sizes"));
        }
    }
    Ok(wanted)
}

/// Nothing but zeros may follow, and the checksum of the whole must be right.
fn end_of(mut rest: impl Read) -> Result<(), BundleError> {
    let mut bytes = Vec::new();
    rest.by_ref().take(LONGEST_END + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > LONGEST_END || bytes.iter().any(|byte| *byte != 0) {
        return Err(BundleError::Refused("something follows its end".to_owned()));
    }
    Ok(())
}

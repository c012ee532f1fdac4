//! Writing a bundle that was planned, in one pass. What is not what it was when it was planned ends it.

use std::fs::File;
use std::io::{self, BufWriter, Write};

use sha2::{Digest as _, Sha256};

use super::collect::{FileSource, Half, ManifestSource, Plan, RunPlan};
use super::header::{CONTENTS, FileHeader, NAME, manifest_file, run_file};
use super::line::to_line;
use super::{BundleError, printed};
use crate::model::{Digest, RunId, Text};
use crate::store::snapshot::{Contents, Manifest, ManifestEntry, SnapshotStore};
use crate::store::state_dir::StateDir;

/// As `zstd` has it where nothing is said.
const LEVEL: i32 = 3;
const BLOCK: u64 = 512;
static ZEROS: [u8; BLOCK as usize] = [0; BLOCK as usize];
/// The headers of small files go to the compressor together with their contents.
const BUFFER: usize = 256 << 10;

/// A bundle that was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Written {
    /// Files in the contents, each once.
    pub contents: u64,
    /// Bytes before they were compressed.
    pub unpacked_bytes: u64,
}

/// Writes the bundle to a stream; what an error leaves there is no bundle.
pub fn write(state: &StateDir, plan: &Plan, out: &mut dyn Write) -> Result<Written, BundleError> {
    let failed = |source| BundleError::Stream { step: "write", source };
    let mut encoder = zstd::Encoder::new(out, LEVEL).map_err(failed)?;
    // So that a bundle that was cut or changed on its way is known for one by its last bytes.
    encoder.include_checksum(true).map_err(failed)?;
    let mut archive = Archive { out: BufWriter::with_capacity(BUFFER, encoder), bytes: 0 };
    archive.bytes(NAME, &to_line(&plan.header, NAME)?)?;
    for (run, header) in plan.runs.iter().zip(&plan.header.runs) {
        for (source, file) in run.sources.iter().zip(&header.files) {
            archive.run_file(run, source, file)?;
        }
    }
    let store = SnapshotStore::at(state.path());
    for (source, listed) in plan.manifests.iter().zip(&plan.header.manifests) {
        archive.bytes(&manifest_file(listed.sha256), &load(&store, source)?.to_bytes())?;
    }
    archive.contents(&store, plan)?;
    archive.out.write_all(&ZEROS).and_then(|()| archive.out.write_all(&ZEROS)).map_err(failed)?;
    let unpacked_bytes = archive.bytes;
    let encoder = archive.out.into_inner().map_err(|error| failed(error.into_error()))?;
    encoder.finish().and_then(|out| out.flush()).map_err(failed)?;
    Ok(Written { contents: plan.header.contents, unpacked_bytes })
}

fn load(store: &SnapshotStore, source: &ManifestSource) -> Result<Manifest, BundleError> {
    match source {
        ManifestSource::Stored(_, snapshot) => Ok(store.load(snapshot)?),
        ManifestSource::Base(_, manifest) => Ok((**manifest).clone()),
    }
}

struct Archive<W: Write> {
    out: BufWriter<W>,
    bytes: u64,
}

impl<W: Write> Archive<W> {
    /// One entry of exactly `size` bytes, written by `content`.
    fn entry(
        &mut self,
        name: &str,
        size: u64,
        content: impl FnOnce(&mut dyn Write) -> Result<(), BundleError>,
    ) -> Result<(), BundleError> {
        let failed = |source| BundleError::Stream { step: "write", source };
        let mut header = tar::Header::new_ustar();
        header.set_path(name).map_err(failed)?;
        header.set_entry_type(tar::EntryType::Regular);
        header.set_mode(0o600);
        for set in [tar::Header::set_uid, tar::Header::set_gid, tar::Header::set_mtime] {
            set(&mut header, 0);
        }
        header.set_size(size);
        header.set_cksum();
        self.out.write_all(header.as_bytes()).map_err(failed)?;
        let mut exact = Exact { out: &mut self.out, left: size };
        content(&mut exact)?;
        if exact.left > 0 {
            return Err(BundleError::forged(name, "it has become shorter while it was exported"));
        }
        let padding = usize::try_from(size.next_multiple_of(BLOCK) - size).unwrap_or_default();
        self.bytes += size;
        self.out.write_all(&ZEROS[..padding]).map_err(failed)
    }

    fn bytes(&mut self, name: &str, bytes: &[u8]) -> Result<(), BundleError> {
        self.entry(name, bytes.len() as u64, |out| {
            out.write_all(bytes).map_err(|source| BundleError::Stream { step: "write", source })
        })
    }

    fn run_file(&mut self, run: &RunPlan, source: &FileSource, file: &FileHeader) -> Result<(), BundleError> {
        let name = run_file(run.run_id, &file.name);
        match source {
            FileSource::Bytes(bytes) => self.bytes(&name, bytes),
            FileSource::File(path) => self.file(&name, path, file.sha256, file.size),
            FileSource::Printed { path, total, half } => {
                let printed = printed::read(path, *total, &run.secrets)?;
                let bytes = match half {
                    Half::Head => printed.head,
                    Half::Tail => printed.tail,
                };
                let bytes = bytes.unwrap_or_default();
                if Sha256::digest(&bytes)[..] != file.sha256.0 {
                    return Err(BundleError::forged(name, "it has changed while it was exported"));
                }
                self.bytes(&name, &bytes)
            }
        }
    }

    fn file(&mut self, name: &str, path: &std::path::Path, digest: Digest, size: u64) -> Result<(), BundleError> {
        let mut file = File::open(path).map_err(BundleError::at("read", path))?;
        let mut sum = Sha256::new();
        self.entry(name, size, |out| {
            let mut both = Both { out, sum: &mut sum };
            io::copy(&mut file, &mut both).map(|_| ()).map_err(BundleError::at("read", path))
        })?;
        if sum.finalize()[..] != digest.0 {
            return Err(BundleError::forged(name, "it has changed while it was exported"));
        }
        Ok(())
    }

    /// The contents of one manifest after the other: no more than one is in memory.
    fn contents(&mut self, store: &SnapshotStore, plan: &Plan) -> Result<(), BundleError> {
        let mut rest = &plan.contents[..];
        while let Some((number, _)) = rest.first().copied() {
            let end = rest.iter().position(|(other, _)| *other != number).unwrap_or(rest.len());
            let (own, others) = rest.split_at(end);
            rest = others;
            let source = &plan.manifests[number];
            let manifest = load(store, source)?;
            let contents = store.contents(&manifest);
            for (_, index) in own {
                let entry = &manifest.entries()[*index];
                let name = format!("{CONTENTS}{}", entry.digest);
                match source {
                    ManifestSource::Base(dir, _) => {
                        let path = dir.path().join(Text(manifest.path_of(*index)).as_path());
                        self.file(&name, &path, entry.digest, entry.size)?;
                    }
                    ManifestSource::Stored(run_id, _) => {
                        self.entry(&name, entry.size, |out| copy(&contents, *run_id, entry, out))?;
                    }
                }
            }
        }
        Ok(())
    }
}

fn copy(contents: &Contents<'_>, run_id: RunId, entry: &ManifestEntry, out: &mut dyn Write) -> Result<(), BundleError> {
    let digest = entry.digest;
    match contents.copy_to(entry, out) {
        Ok(copied) => copied.map_err(|source| BundleError::Stream { step: "write", source }),
        Err(source) => Err(BundleError::Content { run_id, digest, source: Box::new(source) }),
    }
}

/// Lets no more bytes through than were announced.
struct Exact<'a> {
    out: &'a mut dyn Write,
    left: u64,
}

impl Write for Exact<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.len() as u64 > self.left {
            return Err(io::Error::other("it has become longer while it was exported"));
        }
        let written = self.out.write(bytes)?;
        self.left -= written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// Writes, and hashes what was written.
struct Both<'a> {
    out: &'a mut dyn Write,
    sum: &'a mut Sha256,
}

impl Write for Both<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.sum.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

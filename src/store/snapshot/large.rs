//! Large contents: one file each, shared blocks where the filesystem can, else hashed while they are copied.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::FileExt as _;
use std::sync::mpsc::{Receiver, Sender, channel};

use sha2::{Digest as _, Sha256};

use super::layout::{Layout, StoreError, make_dir};
use crate::model::Digest;
use crate::sys::copy::{for_each_extent, reflink, start_writeback};

/// Contents of this size and more are kept in files of their own.
pub(super) const LARGE_BYTES: u64 = 4 << 20;
/// Small enough to stay in a core's cache between reading, hashing and writing.
const CHUNK_BYTES: usize = 256 << 10;
/// Writing back begins after every so many bytes.
const WRITEBACK_BYTES: u64 = 8 << 20;
/// Chunks on their way between the thread that reads and hashes and the one that writes.
const CHUNKS: usize = 8;
static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

/// Which side of a copy failed.
#[derive(Debug)]
pub(super) enum CopyFailed {
    Read(io::Error),
    Write(io::Error),
}

/// A content that is (or was already) under its name in `large/`.
pub(super) struct Stored {
    pub(super) digest: Digest,
    pub(super) is_new: bool,
}

/// Copies `size` bytes of `file` into the store, hashing them on the way; the inner error is the user's file's. The
/// content is durable on return, its name once `large/` is synced.
pub(super) fn store(layout: &Layout, file: &File, size: u64, sparse: bool) -> Result<io::Result<Stored>, StoreError> {
    // Before the copy: making a directory durable also waits for data that is on its way (ext4, ordered mode).
    make_dir(&layout.large)?;
    let temporary = layout.temporary()?;
    let digest = match copy_in(file, &temporary.file, size, sparse) {
        Ok(digest) => digest,
        Err(CopyFailed::Read(source)) => return Ok(Err(source)),
        Err(CopyFailed::Write(source)) => return Err(StoreError::at("write", &temporary.path)(source)),
    };
    let target = layout.large(digest);
    if std::fs::metadata(&target).is_ok_and(|found| found.len() == size) {
        return Ok(Ok(Stored { digest, is_new: false }));
    }
    temporary.file.sync_data().map_err(StoreError::at("sync", &temporary.path))?;
    temporary.publish(&target)?;
    Ok(Ok(Stored { digest, is_new: true }))
}

/// Fills `to`, an empty file, with the first `size` bytes of `from`, and tells their SHA-256.
pub(super) fn copy_in(from: &File, to: &File, size: u64, sparse: bool) -> Result<Digest, CopyFailed> {
    if reflink(from, to) {
        to.set_len(size).map_err(CopyFailed::Write)?;
        return hash_file(to, size).map_err(CopyFailed::Read);
    }
    if sparse {
        to.set_len(size).map_err(CopyFailed::Write)?;
        return copy_extents(from, size, to);
    }
    copy_hashed(from, size, to)
}

/// SHA-256 of the first `size` bytes of a file, from its start.
pub(super) fn hash_file(file: &File, size: u64) -> io::Result<Digest> {
    let mut sum = Sha256::new();
    let mut buffer = vec![0_u8; CHUNK_BYTES];
    let mut at = 0;
    while at < size {
        let want = usize::try_from(size - at).unwrap_or(CHUNK_BYTES).min(CHUNK_BYTES);
        let len = file.read_at(&mut buffer[..want], at)?;
        if len == 0 {
            break;
        }
        sum.update(&buffer[..len]);
        at += len as u64;
    }
    Ok(Digest(sum.finalize().into()))
}

/// Copies a file with holes: the holes are hashed as the zeros they are, and not written.
fn copy_extents(from: &File, size: u64, to: &File) -> Result<Digest, CopyFailed> {
    let mut sum = Sha256::new();
    let mut buffer = vec![0_u8; CHUNK_BYTES];
    let mut hashed = 0;
    let mut written = Ok(());
    let read = for_each_extent(from, size, |start, len| {
        hash_zeros(&mut sum, start - hashed);
        hashed = start;
        while hashed < start + len && written.is_ok() {
            let want = usize::try_from(start + len - hashed).unwrap_or(CHUNK_BYTES).min(CHUNK_BYTES);
            let got = from.read_at(&mut buffer[..want], hashed)?;
            if got == 0 {
                break;
            }
            sum.update(&buffer[..got]);
            written = to.write_all_at(&buffer[..got], hashed);
            hashed += got as u64;
        }
        Ok(())
    });
    written.map_err(CopyFailed::Write)?;
    read.map_err(CopyFailed::Read)?;
    hash_zeros(&mut sum, size - hashed);
    Ok(Digest(sum.finalize().into()))
}

fn hash_zeros(sum: &mut Sha256, mut len: u64) {
    while len > 0 {
        let step = len.min(ZEROS.len() as u64);
        sum.update(&ZEROS[..usize::try_from(step).unwrap_or(ZEROS.len())]);
        len -= step;
    }
}

/// One thread reads and hashes, the other writes; a few chunks go round.
fn copy_hashed(from: &File, size: u64, to: &File) -> Result<Digest, CopyFailed> {
    std::thread::scope(|scope| {
        let (full, to_write) = channel::<(u64, Vec<u8>)>();
        let (empty, free) = channel::<Vec<u8>>();
        for _ in 0..CHUNKS {
            let _ = empty.send(Vec::with_capacity(CHUNK_BYTES));
        }
        let writer = scope.spawn(move || write_chunks(to, &to_write, &empty));
        let hashed = hash_chunks(from, size, &free, full);
        let written = writer.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        written.map_err(CopyFailed::Write)?;
        hashed.map_err(CopyFailed::Read)
    })
}

fn hash_chunks(from: &File, size: u64, free: &Receiver<Vec<u8>>, full: Sender<(u64, Vec<u8>)>) -> io::Result<Digest> {
    let mut sum = Sha256::new();
    let mut at = 0;
    while at < size {
        // The writer has gone: it reports why.
        let Ok(mut chunk) = free.recv() else { break };
        let want = usize::try_from(size - at).unwrap_or(CHUNK_BYTES).min(CHUNK_BYTES);
        read_chunk(from, &mut chunk, want)?;
        if chunk.is_empty() {
            break;
        }
        sum.update(&chunk);
        let start = at;
        at += chunk.len() as u64;
        if full.send((start, chunk)).is_err() {
            break;
        }
    }
    Ok(Digest(sum.finalize().into()))
}

/// Appends up to `want` bytes; fewer only at the end of the file.
fn read_chunk(from: &File, chunk: &mut Vec<u8>, want: usize) -> io::Result<()> {
    chunk.resize(want, 0);
    let mut len = 0;
    while len < want {
        match { from }.read(&mut chunk[len..]) {
            Ok(0) => break,
            Ok(more) => len += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    chunk.truncate(len);
    Ok(())
}

fn write_chunks(to: &File, full: &Receiver<(u64, Vec<u8>)>, empty: &Sender<Vec<u8>>) -> io::Result<()> {
    let mut started = 0;
    while let Ok((at, chunk)) = full.recv() {
        to.write_all_at(&chunk, at)?;
        let end = at + chunk.len() as u64;
        if end - started >= WRITEBACK_BYTES {
            start_writeback(to.as_fd(), started, end - started);
            started = end;
        }
        // The reader may have finished already.
        let _ = empty.send(chunk);
    }
    Ok(())
}

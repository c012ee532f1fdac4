//! Large contents: one file each, shared blocks where the filesystem can, else hashed while they are copied.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::FileExt as _;
use std::sync::mpsc::{Receiver, Sender, channel};

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use sha2::{Digest as _, Sha256};

use super::layout::{Layout, StoreError, make_dir};
use crate::model::Digest;
use crate::sys::copy::{for_each_extent, reflink, start_writeback};

/// Contents of this size and more are kept in files of their own.
pub(super) const LARGE_BYTES: u64 = 4 << 20;
/// Small enough to stay in a core's cache between reading, hashing and writing.
const CHUNK_BYTES: usize = 256 << 10;
/// From this size on the copy goes past the page cache: written once and not read soon, it would only push out what is,
/// and copying it there costs more than hashing it (measured: half of all the time of a gibibyte).
const DIRECT_BYTES: u64 = 64 << 20;
/// Chunks of a copy past the page cache: a device likes them larger.
const DIRECT_CHUNK_BYTES: usize = 1 << 20;
/// What memory, offset and length of a direct write are multiples of, on any filesystem and device in use.
const ALIGNMENT: usize = 4096;
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

/// Passes `size` bytes from one stream to another and tells their SHA-256; the outer error is the source's. One that
/// ends early has another hash.
pub(super) fn copy_out(from: &mut dyn io::Read, size: u64, to: &mut dyn io::Write) -> io::Result<io::Result<Digest>> {
    let mut sum = Sha256::new();
    let mut buffer = vec![0_u8; CHUNK_BYTES];
    let mut left = size;
    while left > 0 {
        let want = usize::try_from(left).unwrap_or(CHUNK_BYTES).min(CHUNK_BYTES);
        let len = match from.read(&mut buffer[..want]) {
            Ok(0) => break,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            read => read?,
        };
        sum.update(&buffer[..len]);
        if let Err(error) = to.write_all(&buffer[..len]) {
            return Ok(Err(error));
        }
        left -= len as u64;
    }
    Ok(Ok(Digest(sum.finalize().into())))
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

/// SHA-256 of a file with holes: they are hashed as the zeros they are, and not read.
pub(super) fn hash_sparse(file: &File, size: u64) -> io::Result<Digest> {
    extents(file, size, |_, _| Ok(())).map_err(|failed| match failed {
        CopyFailed::Read(source) | CopyFailed::Write(source) => source,
    })
}

/// Copies a file with holes: the holes are hashed, and not written.
fn copy_extents(from: &File, size: u64, to: &File) -> Result<Digest, CopyFailed> {
    extents(from, size, |bytes, at| to.write_all_at(bytes, at))
}

fn extents(from: &File, size: u64, mut write: impl FnMut(&[u8], u64) -> io::Result<()>) -> Result<Digest, CopyFailed> {
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
            written = write(&buffer[..got], hashed);
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
    let past_cache = size >= DIRECT_BYTES && set_direct(to, Cache::Past).is_ok();
    let (chunk_bytes, cache) =
        if past_cache { (DIRECT_CHUNK_BYTES, Cache::Past) } else { (CHUNK_BYTES, Cache::Through) };
    std::thread::scope(|scope| {
        let (full, to_write) = channel::<(u64, Chunk)>();
        let (empty, free) = channel::<Chunk>();
        for _ in 0..CHUNKS {
            let _ = empty.send(Chunk::of(chunk_bytes));
        }
        let writer = scope.spawn(move || write_chunks(to, cache, &to_write, &empty));
        let hashed = hash_chunks(from, size, &free, full);
        let written = writer.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        written.map_err(CopyFailed::Write)?;
        hashed.map_err(CopyFailed::Read)
    })
}

/// Whether writes go through the page cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cache {
    Through,
    Past,
}

/// Switches `O_DIRECT`; an error where the filesystem has none.
fn set_direct(file: &File, cache: Cache) -> io::Result<()> {
    let mut flags = fcntl_getfl(file)?;
    flags.set(OFlags::DIRECT, cache == Cache::Past);
    Ok(fcntl_setfl(file, flags)?)
}

/// A buffer whose bytes begin at a multiple of [`ALIGNMENT`].
struct Chunk {
    memory: Vec<u8>,
    start: usize,
    len: usize,
}

impl Chunk {
    fn of(bytes: usize) -> Self {
        let memory = vec![0; bytes + ALIGNMENT];
        let start = memory.as_ptr().align_offset(ALIGNMENT).min(ALIGNMENT);
        Self { memory, start, len: 0 }
    }

    fn room(&mut self) -> &mut [u8] {
        let bytes = self.memory.len() - ALIGNMENT;
        &mut self.memory[self.start..self.start + bytes]
    }

    fn filled(&self) -> &[u8] {
        &self.memory[self.start..self.start + self.len]
    }
}

fn hash_chunks(from: &File, size: u64, free: &Receiver<Chunk>, full: Sender<(u64, Chunk)>) -> io::Result<Digest> {
    let mut sum = Sha256::new();
    let mut at = 0;
    while at < size {
        // The writer has gone: it reports why.
        let Ok(mut chunk) = free.recv() else { break };
        let want = usize::try_from(size - at).unwrap_or(usize::MAX).min(chunk.room().len());
        chunk.len = read_chunk(from, &mut chunk.room()[..want])?;
        if chunk.len == 0 {
            break;
        }
        sum.update(chunk.filled());
        let start = at;
        at += chunk.len as u64;
        if full.send((start, chunk)).is_err() {
            break;
        }
    }
    Ok(Digest(sum.finalize().into()))
}

/// Fills the room; returns less only at the end of the file.
fn read_chunk(from: &File, room: &mut [u8]) -> io::Result<usize> {
    let mut len = 0;
    while len < room.len() {
        match { from }.read(&mut room[len..]) {
            Ok(0) => break,
            Ok(more) => len += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(len)
}

fn write_chunks(to: &File, mut cache: Cache, full: &Receiver<(u64, Chunk)>, empty: &Sender<Chunk>) -> io::Result<()> {
    let mut started = 0;
    while let Ok((at, chunk)) = full.recv() {
        cache = write_chunk(to, cache, at, chunk.filled())?;
        let end = at + chunk.len as u64;
        if cache == Cache::Through && end - started >= WRITEBACK_BYTES {
            start_writeback(to.as_fd(), started, end - started);
            started = end;
        }
        // The reader may have finished already.
        let _ = empty.send(chunk);
    }
    Ok(())
}

/// Writes one chunk. The end of a file that is no multiple, and a device that wants other multiples, are written
/// through the cache, and so is what follows.
fn write_chunk(to: &File, cache: Cache, at: u64, bytes: &[u8]) -> io::Result<Cache> {
    if cache == Cache::Past && bytes.len().is_multiple_of(ALIGNMENT) {
        match to.write_all_at(bytes, at) {
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => {}
            written => return written.map(|()| Cache::Past),
        }
    }
    if cache == Cache::Past {
        set_direct(to, Cache::Through)?;
    }
    to.write_all_at(bytes, at)?;
    Ok(Cache::Through)
}

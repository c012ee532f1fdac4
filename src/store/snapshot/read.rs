//! Reading one file until it holds still, and deciding where its bytes go.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::buffer::spare_capacity;
use sha2::{Digest as _, Sha256};

use super::error::CaptureError;
use super::large::{self, LARGE_BYTES};
use super::manifest::Location;
use super::pack_writer::Batch;
use super::policy::KeepLimit;
use super::storing::Storing;
use crate::model::{Digest, Text};
use crate::sys::walk::{ObjectKind, Stat, stat_of};
use crate::sys::xattr::{self, Xattrs};

/// How often a file that changes under the reader is read.
const ATTEMPTS: usize = 4;

/// Where contents go.
#[derive(Clone, Copy)]
pub(super) enum Sink<'a> {
    /// Nowhere: they are only hashed.
    Hash,
    /// Into the store.
    Store(&'a Storing<'a>),
    /// Into the store as far as they are small; the others are only hashed.
    Keep(&'a Storing<'a>, &'a Budget),
    /// Nowhere, and they are not even read: only what a capture would read of this store's trees is found out.
    Count(&'a Storing<'a>),
}

/// How much content a seal may still keep.
#[derive(Debug)]
pub(super) struct Budget {
    per_file: u64,
    left: AtomicU64,
}

impl Budget {
    pub(super) fn new(limit: KeepLimit) -> Self {
        Self { per_file: limit.per_file, left: AtomicU64::new(limit.total) }
    }

    fn take(&self, bytes: u64) -> bool {
        let less = |left: u64| left.checked_sub(bytes);
        bytes <= self.per_file && self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).is_ok()
    }
}

/// A file that was read.
pub(super) struct FileRead {
    /// What it was before and after (the same, if stable).
    pub(super) stat: Stat,
    pub(super) digest: Digest,
    pub(super) size: u64,
    pub(super) location: Location,
    pub(super) stable: bool,
    pub(super) xattrs: Xattrs,
    /// Attributes of an overlay.
    pub(super) overlay: Xattrs,
}

impl FileRead {
    /// A file that could be opened, and was only counted.
    fn unread(stat: Stat) -> Self {
        Self {
            digest: Digest([0; 32]),
            size: stat.size,
            location: Location::Nothing,
            stable: true,
            xattrs: Xattrs::default(),
            overlay: Xattrs::default(),
            stat,
        }
    }
}

/// One thread's reader, with its buffer.
pub(super) struct Reader<'a> {
    sink: Sink<'a>,
    batch: Batch,
}

/// What one reading gave; a small content is at the end of the batch, from `start`.
struct Content {
    digest: Digest,
    size: u64,
    place: Place,
}

enum Place {
    Batch { start: usize },
    Done(Location),
}

impl<'a> Reader<'a> {
    pub(super) fn new(sink: Sink<'a>) -> Self {
        Self { sink, batch: Batch::default() }
    }

    /// Writes out what is still in the buffer.
    pub(super) fn finish(mut self) -> Result<(), CaptureError> {
        match self.sink {
            Sink::Hash | Sink::Count(_) => Ok(()),
            Sink::Store(storing) | Sink::Keep(storing, _) => Ok(self.batch.flush(&storing.writer)?),
        }
    }

    /// Reads a file that a stat said is regular. None: it is not, or no longer there.
    pub(super) fn read(
        &mut self,
        open: &dyn Fn() -> io::Result<OwnedFd>,
        path: &dyn Fn() -> Text,
    ) -> Result<Option<FileRead>, CaptureError> {
        let unreadable = |source| CaptureError::Unreadable { path: path(), source };
        for attempt in 1..=ATTEMPTS {
            let file = match open() {
                Ok(fd) => File::from(fd),
                Err(error) if is_gone(&error) => return Ok(None),
                Err(error) => return Err(unreadable(error)),
            };
            // What is open is what is read; opening a file of one's own that was closed to reading touches its ctime.
            let before = stat_of(&file).map_err(unreadable)?;
            if let Sink::Count(_) = self.sink {
                return Ok((before.kind() == ObjectKind::File).then(|| FileRead::unread(before)));
            }
            let content = self.read_once(&file, before, &unreadable)?;
            let after = stat_of(&file).map_err(unreadable)?;
            let stable = after.same_as(&before);
            if after.kind() != ObjectKind::File {
                self.take_back(&content);
                return Ok(None);
            }
            if stable || attempt == ATTEMPTS {
                let (xattrs, overlay) = xattr::read_with_overlay(file.as_fd()).map_err(unreadable)?;
                let Content { digest, size, .. } = content;
                let location = self.place(content)?;
                return Ok(Some(FileRead { stat: after, digest, size, location, stable, xattrs, overlay }));
            }
            self.take_back(&content);
        }
        Ok(None)
    }

    fn read_once(
        &mut self,
        file: &File,
        stat: Stat,
        unreadable: &dyn Fn(io::Error) -> CaptureError,
    ) -> Result<Content, CaptureError> {
        let size = stat.size;
        if size < LARGE_BYTES {
            let start = self.batch.bytes.len();
            self.read_into_batch(file, size).map_err(unreadable)?;
            let content = &self.batch.bytes[start..];
            let digest = Digest(Sha256::digest(content).into());
            return Ok(Content { digest, size: content.len() as u64, place: Place::Batch { start } });
        }
        match self.sink {
            Sink::Hash | Sink::Keep(..) | Sink::Count(_) => {
                let hash = if stat.is_sparse() { large::hash_sparse } else { large::hash_file };
                let digest = hash(file, size).map_err(unreadable)?;
                Ok(Content { digest, size, place: Place::Done(Location::Nothing) })
            }
            Sink::Store(storing) => {
                let stored = large::store(storing.layout, file, size, stat.is_sparse())?.map_err(unreadable)?;
                storing.note_large(stored.is_new, size);
                Ok(Content { digest: stored.digest, size, place: Place::Done(Location::Large) })
            }
        }
    }

    /// Appends the file to the batch. A file that has grown past what is small is cut there: its second stat shows
    /// that it changed.
    fn read_into_batch(&mut self, file: &File, size: u64) -> io::Result<()> {
        let start = self.batch.bytes.len();
        let expected = usize::try_from(size).map_err(io::Error::other)?;
        self.batch.bytes.reserve(expected + 1);
        loop {
            let len = rustix::io::retry_on_intr(|| rustix::io::read(file, spare_capacity(&mut self.batch.bytes)))?;
            let total = self.batch.bytes.len() - start;
            // A short read of a file on disk ends at its end; special filesystems say a size of 0.
            if len == 0 || total == expected && expected > 0 || total as u64 > LARGE_BYTES {
                return Ok(());
            }
            self.batch.bytes.reserve(4096);
        }
    }

    fn drop_small(&mut self, start: usize, location: Location) -> Location {
        self.batch.bytes.truncate(start);
        location
    }

    fn take_back(&mut self, content: &Content) {
        if let Place::Batch { start } = content.place {
            self.batch.bytes.truncate(start);
        }
    }

    fn place(&mut self, content: Content) -> Result<Location, CaptureError> {
        let start = match content.place {
            Place::Done(location) => return Ok(location),
            Place::Batch { start } => start,
        };
        let (storing, is_wanted) = match self.sink {
            Sink::Hash | Sink::Count(_) => return Ok(self.drop_small(start, Location::Nothing)),
            Sink::Store(storing) => (storing, true),
            Sink::Keep(storing, budget) => (storing, budget.take(content.size)),
        };
        if content.size == 0 || !is_wanted {
            return Ok(self.drop_small(start, Location::Nothing));
        }
        if let Some(number) = storing.find_known(&content.digest) {
            return Ok(self.drop_small(start, Location::Pack(number)));
        }
        if storing.writer.claim(content.digest) {
            storing.note_new(content.size);
            self.batch.keep(start, content.digest, &storing.writer)?;
        } else {
            self.batch.bytes.truncate(start);
        }
        Ok(Location::Own)
    }
}

/// Whether the name no longer is what it was a moment ago.
fn is_gone(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let errno = Errno::from_io_error(error);
    matches!(errno, Some(Errno::NOENT | Errno::LOOP | Errno::NXIO | Errno::NODEV))
}

//! Standard input: inherited wherever possible, captured so that a replay has it.
//!
//! A regular file is inherited and read a second time beside the agent. A pipe has to pass through agentguard: what
//! the agent leaves unread in it is then gone for whoever else shares that pipe (`< /dev/null` keeps it theirs).

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::BorrowedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use sha2::{Digest as _, Sha256};

use crate::model::Digest;
use crate::sys::descriptor::{StdinKind, stdin_kind};
use crate::sys::process::ChildStdin;

/// Bytes of standard input that are kept at most.
pub const KEPT_BYTES: u64 = 16 * 1024 * 1024;

/// How an attempt's standard input is arranged.
#[derive(Debug)]
pub enum StdinPlan {
    /// Inherited; nothing to keep.
    Inherit,
    /// Inherited; the file behind it is read a second time from this offset before the agent starts.
    Beside(u64),
    /// Passed through a pipe, kept on the way: first what an earlier attempt was given already.
    Through(Given),
    /// A file; what it holds is read a second time from its beginning before the agent starts.
    File(File),
    /// What an earlier run had.
    Recorded(File),
    /// A replay of a run that had none.
    Nothing,
}

impl StdinPlan {
    /// Looks at descriptor 0 and decides.
    pub fn observe() -> Self {
        match stdin_kind() {
            StdinKind::Terminal | StdinKind::Nothing => Self::Inherit,
            StdinKind::File => match rustix::fs::seek(rustix::stdio::stdin(), rustix::fs::SeekFrom::Current(0)) {
                Ok(offset) => Self::Beside(offset),
                Err(_) => Self::Inherit,
            },
            StdinKind::Stream => Self::Through(Given::default()),
        }
    }

    /// What the child is given.
    pub fn child(&self) -> io::Result<ChildStdin> {
        Ok(match self {
            Self::Inherit | Self::Beside(_) => ChildStdin::Inherit,
            Self::Through(_) => ChildStdin::Pipe,
            Self::File(file) | Self::Recorded(file) => ChildStdin::File(file.try_clone()?),
            Self::Nothing => ChildStdin::Null,
        })
    }
}

/// What is passed on before anything more is read from descriptor 0.
#[derive(Clone, Debug, Default)]
pub struct Given {
    /// What an earlier attempt was given.
    pub before: Vec<u8>,
    /// What was read for an earlier attempt that did not take it.
    pub untaken: Arc<Mutex<Vec<u8>>>,
}

impl StdinPlan {
    /// The same input for another attempt of the run in `dir`, of which `kept` was kept so far. False: it is not there any
    /// more.
    pub fn rewind(&mut self, dir: &Path, kept: Option<Kept>) -> io::Result<bool> {
        match self {
            Self::Inherit | Self::Nothing => {}
            Self::Beside(offset) => {
                rustix::fs::seek(rustix::stdio::stdin(), rustix::fs::SeekFrom::Start(*offset))?;
            }
            Self::File(file) | Self::Recorded(file) => io::Seek::rewind(file)?,
            Self::Through(given) => match kept {
                None => given.before.clear(),
                Some(Kept { digest: Some(_), .. }) => given.before = std::fs::read(dir.join("stdin"))?,
                Some(Kept { digest: None, .. }) => return Ok(false),
            },
        }
        Ok(true)
    }
}

/// Keeps a copy of the bytes, up to the limit, and their hash.
#[derive(Debug)]
pub struct Keep {
    path: PathBuf,
    file: Option<File>,
    hash: Sha256,
    size: u64,
    /// Why the bytes are not kept, where the disk would not take them.
    lost: Option<io::Error>,
}

/// What was kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kept {
    /// SHA-256 of the bytes; null where there were too many to keep.
    pub digest: Option<Digest>,
    /// Bytes that passed.
    pub size: u64,
}

impl Keep {
    /// Will keep into `path`; the file is made with the first byte.
    pub fn into(path: &Path) -> Self {
        Self { path: path.to_path_buf(), file: None, hash: Sha256::new(), size: 0, lost: None }
    }

    /// The next bytes. A disk that does not take them must not cut the agent's input: they are counted, and the rest
    /// is not kept.
    pub fn write(&mut self, bytes: &[u8]) {
        self.size += bytes.len() as u64;
        if self.lost.is_none() {
            self.lost = self.keep(bytes).err();
        }
    }

    fn keep(&mut self, bytes: &[u8]) -> io::Result<()> {
        use std::io::Write as _;
        if self.size > KEPT_BYTES {
            if self.file.take().is_some() {
                std::fs::remove_file(&self.path)?;
            }
            return Ok(());
        }
        if self.file.is_none() {
            let create = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&self.path)?;
            self.file = Some(create);
        }
        self.hash.update(bytes);
        match &mut self.file {
            Some(file) => file.write_all(bytes),
            None => Ok(()),
        }
    }

    /// What was kept; `None` if nothing came.
    pub fn finish(self) -> Option<Kept> {
        let whole = self.lost.is_none() && self.size <= KEPT_BYTES;
        if !whole {
            // Half an input is none; an error leaves it, and its missing digest says the same.
            let _ = std::fs::remove_file(&self.path);
        }
        let digest = whole.then(|| Digest(self.hash.finalize().into()));
        (self.size > 0).then_some(Kept { digest, size: self.size })
    }
}

/// Reads the regular file on descriptor 0 from an offset, without moving the one that the agent shares.
pub fn keep_beside(path: &Path, from: BorrowedFd<'_>, mut offset: u64) -> io::Result<Option<Kept>> {
    let mut keep = Keep::into(path);
    let mut buffer = vec![0_u8; 64 * 1024];
    loop {
        let count = rustix::io::retry_on_intr(|| rustix::io::pread(from, &mut buffer, offset))?;
        if count == 0 || keep.size > KEPT_BYTES {
            return Ok(keep.finish());
        }
        keep.write(&buffer[..count]);
        offset += count as u64;
    }
}

//! The list of agents that have run, and of what each needed. Appended to without a flush, because the next run of an
//! agent says the same; a torn line is passed over.

use std::io::{self, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{BreakerError, file, io_error};
use crate::model::Text;
use crate::rules::upstream::Needs;
use crate::sys::append_file;

/// So many lines that no longer count may stand in the list before it is written anew.
const STALE_LINES: usize = 1000;

#[derive(Serialize, Deserialize)]
struct Line {
    agent: Text,
    needs: Vec<String>,
}

fn path(dir: &Path) -> PathBuf {
    dir.join("agents")
}

pub(super) fn exists(dir: &Path) -> bool {
    path(dir).exists()
}

pub(super) fn read(dir: &Path) -> Result<Needs, BreakerError> {
    read_lines(dir).map(|(needs, _)| needs)
}

/// The agents, and how many lines there are.
fn read_lines(dir: &Path) -> Result<(Needs, usize), BreakerError> {
    let path = path(dir);
    let bytes = match std::fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(io_error("cannot read", &path)(error)),
    };
    let lines: Vec<&[u8]> = bytes.split(|byte| *byte == b'\n').collect();
    let needs = lines.iter().filter_map(|line| serde_json::from_slice::<Line>(line).ok());
    Ok((needs.map(|line| (line.agent, line.needs)).collect(), lines.len()))
}

/// Whether the agent's last line has these needs. Compares bytes: every run asks.
pub(super) fn says(dir: &Path, agent: &Text, needs: &[String]) -> bool {
    let (Ok(bytes), Ok(line)) = (std::fs::read(path(dir)), line(agent, needs)) else { return false };
    let Ok(name) = serde_json::to_vec(agent) else { return false };
    let start = [b"{\"agent\":", &name[..], b","].concat();
    let mut before = bytes.len();
    while let Some(at) = memchr::memmem::rfind(&bytes[..before], &start) {
        if at == 0 || bytes[at - 1] == b'\n' {
            return bytes[at..].starts_with(&line);
        }
        before = at;
    }
    false
}

fn line(agent: &Text, needs: &[String]) -> io::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(&Line { agent: agent.clone(), needs: needs.to_vec() })?;
    line.push(b'\n');
    Ok(line)
}

/// Adds a line, or writes the list anew where most of it no longer counts. The caller holds the lock.
pub(super) fn note(dir: &Path, agent: &Text, needs: &[String]) -> Result<(), BreakerError> {
    let (mut known, lines) = read_lines(dir)?;
    if lines > known.len() + STALE_LINES {
        known.insert(agent.clone(), needs.to_vec());
        return write(dir, &known);
    }
    let path = path(dir);
    let append = || -> io::Result<()> {
        let mut file = append_file::open(&path)?;
        let length = file.metadata()?.len();
        let mut last = [b'\n'];
        if length > 0 {
            file.read_exact_at(&mut last, length - 1)?;
        }
        let torn: &[u8] = if last == *b"\n" { b"" } else { b"\n" };
        file.write_all(&[torn, &line(agent, needs)?].concat())
    };
    append().map_err(io_error("cannot write", &path))
}

/// Writes the whole list, durably once the directory is synced.
pub(super) fn write(dir: &Path, known: &Needs) -> Result<(), BreakerError> {
    let path = path(dir);
    let lines: io::Result<Vec<Vec<u8>>> = known.iter().map(|(agent, needs)| line(agent, needs)).collect();
    lines.and_then(|lines| file::replace(dir, &path, &lines.concat())).map_err(io_error("cannot write", &path))
}

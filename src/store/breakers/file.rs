//! One breaker's file: JSON whose last field is the SHA-256 of all the bytes before it, so that a change of a single bit
//! is seen and `jq` still reads it.

use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::{BreakerError, io_error};
use crate::model::breaker::Breaker;
use crate::model::{Digest, Text};

/// The version of the file.
const SCHEMA: u32 = 1;

/// How a file's name ends.
const SUFFIX: &str = ".json";

/// Names that would be longer are hashed: a file's name may have 255 bytes.
const NAME_BYTES: usize = 200;

/// What stands between the fields and their hash, and after it.
const CHECK: (&[u8], &[u8]) = (b",\"check\":\"", b"\"}\n");

#[derive(Serialize)]
struct Written<'a> {
    schema: u32,
    #[serde(flatten)]
    breaker: &'a Breaker,
}

#[derive(Deserialize)]
struct Version {
    schema: u32,
}

/// Where an agent's breaker is kept.
pub(super) fn path_of(dir: &Path, agent: &Text) -> PathBuf {
    let mut name = String::with_capacity(agent.0.len() + SUFFIX.len());
    for (at, byte) in agent.0.iter().enumerate() {
        match byte {
            b'.' if at == 0 => name.push_str("%2E"),
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'_' | b'-' => name.push(char::from(*byte)),
            other => name.push_str(&format!("%{other:02X}")),
        }
    }
    if name.len() > NAME_BYTES {
        name = format!("%%{}", Digest(Sha256::digest(&agent.0).into()));
    }
    dir.join(name + SUFFIX)
}

/// Reads a breaker; `None` where there is no file.
pub(super) fn read(dir: &Path, agent: &Text) -> Result<Option<Breaker>, BreakerError> {
    let path = path_of(dir, agent);
    let Some(breaker) = read_file(&path)? else { return Ok(None) };
    if breaker.agent != *agent {
        return Err(BreakerError::Damaged { path, what: "it is that of another agent".to_owned() });
    }
    Ok(Some(breaker))
}

fn read_file(path: &Path) -> Result<Option<Breaker>, BreakerError> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound) => return Ok(None),
        Err(error) => return Err(io_error("cannot read", path)(error)),
    };
    let damaged = |what: &str| BreakerError::Damaged { path: path.to_path_buf(), what: what.to_owned() };
    let body = checked(&bytes).ok_or_else(|| damaged("its hash does not match"))?;
    let version: Version = serde_json::from_slice(&body).map_err(|error| damaged(&error.to_string()))?;
    if version.schema > SCHEMA {
        return Err(BreakerError::Newer { path: path.to_path_buf(), found: version.schema });
    }
    serde_json::from_slice(&body).map(Some).map_err(|error| damaged(&error.to_string()))
}

/// The JSON without its hash, if that matches.
fn checked(bytes: &[u8]) -> Option<Vec<u8>> {
    const HEX: usize = 64;
    let rest = bytes.strip_suffix(CHECK.1)?;
    let (rest, hash) = rest.split_at_checked(rest.len().checked_sub(HEX)?)?;
    let fields = rest.strip_suffix(CHECK.0)?;
    (hash_of(fields).as_bytes() == hash).then(|| [fields, b"}"].concat())
}

fn hash_of(fields: &[u8]) -> String {
    Digest(Sha256::digest(fields).into()).to_string()
}

/// Replaces a breaker's file. Its content is durable; its name is once the directory is synced.
pub(super) fn write(dir: &Path, breaker: &Breaker) -> Result<(), BreakerError> {
    let path = path_of(dir, &breaker.agent);
    let serialised = serde_json::to_vec(&Written { schema: SCHEMA, breaker });
    let mut bytes = serialised.map_err(|error| io_error("cannot write", &path)(error.into()))?;
    bytes.pop();
    let hash = hash_of(&bytes);
    for part in [CHECK.0, hash.as_bytes(), CHECK.1] {
        bytes.extend_from_slice(part);
    }
    replace(dir, &path, &bytes).map_err(io_error("cannot write", &path))
}

/// Replaces a file by one with these bytes, in one step. The caller holds the lock: the temporary name is always the same.
pub(super) fn replace(dir: &Path, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = dir.join("new");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&temporary, path)
}

/// What is wrong with the files, each in words.
pub(super) fn check_all(dir: &Path) -> Vec<String> {
    let problem = |path: PathBuf| match read_file(&path) {
        Ok(Some(breaker)) if path_of(dir, &breaker.agent) != path => {
            Some(format!("{path:?} has the name of another agent"))
        }
        Ok(_) => None,
        Err(error) => Some(error.to_string()),
    };
    files(dir).map_or_else(|_| Vec::new(), |files| files.into_iter().filter_map(problem).collect())
}

/// The agents that have a file, by name; one whose file is damaged is missing.
pub(super) fn agents(dir: &Path) -> Result<Vec<Text>, BreakerError> {
    let files = files(dir).map_err(io_error("cannot read", dir))?;
    let mut agents: Vec<Text> =
        files.iter().filter_map(|path| read_file(path).ok()?).map(|breaker| breaker.agent).collect();
    agents.sort();
    Ok(agents)
}

fn files(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        if path.as_os_str().as_encoded_bytes().ends_with(SUFFIX.as_bytes()) {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_agent_has_a_file_name_of_its_own() {
        let dir = Path::new("/b");
        let name = |agent: &[u8]| path_of(dir, &Text(agent.to_vec())).file_name().expect("a name").len();
        assert_eq!(path_of(dir, &Text::from("fetch")), Path::new("/b/fetch.json"));
        assert_eq!(path_of(dir, &Text::from("a/b c")), Path::new("/b/a%2Fb%20c.json"));
        assert_eq!(path_of(dir, &Text::from("..")), Path::new("/b/%2E..json"));
        assert_ne!(path_of(dir, &Text::from("a%2Fb")), path_of(dir, &Text::from("a/b")));
        assert!(name(&[b'x'; 4000]) < 255 && name(&[b'/'; 100]) < 255);
        assert_ne!(path_of(dir, &Text(vec![b'x'; 400])), path_of(dir, &Text(vec![b'x'; 401])));
    }
}

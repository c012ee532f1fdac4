//! `agentguard import`: runs from bundles join the log of this project.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use crate::run::resolve::Surroundings;
use crate::store::bundle::{self, Imported};
use crate::store::state_dir::StateDir;

use super::render::escape;

/// What was asked.
#[derive(Clone, Debug)]
pub struct ImportRequest {
    /// Where.
    pub at: Surroundings,
    /// The bundles; `-` is standard input.
    pub files: Vec<PathBuf>,
    /// The most that each may unpack to, in bytes.
    pub limit: u64,
}

/// Imports the bundles one after the other; each of them whole or not at all.
pub fn import(request: &ImportRequest, out: &mut dyn Write) -> anyhow::Result<()> {
    let state = StateDir::open_or_create(&request.at.state)?;
    for file in &request.files {
        let Imported { new, same } = import_file(&state, file, request.limit)?;
        for run in new {
            writeln!(out, "imported run {run}: agentguard replay {}", run.short())?;
        }
        for run in same {
            writeln!(out, "run {run} is here already, the same")?;
        }
    }
    Ok(())
}

/// Imports one bundle.
pub fn import_file(state: &StateDir, file: &Path, limit: u64) -> anyhow::Result<Imported> {
    let named = || format!("cannot import {}", escape(file.as_os_str().as_encoded_bytes()));
    let mut from: Box<dyn Read> = if file == Path::new("-") {
        Box::new(io::stdin().lock())
    } else {
        Box::new(File::open(file).with_context(named)?)
    };
    bundle::import(state, &mut from, limit).with_context(named)
}

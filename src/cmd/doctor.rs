//! `agentguard doctor`: which isolation works here, what is missing, and the exact command that fixes it.

use std::io::Write;

use anyhow::Context as _;

use crate::run::resolve::Surroundings;
use crate::store::state_dir::{StateDir, make_private_directory};
use crate::sys::inside::Starter;
use crate::view::facilities::{Facility, Finding, Kind, probe};

use super::recover::Health;
use super::render::escape;

/// Tries every facility and says what came of it. Unwell: an agent cannot be given a view at its project's own path.
pub fn doctor(at: &Surroundings, out: &mut dyn Write) -> anyhow::Result<Health> {
    let starter = Starter::new().context("cannot start a process")?;
    let state = StateDir::open_or_create(&at.state)?;
    let place = make_private_directory(&state.trash())
        // What a crash leaves there is swept like anything else that was thrown away.
        .and_then(|()| tempfile::Builder::new().prefix("doctor-").tempdir_in(state.trash()))
        .context("cannot make a directory to try things in")?;
    let facilities = probe(&starter, &at.project, place.path()).context("cannot try what works here")?;
    place.close().context("cannot remove the directory things were tried in")?;
    let mut told = None;
    for facility in &facilities {
        line(facility, &mut told, out)?;
    }
    writeln!(out)?;
    let works = |kind: Kind| facilities.iter().any(|one| one.kind == kind && one.works());
    let (overlay, mounts, landlock) = (works(Kind::Overlay), works(Kind::Mounts), works(Kind::Landlock));
    let workspace = match (overlay, mounts, landlock) {
        (true, _, _) => "overlay: the agent works on the project's own path, set-up takes no time",
        (false, true, _) => "clone: the agent works on the project's own path, in a private copy",
        (false, false, true) => "clone: a private copy at another path; the project itself is closed (Landlock)",
        (false, false, false) => "clone: a private copy at another path; absolute paths still lead to the project",
    };
    writeln!(out, "workspace runs      {workspace}")?;
    let publish = if overlay {
        "the rest of the project is a throwaway layer"
    } else {
        "the agent writes to the project itself where it does not write to staging"
    };
    writeln!(out, "runs with --out     {publish}")?;
    let strict = if landlock && mounts { "works" } else { "is refused: it needs mounts and Landlock" };
    writeln!(out, "--isolation strict  {strict}")?;
    writeln!(out, "never contained     reads; without strict, writes outside of the project; processes of root")?;
    Ok(if mounts { Health::Well } else { Health::Unwell })
}

/// One facility; what lifts a blocker is told once where the same one is met again.
fn line<'a>(facility: &'a Facility, told: &mut Option<&'a str>, out: &mut dyn Write) -> std::io::Result<()> {
    let name = name(facility.kind);
    match &facility.finding {
        Finding::Works(None) => writeln!(out, "{name:18}  works"),
        Finding::Works(Some(note)) => writeln!(out, "{name:18}  works ({})", escape(note.as_bytes())),
        Finding::Missing { why, fix } => {
            writeln!(out, "{name:18}  missing: {}", escape(why.as_bytes()))?;
            let news = fix.as_deref().filter(|fix| *told != Some(*fix));
            *told = fix.as_deref().or(*told);
            news.iter().try_for_each(|fix| writeln!(out, "{:18}  try: {}", "", escape(fix.as_bytes())))
        }
    }
}

fn name(kind: Kind) -> &'static str {
    match kind {
        Kind::UserNamespace => "user namespace",
        Kind::Mounts => "mounts",
        Kind::Overlay => "overlay",
        Kind::DirectoryRenames => "directory renames",
        Kind::Network => "network namespace",
        Kind::Landlock => "Landlock",
        Kind::Reflink => "reflink",
        Kind::Exchange => "exchange of names",
        Kind::Pids => "PID namespace",
        Kind::CgroupKill => "cgroup kill",
    }
}

//! The rows of workspace mode: runs that change a project in place.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use agentguard::store::state_dir::STATE_NAME;
use anyhow::Context as _;

use crate::place::{LARGE, Place, SMALL, Tree, copy};
use crate::rows::{git_in, plain, prepared, program};
use crate::timing::Side;

const FEW: Tree = Tree::new("20", 20, 20_000, 5);

/// Past the time in which the stat of a new file says little about its content, for git as for us.
fn grow_old(place: &Place) -> anyhow::Result<()> {
    place.settle()?;
    std::thread::sleep(Duration::from_secs(2));
    Ok(())
}

/// A run in a repository that has seen one: stat cache and baseline are there.
fn warm(place: &Place, repository: &Path) -> anyhow::Result<()> {
    grow_old(place)?;
    place.run(&mut git_in(repository, &["update-index", "-q", "--refresh"]))?;
    place.run(&mut run(place, repository, &[], &[OsStr::new("true")]))
}

fn run(place: &Place, repository: &Path, options: &[&str], agent: &[&OsStr]) -> Command {
    let mut command = place.agentguard(repository);
    command.args(["run", "--quiet"]).args(options).arg("--").args(agent);
    command
}

/// An agent that appends a line to so many files.
fn edit<'a>(place: &'a Place, count: &'a str) -> [&'a OsStr; 4] {
    [place.own().as_os_str(), OsStr::new("__edit"), OsStr::new("."), OsStr::new(count)]
}

/// A decision about the newest run.
fn decide(place: &Place, repository: &Path, word: &str) -> Command {
    let mut command = place.agentguard(repository);
    command.args([word, "@"]);
    command
}

/// What a run costs that does nothing, in a project of 20 files.
pub(crate) fn nothing(place: &Place) -> anyhow::Result<[Side<'_>; 2]> {
    let repository = place.repository(FEW, "ws-20")?;
    warm(place, &repository)?;
    let ours = move || run(place, &repository, &["--view", "overlay"], &[OsStr::new("true")]);
    Ok([plain(|| program("bwrap", ["--dev-bind", "/", "/", "true"])), plain(ours)])
}

/// The same in a large one: its snapshot is warm, and its drift is looked for afterwards.
pub(crate) fn nothing_in(place: &Place, tree: Tree) -> anyhow::Result<[Side<'_>; 2]> {
    let repository = place.repository(tree, &format!("ws-{}", tree.name()))?;
    warm(place, &repository)?;
    let ours = {
        let repository = repository.clone();
        move || run(place, &repository, &["--view", "overlay"], &[OsStr::new("true")])
    };
    Ok([plain(move || git_in(&repository, &["status", "--porcelain"])), plain(ours)])
}

/// Making the private copy of a tree, where blocks cannot be shared.
pub(crate) fn clone_view(place: &Place) -> anyhow::Result<[Side<'_>; 2]> {
    let tree = place.tree(SMALL)?;
    let (theirs, ours) = (place.path("clone-theirs"), place.path("clone-ours"));
    let begin = {
        let (theirs, ours) = (theirs.clone(), ours.clone());
        move || place.clear(&[&theirs, &ours])
    };
    let source = tree.clone();
    Ok([
        prepared(begin.clone(), move || copy(&source, &theirs)),
        prepared(begin, move || place.errand([OsStr::new("__clone"), tree.as_os_str(), ours.as_os_str()])),
    ])
}

/// A held result of `count` changed files that is applied, against a commit of the same changes.
pub(crate) fn publish<'a>(place: &'a Place, count: &'static str) -> anyhow::Result<[Side<'a>; 2]> {
    let (theirs, ours) = (place.repository(SMALL, "ws-git")?, place.repository(SMALL, "ws-10k")?);
    warm(place, &ours)?;
    let committed = theirs.clone();
    let change = move || {
        place.run(place.errand([OsStr::new("__edit"), theirs.as_os_str()]).arg(count))?;
        grow_old(place)
    };
    let begin = move || begin_decision(place, &ours, count);
    let applied = place.path("ws-10k");
    Ok([
        prepared(change, move || git_in(&committed, &["commit", "-q", "-a", "-m", "changed"])),
        prepared(begin, move || decide(place, &applied, "apply")),
    ])
}

/// An agent has changed `count` files, and the result waits.
fn begin_decision(place: &Place, repository: &Path, count: &str) -> anyhow::Result<()> {
    empty_trash(repository)?;
    place.run(&mut run(place, repository, &["--hold", "--view", "overlay"], &edit(place, count)))?;
    grow_old(place)
}

/// Removing what earlier rounds displaced is nobody's wait.
fn empty_trash(repository: &Path) -> anyhow::Result<()> {
    for displaced in fs::read_dir(repository.join(STATE_NAME).join("trash")).into_iter().flatten() {
        crate::place::remove(&displaced?.path())?;
    }
    Ok(())
}

/// What dropping 10,000 staged files costs whoever asks for it.
pub(crate) fn discard(place: &Place) -> anyhow::Result<[Side<'_>; 2]> {
    let repository = place.repository(SMALL, "ws-10k")?;
    warm(place, &repository)?;
    let dropped = repository.clone();
    let begin = move || begin_decision(place, &repository, "10000");
    Ok([plain(|| program("sleep", ["0.02"])), prepared(begin, move || decide(place, &dropped, "discard"))])
}

/// The same thousand changes in a large tree and in a small one.
pub(crate) fn publish_in_large(place: &Place) -> anyhow::Result<[Side<'_>; 2]> {
    let side = |tree: Tree, name: &str| -> anyhow::Result<Side<'_>> {
        let repository = place.repository(tree, name)?;
        warm(place, &repository)?;
        let applied = repository.clone();
        let begin = move || begin_decision(place, &repository, "1000");
        Ok(prepared(begin, move || decide(place, &applied, "apply")))
    };
    Ok([side(SMALL, "ws-10k")?, side(LARGE, "ws-100k")?])
}

/// A replay where ten files are no longer what they were, against a run.
pub(crate) fn replay(place: &Place) -> anyhow::Result<[Side<'_>; 2]> {
    let repository = place.repository(SMALL, "ws-10k")?;
    warm(place, &repository)?;
    let id = newest(&repository)?;
    let (edited, replayed) = (repository.clone(), repository.clone());
    let change = move || {
        place.run(place.errand([OsStr::new("__edit"), edited.as_os_str()]).arg("10"))?;
        grow_old(place)
    };
    let ours = move || {
        let mut command = place.agentguard(&replayed);
        command.args(["replay", "--quiet", &id]);
        command
    };
    Ok([prepared(change.clone(), move || run(place, &repository, &[], &[OsStr::new("true")])), prepared(change, ours)])
}

/// The id of the newest run in a log.
fn newest(repository: &Path) -> anyhow::Result<String> {
    let log = fs::read_to_string(repository.join(STATE_NAME).join("runs.jsonl"))?;
    let id = log.lines().last().and_then(|line| line.split("\"run_id\":\"").nth(1)?.split('"').next());
    Ok(id.context("a run in the log")?.to_owned())
}

/// One line more in a file of 4 GB.
pub(crate) fn huge_file(place: &Place) -> anyhow::Result<[Side<'_>; 2]> {
    let project: PathBuf = place.project("ws-4gb")?;
    let (big, copied) = (project.join("big.bin"), place.path("ws-4gb.copy"));
    place.run(place.errand([OsStr::new("__random_file"), big.as_os_str()]).arg("4294967296"))?;
    grow_old(place)?;
    let gone = copied.clone();
    let ours = move || {
        let script = OsStr::new("echo more >> big.bin");
        run(place, &project, &["--snapshot-limit", "100GiB"], &[OsStr::new("sh"), OsStr::new("-c"), script])
    };
    Ok([prepared(move || place.clear(&[&gone]), move || copy(&big, &copied)), plain(ours)])
}

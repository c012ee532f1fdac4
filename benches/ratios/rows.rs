//! The rows: what is compared with what, and how close it is to be.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use agentguard::store::state_dir::STATE_NAME;

use crate::errands::record_id;
use crate::place::{AGENTGUARD, LARGE, Place, SMALL, SMALL_OTHER, Tree, copy, is_installed, quoted, remove, shell};
use crate::report::Outcome;
use crate::timing::{Side, interleaved};
use crate::{observing, supervision, workspaces};

/// How a ratio is to be read.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Goal {
    /// Our time to the yardstick's.
    TimeAtMost(f64),
    /// Our rate to the yardstick's.
    RateAtLeast(f64),
    /// As `TimeAtMost`, to be known and not to be judged.
    Time,
    /// As `RateAtLeast`, to be known and not to be judged.
    Rate,
}

/// One row of the table.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RowSpec {
    pub(crate) name: &'static str,
    pub(crate) yardstick: &'static str,
    /// What must be installed.
    pub(crate) needs: &'static str,
    pub(crate) goal: Goal,
    /// Most memory, where that is a goal.
    pub(crate) peak_mib: Option<f64>,
    /// Light commands vary more and cost less: so many times the rounds.
    pub(crate) times: u32,
    /// Left out of a quick run.
    pub(crate) big: bool,
    build: fn(&Place) -> anyhow::Result<[Side<'_>; 2]>,
}

const ROW: RowSpec = RowSpec {
    name: "",
    yardstick: "",
    needs: "sh",
    goal: Goal::Time,
    peak_mib: None,
    times: 1,
    big: false,
    build: start_up,
};

/// Every row, in the order of the table of goals.
pub(crate) const ROWS: [RowSpec; 31] = [
    RowSpec { name: "--version", yardstick: "true", goal: Goal::TimeAtMost(1.5), times: 30, build: start_up, ..ROW },
    RowSpec {
        name: "run -- true, 1 KiB input",
        yardstick: "bwrap -- true",
        needs: "bwrap",
        goal: Goal::TimeAtMost(1.7),
        times: 10,
        build: run_nothing,
        ..ROW
    },
    RowSpec {
        name: "snapshot cold 10k files",
        yardstick: "cp -a, no sync",
        goal: Goal::TimeAtMost(0.65),
        build: |place| cold_tree(place, SMALL),
        ..ROW
    },
    RowSpec {
        name: "snapshot cold 100k files",
        yardstick: "cp -a, no sync",
        goal: Goal::TimeAtMost(0.65),
        peak_mib: Some(64.0),
        big: true,
        build: |place| cold_tree(place, LARGE),
        ..ROW
    },
    RowSpec {
        name: "snapshot cold 1 GiB file",
        yardstick: "openssl sha256",
        needs: "openssl",
        goal: Goal::TimeAtMost(2.5),
        peak_mib: Some(24.0),
        big: true,
        build: cold_file,
        ..ROW
    },
    RowSpec {
        name: "snapshot warm 10k files",
        yardstick: "git status",
        needs: "git",
        goal: Goal::TimeAtMost(1.2),
        times: 4,
        build: |place| warm_tree(place, SMALL),
        ..ROW
    },
    RowSpec {
        name: "snapshot warm 100k files",
        yardstick: "git status",
        needs: "git",
        goal: Goal::TimeAtMost(1.2),
        times: 2,
        big: true,
        build: |place| warm_tree(place, LARGE),
        ..ROW
    },
    RowSpec {
        name: "publish 10k files, new target",
        yardstick: "cp -a, no sync",
        goal: Goal::TimeAtMost(0.65),
        build: |place| publish(place, None),
        ..ROW
    },
    RowSpec {
        name: "publish 10k files over 10k files",
        yardstick: "cp -a, no sync",
        build: |place| publish(place, Some(SMALL_OTHER)),
        ..ROW
    },
    RowSpec {
        name: "log append, 8 writers, lines/s",
        yardstick: "1 bare writer",
        goal: Goal::RateAtLeast(2.5),
        build: |place| append(place, "__append_plainly"),
        ..ROW
    },
    RowSpec {
        name: "log append, 8 writers to 1 of ours",
        yardstick: "1 writer of ours",
        goal: Goal::Rate,
        build: |place| append(place, "__append"),
        ..ROW
    },
    RowSpec {
        name: "log -n 20 of 1,000,000",
        yardstick: "tail -n 20",
        goal: Goal::TimeAtMost(2.0),
        times: 10,
        build: log_newest,
        ..ROW
    },
    RowSpec {
        name: "show RUN of 1,000,000",
        yardstick: "rg -F RUN",
        needs: "rg",
        goal: Goal::TimeAtMost(1.0),
        times: 3,
        build: show_run,
        ..ROW
    },
    RowSpec {
        name: "stats of 1,000,000",
        yardstick: "duckdb",
        needs: "duckdb",
        goal: Goal::TimeAtMost(1.0),
        peak_mib: Some(64.0),
        times: 2,
        build: observing::stats,
        ..ROW
    },
    RowSpec {
        name: "log with a filter of 1,000,000, 100 pass",
        yardstick: "rg -F",
        needs: "rg",
        goal: Goal::TimeAtMost(2.0),
        times: 3,
        build: observing::filter,
        ..ROW
    },
    RowSpec {
        name: "listening to 300 MB of an agent",
        yardstick: "--usage off",
        goal: Goal::TimeAtMost(1.1),
        times: 2,
        build: observing::listening,
        ..ROW
    },
    RowSpec {
        name: "relay of 1 GB, captured",
        yardstick: "tee FILE",
        goal: Goal::TimeAtMost(0.8),
        peak_mib: Some(64.0),
        build: relay,
        ..ROW
    },
    RowSpec {
        name: "supervision: a blocked run",
        yardstick: "agentguard --version",
        goal: Goal::TimeAtMost(3.0),
        times: 10,
        build: supervision::blocked,
        ..ROW
    },
    RowSpec {
        name: "supervision: 1,000 processes ended, namespace",
        yardstick: "the same that end by themselves",
        needs: "python3",
        build: |place| supervision::thousand(place, ""),
        ..ROW
    },
    RowSpec {
        name: "supervision: 1,000 processes ended, subreaper",
        yardstick: "the same that end by themselves",
        needs: "python3",
        build: |place| supervision::thousand(place, "--isolation none"),
        ..ROW
    },
    RowSpec {
        name: "supervision: 100 MB on a terminal, captured",
        yardstick: "script -qc",
        needs: "script",
        goal: Goal::TimeAtMost(0.7),
        peak_mib: Some(64.0),
        build: supervision::terminal,
        ..ROW
    },
    RowSpec {
        name: "workspace: run -- true, 20 files",
        yardstick: "bwrap -- true",
        needs: "bwrap",
        goal: Goal::TimeAtMost(2.0),
        times: 10,
        build: workspaces::nothing,
        ..ROW
    },
    RowSpec {
        name: "workspace: run -- true, 10k files",
        yardstick: "git status",
        needs: "git",
        goal: Goal::TimeAtMost(3.0),
        peak_mib: Some(80.0),
        times: 3,
        build: |place| workspaces::nothing_in(place, SMALL),
        ..ROW
    },
    RowSpec {
        name: "workspace: run -- true, 100k files",
        yardstick: "git status",
        needs: "git",
        goal: Goal::TimeAtMost(3.0),
        peak_mib: Some(80.0),
        big: true,
        build: |place| workspaces::nothing_in(place, LARGE),
        ..ROW
    },
    RowSpec {
        name: "workspace: copy of 10k files",
        yardstick: "cp -a, no sync",
        goal: Goal::TimeAtMost(0.8),
        build: workspaces::clone_view,
        ..ROW
    },
    RowSpec {
        name: "workspace: apply 1,000 of 10k",
        yardstick: "git commit",
        needs: "git",
        goal: Goal::TimeAtMost(0.2),
        build: |place| workspaces::publish(place, "1000"),
        ..ROW
    },
    RowSpec {
        name: "workspace: apply 10,000 of 10k",
        yardstick: "git commit",
        needs: "git",
        goal: Goal::TimeAtMost(0.35),
        build: |place| workspaces::publish(place, "10000"),
        ..ROW
    },
    RowSpec {
        name: "workspace: discard 10,000",
        yardstick: "sleep 0.02",
        goal: Goal::TimeAtMost(1.0),
        build: workspaces::discard,
        ..ROW
    },
    RowSpec {
        name: "workspace: apply 1,000 of 100k",
        yardstick: "1,000 of 10k",
        needs: "git",
        goal: Goal::TimeAtMost(1.2),
        big: true,
        build: workspaces::publish_in_large,
        ..ROW
    },
    RowSpec {
        name: "workspace: replay, 10 files changed",
        yardstick: "run -- true",
        needs: "git",
        goal: Goal::TimeAtMost(1.2),
        times: 2,
        build: workspaces::replay,
        ..ROW
    },
    RowSpec {
        name: "workspace: one changed 4 GB file",
        yardstick: "cp -a, no sync",
        peak_mib: Some(80.0),
        big: true,
        build: workspaces::huge_file,
        ..ROW
    },
];

/// Measures one row.
pub(crate) fn measure(row: &RowSpec, place: &Place, rounds: u32) -> Outcome {
    if !is_installed(row.needs) {
        return Outcome::Skipped(row.needs);
    }
    let measured = (row.build)(place).and_then(|sides| interleaved(&sides, rounds, &place.errors()));
    measured.map_or_else(Outcome::Failed, Outcome::Measured)
}

/// A side that needs nothing before each run.
pub(crate) fn plain<'a>(command: impl Fn() -> Command + 'a) -> Side<'a> {
    prepared(|| Ok(()), command)
}

pub(crate) fn prepared<'a>(
    prepare: impl Fn() -> anyhow::Result<()> + 'a,
    command: impl Fn() -> Command + 'a,
) -> Side<'a> {
    Side { prepare: Box::new(prepare), command: Box::new(command) }
}

/// A program and its arguments.
pub(crate) fn program<I: AsRef<OsStr>>(name: &str, arguments: impl IntoIterator<Item = I>) -> Command {
    let mut command = Command::new(name);
    command.args(arguments);
    command
}

fn start_up(_: &Place) -> anyhow::Result<[Side<'_>; 2]> {
    Ok([plain(|| Command::new("true")), plain(|| program(AGENTGUARD, ["--version"]))])
}

/// What a run costs that does nothing: snapshot, staging, journal, record, all durable.
fn run_nothing(place: &Place) -> anyhow::Result<[Side<'_>; 2]> {
    let project = place.project("run")?;
    fs::write(project.join("input.txt"), [b'x'; 1024])?;
    let command = move || {
        let mut command = place.agentguard(&project);
        command.args(["run", "--quiet", "--input", "input.txt", "--out", "d", "--", "true"]);
        command
    };
    // Past the time in which the stat of a new file says little about its content.
    place.settle()?;
    std::thread::sleep(Duration::from_secs(2));
    Ok([plain(|| program("bwrap", ["--dev-bind", "/", "/", "true"])), plain(command)])
}

fn snapshot(place: &Place, state: &Path, tree: &Path, kind: &str) -> Command {
    place.errand([OsStr::new("__snapshot"), state.as_os_str(), tree.as_os_str(), OsStr::new(kind)])
}

/// A first snapshot: nothing is in the store; the sources are in the page cache.
fn cold_tree(place: &Place, tree: Tree) -> anyhow::Result<[Side<'_>; 2]> {
    let tree = place.tree(tree)?;
    let (copied, state) = (place.path("cold-copy"), place.path("cold-state"));
    let empty = {
        let (copied, state) = (copied.clone(), state.clone());
        move || place.clear(&[&copied, &state])
    };
    let source = tree.clone();
    Ok([
        prepared(empty.clone(), move || copy(&source, &copied)),
        prepared(empty, move || snapshot(place, &state, &tree, "new")),
    ])
}

fn cold_file(place: &Place) -> anyhow::Result<[Side<'_>; 2]> {
    let (dir, state) = (place.gibibyte()?, place.path("cold-state"));
    let file = dir.join("big.bin");
    let hash = move || {
        let mut command = program("openssl", ["dgst", "-sha256"]);
        command.arg(&file);
        command
    };
    let emptied = state.clone();
    Ok([plain(hash), prepared(move || place.clear(&[&emptied]), move || snapshot(place, &state, &dir, "new"))])
}

/// A snapshot of a tree that has not changed since the last one.
fn warm_tree(place: &Place, tree: Tree) -> anyhow::Result<[Side<'_>; 2]> {
    let (tree, state, repository) = (place.tree(tree)?, place.path("warm-state"), place.path("warm-repository"));
    place.clear(&[&state, &repository])?;
    let git = {
        let tree = tree.clone();
        move |arguments: &[&str]| git(&repository, &tree, arguments)
    };
    for step in [&["init", "-q"][..], &["add", "-A"], &["commit", "-q", "-m", "all"]] {
        place.run(&mut git(step))?;
    }
    place.settle()?;
    // Past the time in which both sides distrust the stat of a file that is new.
    std::thread::sleep(Duration::from_secs(2));
    place.run(&mut git(&["update-index", "-q", "--refresh"]))?;
    place.run(&mut snapshot(place, &state, &tree, "new"))?;
    place.settle()?;
    Ok([plain(move || git(&["status", "--porcelain"])), plain(move || snapshot(place, &state, &tree, "old"))])
}

/// Git in its own work tree.
pub(crate) fn git_in(repository: &Path, arguments: &[&str]) -> Command {
    git(&repository.join(".git"), repository, arguments)
}

/// Git with its repository beside the tree, so that the tree is the same for both sides, and no configuration.
fn git(repository: &Path, tree: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new("git");
    command.current_dir(tree).env("GIT_DIR", repository).env("GIT_WORK_TREE", tree);
    command.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_NOSYSTEM", "1");
    for role in ["AUTHOR", "COMMITTER"] {
        command.env(format!("GIT_{role}_NAME"), "bench").env(format!("GIT_{role}_EMAIL"), "bench@localhost");
    }
    command.args(["-c", "gc.auto=0"]).args(arguments);
    command
}

/// Publishing a directory that an agent has just written: the staged files are still dirty in the page cache.
fn publish(place: &Place, over: Option<Tree>) -> anyhow::Result<[Side<'_>; 2]> {
    let (source, project) = (place.tree(SMALL)?, place.project("publish")?);
    let over = over.map(|tree| place.tree(tree)).transpose()?;
    let (copied, written) = (place.path("publish-copy"), place.path("publish-written"));
    let agent = format!("mv {}/* \"$AGENTGUARD_STAGING\"", quoted(&written)?);
    let target = project.join("target");
    // Removing what earlier rounds displaced is nobody's wait, see `GRACE`.
    let gone = [copied.clone(), written.clone(), target.clone(), project.join(STATE_NAME).join("trash")];
    let begin = {
        let source = source.clone();
        move |is_ours: bool| begin_publish(place, &gone, &source, over.as_deref().filter(|_| is_ours), is_ours)
    };
    let begin_ours = begin.clone();
    let command = move || {
        let mut command = place.agentguard(&project);
        command.args(["run", "--quiet", "--out", "target", "--", "sh", "-c", &agent]);
        command
    };
    Ok([prepared(move || begin(false), move || copy(&source, &copied)), prepared(move || begin_ours(true), command)])
}

/// Clears what the last round has made (`gone`: copy, written, target, trash) and lets the agent write anew.
fn begin_publish(
    place: &Place,
    gone: &[PathBuf; 4],
    source: &Path,
    over: Option<&Path>,
    is_ours: bool,
) -> anyhow::Result<()> {
    let [copied, written, target, trash] = gone;
    for displaced in fs::read_dir(trash).into_iter().flatten() {
        remove(&displaced?.path())?;
    }
    place.clear(&[copied, written, target])?;
    if let Some(over) = over {
        place.copy(over, target)?;
        place.settle()?;
    }
    if is_ours { place.copy(source, written) } else { Ok(()) }
}

/// Lines per round of the append rows.
const APPENDED: &str = "1600";

fn append<'a>(place: &'a Place, yardstick: &'static str) -> anyhow::Result<[Side<'a>; 2]> {
    let state = place.path("append");
    let begin = {
        let state = state.clone();
        move || {
            remove(&state)?;
            fs::create_dir(&state)?;
            place.settle()
        }
    };
    let plainly = state.join("plain");
    let single = state.clone();
    let theirs = move || {
        let path = if yardstick == "__append" { &single } else { &plainly };
        let mut command = place.errand([OsStr::new(yardstick), path.as_os_str()]);
        command.args([APPENDED, "1"]);
        command
    };
    let ours = move || {
        let mut command = place.errand([OsStr::new("__append"), state.as_os_str()]);
        command.args([APPENDED, "8"]);
        command
    };
    Ok([prepared(begin.clone(), theirs), prepared(begin, ours)])
}

/// Records in the log of the query rows.
pub(crate) const RECORDS: u64 = 1_000_000;

fn log_newest(place: &Place) -> anyhow::Result<[Side<'_>; 2]> {
    let state = place.log(RECORDS)?;
    let log = state.join("runs.jsonl");
    let tail = move || {
        let mut command = program("tail", ["-n", "20"]);
        command.arg(&log);
        command
    };
    let ours = move || {
        let mut command = place.agentguard(place.root());
        command.arg("--state-dir").arg(&state).args(["log", "-n", "20"]);
        command
    };
    Ok([plain(tail), plain(ours)])
}

fn show_run(place: &Place) -> anyhow::Result<[Side<'_>; 2]> {
    let state = place.log(RECORDS)?;
    let log = state.join("runs.jsonl");
    let run = record_id(RECORDS / 2).to_string();
    let searched = run.clone();
    let search = move || {
        let mut command = program("rg", ["-F", &searched]);
        command.arg(&log);
        command
    };
    let ours = move || {
        let mut command = place.agentguard(place.root());
        command.arg("--state-dir").arg(&state).args(["show", &run]);
        command
    };
    Ok([plain(search), plain(ours)])
}

/// What an agent prints goes on to a pipe and is kept at the same time.
fn relay(place: &Place) -> anyhow::Result<[Side<'_>; 2]> {
    const AGENT: &str = "head -c 1000000000 /dev/zero";
    let (project, file) = (place.project("relay")?, place.path("relay.out"));
    let tee = format!("{AGENT} | tee {} | cat >/dev/null", quoted(&file)?);
    // The shell reports the pipeline's last command only, so a failure of the first ends the shell itself.
    let guard = quoted(Path::new(AGENTGUARD))?;
    let guarded = format!("{{ {guard} run --quiet --out d -- {AGENT} || kill $$; }} | cat >/dev/null");
    let ours = move || {
        let mut command = shell(guarded.clone());
        command.current_dir(&project).env_remove("AGENTGUARD_STATE_DIR");
        command
    };
    let begin = move || place.clear(&[&file]);
    Ok([prepared(begin.clone(), move || shell(tee.clone())), prepared(begin, ours)])
}

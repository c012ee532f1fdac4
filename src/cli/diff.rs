//! `agentguard diff`: its options, and where its answer goes.

use std::ffi::OsString;
use std::io::{self, IsTerminal as _};
use std::path::Path;
use std::process::ExitCode;

use anyhow::bail;
use clap::{ArgGroup, Args};

use crate::cmd::diff::{CompareForm, DiffForm, DiffRequest, Names, Reader, Style, compare, diff};
use crate::cmd::render::escape;
use crate::cmd::run::surroundings;
use crate::store::state_dir::StateDir;

use super::args::When;
use super::pager::{Paging, paged};
use super::terminal::{paint, say, width};

/// There are changes, and the question was whether (`--exit-code`).
const CHANGED: u8 = 1;

/// Options of `agentguard diff`.
#[derive(Debug, Args)]
#[command(group(ArgGroup::new("form").multiple(false)))]
#[command(group(ArgGroup::new("list").multiple(false)))]
#[command(after_long_help = "\
Examples:
  agentguard diff @                       (what the newest run changed, or would have)
  agentguard diff 7f3a91c2 --stat
  agentguard diff @ -- src '*.toml'       (only these)
  agentguard diff @ | git apply -R        (take it back by hand)
  agentguard diff @ --name-only -z | xargs -0 ls -ld
  agentguard diff @-1 @                   (how the newest run differs from the one before)

The patch is one that `git apply` and `patch -p1` take. Its lines that begin with # say what such a patch has no words for:
empty directories, fifos, and modes beyond git's 0644 and 0755. A path that was renamed is shown as deleted and created.
A content that has changed since and was not kept is said to be `content not kept`; nothing is shown that does not have
the hash that the run recorded. In publish mode what the outputs replaced is not kept: all of them are shown as new.

PATH is relative to the current directory where that is in the workspace, else to the workspace; `*` matches slashes too.

The pager is $AGENTGUARD_PAGER, else $PAGER, else less; an empty one, or cat, is none.

Exits with 0; with --exit-code with 1 if there are changes.")]
pub struct DiffArgs {
    /// Run id, a unique prefix or suffix of one, @ (newest), @-1, @failed
    #[arg(value_name = "RUN", required = true, num_args = 1..=2)]
    pub runs: Vec<String>,
    /// Show a graph of how much changed in each file
    #[arg(long, group = "form")]
    pub stat: bool,
    /// Print lines added and removed, and the name of each file
    #[arg(long, groups = ["form", "list"])]
    pub numstat: bool,
    /// Print A, D, M or T (another type), and the name of each file
    #[arg(long, groups = ["form", "list"])]
    pub name_status: bool,
    /// Print the name of each file
    #[arg(long, groups = ["form", "list"])]
    pub name_only: bool,
    /// Print one JSON array of all changed paths
    #[arg(long, group = "form")]
    pub json: bool,
    /// End names in NUL instead of quoting them
    #[arg(short = 'z', requires = "list")]
    pub nul: bool,
    /// Show this many same lines around what differs
    #[arg(long, short = 'U', value_name = "N", default_value_t = 3, conflicts_with = "form")]
    pub unified: usize,
    /// Exit with 1 if there are changes
    #[arg(long)]
    pub exit_code: bool,
    /// Do not pass the answer through a pager
    #[arg(long)]
    pub no_pager: bool,
    /// Only what is below, or matches, one of these
    #[arg(last = true, value_name = "PATH")]
    pub paths: Vec<OsString>,
}

impl DiffArgs {
    fn form(&self) -> DiffForm {
        let names = if self.nul { Names::Nul } else { Names::Lines };
        match self {
            Self { stat: true, .. } => DiffForm::Stat { width: width() },
            Self { numstat: true, .. } => DiffForm::NumStat(names),
            Self { name_status: true, .. } => DiffForm::NameStatus(names),
            Self { name_only: true, .. } => DiffForm::NameOnly(names),
            Self { json: true, .. } => DiffForm::Json,
            _ => DiffForm::Patch { context: self.unified },
        }
    }

    /// What makes no sense for a comparison of two runs.
    fn is_about_one(&self) -> bool {
        let lists = self.stat || self.numstat || self.name_status || self.name_only;
        lists || self.exit_code || !self.paths.is_empty()
    }
}

/// Answers `agentguard diff`.
pub(super) fn diff_command(args: DiffArgs, state_dir: Option<&Path>, color: When) -> anyhow::Result<ExitCode> {
    let at = surroundings(state_dir)?;
    let state = StateDir::open(&at.state)?;
    let paging = if args.no_pager { Paging::Never } else { Paging::Auto };
    if let [first, second] = &args.runs[..] {
        if args.is_about_one() {
            bail!("of two runs it is only said how they differ, or with --json: name one run for the other options");
        }
        let form = if args.json { CompareForm::Json } else { CompareForm::Lines };
        paged(paging, |out| compare(&state, [first, second], form, out))?;
        return Ok(ExitCode::SUCCESS);
    }
    let reader = if io::stdout().is_terminal() { Reader::Terminal } else { Reader::Program };
    let request = DiffRequest {
        run: args.runs.concat(),
        form: args.form(),
        paths: args.paths,
        cwd: at.cwd,
        style: Style { paint: paint(color), reader },
    };
    // A commit in workspace mode is what would put contents aside; there is none of them to look for yet.
    let answer = paged(paging, |out| diff(&state, &request, &|_, _| None, out))?;
    for note in &answer.notes {
        say(&format!("agentguard: {}", escape(note.as_bytes())));
    }
    Ok(if args.exit_code && answer.has_changes { ExitCode::from(CHANGED) } else { ExitCode::SUCCESS })
}

//! What agentguard costs, as ratios to programs that everybody has: each row times a yardstick and agentguard side
//! by side, one after the other in every round, and reports the median of the ratios of the rounds. A shared or
//! slow machine changes both sides of a ratio; that is why the goals are ratios.
//!
//! ```text
//! cargo bench --bench ratios -- [--rounds N] [--only WORDS] [--quick] [--dir DIR] [--journaled]
//! ```
//!
//! A missed goal is printed and is no failure: a measurement is never a test. Only a command that fails makes the
//! exit status 1. `README.md` beside this says what the rows mean and what they need.

mod corpus;
mod errands;
mod journaled;
mod observing;
mod place;
mod report;
mod rows;
mod supervision;
mod timing;
mod workspaces;

use std::ffi::OsString;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, bail};

use place::Place;
use report::Outcome;
use rows::{ROWS, RowSpec};

/// What was asked for.
#[derive(Debug, Default)]
struct Options {
    /// Rounds of the heavy rows; light rows make several times as many.
    rounds: Option<u32>,
    /// Words of which a row's name must hold one.
    only: Vec<String>,
    /// Few rounds, and only the corpora that are made within seconds.
    quick: bool,
    /// Where to work; what is there already is used again and left.
    dir: Option<PathBuf>,
    /// Work on a journaled file system of its own.
    journaled: bool,
    /// `cargo bench` says so; `cargo test` runs benches too, and must not measure.
    bench: bool,
}

impl Options {
    fn parse(arguments: &[OsString]) -> anyhow::Result<Self> {
        let mut options = Self::default();
        let mut rest = arguments.iter();
        while let Some(argument) = rest.next() {
            let mut value = || rest.next().with_context(|| format!("{argument:?} needs a value"));
            match argument.to_str().unwrap_or_default() {
                "--rounds" => options.rounds = Some(value()?.to_string_lossy().parse().context("--rounds")?),
                "--only" => options.only = value()?.to_string_lossy().split('|').map(str::to_owned).collect(),
                "--dir" => options.dir = Some(PathBuf::from(value()?)),
                "--quick" => options.quick = true,
                "--journaled" => options.journaled = true,
                "--bench" => options.bench = true,
                _ => bail!("unknown argument {argument:?}; there are --rounds, --only, --quick, --dir, --journaled"),
            }
        }
        Ok(options)
    }

    fn wants(&self, row: &RowSpec) -> bool {
        (self.only.is_empty() || self.only.iter().any(|word| row.name.contains(word.as_str())))
            && !(self.quick && row.big)
    }

    fn rounds(&self, row: &RowSpec) -> u32 {
        self.rounds.unwrap_or(if self.quick { 3 } else { 7 }).max(1) * row.times
    }
}

/// Measures every row that is wanted; whether all commands succeeded.
fn measure(options: &Options, place: &Place) -> anyhow::Result<bool> {
    let mut out = std::io::stdout().lock();
    write!(out, "{}", report::heading(place)?)?;
    let mut all_succeeded = true;
    for row in ROWS.iter().filter(|row| options.wants(row)) {
        let outcome = rows::measure(row, place, options.rounds(row));
        all_succeeded &= !matches!(outcome, Outcome::Failed(_));
        write!(out, "{}", report::lines(row, &outcome))?;
        out.flush()?;
    }
    Ok(all_succeeded)
}

fn run(arguments: &[OsString]) -> anyhow::Result<bool> {
    if let Some((errand, rest)) = errands::asked_for(arguments) {
        return errands::run(errand, rest).map(|()| true);
    }
    let options = Options::parse(arguments)?;
    if !options.bench {
        return Ok(true);
    }
    if options.journaled && !journaled::is_inside() {
        return journaled::enter(arguments);
    }
    let place = Place::make(options.dir.as_deref())?;
    if !options.journaled {
        return measure(&options, &place);
    }
    let mounted = journaled::mount(place.root())?;
    let measured = measure(&options, &Place::make(Some(mounted.path()))?);
    mounted.unmount()?;
    measured
}

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    match run(&arguments) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            _ = writeln!(std::io::stderr(), "ratios: {error:#}");
            ExitCode::FAILURE
        }
    }
}

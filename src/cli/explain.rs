//! `agentguard run --explain`: the options of `run` with their values, as the command line's own table has them.

use std::io::{self, Write as _};
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::parser::ValueSource;
use clap::{ArgMatches, CommandFactory as _};
use rustix::fs::{Access, access};

use crate::cmd::explain::{Choice, Chosen, ExplainRequest, explain};
use crate::model::Text;

use super::args::Cli;
use super::config::Origin;
use super::origins::{Origins, describe};
use super::settings::Settings;

/// What is no setting of a run.
const NO_SETTINGS: [&str; 3] = ["command", "explain", "help"];

/// Explains what `run` would do. `matches`: the command line as it was read.
pub(super) fn explain_command(settings: &Settings, matches: &ArgMatches) -> anyhow::Result<ExitCode> {
    let record = settings.reports.record.as_deref();
    settings.reports.files().into_iter().try_for_each(|(option, path)| check_writable(option, path))?;
    let typed = settings.origins.of("command").map(|taken| taken.origin);
    let request = ExplainRequest {
        run: &settings.request,
        options: choices(&settings.origins, Some(matches)),
        command_origin: match typed {
            Some(Origin::Flag) | None => "command line".to_owned(),
            Some(origin) => describe(&origin, "command"),
        },
        record,
    };
    let mut out = io::BufWriter::new(io::stdout().lock());
    let refusal = explain(&request, &mut out)?;
    out.flush().or_else(|error| match error.kind() {
        io::ErrorKind::BrokenPipe => Ok(()),
        _ => Err(error).context("cannot write to standard output"),
    })?;
    let code = refusal.map_or(0, |refusal| refusal.code);
    Ok(ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX)))
}

/// Every option that `run` knows, in the order of its help.
fn choices(origins: &Origins, matches: Option<&ArgMatches>) -> Vec<Choice> {
    let mut program = Cli::command();
    // Only then the options of the whole program are those of `run`, too.
    program.build();
    let run = program.find_subcommand("run");
    let options = run.into_iter().flat_map(clap::Command::get_arguments);
    options
        .filter_map(|option| Some((option.get_long()?, option)))
        .filter(|(name, _)| !NO_SETTINGS.contains(name))
        .map(|(name, option)| choice(name, option, origins, matches))
        .collect()
}

fn choice(name: &str, option: &clap::Arg, origins: &Origins, matches: Option<&ArgMatches>) -> Choice {
    if let Some(taken) = origins.of(name) {
        let values = taken.values.iter().map(|value| Text::from(value.as_os_str())).collect();
        return Choice { name: name.to_owned(), value: Chosen::Set(values), origin: describe(&taken.origin, name) };
    }
    // Those of the whole program are no keys of a configuration: clap alone knows where they come from.
    let set = matches.filter(|_| option.is_global_set()).and_then(|matches| {
        let origin = match matches.value_source(option.get_id().as_str())? {
            ValueSource::CommandLine => Origin::Flag,
            ValueSource::EnvVariable => Origin::Environment,
            _ => return None,
        };
        let values = matches.get_raw(option.get_id().as_str())?.map(Text::from).collect();
        Some(Choice { name: name.to_owned(), value: Chosen::Set(values), origin: describe(&origin, name) })
    });
    set.unwrap_or_else(|| {
        let of_clap = option.get_default_values().first().and_then(|value| value.to_str()).map(str::to_owned);
        let is_switch = !option.get_action().takes_values();
        let value = match of_clap.filter(|_| !is_switch).or_else(|| default_in_help(option)) {
            Some(default) => Chosen::Default(default),
            None if is_switch => Chosen::Default("false".to_owned()),
            None => Chosen::Unset,
        };
        Choice { name: name.to_owned(), value, origin: "default".to_owned() }
    })
}

/// The help is the one place that names the defaults; a test holds it to what is in force.
fn default_in_help(option: &clap::Arg) -> Option<String> {
    let help = option.get_help()?.to_string();
    let (_, rest) = help.split_once("[default: ")?;
    rest.split_once(']').map(|(default, _)| default.to_owned())
}

/// The run would open it before anything else.
fn check_writable(option: &str, path: &Path) -> anyhow::Result<()> {
    if path == Path::new("-") {
        return Ok(());
    }
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let writable = match path.symlink_metadata() {
        Ok(_) if path.is_dir() => Err(io::ErrorKind::IsADirectory.into()),
        Ok(_) => access(path, Access::WRITE_OK).map_err(io::Error::from),
        Err(_) => access(parent, Access::WRITE_OK | Access::EXEC_OK).map_err(io::Error::from),
    };
    writable.with_context(|| format!("--{option} {path:?} cannot be written"))
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::args::Command;
    use crate::cli::config::KEYS;
    use crate::cli::settings::run_settings;
    use crate::run::resolve::Surroundings;

    /// Options of the help that stand in no configuration: they are about the one command that is typed.
    const NO_KEYS: [&str; 3] = ["state-dir", "color", "verbose"];

    #[test]
    fn every_option_of_run_is_a_key_and_every_key_an_option() {
        let mut names: Vec<String> = choices(&Origins::default(), None).into_iter().map(|one| one.name).collect();
        names.retain(|name| !NO_KEYS.contains(&&**name));
        names.sort();
        let mut keys: Vec<String> = KEYS.iter().map(|key| (*key).to_owned()).collect();
        keys.sort();
        assert_eq!(names, keys);
    }

    /// Resolves options, as in a project without a configuration.
    fn resolve(options: &[&str]) -> Option<Settings> {
        let dir = tempfile::tempdir().expect("a directory");
        std::fs::write(dir.path().join("agentguard.toml"), "").expect("written");
        let typed = ["agentguard", "run"].iter().chain(options).chain(&["--", "true"]);
        let Command::Run(args) = Cli::try_parse_from(typed).ok()?.command else { return None };
        let here = dir.path().to_path_buf();
        let place = || "/p".into();
        let at = Surroundings { cwd: here, project: place(), state: place(), home: None, outer: None };
        let mut settings = run_settings(*args, at).ok()?;
        settings.request.at.cwd = place();
        Some(settings)
    }

    #[test]
    fn a_flag_of_any_option_is_told_as_one() {
        // Of each kind of value one.
        let samples = ["1", "5m", "auto", "fail", "empty", "a=b", "clean_abort", ""];
        for choice in choices(&Origins::default(), None) {
            if matches!(&*choice.name, "state-dir" | "color") {
                continue;
            }
            let option = format!("--{}", choice.name);
            let taken = samples.iter().find_map(|sample| {
                let typed: Vec<&str> = [&*option, sample].into_iter().filter(|word| !word.is_empty()).collect();
                let others: &[&str] = match &*choice.name {
                    "retries" => &[],
                    "meter-upstream" => &["--meter"],
                    _ => &["--retries", "1"],
                };
                resolve(&[others, &typed].concat()).map(|settings| settings.origins.of(&choice.name))
            });
            let taken = taken.unwrap_or_else(|| panic!("{option}: no sample fits"));
            assert_eq!(taken.map(|taken| taken.origin), Some(Origin::Flag), "{option}");
        }
    }

    #[test]
    fn the_default_that_the_help_names_is_the_one_in_force() {
        let resolved = |options: &[&str]| {
            let settings = resolve(options).expect("valid");
            format!("{:?} {:?}", settings.request, settings.talk)
        };
        let mut told = 0;
        for choice in choices(&Origins::default(), None) {
            let Chosen::Default(value) = choice.value else { continue };
            // Words, not values: what they stand for is told instead. A switch cannot be typed as false.
            if matches!(&*choice.name, "agent" | "state-dir" | "color") || value == "false" {
                continue;
            }
            let others: &[&str] = if choice.name == "retries" { &[] } else { &["--retries", "1"] };
            let option = format!("--{}", choice.name);
            assert_eq!(resolved(&[others, &[&option, &value]].concat()), resolved(others), "{option} {value}");
            told += 1;
        }
        assert!(told > 10, "{told}");
    }
}

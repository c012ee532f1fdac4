//! Layers of configuration: `agentguard.toml` (`[defaults]`, `[agents.NAME]`, `[gc]`) and `AGENTGUARD_<OPTION>`.
//!
//! A layer is a table of option names to values as typed; what the values mean is decided in one place (`settings`),
//! whatever layer they come from. An unknown key is an error that names the nearest known one.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use toml::{Table, Value};

use crate::model::price::Price;
use crate::rules::nearest::nearest;
use crate::store::state_dir::CONFIG_NAME;

/// Options that may stand in a layer: all of `run`, by their long names.
pub const KEYS: [&str; 59] = [
    "agent",
    "label",
    "needs",
    "input",
    "exclude",
    "snapshot-limit",
    "out",
    "out-file",
    "out-from",
    "stdout",
    "workspace",
    "hold",
    "on-conflict",
    "passthrough",
    "on-drift",
    "protect",
    "allow",
    "expect",
    "max-files",
    "max-bytes",
    "verify",
    "verify-timeout",
    "no-verify",
    "timeout",
    "idle-timeout",
    "deadline",
    "kill-after",
    "retries",
    "backoff",
    "backoff-max",
    "retry-on",
    "feedback",
    "usage",
    "meter",
    "meter-upstream",
    "max-tokens",
    "max-cost-usd",
    "max-calls",
    "max-output",
    "nice",
    "memory",
    "pids",
    "stdin",
    "tty",
    "breaker-threshold",
    "breaker-cooldown",
    "breaker-self",
    "no-breaker",
    "isolation",
    "view",
    "allow-write",
    "no-network",
    "record-env",
    "record",
    "junit",
    "dotenv",
    "ci",
    "quiet",
    "progress",
];

/// Tables that a configuration file may have.
const TABLES: [&str; 5] = ["defaults", "agents", "prices", "budget", "gc"];

/// Options of `gc` that may stand in `[gc]`.
pub const GC_KEYS: [&str; 5] = ["keep-days", "keep-runs", "max-size", "keep-failed-days", "log-segment"];

/// Where a value comes from, for messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Typed.
    Flag,
    /// An environment variable.
    Environment,
    /// A table of a configuration file.
    File(PathBuf, String),
}

/// One layer.
#[derive(Clone, Debug)]
pub struct Layer {
    /// Where it comes from.
    pub origin: Origin,
    values: Table,
}

/// The configuration file, read and checked.
#[derive(Clone, Debug, Default)]
pub struct ConfigFile {
    path: PathBuf,
    defaults: Table,
    agents: Table,
    prices: Table,
    budget: Table,
    gc: Table,
}

impl ConfigFile {
    /// Reads the nearest `agentguard.toml` upward; none is an empty one.
    pub fn find(cwd: &Path) -> anyhow::Result<Self> {
        let Some(path) = cwd.ancestors().map(|dir| dir.join(CONFIG_NAME)).find(|path| path.is_file()) else {
            return Ok(Self::default());
        };
        let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {path:?}"))?;
        Self::parse(path, &text)
    }

    fn parse(path: PathBuf, text: &str) -> anyhow::Result<Self> {
        let mut table: Table = text.parse().with_context(|| format!("{path:?} is no valid TOML"))?;
        let take = |table: &mut Table, name: &str| match table.remove(name) {
            None => Ok(Table::new()),
            Some(Value::Table(table)) => Ok(table),
            Some(_) => bail!("{path:?}: `{name}` must be a table: write [{name}]"),
        };
        let defaults = take(&mut table, "defaults")?;
        let agents = take(&mut table, "agents")?;
        let prices = take(&mut table, "prices")?;
        let budget = take(&mut table, "budget")?;
        let gc = take(&mut table, "gc")?;
        if let Some(unknown) = table.keys().next() {
            bail!("{path:?}: unknown table `{unknown}`{}", suggestion(unknown, &TABLES));
        }
        check_keys(&budget, &["daily_usd"]).with_context(|| format!("{path:?}, [budget]"))?;
        check_keys(&defaults, &KEYS).with_context(|| format!("{path:?}, [defaults]"))?;
        check_keys(&gc, &GC_KEYS).with_context(|| format!("{path:?}, [gc]"))?;
        for (name, agent) in &agents {
            let Value::Table(agent) = agent else { bail!("{path:?}: `agents.{name}` must be a table") };
            let known: Vec<&str> = KEYS.iter().copied().chain(["command", "daily_usd"]).collect();
            check_keys(agent, &known).with_context(|| format!("{path:?}, [agents.{name}]"))?;
        }
        Ok(Self { path, defaults, agents, prices, budget, gc })
    }

    /// The layers for an agent, strongest first.
    pub fn layers(&self, agent: Option<&str>) -> Vec<Layer> {
        let named = agent.and_then(|name| match self.agents.get(name) {
            Some(Value::Table(values)) => Some((format!("agents.{name}"), values.clone())),
            _ => None,
        });
        named
            .into_iter()
            .chain([("defaults".to_owned(), self.defaults.clone())])
            .map(|(table, values)| Layer { origin: self.origin(&table), values })
            .collect()
    }

    /// What `[gc]` says.
    pub fn gc(&self) -> Layer {
        Layer { origin: self.origin("gc"), values: self.gc.clone() }
    }

    /// `agent` of `[defaults]`.
    pub fn default_agent(&self) -> anyhow::Result<Option<String>> {
        match self.defaults.get("agent") {
            None => Ok(None),
            Some(Value::String(name)) => Ok(Some(name.clone())),
            Some(_) => bail!("{:?}, [defaults]: `agent` must be a string", self.path),
        }
    }

    /// The origin of what stands in one of its tables.
    pub fn origin(&self, table: &str) -> Origin {
        Origin::File(self.path.clone(), table.to_owned())
    }

    /// The command of `[agents.NAME]`.
    pub fn command(&self, agent: &str) -> anyhow::Result<Option<Vec<OsString>>> {
        let Some(Value::Table(values)) = self.agents.get(agent) else { return Ok(None) };
        let at = || format!("{:?}, [agents.{agent}]: `command` must be a list of strings", self.path);
        match values.get("command") {
            None => Ok(None),
            Some(Value::Array(words)) => words
                .iter()
                .map(|word| word.as_str().map(OsString::from).with_context(at))
                .collect::<anyhow::Result<Vec<_>>>()
                .map(Some),
            Some(_) => bail!(at()),
        }
    }

    /// What an agent's runs may cost in a day: `daily_usd` of `[agents.NAME]`, else of `[budget]`.
    pub fn daily_usd(&self, agent: Option<&str>) -> anyhow::Result<Option<f64>> {
        let own = agent.and_then(|name| self.agents.get(name)).and_then(|table| table.get("daily_usd"));
        let Some(value) = own.or_else(|| self.budget.get("daily_usd")) else { return Ok(None) };
        let amount = value.as_float().or_else(|| value.as_integer().map(|whole| whole as f64));
        match amount.filter(|amount| amount.is_finite() && *amount > 0.0) {
            Some(amount) => Ok(Some(amount)),
            None => bail!("{:?}: `daily_usd` is an amount of US dollars above zero: write e.g. 5.0", self.path),
        }
    }

    /// `[prices."MODEL"]`: US dollars per million tokens.
    pub fn prices(&self) -> anyhow::Result<BTreeMap<String, Price>> {
        let read = |(model, value): (&String, &Value)| {
            let price: Price = value.clone().try_into().with_context(|| {
                format!("{:?}, [prices.{model:?}]: write input and output, in US dollars per million tokens", self.path)
            })?;
            let amounts =
                [Some(price.input), Some(price.output), price.cached, price.cache_write, price.cache_write_hour];
            if amounts.into_iter().flatten().any(|amount| !amount.is_finite() || amount < 0.0) {
                bail!("{:?}, [prices.{model:?}]: a price is not negative", self.path);
            }
            Ok((model.clone(), price))
        };
        self.prices.iter().map(read).collect()
    }

    /// Names of the agents in the file.
    pub fn agent_names(&self) -> impl Iterator<Item = &str> {
        self.agents.keys().map(String::as_str)
    }
}

/// The environment variable of an option.
pub(super) fn variable(key: &str) -> String {
    // The contract's variable of that name is where an agent reports what it used.
    let key = if key == "usage" { "usage-format" } else { key };
    format!("AGENTGUARD_{}", key.to_ascii_uppercase().replace('-', "_"))
}

fn check_keys(table: &Table, known: &[&str]) -> anyhow::Result<()> {
    match table.keys().find(|key| !known.contains(&key.as_str())) {
        Some(unknown) => bail!("unknown key `{unknown}`{}", suggestion(unknown, known)),
        None => Ok(()),
    }
}

fn suggestion(word: &str, known: &[&str]) -> String {
    nearest(word, known.iter().copied()).map_or_else(String::new, |near| format!(": did you mean `{near}`?"))
}

impl Layer {
    /// The layer of `AGENTGUARD_<OPTION>` variables. A list is one value, or a TOML array (`["a", "b"]`).
    pub fn from_environment(read: impl Fn(&str) -> Option<OsString>) -> anyhow::Result<Self> {
        let mut values = Table::new();
        for key in KEYS {
            let name = variable(key);
            let Some(value) = read(&name).filter(|value| !value.is_empty()) else { continue };
            // Ignored, it could be a gate that is silently not there.
            let Ok(text) = value.into_string() else { bail!("{name} is no UTF-8: give the option as a flag") };
            let value = if text.starts_with('[') {
                let table: Table = format!("value = {text}")
                    .parse()
                    .with_context(|| format!("{name} begins with `[` and is no TOML array"))?;
                table.get("value").cloned().unwrap_or(Value::String(text))
            } else {
                Value::String(text)
            };
            values.insert(key.to_owned(), value);
        }
        Ok(Self { origin: Origin::Environment, values })
    }

    /// The values of an option: one, or a list; `None` where the layer says nothing.
    pub fn get(&self, key: &str) -> anyhow::Result<Option<Vec<String>>> {
        let Some(value) = self.values.get(key) else { return Ok(None) };
        let word = |value: &Value| match value {
            Value::String(text) => Ok(text.clone()),
            Value::Integer(number) => Ok(number.to_string()),
            Value::Boolean(truth) => Ok(truth.to_string()),
            _ => bail!("{}: `{key}` has a value of a wrong kind: write a string", self.origin),
        };
        Ok(Some(match value {
            Value::Array(values) => values.iter().map(word).collect::<anyhow::Result<_>>()?,
            Value::Table(pairs) => pairs
                .iter()
                .map(|(name, value)| Ok(format!("{name}={}", word(value)?)))
                .collect::<anyhow::Result<_>>()?,
            value => vec![word(value)?],
        }))
    }
}

impl std::fmt::Display for Origin {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Flag => out.write_str("command line"),
            Self::Environment => out.write_str("environment"),
            Self::File(path, table) => write!(out, "{path:?}, [{table}]"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> anyhow::Result<ConfigFile> {
        ConfigFile::parse(PathBuf::from("agentguard.toml"), text)
    }

    #[test]
    fn an_unknown_key_names_the_nearest_known_one() {
        let error = parse("[defaults]\ntimout = \"5m\"\n").expect_err("a typo");
        let text = format!("{error:#}");
        assert!(text.contains("unknown key `timout`: did you mean `timeout`?"), "{text}");
        let error = parse("[agents.a]\ncomand = [\"x\"]\n").expect_err("a typo");
        assert!(format!("{error:#}").contains("did you mean `command`?"));
        assert!(parse("[default]\n").expect_err("a typo").to_string().contains("did you mean `defaults`?"));
    }

    #[test]
    fn an_agents_table_comes_before_the_defaults() {
        let config = parse("[defaults]\ntimeout = \"1m\"\n[agents.a]\ntimeout = \"2m\"\nverify = [\"x\", \"y\"]\n");
        let layers = config.expect("valid").layers(Some("a"));
        let first: Vec<_> = layers.iter().map(|layer| layer.get("timeout").expect("a string")).collect();
        assert_eq!(first, [Some(vec!["2m".to_owned()]), Some(vec!["1m".to_owned()])]);
        assert_eq!(layers[0].get("verify").expect("a list").map(|list| list.len()), Some(2));
    }

    #[test]
    fn the_environment_holds_one_value_or_a_list() {
        let read = |name: &str| match name {
            "AGENTGUARD_TIMEOUT" => Some(OsString::from("3m")),
            "AGENTGUARD_VERIFY" => Some(OsString::from("[\"a\", \"b\"]")),
            _ => None,
        };
        let layer = Layer::from_environment(read).expect("valid");
        assert_eq!(layer.get("timeout").expect("one"), Some(vec!["3m".to_owned()]));
        assert_eq!(layer.get("verify").expect("two"), Some(vec!["a".to_owned(), "b".to_owned()]));
        assert_eq!(layer.get("expect").expect("none"), None);
    }
}

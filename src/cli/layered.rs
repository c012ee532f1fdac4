//! The value of one option: what was typed, else what the strongest layer of configuration says.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, bail};

use crate::model::ByteSize;

use super::config::{Layer, Origin};
use super::origins::Origins;

/// What was typed over what the layers say.
pub(super) struct Layered<'a> {
    pub(super) layers: &'a [Layer],
    pub(super) origins: &'a Origins,
}

impl Layered<'_> {
    /// All values of an option: those typed, else those of the strongest layer that has any.
    pub(super) fn list(&self, key: &str, typed: Vec<OsString>) -> anyhow::Result<Vec<OsString>> {
        if !typed.is_empty() {
            return Ok(self.origins.note(key, typed, &Origin::Flag));
        }
        for layer in self.layers {
            if let Some(values) = layer.get(key)? {
                let values = values.into_iter().map(OsString::from).collect();
                return Ok(self.origins.note(key, values, &layer.origin));
            }
        }
        Ok(Vec::new())
    }

    pub(super) fn strings(&self, key: &str, typed: Vec<String>) -> anyhow::Result<Vec<String>> {
        let typed = typed.into_iter().map(OsString::from).collect();
        let utf8 =
            |value: OsString| value.into_string().map_err(|value| anyhow::anyhow!("--{key}: {value:?} is no UTF-8"));
        self.list(key, typed)?.into_iter().map(utf8).collect()
    }

    pub(super) fn paths(&self, key: &str, typed: Vec<PathBuf>) -> anyhow::Result<Vec<PathBuf>> {
        let typed = typed.into_iter().map(PathBuf::into_os_string).collect();
        Ok(self.list(key, typed)?.into_iter().map(PathBuf::from).collect())
    }

    pub(super) fn one(&self, key: &str, typed: Option<String>) -> anyhow::Result<Option<String>> {
        let mut values = self.strings(key, typed.into_iter().collect())?;
        if values.len() > 1 {
            bail!("`{key}` takes one value, not {}", values.len());
        }
        Ok(values.pop())
    }

    pub(super) fn path(&self, key: &str, typed: Option<PathBuf>) -> anyhow::Result<Option<PathBuf>> {
        let mut values = self.paths(key, typed.into_iter().collect())?;
        if values.len() > 1 {
            bail!("`{key}` takes one value, not {}", values.len());
        }
        Ok(values.pop())
    }

    pub(super) fn flag(&self, key: &str, typed: bool) -> anyhow::Result<bool> {
        let typed = typed.then(|| "true".to_owned());
        match self.one(key, typed)?.as_deref() {
            None | Some("false" | "0" | "no") => Ok(false),
            Some("true" | "1" | "yes") => Ok(true),
            Some(other) => bail!("`{key}` is true or false, not {other:?}"),
        }
    }

    pub(super) fn duration(&self, key: &str, typed: Option<String>) -> anyhow::Result<Option<Duration>> {
        self.one(key, typed)?.map(|text| parse_duration(key, &text)).transpose()
    }

    pub(super) fn size(&self, key: &str, typed: Option<String>) -> anyhow::Result<Option<ByteSize>> {
        let parse = |text: String| text.parse::<ByteSize>().with_context(|| format!("--{key}"));
        self.one(key, typed)?.map(parse).transpose()
    }
}

pub(super) fn parse_duration(key: &str, text: &str) -> anyhow::Result<Duration> {
    let duration = humantime::parse_duration(text)
        .map_err(|error| anyhow::anyhow!("--{key}: {text:?} is no duration ({error}): write e.g. 90s, 5m or 1h30m"))?;
    if duration.is_zero() {
        bail!("--{key}: a duration of zero would stop everything at once: write e.g. 90s, 5m or 1h30m");
    }
    Ok(duration)
}

/// A whole number.
pub(super) fn parse_count(key: &str, text: &str) -> anyhow::Result<u64> {
    text.parse().map_err(|_| anyhow::anyhow!("--{key}: {text:?} is no number"))
}

/// One of a few words.
pub(super) fn word<T: Copy>(key: &str, text: Option<String>, words: &[(&str, T)]) -> anyhow::Result<Option<T>> {
    let Some(text) = text else { return Ok(None) };
    match words.iter().find(|(word, _)| *word == text) {
        Some((_, value)) => Ok(Some(*value)),
        None => {
            let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
            bail!("--{key} is one of {}, not {text:?}", known.join(", "))
        }
    }
}

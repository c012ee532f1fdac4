//! `agentguard prices`: what model calls are reckoned to cost, and a newer table for it.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

use anyhow::{Context as _, bail};
use serde_json::json;

use super::render::{Cell, Paint, Table, escape};
use crate::model::price::Price;
use crate::rules::nearest::nearest;
use crate::store::price_table;
use crate::store::state_dir::StateDir;
use crate::sys::clock;
use crate::usage::prices::{self, Prices, Table as PriceTable};

/// The form of the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListForm {
    /// Columns for people.
    Table {
        /// Terminal columns.
        width: Option<usize>,
        /// Colour or not.
        paint: Paint,
    },
    /// One JSON object, by model.
    Json,
    /// What `import` reads.
    Tsv,
}

/// Lists prices: of one model, or of all.
pub fn list(
    state: Option<&StateDir>,
    own: &BTreeMap<String, Price>,
    model: Option<&str>,
    form: ListForm,
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    let imported = state.map(price_table::path).unwrap_or_default();
    let prices = Prices::new(own, &imported);
    let all = prices.all();
    let rows: Vec<(String, Price, String)> = match model {
        None => all.into_iter().map(|(name, (price, from))| (name, price, from)).collect(),
        Some(model) => match prices.of(model) {
            Some((price, from)) => vec![(model.to_owned(), price, from)],
            None => {
                let near =
                    nearest(model, all.keys().map(String::as_str)).map(|near| format!(": did you mean {near:?}?"));
                bail!(
                    "no price of {model:?} is known{}\nhint: write it as [prices.{model:?}] in agentguard.toml, or \
                     `agentguard prices import FILE`",
                    near.unwrap_or_default()
                )
            }
        },
    };
    match form {
        ListForm::Table { width, paint } => table(&rows, width, paint, out),
        ListForm::Json => {
            let shown: BTreeMap<&str, _> = rows
                .iter()
                .map(|(name, price, from)| (name.as_str(), json!({ "price": price, "from": from })))
                .collect();
            Ok(writeln!(out, "{}", serde_json::to_string(&shown)?)?)
        }
        ListForm::Tsv => {
            writeln!(out, "# agentguard-prices 1\t{}\tlisted", today())?;
            Ok(rows.iter().try_for_each(|(name, price, _)| out.write_all(prices::line(name, price).as_bytes()))?)
        }
    }
}

fn table(
    rows: &[(String, Price, String)],
    width: Option<usize>,
    paint: Paint,
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    let mut titles = vec![Cell::left("MODEL")];
    titles.extend(["INPUT", "CACHED", "WRITE", "OUTPUT", "LONG ABOVE"].map(Cell::right));
    titles.push(Cell::left("FROM"));
    let mut table = Table::new(out, paint, width, titles);
    let dollars =
        |amount: Option<f64>| Cell::right(amount.map_or_else(|| "-".to_owned(), |amount| format!("${amount}")));
    for (name, price, from) in rows {
        table.row(vec![
            Cell::left(escape(name.as_bytes())),
            dollars(Some(price.input)),
            dollars(price.cached),
            dollars(price.cache_write),
            dollars(Some(price.output)),
            Cell::right(price.long.map_or_else(|| "-".to_owned(), |long| long.above.to_string())),
            Cell::left(escape(from.as_bytes())),
        ])?;
    }
    Ok(table.finish()?)
}

/// Takes a table over: LiteLLM's JSON, or what `list --format tsv` prints.
pub fn import(state: &StateDir, file: &Path, out: &mut dyn Write) -> anyhow::Result<()> {
    const MOST_BYTES: u64 = 64 << 20;
    let about = std::fs::metadata(file).with_context(|| format!("cannot read {file:?}"))?;
    if !about.is_file() || about.len() > MOST_BYTES {
        bail!("{file:?} is no file of at most 64 MiB");
    }
    let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {file:?}"))?;
    let table = PriceTable::parse(&text).with_context(|| format!("cannot take over {file:?}"))?;
    let table = if table.date.is_empty() { table.dated(today()) } else { table };
    price_table::write(state, &table.to_text("imported")).context("cannot keep the table")?;
    Ok(writeln!(out, "{} models have the prices of {} now", table.models(), escape(table.date.as_bytes()))?)
}

/// Goes back to the table that agentguard carries.
pub fn forget(state: &StateDir, out: &mut dyn Write) -> anyhow::Result<()> {
    let removed = price_table::remove(state).context("cannot remove the imported table")?;
    let what = if removed { "the imported table is gone" } else { "there was no imported table" };
    Ok(writeln!(out, "{what}")?)
}

fn today() -> String {
    clock::now().to_string().chars().take("2026-01-01".len()).collect()
}

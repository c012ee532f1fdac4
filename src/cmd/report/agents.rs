//! Figures of each agent, and their table.

use std::collections::HashMap;
use std::fmt::Write as _;

use crate::model::Text;
use crate::rules::run_ref::is_failure;

use super::html;
use super::row::{CLASSES, Row};
use super::words;

/// Agents that are told apart; those that are met after them are one.
const TOLD_APART: usize = 10_000;
/// Agents that are shown, those with most runs.
const SHOWN: usize = 40;

/// What is known of one agent.
#[derive(Clone, Debug, Default)]
struct Figures {
    runs: u64,
    by_class: [u64; CLASSES.len()],
    failed: u64,
    published: u64,
    millis: u128,
    tokens: Option<u64>,
    cost: Option<f64>,
}

/// All agents.
#[derive(Debug, Default)]
pub(super) struct Agents {
    by_name: HashMap<Text, Figures>,
    others: Figures,
}

impl Figures {
    fn take(&mut self, row: &Row) {
        self.runs += 1;
        self.by_class[row.class()] += 1;
        self.failed += u64::from(is_failure(row.status));
        self.published += u64::from(row.published);
        self.millis += u128::from(row.millis());
        if let Some(tokens) = row.tokens_used {
            self.tokens = Some(self.tokens.unwrap_or(0).saturating_add(tokens));
        }
        if let Some(cost) = row.cost_usd {
            self.cost = Some(self.cost.unwrap_or(0.0) + cost);
        }
    }
}

impl Agents {
    pub(super) fn take(&mut self, row: &Row) {
        let full = self.by_name.len() >= TOLD_APART;
        if let Some(figures) = self.by_name.get_mut(&row.agent) {
            figures.take(row);
        } else if full {
            self.others.take(row);
        } else {
            self.by_name.entry(row.agent.clone()).or_default().take(row);
        }
    }

    /// The table; nothing where nothing ran.
    pub(super) fn table(&self) -> String {
        let mut agents: Vec<(&Text, &Figures)> = self.by_name.iter().collect();
        agents.sort_by(|(left, a), (right, b)| b.runs.cmp(&a.runs).then_with(|| left.cmp(right)));
        let mut table = String::from(
            "<div class=\"wide\"><table><thead><tr><th>Agent</th><th class=\"n\">Runs</th><th class=\"n\">Success</th>\
             <th>Outcomes</th><th class=\"n\">Mean time</th><th class=\"n\">Tokens</th><th class=\"n\">Cost</th>\
             <th class=\"n\">Per published</th></tr></thead><tbody>\n",
        );
        for (name, figures) in agents.iter().take(SHOWN) {
            row(&mut table, &html::name(name), figures);
        }
        if self.others.runs > 0 {
            row(&mut table, "<i>further agents</i>", &self.others);
        }
        table.push_str("</tbody></table></div>\n");
        let hidden = agents.len().saturating_sub(SHOWN);
        if hidden > 0 {
            // Writing to a String cannot fail.
            _ = writeln!(
                table,
                "<p class=\"note\">{} agents with fewer runs are not listed.</p>",
                words::count(hidden as u64)
            );
        }
        table
    }
}

fn row(table: &mut String, name: &str, figures: &Figures) {
    let per_published = figures.cost.filter(|_| figures.published > 0).map(|cost| cost / figures.published as f64);
    let mean = figures.millis / u128::from(figures.runs.max(1));
    // Writing to a String cannot fail.
    _ = writeln!(
        table,
        "<tr><td>{name}</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td>{}</td><td class=\"n\">{}</td>\
         <td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td></tr>",
        words::count(figures.runs),
        words::share(figures.by_class[0], figures.runs),
        strip(figures),
        words::millis(u64::try_from(mean).unwrap_or(u64::MAX)),
        words::tokens(figures.tokens),
        words::cost(figures.cost),
        words::cost(per_published),
    );
}

/// The shares of the outcomes as one bar; whatever happened at all can be seen.
fn strip(figures: &Figures) -> String {
    const WIDTH: f64 = 200.0;
    const LEAST: f64 = 2.0;
    let told: Vec<String> = figures
        .by_class
        .iter()
        .zip(CLASSES)
        .filter(|(count, _)| **count > 0)
        .map(|(count, class)| format!("{class} {}", words::count(*count)))
        .collect();
    let told = told.join(", ");
    let mut svg =
        format!("<svg class=\"strip\" viewBox=\"0 0 200 12\" role=\"img\" aria-label=\"{told}\"><title>{told}</title>");
    let share = |count: u64| (count as f64 / figures.runs.max(1) as f64 * WIDTH).max(LEAST);
    let sum: f64 = figures.by_class.iter().filter(|count| **count > 0).map(|count| share(*count)).sum();
    let mut x = 0.0;
    for (class, count) in figures.by_class.iter().enumerate().filter(|(_, count)| **count > 0) {
        let width = share(*count) * WIDTH / sum;
        // Writing to a String cannot fail.
        _ = write!(svg, "<rect class=\"c{class}\" x=\"{x:.1}\" y=\"0\" width=\"{width:.1}\" height=\"12\"/>");
        x += width;
    }
    svg + "</svg>"
}

//! The page: sections in their order, and the policy that lets nothing else run.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest as _, Sha256};

use crate::model::Timestamp;
use crate::store::state_dir::StateDir;

use super::ReportRequest;
use super::chart::{Breadth, Frame, Layer, bars};
use super::gather::{Gathered, PLAIN_ROWS, Slice, Totals};
use super::histogram::Bars;
use super::row::CLASSES;
use super::words;
use super::{detail, html, lists};

const STYLE: &str = include_str!("style.css");
const SCRIPT: &str = include_str!("script.js");

/// The whole page.
pub(super) fn page(
    state: &StateDir,
    request: &ReportRequest,
    gathered: Gathered,
    breakers: &str,
    now: Timestamp,
) -> String {
    let mut page = head();
    let totals = gathered.totals;
    page.push_str(&intro(state, request, &totals, gathered.damaged, now));
    page.push_str(&figures(&totals, gathered.durations));
    if let Some(span) = gathered.history.bars() {
        page.push_str(&charts(&span, &totals));
    }
    if totals.runs > 0 {
        section(&mut page, "agents", "Agents", &gathered.agents.table());
        page.push_str("<div class=\"pair\">\n");
        let slowest = lists::top(&gathered.slowest, "Took", |millis| words::millis(millis as u64));
        section(&mut page, "slowest", "Slowest runs", &slowest);
        let costliest = lists::top(&gathered.costliest, "Cost", |dollars| words::cost(Some(dollars)));
        section(&mut page, "costliest", "Costliest runs", &costliest);
        page.push_str("</div>\n");
    }
    section(&mut page, "breakers", "Circuit breakers", breakers);
    let dead = lists::dead_letters(&gathered.dead, totals.dead, now);
    let about = "<p class=\"note\">Failed runs that were neither redriven with success nor acknowledged: <code>agentguard failed</code> decides on them.</p>\n";
    section(&mut page, "dead-letters", "Dead letters", &format!("{about}{dead}"));
    if !gathered.failures.is_empty() {
        section(&mut page, "failures", "Newest failures", &detail::failures(state, &gathered.failures));
    }
    section(&mut page, "runs", "Runs", &runs(&gathered.newest, gathered.island.rows()));
    page.push_str("<script type=\"application/json\" id=\"data\">");
    page.push_str(&gathered.island.json());
    page.push_str("</script>\n");
    // Writing to a String cannot fail.
    _ = write!(page, "</main>\n<script>{SCRIPT}</script>\n</body>\n</html>\n");
    page
}

/// The policy comes before anything that it judges.
fn head() -> String {
    let hash = |text: &str| STANDARD.encode(Sha256::digest(text.as_bytes()));
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'sha256-{}'; \
         script-src 'sha256-{}'; img-src 'none'; base-uri 'none'; form-action 'none'\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n<meta name=\"referrer\" content=\"no-referrer\">\n\
         <title>agentguard report</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n",
        hash(STYLE),
        hash(SCRIPT)
    )
}

fn section(page: &mut String, id: &str, title: &str, content: &str) {
    // Writing to a String cannot fail.
    _ = write!(page, "<section id=\"{id}\"><h2>{title}</h2>\n{content}</section>\n");
}

fn intro(state: &StateDir, request: &ReportRequest, totals: &Totals, damaged: u64, now: Timestamp) -> String {
    let mut filters: Vec<String> =
        request.agents.iter().take(10).map(|agent| format!("agent <b>{}</b>", html::name(agent))).collect();
    filters.extend(request.since.map(|since| format!("since {}", words::time(since))));
    filters.extend(request.until.map(|until| format!("until {}", words::time(until))));
    let of = if filters.is_empty() { String::new() } else { format!(" of {}", filters.join(", ")) };
    let span = totals.span.map_or_else(
        || "no runs".to_owned(),
        |(first, last)| format!("runs{of} from {} to {}", words::time(first), words::time(last)),
    );
    let damaged = match damaged {
        0 => String::new(),
        count => format!(
            "<p class=\"warning\">{} damaged lines of the log are not counted: <code>agentguard fsck</code> names them.</p>\n",
            words::count(count)
        ),
    };
    format!(
        "<header><h1>agentguard report</h1>\n<p>{span} · made {} · times are UTC · <code>{}</code></p>\n{damaged}\
         <nav><a href=\"#agents\">Agents</a> <a href=\"#breakers\">Circuit breakers</a> <a href=\"#dead-letters\">Dead letters</a> \
         <a href=\"#failures\">Newest failures</a> <a href=\"#runs\">All runs</a></nav></header>\n",
        words::time(now),
        html::text(state.path().as_os_str().as_encoded_bytes(), html::SENTENCE),
    )
}

fn figures(totals: &Totals, mut durations: Vec<u32>) -> String {
    durations.sort_unstable();
    let quantile = |share: f64| {
        let rank = (durations.len() as f64 * share).ceil() as usize;
        durations
            .get(rank.saturating_sub(1))
            .map_or_else(|| words::UNKNOWN.to_owned(), |at| words::millis((*at).into()))
    };
    let known = |count: u64| match totals.runs - count {
        0 => "known of every run".to_owned(),
        unknown => format!("not known of {} runs", words::count(unknown)),
    };
    let sum = |count: u64, shown: String| if count == 0 { words::UNKNOWN.to_owned() } else { shown };
    let tiles = [
        ("Runs", words::count(totals.runs), format!("{} published", words::count(totals.published))),
        (
            "Success",
            words::share(totals.succeeded, totals.runs),
            format!("{} failed, {} cancelled", words::count(totals.failed), words::count(totals.cancelled)),
        ),
        ("Dead letters", words::count(totals.dead), "failed, not redriven or acknowledged".to_owned()),
        ("Took", quantile(0.5), format!("half of the runs or less; 95 %: {}", quantile(0.95))),
        ("Retried", words::count(totals.retried), "more than one attempt".to_owned()),
        ("Tokens", sum(totals.tokens_known, words::tokens(Some(totals.tokens))), known(totals.tokens_known)),
        ("Cost", sum(totals.cost_known, words::cost(Some(totals.cost))), known(totals.cost_known)),
    ];
    let mut html = String::from("<div class=\"tiles\">\n");
    for (name, value, note) in tiles {
        // Writing to a String cannot fail.
        _ = writeln!(html, "<div class=\"tile\"><h3>{name}</h3><p class=\"value\">{value}</p><p>{note}</p></div>");
    }
    html + "</div>\n"
}

fn charts(span: &Bars<Slice>, totals: &Totals) -> String {
    let whole = |count: f64| words::count(count as u64);
    let layer = |class: usize| Layer {
        class: format!("c{class}"),
        name: CLASSES[class].to_owned(),
        values: span.values.iter().map(|slice| slice.by_class[class] as f64).collect(),
    };
    let frame = |title, breadth, least| Frame { title, breadth, least };
    let all: Vec<Layer> = (0..CLASSES.len()).map(layer).collect();
    let total: u64 = totals.runs;
    let mut page = String::new();
    let runs = format!(
        "{}{}",
        legend(span, 0),
        bars(&frame("Runs over time by outcome", Breadth::Whole, 4.0), span, &all, whole)
    );
    section(&mut page, "over-time", "Runs over time", &(runs + &counts(span)));
    let failed = total - span.values.iter().map(|slice| slice.by_class[0]).sum::<u64>();
    if failed > 0 {
        let chart = bars(&frame("Failures over time by class", Breadth::Whole, 4.0), span, &all[1..], whole);
        section(&mut page, "failures-over-time", "Failures over time", &format!("{}{chart}", legend(span, 1)));
    }
    page.push_str("<div class=\"pair\">\n");
    let one = |values: Vec<f64>, class: &str| [Layer { class: class.to_owned(), name: String::new(), values }];
    if totals.cost_known > 0 {
        let costs = one(span.values.iter().map(|slice| slice.cost).collect(), "money");
        let chart =
            bars(&frame("Cost over time", Breadth::Half, 0.0), span, &costs, |dollars| words::cost(Some(dollars)));
        section(&mut page, "cost", "Cost over time", &chart);
    }
    if totals.tokens_known > 0 {
        let tokens = one(span.values.iter().map(|slice| slice.tokens as f64).collect(), "tokens");
        let chart = bars(&frame("Tokens over time", Breadth::Half, 4.0), span, &tokens, |count| {
            words::tokens(Some(count as u64))
        });
        section(&mut page, "tokens", "Tokens over time", &chart);
    }
    page + "</div>\n"
}

/// The outcomes that there are, from one on.
fn legend(span: &Bars<Slice>, from: usize) -> String {
    let mut html = String::from("<p class=\"legend\">");
    for (class, name) in CLASSES.iter().enumerate().skip(from) {
        let count: u64 = span.values.iter().map(|slice| slice.by_class[class]).sum();
        if count > 0 {
            // Writing to a String cannot fail.
            _ = write!(html, "<span><span class=\"dot c{class}\"></span>{name} {}</span> ", words::count(count));
        }
    }
    html + "</p>\n"
}

/// The figures of the bars, for whoever cannot see them.
fn counts(span: &Bars<Slice>) -> String {
    let mut html = String::from(
        "<details><summary>The figures as a table</summary><div class=\"wide\"><table><thead><tr><th>From</th>",
    );
    for class in CLASSES {
        // Writing to a String cannot fail.
        _ = write!(html, "<th class=\"n\">{class}</th>");
    }
    html.push_str("<th class=\"n\">Tokens</th><th class=\"n\">Cost</th></tr></thead><tbody>\n");
    for (bar, slice) in span.values.iter().enumerate() {
        // Writing to a String cannot fail.
        _ = write!(html, "<tr><td>{}</td>", words::moment(span.begins(bar), "%Y-%m-%d %H:%M"));
        for count in slice.by_class {
            _ = write!(html, "<td class=\"n\">{}</td>", words::count(count));
        }
        let (tokens, cost) = (words::tokens(Some(slice.tokens)), words::cost(Some(slice.cost)));
        _ = writeln!(html, "<td class=\"n\">{tokens}</td><td class=\"n\">{cost}</td></tr>");
    }
    html + "</tbody></table></div></details>\n"
}

fn runs(newest: &[std::rc::Rc<super::row::Row>], (rows, left_out): (u64, u64)) -> String {
    let mut html = String::new();
    if left_out > 0 {
        // Writing to a String cannot fail.
        _ = writeln!(
            html,
            "<p class=\"note\">The table has the newest {} runs; {} older ones are in the figures and charts only. \
             <code>--until</code> moves the table there.</p>",
            words::count(rows),
            words::count(left_out)
        );
    }
    let plain = (rows + left_out).min(PLAIN_ROWS as u64);
    // Writing to a String cannot fail.
    _ = writeln!(
        html,
        "<div id=\"controls\" hidden></div>\n<noscript><p class=\"note\">Without JavaScript these are the newest {plain} runs; \
         with it, all of them can be searched and sorted.</p></noscript>\n\
         <div class=\"wide\"><table id=\"table\"><thead><tr><th>Run</th><th>Started</th><th>Agent</th><th>Outcome</th>\
         <th class=\"n\">Took</th><th class=\"n\">Tries</th><th class=\"n\">Tokens</th><th class=\"n\">Cost</th>\
         <th>What went wrong</th></tr></thead><tbody>\n{}</tbody></table></div>\n<div id=\"pages\" hidden></div>",
        lists::newest(newest)
    );
    html
}

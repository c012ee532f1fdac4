//! The table of all runs as data for the page's script: one JSON object in columns, newest run first.
//!
//! ```text
//! ids      the ids' 32 hex digits, one after the other
//! starts   milliseconds since the epoch of the first, then by how much each began before the one above it
//! took, exit, tokens, cost (millionths of a dollar), tries          numbers, null where unknown
//! status, class                                        a letter each: its place in the words of the page
//! agent, kind, error, command, labels                   places in `texts`; 0 is the empty text
//! more     {"<row>": [attempts, verify commands]}, of runs that had more than one attempt or a verify command
//! ```
//!
//! Everything has a budget of bytes that newer runs use up first. Texts past theirs read `…`; rows past theirs are not
//! there, and the page says how many.

use std::collections::HashMap;
use std::fmt::Write as _;

use crate::model::record::{AttemptRecord, VerifyRecord};
use crate::model::{Status, Text};

use super::html;
use super::row::{CLASSES, Row, millis_between};

/// Bytes of all rows, of their texts, and of attempts and verify commands.
const ROWS: usize = 8 << 20;
const TEXTS: usize = 3 << 18;
const MORE: usize = 3 << 18;
/// Attempts and verify commands of one run.
const MOST_OF_A_RUN: usize = 20;
/// What stands for a text that had no room.
const CUT: u32 = 1;

/// The words of `status`.
pub(super) const STATUSES: [&str; 7] =
    ["succeeded", "failed", "rejected", "blocked", "cancelled", "interrupted", "held"];

/// The place of a status among the words.
pub(super) fn status_place(status: Status) -> u8 {
    match status {
        Status::Succeeded => 0,
        Status::Failed => 1,
        Status::Rejected => 2,
        Status::Blocked => 3,
        Status::Cancelled => 4,
        Status::Interrupted => 5,
        Status::Held => 6,
    }
}

/// The data, as it grows.
#[derive(Debug)]
pub(super) struct Island {
    rows: u64,
    used: usize,
    left_out: u64,
    last_start: Option<i64>,
    ids: String,
    status: String,
    class: String,
    columns: [String; 11],
    more: String,
    texts: Texts,
}

/// The names of `columns`.
const COLUMNS: [&str; 11] =
    ["starts", "took", "exit", "tokens", "cost", "tries", "agent", "kind", "error", "command", "labels"];

/// Texts, each once.
#[derive(Debug)]
struct Texts {
    places: HashMap<String, u32>,
    list: String,
    count: u32,
}

impl Default for Island {
    fn default() -> Self {
        let texts = Texts { places: HashMap::from([(String::new(), 0)]), list: "\"\",\"…\"".to_owned(), count: 2 };
        Self {
            rows: 0,
            used: 0,
            left_out: 0,
            last_start: None,
            ids: String::new(),
            status: String::new(),
            class: String::new(),
            columns: Default::default(),
            more: String::new(),
            texts,
        }
    }
}

impl Texts {
    fn place(&mut self, text: String) -> u32 {
        if let Some(place) = self.places.get(&text) {
            return *place;
        }
        let json = json_string(&text);
        if self.list.len() + json.len() > TEXTS {
            return CUT;
        }
        self.list.push(',');
        self.list.push_str(&json);
        let place = self.count;
        self.places.insert(text, place);
        self.count += 1;
        place
    }
}

/// A string that neither ends the JSON nor the element around it.
fn json_string(text: &str) -> String {
    let json = serde_json::to_string(text).unwrap_or_else(|_| "\"\"".to_owned());
    json.replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026")
}

fn number<T: ToString>(value: Option<T>) -> String {
    value.map_or_else(|| "null".to_owned(), |value| value.to_string())
}

fn micro_dollars(dollars: Option<f64>) -> String {
    number(dollars.map(|dollars| (dollars * 1e6).round() as i64))
}

impl Island {
    pub(super) fn take(&mut self, row: &Row) {
        // Where one did not fit, none of the older ones is there: the table has no holes.
        if self.left_out > 0 || self.used > ROWS {
            self.left_out += 1;
            return;
        }
        let start = row.start_time.unix_micros().div_euclid(1000);
        let before = self.last_start.replace(start).map_or(start, |last| last - start);
        let labels: Vec<String> = row.labels.iter().take(20).map(|(name, value)| format!("{name}={value}")).collect();
        let error = row.error.as_ref();
        let texts = [
            self.text(&row.agent.0, html::NAME),
            error.map_or(0, |error| self.text(error.kind.to_string().as_bytes(), html::NAME)),
            error.map_or(0, |error| self.text(error.message.as_bytes(), html::SENTENCE)),
            self.text(&command_line(&row.command), html::SENTENCE),
            self.text(labels.join(" ").as_bytes(), html::SENTENCE),
        ];
        let numbers = [
            before.to_string(),
            row.millis().to_string(),
            exit(row.exit_code, row.signal),
            number(row.tokens_used),
            micro_dollars(row.cost_usd),
            row.attempts.len().to_string(),
        ];
        let cells = numbers.into_iter().chain(texts.into_iter().map(|place| place.to_string()));
        for (column, cell) in self.columns.iter_mut().zip(cells) {
            self.used += cell.len() + 1;
            column.push_str(if column.is_empty() { "" } else { "," });
            column.push_str(&cell);
        }
        let id = row.run_id.to_string().replace('-', "");
        self.used += id.len() + 2;
        self.ids.push_str(&id);
        self.status.push(letter(status_place(row.status)));
        self.class.push(letter(u8::try_from(row.class()).unwrap_or(0)));
        if row.attempts.len() > 1 || !row.verify.is_empty() {
            self.take_more(row);
        }
        self.rows += 1;
    }

    fn text(&mut self, bytes: &[u8], most: usize) -> u32 {
        self.texts.place(html::plain(bytes, most))
    }

    fn take_more(&mut self, row: &Row) {
        if self.more.len() > MORE {
            return;
        }
        let attempts: Vec<String> =
            row.attempts.iter().take(MOST_OF_A_RUN).map(|attempt| self.attempt(row, attempt)).collect();
        let verify: Vec<String> = row.verify.iter().take(MOST_OF_A_RUN).map(|verify| self.verify(verify)).collect();
        let comma = if self.more.is_empty() { "" } else { "," };
        // Writing to a String cannot fail.
        _ = write!(self.more, "{comma}\"{}\":[[{}],[{}]]", self.rows, attempts.join(","), verify.join(","));
    }

    fn attempt(&mut self, row: &Row, attempt: &AttemptRecord) -> String {
        let after = millis_between(row.start_time, attempt.start);
        let took = millis_between(attempt.start, attempt.end);
        let error = attempt.error.as_ref().map_or(0, |error| self.text(error.message.as_bytes(), html::SENTENCE));
        let exit = exit(attempt.exit_code, attempt.signal);
        let (tokens, cost) = (number(attempt.tokens), micro_dollars(attempt.cost));
        let (files, bytes) = (attempt.staged_files, attempt.staged_bytes);
        format!("[{after},{took},{exit},{tokens},{cost},{files},{bytes},{error}]")
    }

    fn verify(&mut self, verify: &VerifyRecord) -> String {
        let command = self.text(&verify.command.0, html::SENTENCE);
        format!("[{},{},{command}]", number(verify.exit_code), verify.duration_ms)
    }

    /// Rows that are there, and rows that are not.
    pub(super) fn rows(&self) -> (u64, u64) {
        (self.rows, self.left_out)
    }

    /// The JSON object.
    pub(super) fn json(self) -> String {
        let words = |words: &[&str]| words.iter().map(|word| json_string(word)).collect::<Vec<_>>().join(",");
        let mut json = String::with_capacity(self.used + self.more.len() + self.texts.list.len() + 1024);
        // Writing to a String cannot fail.
        _ = write!(
            json,
            "{{\"rows\":{},\"statuses\":[{}],\"classes\":[{}],\"ids\":\"{}\",\"status\":\"{}\",\"class\":\"{}\"",
            self.rows,
            words(&STATUSES),
            words(&CLASSES),
            self.ids,
            self.status,
            self.class
        );
        for (name, column) in COLUMNS.iter().zip(&self.columns) {
            // Writing to a String cannot fail.
            _ = write!(json, ",\"{name}\":[{column}]");
        }
        // Writing to a String cannot fail.
        _ = write!(json, ",\"texts\":[{}],\"more\":{{{}}}}}", self.texts.list, self.more);
        json
    }
}

/// An exit code; signals are below zero.
fn exit(code: Option<i32>, signal: Option<i32>) -> String {
    number(signal.map(|signal| -signal).or(code))
}

fn letter(place: u8) -> char {
    char::from(b'a' + place)
}

/// The command as people type it, without more words than can be shown.
pub(super) fn command_line(command: &[Text]) -> Vec<u8> {
    let mut line = Vec::new();
    for word in command {
        if line.len() > html::SENTENCE * 4 {
            break;
        }
        if !line.is_empty() {
            line.push(b' ');
        }
        line.extend_from_slice(&word.0[..word.0.len().min(html::SENTENCE * 4)]);
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_cannot_end_the_element_around_it_and_comes_back_as_it_was() {
        let hostile = "</script><!--\"\\\u{0}&";
        let json = json_string(hostile);
        assert!(!json.contains(['<', '>', '&', '\0']), "{json}");
        assert_eq!(serde_json::from_str::<String>(&json).expect("JSON"), hostile);
    }

    #[test]
    fn texts_that_had_no_room_are_told_apart_from_none() {
        let mut island = Island::default();
        let places: Vec<u32> =
            (0..10_000).map(|at| island.text(format!("{at:0>200}").as_bytes(), html::SENTENCE)).collect();
        assert!(places[0] == 2 && places[9_999] == CUT && island.texts.list.len() <= TEXTS);
        assert_eq!(island.text(b"", 5), 0);
    }
}

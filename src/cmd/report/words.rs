//! Times, durations, counts and money on the page. Unknown is `–`, never zero. Times are in UTC: the page is read
//! elsewhere than where it was made.

use std::time::Duration;

use chrono::DateTime;

use crate::cmd::render::{self, duration};
use crate::model::Timestamp;

/// What is not known.
pub(super) const UNKNOWN: &str = "–";

/// `2026-11-23 12:00:03`.
pub(super) fn time(time: Timestamp) -> String {
    time.to_utc().format("%Y-%m-%d %H:%M:%S").to_string()
}

/// A moment in seconds since the epoch, for an axis.
pub(super) fn moment(seconds: i64, format: &str) -> String {
    DateTime::from_timestamp(seconds, 0).map_or_else(String::new, |time| time.format(format).to_string())
}

/// A number of milliseconds for people.
pub(super) fn millis(millis: u64) -> String {
    duration(Duration::from_millis(millis))
}

/// Tokens for people.
pub(super) fn tokens(count: Option<u64>) -> String {
    count.map_or_else(|| UNKNOWN.to_owned(), |count| render::tokens(Some(count)))
}

/// US dollars for people: `$0.0123`, `$12.34`, `$26,124`, and beyond what anybody pays `$1.0e12`.
pub(super) fn cost(dollars: Option<f64>) -> String {
    match dollars {
        None => UNKNOWN.to_owned(),
        Some(0.0) => "$0".to_owned(),
        Some(dollars) if dollars.abs() >= 1e9 => format!("${dollars:.1e}"),
        Some(dollars) if dollars >= 1e4 => format!("${}", count(dollars.round() as u64)),
        Some(dollars) => render::cost(Some(dollars)),
    }
}

/// `1,234,567`.
pub(super) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::with_capacity(digits.len() * 4 / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// A share in percent: `99.9 %`, and never 100 or 0 unless it is all or none.
pub(super) fn share(part: u64, whole: u64) -> String {
    if whole == 0 {
        return UNKNOWN.to_owned();
    }
    let percent = part as f64 * 100.0 / whole as f64;
    match (part == 0, part == whole) {
        (true, _) => "0 %".to_owned(),
        (_, true) => "100 %".to_owned(),
        _ => format!("{:.1} %", percent.clamp(0.1, 99.9)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_grouped_and_shares_do_not_lie() {
        assert_eq!([0, 999, 1000, 1_234_567].map(count), ["0", "999", "1,000", "1,234,567"]);
        let shares = [(0, 0), (0, 9), (9, 9), (99_999, 100_000), (1, 100_000), (1, 3)].map(|(a, b)| share(a, b));
        assert_eq!(
            [0.0123, 12.34, 26_124.2, 1e12].map(|one| cost(Some(one))),
            ["$0.0123", "$12.34", "$26,124", "$1.0e12"]
        );
        assert_eq!(shares, ["–", "0 %", "100 %", "99.9 %", "0.1 %", "33.3 %"]);
    }
}

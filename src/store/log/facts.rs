//! From a line to its facts. Lines are compact JSON that one serialiser has written, so a scanner that steps from value to
//! value reads them; where a line is anything else, the JSON parser has the word, and says what is wrong with it.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::Deserialize;

use super::read::{Damage, printable};
use crate::model::error_kind::{ErrorClass, ErrorKind, Failure, Status};
use crate::model::facts::{Facts, Wanted};
use crate::model::{Text, Timestamp};

/// The facts of a line, which is at `offset` of the log.
pub(super) fn facts(line: &[u8], offset: u64, wanted: Wanted) -> Result<Facts<'_>, Damage> {
    match scan(line, wanted) {
        Some(facts) => Ok(facts),
        None => parse(line, wanted).map_err(|error| Damage { offset, what: printable(&error.to_string()) }),
    }
}

#[derive(Deserialize)]
struct Models {
    models: Vec<String>,
}

#[derive(Deserialize)]
struct Parsed {
    start_time: Timestamp,
    end_time: Timestamp,
    status: Status,
    error_class: Option<ErrorClass>,
    agent: Text,
    tokens_used: Option<u64>,
    cost_usd: Option<f64>,
    published: bool,
    error: Option<Failure>,
    labels: BTreeMap<String, String>,
    usage: Option<Models>,
}

fn parse(line: &[u8], wanted: Wanted) -> serde_json::Result<Facts<'static>> {
    let parsed: Parsed = serde_json::from_slice(line)?;
    Ok(Facts {
        start: parsed.start_time.unix_micros(),
        end: parsed.end_time.unix_micros(),
        status: parsed.status,
        class: parsed.error_class,
        kind: parsed.error.as_ref().map(|error| error.kind),
        agent: Cow::Owned(parsed.agent.0),
        tokens: parsed.tokens_used,
        cost: parsed.cost_usd,
        published: parsed.published,
        words: parsed.error.filter(|_| wanted.words).map(words).unwrap_or_default(),
        labels: if wanted.labels { parsed.labels } else { BTreeMap::new() },
        models: parsed.usage.filter(|_| wanted.models).map(|usage| usage.models).unwrap_or_default(),
    })
}

fn words(failure: Failure) -> Vec<String> {
    std::iter::once(failure.message).chain(failure.hint).collect()
}

/// `None` where anything is not as the serialiser writes it.
fn scan(line: &[u8], wanted: Wanted) -> Option<Facts<'_>> {
    let (mut start, mut end, mut status, mut agent, mut published) = (None, None, None, None, None);
    let (mut class, mut kind, mut tokens, mut cost) = (None, None, None, None);
    let (mut words_found, mut labels, mut models) = (Vec::new(), BTreeMap::new(), Vec::new());
    let mut values = Values::of(line)?;
    while let Some((key, value)) = values.next()? {
        match key {
            b"start_time" => start = Some(micros(value)?),
            b"end_time" => end = Some(micros(value)?),
            b"status" => status = Some(status_of(value)?),
            b"agent" => agent = Some(name(value)?),
            b"published" => published = Some(value == b"true"),
            b"tokens_used" => tokens = or_null(value, number)?,
            b"cost_usd" => cost = or_null(value, dollars)?,
            b"error_class" => class = or_null(value, word)?,
            b"error" if value != b"null" => {
                kind = Some(kind_of(value)?);
                if wanted.words {
                    words_found = words(word(value)?);
                }
            }
            b"labels" if wanted.labels && value != b"{}" => labels = word(value)?,
            b"usage" if wanted.models && value != b"null" => models = word::<Models>(value)?.models,
            _ => {}
        }
    }
    Some(Facts {
        start: start?,
        end: end?,
        status: status?,
        class,
        kind,
        agent: agent?,
        tokens,
        cost,
        published: published?,
        words: words_found,
        labels,
        models,
    })
}

/// The keys and values of an object, none of them looked into.
struct Values<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Values<'a> {
    fn of(bytes: &'a [u8]) -> Option<Self> {
        (bytes.first() == Some(&b'{')).then_some(Self { bytes, at: 1 })
    }

    /// `Some(None)` past the last one, if nothing follows.
    fn next(&mut self) -> Option<Option<(&'a [u8], &'a [u8])>> {
        let key_end = string_end(self.bytes, self.at)?;
        let key = self.bytes.get(self.at + 1..key_end - 1)?;
        if self.bytes.get(key_end) != Some(&b':') {
            return None;
        }
        let end = value_end(self.bytes, key_end + 1)?;
        let value = &self.bytes[key_end + 1..end];
        match self.bytes.get(end) {
            Some(b',') => self.at = end + 1,
            Some(b'}') if key == b"prev" && end + 1 == self.bytes.len() => return self.last(key, value),
            _ => return None,
        }
        Some(Some((key, value)))
    }

    /// The last field of a record is `prev`, which no fact is taken from.
    fn last(&self, _: &[u8], value: &[u8]) -> Option<Option<(&'a [u8], &'a [u8])>> {
        let is_hash = value.len() == 66 && value[1..65].iter().all(u8::is_ascii_hexdigit);
        (value == b"null" || is_hash).then_some(None)
    }
}

/// Past the closing quote of the string that begins at `at`.
fn string_end(bytes: &[u8], at: usize) -> Option<usize> {
    if bytes.get(at) != Some(&b'"') {
        return None;
    }
    let mut from = at + 1;
    loop {
        let found = from + memchr::memchr2(b'"', b'\\', bytes.get(from..)?)?;
        if bytes[found] == b'"' {
            return Some(found + 1);
        }
        from = found + 2;
    }
}

/// Past the value that begins at `at`.
fn value_end(bytes: &[u8], at: usize) -> Option<usize> {
    match bytes.get(at)? {
        b'"' => string_end(bytes, at),
        b'{' | b'[' => nested_end(bytes, at),
        b'-' | b'0'..=b'9' | b't' | b'f' | b'n' => {
            let is_end = |byte: &u8| matches!(byte, b',' | b'}' | b']');
            let end = at + bytes[at..].iter().position(is_end)?;
            is_scalar(&bytes[at..end]).then_some(end)
        }
        _ => None,
    }
}

fn is_scalar(bytes: &[u8]) -> bool {
    let in_number = |byte: &u8| matches!(byte, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E');
    matches!(bytes, b"null" | b"true" | b"false") || bytes.iter().all(in_number)
}

/// Past the end of an object or a list. What is in it is stepped over, not judged: `fsck` judges every byte.
fn nested_end(bytes: &[u8], at: usize) -> Option<usize> {
    let (mut depth, mut at) = (0_usize, at);
    loop {
        match bytes.get(at)? {
            b'"' => {
                at = string_end(bytes, at)?;
                continue;
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.checked_sub(1)?,
            0..b' ' => return None,
            _ => {}
        }
        at += 1;
        if depth == 0 {
            return Some(at);
        }
    }
}

fn or_null<T>(value: &[u8], read: impl Fn(&[u8]) -> Option<T>) -> Option<Option<T>> {
    if value == b"null" { Some(None) } else { read(value).map(Some) }
}

fn word<T: serde::de::DeserializeOwned>(value: &[u8]) -> Option<T> {
    serde_json::from_slice(value).ok()
}

fn number(value: &[u8]) -> Option<u64> {
    std::str::from_utf8(value).ok().filter(|text| !text.starts_with('+'))?.parse().ok()
}

fn dollars(value: &[u8]) -> Option<f64> {
    std::str::from_utf8(value).ok()?.parse().ok().filter(|dollars: &f64| dollars.is_finite())
}

fn status_of(value: &[u8]) -> Option<Status> {
    match value {
        b"\"succeeded\"" => Some(Status::Succeeded),
        b"\"failed\"" => Some(Status::Failed),
        _ => word(value),
    }
}

/// The kind is the first field of an error.
fn kind_of(value: &[u8]) -> Option<ErrorKind> {
    let rest = value.strip_prefix(b"{\"kind\":")?;
    word(&rest[..string_end(rest, 0)?])
}

/// A string of plain text as it stands; others as the parser has them.
fn name(value: &[u8]) -> Option<Cow<'_, [u8]>> {
    let inner = value.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\""));
    match inner {
        Some(text) if memchr::memchr(b'\\', text).is_none() && std::str::from_utf8(text).is_ok() => {
            Some(Cow::Borrowed(text))
        }
        _ => word::<Text>(value).map(|text| Cow::Owned(text.0)),
    }
}

/// Microseconds since the epoch of `"2026-11-23T12:00:00.000000Z"`; other forms are left to the parser.
fn micros(value: &[u8]) -> Option<i64> {
    const SHAPE: &[u8; 29] = b"\"0000-00-00T00:00:00.000000Z\"";
    if value.len() != SHAPE.len() {
        return None;
    }
    let fits = |(byte, shape): (&u8, &u8)| if *shape == b'0' { byte.is_ascii_digit() } else { byte == shape };
    if !value.iter().zip(SHAPE).all(fits) {
        return None;
    }
    let digits =
        |from: usize, to: usize| value[from..to].iter().fold(0_i64, |sum, byte| sum * 10 + i64::from(byte - b'0'));
    let (year, month, day) = (digits(1, 5), digits(6, 8), digits(9, 11));
    let (hour, minute, second) = (digits(12, 14), digits(15, 17), digits(18, 20));
    if !(1..=12).contains(&month) || !(1..=28).contains(&day) && !is_day(year, month, day) {
        return None;
    }
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    Some((((days(year, month, day) * 24 + hour) * 60 + minute) * 60 + second) * 1_000_000 + digits(21, 27))
}

fn is_day(year: i64, month: i64, day: i64) -> bool {
    let in_range = |value: i64| u32::try_from(value).unwrap_or(0);
    chrono::NaiveDate::from_ymd_opt(i32::try_from(year).unwrap_or(0), in_range(month), in_range(day)).is_some()
}

/// Days from 1970-01-01 to a date of the Gregorian calendar, counted in eras of 400 years that begin in March.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Wanted = Wanted { words: true, labels: true, models: true };

    const LINE: &str = concat!(
        r#"{"run_id":"019ab3c4-5d6e-7f80-9123-456789abcdef","start_time":"2026-11-23T12:00:00.000001Z","#,
        r#""end_time":"2026-11-23T12:00:01.500001Z","status":"rejected","input_hash":null,"output_hash":null,"#,
        r#""tokens_used":12,"cost_usd":0.25,"error_class":"silent_drift","schema":1,"agent":"a\u0000é","command":["x","]}"],"#,
        r#""published":false,"error":{"kind":"verify_failed","message":"said \"no\"","hint":"look"},"attempts":[{"a":[1]}],"#,
        r#""usage":{"models":["m"],"calls":null},"labels":{"k":"v"},"prev":null}"#
    );

    #[test]
    fn the_scanner_and_the_parser_find_the_same() {
        let scanned = scan(LINE.as_bytes(), ALL).expect("scanned");
        assert_eq!(scanned, parse(LINE.as_bytes(), ALL).expect("parsed"));
        assert_eq!(
            (scanned.words.as_slice(), &*scanned.agent),
            (&["said \"no\"".into(), "look".into()][..], "a\0é".as_bytes())
        );
        assert_eq!(
            (scanned.tokens, scanned.cost, scanned.models.len(), scanned.labels.len()),
            (Some(12), Some(0.25), 1, 1)
        );
    }

    #[test]
    fn no_line_that_was_cut_or_overwritten_is_taken_for_whole() {
        for cut in 0..LINE.len() {
            assert_eq!(scan(&LINE.as_bytes()[..cut], ALL), None, "{cut}");
        }
        for at in 0..LINE.len() {
            let mut other = LINE.as_bytes().to_vec();
            other[at] = 0;
            if let Some(facts) = scan(&other, Wanted::default()) {
                // Within a string, which is not looked into: the facts are those of the line.
                assert_eq!(facts.start, 1_795_435_200_000_001, "{at}");
            }
        }
        assert!(facts(b"{\"agent\":3}", 7, ALL).expect_err("damaged").to_string().starts_with("the line at byte 7"));
    }

    #[test]
    fn times_are_those_of_the_calendar() {
        for text in [
            "1970-01-01T00:00:00.000000Z",
            "2024-02-29T23:59:59.999999Z",
            "2100-03-01T00:00:00.000000Z",
            "0001-01-01T00:00:00.000000Z",
        ] {
            let time: Timestamp = text.parse().expect("a time");
            assert_eq!(micros(format!("\"{text}\"").as_bytes()), Some(time.unix_micros()), "{text}");
        }
        for text in [
            "2023-02-29T00:00:00.000000Z",
            "2023-13-01T00:00:00.000000Z",
            "2023-01-01T24:00:00.000000Z",
            "2023-01-01T00:00:00Z",
        ] {
            assert_eq!(micros(format!("\"{text}\"").as_bytes()), None, "{text}");
        }
    }
}

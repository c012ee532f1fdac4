//! Times as people type them: RFC 3339, a date, a date and time of day, or an age (`2h`, `3d`).

use anyhow::bail;
use chrono::{Local, NaiveDate, NaiveDateTime, TimeZone};

use crate::model::Timestamp;
use crate::sys::clock;

/// Parses a time; dates and times of day are local.
pub fn parse(option: &str, text: &str) -> anyhow::Result<Timestamp> {
    if let Ok(time) = text.parse() {
        return Ok(time);
    }
    let naive = NaiveDateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S")
        .or_else(|_| NaiveDateTime::parse_from_str(text, "%Y-%m-%d %H:%M"))
        .or_else(|_| NaiveDate::parse_from_str(text, "%Y-%m-%d").map(|date| date.and_time(chrono::NaiveTime::MIN)));
    if let Ok(naive) = naive
        && let Some(local) = Local.from_local_datetime(&naive).earliest()
    {
        return Ok(Timestamp::from_unix_micros(local.timestamp_micros()));
    }
    if let Ok(age) = humantime::parse_duration(text) {
        let micros = i64::try_from(age.as_micros()).unwrap_or(i64::MAX);
        return Ok(Timestamp::from_unix_micros(clock::now().unix_micros().saturating_sub(micros)));
    }
    bail!("--{option}: {text:?} is no time: write 2026-11-23, \"2026-11-23 12:00\", RFC 3339, or an age such as 2h")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_parse_in_every_documented_form() {
        let micros = |text: &str| parse("since", text).map(Timestamp::unix_micros).ok();
        assert_eq!(micros("1970-01-01T00:00:01Z"), Some(1_000_000));
        assert!(micros("2026-11-23").is_some() && micros("2026-11-23 12:00").is_some());
        let (now, hour) = (clock::now().unix_micros(), 3_600_000_000);
        let ago = micros("1h").expect("an age");
        assert!((now - hour - ago).abs() < 60_000_000);
        assert_eq!(micros("yesterday-ish"), None);
    }
}

//! Times, durations, counts and money for people. Unknown is `-`, never zero.

use std::time::Duration;

use chrono::Local;

use crate::model::Timestamp;

/// The local time, e.g. `2026-11-23 12:00:03`; `TZ` decides where local is.
pub fn local_time(time: Timestamp) -> String {
    time.to_utc().with_timezone(&Local).format("%Y-%m-%d %H:%M:%S").to_string()
}

/// How long it was from one instant of the wall clock to the other; `-` where the clock went backwards.
pub fn duration_between(start: Timestamp, end: Timestamp) -> String {
    match u64::try_from(end.unix_micros() - start.unix_micros()) {
        Ok(micros) => duration(Duration::from_micros(micros)),
        Err(_) => "-".to_owned(),
    }
}

/// `350ms`, `12.4s`, `3m05s`, `2h04m`, `3d07h`: three figures or so, whatever the size.
pub fn duration(long: Duration) -> String {
    let seconds = long.as_secs();
    match seconds {
        0 => format!("{}ms", long.as_millis()),
        1..60 => format!("{}.{}s", seconds, long.subsec_millis() / 100),
        60..3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        3600..86400 => format!("{}h{:02}m", seconds / 3600, seconds / 60 % 60),
        _ => format!("{}d{:02}h", seconds / 86400, seconds / 3600 % 24),
    }
}

/// `980`, `18.2k`, `1.3M`.
pub fn tokens(count: Option<u64>) -> String {
    count.map_or_else(|| "-".to_owned(), |count| scaled(count, 1000, ["", "k", "M", "G"]))
}

/// `512 B`, `1.5 KiB`, `20.0 MiB`.
pub fn byte_count(bytes: u64) -> String {
    scaled(bytes, 1024, [" B", " KiB", " MiB", " GiB"])
}

fn scaled(count: u64, base: u64, units: [&str; 4]) -> String {
    let (mut whole, mut tenth, mut unit) = (count, None, 0);
    while whole >= base && unit + 1 < units.len() {
        tenth = Some(whole % base * 10 / base);
        whole /= base;
        unit += 1;
    }
    match tenth {
        Some(tenth) => format!("{whole}.{tenth}{}", units[unit]),
        None => format!("{whole}{}", units[unit]),
    }
}

/// `$0.0123` below a dollar, `$12.34` above.
pub fn cost(dollars: Option<f64>) -> String {
    match dollars {
        None => "-".to_owned(),
        Some(dollars) if dollars.abs() < 1.0 => format!("${dollars:.4}"),
        Some(dollars) => format!("${dollars:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_keep_the_digits_that_matter() {
        let long = |millis| duration(Duration::from_millis(millis));
        assert_eq!(
            [0, 350, 12_450, 185_000, 7_445_000, 284_400_000].map(long),
            ["0ms", "350ms", "12.4s", "3m05s", "2h04m", "3d07h"]
        );
        assert_eq!(
            [None, Some(0), Some(980), Some(18_249), Some(1_300_000)].map(tokens),
            ["-", "0", "980", "18.2k", "1.3M"]
        );
        assert_eq!([0, 1023, 1536, 20 << 20].map(byte_count), ["0 B", "1023 B", "1.5 KiB", "20.0 MiB"]);
        assert_eq!([None, Some(0.01234), Some(12.3)].map(cost), ["-", "$0.0123", "$12.30"]);
    }

    #[test]
    fn a_clock_that_went_backwards_gives_no_duration() {
        let at = Timestamp::from_unix_micros;
        assert_eq!(duration_between(at(5), at(3)), "-");
        assert_eq!(duration_between(at(0), at(2_500_000)), "2.5s");
    }
}

//! Figures as people are shown them: `2.5k`, `1,234`, `112`.

/// The number, if it is one.
pub(super) fn rounded(text: &str) -> Option<u64> {
    const MOST: f64 = 1e15;
    let text = text.trim_matches(|one: char| !one.is_ascii_alphanumeric());
    let (digits, factor) = match text.as_bytes().last()? {
        b'k' | b'K' => (&text[..text.len() - 1], 1e3),
        b'm' | b'M' => (&text[..text.len() - 1], 1e6),
        b'b' | b'B' => (&text[..text.len() - 1], 1e9),
        _ => (text, 1.0),
    };
    if !digits.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.' || byte == b',') {
        return None;
    }
    let number: f64 = digits.replace(',', "").parse().ok()?;
    let whole = (number * factor).round();
    (whole.is_finite() && whole <= MOST).then_some(whole as u64)
}

#[cfg(test)]
mod tests {
    use super::rounded;

    #[test]
    fn figures_for_people_are_read() {
        let cases = [
            ("2.5k", Some(2500)),
            ("1,234", Some(1234)),
            ("112", Some(112)),
            ("(2.0k", Some(2000)),
            ("3M,", Some(3_000_000)),
        ];
        for (text, number) in cases {
            assert_eq!(rounded(text), number, "{text}");
        }
        for none in ["", "k", "many", "1.2.3", "-5x", "1e9", "\u{663}"] {
            assert_eq!(rounded(none), None, "{none}");
        }
    }
}

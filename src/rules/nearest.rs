//! "Did you mean": the known word nearest to a mistyped one.

/// The nearest of `known`, if any is near enough to be what was meant.
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    known
        .into_iter()
        .map(|candidate| (strsim::jaro_winkler(word, candidate), candidate))
        .filter(|(score, _)| *score > 0.75)
        .max_by(|left, right| left.0.total_cmp(&right.0))
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_typo_finds_its_word_and_a_stranger_finds_none() {
        let known = ["timeout", "verify", "kill-after"];
        assert_eq!(nearest("timout", known), Some("timeout"));
        assert_eq!(nearest("verfiy", known), Some("verify"));
        assert_eq!(nearest("xyzzy", known), None);
    }
}

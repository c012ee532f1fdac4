//! What the gate demands of a sealed result before any verify command is run: limits, expectations, and the kinds
//! of object that are never published.

use crate::model::error_kind::{ErrorKind, Failure};

/// What is known of a sealed result.
#[derive(Clone, Debug, Default)]
pub struct ResultSummary {
    /// Files, links and fifos.
    pub files: u64,
    /// Bytes in regular files.
    pub bytes: u64,
    /// Expected globs that matched no non-empty file.
    pub unmatched: Vec<String>,
    /// Sockets and devices, escaped for display, with what they are.
    pub specials: Vec<(String, &'static str)>,
    /// Files that would become setuid or setgid, escaped for display.
    pub privileged: Vec<String>,
}

/// The limits of the policy.
#[derive(Clone, Copy, Debug, Default)]
pub struct Limits {
    /// Most files.
    pub files: Option<u64>,
    /// Most bytes.
    pub bytes: Option<u64>,
}

/// The first thing wrong with the result, if anything is.
pub fn objection(result: &ResultSummary, limits: Limits) -> Option<Failure> {
    if let Some((path, what)) = result.specials.first() {
        let message = format!("the result holds a {what}, which is never published: {path}");
        return Some(Failure::new(ErrorKind::Expectation, message).with_hint("let the agent remove it"));
    }
    if let Some(path) = result.privileged.first() {
        let message = format!("the result holds a setuid or setgid file, which is never published: {path}");
        return Some(Failure::new(ErrorKind::Expectation, message).with_hint("let the agent chmod it"));
    }
    if let Some(most) = limits.files.filter(|most| result.files > *most) {
        let message = format!("the result has {} files, more than --max-files {most}", result.files);
        return Some(Failure::new(ErrorKind::Limit, message));
    }
    if let Some(most) = limits.bytes.filter(|most| result.bytes > *most) {
        let message = format!("the result has {} bytes, more than --max-bytes {most}", result.bytes);
        return Some(Failure::new(ErrorKind::Limit, message));
    }
    if result.unmatched.is_empty() {
        return None;
    }
    let message = format!("no non-empty file of the result matches --expect {}", result.unmatched.join(", --expect "));
    Some(Failure::new(ErrorKind::Expectation, message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_demand_is_enforced_by_itself() {
        let fine = ResultSummary { files: 2, bytes: 10, ..ResultSummary::default() };
        let kind = |result: &ResultSummary, limits| objection(result, limits).map(|failure| failure.kind);
        assert_eq!(kind(&fine, Limits { files: Some(2), bytes: Some(10) }), None);
        assert_eq!(kind(&fine, Limits { files: Some(1), bytes: None }), Some(ErrorKind::Limit));
        assert_eq!(kind(&fine, Limits { files: None, bytes: Some(9) }), Some(ErrorKind::Limit));
        let missing = ResultSummary { unmatched: vec!["*.md".into()], ..fine.clone() };
        assert_eq!(kind(&missing, Limits::default()), Some(ErrorKind::Expectation));
        let socket = ResultSummary { specials: vec![("s".into(), "socket")], ..fine.clone() };
        assert_eq!(kind(&socket, Limits::default()), Some(ErrorKind::Expectation));
        let setuid = ResultSummary { privileged: vec!["x".into()], ..fine };
        assert_eq!(kind(&setuid, Limits::default()), Some(ErrorKind::Expectation));
    }
}

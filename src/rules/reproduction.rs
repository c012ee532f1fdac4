//! Whether a replay reproduced its original: status, exit code and output hash, and which outputs differ.

use crate::model::digest::Digest;
use crate::model::record::RunRecord;
use crate::model::text::Text;

/// What a replay came to, next to the run it replays.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Comparison {
    /// One line per property that differs: `status: failed, was succeeded`.
    pub differences: Vec<String>,
    /// Paths of the outputs that differ.
    pub paths: Vec<PathDifference>,
}

/// One output path that differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathDifference {
    /// The path in the output listing.
    pub path: Text,
    /// `only in the original`, `only in the replay`, or what changed.
    pub what: &'static str,
}

impl Comparison {
    /// Nothing differs.
    pub fn reproduced(&self) -> bool {
        self.differences.is_empty() && self.paths.is_empty()
    }
}

/// Compares what the records say. The status a replay would have had is compared, not whether it was published:
/// a replay publishes nothing unless asked.
pub fn compare(original: &RunRecord, replay: &RunRecord) -> Comparison {
    let mut differences = Vec::new();
    let mut check = |what: &str, was: String, is: String| {
        if was != is {
            differences.push(format!("{what}: {is}, was {was}"));
        }
    };
    check("status", original.status.to_string(), replay.status.to_string());
    check("exit code", agent_end(original), agent_end(replay));
    check("output hash", hash(original.output_hash), hash(replay.output_hash));
    Comparison { differences, paths: Vec::new() }
}

fn agent_end(record: &RunRecord) -> String {
    match (record.exit_code, record.signal) {
        (Some(code), _) => code.to_string(),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => "none".to_owned(),
    }
}

fn hash(digest: Option<Digest>) -> String {
    digest.map_or_else(|| "none".to_owned(), |digest| digest.to_string())
}

/// Differences between two sorted lists of (path, fingerprint of mode, kind and content).
pub fn compare_paths(original: &[(Text, String)], replay: &[(Text, String)]) -> Vec<PathDifference> {
    let (mut left, mut right) = (original.iter().peekable(), replay.iter().peekable());
    let mut paths = Vec::new();
    loop {
        let (path, what) = match (left.peek(), right.peek()) {
            (None, None) => return paths,
            (Some((path, _)), None) => (path, "only in the original"),
            (None, Some((path, _))) => (path, "only in the replay"),
            (Some((was, _)), Some((is, _))) if was < is => (was, "only in the original"),
            (Some((was, _)), Some((is, _))) if was > is => (is, "only in the replay"),
            (Some((was, _)), Some((_, _))) => (was, "differs"),
        };
        let path = path.clone();
        let was = left.next_if(|(name, _)| *name == path);
        let is = right.next_if(|(name, _)| *name == path);
        if was.map(|(_, mark)| mark) != is.map(|(_, mark)| mark) {
            paths.push(PathDifference { path, what });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_path_difference_is_named_once() {
        let list = |pairs: &[(&str, &str)]| -> Vec<(Text, String)> {
            pairs.iter().map(|(path, mark)| (Text::from(*path), (*mark).to_owned())).collect()
        };
        let found =
            compare_paths(&list(&[("a", "1"), ("b", "1"), ("c", "1")]), &list(&[("b", "2"), ("c", "1"), ("d", "1")]));
        let named: Vec<(String, &str)> =
            found.iter().map(|one| (one.path.to_string_lossy().into_owned(), one.what)).collect();
        let expected = [("a", "only in the original"), ("b", "differs"), ("d", "only in the replay")]
            .map(|(p, w)| (p.to_owned(), w));
        assert_eq!(named, expected);
    }
}

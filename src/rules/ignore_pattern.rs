//! Patterns of ignore files: one line of a `.gitignore`, read and matched as gitignore(5) says and git does, byte by
//! byte.
//!
//! Not the `ignore` crate: it reads `*.{log,tmp}` as two suffixes where git reads braces as themselves (so files that
//! git lists would be left out), knows no escapes in bracket expressions, and takes only patterns that are UTF-8.

use super::ignore_glob::{Token, glob_matches, tokens};

/// What the last pattern that matches says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Match {
    /// The path is ignored.
    Ignored,
    /// The path is not, whatever earlier patterns say.
    Kept,
}

/// The patterns of one file, in its order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IgnorePatterns {
    patterns: Vec<Pattern>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Pattern {
    verdict: Match,
    only_directories: bool,
    /// Without a slash: matched against the last component alone.
    is_name: bool,
    shape: Shape,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Shape {
    Literal(Box<[u8]>),
    /// `*` and a literal, in a pattern that is a name.
    Suffix(Box<[u8]>),
    Glob(Box<[Token]>),
}

impl IgnorePatterns {
    /// Reads a file. There is no line that cannot be read; one that makes no sense matches nothing.
    pub fn parse(content: &[u8]) -> Self {
        let content = content.strip_prefix(b"\xef\xbb\xbf").unwrap_or(content);
        let ended = |line: &[u8]| line.len() < content.len();
        let lines = content.split(|byte| *byte == b'\n').map(|line| match line.strip_suffix(b"\r") {
            Some(stripped) if ended(line) => stripped,
            _ => line,
        });
        Self { patterns: lines.filter_map(Pattern::parse).collect() }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.patterns.is_empty()
    }

    /// What the last pattern that matches says of a path relative to the file's directory; none if none matches.
    /// Whether a directory above the path is ignored is the caller's to know.
    pub fn of(&self, path: &[u8], is_directory: bool) -> Option<Match> {
        let name = path.iter().rposition(|byte| *byte == b'/').map_or(path, |at| &path[at + 1..]);
        self.patterns
            .iter()
            .rev()
            .find(|pattern| {
                (is_directory || !pattern.only_directories)
                    && pattern.shape.matches(if pattern.is_name { name } else { path })
            })
            .map(|pattern| pattern.verdict)
    }
}

impl Pattern {
    fn parse(line: &[u8]) -> Option<Self> {
        if line.is_empty() || line[0] == b'#' {
            return None;
        }
        let line = without_trailing_spaces(line);
        let (verdict, line) = match line.strip_prefix(b"!") {
            Some(rest) => (Match::Kept, rest),
            None => (Match::Ignored, line),
        };
        let (only_directories, line) = match line.strip_suffix(b"/") {
            Some(rest) => (true, rest),
            None => (false, line),
        };
        let is_name = !line.contains(&b'/');
        let line = line.strip_prefix(b"/").unwrap_or(line);
        let shape = Shape::parse(line, is_name)?;
        Some(Self { verdict, only_directories, is_name, shape })
    }
}

/// Spaces at the end do not count unless they are escaped.
fn without_trailing_spaces(line: &[u8]) -> &[u8] {
    let (mut end, mut at) = (0, 0);
    while let Some(byte) = line.get(at) {
        at += if *byte == b'\\' { 2 } else { 1 };
        if *byte != b' ' {
            end = at.min(line.len());
        }
    }
    &line[..end]
}

fn is_special(byte: &u8) -> bool {
    matches!(byte, b'*' | b'?' | b'[' | b'\\')
}

impl Shape {
    /// None: no path can match.
    fn parse(text: &[u8], is_name: bool) -> Option<Self> {
        if text.is_empty() {
            return None;
        }
        let Some(literal) = text.iter().position(is_special) else { return Some(Self::Literal(text.into())) };
        match text.strip_prefix(b"*") {
            Some(suffix) if is_name && !suffix.iter().any(is_special) => Some(Self::Suffix(suffix.into())),
            _ => tokens(text, if is_name { 0 } else { literal }).map(|tokens| Self::Glob(tokens.into())),
        }
    }

    fn matches(&self, text: &[u8]) -> bool {
        match self {
            Self::Literal(literal) => **literal == *text,
            Self::Suffix(suffix) => text.ends_with(suffix),
            Self::Glob(tokens) => glob_matches(tokens, text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_gitignore_5_says() {
        let ignored = [
            ("*.log", "a/b.log"),
            ("*.{log,tmp}", "a.{log,tmp}"),
            ("a/**/b", "a/b"),
            ("a/**/b", "a/x/y/b"),
            ("**/b", "x/b"),
            ("a/**", "a/x/y"),
            ("/a", "a"),
            ("a\\ ", "a "),
            ("\\!a", "!a"),
            ("[]-]x", "]x"),
            ("[[:digit:]-]", "-"),
            ("a?c", "abc"),
            ("d/*.o", "d/x.o"),
        ];
        for (pattern, path) in ignored {
            let patterns = IgnorePatterns::parse(pattern.as_bytes());
            assert_eq!(patterns.of(path.as_bytes(), false), Some(Match::Ignored), "{pattern} {path}");
        }
        let unmatched =
            [("/a", "b/a"), ("a/b", "x/a/b"), ("*.{log,tmp}", "a.log"), ("a?c", "a/c"), ("d/*.o", "d/e/x.o")];
        for (pattern, path) in unmatched {
            assert_eq!(IgnorePatterns::parse(pattern.as_bytes()).of(path.as_bytes(), false), None, "{pattern} {path}");
        }
    }

    #[test]
    fn the_last_match_counts_and_a_final_slash_means_directories() {
        let patterns = IgnorePatterns::parse(b"# not\n*\n!keep\nd/\n");
        assert_eq!(patterns.of(b"x", false), Some(Match::Ignored));
        assert_eq!(patterns.of(b"keep", false), Some(Match::Kept));
        let directories = IgnorePatterns::parse(b"d/");
        assert_eq!((directories.of(b"d", true), directories.of(b"d", false)), (Some(Match::Ignored), None));
    }

    #[test]
    fn a_hostile_pattern_takes_no_exponential_time() {
        let patterns = IgnorePatterns::parse("*a".repeat(2000).as_bytes());
        assert_eq!(patterns.of("a".repeat(1999).as_bytes(), false), None);
        let patterns = IgnorePatterns::parse("**/*a/".repeat(500).as_bytes());
        assert_eq!(patterns.of("aa/".repeat(499).as_bytes(), true), None);
    }
}

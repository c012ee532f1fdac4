//! Git's configuration format (git-config(1), Syntax), as far as single values of known names are looked up in it.

/// One line that sets something.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Setting {
    /// Section and key, lower-case, with a dot: `core.excludesfile`; those of subsections do not occur.
    pub(super) name: String,
    pub(super) value: Vec<u8>,
}

/// The settings of a file in its order. What makes no sense is passed over.
pub(super) fn settings(content: &[u8]) -> Vec<Setting> {
    let mut found = Vec::new();
    let mut section = None;
    let mut rest = content;
    while !rest.is_empty() {
        let line = rest.trim_ascii_start();
        if let Some(header) = line.strip_prefix(b"[") {
            let end = header.iter().position(|byte| matches!(byte, b']' | b'\n')).unwrap_or(header.len());
            section = plain_name(&header[..end]);
            rest = &header[(end + 1).min(header.len())..];
            // The rest of the line may set something.
            continue;
        }
        let end = line.iter().position(|byte| matches!(byte, b'=' | b'\n' | b'#' | b';')).unwrap_or(line.len());
        let key = plain_name(line[..end].trim_ascii());
        if line.get(end) == Some(&b'=') {
            let (value, after) = value(&line[end + 1..]);
            if let (Some(section), Some(key)) = (&section, key) {
                found.push(Setting { name: format!("{section}.{key}"), value });
            }
            rest = after;
        } else {
            rest = after_line(&line[end..]);
        }
    }
    found
}

fn plain_name(text: &[u8]) -> Option<String> {
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'-';
    let name = std::str::from_utf8(text).ok()?;
    (!text.is_empty() && text.iter().all(is_plain)).then(|| name.to_ascii_lowercase())
}

fn after_line(text: &[u8]) -> &[u8] {
    memchr::memchr(b'\n', text).map_or(&[], |at| &text[at + 1..])
}

/// A value without its quotes, escapes and comment, and what follows its line.
fn value(text: &[u8]) -> (Vec<u8>, &[u8]) {
    let mut out = Vec::new();
    // Blanks at the end count only inside quotes.
    let (mut kept, mut quoted, mut at) = (0, false, 0);
    let text = text.trim_ascii_start_on_line();
    while let Some(byte) = text.get(at) {
        at += 1;
        match byte {
            b'\n' => break,
            b'"' => quoted = !quoted,
            b'#' | b';' if !quoted => {
                out.truncate(kept);
                return (out, after_line(&text[at..]));
            }
            b'\\' => {
                let escaped = text.get(at).copied();
                at += 1;
                match escaped {
                    Some(b'\n') | None => continue,
                    Some(b'n') => out.push(b'\n'),
                    Some(b't') => out.push(b'\t'),
                    Some(b'b') => out.push(8),
                    Some(other) => out.push(other),
                }
                kept = out.len();
            }
            byte => {
                out.push(*byte);
                if quoted || !byte.is_ascii_whitespace() {
                    kept = out.len();
                }
            }
        }
    }
    out.truncate(kept);
    (out, text.get(at..).unwrap_or_default())
}

trait OnLine {
    fn trim_ascii_start_on_line(&self) -> &Self;
}

impl OnLine for [u8] {
    /// Without blanks at the start, but never past the end of the line.
    fn trim_ascii_start_on_line(&self) -> &Self {
        let blanks = self.iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
        &self[blanks..]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_as_git_reads_them() {
        let content =
            b"; first\n[Core] bare = false\n\tExcludesFile = ~/a\\\n b ; why\n[user \"x\"]\nname = no\n[include]\n\
            path = \"sp ace # kept\" \nempty =\n# end\n[core]\nflag\nlast = 1";
        let found: Vec<_> = settings(content)
            .into_iter()
            .map(|setting| (setting.name, String::from_utf8(setting.value).expect("text")))
            .collect();
        let expected = [
            ("core.bare", "false"),
            ("core.excludesfile", "~/a b"),
            ("include.path", "sp ace # kept"),
            ("include.empty", ""),
            ("core.last", "1"),
        ];
        assert_eq!(found, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
    }
}

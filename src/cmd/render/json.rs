//! JSON made readable without reading it into values: the order of fields and the digits of numbers are part of what
//! was stored.

use serde::de::IgnoredAny;

/// The same JSON with one field or element to a line, two spaces a level, and a newline at its end.
pub fn indent_json(json: &[u8]) -> serde_json::Result<String> {
    serde_json::from_slice::<IgnoredAny>(json)?;
    let mut text = Indented { bytes: Vec::with_capacity(json.len() * 2), level: 0 };
    let mut rest = json;
    while let Some((&byte, after)) = rest.split_first() {
        rest = match byte {
            b'"' => text.string(rest),
            byte => text.structure(byte, after),
        };
    }
    text.bytes.push(b'\n');
    Ok(String::from_utf8_lossy(&text.bytes).into_owned())
}

struct Indented {
    bytes: Vec<u8>,
    level: usize,
}

impl Indented {
    /// Copies the string that `rest` begins with; returns what follows it.
    fn string<'a>(&mut self, rest: &'a [u8]) -> &'a [u8] {
        let mut len = 1;
        while len < rest.len() && rest[len] != b'"' {
            len += if rest[len] == b'\\' { 2 } else { 1 };
        }
        let (string, after) = rest.split_at((len + 1).min(rest.len()));
        self.bytes.extend_from_slice(string);
        after
    }

    /// Lays out one byte outside strings; returns what is left of `after`.
    fn structure<'a>(&mut self, byte: u8, after: &'a [u8]) -> &'a [u8] {
        match byte {
            b' ' | b'\t' | b'\r' | b'\n' => {}
            b'{' | b'[' => {
                self.bytes.push(byte);
                let inside = after.trim_ascii_start();
                if let Some((close @ (b'}' | b']'), outside)) = inside.split_first() {
                    self.bytes.push(*close);
                    return outside;
                }
                self.level += 1;
                self.new_line();
            }
            b'}' | b']' => {
                self.level = self.level.saturating_sub(1);
                self.new_line();
                self.bytes.push(byte);
            }
            b',' => {
                self.bytes.push(byte);
                self.new_line();
            }
            b':' => self.bytes.extend_from_slice(b": "),
            other => self.bytes.push(other),
        }
        after
    }

    fn new_line(&mut self) {
        self.bytes.push(b'\n');
        self.bytes.resize(self.bytes.len() + 2 * self.level, b' ');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_keep_their_order_and_text_its_bytes() {
        let json = br#"{"z":1.50,"a":["x,{\"y\":1}\\",{}],"e":[],"n":{"k":null}}"#;
        let shown = indent_json(json).expect("JSON");
        let lines = [
            "{",
            r#"  "z": 1.50,"#,
            r#"  "a": ["#,
            r#"    "x,{\"y\":1}\\","#,
            "    {}",
            "  ],",
            r#"  "e": [],"#,
            r#"  "n": {"#,
            r#"    "k": null"#,
            "  }",
            "}",
            "",
        ];
        assert_eq!(shown, lines.join("\n"));
        assert!(indent_json(b"{\"a\":").is_err());
    }
}

//! Rows for programs and for documents: RFC 4180 CSV, and tables of Markdown.

use std::io::{self, Write};

use super::escape::escape;

/// One line of CSV. The values come back as they were; what holds a comma, a quote or a line break is quoted.
pub fn csv_row<S: AsRef<str>>(out: &mut dyn Write, values: &[S]) -> io::Result<()> {
    let quoted: Vec<String> = values.iter().map(|value| csv_value(value.as_ref())).collect();
    out.write_all(quoted.join(",").as_bytes())?;
    out.write_all(b"\r\n")
}

fn csv_value(value: &str) -> String {
    if value.contains(['"', ',', '\n', '\r']) {
        return format!("\"{}\"", value.replace('"', "\"\""));
    }
    value.to_owned()
}

/// The first two lines of a table.
pub fn markdown_titles(out: &mut dyn Write, titles: &[&str]) -> io::Result<()> {
    markdown_row(out, titles)?;
    writeln!(out, "|{}", "---|".repeat(titles.len()))
}

/// One line of a table; nothing in a value is taken for markup.
pub fn markdown_row<S: AsRef<str>>(out: &mut dyn Write, values: &[S]) -> io::Result<()> {
    let cells: Vec<String> = values.iter().map(|value| markdown_value(value.as_ref())).collect();
    writeln!(out, "| {} |", cells.join(" | "))
}

fn markdown_value(value: &str) -> String {
    let mut cell = String::with_capacity(value.len());
    for letter in escape(value.as_bytes()).chars() {
        match letter {
            '<' => cell.push_str("&lt;"),
            '&' => cell.push_str("&amp;"),
            '|' | '\\' | '`' | '*' | '_' | '[' | ']' | '~' | '$' | '#' | '!' | '@' => {
                cell.push('\\');
                cell.push(letter);
            }
            letter => cell.push(letter),
        }
    }
    cell
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_never_taken_for_the_end_of_its_cell() {
        let mut out = Vec::new();
        csv_row(&mut out, &["plain", "a,b", "say \"x\"\n"]).expect("a vector takes it");
        assert_eq!(out, b"plain,\"a,b\",\"say \"\"x\"\"\n\"\r\n");
        let mut out = Vec::new();
        markdown_titles(&mut out, &["a", "b"]).expect("a vector takes it");
        markdown_row(&mut out, &["x|y\n", "<img>`c`"]).expect("a vector takes it");
        assert_eq!(String::from_utf8_lossy(&out), "| a | b |\n|---|---|\n| x\\|y\\\\n | &lt;img>\\`c\\` |\n");
    }
}

//! How values of the domain look to a person. Whatever an agent could choose goes through [`escape()`] or
//! [`shell_quote`]: no byte of it reaches a terminal as a control.

mod escape;
mod figures;
mod json;
mod sheet;
mod table;

use std::io;

pub use escape::{escape, escape_line, shell_quote};
pub use figures::{byte_count, cost, duration, duration_between, local_time, tokens};
pub use json::indent_json;
pub use sheet::{csv_row, markdown_row, markdown_titles};
pub use table::{Cell, Paint, Table, Tint, truncate};

/// A reader that has seen enough (`agentguard log | head`) is no error: what was written was what it wanted.
pub fn unless_closed(written: io::Result<()>) -> io::Result<()> {
    match written {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}

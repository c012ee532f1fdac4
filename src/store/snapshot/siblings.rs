//! The records of one directory of a stat table, in step with names that come sorted.

use super::table::StatTable;
use super::table_record::Record;

/// A cursor over siblings.
#[derive(Clone, Copy, Debug)]
pub(super) struct KnownSiblings<'a> {
    table: Option<&'a StatTable>,
    next: u32,
    end: u32,
}

impl<'a> KnownSiblings<'a> {
    /// Children of `dir`, or the roots.
    pub(super) fn of(table: Option<&'a StatTable>, dir: Option<u32>) -> Self {
        let (next, end) = match (table, dir) {
            (None, _) => (0, 0),
            (Some(table), None) => (0, table.len()),
            (Some(table), Some(dir)) => (dir + 1, table.record(dir).map_or(0, |record| record.end)),
        };
        Self { table, next, end }
    }

    /// One record alone.
    pub(super) fn only(table: &'a StatTable, index: u32) -> Self {
        let end = table.record(index).map_or(index, |record| record.end.max(index + 1));
        Self { table: Some(table), next: index, end }
    }

    /// The record of `name`; earlier names are passed over.
    pub(super) fn advance_to(&mut self, name: &[u8]) -> Option<(u32, Record)> {
        let table = self.table?;
        while self.next < self.end {
            let record = table.record(self.next)?;
            match table.name(&record).cmp(name) {
                std::cmp::Ordering::Less => self.next = record.end.max(self.next + 1),
                std::cmp::Ordering::Equal => return Some((self.next, record)),
                std::cmp::Ordering::Greater => return None,
            }
        }
        None
    }
}

impl Iterator for KnownSiblings<'_> {
    type Item = (u32, Record);

    fn next(&mut self) -> Option<(u32, Record)> {
        let index = self.next;
        let record = self.table?.record(index).filter(|_| index < self.end)?;
        self.next = record.end.max(index + 1);
        Some((index, record))
    }
}

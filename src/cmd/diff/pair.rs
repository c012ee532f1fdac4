//! Both sides of a row, compared.

use super::lines::{Counts, LineDiff, is_binary};
use super::rows::Row;
use super::sources::{Content, Sources};

/// More lines than this on one side are not compared.
const MOST_LINES: usize = 2_000_000;

static NOTHING: Content = Content::Bytes(Vec::new());

/// The contents of both sides.
#[derive(Debug)]
pub(super) struct Pair {
    old: Content,
    new: Content,
}

/// How they differ.
#[derive(Debug)]
pub(super) enum Difference<'a> {
    /// Not at all.
    None,
    /// Line by line.
    Lines(LineDiff<'a>),
    /// At least one is no text.
    Binary,
    /// In a way that is not shown, for this reason.
    Unshown(&'static str),
}

impl Pair {
    /// Fetches both contents, where they are not known to be the same.
    pub(super) fn of(row: &Row<'_>, sources: &Sources<'_>) -> Self {
        if row.has_same_content() {
            return Self { old: Content::Bytes(Vec::new()), new: Content::Bytes(Vec::new()) };
        }
        Self { old: sources.old(row), new: sources.new_side(row) }
    }

    /// Only what stood there.
    pub(super) fn removal(&self) -> Difference<'_> {
        difference(&self.old, &NOTHING)
    }

    /// Only what will stand there.
    pub(super) fn creation(&self) -> Difference<'_> {
        difference(&NOTHING, &self.new)
    }

    /// From the one to the other.
    pub(super) fn difference(&self) -> Difference<'_> {
        difference(&self.old, &self.new)
    }
}

fn difference<'a>(old: &'a Content, new: &'a Content) -> Difference<'a> {
    match (old, new) {
        (Content::NotKept, _) | (_, Content::NotKept) => Difference::Unshown("content not kept"),
        (Content::TooLarge, _) | (_, Content::TooLarge) => Difference::Unshown("too large to show"),
        (Content::Bytes(old), Content::Bytes(new)) if old == new => Difference::None,
        (Content::Bytes(old), Content::Bytes(new)) if is_binary(old) || is_binary(new) => Difference::Binary,
        (Content::Bytes(old), Content::Bytes(new)) if has_many_lines(old) || has_many_lines(new) => {
            Difference::Unshown("too large to show")
        }
        (Content::Bytes(old), Content::Bytes(new)) => Difference::Lines(LineDiff::of(old, new)),
    }
}

fn has_many_lines(content: &[u8]) -> bool {
    memchr::memchr_iter(b'\n', content).count() > MOST_LINES
}

impl Difference<'_> {
    /// Lines added and removed; none where they cannot be counted.
    pub(super) fn counts(&self) -> Option<Counts> {
        match self {
            Self::None => Some(Counts::default()),
            Self::Lines(lines) => Some(lines.counts()),
            Self::Binary | Self::Unshown(_) => None,
        }
    }
}

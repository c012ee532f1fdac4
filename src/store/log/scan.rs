//! Finding lines by their own run id without reading records: every line begins with `{"run_id":"<id>"`, so the id
//! is compared at the line's start and nowhere else, and an id that stands in `replay_of` is never taken for it.
//!
//! Read with `pread`, not mapped: a map would kill the reader where a writer shortens the log by its torn tail.

use std::fs::File;
use std::io;
use std::ops::{ControlFlow, Range};
use std::os::unix::fs::FileExt as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use crate::model::Timestamp;

/// How every line begins.
const LINE_START: &[u8] = b"{\"run_id\":\"";
/// Length of a printed run id.
const ID_LEN: usize = 36;
/// What of a line must be seen to know its id.
const HEAD_LEN: usize = LINE_START.len() + ID_LEN + 1;
/// Stays in the processor's cache between the copy from the kernel and the search.
const CHUNK: usize = 1 << 18;
/// Below this, a second thread costs more than it saves.
const WORTH_A_THREAD: u64 = 4 << 20;
/// The binary search ends here: less than one read.
const SEARCHED: u64 = CHUNK as u64;
/// `"end_time"` is the third field: it is within this many bytes of the line's start.
const END_TIME_WITHIN: usize = 192;

/// Whether a line begins and ends like a record: enough to tell those that were cut or overwritten.
pub(super) fn looks_whole(line: &[u8]) -> bool {
    own_id(line).is_some() && (line.ends_with(b"\"}") || line.ends_with(b"l}"))
}

/// The id a line says it is of, if its first `HEAD_LEN` bytes are those of a record.
fn own_id(head: &[u8]) -> Option<&[u8]> {
    let (id, quote) = head.strip_prefix(LINE_START)?.split_at_checked(ID_LEN)?;
    quote.starts_with(b"\"").then_some(id)
}

/// Calls `visit` with the offset and the id of each line that begins within `range`, in order, until it breaks.
fn scan(
    file: &File,
    range: Range<u64>,
    end: u64,
    mut visit: impl FnMut(u64, &[u8]) -> ControlFlow<()>,
) -> io::Result<()> {
    let mut chunk = vec![0_u8; CHUNK];
    // The byte before says whether a line begins at the range's first.
    let mut at = range.start.saturating_sub(1);
    let mut at_line_start = range.start == 0;
    while at < range.end {
        let want = CHUNK.min(usize::try_from(end - at).unwrap_or(CHUNK));
        let bytes = &mut chunk[..want];
        file.read_exact_at(bytes, at)?;
        let mut next = at + want as u64;
        let first = at_line_start.then_some(0);
        at_line_start = false;
        for start in first.into_iter().chain(memchr::memchr_iter(b'\n', bytes).map(|newline| newline + 1)) {
            let offset = at + start as u64;
            if offset >= range.end {
                return Ok(());
            }
            if bytes.len() - start < HEAD_LEN && at + (want as u64) < end {
                // The head is cut by the chunk: the next chunk begins with it.
                next = offset;
                at_line_start = true;
                break;
            }
            if let Some(id) = own_id(&bytes[start..])
                && visit(offset, id).is_break()
            {
                return Ok(());
            }
        }
        at = next;
    }
    Ok(())
}

/// Runs `scan` over the range in two halves at once, each with a state of its own, older half first; one that breaks
/// stops the other at its next line.
fn scan_halves<S: Default + Send>(
    file: &File,
    range: Range<u64>,
    end: u64,
    visit: impl Fn(&mut S, u64, &[u8]) -> ControlFlow<()> + Sync,
) -> io::Result<[S; 2]> {
    let mut states = [S::default(), S::default()];
    let [older, newer] = &mut states;
    if range.end.saturating_sub(range.start) < WORTH_A_THREAD {
        scan(file, range, end, |offset, id| visit(older, offset, id))?;
        return Ok(states);
    }
    let middle = range.start.midpoint(range.end);
    let stopped = AtomicBool::new(false);
    let half = |range: Range<u64>, state: &mut S| {
        scan(file, range, end, |offset, id| {
            let flow = if stopped.load(Ordering::Relaxed) { ControlFlow::Break(()) } else { visit(state, offset, id) };
            if flow.is_break() {
                stopped.store(true, Ordering::Relaxed);
            }
            flow
        })
    };
    thread::scope(|threads| {
        let other = threads.spawn(|| half(range.start..middle, older));
        half(middle..range.end, newer)?;
        other.join().map_err(|_| io::Error::other("a thread that reads the run log panicked"))?
    })?;
    Ok(states)
}

/// Lines whose id was looked for.
#[derive(Debug, Default)]
pub(super) struct Hits {
    /// How many there are.
    pub(super) count: u64,
    /// Offsets of the newest `Hits::KEPT`, oldest first.
    pub(super) newest: Vec<u64>,
}

impl Hits {
    /// How many offsets are kept.
    pub(super) const KEPT: usize = 10;

    /// Adds those of a later file that begins at `base`.
    pub(super) fn absorb(&mut self, later: &Self, base: u64) {
        let count = self.count + later.count;
        later.newest.iter().for_each(|offset| self.add(base + offset));
        self.count = count;
    }

    fn add(&mut self, offset: u64) {
        self.count += 1;
        if self.newest.len() == Self::KEPT {
            self.newest.remove(0);
        }
        self.newest.push(offset);
    }
}

/// All lines whose id satisfies `wanted`.
pub(super) fn find_all(file: &File, end: u64, wanted: impl Fn(&[u8]) -> bool + Sync) -> io::Result<Hits> {
    let [mut all, newer] = scan_halves(file, 0..end, end, |hits: &mut Hits, offset, id| {
        if wanted(id) {
            hits.add(offset);
        }
        ControlFlow::Continue(())
    })?;
    let count = all.count + newer.count;
    newer.newest.iter().for_each(|offset| all.add(*offset));
    Ok(Hits { count, ..all })
}

/// A line with exactly this id, which no line can hold that ended before `not_before`, where it should be.
///
/// Lines are appended as runs end, so a binary search tells where to begin.
pub(super) fn find_near(file: &File, end: u64, id: &str, not_before: Timestamp) -> io::Result<Option<u64>> {
    let likely = first_that_ended_at(file, end, not_before)?;
    find_in(file, likely..(likely + SEARCHED).min(end), end, id)
}

/// The same anywhere else: clocks jump, and the line of an interrupted run is written late.
pub(super) fn find_far(file: &File, end: u64, id: &str, not_before: Timestamp) -> io::Result<Option<u64>> {
    let likely = first_that_ended_at(file, end, not_before)?;
    let near = (likely + SEARCHED).min(end);
    match find_in(file, near..end, end, id)? {
        None => find_in(file, 0..likely, end, id),
        found => Ok(found),
    }
}

fn find_in(file: &File, range: Range<u64>, end: u64, id: &str) -> io::Result<Option<u64>> {
    let [older, newer] = scan_halves(file, range, end, |found: &mut Option<u64>, offset, line_id| {
        if line_id != id.as_bytes() {
            return ControlFlow::Continue(());
        }
        *found = Some(offset);
        ControlFlow::Break(())
    })?;
    Ok(older.or(newer))
}

/// An offset before which, if the clock never jumped, every run had ended before `time`.
fn first_that_ended_at(file: &File, end: u64, time: Timestamp) -> io::Result<u64> {
    let (mut low, mut high) = (0, end);
    while high - low > SEARCHED {
        let middle = low.midpoint(high);
        match line_after(file, middle..high, end)? {
            Some((start, ended)) if ended < time => low = start,
            Some(_) => high = middle,
            // One line longer than a read, or a damaged one: good enough.
            None => break,
        }
    }
    Ok(low)
}

/// Offset and end time of the first line that begins within the range, if one read shows it.
fn line_after(file: &File, range: Range<u64>, end: u64) -> io::Result<Option<(u64, Timestamp)>> {
    let mut chunk = vec![0_u8; 1 << 13];
    let want = chunk.len().min(usize::try_from(end - range.start).unwrap_or(usize::MAX));
    file.read_exact_at(&mut chunk[..want], range.start)?;
    let Some(start) = memchr::memchr(b'\n', &chunk[..want]).map(|newline| newline + 1) else { return Ok(None) };
    let offset = range.start + start as u64;
    let line = &chunk[start..want.min(start + END_TIME_WITHIN)];
    Ok(end_time(line).filter(|_| offset < range.end).map(|ended| (offset, ended)))
}

fn end_time(line: &[u8]) -> Option<Timestamp> {
    const KEY: &[u8] = b"\"end_time\":\"";
    own_id(line)?;
    let value = &line[memchr::memmem::find(line, KEY)? + KEY.len()..];
    std::str::from_utf8(&value[..memchr::memchr(b'"', value)?]).ok()?.parse().ok()
}

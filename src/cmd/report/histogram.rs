//! Sums over time in buckets that widen as the span grows: a log of a minute and one of ten years are both some dozen
//! bars, and neither is kept in memory.

use std::collections::BTreeMap;
use std::ops::AddAssign;

/// The widths that buckets have, in seconds; beyond the last they double.
const WIDTHS: [i64; 12] =
    [60, 300, 900, 3600, 3 * 3600, 6 * 3600, 12 * 3600, DAY, 2 * DAY, 7 * DAY, 14 * DAY, 28 * DAY];
const DAY: i64 = 86_400;
/// Buckets that are kept while runs are still coming.
const KEPT: usize = 2048;
/// Bars of a chart at most.
const BARS: i64 = 60;
/// Monday, 5 January 1970: buckets of weeks begin on Mondays.
const MONDAY: i64 = 4 * DAY;

/// Sums by bucket.
#[derive(Debug)]
pub(super) struct Histogram<T> {
    width: i64,
    buckets: BTreeMap<i64, T>,
}

/// All buckets of a span, those without anything included.
#[derive(Debug)]
pub(super) struct Bars<T> {
    /// When the first begins, in seconds since the epoch.
    pub(super) start: i64,
    /// Seconds of each.
    pub(super) width: i64,
    /// The sums.
    pub(super) values: Vec<T>,
}

impl<T: Copy + Default + AddAssign> Histogram<T> {
    pub(super) fn new() -> Self {
        Self { width: WIDTHS[0], buckets: BTreeMap::new() }
    }

    /// Adds a value at a time in seconds since the epoch.
    pub(super) fn add(&mut self, seconds: i64, value: T) {
        *self.buckets.entry(begin(seconds, self.width)).or_default() += value;
        while self.buckets.len() > KEPT {
            self.widen();
        }
    }

    fn widen(&mut self) {
        self.width = WIDTHS.into_iter().find(|width| *width > self.width).unwrap_or(self.width.saturating_mul(2));
        for (start, value) in std::mem::take(&mut self.buckets) {
            *self.buckets.entry(begin(start, self.width)).or_default() += value;
        }
    }

    /// The bars; `None` where nothing was added.
    pub(super) fn bars(mut self) -> Option<Bars<T>> {
        loop {
            let (first, last) = (*self.buckets.first_key_value()?.0, *self.buckets.last_key_value()?.0);
            let count = (last - first) / self.width + 1;
            if count <= BARS {
                let mut values = vec![T::default(); usize::try_from(count).unwrap_or(1)];
                for (start, value) in &self.buckets {
                    if let Some(sum) = values.get_mut(usize::try_from((start - first) / self.width).unwrap_or(0)) {
                        *sum += *value;
                    }
                }
                return Some(Bars { start: first, width: self.width, values });
            }
            self.widen();
        }
    }
}

/// The beginning of the bucket of that width that holds the moment.
fn begin(seconds: i64, width: i64) -> i64 {
    let offset = if width > DAY { MONDAY } else { 0 };
    (seconds - offset).div_euclid(width) * width + offset
}

impl<T> Bars<T> {
    /// When a bar begins, in seconds since the epoch.
    pub(super) fn begins(&self, index: usize) -> i64 {
        self.start.saturating_add(i64::try_from(index).unwrap_or(0).saturating_mul(self.width))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_is_in_one_bar_whatever_the_span() {
        for step in [1, 59, 3600, 86_400, 10_000_000, 2_000_000_000] {
            let mut histogram = Histogram::new();
            (0..5000_i64).for_each(|at| histogram.add(-7 + at * step, 1_u64));
            let bars = histogram.bars().expect("bars");
            assert!(bars.values.len() <= 60 && bars.values.iter().sum::<u64>() == 5000, "{step}");
            assert!(bars.begins(0) <= -7 && bars.begins(bars.values.len()) > -7 + 4999 * step, "{step}");
        }
        assert!(Histogram::<u64>::new().bars().is_none());
    }
}

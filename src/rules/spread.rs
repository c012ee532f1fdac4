//! Percentiles of many figures in little memory: exact up to [`EXACT`] of them, then counted in classes that are less than
//! 0.8 % wide, so that a percentile is off by 0.4 % at most.

use std::collections::BTreeMap;

/// So many figures are kept as they are.
pub const EXACT: usize = 4096;

/// Bits of the mantissa that tell two classes apart: 128 classes from one power of two to the next.
const SHIFT: u32 = 52 - 7;

/// How figures that are not negative are spread.
#[derive(Clone, Debug, Default)]
pub struct Spread {
    count: u64,
    exact: Vec<f64>,
    classes: BTreeMap<u32, u64>,
}

fn class_of(figure: f64) -> u32 {
    // The bits of floating-point numbers that are not negative sort like the numbers.
    u32::try_from(figure.max(0.0).to_bits() >> SHIFT).unwrap_or(u32::MAX)
}

/// The middle of a class.
fn figure_of(class: u32) -> f64 {
    if class == 0 {
        return 0.0;
    }
    f64::from_bits((u64::from(class) << SHIFT) + (1 << (SHIFT - 1)))
}

impl Spread {
    /// Adds a figure.
    pub fn add(&mut self, figure: f64) {
        self.count += 1;
        if self.classes.is_empty() && self.exact.len() < EXACT {
            self.exact.push(figure);
            return;
        }
        self.classify();
        *self.classes.entry(class_of(figure)).or_default() += 1;
    }

    fn classify(&mut self) {
        for figure in std::mem::take(&mut self.exact) {
            *self.classes.entry(class_of(figure)).or_default() += 1;
        }
    }

    /// Adds all of the other's figures.
    pub fn merge(&mut self, other: Self) {
        self.count += other.count;
        if self.classes.is_empty() && other.classes.is_empty() && self.exact.len() + other.exact.len() <= EXACT {
            self.exact.extend(other.exact);
            return;
        }
        self.classify();
        for figure in other.exact {
            *self.classes.entry(class_of(figure)).or_default() += 1;
        }
        for (class, count) in other.classes {
            *self.classes.entry(class).or_default() += count;
        }
    }

    /// How many figures there are.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The figure that so many in a hundred do not exceed (nearest rank); none where there is no figure.
    pub fn percentile(&self, percent: u64) -> Option<f64> {
        let rank = (self.count * percent).div_ceil(100).max(1);
        if self.classes.is_empty() {
            let mut sorted = self.exact.clone();
            sorted.sort_by(f64::total_cmp);
            return sorted.get(usize::try_from(rank - 1).ok()?).copied();
        }
        let mut below = 0;
        self.classes.iter().find_map(|(class, count)| {
            below += count;
            (below >= rank).then(|| figure_of(*class))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_figures_are_answered_exactly() {
        let mut spread = Spread::default();
        assert_eq!(spread.percentile(50), None);
        [5.0, 1.0, 4.0, 2.0, 3.0].into_iter().for_each(|figure| spread.add(figure));
        assert_eq!(
            (spread.percentile(50), spread.percentile(95), spread.percentile(0)),
            (Some(3.0), Some(5.0), Some(1.0))
        );
    }

    #[test]
    fn many_figures_are_answered_within_what_is_promised_whichever_way_they_came_together() {
        let (mut one, mut left, mut right) = (Spread::default(), Spread::default(), Spread::default());
        for number in 0..100_000_u32 {
            let figure = f64::from(number * 7919 % 100_000) + 1.0;
            one.add(figure);
            if number < 30 { left.add(figure) } else { right.add(figure) }
        }
        left.merge(right);
        for (percent, exact) in [(50, 50_000.0), (95, 95_000.0), (1, 1000.0)] {
            let answer = one.percentile(percent).expect("an answer");
            assert!((answer - exact).abs() <= exact * 0.004, "{percent}: {answer}");
            assert_eq!(left.percentile(percent), Some(answer));
        }
        assert_eq!(left.count(), 100_000);
    }
}

//! Runs counted in groups. Unknown is never zero: what is not known is counted beside what is.

use std::collections::HashMap;

use crate::model::error_kind::{ErrorClass, Status};
use crate::model::facts::{Facts, Wanted};
use crate::model::{ErrorKind, Timestamp};

use super::spread::Spread;

/// More groups than these are counted together, so that memory stays bounded whatever the grouping.
pub const MOST_GROUPS: usize = 4096;

/// 95 % of a normal distribution lie within so many standard deviations.
const Z: f64 = 1.959_963_984_540_054;

/// The failure classes in the order of their counts.
pub const CLASSES: [ErrorClass; 5] = [
    ErrorClass::CleanAbort,
    ErrorClass::PartialWrite,
    ErrorClass::SilentDrift,
    ErrorClass::Cascade,
    ErrorClass::PublishFailed,
];

/// What runs are grouped by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum By {
    /// The agent's name.
    Agent,
    /// The failure class.
    Class,
    /// The day of its start, in UTC.
    Day,
    /// The model; a run that used several is in the group of each.
    Model,
    /// The value of a label.
    Label(String),
}

impl By {
    /// What must be read of a run to group it.
    pub fn wanted(&self) -> Wanted {
        Wanted { words: false, labels: matches!(self, Self::Label(_)), models: *self == Self::Model }
    }
}

/// Which group.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Key {
    /// The one of this value.
    Named(Vec<u8>),
    /// That of runs that have none.
    Missing,
    /// What came after [`MOST_GROUPS`].
    Others,
}

/// What is counted of the runs of a group.
#[derive(Clone, Debug, Default)]
pub struct Group {
    /// How many.
    pub runs: u64,
    /// Their result is in place.
    pub published: u64,
    /// Succeeded, or verified and held.
    pub succeeded: u64,
    /// Stopped on purpose: neither a success nor a failure.
    pub cancelled: u64,
    /// By failure class, in the order of [`CLASSES`].
    pub classes: [u64; 5],
    /// Failures by their cause.
    pub kinds: HashMap<ErrorKind, u64>,
    /// Microseconds.
    pub durations: Spread,
    /// Tokens, of those that are known.
    pub tokens: u64,
    /// Runs whose tokens are known.
    pub tokens_known: u64,
    /// US dollars, of those that are known.
    pub cost: f64,
    /// How the known costs are spread.
    pub costs: Spread,
    /// The same of the period before.
    pub before: Before,
}

/// The period before, as far as a trend needs it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Before {
    /// How many runs.
    pub runs: u64,
    /// Succeeded or held.
    pub succeeded: u64,
    /// Stopped on purpose.
    pub cancelled: u64,
    /// US dollars, of those that are known.
    pub cost: f64,
    /// Runs whose cost is known.
    pub cost_known: u64,
}

/// Which period a run falls into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Period {
    /// The one that is asked about.
    Now,
    /// The one before, of the same length.
    Before,
}

fn is_success(status: Status) -> bool {
    matches!(status, Status::Succeeded | Status::Held)
}

impl Group {
    fn add(&mut self, run: &Facts<'_>, period: Period) {
        let (success, cancelled) = (u64::from(is_success(run.status)), u64::from(run.status == Status::Cancelled));
        if period == Period::Before {
            self.before.runs += 1;
            self.before.succeeded += success;
            self.before.cancelled += cancelled;
            self.before.cost += run.cost.unwrap_or(0.0);
            self.before.cost_known += u64::from(run.cost.is_some());
            return;
        }
        self.runs += 1;
        self.published += u64::from(run.published);
        self.succeeded += success;
        self.cancelled += cancelled;
        if let Some(at) = run.class.and_then(|class| CLASSES.iter().position(|one| *one == class)) {
            self.classes[at] += 1;
        }
        if let Some(kind) = run.kind {
            *self.kinds.entry(kind).or_default() += 1;
        }
        // A clock that was set back tells nothing of how long it took.
        if run.end >= run.start {
            self.durations.add((run.end - run.start) as f64);
        }
        if let Some(tokens) = run.tokens {
            self.tokens = self.tokens.saturating_add(tokens);
            self.tokens_known += 1;
        }
        if let Some(cost) = run.cost {
            self.cost += cost;
            self.costs.add(cost);
        }
    }

    fn merge(&mut self, other: Self) {
        self.runs += other.runs;
        self.published += other.published;
        self.succeeded += other.succeeded;
        self.cancelled += other.cancelled;
        self.classes.iter_mut().zip(other.classes).for_each(|(own, more)| *own += more);
        other.kinds.into_iter().for_each(|(kind, count)| *self.kinds.entry(kind).or_default() += count);
        self.durations.merge(other.durations);
        self.tokens = self.tokens.saturating_add(other.tokens);
        self.tokens_known += other.tokens_known;
        self.cost += other.cost;
        self.costs.merge(other.costs);
        self.before.runs += other.before.runs;
        self.before.succeeded += other.before.succeeded;
        self.before.cancelled += other.before.cancelled;
        self.before.cost += other.before.cost;
        self.before.cost_known += other.before.cost_known;
    }

    /// Successes among the runs that were not stopped on purpose; none where there is no such run.
    pub fn success_rate(&self) -> Option<f64> {
        rate(self.succeeded, self.runs - self.cancelled)
    }

    /// The 95 % interval of that rate.
    pub fn success_interval(&self) -> Option<(f64, f64)> {
        wilson(self.succeeded, self.runs - self.cancelled)
    }

    /// Dollars over all runs whose cost is known; none where none is.
    pub fn cost_sum(&self) -> Option<f64> {
        (self.costs.count() > 0).then_some(self.cost)
    }

    /// Tokens over all runs whose tokens are known; none where none are.
    pub fn tokens_sum(&self) -> Option<u64> {
        (self.tokens_known > 0).then_some(self.tokens)
    }

    /// Known dollars per published run.
    pub fn cost_per_published(&self) -> Option<f64> {
        self.cost_sum().filter(|_| self.published > 0).map(|cost| cost / self.published as f64)
    }

    /// How the success rate has changed since the period before.
    pub fn success_change(&self) -> Option<f64> {
        Some(self.success_rate()? - rate(self.before.succeeded, self.before.runs - self.before.cancelled)?)
    }

    /// How the known dollars have changed since the period before.
    pub fn cost_change(&self) -> Option<f64> {
        Some(self.cost_sum()? - Some(self.before.cost).filter(|_| self.before.cost_known > 0)?)
    }
}

fn rate(successes: u64, trials: u64) -> Option<f64> {
    (trials > 0).then(|| successes as f64 / trials as f64)
}

/// The Wilson score interval at 95 % (Wilson 1927): in [0, 1] and of use for few trials and for rates near 0 and 1.
pub fn wilson(successes: u64, trials: u64) -> Option<(f64, f64)> {
    let share = rate(successes, trials)?;
    let count = trials as f64;
    let scale = 1.0 + Z * Z / count;
    let middle = (share + Z * Z / (2.0 * count)) / scale;
    let half = Z / scale * (share * (1.0 - share) / count + Z * Z / (4.0 * count * count)).sqrt();
    Some(((middle - half).max(0.0), (middle + half).min(1.0)))
}

/// All groups, and all runs as one.
#[derive(Clone, Debug)]
pub struct Tally {
    by: By,
    named: HashMap<Vec<u8>, Group>,
    missing: Option<Group>,
    others: Option<Group>,
    total: Group,
}

impl Tally {
    /// Nothing yet.
    pub fn new(by: By) -> Self {
        Self { by, named: HashMap::new(), missing: None, others: None, total: Group::default() }
    }

    /// Counts a run.
    pub fn add(&mut self, run: &Facts<'_>, period: Period) {
        self.total.add(run, period);
        match &self.by {
            By::Agent => self.group(Some(&run.agent)).add(run, period),
            By::Class => {
                let name = run.class.map(|class| class.to_string());
                self.group(name.as_ref().map(String::as_bytes)).add(run, period);
            }
            By::Day => {
                let day = Timestamp::from_unix_micros(run.start).to_string();
                self.group(day.as_bytes().get(..10)).add(run, period);
            }
            By::Label(key) => {
                let value = run.labels.get(key);
                self.group(value.map(String::as_bytes)).add(run, period);
            }
            By::Model if run.models.is_empty() => self.group(None).add(run, period),
            By::Model => run.models.iter().for_each(|model| self.group(Some(model.as_bytes())).add(run, period)),
        }
    }

    fn group(&mut self, name: Option<&[u8]>) -> &mut Group {
        let Some(name) = name else { return self.missing.get_or_insert_default() };
        // A name is copied once, not for each of its runs.
        if !self.named.contains_key(name) && self.named.len() < MOST_GROUPS {
            self.named.insert(name.to_vec(), Group::default());
        }
        match self.named.get_mut(name) {
            Some(group) => group,
            None => self.others.get_or_insert_default(),
        }
    }

    /// Adds all that another one has counted.
    pub fn merge(&mut self, other: Self) {
        self.total.merge(other.total);
        let mut named: Vec<(Vec<u8>, Group)> = other.named.into_iter().collect();
        named.sort_by(|(left, _), (right, _)| left.cmp(right));
        for (name, group) in named {
            self.group(Some(&name)).merge(group);
        }
        if let Some(group) = other.missing {
            self.group(None).merge(group);
        }
        if let Some(group) = other.others {
            self.others.get_or_insert_default().merge(group);
        }
    }

    /// The groups by name, those without one and the others last; and all runs as one.
    pub fn finish(self) -> (Vec<(Key, Group)>, Group) {
        let mut named: Vec<(Vec<u8>, Group)> = self.named.into_iter().collect();
        named.sort_by(|(left, _), (right, _)| left.cmp(right));
        let mut groups: Vec<(Key, Group)> = named.into_iter().map(|(name, group)| (Key::Named(name), group)).collect();
        groups.extend(self.missing.map(|group| (Key::Missing, group)));
        groups.extend(self.others.map(|group| (Key::Others, group)));
        (groups, self.total)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(agent: &'static str, status: Status, cost: Option<f64>) -> Facts<'static> {
        Facts {
            start: 1_764_000_000_000_000,
            end: 1_764_000_000_500_000,
            status,
            class: (status == Status::Failed).then_some(ErrorClass::CleanAbort),
            kind: None,
            agent: agent.as_bytes().into(),
            tokens: None,
            cost,
            published: status == Status::Succeeded,
            words: Vec::new(),
            labels: Default::default(),
            models: vec!["m1".into(), "m2".into()],
        }
    }

    #[test]
    fn the_interval_is_wilsons() {
        let close = |found: Option<(f64, f64)>, low: f64, high: f64| {
            let (below, above) = found.expect("trials");
            assert!((below - low).abs() < 5e-4 && (above - high).abs() < 5e-4, "{below} {above}");
        };
        close(wilson(8, 10), 0.4902, 0.9433);
        close(wilson(0, 5), 0.0, 0.4345);
        close(wilson(5, 5), 0.5655, 1.0);
        assert_eq!(wilson(0, 0), None);
    }

    #[test]
    fn what_is_unknown_is_counted_and_is_not_zero() {
        let mut tally = Tally::new(By::Agent);
        tally.add(&run("a", Status::Succeeded, Some(1.5)), Period::Now);
        tally.add(&run("a", Status::Failed, None), Period::Now);
        tally.add(&run("a", Status::Cancelled, None), Period::Now);
        tally.add(&run("b", Status::Failed, None), Period::Now);
        tally.add(&run("b", Status::Succeeded, Some(2.0)), Period::Before);
        let (groups, total) = tally.finish();
        let [(_, a), (_, b)] = groups.as_slice() else { panic!("{groups:?}") };
        assert_eq!((a.success_rate(), a.cost_sum(), a.costs.count(), a.tokens_sum()), (Some(0.5), Some(1.5), 1, None));
        assert_eq!(a.cost_per_published(), Some(1.5));
        assert_eq!((b.cost_sum(), b.cost_per_published(), b.cost_change()), (None, None, None));
        assert_eq!(b.success_change(), Some(-1.0));
        assert_eq!((total.runs, total.before.runs), (4, 1));
    }

    #[test]
    fn two_halves_make_the_same_whole_and_the_number_of_groups_is_bounded() {
        let mut whole = Tally::new(By::Label("n".into()));
        let mut halves = [Tally::new(By::Label("n".into())), Tally::new(By::Label("n".into()))];
        for number in 0..10_000_usize {
            let mut run = run("a", Status::Succeeded, Some(number as f64));
            run.labels.insert("n".into(), number.to_string());
            whole.add(&run, Period::Now);
            halves[number % 2].add(&run, Period::Now);
        }
        let [mut one, other] = halves;
        one.merge(other);
        for tally in [whole, one] {
            let (groups, total) = tally.finish();
            assert_eq!(groups.len(), MOST_GROUPS + 1);
            assert_eq!(groups.last().map(|(key, _)| key), Some(&Key::Others));
            assert_eq!((groups.iter().map(|(_, group)| group.runs).sum::<u64>(), total.runs), (10_000, 10_000));
        }
    }

    #[test]
    fn a_run_with_two_models_is_in_both_groups_and_once_in_the_total() {
        let mut tally = Tally::new(By::Model);
        tally.add(&run("a", Status::Succeeded, None), Period::Now);
        let (groups, total) = tally.finish();
        assert_eq!((groups.len(), total.runs), (2, 1));
    }
}

//! Which runs lose their directory: by age, by number and by size; and which never do. Pure: the clock and the sizes are
//! given.

use std::collections::HashMap;
use std::time::Duration;

use crate::model::{RunId, Timestamp};

/// How much is kept; what is not said is kept for ever.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RetentionPolicy {
    /// Runs that ended longer ago go.
    pub keep_for: Option<Duration>,
    /// Only so many runs stay, the newest.
    pub keep_runs: Option<u64>,
    /// The oldest go until no more bytes than this are taken.
    pub max_bytes: Option<u64>,
    /// A failure that nobody has acknowledged stays so long in any case.
    pub keep_failed_for: Duration,
}

/// Why a run stays whatever the policy says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protection {
    /// It lives, or somebody has taken it up.
    Live,
    /// It waits for a decision.
    Held,
    /// It failed, nobody has acknowledged that, and its own time is not over.
    Unacknowledged,
    /// Its journal cannot be read, or has no end: what it is cannot be told.
    Unclear,
}

/// Why a run goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// It ended too long ago.
    Age,
    /// There are enough newer ones.
    Number,
    /// Too much is kept.
    Size,
}

/// A run whose directory is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredRun {
    /// Which.
    pub run_id: RunId,
    /// When it ended; when it began, where that is not known.
    pub ended: Timestamp,
    /// How it stands.
    pub standing: StoredStanding,
    /// Bytes of its directory.
    pub bytes: u64,
    /// What it relies on, by number; others may rely on the same.
    pub objects: Vec<usize>,
}

/// How a run whose directory is there stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoredStanding {
    /// It is over and done with.
    Over,
    /// It failed, and nobody has acknowledged that.
    Failed,
    /// It stays.
    Protected(Protection),
}

impl StoredRun {
    /// Why it stays at this moment, if it does whatever else is asked.
    pub fn protection(&self, policy: &RetentionPolicy, now: Timestamp) -> Option<Protection> {
        match self.standing {
            StoredStanding::Over => None,
            StoredStanding::Protected(protection) => Some(protection),
            StoredStanding::Failed => {
                (!is_older(self.ended, now, policy.keep_failed_for)).then_some(Protection::Unacknowledged)
            }
        }
    }
}

/// The runs that go, by number, oldest first. `objects` are the bytes of what runs rely on, `others` those of everything
/// else that counts.
pub fn expired(
    runs: &[StoredRun],
    objects: &[u64],
    others: u64,
    policy: &RetentionPolicy,
    now: Timestamp,
) -> Vec<(usize, Reason)> {
    let mut order: Vec<usize> = (0..runs.len()).collect();
    order.sort_by_key(|at| (runs[*at].ended, runs[*at].run_id));
    let surplus = policy.keep_runs.map_or(0, |keep| (runs.len() as u64).saturating_sub(keep));
    let mut used = Used::of(runs, objects, others);
    let mut going = Vec::new();
    for (place, at) in order.into_iter().enumerate() {
        let run = &runs[at];
        if run.protection(policy, now).is_some() {
            continue;
        }
        let reason = if policy.keep_for.is_some_and(|keep| is_older(run.ended, now, keep)) {
            Reason::Age
        } else if (place as u64) < surplus {
            Reason::Number
        } else if policy.max_bytes.is_some_and(|most| used.bytes > most) {
            Reason::Size
        } else {
            continue;
        };
        used.without(run, objects);
        going.push((at, reason));
    }
    going
}

fn is_older(time: Timestamp, now: Timestamp, than: Duration) -> bool {
    let micros = now.unix_micros().saturating_sub(time.unix_micros());
    u64::try_from(micros).is_ok_and(|micros| Duration::from_micros(micros) > than)
}

/// What is taken, as runs go.
struct Used {
    bytes: u64,
    /// How many runs rely on each object.
    users: HashMap<usize, u64>,
}

impl Used {
    fn of(runs: &[StoredRun], objects: &[u64], others: u64) -> Self {
        let mut users = HashMap::new();
        runs.iter().flat_map(|run| &run.objects).for_each(|object| *users.entry(*object).or_default() += 1);
        let own: u64 = runs.iter().map(|run| run.bytes).sum();
        let shared: u64 = users.keys().filter_map(|object| objects.get(*object)).sum();
        Self { bytes: own + shared + others, users }
    }

    fn without(&mut self, run: &StoredRun, objects: &[u64]) {
        self.bytes = self.bytes.saturating_sub(run.bytes);
        for object in &run.objects {
            let users = self.users.entry(*object).or_default();
            *users = users.saturating_sub(1);
            if *users == 0 {
                self.bytes = self.bytes.saturating_sub(objects.get(*object).copied().unwrap_or_default());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: u64 = 86_400;

    fn at(day: u64) -> Timestamp {
        Timestamp::from_unix_micros(1_764_000_000_000_000 + i64::try_from(day * DAY).expect("small") * 1_000_000)
    }

    /// Ended on this day; 10 bytes, and objects.
    fn run(day: u64, standing: StoredStanding, objects: &[usize]) -> StoredRun {
        let run_id = RunId::mint(1_764_000_000_000 + day, [u8::try_from(day).expect("small"); 10]);
        StoredRun { run_id, ended: at(day), standing, bytes: 10, objects: objects.to_vec() }
    }

    fn days(count: u64) -> Duration {
        Duration::from_secs(count * DAY)
    }

    fn going(runs: &[StoredRun], policy: &RetentionPolicy) -> Vec<(usize, Reason)> {
        expired(runs, &[100, 100], 0, policy, at(100))
    }

    #[test]
    fn without_a_policy_nothing_goes() {
        assert_eq!(going(&[run(1, StoredStanding::Over, &[])], &RetentionPolicy::default()), []);
    }

    #[test]
    fn age_and_number_take_the_oldest() {
        let runs: Vec<StoredRun> = [60, 10, 95].map(|day| run(day, StoredStanding::Over, &[])).into();
        let by_age = RetentionPolicy { keep_for: Some(days(30)), ..RetentionPolicy::default() };
        assert_eq!(going(&runs, &by_age), [(1, Reason::Age), (0, Reason::Age)]);
        let by_number = RetentionPolicy { keep_runs: Some(2), ..RetentionPolicy::default() };
        assert_eq!(going(&runs, &by_number), [(1, Reason::Number)]);
    }

    #[test]
    fn what_must_stay_stays_whatever_is_asked() {
        let all = RetentionPolicy {
            keep_for: Some(Duration::ZERO),
            keep_runs: Some(0),
            max_bytes: Some(0),
            keep_failed_for: days(30),
        };
        for protection in [Protection::Live, Protection::Held, Protection::Unclear] {
            assert_eq!(going(&[run(1, StoredStanding::Protected(protection), &[])], &all), []);
        }
        assert_eq!(going(&[run(71, StoredStanding::Failed, &[])], &all), [], "29 days old");
        assert_eq!(going(&[run(69, StoredStanding::Failed, &[])], &all).len(), 1, "31 days old");
    }

    #[test]
    fn what_two_runs_rely_on_is_freed_with_the_last_of_them() {
        let runs: Vec<StoredRun> = [(1, vec![0]), (2, vec![0]), (3, vec![1])]
            .map(|(day, objects)| run(day, StoredStanding::Over, &objects))
            .into();
        let most = |bytes| RetentionPolicy { max_bytes: Some(bytes), ..RetentionPolicy::default() };
        assert_eq!(going(&runs, &most(230)), []);
        assert_eq!(going(&runs, &most(229)).len(), 1);
        assert_eq!(going(&runs, &most(219)).len(), 2, "the first one frees ten bytes only");
        assert_eq!(going(&runs, &most(110)).len(), 2);
        assert_eq!(going(&runs, &most(109)).len(), 3);
    }
}

//! What a running attempt uses: what it prints, stages and computes, for its budgets and for whether it is idle.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use rustix::process::Pid;
use tokio::sync::Notify;

use crate::sys::{descendants, disk};

use super::ended::Life;
use super::environment::{AttemptPlaces, USAGE};
use super::scene::{Scene, Way};
use super::spending::Spending;

/// How often is looked where there is a budget of staging; nothing is looked at more often but for a shorter idle timeout.
const OFTEN: Duration = Duration::from_secs(1);
/// How often is looked at the room on the disk alone: a run that sleeps costs next to nothing.
const SELDOM: Duration = Duration::from_millis(2500);

/// What an attempt must leave of the disk that it stages on, for the log and for everybody else.
const DISK_RESERVE_BYTES: u64 = 16 << 20;

/// Bytes printed so far, on both streams together.
#[derive(Debug, Default)]
pub struct Printed {
    bytes: AtomicU64,
    most: Option<u64>,
    over: Notify,
}

impl Printed {
    /// Counts; an error is the end of the stream: more was printed than may be.
    pub fn add(&self, count: usize) -> io::Result<()> {
        let before = self.bytes.fetch_add(count as u64, Ordering::Relaxed);
        if self.most.is_some_and(|most| before.saturating_add(count as u64) > most) {
            self.over.notify_one();
            return Err(io::Error::other("more was printed than --max-output allows"));
        }
        Ok(())
    }

    /// Waits until more was printed than may be.
    pub async fn over(&self) {
        self.over.notified().await;
    }
}

/// What is watched of one process.
#[derive(Clone, Debug)]
pub struct Using {
    /// What it prints.
    pub printed: Arc<Printed>,
    /// Raised while its input is a pipe from which nothing has come and that nobody has closed.
    pub nothing_came: Arc<AtomicBool>,
    /// What it spends on model calls.
    pub spending: Arc<Spending>,
    /// Where it stages, if that can be counted while it runs.
    staged: Option<PathBuf>,
    most_files: Option<u64>,
    most_bytes: Option<u64>,
    /// On the filesystem that it fills, and whether there was room to begin with.
    disk: Option<PathBuf>,
}

/// What it had used at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sample {
    printed: u64,
    ticks: u64,
    staged: disk::Amount,
}

/// A budget was passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Passed;

impl Using {
    /// Of an attempt.
    pub fn of(life: &Life, scene: &Scene, places: &AttemptPlaces) -> Self {
        let staged = match (&places.staging, scene.way) {
            (Some(staging), _) => Some(staging.path.clone()),
            (None, Way::Overlay) => Some(scene.changes.upper.clone()),
            // A copy holds what was there before as well.
            (None, _) => None,
        };
        let budget = life.spec.budget;
        let disk = life.dir.path().to_path_buf();
        let has_room = disk::free(&disk).is_ok_and(|free| free > 4 * DISK_RESERVE_BYTES);
        Self {
            printed: Arc::new(Printed { most: budget.max_output.map(|size| size.0), ..Printed::default() }),
            nothing_came: Arc::default(),
            spending: Arc::new(Spending::of(life, &places.private.host.join(USAGE))),
            staged,
            most_files: life.spec.gate.max_files,
            most_bytes: life.spec.gate.max_bytes.map(|size| size.0),
            disk: has_room.then_some(disk),
        }
    }

    /// Of a process without budgets.
    pub fn unlimited() -> Self {
        let (printed, nothing_came) = Default::default();
        let spending = Arc::new(Spending::unlimited());
        Self { printed, nothing_came, spending, staged: None, most_files: None, most_bytes: None, disk: None }
    }

    /// How often there is something to look at.
    pub fn interval(&self) -> Option<Duration> {
        if self.most_files.is_some() || self.most_bytes.is_some() || self.spending.is_limited() {
            Some(OFTEN)
        } else {
            self.disk.as_ref().map(|_| SELDOM)
        }
    }

    /// Whether it has staged more than it may, or filled the disk.
    pub fn check(&self) -> Result<(), Passed> {
        if let Some(disk) = &self.disk
            && disk::free(disk).is_ok_and(|free| free < DISK_RESERVE_BYTES)
        {
            return Err(Passed);
        }
        let Some(staged) = self.staged.as_deref().filter(|_| self.most_files.is_some() || self.most_bytes.is_some())
        else {
            return Ok(());
        };
        let amount = disk::amount(staged);
        let over = |most: Option<u64>, now: u64| most.is_some_and(|most| now > most);
        if over(self.most_files, amount.files) || over(self.most_bytes, amount.bytes) { Err(Passed) } else { Ok(()) }
    }

    /// Looks at everything that shows whether the tree of `init` is at work.
    pub fn sample(&self, init: Pid) -> Sample {
        Sample {
            printed: self.printed.bytes.load(Ordering::Relaxed),
            ticks: descendants::living(init).iter().map(|process| process.ticks).sum(),
            staged: self.staged.as_deref().map(disk::amount).unwrap_or_default(),
        }
    }

    /// Whether it may be waiting for input that never comes: nothing came, and it has not said anything.
    pub fn may_wait_for_input(&self) -> bool {
        self.nothing_came.load(Ordering::Relaxed) && self.printed.bytes.load(Ordering::Relaxed) == 0
    }
}

impl Sample {
    /// Whether something was done since. A hundredth of the time is what a program that only waits spends on waking up.
    pub fn is_active_since(&self, before: &Self, elapsed: Duration) -> bool {
        let computed = disk::ticks(self.ticks.saturating_sub(before.ticks));
        self.printed != before.printed || self.staged != before.staged || computed > elapsed / 100
    }
}

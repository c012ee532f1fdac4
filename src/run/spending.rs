//! What a run spends on model calls: listens to what its agent prints, adds up what was told, and says when a budget is
//! passed.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;

use crate::model::UsageFormat;
use crate::model::call::Call;
use crate::model::error_kind::{ErrorKind, Failure};
use crate::model::event::Event;
use crate::model::record::Usage;
use crate::model::spec::Budget;
use crate::rules::step::StopCause;
use crate::store::price_table;
use crate::usage::figures::{Entry, Figures};
use crate::usage::meter::{Ledger, Passage};
use crate::usage::prices::{Cost, Prices};
use crate::usage::reader::{Reader, Reading};
use crate::usage::usage_file;

use super::ended::Life;

/// Sums over a run so far.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Spent {
    /// Tokens that were told of.
    pub tokens: u64,
    /// US dollars that are known.
    pub usd: f64,
    /// Calls that were told of.
    pub calls: u64,
}

impl Spent {
    fn and(self, more: Self) -> Self {
        Self {
            tokens: self.tokens.saturating_add(more.tokens),
            usd: self.usd + more.usd,
            calls: self.calls.saturating_add(more.calls),
        }
    }

    fn larger(self, other: Self) -> Self {
        Self { tokens: self.tokens.max(other.tokens), usd: self.usd.max(other.usd), calls: self.calls.max(other.calls) }
    }

    /// What a run's earlier attempts have spent.
    pub fn in_attempts(events: &[Event]) -> Self {
        let ended =
            events.iter().filter_map(|event| if let Event::AttemptEnded(end) = event { Some(end) } else { None });
        ended.fold(Self::default(), |sum, end| {
            sum.and(Self {
                tokens: end.usage.as_ref().and_then(Usage::tokens).unwrap_or(0),
                usd: end.cost_usd.unwrap_or(0.0),
                calls: end.usage.as_ref().and_then(|usage| usage.calls).unwrap_or(0),
            })
        })
    }
}

/// Where figures of a running attempt come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    Stdout,
    Stderr,
    File,
    Meter,
}

const SOURCES: usize = 4;

/// What one attempt spends.
#[derive(Debug)]
pub struct Spending {
    format: UsageFormat,
    prices: Prices,
    limits: Limits,
    before: Spent,
    usage_file: PathBuf,
    now: Mutex<[Spent; SOURCES]>,
    passed: Notify,
    cause: Mutex<Option<StopCause>>,
    metered: Mutex<Metered>,
}

/// What the meter saw of an attempt.
#[derive(Debug, Default)]
struct Metered {
    /// Calls that were let through.
    begun: u64,
    /// Those that are over.
    ended: Vec<Call>,
}

/// The budgets of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Limits {
    /// `--max-tokens`.
    pub tokens: Option<u64>,
    /// `--max-cost-usd`, or what is left of the day's.
    pub usd: Option<f64>,
    /// `--max-calls`.
    pub calls: Option<u64>,
}

impl Limits {
    /// Of a specification.
    pub fn of(budget: &Budget) -> Self {
        let usd = [budget.max_cost_usd, budget.left_today_usd].into_iter().flatten().reduce(f64::min);
        Self { tokens: budget.max_tokens, usd, calls: budget.max_calls }
    }

    fn is_none(&self) -> bool {
        self.tokens.is_none() && self.usd.is_none() && self.calls.is_none()
    }

    /// The budget that was passed, if one was.
    pub fn passed(&self, spent: &Spent) -> Option<StopCause> {
        if self.tokens.is_some_and(|most| spent.tokens > most) {
            Some(StopCause::Tokens)
        } else if self.usd.is_some_and(|most| spent.usd > most) {
            Some(StopCause::Cost)
        } else if self.calls.is_some_and(|most| spent.calls > most) {
            Some(StopCause::Calls)
        } else {
            None
        }
    }
}

impl Spending {
    /// Of an attempt that is about to start.
    pub fn of(life: &Life, usage_file: &Path) -> Self {
        Self {
            format: life.spec.usage,
            prices: Prices::new(&life.spec.prices, &price_table::path(&life.state)),
            limits: Limits::of(&life.spec.budget),
            before: Spent::in_attempts(life.journal.events()),
            usage_file: usage_file.to_path_buf(),
            now: Mutex::default(),
            passed: Notify::new(),
            cause: Mutex::default(),
            metered: Mutex::default(),
        }
    }

    /// Of a process that is no agent.
    pub fn unlimited() -> Self {
        Self {
            format: UsageFormat::Off,
            prices: Prices::default(),
            limits: Limits::default(),
            before: Spent::default(),
            usage_file: PathBuf::new(),
            now: Mutex::default(),
            passed: Notify::new(),
            cause: Mutex::default(),
            metered: Mutex::default(),
        }
    }

    /// Whether there is a budget of dollars.
    pub fn is_limited_in_usd(&self) -> bool {
        self.limits.usd.is_some()
    }

    /// Whether there is a budget of this kind.
    pub fn is_limited(&self) -> bool {
        !self.limits.is_none()
    }

    /// Waits until a budget is passed.
    pub async fn over(&self) -> StopCause {
        loop {
            self.passed.notified().await;
            if let Some(cause) = *self.cause.lock().unwrap_or_else(PoisonError::into_inner) {
                return cause;
            }
        }
    }

    /// Reads what the agent has written of its usage by now, should somebody want to know.
    pub fn look_at_file(&self) {
        if self.is_limited() && self.format.wants_file() {
            let told = usage_file::read(&self.usage_file);
            self.told(Source::File, told.as_ref());
        }
    }

    fn told(&self, source: Source, figures: Option<&Figures>) {
        let Some(figures) = figures else { return };
        let spent = Spent {
            tokens: figures.tokens().total().unwrap_or(u64::MAX),
            usd: self.prices.cost(figures).known_usd,
            calls: figures.calls.unwrap_or(0),
        };
        let mut now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        now[source as usize] = spent;
        // The usage file and what is printed may tell of the same calls.
        let printed = now[Source::Stdout as usize].and(now[Source::Stderr as usize]);
        let most = printed.larger(now[Source::File as usize]).larger(now[Source::Meter as usize]);
        drop(now);
        if let Some(cause) = self.limits.passed(&self.before.and(most)) {
            self.stop(cause);
        }
    }

    fn stop(&self, cause: StopCause) {
        self.cause.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(cause);
        self.passed.notify_one();
    }

    /// The calls that the meter saw; once, when the attempt is over and the meter is gone.
    pub fn calls(&self) -> Vec<Call> {
        let mut calls = std::mem::take(&mut self.metered.lock().unwrap_or_else(PoisonError::into_inner).ended);
        calls.sort_by_key(|call| call.time);
        calls
    }

    /// What figures cost.
    pub fn cost(&self, figures: &Figures) -> Cost {
        self.prices.cost(figures)
    }

    /// The budget that an ended attempt has passed together with those before it: whatever came of it, what it says at its
    /// end counts as if it had been said while it ran.
    pub fn passed_with(&self, usage: Option<&Usage>, usd: f64) -> Option<StopCause> {
        let spent = Spent {
            // What overflows is more than anybody may use.
            tokens: usage.map_or(0, |usage| usage.tokens().unwrap_or(u64::MAX)),
            usd,
            calls: usage.and_then(|usage| usage.calls).unwrap_or(0),
        };
        self.limits.passed(&self.before.and(spent))
    }

    /// The failure of a run that has spent more than it may, with the figures.
    pub fn failure(&self, cause: StopCause, usage: Option<&Usage>, usd: f64) -> Failure {
        let now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        let seen = now.iter().fold(Spent::default(), |most, one| most.larger(*one));
        let spent = self.before.and(Spent {
            tokens: usage.and_then(Usage::tokens).unwrap_or(seen.tokens),
            usd: seen.usd.max(usd),
            calls: usage.and_then(|usage| usage.calls).unwrap_or(seen.calls),
        });
        let (kind, message) = match cause {
            StopCause::Tokens => {
                let most = self.limits.tokens.unwrap_or(0);
                (ErrorKind::BudgetTokens, format!("{} tokens were used, of --max-tokens {most}", spent.tokens))
            }
            StopCause::Calls => {
                let most = self.limits.calls.unwrap_or(0);
                (ErrorKind::BudgetCalls, format!("{} model calls were made, of --max-calls {most}", spent.calls))
            }
            _ => {
                let most = self.limits.usd.unwrap_or(0.0);
                (ErrorKind::BudgetCost, format!("${:.4} were spent, of ${most:.4} that may be", spent.usd))
            }
        };
        Failure::new(kind, message)
    }
}

/// What calls used that the meter saw: nothing where there was none. One that was cut may have cost more than anybody knows.
pub fn figures_of(calls: &[Call]) -> Option<Figures> {
    let counted = |call: &Call| Some(Entry { model: call.model.clone(), tokens: call.tokens?, calls: Some(1) });
    let figures = Figures {
        entries: calls.iter().filter_map(counted).collect(),
        calls: u64::try_from(calls.len()).ok(),
        cost_usd: None,
        exact: !calls.iter().any(Call::is_uncounted),
    };
    (!calls.is_empty()).then_some(figures)
}

impl Ledger for Spending {
    fn begins(&self) -> Passage {
        if self.cause.lock().unwrap_or_else(PoisonError::into_inner).is_some() {
            return Passage::Refused;
        }
        let mut metered = self.metered.lock().unwrap_or_else(PoisonError::into_inner);
        if self.limits.calls.is_some_and(|most| self.before.calls.saturating_add(metered.begun) >= most) {
            drop(metered);
            self.stop(StopCause::Calls);
            return Passage::Refused;
        }
        metered.begun += 1;
        Passage::Passes
    }

    fn ended(&self, call: Call) {
        let mut metered = self.metered.lock().unwrap_or_else(PoisonError::into_inner);
        metered.ended.push(call);
        let figures = self.is_limited().then(|| figures_of(&metered.ended)).flatten();
        drop(metered);
        self.told(Source::Meter, figures.as_ref());
    }
}

/// Listens to one stream of an agent.
#[derive(Debug)]
pub struct Listener {
    reader: Reader,
    spending: Arc<Spending>,
    source: Source,
}

impl Listener {
    /// To its standard output.
    pub fn to_stdout(spending: &Arc<Spending>) -> Self {
        Self::to(spending, Source::Stdout)
    }

    /// To its standard error.
    pub fn to_stderr(spending: &Arc<Spending>) -> Self {
        Self::to(spending, Source::Stderr)
    }

    fn to(spending: &Arc<Spending>, source: Source) -> Self {
        Self { reader: Reader::new(spending.format), spending: Arc::clone(spending), source }
    }

    /// Takes what was printed.
    pub fn hear(&mut self, bytes: &[u8]) {
        if self.reader.take(bytes) && self.spending.is_limited() {
            self.spending.told(self.source, self.reader.reading().figures.as_ref());
        }
    }

    /// What was said in all; `tail` gives the end of what was printed.
    pub fn finish(mut self, tail: impl FnOnce() -> Vec<u8>) -> Reading {
        self.reader.finish(tail);
        self.reader.reading()
    }
}

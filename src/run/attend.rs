//! The loop beside a running process: the only place where sources meet. The pure `step` decides, this performs. For
//! agents and verify commands.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::Signal;
use tokio::time::{Instant, sleep_until};

use crate::model::spec::TimePolicy;
use crate::rules::step::{Action, AttemptEvent, AttemptOutcome, AttemptState, ProcessEnd, StopCause, step};
use crate::sys::descendants::{self, Swept};
use crate::sys::inside::{Running, Told, Voice};
use crate::sys::process::{self, Ended};
use crate::sys::pty::RawTerminal;
use crate::sys::terminal::Foreground;

use super::own_terminal::OwnTerminal;
use super::processes::Processes;
use super::progress::{Progress, Warning};
use super::signals::Signals;
use super::using::{Sample, Using};

/// What cannot be killed by then (uninterruptible sleep) fails the run; the init process gives up a little earlier.
const DEADLINE: Duration = Duration::from_secs(6);

/// A pipe on which nothing came for so long makes one wonder.
const PATIENCE_WITH_INPUT: Duration = Duration::from_secs(7);

/// What is known of a process beforehand.
pub struct Attending<'a> {
    /// How long it may take.
    pub time: &'a TimePolicy,
    /// What it uses.
    pub using: &'a Using,
    /// The terminal that it has.
    pub foreground: Option<&'a Foreground>,
    /// The terminal that it has of its own; then the caller's stays with agentguard.
    pub own: Option<&'a OwnTerminal>,
    /// What it was started with.
    pub processes: &'a Processes,
    /// Who is told what seems to be wrong.
    pub progress: Option<&'a Arc<dyn Progress>>,
}

/// What became of it, and of what it left behind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attended {
    /// How it ended.
    pub outcome: AttemptOutcome,
    /// What it had started.
    pub swept: Swept,
}

/// Sees a process to its end. Afterwards nothing of it lives but what is named in the answer.
pub async fn attend(mut child: Running, attending: &Attending<'_>, signals: &mut Signals) -> io::Result<Attended> {
    let mut voice = child.voice()?;
    let end = until_it_ends(&child, &mut voice, attending, signals).await;
    if let Some(foreground) = attending.foreground {
        foreground.take_back();
    }
    let (outcome, killed) = match end {
        End::Known(mut outcome) => {
            let (killed, cut_by) = until_nothing_is_left(&child, &mut voice, signals).await;
            outcome.stopped = outcome.stopped.or(cut_by.map(StopCause::Cancelled));
            (outcome, killed)
        }
        End::Unknown(stopped) => (AttemptOutcome { end: ProcessEnd::Signal(9), stopped }, None),
    };
    let swept = match killed {
        Some(killed) => {
            child.let_go();
            Swept { killed, left: Vec::new() }
        }
        None => look_after_it(&mut child, attending.processes),
    };
    Ok(Attended { outcome, swept })
}

/// What was told of the process's own end.
enum End {
    Known(AttemptOutcome),
    /// It did not end, though it was killed, or nobody is left who could tell; and why it had been stopped, if it had.
    Unknown(Option<StopCause>),
}

/// When something is due; [`Timers::far`] if nothing is.
struct Timers {
    far: Instant,
    /// The process's own time, and that of the run.
    limits: [(Instant, StopCause); 2],
    grace: Instant,
    killed: Instant,
    /// The next look at what it uses.
    look: Instant,
}

impl Timers {
    fn new(attending: &Attending<'_>) -> Self {
        let now = Instant::now();
        let far = now + Duration::from_secs(60 * 60 * 24 * 365 * 30);
        let timeout = attending.time.timeout.and_then(|timeout| now.checked_add(timeout)).unwrap_or(far);
        let deadline = attending.processes.deadline().unwrap_or(far);
        let limits = [(timeout, StopCause::Timeout), (deadline, StopCause::Deadline)];
        let look = interval(attending).map_or(far, |interval| now + interval);
        Self { far, limits, grace: far, killed: far, look }
    }

    /// What `stop` takes is nobody's time.
    fn pause(&mut self, stop: impl FnOnce()) -> Duration {
        let begun = Instant::now();
        stop();
        let stopped = begun.elapsed();
        let [timeout, deadline] = &mut self.limits;
        for timer in [&mut timeout.0, &mut deadline.0, &mut self.grace, &mut self.killed, &mut self.look] {
            if *timer < self.far {
                *timer += stopped;
            }
        }
        stopped
    }

    /// The first limit; each fires once.
    fn limit(&self) -> Option<(Instant, StopCause)> {
        self.limits.iter().copied().filter(|(at, _)| *at < self.far).min_by_key(|(at, _)| *at)
    }

    fn reached(&mut self, cause: StopCause) {
        for limit in self.limits.iter_mut().filter(|limit| limit.1 == cause) {
            limit.0 = self.far;
        }
    }
}

/// How often is looked at what it uses.
fn interval(attending: &Attending<'_>) -> Option<Duration> {
    let idle =
        attending.time.idle_timeout.map(|idle| (idle / 4).clamp(Duration::from_millis(20), Duration::from_secs(1)));
    idle.into_iter().chain(attending.using.interval()).min()
}

/// Looks now and then whether a process is at work, and within its budget.
struct Looking {
    last: Sample,
    looked: Instant,
    /// When it last was at work.
    active: Instant,
    begun: Instant,
    /// What it had used when it was suspected to wait for input; and whether that was said.
    suspected: Option<(Instant, Sample)>,
    said: bool,
}

impl Looking {
    fn new(child: &Running, attending: &Attending<'_>) -> Self {
        let now = Instant::now();
        let is_wanted = attending.time.idle_timeout.is_some();
        let last = if is_wanted { attending.using.sample(child.init()) } else { Sample::default() };
        Self { last, looked: now, active: now, begun: now, suspected: None, said: false }
    }

    /// Says, once, that it seems to wait for input. Whoever forgot to close a pipe would wait for ever without a word.
    fn suspect(&mut self, child: &Running, attending: &Attending<'_>) {
        let is_due = !self.said && self.begun.elapsed() >= PATIENCE_WITH_INPUT;
        let Some(progress) = attending.progress.filter(|_| is_due && attending.using.may_wait_for_input()) else {
            self.suspected = None;
            return;
        };
        let sample = attending.using.sample(child.init());
        if self.suspected.is_some_and(|(at, before)| !sample.is_active_since(&before, at.elapsed())) {
            self.said = true;
            let what =
                "the agent seems to wait for standard input, a pipe from which nothing comes and that nobody closes";
            progress.warn(Warning(format!("{what}: --stdin null or < /dev/null gives it none")));
        }
        self.suspected = Some((Instant::now(), sample));
    }

    /// The limit that it has reached, and when to look again.
    fn look(&mut self, child: &Running, attending: &Attending<'_>) -> (Option<StopCause>, Instant) {
        let now = Instant::now();
        self.suspect(child, attending);
        attending.using.spending.look_at_file();
        let mut cause = attending.using.check().err().map(|_| StopCause::Staged);
        if let Some(idle) = attending.time.idle_timeout {
            let sample = attending.using.sample(child.init());
            if sample.is_active_since(&self.last, now - self.looked) {
                self.active = now;
            }
            (self.last, self.looked) = (sample, now);
            if now - self.active >= idle {
                cause = cause.or(Some(StopCause::Idle));
            }
        }
        // A look at much takes its time, and must not take all of it.
        let pause = interval(attending).unwrap_or(PATIENCE_WITH_INPUT).max(now.elapsed() * 20);
        (cause, Instant::now() + pause)
    }
}

async fn until_it_ends(child: &Running, voice: &mut Voice, attending: &Attending<'_>, signals: &mut Signals) -> End {
    let mut timers = Timers::new(attending);
    let mut looking = Looking::new(child, attending);
    let mut state = AttemptState::Running;
    let mut over_output = false;
    let mut resizes = attending.own.and_then(OwnTerminal::resizes);
    loop {
        let limit = timers.limit();
        let event = tokio::select! {
            biased;
            told = voice.next() => match told {
                Told::Ended(end) => AttemptEvent::Exited(process_end(end)),
                Told::Stopped => {
                    looking.active += timers.pause(|| suspend_together(child, attending));
                    continue;
                }
                Told::Done(_) | Told::Lost => return End::Unknown(state.stopped()),
            },
            signal = signals.next() => AttemptEvent::Signalled(signal),
            () = stopping_key(attending.own) => {
                child.stop();
                continue;
            }
            () = resized(&mut resizes) => {
                attending.own.iter().for_each(|own| own.resize());
                continue;
            }
            () = attending.using.printed.over(), if !over_output => {
                over_output = true;
                AttemptEvent::Reached(StopCause::Output)
            }
            cause = attending.using.spending.over() => AttemptEvent::Reached(cause),
            cause = reached(limit), if limit.is_some() => {
                timers.reached(cause);
                AttemptEvent::Reached(cause)
            }
            () = sleep_until(timers.grace), if timers.grace < timers.far => {
                timers.grace = timers.far;
                AttemptEvent::GraceElapsed
            }
            () = sleep_until(timers.killed), if timers.killed < timers.far => return End::Unknown(state.stopped()),
            () = sleep_until(timers.look), if timers.look < timers.far => {
                let (cause, next) = looking.look(child, attending);
                timers.look = next;
                match cause {
                    Some(cause) => AttemptEvent::Reached(cause),
                    None => continue,
                }
            }
        };
        match step(&mut state, event) {
            Action::Wait => {}
            Action::Terminate => {
                child.terminate();
                timers.grace = Instant::now() + attending.time.kill_after;
            }
            Action::Kill => {
                child.kill();
                timers.killed = timers.killed.min(Instant::now() + DEADLINE);
            }
            Action::Finish(outcome) => return End::Known(outcome),
        }
    }
}

async fn stopping_key(own: Option<&OwnTerminal>) {
    match own {
        Some(own) => own.suspend.notified().await,
        None => std::future::pending().await,
    }
}

async fn resized(resizes: &mut Option<Signal>) {
    match resizes {
        Some(resizes) => {
            resizes.recv().await;
        }
        None => std::future::pending().await,
    }
}

async fn reached(limit: Option<(Instant, StopCause)>) -> StopCause {
    match limit {
        Some((at, cause)) => {
            sleep_until(at).await;
            cause
        }
        None => std::future::pending().await,
    }
}

/// What the process left behind has a little time of its own; a signal that says stop takes it. How many had to be killed
/// (`None` if something is left, or nobody can tell), and the signal: the run is cancelled by it, whatever the process
/// itself had come to.
async fn until_nothing_is_left(
    child: &Running,
    voice: &mut Voice,
    signals: &mut Signals,
) -> (Option<u64>, Option<i32>) {
    let deadline = Instant::now() + DEADLINE;
    let mut cut_by = None;
    loop {
        tokio::select! {
            biased;
            told = voice.next() => match told {
                Told::Done(killed) => return (Some(killed), cut_by),
                Told::Lost => return (None, cut_by),
                Told::Ended(_) | Told::Stopped => {}
            },
            signal = signals.next() => {
                cut_by = cut_by.or(Some(signal));
                child.kill();
            }
            () = sleep_until(deadline) => return (None, cut_by),
        }
    }
}

/// The init process is gone, or cannot finish: what it should have killed is looked for from here.
fn look_after_it(child: &mut Running, processes: &Processes) -> Swept {
    let _ = child.finish(Duration::from_millis(100));
    descendants::sweep(&[processes.starter().pid()], DEADLINE)
}

/// Ctrl-Z stopped the agent: give the shell its terminal, stop too, and go on together.
fn suspend_together(child: &Running, attending: &Attending<'_>) {
    let Some(foreground) = attending.foreground else { return };
    let raw = attending.own.and_then(|own| own.raw.as_ref());
    raw.into_iter().for_each(RawTerminal::restore);
    foreground.take_back();
    process::stop_self();
    raw.into_iter().for_each(RawTerminal::make_raw);
    // It may have another size by now.
    attending.own.iter().for_each(|own| own.resize());
    child.resume();
}

fn process_end(end: Ended) -> ProcessEnd {
    match (end.code, end.signal) {
        (Some(code), _) => ProcessEnd::Code(code),
        (None, signal) => ProcessEnd::Signal(signal.unwrap_or(0)),
    }
}

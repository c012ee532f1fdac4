//! Wall clock and randomness, read in one place so that the floors above can be given fixed ones.

use std::sync::OnceLock;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::rand::{GetRandomFlags, getrandom};

use crate::model::{RunId, Timestamp};

/// The current instant of the wall clock.
pub fn now() -> Timestamp {
    let micros = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros());
    Timestamp::from_unix_micros(i64::try_from(micros).unwrap_or(i64::MAX))
}

/// Longest step of the clock that stamps files: one tick of the slowest usual kernel is 10 ms.
const TICK: Duration = Duration::from_millis(20);

/// Whether a stamp was still of the current tick.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tick {
    /// It was over: a change made from now on gets another stamp.
    Over,
    /// It was not, and has been waited for.
    Awaited,
}

/// Waits until a file changed now would get another time than `stamp` (seconds and nanoseconds). A stamp in the
/// future, of a clock that was set back, is not waited for.
pub fn let_tick_pass((secs, nanos): (i64, u32)) -> Tick {
    let Ok(secs) = u64::try_from(secs) else { return Tick::Over };
    let Some(stamp) = UNIX_EPOCH.checked_add(Duration::new(secs, nanos)) else { return Tick::Over };
    match SystemTime::now().duration_since(stamp) {
        Ok(age) if age < TICK => {
            std::thread::sleep(TICK.saturating_sub(age));
            Tick::Awaited
        }
        _ => Tick::Over,
    }
}

/// The current instant in seconds and nanoseconds, as files are stamped: no file has a later stamp by now. (The coarse
/// clock that stamps them would not do: since Linux 6.13 a file that was looked at gets a stamp of the fine one.)
pub fn stamp_now() -> (i64, u32) {
    stamp(rustix::time::ClockId::Realtime)
}

/// The stamp of this process's beginning.
static STARTED: OnceLock<(i64, u32)> = OnceLock::new();

/// Notes the beginning of this process: call first of all.
pub fn mark_start() {
    // Once: this is called once.
    _ = STARTED.set(stamp_now());
}

/// The stamp of this process's beginning, if that was a moment ago and was noted; else the present one.
pub fn stamp_of_start() -> (i64, u32) {
    const MOMENT: Duration = Duration::from_millis(50);
    let now = stamp_now();
    let span = |(secs, nanos): (i64, u32)| Duration::new(secs.unsigned_abs(), nanos);
    let is_recent = |started: &(i64, u32)| *started <= now && span(now).saturating_sub(span(*started)) < MOMENT;
    STARTED.get().copied().filter(is_recent).unwrap_or(now)
}

/// Waits until whatever is changed from now on gets a stamp later than `moment`: 10 ms at most on usual kernels.
pub fn wait_past(moment: (i64, u32)) {
    const LOOKS: u32 = 100;
    for _ in 0..LOOKS {
        if stamp(rustix::time::ClockId::RealtimeCoarse) > moment {
            return;
        }
        std::thread::sleep(Duration::from_micros(250));
    }
}

fn stamp(clock: rustix::time::ClockId) -> (i64, u32) {
    let now = rustix::time::clock_gettime(clock);
    (now.tv_sec, u32::try_from(now.tv_nsec).unwrap_or(0))
}

/// A new run id: the current millisecond and 74 random bits.
pub fn new_run_id() -> RunId {
    let millis = u64::try_from(now().unix_micros() / 1000).unwrap_or(0);
    RunId::mint(millis, random())
}

/// Random bytes from the kernel. Where it has none (no such system since Linux 3.17), the clock and the pid.
pub fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0_u8; N];
    if getrandom(&mut bytes, GetRandomFlags::empty()).ok() != Some(N) {
        let seed = now().unix_micros().unsigned_abs() ^ (u64::from(std::process::id()) << 40);
        for (at, byte) in bytes.iter_mut().enumerate() {
            *byte = seed.rotate_left(u32::try_from(at * 7 % 64).unwrap_or(0)).to_le_bytes()[0];
        }
    }
    bytes
}

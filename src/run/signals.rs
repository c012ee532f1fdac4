//! The signals that tell agentguard to stop, and blocking work that they may cut short.

use std::future::Future;
use std::io;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;

use crate::sys::process::is_ignored;

/// How long blocking work may go on after the signal that cuts it short.
const WORKER_PATIENCE: Duration = Duration::from_secs(3);

/// SIGINT, SIGTERM and SIGHUP, as they come. One that the caller had ignored (`nohup`) stays ignored.
#[derive(Debug)]
pub struct Signals {
    interrupt: Option<Signal>,
    terminate: Option<Signal>,
    hangup: Option<Signal>,
}

impl Signals {
    /// From here on the signals are events and no longer deaths.
    pub fn listen() -> io::Result<Self> {
        let listen = |kind: SignalKind| (!is_ignored(kind.as_raw_value())).then(|| signal(kind)).transpose();
        Ok(Self {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
            hangup: listen(SignalKind::hangup())?,
        })
    }

    /// The next signal that says stop.
    pub async fn next(&mut self) -> i32 {
        tokio::select! {
            () = received(&mut self.interrupt) => SignalKind::interrupt().as_raw_value(),
            () = received(&mut self.terminate) => SignalKind::terminate().as_raw_value(),
            () = received(&mut self.hangup) => SignalKind::hangup().as_raw_value(),
        }
    }

    /// A signal that says stop, if one has come already.
    pub async fn pending(&mut self) -> Option<i32> {
        tokio::select! {
            biased;
            signal = self.next() => Some(signal),
            () = tokio::task::yield_now() => None,
        }
    }
}

async fn received(signal: &mut Option<Signal>) {
    match signal {
        Some(signal) => {
            signal.recv().await;
        }
        None => std::future::pending().await,
    }
}

/// How blocking work came out.
#[derive(Debug)]
pub enum Worked<T> {
    /// It is done.
    Done(T),
    /// This signal came first; the work goes on in its thread until the process ends.
    Cancelled(i32),
}

/// Runs blocking work on a thread of its own while signals are listened to.
pub async fn interruptible<T: Send + 'static>(
    signals: &mut Signals,
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<Worked<T>> {
    let (done, result) = oneshot::channel();
    std::thread::Builder::new().spawn(move || {
        // The receiver is gone if a signal came first.
        let _ = done.send(work());
    })?;
    let work = async { result.await.map_err(|_| io::Error::other("a worker thread died")) };
    first(signals, work).await
}

/// A worker that was told of nothing is waited for a little, so that it does not write into what is being swept; a
/// second signal does not wait.
async fn first<T>(signals: &mut Signals, work: impl Future<Output = io::Result<T>>) -> io::Result<Worked<T>> {
    let mut work = std::pin::pin!(work);
    let signal = tokio::select! {
        biased;
        done = &mut work => return Ok(Worked::Done(done?)),
        signal = signals.next() => signal,
    };
    tokio::select! {
        _ = &mut work => {}
        _ = signals.next() => {}
        () = tokio::time::sleep(WORKER_PATIENCE) => {}
    }
    Ok(Worked::Cancelled(signal))
}

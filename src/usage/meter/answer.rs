//! An answer's body on its way to the agent: every frame passes as it is, and is shown to the reader beside. However it
//! ends, its call is told of once.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};

use crate::model::Timestamp;
use crate::model::call::Call;
use crate::usage::wire::AnswerReader;

use super::Ledger;

/// A call that has begun.
#[derive(Debug)]
pub(super) struct Begun {
    pub(super) time: Timestamp,
    pub(super) at: Instant,
    pub(super) route: String,
}

/// A call whose answer is on its way.
pub(super) struct Told {
    begun: Begun,
    ledger: Arc<dyn Ledger>,
    status: Option<u16>,
    reader: Option<AnswerReader>,
    first_byte_ms: Option<u64>,
    retry_after_ms: Option<u64>,
    complete: bool,
}

fn millis(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX)
}

impl Told {
    /// Nothing has come back yet.
    pub(super) fn new(begun: Begun, ledger: Arc<dyn Ledger>) -> Self {
        Self { begun, ledger, status: None, reader: None, first_byte_ms: None, retry_after_ms: None, complete: false }
    }

    /// The answer's head.
    pub(super) fn answered(&mut self, status: u16, content_type: &str, retry_after: Option<&str>) {
        self.status = Some(status);
        // Seconds; a date is rarely meant and is not waited for.
        let seconds = retry_after.and_then(|value| value.trim().parse::<u64>().ok()).filter(|wait| *wait <= 86_400);
        self.retry_after_ms = seconds.map(|seconds| seconds * 1000);
        self.reader = (status < 400).then(|| AnswerReader::new(content_type));
    }

    fn saw(&mut self, bytes: &[u8]) {
        if self.first_byte_ms.is_none() {
            self.first_byte_ms = Some(millis(self.begun.at));
        }
        if let Some(reader) = &mut self.reader {
            reader.take(bytes);
        }
    }
}

/// Told of however it ends: also when the agent goes away, or the meter does.
impl Drop for Told {
    fn drop(&mut self) {
        let heard = self.reader.take().map(AnswerReader::finish).unwrap_or_default();
        self.ledger.ended(Call {
            time: self.begun.time,
            route: std::mem::take(&mut self.begun.route),
            model: heard.model,
            status: self.status,
            first_byte_ms: self.first_byte_ms,
            duration_ms: millis(self.begun.at),
            retry_after_ms: self.retry_after_ms,
            // What was cut may have been billed for more than its beginning told.
            tokens: heard.tokens.filter(|_| self.complete || heard.ended),
            complete: self.complete || heard.ended,
        });
    }
}

/// The body of an answer.
pub(super) struct Answer {
    inner: Incoming,
    /// None where it is no model call's.
    told: Option<Told>,
}

impl Answer {
    pub(super) fn new(inner: Incoming, mut told: Option<Told>) -> Self {
        if inner.is_end_stream() {
            told.iter_mut().for_each(|told| told.complete = true);
        }
        Self { inner, told }
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let frame = Pin::new(&mut self.inner).poll_frame(context);
        match &frame {
            Poll::Ready(Some(Ok(frame))) => {
                if let (Some(bytes), Some(told)) = (frame.data_ref(), &mut self.told) {
                    told.saw(bytes);
                }
                // A body of known length is not asked again when it is whole.
                if self.inner.is_end_stream() {
                    self.told.iter_mut().for_each(|told| told.complete = true);
                }
            }
            Poll::Ready(None) => {
                if let Some(mut told) = self.told.take() {
                    told.complete = true;
                }
            }
            Poll::Ready(Some(Err(_))) | Poll::Pending => {}
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

//! What can still be decided about an ended run: a pure reading of its journal.

use crate::model::Status;
use crate::model::event::{CommitPlan, Event, PlanFile, Purpose};
use crate::model::timestamp::Timestamp;

/// Where an ended run stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It has not ended.
    Unsettled,
    /// It waits for `apply` or `discard`.
    Held,
    /// Its held result was applied, or it was published at its end: it can be taken back with the reverse of this plan.
    Published(PlanFile),
    /// Its targets were replaced whole (publish mode): nothing can be taken back.
    Replaced,
    /// Its held result was dropped.
    Discarded(Timestamp),
    /// It was published and taken back.
    Undone(Timestamp),
    /// It ended without anything to decide on.
    Over(Status),
}

/// Reads a journal.
pub fn standing(events: &[Event]) -> Standing {
    let mut standing = Standing::Unsettled;
    let mut plan: Option<&CommitPlan> = None;
    let mut done = false;
    for event in events {
        match event {
            Event::CommitIntended(intended) => (plan, done) = (Some(intended), false),
            Event::CommitDone(_) => done = true,
            Event::Settled(settled) if settled.status == Status::Held => standing = Standing::Held,
            Event::Settled(_) if done => standing = published(plan),
            Event::Settled(settled) => standing = Standing::Over(settled.status),
            Event::Closed(closed) if closed.failure.is_none() => {
                standing = match closed.purpose {
                    Purpose::Apply => published(plan),
                    Purpose::Discard => Standing::Discarded(closed.time),
                    Purpose::Undo => Standing::Undone(closed.time),
                };
            }
            _ => {}
        }
    }
    standing
}

fn published(plan: Option<&CommitPlan>) -> Standing {
    match plan.and_then(|plan| plan.plan.clone()) {
        Some(file) => Standing::Published(file),
        None => Standing::Replaced,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Digest;
    use crate::model::event::{Closed, CommitDone, Settled};
    use crate::model::record::Changes;

    fn time() -> Timestamp {
        Timestamp::from_unix_micros(1_764_000_000_000_000)
    }

    fn settled(status: Status) -> Event {
        Event::Settled(Settled { time: time(), status, failure: None, guard_exit_code: Some(0) })
    }

    fn closed(purpose: Purpose) -> Event {
        Event::Closed(Closed { time: time(), purpose, failure: None })
    }

    fn intended(name: &str) -> Event {
        let plan = Some(PlanFile { name: name.to_owned(), digest: Digest([1; 32]) });
        Event::CommitIntended(CommitPlan { time: time(), operations: Vec::new(), plan, changes: Changes::default() })
    }

    #[test]
    fn a_run_stands_where_the_last_decision_put_it() {
        let done = || Event::CommitDone(CommitDone { time: time() });
        let name = |events: &[Event]| match standing(events) {
            Standing::Published(file) => file.name,
            other => format!("{other:?}"),
        };
        assert_eq!(name(&[settled(Status::Held)]), "Held");
        assert_eq!(name(&[settled(Status::Held), intended("p"), done(), closed(Purpose::Apply)]), "p");
        assert_eq!(name(&[intended("p"), done(), settled(Status::Succeeded)]), "p");
        assert_eq!(standing(&[settled(Status::Held), closed(Purpose::Discard)]), Standing::Discarded(time()));
        let undone = [intended("p"), done(), settled(Status::Succeeded), intended("u"), done(), closed(Purpose::Undo)];
        assert_eq!(standing(&undone), Standing::Undone(time()));
        assert_eq!(standing(&[settled(Status::Rejected)]), Standing::Over(Status::Rejected));
        assert_eq!(standing(&[]), Standing::Unsettled);
    }
}

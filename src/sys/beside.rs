//! Two pieces of work side by side, where the machine has a thread to spare: a full process table must not end a run.

use std::panic::resume_unwind;
use std::thread::{Builder, scope};

/// Does `one` on a thread of its own while this one does `other`; on a machine that gives no thread one after the other.
pub fn both<A: Send, B>(one: impl Fn() -> A + Sync, other: impl FnOnce() -> B) -> (A, B) {
    scope(|scope| match Builder::new().spawn_scoped(scope, &one) {
        Ok(beside) => {
            let there = other();
            (beside.join().unwrap_or_else(|panic| resume_unwind(panic)), there)
        }
        Err(_) => {
            let there = other();
            (one(), there)
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_are_done() {
        assert_eq!(both(|| 1, || 2), (1, 2));
    }
}

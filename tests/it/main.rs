//! One test binary; a file per promise.

mod floors;
mod snapshot;

//! The binary: it only dispatches.

fn main() {}

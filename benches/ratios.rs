//! Ratios to yardsticks, measured side by side.

fn main() {}

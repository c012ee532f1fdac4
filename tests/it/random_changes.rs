//! Random sequences of changes: what comes of them under agentguard, in either view, is what comes of them without.
//!
//! A chain of sequences begins with an empty tree; each goes on with what the one before left, so the caches of
//! earlier runs count too. A failure names its chain and sequence. `AGENTGUARD_TEST_SEQUENCES` asks for more,
//! `AGENTGUARD_TEST_SEED` for chains from another number on.

use std::os::unix::ffi::OsStringExt as _;

use crate::project::{is_again, is_root, source_root};
use crate::trees::{Twins, python, views};

const SEQUENCES_PER_CHAIN: u64 = 10;
const OPERATIONS: &str = "40";

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |text| text.parse().expect("a number"))
}

/// One chain in one view.
fn chain(view: &str, chain: u64) {
    let script = source_root().join("tests/it/random_changes.py");
    let script = String::from_utf8(script.into_os_string().into_vec()).expect("UTF-8");
    let twins = Twins::planted(":");
    let options = ["--view", view, "--quiet", "--label", &format!("chain={chain}")];
    for sequence in 0..SEQUENCES_PER_CHAIN {
        let seed = (chain * SEQUENCES_PER_CHAIN + sequence).to_string();
        let command = [python(), "-B", &script, &seed, OPERATIONS];
        if sequence % 4 == 1 {
            twins.fails_untouched(&options, &[&command[..], &["7"]].concat());
        }
        twins.both_command(&options, &command);
        open_what_is_closed(&twins);
    }
}

/// What its owner cannot read refuses the next run, as it should; here it is opened again, in both trees.
fn open_what_is_closed(twins: &Twins) {
    if is_root() {
        return;
    }
    let (bare, guarded) = twins.bare_and_live(&["chmod", "-R", "u+rwX", "."]);
    assert_eq!((bare.code, guarded.code), (Some(0), Some(0)), "{}{}", bare.stderr, guarded.stderr);
}

fn chains(view: &str) {
    let first = number("AGENTGUARD_TEST_SEED", 0);
    let count = number("AGENTGUARD_TEST_SEQUENCES", if is_again() { 20 } else { 60 }).div_ceil(SEQUENCES_PER_CHAIN);
    for number in first..first + count {
        chain(view, number);
    }
}

#[test]
fn random_changes_in_an_overlay_are_what_they_are_without_agentguard() {
    if views().contains(&"overlay") {
        chains("overlay");
    }
}

#[test]
fn random_changes_in_a_clone_are_what_they_are_without_agentguard() {
    chains("clone");
}

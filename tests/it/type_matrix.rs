//! The type matrix: whatever an agent makes of a path, whatever stands there, in either view: the tree is afterwards
//! what the same command makes of it without agentguard; and what it was, if the agent fails.

use crate::trees::{Twins, views};

/// What stands at `$P`. Beside it lies `$P.other`, a file.
const LIVE: [(&str, &str); 9] = [
    ("absent", ":"),
    ("file", "echo live > $P"),
    ("directory", "tree $P"),
    ("symlink", "echo aim > $P.aim; ln -s $P.aim $P"),
    ("link-to-directory", "tree $P.aim; ln -s $P.aim $P"),
    ("fifo", "mkfifo $P"),
    ("linked", "echo linked > $P; ln $P $P.twin"),
    ("read-only", "echo closed > $P; chmod 400 $P"),
    ("read-only-directory", "tree $P; chmod 500 $P $P/sub"),
];

/// What the agent makes of `$P`.
const AGENT: [(&str, &str); 13] = [
    ("absent", "clear"),
    ("file", "clear; echo new > $P; chmod 640 $P; date_it"),
    ("written-in-place", "[ -f $P ] && [ -w $P ] || { clear; echo made > $P; }; echo more >> $P; date_it"),
    ("renamed-over", "[ -d $P ] && clear; echo renamed > $P.tmp; mv -f $P.tmp $P; date_it"),
    (
        "directory",
        "open_it; [ -d $P ] || clear; mkdir -p $P/sub; echo new > $P/new; echo new > $P/sub/new; rm -f $P/kept",
    ),
    ("opaque-directory", "clear; mkdir $P; echo new > $P/new; mkdir $P/sub; echo other > $P/sub/deep; chmod 750 $P"),
    ("symlink", "clear; ln -s 'no where/../x' $P; date_it"),
    ("fifo", "clear; mkfifo $P; chmod 620 $P; date_it"),
    ("hard-link", "clear; ln $P.other $P"),
    ("hard-link-written", "clear; ln $P.other $P; echo more >> $P; date_it"),
    ("mode", "[ ! -e $P ] || chmod 751 $P"),
    ("moved", "[ ! -e $P ] || mv $P $P.moved; echo new > $P; date_it"),
    (
        "moved-back",
        "[ ! -e $P ] || { open_it; mv $P $P.moved; mkdir $P.x; mv $P.moved $P.x/in; mv $P.x/in $P; rmdir $P.x; }",
    ),
];

const FUNCTIONS: &str = "
tree() { mkdir $1 $1/sub $1/empty; echo kept > $1/kept; echo deep > $1/sub/deep; ln -s kept $1/link; }
open_it() { [ -L $P ] || [ ! -d $P ] || chmod -R u+rwX $P; }
clear() { open_it; rm -rf $P; }
date_it() { touch -h -c -d '2002-02-02 02:02:02.123456789' $P; }
";

/// Objects at the same moment, so that a time that was lost is seen.
const PLANTED_TIME: &str = "find . ! -type d -exec touch -h -d '2001-01-01 01:01:01.987654321' {} +";

fn name(agent: &str, live: &str) -> String {
    format!("{agent}.over.{live}")
}

/// Every pair's live object, each under the pair's name.
fn plant() -> Twins {
    let mut script = FUNCTIONS.to_owned();
    for (agent, _) in AGENT {
        for (live, make) in LIVE {
            script += &format!("P={}; echo other > $P.other; {make}\n", name(agent, live));
        }
    }
    Twins::planted(&(script + PLANTED_TIME))
}

/// The agent's work on all the pairs that are named.
fn work<'a>(pairs: impl Iterator<Item = (&'a str, &'a str, &'a str)>) -> String {
    let calls: Vec<String> = pairs.map(|(agent, make, live)| format!("P={}; {make}\n", name(agent, live))).collect();
    format!("{FUNCTIONS}{}", calls.concat())
}

fn pairs() -> impl Iterator<Item = (&'static str, &'static str, &'static str)> {
    AGENT.iter().flat_map(|(agent, make)| LIVE.iter().map(|(live, _)| (*agent, *make, *live)))
}

#[test]
fn every_kind_over_every_kind_in_one_run_is_what_it_is_without_agentguard() {
    for view in views() {
        let twins = plant();
        let script = work(pairs());
        twins.fails_untouched(&["--view", view], &["sh", "-c", &format!("{script}exit 7")]);
        twins.both(&["--view", view], &script);
        assert_eq!(twins.guarded.last().isolation.view, view);
    }
}

fn every_pair_alone(view: &str) {
    let twins = plant();
    for pair in pairs() {
        let script = work([pair].into_iter());
        twins.fails_untouched(&["--view", view, "--quiet"], &["sh", "-c", &format!("{script}exit 7")]);
        twins.both(&["--view", view, "--quiet"], &script);
    }
    assert_eq!(twins.guarded.records().len(), 2 * AGENT.len() * LIVE.len());
}

#[test]
fn every_kind_over_every_kind_by_itself_is_what_it_is_without_agentguard_in_an_overlay() {
    if views().contains(&"overlay") {
        every_pair_alone("overlay");
    }
}

#[test]
fn every_kind_over_every_kind_by_itself_is_what_it_is_without_agentguard_in_a_clone() {
    every_pair_alone("clone");
}

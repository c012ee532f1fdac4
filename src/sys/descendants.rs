//! Processes that outlive the one they descend from: they fall to the guard instead of to init, and are waited for or
//! killed.
//!
//! A process group is left by `setsid`; a parent that is a subreaper is not (prctl(2), `PR_SET_CHILD_SUBREAPER`). Killing
//! by a walk over `/proc` is repeated until nobody is left: a process may fork between the look and the signal.

use std::collections::{HashMap, HashSet};
use std::io;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, getpid, kill_process, set_child_subreaper, waitid};

/// The name of this program's own process beside an agent, which ends with the last of its users.
pub const OWN_HELPER: &str = "agentguard-mv";

/// What became of the processes that were left.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// How many were killed.
    pub killed: u64,
    /// Those that could not be killed in time (uninterruptible sleep).
    pub left: Vec<i32>,
}

/// From here on orphaned descendants are children of this process.
pub fn adopt_orphans() -> io::Result<()> {
    Ok(set_child_subreaper(Some(getpid()))?)
}

/// Kills whatever lives below this process, except `spared` and what is below them, until nothing is left; after `deadline`
/// those that are left are named. For where nobody else is there to do it.
pub fn sweep(spared: &[Pid], deadline: Duration) -> Swept {
    let begun = Instant::now();
    let mut pause = Duration::from_micros(50);
    let mut killed = HashSet::new();
    loop {
        let living: Vec<(i32, String)> = living_but(getpid(), spared);
        if living.is_empty() || begun.elapsed() >= deadline {
            return Swept { killed: killed.len() as u64, left: living.into_iter().map(|(pid, _)| pid).collect() };
        }
        for (pid, name) in living {
            let Some(pid) = Pid::from_raw(pid) else { continue };
            // One that is gone by now is fine; so is one whose parent takes its status away.
            let _ = kill_process(pid, Signal::KILL);
            let _ = waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOHANG);
            if name != OWN_HELPER {
                killed.insert(pid.as_raw_nonzero().get());
            }
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(10));
    }
}

/// Every living process below one, with its name.
pub fn living(root: Pid) -> Vec<(i32, String)> {
    living_but(root, &[])
}

fn living_but(root: Pid, spared: &[Pid]) -> Vec<(i32, String)> {
    let mut below: HashMap<i32, Vec<(i32, String)>> = HashMap::new();
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        if let Some((name, parent)) = std::fs::read_to_string(entry.path().join("stat")).ok().as_deref().and_then(parse)
        {
            below.entry(parent).or_default().push((pid, name));
        }
    }
    let spared: HashSet<i32> = spared.iter().map(|pid| pid.as_raw_nonzero().get()).collect();
    let mut found = Vec::new();
    let mut waiting = vec![root.as_raw_nonzero().get()];
    while let Some(parent) = waiting.pop() {
        for (pid, name) in below.remove(&parent).unwrap_or_default() {
            if !spared.contains(&pid) {
                waiting.push(pid);
                found.push((pid, name));
            }
        }
    }
    found
}

/// Name and parent of a living process: `pid (name) state ppid …`, where the name may hold anything (proc_pid_stat(5)).
fn parse(stat: &str) -> Option<(String, i32)> {
    let (begin, end) = (stat.find('(')?, stat.rfind(')')?);
    let mut rest = stat.get(end + 1..)?.split_whitespace();
    let state = rest.next()?;
    let parent = rest.next()?.parse().ok()?;
    (!matches!(state, "Z" | "X")).then(|| (stat[begin + 1..end].to_owned(), parent))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_brackets_and_spaces_is_no_obstacle() {
        assert_eq!(parse("12 (a) b (c) S 7 1 2"), Some(("a) b (c".to_owned(), 7)));
        assert_eq!(parse("12 (gone) Z 7 1 2"), None);
    }
}

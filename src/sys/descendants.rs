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
        let living = living_but(getpid(), spared);
        if living.is_empty() || begun.elapsed() >= deadline {
            return Swept {
                killed: killed.len() as u64,
                left: living.into_iter().map(|process| process.pid).collect(),
            };
        }
        for Process { pid, name, .. } in living {
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

/// The numbers of everything below one, zombies too, as quickly as the kernel tells: a process that forks and ends at once
/// is gone before a walk over all of `/proc` comes to it. `None`: this kernel does not tell (`CONFIG_PROC_CHILDREN`).
pub fn quickly(root: Pid, spared: Option<i32>) -> Option<Vec<i32>> {
    let children = |pid: i32| std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok();
    let mut waiting = vec![children(root.as_raw_nonzero().get())?];
    let mut found = Vec::new();
    while let Some(text) = waiting.pop() {
        for pid in text.split_ascii_whitespace().filter_map(|pid| pid.parse().ok()) {
            if Some(pid) != spared {
                found.push(pid);
                // Gone by now is fine: what it had started falls to the root.
                waiting.extend(children(pid));
            }
        }
    }
    Some(found)
}

/// A living process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Its number.
    pub pid: i32,
    /// Its name, which it may have chosen itself.
    pub name: String,
    /// Processor time of it and of its children that have ended, in clock ticks.
    pub ticks: u64,
}

/// Every living process below one.
pub fn living(root: Pid) -> Vec<Process> {
    living_but(root, &[])
}

fn living_but(root: Pid, spared: &[Pid]) -> Vec<Process> {
    let mut below: HashMap<i32, Vec<Process>> = HashMap::new();
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let stat = std::fs::read_to_string(entry.path().join("stat")).ok();
        if let Some((process, parent)) = stat.as_deref().and_then(|stat| parse(pid, stat)) {
            below.entry(parent).or_default().push(process);
        }
    }
    let spared: HashSet<i32> = spared.iter().map(|pid| pid.as_raw_nonzero().get()).collect();
    let mut found = Vec::new();
    let mut waiting = vec![root.as_raw_nonzero().get()];
    while let Some(parent) = waiting.pop() {
        for process in below.remove(&parent).unwrap_or_default() {
            if !spared.contains(&process.pid) {
                waiting.push(process.pid);
                found.push(process);
            }
        }
    }
    found
}

/// A living process and its parent: `pid (name) state ppid …`, where the name may hold anything (proc_pid_stat(5)).
fn parse(pid: i32, stat: &str) -> Option<(Process, i32)> {
    let (begin, end) = (stat.find('(')?, stat.rfind(')')?);
    let fields: Vec<&str> = stat.get(end + 1..)?.split_whitespace().collect();
    // Counted from the state, which is field 3 of the manual.
    let field = |number: usize| fields.get(number - 3).copied();
    let number = |at: usize| field(at).and_then(|text| text.parse::<i64>().ok());
    // A process whose first thread has ended looks like a zombie, and is none while it has others.
    let is_dead = field(3) == Some("X") || (field(3) == Some("Z") && number(20)? <= 1);
    if is_dead {
        return None;
    }
    let ticks = (14..=17).filter_map(number).filter_map(|ticks| u64::try_from(ticks).ok()).sum();
    Some((Process { pid, name: stat[begin + 1..end].to_owned(), ticks }, field(4)?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_brackets_and_spaces_is_no_obstacle_and_a_leader_that_ended_alone_is_no_zombie() {
        let stat = |name: &str, state: &str, threads: u32| {
            format!("12 ({name}) {state} 7 1 1 0 -1 4 0 0 0 0 30 2 1 0 20 0 {threads} 0 5")
        };
        let (process, parent) = parse(12, &stat("a) b (c", "S", 1)).expect("alive");
        assert_eq!((process.name.as_str(), process.ticks, parent), ("a) b (c", 33, 7));
        assert_eq!(parse(12, &stat("gone", "Z", 1)), None);
        assert!(parse(12, &stat("alive", "Z", 2)).is_some());
    }
}

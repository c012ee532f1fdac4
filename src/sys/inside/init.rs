//! The init process of an agent: it makes the view, starts the agent in it, and lives until nothing of it is left.
//!
//! In a process id namespace of its own its end is the end of everything in it. Elsewhere it is what orphans fall to, and
//! kills what it finds below it until nothing is left. Either way it ends with its guard: the socket's end is the lifeline.

use std::io::Write as _;
use std::os::fd::{FromRawFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{
    Pid, Signal, WaitId, WaitIdOptions, WaitOptions, WaitStatus, getpid, kill_process, kill_process_group,
    set_child_subreaper, set_parent_process_death_signal, setpgid, waitid, waitpid,
};
use rustix::thread::set_name;

use crate::sys::descendants;

use super::agent::Making;
use super::namespaces::last_errno;
use super::plan::{Agent, Answer, Entered, FailedStep, Order, Step, errno_of};
use super::renames::Helper;
use super::{agent, capabilities, steps, wire};

/// What an agent leaves behind may come to its own end for so long (git packs objects in the background).
const GRACE: Duration = Duration::from_millis(300);
/// After a kill of the agent's group its end is waited for so long before everything else is looked for.
const AFTER_KILL: Duration = Duration::from_millis(50);
/// What cannot be killed by then (uninterruptible sleep) is left to the guard to name.
const DEADLINE: Duration = Duration::from_secs(5);

/// How an init process came into the world.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Birth {
    /// Together with the namespaces of its opening; it is number 1.
    InNamespaces,
    /// As any other process; the namespaces are entered one by one.
    Plain,
}

/// Lives the life of the init process; the value is what to exit with.
pub(super) fn live(socket: UnixStream, opening: &[Step], birth: Birth) -> i32 {
    let _ = set_name(c"agentguard-init");
    let mut preparing = Preparing { birth, entered: Entered::default(), helper: None };
    if preparing.take_charge().is_err() {
        return 1;
    }
    if let Err(failed) = preparing.perform(opening) {
        say(&socket, &Answer::Failed(failed));
        return 1;
    }
    while let Some((body, descriptors)) = wire::receive(&socket) {
        match serde_json::from_slice(&body) {
            Ok(Order::Try) => {
                match preparing.finish() {
                    Ok(()) => say(&socket, &Answer::Entered(preparing.entered)),
                    Err(failed) => say(&socket, &Answer::Failed(failed)),
                }
                return 0;
            }
            Ok(Order::Become(agent)) => return preparing.start(socket, *agent, descriptors),
            // There is nothing yet that could be told to end.
            Ok(Order::Terminate | Order::Kill | Order::Stop | Order::Resume) => {}
            Err(_) => return 1,
        }
    }
    0
}

pub(super) fn say(socket: &UnixStream, answer: &Answer) {
    let mut line = serde_json::to_vec(answer).unwrap_or_default();
    line.push(b'\n');
    // Nobody listens: the guard is gone, and there is no one else to tell.
    let _ = (&mut &*socket).write_all(&line);
}

struct Preparing {
    birth: Birth,
    entered: Entered,
    helper: Option<Helper>,
}

impl Preparing {
    fn take_charge(&self) -> rustix::io::Result<()> {
        match self.birth {
            // Everything in the namespace dies with it.
            Birth::InNamespaces => set_parent_process_death_signal(Some(Signal::KILL)),
            // It must outlive the guard by as much as it takes to kill the others.
            Birth::Plain => {
                set_parent_process_death_signal(None)?;
                set_child_subreaper(Some(getpid()))
            }
        }
    }

    /// What can be done here; the agent's own steps are prepared.
    fn perform(&mut self, steps: &[Step]) -> Result<(), FailedStep> {
        let (helping, others): (Vec<&Step>, Vec<&Step>) = steps.iter().partition(|step| **step == Step::ServeRenames);
        let others: Vec<Step> = others.into_iter().cloned().collect();
        steps::perform(&others, self.birth, &mut self.entered, None)?;
        if !helping.is_empty() && self.helper.is_none() {
            self.helper = Helper::start()?;
        }
        Ok(())
    }

    /// What was only prepared: an agent would do it itself.
    fn finish(&mut self) -> Result<(), FailedStep> {
        let serving: &[Step] = if self.helper.is_some() { &[Step::ServeRenames] } else { &[] };
        steps::perform(serving, self.birth, &mut self.entered, self.helper.as_ref())
    }

    fn start(mut self, socket: UnixStream, agent: Agent, descriptors: Vec<OwnedFd>) -> i32 {
        if let Err(error) = std::env::set_current_dir(agent.cwd.as_path()) {
            say(&socket, &Answer::NotStarted(errno_of(&error)));
            return 1;
        }
        let own = agent.steps.iter().position(Step::is_the_agents).unwrap_or(agent.steps.len());
        let (before, of_agent) = agent.steps.split_at(own);
        if let Err(failed) = steps::perform(before, self.birth, &mut self.entered, None) {
            say(&socket, &Answer::Failed(failed));
            return 1;
        }
        let mut of_agent = of_agent.to_vec();
        if self.helper.is_some() {
            of_agent.insert(0, Step::ServeRenames);
        }
        let guard = getpid();
        // SAFETY: this process has one thread, so the child may do whatever it could have done itself.
        match unsafe { libc::fork() } {
            -1 => {
                say(&socket, &Answer::NotStarted(last_errno().raw_os_error()));
                1
            }
            0 => {
                if self.birth == Birth::Plain {
                    // Of no use after a program with rights of its own was executed; the walk finds that one.
                    let _ = set_parent_process_death_signal(Some(Signal::KILL));
                    if rustix::process::getppid() != Some(guard) {
                        return 1;
                    }
                }
                let making = Making {
                    socket: &socket,
                    agent: &agent,
                    steps: &of_agent,
                    entered: self.entered,
                    helper: self.helper.as_ref(),
                    birth: self.birth,
                };
                agent::live(making, descriptors)
            }
            pid => {
                drop(descriptors);
                // From both sides: a signal may come before the agent has done it.
                if let (true, Some(pid)) = (agent.leads && !agent.controls, Pid::from_raw(pid)) {
                    let _ = setpgid(Some(pid), Some(pid));
                }
                // Out of a group that others share: what is sent to that is not for this process.
                let _ = setpgid(None, None);
                let _ = capabilities::drop_admin();
                let helper = self.helper.map(Helper::let_go);
                match Watch::new(socket, pid, helper, self.birth, &agent) {
                    Ok(watch) => watch.keep(),
                    Err(_) => 1,
                }
            }
        }
    }
}

/// The watch over a running agent.
struct Watch {
    socket: UnixStream,
    children: OwnedFd,
    /// `None` once it has ended and was reaped: its number may be another's.
    agent: Option<Pid>,
    leads: bool,
    foreground: bool,
    helper: Option<i32>,
    birth: Birth,
    /// When everything that is left is killed.
    kill_at: Option<Instant>,
    /// Whether the guard wants an end, or is gone.
    hurry: bool,
    /// When the killing began.
    killing: Option<Instant>,
    /// How many outlived the agent, once they were counted.
    killed: Option<u64>,
    pause: Duration,
}

impl Watch {
    fn new(socket: UnixStream, pid: i32, helper: Option<i32>, birth: Birth, agent: &Agent) -> rustix::io::Result<Self> {
        Ok(Self {
            socket,
            children: child_signals()?,
            agent: Pid::from_raw(pid),
            leads: agent.leads,
            foreground: agent.foreground,
            helper,
            birth,
            kill_at: None,
            hurry: false,
            killing: None,
            killed: None,
            pause: Duration::from_micros(100),
        })
    }

    fn keep(mut self) -> i32 {
        let mut listening = true;
        loop {
            if self.reap() == Children::None {
                self.say(&Answer::Done { killed: self.killed.unwrap_or(0) });
                return 0;
            }
            if self.kill_at.is_some_and(|at| Instant::now() >= at) {
                let begun = *self.killing.get_or_insert_with(|| {
                    // Who runs away must not win by running: an ordinary user may not do this.
                    let _ = rustix::process::setpriority_process(None, -20);
                    Instant::now()
                });
                if begun.elapsed() >= DEADLINE {
                    return 1;
                }
                self.kill_what_is_left();
            }
            let wait = self.kill_at.map(|at| match self.killing {
                Some(_) => self.pause,
                None => at.saturating_duration_since(Instant::now()),
            });
            let (orders, children) = self.wait(wait, listening);
            if children {
                drain(&self.children);
            }
            if orders && !self.obey() {
                listening = false;
                self.end_now();
            }
        }
    }

    fn wait(&self, time: Option<Duration>, listening: bool) -> (bool, bool) {
        let time = time.map(|time| Timespec {
            tv_sec: i64::try_from(time.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(time.subsec_nanos()) + 1,
        });
        let mut waits = [PollFd::new(&self.children, PollFlags::IN), PollFd::new(&self.socket, PollFlags::IN)];
        let waits = if listening { &mut waits[..] } else { &mut waits[..1] };
        match poll(waits, time.as_ref()) {
            Ok(_) => (waits.get(1).is_some_and(|wait| !wait.revents().is_empty()), !waits[0].revents().is_empty()),
            Err(_) => (false, false),
        }
    }

    /// Whether there is still somebody who gives orders.
    fn obey(&mut self) -> bool {
        let Some((body, _)) = wire::receive(&self.socket) else { return false };
        match serde_json::from_slice(&body) {
            Ok(Order::Terminate) => self.ask_to_end(),
            Ok(Order::Kill) => self.end_now(),
            Ok(Order::Stop) => self.tell_agent(Signal::STOP),
            Ok(Order::Resume) => self.resume(),
            _ => {}
        }
        true
    }

    /// TERM for everything that the agent started, whatever group or session it is in; a stopped process sees it once it
    /// is continued.
    fn ask_to_end(&mut self) {
        self.reap();
        for signal in [Signal::TERM, Signal::CONT] {
            for pid in self.living() {
                let _ = Pid::from_raw(pid).map(|pid| kill_process(pid, signal));
            }
        }
    }

    fn end_now(&mut self) {
        self.hurry = true;
        self.tell_agent(Signal::KILL);
        let after = Instant::now() + if self.agent.is_some() { AFTER_KILL } else { Duration::ZERO };
        self.kill_at = Some(self.kill_at.map_or(after, |at| at.min(after)));
    }

    fn resume(&self) {
        let Some(agent) = self.agent else { return };
        if self.foreground {
            // The terminal may be gone by now; the agent then reads its end.
            let _ = agent::take_terminal(agent);
        }
        self.tell_agent(Signal::CONT);
    }

    /// A signal for the agent's group, or for it alone where others share the group.
    fn tell_agent(&self, signal: Signal) {
        let Some(agent) = self.agent else { return };
        let _ = if self.leads { kill_process_group(agent, signal) } else { kill_process(agent, signal) };
    }

    /// Takes away the status of every child that has ended, and tells of the agent's.
    fn reap(&mut self) -> Children {
        loop {
            let changed = match next_change() {
                Ok(Some(changed)) => changed,
                Err(Errno::INTR) => continue,
                Ok(None) => return Children::Some,
                Err(_) => return Children::None,
            };
            let is_agent = Some(changed) == self.agent;
            if is_agent && has_ended(changed) {
                // It is a zombie still, so its group's number is its own: whoever is left in it goes now.
                let _ = self.leads.then(|| kill_process_group(changed, Signal::KILL));
            }
            let options = WaitOptions::NOHANG | WaitOptions::UNTRACED;
            if let (Ok(Some((_, status))), true) = (waitpid(Some(changed), options), is_agent) {
                self.hear_of_agent(status);
            }
        }
    }

    fn hear_of_agent(&mut self, status: WaitStatus) {
        if status.stopped() {
            self.say(&Answer::Stopped);
            return;
        }
        self.agent = None;
        self.say(&Answer::Ended(status.exit_status(), status.terminating_signal()));
        let at = Instant::now() + if self.hurry { Duration::ZERO } else { GRACE };
        self.kill_at = Some(self.kill_at.map_or(at, |before| before.min(at)));
    }

    fn kill_what_is_left(&mut self) {
        match self.birth {
            Birth::InNamespaces => self.kill_in_namespace(),
            Birth::Plain => self.kill_below(),
        }
        self.pause = (self.pause * 2).min(Duration::from_millis(10));
    }

    /// How many there are when the killing begins; the agent is not among those that outlived it.
    fn count(&mut self, living: &[i32]) {
        let agent = self.agent.map(|agent| agent.as_raw_nonzero().get());
        let count = living.iter().filter(|pid| Some(**pid) != agent).count() as u64;
        self.killed.get_or_insert(count);
    }

    /// Nobody can start anything any more while the others are killed one by one.
    fn kill_in_namespace(&mut self) {
        if self.living().is_empty() && self.killed.is_some() {
            return;
        }
        stop_all();
        let living = self.living();
        self.count(&living);
        kill(&living);
        if let Some(helper) = self.helper.and_then(Pid::from_raw) {
            let _ = kill_process(helper, Signal::CONT);
        }
    }

    /// Again and again, quicker than they can run away; then the others get their turn. Those that have ended go first:
    /// a process that forks and ends at once leaves thousands.
    fn kill_below(&mut self) {
        const BURST: Duration = Duration::from_millis(50);
        let until = Instant::now() + BURST;
        loop {
            if self.reap() == Children::None {
                return;
            }
            let living = descendants::quickly(getpid(), self.helper).unwrap_or_else(|| self.living());
            self.count(&living);
            kill(&living);
            if living.is_empty() || Instant::now() >= until {
                return;
            }
        }
    }

    /// Everything below this process but the helper, which ends with the last of its users.
    fn living(&self) -> Vec<i32> {
        let is_helper = |pid: i32, name: &str| Some(pid) == self.helper || name == descendants::OWN_HELPER;
        descendants::living(getpid())
            .into_iter()
            .filter(|process| !is_helper(process.pid, &process.name))
            .map(|process| process.pid)
            .collect()
    }

    fn say(&self, answer: &Answer) {
        say(&self.socket, answer);
    }
}

#[derive(PartialEq, Eq)]
enum Children {
    Some,
    None,
}

/// A child that has ended or was stopped; it stays as it is.
fn next_change() -> rustix::io::Result<Option<Pid>> {
    // rustix tells the status and not whose it is.
    // SAFETY: an all-zero siginfo is valid, and the kernel fills it in or leaves it as it is.
    let pid = unsafe {
        let mut info: libc::siginfo_t = std::mem::zeroed();
        let flags = libc::WEXITED | libc::WSTOPPED | libc::WNOHANG | libc::WNOWAIT;
        if libc::waitid(libc::P_ALL, 0, &raw mut info, flags) != 0 {
            return Err(last_errno());
        }
        info.si_pid()
    };
    Ok(Pid::from_raw(pid))
}

fn has_ended(pid: Pid) -> bool {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    matches!(waitid(WaitId::Pid(pid), options), Ok(Some(_)))
}

fn kill(pids: &[i32]) {
    for pid in pids {
        // One that is gone by now is fine.
        let _ = Pid::from_raw(*pid).map(|pid| kill_process(pid, Signal::KILL));
    }
}

/// kill(2): everything that this process may signal, except itself; in its namespace that is everybody.
fn stop_all() {
    // SAFETY: a plain system call.
    unsafe { libc::kill(-1, libc::SIGSTOP) };
}

/// SIGCHLD, which is blocked like all the others, as something to wait for.
fn child_signals() -> rustix::io::Result<OwnedFd> {
    // SAFETY: the set is a plain struct that sigemptyset initialises; the descriptor that the call makes is the caller's.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, libc::SIGCHLD);
        let made = libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK);
        if made < 0 { Err(last_errno()) } else { Ok(OwnedFd::from_raw_fd(made)) }
    }
}

fn drain(children: &OwnedFd) {
    let mut bytes = [0_u8; 512];
    while rustix::io::read(children, &mut bytes).is_ok_and(|read| read > 0) {}
}

//! The child's own life: from `main` to the agent.

use std::ffi::{OsStr, OsString};
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::fd::{FromRawFd as _, RawFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::ExitCode;

use rustix::io::{FdFlags, fcntl_setfd};

use super::plan::{Answer, Entered, FailedStep, Order, Step, Then, errno_of};
use super::{agent, capabilities, confine, mounts, namespaces, renames};

/// The first argument of a child; nobody types it, and no completion shows it.
pub(super) const CHILD: &str = "agentguard:inside";

/// What the child ends with where nobody listens any more.
const ALONE: u8 = 125;

/// Whether the process was started as a child: then the child's life is lived here, and this returns only to end it.
/// To be asked before any thread exists.
///
/// `arguments`: [`CHILD`], the number of the socket, and the agent's argument vector.
pub fn entry(arguments: &[OsString]) -> Option<ExitCode> {
    let [own, socket, argv @ ..] = arguments else { return None };
    if own != OsStr::new(CHILD) {
        return None;
    }
    let socket = socket.to_str().and_then(|number| number.parse::<RawFd>().ok()).filter(|number| *number > 2);
    Some(socket.map_or(ExitCode::from(ALONE), |socket| live(socket, argv)))
}

fn live(socket: RawFd, argv: &[OsString]) -> ExitCode {
    // SAFETY: the guard has left exactly this descriptor open for the child, which owns it from here on.
    let socket = unsafe { UnixStream::from_raw_fd(socket) };
    // The agent must not have it, and its end tells the guard that the agent is there.
    if fcntl_setfd(&socket, FdFlags::CLOEXEC).is_err() {
        return ExitCode::from(ALONE);
    }
    let mut entered = Entered::default();
    let mut orders = BufReader::new(&socket);
    loop {
        // The end of the socket: the guard is gone, and so is whoever wanted an agent.
        let Some(order) = next_order(&mut orders) else { return ExitCode::from(ALONE) };
        if let Err(failed) = perform(&order.steps, &mut entered) {
            answer(&socket, &Answer::Failed(failed));
            return ExitCode::from(ALONE);
        }
        match order.then {
            Then::Wait => {}
            Then::End => {
                answer(&socket, &Answer::Entered(entered));
                return ExitCode::SUCCESS;
            }
            Then::Become => {
                answer(&socket, &Answer::Entered(entered));
                let error = agent::become_agent(argv);
                answer(&socket, &Answer::NotExecuted(errno_of(&error)));
                return ExitCode::from(ALONE);
            }
        }
    }
}

fn next_order(orders: &mut BufReader<&UnixStream>) -> Option<Order> {
    let mut line = Vec::new();
    orders.read_until(b'\n', &mut line).ok()?;
    serde_json::from_slice(&line).ok()
}

fn answer(socket: &UnixStream, answer: &Answer) {
    let mut line = serde_json::to_vec(answer).unwrap_or_default();
    line.push(b'\n');
    // Nobody listens: the guard is gone, and there is no one else to tell.
    let _ = (&mut &*socket).write_all(&line);
}

/// Performs the steps in their order.
fn perform(steps: &[Step], entered: &mut Entered) -> Result<(), FailedStep> {
    let mounting = steps.iter().position(Step::mounts).unwrap_or(steps.len());
    let (before, from_here) = steps.split_at(mounting);
    for step in before {
        alone(step, entered)?;
    }
    let held = from_here.iter().map(mounts::hold).collect::<Result<Vec<_>, _>>()?;
    for (step, held) in from_here.iter().zip(held) {
        if step.mounts() { mounts::perform(step, held)? } else { alone(step, entered)? }
    }
    Ok(())
}

/// A step that mounts nothing.
fn alone(step: &Step, entered: &mut Entered) -> Result<(), FailedStep> {
    match step {
        Step::UserNamespace { uid, gid } => namespaces::enter_user(*uid, *gid),
        Step::MountNamespace => namespaces::enter_mount(),
        Step::NetworkNamespace => namespaces::enter_network(),
        Step::PidNamespace => namespaces::enter_pid(),
        Step::Enter { directory } => enter(directory.as_path()),
        Step::Confine { writable } => {
            entered.landlock_abi = Some(confine::confine(writable)?);
            Ok(())
        }
        Step::ServeRenames => {
            entered.renames = renames::serve()?;
            Ok(())
        }
        Step::DropAdmin => capabilities::drop_admin(),
        Step::Overlay(_) | Step::Bind(_) | Step::Mask { .. } | Step::MakeDirectory { .. } | Step::MakeFile { .. } => {
            mounts::perform(step, mounts::hold(step)?)
        }
    }
}

fn enter(directory: &Path) -> Result<(), FailedStep> {
    std::env::set_current_dir(directory).map_err(FailedStep::io("working directory", directory))
}

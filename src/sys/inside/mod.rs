//! The inside of a view, and the processes on the way to an agent.
//!
//! `unshare(CLONE_NEWUSER)` is refused to a process with threads (user_namespaces(7)), and a copy of a process that has
//! some may do next to nothing. So the guard is copied once, before it has any: the [zygote](Starter). It makes a process
//! for each agent, the init process, as a child of the guard and where the kernel allows it as the first of a process id
//! namespace. The guard talks to it through a socket pair: the steps of a plan, performed top to bottom; a step that fails
//! is named in the answer. It starts the agent as its own child, takes in whatever the agent leaves behind, and ends when
//! nothing of it lives any more.
//!
//! | process | is | ends |
//! |---|---|---|
//! | guard | agentguard itself | |
//! | zygote | a copy with one thread | with the guard (parent-death signal) |
//! | init | one for each agent and verify command | with all that it has started; with the guard (parent-death signal in a process id namespace, else the end of the socket) |
//! | helper | serves renames ([`renames`]) | with the last who may ask |
//! | agent | what the user wrote | |

mod agent;
mod capabilities;
mod confine;
mod init;
mod mounts;
mod namespaces;
mod plan;
mod renames;
mod running;
mod start;
mod steps;
mod wire;
mod zygote;

pub use capabilities::may_mount;
pub use plan::{Access, Bind, Entered, FailedStep, Layers, RenameService, Step, Writes};
pub use running::{Running, Told, Voice};
pub use start::{InsideError, Starter, Waiting};

use std::ffi::{OsStr, OsString};
use std::os::fd::{FromRawFd as _, RawFd};
use std::os::unix::net::UnixStream;
use std::process::ExitCode;

/// The first argument of a zygote that was executed; nobody types it, and no completion shows it.
const ZYGOTE: &str = "agentguard:inside";

/// Whether the process was started as a zygote: then its life is lived here, and this returns only to end it. To be asked
/// before any thread exists.
///
/// `arguments`: the name, and the number of the socket.
pub fn entry(arguments: &[OsString]) -> Option<ExitCode> {
    let [own, socket] = arguments else { return None };
    if own != OsStr::new(ZYGOTE) {
        return None;
    }
    let socket = socket.to_str().and_then(|number| number.parse::<RawFd>().ok()).filter(|number| *number > 2)?;
    // SAFETY: the guard has left exactly this descriptor open for its zygote, which owns it from here on.
    let socket = unsafe { UnixStream::from_raw_fd(socket) };
    // Nobody else is to have it: its end tells that the guard is gone.
    if rustix::io::fcntl_setfd(&socket, rustix::io::FdFlags::CLOEXEC).is_err() {
        return Some(ExitCode::FAILURE);
    }
    Some(zygote::live(&socket))
}

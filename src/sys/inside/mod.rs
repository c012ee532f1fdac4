//! The inside of a view: this program, executed once more, enters namespaces, mounts what the agent is to see, gives up
//! what the agent must not have, and becomes the agent.
//!
//! `unshare(CLONE_NEWUSER)` is refused to a process with threads (user_namespaces(7)), and nothing that allocates may
//! run between `fork` and `exec` of a process that has some. So the child executes `/proc/self/exe` with a private
//! `argv[0]`, which `main` catches before anything else ([`entry`]). The guard ([`start`]) talks to it through a socket
//! pair, one JSON line each way per [`Order`](plan::Order): the steps of a plan, performed top to bottom. A step that
//! fails is named in the answer. The socket is close-on-exec: its end says that the child has become the agent.
//!
//! The process number stays the same all the way, so what was started is what is supervised.

mod agent;
mod capabilities;
mod child;
mod confine;
mod mounts;
mod namespaces;
mod plan;
mod renames;
mod start;

pub use capabilities::may_mount;
pub use child::entry;
pub use plan::{Access, Bind, Entered, FailedStep, Layers, RenameService, Step, Writes};
pub use start::{InsideError, OWN_PROGRAM, Waiting, start, try_steps};

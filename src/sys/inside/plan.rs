//! What an init process is told and what is answered: plain data, JSON.

use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::model::Text;
use crate::sys::process::Limits;

/// One thing that is done on the way to the agent. Paths are the host's unless they lie under a mount that an earlier step made.
///
/// The sources of all mounts are opened before the first of them is made: a mount never hides what a later step needs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// A user namespace of its own, in which the ids stay what they are.
    UserNamespace {
        /// The effective user id.
        uid: u32,
        /// The effective group id.
        gid: u32,
    },
    /// A mount namespace of its own; nothing mounted in it is seen outside, and nothing mounted outside from now on is
    /// seen in it.
    MountNamespace,
    /// A network namespace of its own, with the loopback interface up and nothing else.
    NetworkNamespace,
    /// A process id namespace of its own, with a `/proc` that shows it: when its first process has ended, no process of it
    /// is left. Only where it was made together with the process.
    PidNamespace,
    /// A copy-on-write view over a directory.
    Overlay(Layers),
    /// The same with changes that are kept in memory and nowhere else: to find out whether it can be had, with nothing made
    /// that somebody could see.
    OverlayInMemory {
        /// The directory.
        target: Text,
    },
    /// Something shown at another path as well.
    Bind(Bind),
    /// A directory's content is hidden under an empty one that cannot be written.
    Mask {
        /// The directory.
        path: Text,
    },
    /// A mount point, with whatever is missing above it.
    MakeDirectory {
        /// The directory.
        path: Text,
    },
    /// A mount point for a file, with whatever is missing above it.
    MakeFile {
        /// The file.
        path: Text,
    },
    /// The working directory is looked up again: the inherited one lies under the mounts.
    Enter {
        /// The directory.
        directory: Text,
    },
    /// From here on nothing is written outside of these trees, `/dev` and `/proc` (Landlock). No mount is possible any
    /// more, and programs cannot gain privileges by being executed.
    Confine {
        /// Files and directories, as they are named inside.
        writable: Vec<Text>,
    },
    /// Renames of directories that an overlay refuses are done by a process beside the agent.
    ServeRenames,
    /// `CAP_SYS_ADMIN` is given up for good, with which a mount could be taken away.
    DropAdmin,
}

/// The layers of an overlay.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layers {
    /// Directories that are only read, the topmost first.
    pub lower: Vec<Text>,
    /// Where changes go; without it the view is read-only.
    pub writes: Option<Writes>,
    /// The directory that the view covers.
    pub target: Text,
}

/// Where an overlay's changes go: two directories on one filesystem, used by one overlay once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Writes {
    /// What was changed.
    pub upper: Text,
    /// An empty directory for the kernel.
    pub work: Text,
}

/// A file or directory, with what is mounted below it, at a second path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bind {
    /// What.
    pub from: Text,
    /// Where: something of the same kind must be there.
    pub to: Text,
    /// Whether it can be written.
    pub access: Access,
}

/// Whether something can be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Access {
    /// It cannot.
    ReadOnly,
    /// As its modes say.
    ReadWrite,
}

impl Step {
    /// Whether the step is the agent's own: what started it keeps what it takes to end it.
    pub(super) fn is_the_agents(&self) -> bool {
        matches!(self, Self::Confine { .. } | Self::ServeRenames | Self::DropAdmin)
    }

    /// Whether the step needs a source that must be opened before anything is mounted, or mounts something itself.
    pub(super) fn mounts(&self) -> bool {
        matches!(
            self,
            Self::Overlay(_)
                | Self::OverlayInMemory { .. }
                | Self::Bind(_)
                | Self::Mask { .. }
                | Self::MakeDirectory { .. }
                | Self::MakeFile { .. }
        )
    }
}

/// What the init process is told.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Order {
    /// The rest of the steps, and the agent. Four descriptors come along: its standard streams, and where it tells why it
    /// cannot be executed.
    Become(Box<Agent>),
    /// Nothing more than what it has done: it was an experiment.
    Try,
    /// Everything that the agent has started is asked to end.
    Terminate,
    /// Everything is killed.
    Kill,
    /// The agent's group is stopped.
    Stop,
    /// The agent's group goes on after a stop, and has the terminal if it had it.
    Resume,
}

/// What becomes the agent.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Agent {
    /// Top to bottom.
    pub(super) steps: Vec<Step>,
    /// The argument vector.
    pub(super) argv: Vec<Text>,
    /// The working directory before the steps.
    pub(super) cwd: Text,
    /// Variables to set (`None`: to remove).
    pub(super) environment: Vec<(Text, Option<Text>)>,
    /// Where it is not the guard's own.
    pub(super) umask: Option<u32>,
    /// Whether it leads a process group.
    pub(super) leads: bool,
    /// Whether its group is made the terminal's foreground group.
    pub(super) foreground: bool,
    /// Whether its standard input is a terminal that it controls, in a session of its own.
    pub(super) controls: bool,
    /// How much it may use.
    pub(super) limits: Limits,
}

/// What is said to the guard, one JSON line each.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Answer {
    /// Every step is done.
    Entered(Entered),
    /// A step failed, and there will be no agent.
    Failed(FailedStep),
    /// The working directory cannot be entered, or there is no process to be had: `errno`.
    NotStarted(i32),
    /// The agent was stopped.
    Stopped,
    /// The agent has ended: exit code or signal.
    Ended(Option<i32>, Option<i32>),
    /// Nothing of the run lives any more, except what is named.
    Done {
        /// How many processes outlived the agent and were killed.
        killed: u64,
    },
}

/// What is in force once every step is done.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entered {
    /// The Landlock ABI whose rules are enforced; `None` without [`Step::Confine`].
    pub landlock_abi: Option<u32>,
    /// Who serves renames of directories.
    pub renames: RenameService,
    /// Whether the processes have an id namespace of their own.
    pub pids: bool,
}

/// Who serves the renames of directories that an overlay refuses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RenameService {
    /// Nobody.
    #[default]
    None,
    /// A process started for this agent.
    Own,
    /// One that was there already: this agentguard runs inside another's view.
    Outer,
}

/// A step that failed: one system call on one object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{step}{}: {}", on(.path.as_ref()), io::Error::from_raw_os_error(*.errno))]
pub struct FailedStep {
    /// What was tried, as in `overlay` or `user id map`.
    pub step: String,
    /// On what.
    pub path: Option<Text>,
    /// Why not.
    pub errno: i32,
}

fn on(path: Option<&Text>) -> String {
    path.map(|path| format!(" on {path:?}")).unwrap_or_default()
}

impl FailedStep {
    /// A failure that concerns no path.
    pub(super) fn plain(step: &'static str) -> impl FnOnce(rustix::io::Errno) -> Self {
        move |errno| Self { step: step.to_owned(), path: None, errno: errno.raw_os_error() }
    }

    /// A failure of a system call on a path.
    pub(super) fn at(step: &'static str, path: &Path) -> impl FnOnce(rustix::io::Errno) -> Self {
        move |errno| Self { step: step.to_owned(), path: Some(path.into()), errno: errno.raw_os_error() }
    }

    /// The same, as std reports it.
    pub(super) fn io(step: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |error| Self { step: step.to_owned(), path: Some(path.into()), errno: errno_of(&error) }
    }
}

/// The number behind an error; EIO for one that has none.
pub(super) fn errno_of(error: &io::Error) -> i32 {
    error.raw_os_error().unwrap_or(libc::EIO)
}

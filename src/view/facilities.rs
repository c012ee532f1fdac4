//! What this machine allows: every facility is tried for real, on the real directories, and undone.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use rustix::fs::{Access as Rights, access};
use rustix::process::{getegid, geteuid};

use crate::model::spec::Network;
use crate::sys::inside::{
    Access, Bind, Entered, FailedStep, InsideError, Layers, RenameService, Starter, Step, Writes, may_mount,
};
use crate::sys::rename::{Exchanged, exchange};
use crate::sys::{copy, mount_table};

use super::clone;

/// One thing that agentguard can use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facility {
    /// What it is.
    pub kind: Kind,
    /// What came of trying it.
    pub finding: Finding,
}

/// The facilities, in the order in which they build on each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// A user namespace with one's own ids.
    UserNamespace,
    /// Mounts in a mount namespace.
    Mounts,
    /// An overlay over the workspace, its changes in the state directory.
    Overlay,
    /// Renames of directories in it.
    DirectoryRenames,
    /// A network namespace with the loopback interface.
    Network,
    /// Landlock.
    Landlock,
    /// Copies that share blocks, from the workspace to the state directory.
    Reflink,
    /// An exchange of two names, in the state directory.
    Exchange,
    /// A process id namespace.
    Pids,
    /// A delegated control group whose processes can be killed at once.
    CgroupKill,
}

/// What came of trying.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// It works; perhaps with something to say about it.
    Works(Option<String>),
    /// It does not.
    Missing {
        /// The step that failed, and why.
        why: String,
        /// What lifts the blocker: a command, or words where there is none.
        fix: Option<String>,
    },
}

impl Facility {
    /// Whether it can be used.
    pub fn works(&self) -> bool {
        matches!(self.finding, Finding::Works(_))
    }
}

/// Tries everything. `place` is a new, empty directory in the state directory, which stays empty but for what a crash leaves.
pub fn probe(starter: &Starter, workspace: &Path, place: &Path) -> io::Result<Vec<Facility>> {
    let dir = |name: &str| {
        let path = place.join(name);
        fs::create_dir_all(&path).map(|()| path)
    };
    // A work directory serves one overlay once.
    let overlay = |upper: &str, work: &str| -> io::Result<Step> {
        let writes = Writes { upper: dir(upper)?.as_path().into(), work: dir(work)?.as_path().into() };
        Ok(Step::Overlay(Layers { lower: vec![workspace.into()], writes: Some(writes), target: workspace.into() }))
    };
    let (plain, serving) = (overlay("upper", "work")?, overlay("upper-2", "work-2")?);
    let (here, there) = (dir("here")?, dir("there")?);
    let bind = Step::Bind(Bind { from: here.as_path().into(), to: there.as_path().into(), access: Access::ReadWrite });
    let confine = Step::Confine { writable: vec![place.into()] };
    let attempt = |steps: &[Step]| starter.try_steps(steps);
    let mounting = |steps: &[Step]| attempt(&[&clone::opening(Network::Host)[..], steps].concat());
    let ids = Step::UserNamespace { uid: geteuid().as_raw(), gid: getegid().as_raw() };
    let owned = |step: Step| if may_mount() { vec![step] } else { vec![ids.clone(), step] };

    let findings = [
        (Kind::UserNamespace, found(attempt(std::slice::from_ref(&ids)), |_| None)),
        (Kind::Mounts, found(mounting(&[bind]), |_| None)),
        (Kind::Overlay, found(mounting(&[plain]), |_| None).map_missing(|step| overlay_fix(step, place))),
        (Kind::DirectoryRenames, directory_renames(mounting(&[Step::ServeRenames, serving]))),
        (Kind::Network, found(attempt(&owned(Step::NetworkNamespace)), |_| None)),
        (Kind::Landlock, found(attempt(&[confine]), |entered| entered.landlock_abi.map(|abi| format!("ABI {abi}")))),
        (Kind::Reflink, reflink(workspace, place)?),
        (Kind::Exchange, exchange_in(place)?),
        (Kind::Pids, found(mounting(&[Step::PidNamespace]), |_| None)),
        (Kind::CgroupKill, cgroup_kill()),
    ];
    // What the overlay's work directory holds is closed to its owner.
    for name in ["upper", "work", "upper-2", "work-2", "here", "there"] {
        crate::sys::remove::remove_tree(&place.join(name))?;
    }
    Ok(findings.into_iter().map(|(kind, finding)| Facility { kind, finding }).collect())
}

fn found(tried: Result<Entered, InsideError>, note: impl FnOnce(&Entered) -> Option<String>) -> Finding {
    match tried {
        Ok(entered) => Finding::Works(note(&entered)),
        Err(InsideError::Step(step)) => Finding::Missing { fix: fix(&step), why: step.to_string() },
        Err(error) => Finding::Missing { why: error.to_string(), fix: None },
    }
}

impl Finding {
    /// A better way out than the general one, if there is one.
    fn map_missing(self, better: impl FnOnce(&str) -> Option<String>) -> Self {
        match self {
            Self::Missing { why, fix } => Self::Missing { fix: better(&why).or(fix), why },
            works => works,
        }
    }
}

fn directory_renames(tried: Result<Entered, InsideError>) -> Finding {
    match tried {
        Ok(entered) if entered.renames == RenameService::None => Finding::Missing {
            why: "the kernel gives no notification of a process's system calls (seccomp)".to_owned(),
            fix: Some("--view clone".to_owned()),
        },
        tried => found(tried, |entered| {
            (entered.renames == RenameService::Outer).then(|| "by the agentguard around this one".to_owned())
        }),
    }
}

/// What lifts a blocker, as far as this machine tells which it is.
fn fix(step: &FailedStep) -> Option<String> {
    let is_on = |path: &str, wanted: &str| fs::read_to_string(path).is_ok_and(|text| text.trim() == wanted);
    let denied = matches!(step.errno, libc::EPERM | libc::EACCES);
    let fix = match &*step.step {
        "landlock" => {
            let known = fs::read_to_string("/sys/kernel/security/lsm").unwrap_or_default();
            if known.split(',').any(|name| name.trim() == "landlock") {
                return None;
            }
            return Some(format!(
                "Linux 5.13 or newer, started with the kernel parameter lsm=landlock{}{}",
                if known.is_empty() { "" } else { "," },
                known.trim()
            ));
        }
        // A limit of 0, or used up (namespaces(7)).
        "user namespace" if step.errno == libc::ENOSPC => "sudo sysctl user.max_user_namespaces=15000",
        "mount namespace" if step.errno == libc::ENOSPC => "sudo sysctl user.max_mnt_namespaces=15000",
        "network namespace" if step.errno == libc::ENOSPC => "sudo sysctl user.max_net_namespaces=15000",
        "process id namespace" if step.errno == libc::ENOSPC => "sudo sysctl user.max_pid_namespaces=15000",
        _ if denied && is_on("/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1") => {
            "sudo sysctl kernel.apparmor_restrict_unprivileged_userns=0"
        }
        _ if denied && is_on("/proc/sys/kernel/unprivileged_userns_clone", "0") => {
            "sudo sysctl kernel.unprivileged_userns_clone=1"
        }
        _ if denied && is_filtered() => {
            "docker run --security-opt seccomp=unconfined --security-opt apparmor=unconfined \u{2026} (a filter of system calls is in force)"
        }
        _ if step.errno == libc::ENODEV => "sudo modprobe overlay",
        _ => return None,
    };
    Some(fix.to_owned())
}

/// Whether system calls of this process are filtered, as in a container (proc_pid_status(5): `Seccomp: 2`).
fn is_filtered() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    status.lines().any(|line| line.split_once(':').is_some_and(|(key, mode)| key == "Seccomp" && mode.trim() == "2"))
}

/// Whether an overlay's changes can lie on a filesystem, as far as its kind tells beforehand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LayerPlace {
    /// They can.
    Fine,
    /// They cannot: it lacks what the kernel wants of an upper layer, or is itself an overlay.
    Unfit,
    /// Who knows.
    Unknown,
}

impl LayerPlace {
    /// By the kind of the filesystem, as the mount table has it.
    pub fn of(kind: &str) -> Self {
        match kind {
            "ext4" | "xfs" | "btrfs" | "tmpfs" | "f2fs" => Self::Fine,
            "overlay" | "nfs" | "nfs4" | "cifs" | "smb3" | "9p" | "vfat" | "msdos" | "exfat" => Self::Unfit,
            _ => Self::Unknown,
        }
    }
}

/// An overlay's changes cannot lie on every filesystem.
fn overlay_fix(why: &str, place: &Path) -> Option<String> {
    let kind = mount_table::mount_of(place).ok()?.fs_type;
    (why.starts_with("overlay") && LayerPlace::of(&kind) != LayerPlace::Fine)
        .then(|| format!("--state-dir DIR on another filesystem (this one is {kind}), or --view clone"))
}

fn reflink(workspace: &Path, place: &Path) -> io::Result<Finding> {
    let (from, to) = (place.join("from"), place.join("to"));
    fs::write(&from, [7; 4096])?;
    let shares = copy::reflink(&File::open(&from)?, &File::create(&to)?);
    fs::remove_file(&from)?;
    fs::remove_file(&to)?;
    let kind = mount_table::mount_of(place).map(|mounted| mounted.fs_type).unwrap_or_default();
    Ok(if !shares {
        Finding::Missing { why: format!("{kind} cannot share blocks: copies take time and space"), fix: None }
    } else if fs::metadata(workspace)?.dev() != fs::metadata(place)?.dev() {
        let fix = "--state-dir DIR on the workspace's filesystem".to_owned();
        Finding::Missing { why: "the state directory lies on another filesystem".to_owned(), fix: Some(fix) }
    } else {
        Finding::Works(None)
    })
}

fn exchange_in(place: &Path) -> io::Result<Finding> {
    let (one, two) = (place.join("one"), place.join("two"));
    File::create(&one)?;
    File::create(&two)?;
    let exchanged = exchange(&one, &two);
    fs::remove_file(&one)?;
    fs::remove_file(&two)?;
    let kind = mount_table::mount_of(place).map(|mounted| mounted.fs_type).unwrap_or_default();
    Ok(match exchanged? {
        Exchanged::Swapped => Finding::Works(None),
        Exchanged::Unsupported => Finding::Missing {
            why: format!("{kind} cannot exchange two names: readers may see nothing for a moment"),
            fix: None,
        },
    })
}

fn cgroup_kill() -> Finding {
    let missing = |why: &str| Finding::Missing { why: why.to_owned(), fix: None };
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let Some(own) = groups.lines().find_map(|line| line.strip_prefix("0::/")) else {
        return missing("no unified control group hierarchy is mounted");
    };
    let group = Path::new("/sys/fs/cgroup").join(own);
    if !group.join("cgroup.procs").exists() {
        return missing("no unified control group hierarchy is mounted");
    }
    if access(&group, Rights::WRITE_OK).is_err() {
        let fix = "systemd-run --user --scope -p Delegate=yes agentguard \u{2026}".to_owned();
        let why = "this process's control group is not delegated to it".to_owned();
        return Finding::Missing { why, fix: Some(fix) };
    }
    if own.is_empty() || group.join("cgroup.kill").exists() {
        Finding::Works(None)
    } else {
        missing("the kernel has no cgroup.kill (Linux 5.14)")
    }
}

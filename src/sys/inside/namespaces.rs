//! Namespaces: user, mount, network, process ids.

use std::fs;
use std::path::Path;

use rustix::io::Errno;
use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
use rustix::thread::{UnshareFlags, unshare_unsafe};

use super::init::Birth;
use super::plan::FailedStep;

/// Enters a user namespace whose only ids are the caller's own, mapped to themselves.
///
/// Ubuntu's AppArmor restriction lets `unshare` pass and refuses the map; so each write is a step with a name.
pub(super) fn enter_user(uid: u32, gid: u32, birth: Birth) -> Result<(), FailedStep> {
    unshare(UnshareFlags::NEWUSER, birth).map_err(FailedStep::plain("user namespace"))?;
    // Without this an unprivileged process may not write the group map (user_namespaces(7)).
    write("setgroups", "/proc/self/setgroups", "deny")?;
    write("user id map", "/proc/self/uid_map", &format!("{uid} {uid} 1"))?;
    write("group id map", "/proc/self/gid_map", &format!("{gid} {gid} 1"))
}

/// Enters a mount namespace from and to which nothing propagates.
pub(super) fn enter_mount(birth: Birth) -> Result<(), FailedStep> {
    unshare(UnshareFlags::NEWNS, birth).map_err(FailedStep::plain("mount namespace"))?;
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
        .map_err(FailedStep::at("mount propagation", Path::new("/")))
}

/// Enters a network namespace and brings its loopback interface up.
pub(super) fn enter_network(birth: Birth) -> Result<(), FailedStep> {
    unshare(UnshareFlags::NEWNET, birth).map_err(FailedStep::plain("network namespace"))?;
    loopback_up().map_err(FailedStep::plain("loopback interface"))
}

/// The step that shows whether the process is the first of a process id namespace.
pub(super) const PROCESS_IDS: &str = "process id namespace";

/// Shows the process id namespace in `/proc`. A process cannot enter one: it is born in it.
pub(super) fn enter_pid(birth: Birth) -> Result<(), FailedStep> {
    if birth == Birth::Plain {
        return Err(FailedStep::plain(PROCESS_IDS)(Errno::INVAL));
    }
    // Refused in a container that hides parts of its own /proc: what is hidden would be seen again.
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount("proc", "/proc", "proc", flags, None).map_err(FailedStep::at(PROCESS_IDS, Path::new("/proc")))
}

/// Who was born in the namespace is there already.
fn unshare(flags: UnshareFlags, birth: Birth) -> rustix::io::Result<()> {
    if birth == Birth::InNamespaces {
        return Ok(());
    }
    // SAFETY: the flags name namespaces only; descriptors and memory stay shared as they are.
    unsafe { unshare_unsafe(flags) }
}

fn write(step: &'static str, path: &str, text: &str) -> Result<(), FailedStep> {
    fs::write(path, text).map_err(FailedStep::io(step, Path::new(path)))
}

fn loopback_up() -> rustix::io::Result<()> {
    use std::os::fd::AsRawFd as _;
    let socket = socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    // SAFETY: an all-zero ifreq is valid; the name is shorter than the field, so it stays terminated; the kernel reads
    // the name and the flags only (netdevice(7)).
    let done = unsafe {
        let mut request: libc::ifreq = std::mem::zeroed();
        request.ifr_name[0] = b'l'.cast_signed();
        request.ifr_name[1] = b'o'.cast_signed();
        request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
        libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS as _, &raw const request)
    };
    if done == 0 { Ok(()) } else { Err(last_errno()) }
}

/// What the last libc call of this thread failed with.
pub(super) fn last_errno() -> rustix::io::Errno {
    rustix::io::Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(rustix::io::Errno::IO)
}

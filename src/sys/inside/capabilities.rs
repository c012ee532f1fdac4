//! Capabilities: who may mount, and giving that up.

use rustix::io::Errno;
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, clear_ambient_capability_set, remove_capability_from_bounding_set,
    set_capabilities,
};

use super::plan::FailedStep;

/// Whether this process may mount as it is: real root, as far as containers leave it. Then no user namespace is needed,
/// and files of other owners keep working.
pub fn may_mount() -> bool {
    capabilities(None).is_ok_and(|sets| sets.effective.contains(CapabilitySet::SYS_ADMIN))
}

/// Gives up `CAP_SYS_ADMIN` so that nothing that is executed from here can have it in this user namespace: with it a
/// root agent could unmount its view and write to the live tree; and `CAP_SYS_PTRACE`, with which it could go around the
/// view through `/proc/PID/cwd` and `/proc/PID/root` of a process outside. A nested user namespace has all capabilities again, but
/// may not touch mounts that it inherited (mount_namespaces(7)).
pub(super) fn drop_admin() -> Result<(), FailedStep> {
    let failed = FailedStep::plain;
    clear_ambient_capability_set().map_err(failed("ambient capabilities"))?;
    let sets = capabilities(None).map_err(failed("capabilities"))?;
    for capability in [CapabilitySet::SYS_ADMIN, CapabilitySet::SYS_PTRACE] {
        match remove_capability_from_bounding_set(capability) {
            Ok(()) => {}
            // Without CAP_SETPCAP the set cannot be changed; who is not root gets nothing from it by executing a program.
            Err(Errno::PERM) if !rustix::process::geteuid().is_root() => {}
            Err(errno) => return Err(failed("capability bounding set")(errno)),
        }
    }
    let given_up = CapabilitySet::SYS_ADMIN.union(CapabilitySet::SYS_PTRACE);
    keep(sets, CapabilitySet::all().difference(given_up)).map_err(failed("capabilities"))
}

/// Leaves only these capabilities in every set.
pub(super) fn keep(sets: CapabilitySets, kept: CapabilitySet) -> rustix::io::Result<()> {
    let reduced = CapabilitySets {
        effective: sets.effective.intersection(kept),
        permitted: sets.permitted.intersection(kept),
        inheritable: sets.inheritable.intersection(kept),
    };
    if reduced == sets { Ok(()) } else { set_capabilities(None, reduced) }
}

/// Makes exactly these effective, of those that are permitted.
pub(super) fn make_effective(wanted: CapabilitySet) -> rustix::io::Result<()> {
    let sets = capabilities(None)?;
    let effective = sets.permitted.intersection(wanted);
    if effective == sets.effective {
        return Ok(());
    }
    set_capabilities(None, CapabilitySets { effective, ..sets })
}

//! The seccomp filter: renames are asked about, everything else is allowed.

use std::os::fd::{FromRawFd as _, OwnedFd, RawFd};

use libc::{BPF_ABS, BPF_JEQ, BPF_JMP, BPF_K, BPF_LD, BPF_RET, BPF_W, sock_filter, sock_fprog};
use rustix::io::Errno;

use super::super::namespaces::last_errno;

/// The architecture as the kernel tells it (linux/audit.h), and the numbers of its renames. A program of another one, as
/// a 32-bit one on 64 bits, is not asked about.
#[cfg(target_arch = "x86_64")]
mod numbers {
    pub(super) const ARCHITECTURE: u32 = 0xC000_003E;
    pub(super) const RENAMES: &[libc::c_long] = &[libc::SYS_rename, libc::SYS_renameat, libc::SYS_renameat2];
}

#[cfg(target_arch = "aarch64")]
mod numbers {
    pub(super) const ARCHITECTURE: u32 = 0xC000_00B7;
    pub(super) const RENAMES: &[libc::c_long] = &[libc::SYS_renameat, libc::SYS_renameat2];
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
mod numbers {
    pub(super) const ARCHITECTURE: u32 = 0;
    pub(super) const RENAMES: &[libc::c_long] = &[];
}

/// Whether the numbers of this architecture are known.
pub(super) const IS_KNOWN_HERE: bool = !numbers::RENAMES.is_empty();

/// Offsets in `struct seccomp_data` (seccomp(2)).
const NUMBER_AT: u32 = 0;
const ARCHITECTURE_AT: u32 = 4;

/// Installs the filter in this thread and whatever it becomes or starts; needs `CAP_SYS_ADMIN` or `no_new_privs`.
/// Returns the listener. `EBUSY`: there is one already.
pub(super) fn install() -> Result<OwnedFd, Errno> {
    let plain = libc::SECCOMP_FILTER_FLAG_NEW_LISTENER | libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW;
    // A signal that a caller has a handler for must not cut a rename that is being served, or it would be asked for again
    // (since Linux 5.19).
    match install_with(plain | libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV) {
        Err(Errno::INVAL) => install_with(plain),
        installed => installed,
    }
}

fn install_with(flags: libc::c_ulong) -> Result<OwnedFd, Errno> {
    let mut program = program();
    let length = u16::try_from(program.len()).map_err(|_| Errno::TOOBIG)?;
    let filter = sock_fprog { len: length, filter: program.as_mut_ptr() };
    // SAFETY: the kernel copies the program, which lives until after the call.
    let listener = unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const filter) };
    let listener = RawFd::try_from(listener).map_err(|_| Errno::INVAL)?;
    if listener < 0 {
        return Err(last_errno());
    }
    // SAFETY: the call has just made this descriptor for the caller; it is close-on-exec.
    Ok(unsafe { OwnedFd::from_raw_fd(listener) })
}

fn program() -> Vec<sock_filter> {
    let count = u8::try_from(numbers::RENAMES.len()).unwrap_or(0);
    let mut program = vec![
        statement(BPF_LD | BPF_W | BPF_ABS, ARCHITECTURE_AT),
        // Past the number and the comparisons, to "allow".
        jump_unless(numbers::ARCHITECTURE, count + 1),
        statement(BPF_LD | BPF_W | BPF_ABS, NUMBER_AT),
    ];
    for (at, number) in (0..count).zip(numbers::RENAMES) {
        program.push(jump_if(u32::try_from(*number).unwrap_or(u32::MAX), count - at));
    }
    program.push(statement(BPF_RET | BPF_K, libc::SECCOMP_RET_ALLOW));
    program.push(statement(BPF_RET | BPF_K, libc::SECCOMP_RET_USER_NOTIF));
    program
}

fn statement(code: u32, value: u32) -> sock_filter {
    instruction(code, value, 0, 0)
}

fn jump_if(value: u32, past: u8) -> sock_filter {
    instruction(BPF_JMP | BPF_JEQ | BPF_K, value, past, 0)
}

fn jump_unless(value: u32, past: u8) -> sock_filter {
    instruction(BPF_JMP | BPF_JEQ | BPF_K, value, 0, past)
}

fn instruction(code: u32, value: u32, jump_true: u8, jump_false: u8) -> sock_filter {
    // Every code of classic BPF fits (linux/bpf_common.h).
    sock_filter { code: code as u16, jt: jump_true, jf: jump_false, k: value }
}

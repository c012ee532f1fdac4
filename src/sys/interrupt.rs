//! SIGINT while another process has the user's attention.

use rustix::process::Signal;

/// SIGINT is ignored as long as this lives; then it does what it did before.
#[derive(Debug)]
#[must_use = "dropping it ends the ignoring"]
pub struct Ignored {
    previous: libc::sighandler_t,
}

/// Ignores SIGINT in this process. A child that is started meanwhile inherits that: start it before.
pub fn ignore() -> Ignored {
    // SAFETY: SIG_IGN runs no code of ours.
    let previous = unsafe { libc::signal(Signal::INT.as_raw(), libc::SIG_IGN) };
    Ignored { previous }
}

impl Drop for Ignored {
    fn drop(&mut self) {
        // SAFETY: what signal(2) gave back is a disposition that was in force. (An error cannot be: the signal is valid.)
        unsafe { libc::signal(Signal::INT.as_raw(), self.previous) };
    }
}

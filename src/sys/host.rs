//! Who and where: host name, user name, umask.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::sync::OnceLock;

use rustix::fs::Mode;
use rustix::process::{getuid, umask};

use crate::model::Text;

/// The host name.
pub fn host_name() -> Text {
    Text(rustix::system::uname().nodename().to_bytes().to_vec())
}

/// The user's name from `/etc/passwd`, else the number. Read as a file: name services can hang.
pub fn user_name() -> Text {
    let uid = getuid().as_raw().to_string();
    let passwd = std::fs::read("/etc/passwd").unwrap_or_default();
    let name = passwd.split(|byte| *byte == b'\n').find_map(|line| {
        let mut fields = line.split(|byte| *byte == b':');
        let name = fields.next()?;
        (fields.nth(1)? == uid.as_bytes()).then(|| name.to_vec())
    });
    OsString::from_vec(name.unwrap_or_else(|| uid.into_bytes())).into()
}

/// The caller's umask, where it is not this process's own.
static CALLERS_UMASK: OnceLock<Mode> = OnceLock::new();

/// Lets this process use what it makes, whatever the caller's umask; what it starts gets the caller's back. The kernel only
/// tells the umask by setting it: call before any thread exists.
pub fn keep_own_rights() {
    let mask = umask(Mode::RWXG | Mode::RWXO);
    umask(mask.difference(Mode::RWXU));
    if mask.intersects(Mode::RWXU) {
        // Set once: this is called once.
        _ = CALLERS_UMASK.set(mask);
    }
}

/// The umask that what is started must have, where it is another than this process's.
pub(super) fn callers_umask() -> Option<Mode> {
    CALLERS_UMASK.get().copied()
}

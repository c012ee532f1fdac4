//! Who and where: host name, user name, umask.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

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

/// The umask. The kernel only tells by setting it: call before any thread exists.
pub fn current_umask() -> u32 {
    let mask = umask(Mode::empty());
    umask(mask);
    mask.as_raw_mode()
}

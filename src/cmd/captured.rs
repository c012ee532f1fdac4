//! The end of what a run printed, for reports that are handed on: bounded, and with its secrets replaced.

use std::fs::File;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;

use crate::model::Text;
use crate::rules::redact::redact_text;
use crate::store::capture::tail_path;

/// The last bytes of a capture, which are in its tail where it has one; `None` where it is gone or empty.
///
/// The directory may be within an agent's reach: nothing else than a regular file is read, and no link is followed.
pub(super) fn end_of(path: &Path, most: usize) -> Option<Vec<u8>> {
    let (file, len) = open(&tail_path(path)).or_else(|| open(path))?;
    // A secret that the cut would split is seen whole.
    let take = len.min(2 * most as u64);
    let mut bytes = vec![0_u8; usize::try_from(take).ok()?];
    file.read_exact_at(&mut bytes, len - take).ok()?;
    let mut redacted = redact_text(&Text(bytes)).0;
    let from = redacted.len().saturating_sub(most);
    redacted.drain(..from);
    (!redacted.trim_ascii().is_empty()).then_some(redacted)
}

fn open(path: &Path) -> Option<(File, u64)> {
    let flags = (rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK).bits();
    let file = File::options().read(true).custom_flags(i32::try_from(flags).ok()?).open(path).ok()?;
    let metadata = file.metadata().ok()?;
    (metadata.is_file() && metadata.len() > 0).then_some((file, metadata.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_has_no_half_of_a_secret_and_links_are_not_followed() {
        let dir = tempfile::tempdir().expect("directory");
        let path = dir.path().join("stderr");
        let secret = "sk-abcdefghijklmnopqrstuvwxyz0123456789";
        std::fs::write(&path, format!("before\nkey {secret}\nafter\n")).expect("written");
        let end = String::from_utf8(end_of(&path, 24).expect("an end")).expect("text");
        assert!(end.ends_with("\nafter\n") && !end.contains("6789"), "{end}");
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&path, &link).expect("link");
        assert_eq!(end_of(&link, 24), None);
        assert_eq!(end_of(dir.path(), 24), None);
        std::fs::write(tail_path(&path), "the tail\n").expect("written");
        assert_eq!(end_of(&path, 100), Some(b"the tail\n".to_vec()));
    }
}

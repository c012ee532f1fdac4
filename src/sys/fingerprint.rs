//! A fingerprint of a tree from its metadata alone: any change that somebody makes to it changes the fingerprint,
//! because the kernel moves the change time of whatever was touched. No content is read.

use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::Stat;
use sha2::{Digest as _, Sha256};
use walkdir::WalkDir;

use crate::model::Digest;

use super::identity;

/// The fingerprint of whatever stands at `path`; `None` where nothing does. Symbolic links are not followed.
///
/// The change time of the top itself is left out: a rename sets it, and a fingerprint is compared across the rename
/// that publishes.
pub fn fingerprint(path: &Path) -> io::Result<Option<Digest>> {
    let Some(top) = identity::lstat(path)? else { return Ok(None) };
    let mut hash = Sha256::new();
    take(&mut hash, b"", &top, (0, 0));
    if identity::file_type(&top).is_dir() {
        for entry in WalkDir::new(path).min_depth(1).sort_by_file_name() {
            let entry = entry?;
            // One that vanished between the listing and here is a change like any other.
            let Some(stat) = identity::lstat(entry.path())? else { continue };
            let below = entry.path().strip_prefix(path).unwrap_or(entry.path());
            take(&mut hash, below.as_os_str().as_bytes(), &stat, (stat.st_ctime, stat.st_ctime_nsec.cast_signed()));
        }
    }
    Ok(Some(Digest(hash.finalize().into())))
}

fn take(hash: &mut Sha256, name: &[u8], stat: &Stat, changed: (i64, i64)) {
    // The name comes last and is closed by a NUL, which no name holds: no two trees give the same bytes.
    let is_directory = identity::file_type(stat).is_dir();
    let numbers: [i64; 9] = [
        i64::from(stat.st_mode),
        i64::from(stat.st_uid),
        i64::from(stat.st_gid),
        // A directory's size is the filesystem's business.
        if is_directory { 0 } else { stat.st_size },
        stat.st_mtime,
        stat.st_mtime_nsec.cast_signed(),
        changed.0,
        changed.1,
        stat.st_ino.cast_signed(),
    ];
    for number in numbers {
        hash.update(number.to_le_bytes());
    }
    hash.update(name);
    hash.update([0]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn any_touch_changes_the_fingerprint_and_a_rename_of_the_whole_does_not() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let (tree, moved) = (dir.path().join("tree"), dir.path().join("elsewhere/moved"));
        fs::create_dir_all(tree.join("a")).expect("tree");
        fs::create_dir(dir.path().join("elsewhere")).expect("directory");
        fs::write(tree.join("a/file"), "x").expect("write");
        let print = |path: &Path| fingerprint(path).expect("walks");
        let before = print(&tree);
        assert!(before.is_some());
        fs::rename(&tree, &moved).expect("rename");
        assert_eq!(print(&moved), before);
        assert_eq!(print(&tree), None);
        let mode = fs::metadata(moved.join("a/file")).expect("stat").permissions().mode();
        fs::set_permissions(moved.join("a/file"), fs::Permissions::from_mode(mode)).expect("same mode again");
        assert_ne!(print(&moved), before, "the change time tells");
    }
}

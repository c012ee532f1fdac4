//! The mount table, as `/proc/self/mountinfo` has it (proc_pid_mountinfo(5)).

use std::fs;
use std::io;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, StatxFlags, statx};

const TABLE: &str = "/proc/self/mountinfo";

/// A mounted filesystem.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mounted {
    id: u64,
    /// Where.
    pub point: PathBuf,
    /// `ext4`, `overlay`, `nfs4`, …
    pub fs_type: String,
    /// Whether it is mounted read-only.
    pub is_read_only: bool,
}

/// Mount points strictly below a path without symbolic links, sorted, each once.
pub fn below(path: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found: Vec<PathBuf> = read()?
        .into_iter()
        .map(|mounted| mounted.point)
        .filter(|point| point != path && point.starts_with(path))
        .collect();
    found.sort_unstable();
    found.dedup();
    Ok(found)
}

/// The mount that an existing path is on, symbolic links followed.
pub fn mount_of(path: &Path) -> io::Result<Mounted> {
    let path = fs::canonicalize(path)?;
    let stat = statx(CWD, &path, AtFlags::empty(), StatxFlags::MNT_ID)?;
    // Kernels before 5.8 do not tell the mount: then it is the last one at the longest path above.
    let told = StatxFlags::from_bits_retain(stat.stx_mask).contains(StatxFlags::MNT_ID);
    let table = read()?;
    let by_id = table.iter().find(|mounted| told && mounted.id == stat.stx_mnt_id);
    let above = || {
        let over = table.iter().filter(|mounted| path.starts_with(&mounted.point));
        over.max_by_key(|mounted| mounted.point.as_os_str().len())
    };
    by_id.or_else(above).cloned().ok_or_else(|| io::ErrorKind::NotFound.into())
}

fn read() -> io::Result<Vec<Mounted>> {
    Ok(fs::read(TABLE)?.split(|byte| *byte == b'\n').filter_map(parse).collect())
}

/// `36 35 98:0 /root /point rw,noatime master:1 - ext4 /dev/sda rw`; the number of fields before the dash varies.
fn parse(line: &[u8]) -> Option<Mounted> {
    let mut fields = line.split(|byte| *byte == b' ');
    let id = std::str::from_utf8(fields.next()?).ok()?.parse().ok()?;
    let point = unescaped(fields.nth(3)?);
    let options = fields.next()?;
    let fs_type = fields.skip_while(|field| *field != b"-").nth(1)?;
    Some(Mounted {
        id,
        point: std::ffi::OsString::from_vec(point).into(),
        fs_type: String::from_utf8_lossy(fs_type).into_owned(),
        is_read_only: options.split(|byte| *byte == b',').any(|option| option == b"ro"),
    })
}

/// Space, tab, newline and backslash stand as `\040` and the like.
fn unescaped(field: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&byte, after)) = rest.split_first() {
        let octal =
            after.get(..3).filter(|digits| byte == b'\\' && digits.iter().all(|digit| (b'0'..b'8').contains(digit)));
        match octal {
            Some(digits) => {
                plain.push(digits.iter().fold(0_u8, |value, digit| value.wrapping_mul(8).wrapping_add(digit - b'0')));
                rest = &after[3..];
            }
            None => {
                plain.push(byte);
                rest = after;
            }
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read_with_its_escapes_and_any_number_of_optional_fields() {
        let line = br"36 35 98:0 /mnt1 /a\040b\134c\012d ro,noatime master:1 shared:2 - fuse.x /dev/\040root rw,errors=continue";
        let mounted = parse(line).expect("parses");
        assert_eq!(mounted.point, Path::new("/a b\\c\nd"));
        assert_eq!((mounted.id, mounted.fs_type.as_str(), mounted.is_read_only), (36, "fuse.x", true));
        assert_eq!(parse(b"36 35 98:0 / / rw - ext4 /dev/sda ro").map(|mounted| mounted.is_read_only), Some(false));
        assert_eq!(parse(b""), None);
    }

    #[test]
    fn the_table_of_this_process_has_its_root_and_proc() {
        assert_eq!(mount_of(Path::new("/proc/self")).expect("mounted").fs_type, "proc");
        assert!(below(Path::new("/")).expect("readable").contains(&PathBuf::from("/proc")));
        assert_eq!(below(Path::new("/no/such/place")).expect("readable"), Vec::<PathBuf>::new());
    }
}

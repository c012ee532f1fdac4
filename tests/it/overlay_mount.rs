//! A real overlay for tests: mounted in a mount namespace of its own, as root directly, else in a user namespace.

use std::path::Path;
use std::process::Command;

use crate::project::skip;

/// Layers of an overlay; the first lower one is on top.
pub(crate) struct Overlay<'a> {
    pub(crate) lower: &'a [&'a Path],
    /// Upper and work directory; without them the mount is read-only.
    pub(crate) upper: Option<(&'a Path, &'a Path)>,
    pub(crate) target: &'a Path,
}

/// Runs a script in the mounted target and gives its output; none where no overlay can be mounted.
pub(crate) fn run_in(overlay: &Overlay<'_>, script: &str) -> Option<Vec<u8>> {
    let lower: Vec<_> = overlay.lower.iter().map(|dir| dir.display().to_string()).collect();
    let mut options = format!("userxattr,lowerdir={}", lower.join(":"));
    if let Some((upper, work)) = overlay.upper {
        options.push_str(&format!(",upperdir={},workdir={}", upper.display(), work.display()));
    }
    let isolated: &[&str] = if rustix::process::geteuid().is_root() { &["-m"] } else { &["-Ur", "-m"] };
    let mounting = r#"mount -t overlay overlay -o "$0" "$1" && cd "$1" || exit 99; exec sh -euc "$2""#;
    let run = |script: &str| {
        let mut command = Command::new("unshare");
        command.args(isolated).args(["sh", "-c", mounting, &options]).arg(overlay.target).arg(script);
        command.output()
    };
    match run("true") {
        Ok(out) if out.status.success() => {}
        other => {
            skip("overlay", &format!("no overlay here: {other:?}"));
            return None;
        }
    }
    let out = run(script).expect("unshare runs");
    assert!(out.status.success(), "{script}: {}", String::from_utf8_lossy(&out.stderr));
    Some(out.stdout)
}

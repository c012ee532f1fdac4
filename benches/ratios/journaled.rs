//! A journaled file system to measure on, where the machine's own has no journal: there `fsync` is cheaper and
//! creating files after deleting many much slower than where people work, and neither says anything about them.
//!
//! The mount lives in a mount namespace of this process, and its image has no name once it is mounted: nothing is left
//! of either, unless the process is killed while the file system is being made (then the image file is). The image's
//! blocks are allocated beforehand: a sparse one makes the first write of each block pay for the machine's own file
//! system, and only rows that write would pay.

use std::ffi::OsString;
use std::fs::File;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, bail};
use tempfile::TempDir;

/// Room for two of everything that is measured.
const IMAGE_BYTES: u64 = 32 << 30;
const INSIDE: &str = "AGENTGUARD_RATIOS_NAMESPACE";

/// Whether this process has a mount namespace of its own already.
pub(crate) fn is_inside() -> bool {
    std::env::var_os(INSIDE).is_some()
}

/// Starts this program again in a mount namespace of its own; whether it succeeded there.
pub(crate) fn enter(arguments: &[OsString]) -> anyhow::Result<bool> {
    if !rustix::process::geteuid().is_root() {
        bail!("--journaled mounts a loop image, which takes root; or mount one yourself and name it with --dir");
    }
    let mut command = Command::new("unshare");
    command.args(["--mount", "--"]).arg(std::env::current_exe()?).args(arguments).env(INSIDE, "1");
    Ok(command.status().context("start unshare")?.success())
}

/// A mounted file system.
#[derive(Debug)]
pub(crate) struct Mounted {
    point: TempDir,
}

/// Makes an ext4 in a file below `dir` and mounts it.
pub(crate) fn mount(dir: &Path) -> anyhow::Result<Mounted> {
    let point = tempfile::Builder::new().prefix("ratios-mount-").tempdir_in(dir)?;
    let image = tempfile::NamedTempFile::new_in(dir)?;
    let file = File::options().write(true).open(image.path())?;
    rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, IMAGE_BYTES).context("allocate the image")?;
    // Discarding would give the blocks back.
    let eager = "lazy_itable_init=0,lazy_journal_init=0,nodiscard";
    succeed(Command::new("mkfs.ext4").args(["-q", "-F", "-E", eager]).arg(image.path()))?;
    succeed(Command::new("mount").args(["-o", "loop"]).args([image.path(), point.path()]))?;
    Ok(Mounted { point })
}

impl Mounted {
    pub(crate) fn path(&self) -> &Path {
        self.point.path()
    }

    pub(crate) fn unmount(self) -> anyhow::Result<()> {
        succeed(Command::new("umount").arg(self.point.path()))
    }
}

fn succeed(command: &mut Command) -> anyhow::Result<()> {
    let output = command.output().with_context(|| format!("start {command:?}"))?;
    if !output.status.success() {
        bail!("{command:?}: {}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

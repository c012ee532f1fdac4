//! Mounts of a view: overlays, binds, masks and their mount points.
//!
//! Every name goes to the kernel as `/proc/self/fd/N`: the option string of a mount is cut at a page and treats `:`, `,`
//! and `\` specially, a descriptor's name does neither. The descriptors must be opened after the mount namespace is
//! entered (else EINVAL: their mounts belong to the old one), and before the first mount hides what they name.

use std::ffi::CString;
use std::fs;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags, open, openat};
use rustix::io::Errno;
use rustix::mount::{MountFlags, MoveMountFlags, OpenTreeFlags, mount, move_mount, open_tree};

use super::namespaces::last_errno;
use super::plan::{Access, Bind, FailedStep, Layers, Step};

/// The option string of mount(2) ends with the page.
const OPTIONS_BYTES: usize = 4095;

/// What a step shows, held open.
pub(super) enum Held {
    /// The step shows nothing.
    Nothing,
    /// A mounted tree that is nowhere attached yet.
    Tree(OwnedFd),
    /// The layers of an overlay.
    Layers { lower: Vec<OwnedFd>, writes: Option<(OwnedFd, OwnedFd)> },
}

/// Opens what a step will show.
pub(super) fn hold(step: &Step) -> Result<Held, FailedStep> {
    match step {
        Step::Bind(bind) => Ok(Held::Tree(detached("bind mount", bind.from.as_path(), bind.access)?)),
        // The kernel wants two read-only layers or more; one is the directory itself.
        Step::Overlay(layers) if layers.writes.is_none() && layers.lower.len() == 1 => {
            Ok(Held::Tree(detached("overlay", layers.lower[0].as_path(), Access::ReadOnly)?))
        }
        Step::Overlay(layers) => Ok(Held::Layers {
            lower: layers.lower.iter().map(|path| directory(path.as_path())).collect::<Result<_, _>>()?,
            writes: match &layers.writes {
                Some(writes) => Some((directory(writes.upper.as_path())?, directory(writes.work.as_path())?)),
                None => None,
            },
        }),
        Step::OverlayInMemory { target } => {
            Ok(Held::Layers { lower: vec![directory(target.as_path())?], writes: None })
        }
        _ => Ok(Held::Nothing),
    }
}

fn directory(path: &Path) -> Result<OwnedFd, FailedStep> {
    open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .map_err(FailedStep::at("overlay", path))
}

/// A copy of the mounts at and below a path. All of them: a part of what a more privileged namespace has mounted may not
/// be uncovered (EINVAL).
fn detached(step: &'static str, path: &Path, access: Access) -> Result<OwnedFd, FailedStep> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_RECURSIVE;
    let tree = open_tree(CWD, path, flags).map_err(FailedStep::at(step, path))?;
    if access == Access::ReadOnly {
        make_read_only(&tree).map_err(FailedStep::at("read-only mount", path))?;
    }
    Ok(tree)
}

fn make_read_only(tree: &OwnedFd) -> rustix::io::Result<()> {
    let attributes = libc::mount_attr { attr_set: libc::MOUNT_ATTR_RDONLY, attr_clr: 0, propagation: 0, userns_fd: 0 };
    // SAFETY: mount_setattr(2) with an empty path reads `attributes`, whose size is given, and nothing else.
    let done = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH | libc::AT_RECURSIVE,
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        )
    };
    if done == 0 { Ok(()) } else { Err(last_errno()) }
}

/// Performs a step that mounts, with what was held for it.
pub(super) fn perform(step: &Step, held: Held) -> Result<(), FailedStep> {
    match (step, held) {
        (Step::Overlay(layers), Held::Tree(tree)) => attach("overlay", &tree, layers.target.as_path()),
        (Step::Overlay(layers), Held::Layers { lower, writes }) => overlay(layers, &lower, writes.as_ref()),
        (Step::OverlayInMemory { target }, Held::Layers { lower, .. }) => overlay_in_memory(&lower, target.as_path()),
        (Step::Bind(Bind { to, .. }), Held::Tree(tree)) => attach("bind mount", &tree, to.as_path()),
        (Step::Mask { path }, _) => mask(path.as_path()),
        (Step::MakeDirectory { path }, _) => {
            fs::create_dir_all(path.as_path()).map_err(FailedStep::io("directory", path.as_path()))
        }
        (Step::MakeFile { path }, _) => make_file(path.as_path()),
        _ => Ok(()),
    }
}

fn attach(step: &'static str, tree: &OwnedFd, to: &Path) -> Result<(), FailedStep> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_SYMLINKS;
    move_mount(tree.as_fd(), "", CWD, to, flags).map_err(FailedStep::at(step, to))
}

fn overlay(layers: &Layers, lower: &[OwnedFd], writes: Option<&(OwnedFd, OwnedFd)>) -> Result<(), FailedStep> {
    let target = layers.target.as_path();
    let failed = |errno| FailedStep::at("overlay", target)(errno);
    let lower: Vec<&OwnedFd> = lower.iter().collect();
    let Some((live, above)) = lower.split_last() else { return Err(failed(Errno::INVAL)) };
    if !any_inside(above, live).map_err(failed)? {
        return mount_overlay(&lower, writes, target).map_err(failed);
    }
    // The kernel refuses a read-only layer inside another one (ELOOP): staged changes that a verify command sees, in a
    // state directory that is part of the live tree. It is not tried: a failed attempt has used up the work directory.
    let through = apart(live, target)?;
    let lower: Vec<&OwnedFd> = above.iter().copied().chain([&through]).collect();
    mount_overlay(&lower, writes, target).map_err(failed)
}

/// The changes lie in a tmpfs at the target, which the overlay then covers.
fn overlay_in_memory(lower: &[OwnedFd], target: &Path) -> Result<(), FailedStep> {
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount("agentguard", target, "tmpfs", flags, c"mode=0700,size=64k").map_err(FailedStep::at("mask", target))?;
    let make = |name: &str| {
        let path = target.join(name);
        fs::create_dir(&path).map_err(FailedStep::io("overlay", &path)).and_then(|()| directory(&path))
    };
    let writes = (make("upper")?, make("work")?);
    let lower: Vec<&OwnedFd> = lower.iter().collect();
    mount_overlay(&lower, Some(&writes), target).map_err(FailedStep::at("overlay", target))
}

/// Whether one of some directories lies inside another.
fn any_inside(directories: &[&OwnedFd], outer: &OwnedFd) -> rustix::io::Result<bool> {
    let identity = |fd: &OwnedFd| rustix::fs::fstat(fd).map(|stat| (stat.st_dev, stat.st_ino));
    let outer = identity(outer)?;
    for directory in directories {
        let mut here = identity(directory)?;
        let mut above = parent(directory)?;
        while here != outer {
            let up = identity(&above)?;
            if up == here {
                break;
            }
            here = up;
            above = parent(&above)?;
        }
        if here == outer {
            return Ok(true);
        }
    }
    Ok(false)
}

fn parent(directory: &OwnedFd) -> rustix::io::Result<OwnedFd> {
    openat(directory, "..", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

/// A directory seen through a read-only overlay, which is mounted where the final one will cover it. The kernel wants two
/// layers: the other is the empty root of a fresh tmpfs.
fn apart(directory_fd: &OwnedFd, cover: &Path) -> Result<OwnedFd, FailedStep> {
    mask(cover)?;
    let empty = directory(cover)?;
    mount_overlay(&[directory_fd, &empty], None, cover).map_err(FailedStep::at("overlay", cover))?;
    directory(cover)
}

/// `userxattr` and nothing about redirects: without it a lower directory cannot be removed in a user namespace (EIO), and
/// the kernel refuses the others together with it. The same for root, so that one reader understands every upper.
/// `volatile`: what is staged is made durable when it is committed, not while it is written.
fn mount_overlay(lower: &[&OwnedFd], writes: Option<&(OwnedFd, OwnedFd)>, target: &Path) -> rustix::io::Result<()> {
    let lower: Vec<String> = lower.iter().map(|fd| by_descriptor(fd)).collect();
    let mut options = format!("userxattr,lowerdir={}", lower.join(":"));
    if let Some((upper, work)) = writes {
        options.push_str(&format!(",upperdir={},workdir={},volatile", by_descriptor(upper), by_descriptor(work)));
    }
    if options.len() > OPTIONS_BYTES {
        return Err(Errno::TOOBIG);
    }
    let options = CString::new(options).map_err(|_| Errno::INVAL)?;
    let target = open(target, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    mount("agentguard", by_descriptor(&target), "overlay", MountFlags::empty(), options.as_c_str())
}

fn by_descriptor(fd: &OwnedFd) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}

fn mask(path: &Path) -> Result<(), FailedStep> {
    let flags = MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount("agentguard", path, "tmpfs", flags, c"mode=0700,size=4k").map_err(FailedStep::at("mask", path))
}

fn make_file(path: &Path) -> Result<(), FailedStep> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(FailedStep::io("directory", parent))?;
    }
    let made = fs::File::options().write(true).create(true).truncate(false).open(path);
    made.map(drop).map_err(FailedStep::io("file", path))
}

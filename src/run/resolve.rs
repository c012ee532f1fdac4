//! From what was typed to what it means: inputs and outputs are looked at, and everything that cannot be carried out
//! is refused here, before anything is spawned or created.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileTypeExt;
use std::path::{Component, Path, PathBuf};

use globset::GlobBuilder;
use rustix::fs::{Access, access};

use crate::model::Text;
use crate::model::spec::{InputRoot, OutputKind, OutputTarget};
use crate::sys::mount;

/// Where a run takes place. Both paths are absolute and free of symbolic links.
#[derive(Clone, Debug)]
pub struct Surroundings {
    /// Working directory.
    pub cwd: PathBuf,
    /// Project root.
    pub project: PathBuf,
    /// State directory, which may not exist yet.
    pub state: PathBuf,
    /// Home directory, where known.
    pub home: Option<PathBuf>,
    /// The workspace of the agentguard around this one, as its view shows it.
    pub outer: Option<PathBuf>,
}

/// One output option as typed.
#[derive(Clone, Debug)]
pub struct OutputWish {
    /// The path.
    pub path: PathBuf,
    /// Which option.
    pub kind: OutputKind,
}

/// A wish that cannot be carried out: what is wrong, and what to type.
#[derive(Debug, thiserror::Error)]
pub enum ResolveError {
    /// An output cannot be published.
    #[error("{option} {path:?} {why}")]
    Output {
        /// The option as typed.
        option: &'static str,
        /// The path as typed.
        path: PathBuf,
        /// What is wrong, and what to type.
        why: String,
    },
    /// An input cannot be read.
    #[error("--input {path:?} {why}")]
    Input {
        /// The path or glob as typed.
        path: PathBuf,
        /// What is wrong, and what to type.
        why: String,
    },
}

/// What an option is called.
fn option(kind: OutputKind) -> &'static str {
    match kind {
        OutputKind::Directory => "--out",
        OutputKind::File => "--out-file",
        OutputKind::Stdout => "--stdout",
    }
}

/// The outputs, checked one by one and against each other.
pub fn outputs(at: &Surroundings, wishes: &[OutputWish]) -> Result<Vec<OutputTarget>, ResolveError> {
    let mut targets: Vec<OutputTarget> = Vec::with_capacity(wishes.len());
    let single = wishes.len() == 1;
    for wish in wishes {
        let refuse = |why: String| ResolveError::Output { option: option(wish.kind), path: wish.path.clone(), why };
        let target = output(at, wish, single).map_err(refuse)?;
        for other in &targets {
            check_pair(&target, other).map_err(refuse)?;
        }
        targets.push(target);
    }
    targets.sort_by(|left, right| left.name.cmp(&right.name));
    Ok(targets)
}

fn output(at: &Surroundings, wish: &OutputWish, single: bool) -> Result<OutputTarget, String> {
    if wish.path.as_os_str().is_empty() {
        return Err("is empty: name a path".to_owned());
    }
    let typed = lexical(&at.cwd.join(&wish.path));
    let path = physical(&typed)?;
    let outside = !path.starts_with(&at.project);
    if outside && typed.starts_with(&at.project) {
        return Err(format!("leaves the project through a symbolic link, to {path:?}: name that path if you mean it"));
    }
    check_place(at, &path)?;
    let kind = kind_of(wish.kind, &path)?;
    check_writable(&path)?;
    let name = match path.strip_prefix(&at.project) {
        Ok(inside) => Text::from(inside),
        Err(_) => Text::from(path.as_path()),
    };
    let alone = single && kind == OutputKind::Directory;
    let basename = path.file_name().unwrap_or_default();
    let staged_as = if alone { Text::default() } else { Text::from(basename) };
    Ok(OutputTarget { name, path: path.into(), staged_as, kind })
}

/// Places that are never a target.
fn check_place(at: &Surroundings, path: &Path) -> Result<(), String> {
    if path == Path::new("/") {
        return Err("is the root directory: name a directory below it".to_owned());
    }
    if let Some(home) = at.home.as_deref().filter(|home| home.starts_with(path)) {
        let what = if home == path { "is" } else { "contains" };
        return Err(format!("{what} your home directory: name a directory below it"));
    }
    if path.starts_with(&at.state) {
        return Err("lies inside the state directory, which is agentguard's own: name another path".to_owned());
    }
    if at.state.starts_with(path) {
        return Err(format!("contains the state directory {:?}: name a directory below it", at.state));
    }
    if at.cwd.starts_with(path) {
        return Err("contains the working directory, which would be swapped away: name a directory below it".to_owned());
    }
    Ok(())
}

/// What stands there decides between a file and a directory, where the option leaves it open.
fn kind_of(wished: OutputKind, path: &Path) -> Result<OutputKind, String> {
    let metadata = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        // Something above it that is no directory is found by the check of that.
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(wished);
        }
        Err(error) => return Err(format!("cannot be looked at: {error}")),
    };
    let kind = metadata.file_type();
    let special = [
        (kind.is_fifo(), "a fifo"),
        (kind.is_socket(), "a socket"),
        (kind.is_block_device() || kind.is_char_device(), "a device"),
    ];
    if let Some((_, what)) = special.iter().find(|(is, _)| *is) {
        return Err(format!("is {what}, which cannot be replaced: name a file or a directory"));
    }
    if kind.is_dir() && is_mount_point(path) {
        return Err("is a mount point, which cannot be swapped: name a directory below it".to_owned());
    }
    if kind.is_dir() && access(path, Access::WRITE_OK).is_err() {
        return Err("is read-only, and a directory that is swapped must be writable: chmod u+w it".to_owned());
    }
    match (wished, kind.is_dir()) {
        (OutputKind::Directory, false) => Ok(OutputKind::File),
        (OutputKind::Directory, true) | (OutputKind::File | OutputKind::Stdout, false) => Ok(wished),
        (OutputKind::File | OutputKind::Stdout, true) => Err(format!("is a directory: write --out {}", path.display())),
    }
}

fn is_mount_point(path: &Path) -> bool {
    let parent = path.parent().unwrap_or(Path::new("/"));
    match (mount::place(path), mount::place(parent)) {
        (Ok(own), Ok(above)) => own != above,
        _ => false,
    }
}

fn check_writable(path: &Path) -> Result<(), String> {
    let parent = mount::nearest_existing(path.parent().unwrap_or(Path::new("/")));
    if !parent.is_dir() {
        return Err(format!("cannot be published: {parent:?} is not a directory"));
    }
    access(parent, Access::WRITE_OK | Access::EXEC_OK)
        .map_err(|error| format!("cannot be published: {parent:?} is not writable: {error}"))
}

fn check_pair(one: &OutputTarget, other: &OutputTarget) -> Result<(), String> {
    let (path, there) = (one.path.as_path(), other.path.as_path());
    if path == there {
        return Err("is named twice: name each output once".to_owned());
    }
    if path.starts_with(there) || there.starts_with(path) {
        return Err(format!("and {there:?} lie one inside the other: name only the outer one"));
    }
    if one.staged_as == other.staged_as {
        return Err(format!("and {there:?} have the same last name, by which they are staged: rename one"));
    }
    Ok(())
}

/// Removes `.` and `..` by the text alone.
pub(super) fn lexical(path: &Path) -> PathBuf {
    let mut clean = PathBuf::from("/");
    for part in path.components() {
        match part {
            Component::Normal(name) => clean.push(name),
            Component::ParentDir => {
                clean.pop();
            }
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    clean
}

/// Resolves symbolic links in the part of a path that exists.
pub(super) fn physical(path: &Path) -> Result<PathBuf, String> {
    match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_symlink() && !path.exists() => {
            let to = fs::read_link(path).unwrap_or_default();
            return Err(format!("is a symbolic link to nothing ({to:?}): remove it or name its target"));
        }
        Ok(_) => return fs::canonicalize(path).map_err(|error| format!("cannot be resolved: {error}")),
        Err(_) => {}
    }
    match (path.parent(), path.file_name()) {
        (Some(parent), Some(name)) => Ok(physical(parent)?.join(name)),
        _ => Ok(path.to_path_buf()),
    }
}

/// The inputs: paths that exist, and globs expanded. Roots inside other roots are left to those.
pub fn inputs(at: &Surroundings, wishes: &[PathBuf]) -> Result<Vec<InputRoot>, ResolveError> {
    let mut roots = BTreeSet::new();
    for wish in wishes {
        let refuse = |why: String| ResolveError::Input { path: wish.clone(), why };
        let path = lexical(&at.cwd.join(wish));
        if wish.as_os_str().is_empty() {
            return Err(refuse("is empty: name a path or a glob".to_owned()));
        }
        let found = match fs::metadata(&path) {
            Ok(_) => vec![path],
            Err(_) if is_glob(wish) => expand(at, wish).map_err(refuse)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(refuse("does not exist".to_owned()));
            }
            Err(error) => return Err(refuse(format!("cannot be read: {error}"))),
        };
        for path in found {
            let root = input(at, &path).map_err(|why| ResolveError::Input { path: path.clone(), why })?;
            roots.insert(root);
        }
    }
    Ok(without_nested(roots))
}

fn is_glob(path: &Path) -> bool {
    path.as_os_str().as_bytes().iter().any(|byte| matches!(byte, b'*' | b'?' | b'[' | b'{'))
}

fn input(at: &Surroundings, path: &Path) -> Result<InputRoot, String> {
    // A process's own descriptors and the like change under whoever looks.
    if path.starts_with("/proc") || path.starts_with("/dev") {
        return Err("is not a file of a filesystem: pipe it to standard input instead".to_owned());
    }
    let metadata = fs::metadata(path).map_err(|error| format!("cannot be read: {error}"))?;
    if !metadata.is_file() && !metadata.is_dir() {
        return Err("is neither a file nor a directory: pipe it to standard input instead".to_owned());
    }
    let needed = if metadata.is_dir() { Access::READ_OK | Access::EXEC_OK } else { Access::READ_OK };
    access(path, needed).map_err(|error| format!("cannot be read: {error}"))?;
    let resolved = resolve_directory_of(path)?;
    if resolved.starts_with(&at.state) {
        return Err("lies inside the state directory, which is agentguard's own".to_owned());
    }
    let name = match resolved.strip_prefix(&at.project) {
        // The whole project: the listing calls it by the name that no file can have.
        Ok(inside) if inside.as_os_str().is_empty() => Text::from("."),
        Ok(inside) => reserved_apart(inside),
        Err(_) => Text::from(resolved.as_path()),
    };
    Ok(InputRoot { name, path: resolved.into() })
}

/// `stdin` and `workspace` are names of roots that are no paths: a file of that name is listed as `./stdin`.
fn reserved_apart(inside: &Path) -> Text {
    match inside.as_os_str().as_bytes() {
        name @ (b"stdin" | b"workspace") => Text([b"./", name].concat()),
        name => Text(name.to_vec()),
    }
}

/// Links above the last component are resolved; the last one keeps its name.
fn resolve_directory_of(path: &Path) -> Result<PathBuf, String> {
    match (path.parent(), path.file_name()) {
        (Some(parent), Some(name)) => {
            Ok(fs::canonicalize(parent).map_err(|error| format!("cannot be resolved: {error}"))?.join(name))
        }
        _ => Ok(path.to_path_buf()),
    }
}

/// Every path that a glob matches: the walk begins at the longest prefix without wildcards. Only what was typed is a
/// pattern; the working directory's own name may hold any character.
fn expand(at: &Surroundings, wish: &Path) -> Result<Vec<PathBuf>, String> {
    let utf8 =
        |path: &Path| path.to_str().map(str::to_owned).ok_or("is a glob that is no UTF-8: name the paths themselves");
    let plain: PathBuf = wish.components().take_while(|part| !is_glob(Path::new(part.as_os_str()))).collect();
    let pattern: PathBuf = wish.components().skip(plain.components().count()).collect();
    let base = lexical(&at.cwd.join(&plain));
    let text = format!("{}/{}", globset::escape(utf8(&base)?.trim_end_matches('/')), utf8(&pattern)?);
    let glob = GlobBuilder::new(&text)
        .literal_separator(true)
        .build()
        .map_err(|error| format!("is no valid glob: {}", error.kind()))?
        .compile_matcher();
    let mut found = Vec::new();
    let mut walk = walkdir::WalkDir::new(&base).sort_by_file_name().into_iter();
    while let Some(entry) = walk.next() {
        let entry = match entry {
            Ok(entry) => entry,
            // What lies in it might have matched.
            Err(error) if error.path().is_some_and(|path| path != base) => {
                return Err(format!("cannot be expanded: {error}"));
            }
            Err(_) => continue,
        };
        if entry.path().starts_with(&at.state) {
            walk.skip_current_dir();
        } else if glob.is_match(entry.path()) {
            found.push(entry.path().to_path_buf());
            if entry.file_type().is_dir() {
                walk.skip_current_dir();
            }
        }
    }
    if found.is_empty() {
        return Err("matches nothing: check the glob (quote it, so that the shell leaves it alone)".to_owned());
    }
    Ok(found)
}

fn without_nested(roots: BTreeSet<InputRoot>) -> Vec<InputRoot> {
    let paths: Vec<PathBuf> = roots.iter().map(|root| root.path.to_path_buf()).collect();
    roots
        .into_iter()
        .filter(|root| {
            !paths.iter().any(|other| other != root.path.as_path() && root.path.as_path().starts_with(other))
        })
        .collect()
}

/// A glob that the gate or the snapshot will use, checked now.
pub fn check_glob(glob: &str) -> Result<(), String> {
    GlobBuilder::new(glob).literal_separator(true).build().map(|_| ()).map_err(|error| error.to_string())
}

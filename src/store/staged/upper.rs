//! The upper layer as it was sealed: its entries, its whiteouts and its opaque directories, by directory.

use std::collections::{HashMap, HashSet};

use crate::model::{EntryKind, Text};
use crate::store::snapshot::{Manifest, ManifestEntry, OverlayMark, Sealed};
use crate::sys::walk::ObjectKind;

use super::Refused;

/// A sealed upper layer.
pub(super) struct Upper<'a> {
    manifest: &'a Manifest,
    /// Names that are gone, by directory.
    whiteouts: HashMap<Vec<u8>, Vec<Vec<u8>>>,
    opaque: HashSet<Vec<u8>>,
    copied: HashSet<Vec<u8>>,
    specials: Vec<(Vec<u8>, ObjectKind)>,
}

/// One name of a directory of the upper layer.
pub(super) enum UpperName<'a> {
    /// It hides what lies below.
    Whiteout,
    /// It is there, at this index of the manifest.
    Entry(usize, &'a ManifestEntry),
}

impl<'a> Upper<'a> {
    /// Reads a sealed tree whose only root is the upper layer.
    pub(super) fn of(sealed: &'a Sealed) -> Self {
        let mut upper = Self {
            manifest: &sealed.manifest,
            whiteouts: HashMap::new(),
            opaque: HashSet::new(),
            copied: HashSet::new(),
            specials: Vec::new(),
        };
        let root = sealed.manifest.roots().next().map(|(_, entry)| entry.name.to_vec()).unwrap_or_default();
        let below = |path: &Text| {
            let rest = path.0.strip_prefix(&root[..]).unwrap_or(&path.0);
            rest.strip_prefix(b"/").unwrap_or(rest).to_vec()
        };
        for special in &sealed.specials {
            if !special.is_whiteout {
                upper.specials.push((below(&special.path), special.kind));
            }
        }
        let with_attributes: HashSet<&Text> = sealed
            .overlay
            .iter()
            .filter(|(_, mark)| *mark == OverlayMark::HasWhiteouts)
            .map(|(path, _)| path)
            .collect();
        for (path, mark) in &sealed.overlay {
            match mark {
                OverlayMark::Whiteout => upper.hide(&below(path)),
                OverlayMark::Opaque => {
                    upper.opaque.insert(below(path));
                }
                // The kernel looks for it in such a directory only.
                OverlayMark::WhiteoutAttribute => {
                    let (dir, _) = split(&path.0);
                    if with_attributes.contains(&Text(dir.to_vec())) {
                        upper.hide(&below(path));
                    }
                }
                // A mount with `userxattr` follows no redirect: the entry is what it is.
                OverlayMark::CopiedUp => {
                    upper.copied.insert(below(path));
                }
                OverlayMark::HasWhiteouts | OverlayMark::Redirect => {}
            }
        }
        upper
    }

    fn hide(&mut self, path: &[u8]) {
        let (dir, name) = split(path);
        self.whiteouts.entry(dir.to_vec()).or_default().push(name.to_vec());
    }

    /// The index of the top directory.
    pub(super) fn top(&self) -> Option<usize> {
        self.manifest.roots().next().map(|(index, _)| index)
    }

    /// The names in the directory at `index`, which lies at `path`, sorted.
    pub(super) fn names(&self, index: usize, path: &[u8]) -> Vec<(Vec<u8>, UpperName<'a>)> {
        let manifest: &'a Manifest = self.manifest;
        let whiteouts = self.whiteouts.get(path);
        let is_hidden = |name: &[u8]| whiteouts.is_some_and(|names| names.iter().any(|one| one == name));
        let mut names: Vec<(Vec<u8>, UpperName<'a>)> = manifest
            .children(index)
            // A whiteout in the form of a marked file is an entry, too.
            .filter(|(_, entry)| !is_hidden(&entry.name))
            .map(|(index, entry)| (entry.name.to_vec(), UpperName::Entry(index, entry)))
            .collect();
        for name in whiteouts.into_iter().flatten() {
            names.push((name.clone(), UpperName::Whiteout));
        }
        names.sort_unstable_by(|one, other| one.0.cmp(&other.0));
        names
    }

    /// Whether what lies below a directory is hidden as a whole.
    pub(super) fn is_opaque(&self, path: &[u8]) -> bool {
        self.opaque.contains(path)
    }

    /// Whether something of this name stood below when the agent changed it.
    pub(super) fn was_copied(&self, path: &[u8]) -> bool {
        self.copied.contains(path)
    }

    /// Every entry below the directory at `index`, with its path below that directory.
    pub(super) fn below(&self, index: usize) -> impl Iterator<Item = (Vec<u8>, &'a ManifestEntry)> {
        let manifest: &'a Manifest = self.manifest;
        let end = manifest.entries()[index].end as usize;
        let own = manifest.path_of(index).len() + 1;
        (index + 1..end).map(move |at| (manifest.path_of(at).split_off(own), &manifest.entries()[at]))
    }

    /// What is never published.
    pub(super) fn refused(&self) -> impl Iterator<Item = Refused> {
        self.specials.iter().filter_map(|(path, kind)| {
            let what = if *kind == ObjectKind::Socket { "socket" } else { "device" };
            Some(Refused { path: crate::model::RelPath::new(path.clone()).ok()?, what })
        })
    }
}

/// Directory and name of a path.
pub(super) fn split(path: &[u8]) -> (&[u8], &[u8]) {
    memchr::memrchr(b'/', path).map_or((b"", path), |at| (&path[..at], &path[at + 1..]))
}

/// Whether an entry is a directory.
pub(super) fn is_directory(entry: &ManifestEntry) -> bool {
    entry.kind == EntryKind::Directory
}

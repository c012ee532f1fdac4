//! What differs between a root of a snapshot and the tree that is there today.

use std::collections::{BTreeSet, HashMap};
use std::path::Path;

use super::base_entry::{BaseEntry, Siblings};
use super::baseline::Baseline;
use super::capture::sorted_roots;
use super::compare::{Finding, compare, is_same};
use super::error::CaptureError;
use super::fast::trees_are_same;
use super::gather::{RootLinks, Scope};
use super::lay_out::{self, Style};
use super::layout::Layout;
use super::manifest::Manifest;
use super::materialise::MaterialiseError;
use super::policy::{CapturePolicy, CaptureRoot};
use super::read::Sink;
use super::siblings::KnownSiblings;
use super::survey::Survey;
use super::table::StatTable;
use super::tree::Node;
use crate::model::{EntryKind, Text};
use crate::store::ignore::{Rules, Sources};
use crate::sys::mmap::Mapped;

/// Most stat tables that are looked through for one that knows the tree.
const TABLES: usize = 8;

/// The entries of a snapshot's root that are not there today as they were, and what is there and was not.
#[derive(Debug)]
pub struct Difference<'a> {
    pub(super) layout: &'a Layout,
    pub(super) manifest: &'a Manifest,
    /// The root's entry.
    pub(super) root: usize,
    /// Entries that differ or are gone, in order.
    pub(super) entries: BTreeSet<usize>,
    /// Those among them that are directories and are none today.
    pub(super) new_dirs: BTreeSet<usize>,
    /// What was not there: the entry of its directory, and its name.
    pub(super) extra: Vec<(usize, Box<[u8]>)>,
}

pub(super) fn difference<'a>(
    layout: &'a Layout,
    manifest: &'a Manifest,
    root: &CaptureRoot,
    policy: &CapturePolicy,
) -> Result<Difference<'a>, CaptureError> {
    let roots = sorted_roots(std::slice::from_ref(root))?;
    let (number, _) = manifest
        .roots()
        .find(|(_, entry)| *entry.name == *root.name.0)
        .ok_or_else(|| CaptureError::NoSuchRoot(root.name.clone()))?;
    let nothing = BTreeSet::new;
    let mut difference =
        Difference { layout, manifest, root: number, entries: nothing(), new_dirs: nothing(), extra: Vec::new() };
    let table = newest_table(layout, root);
    if table.as_ref().is_some_and(|table| {
        let others = KnownSiblings::of(Some(table), None).filter(|(_, record)| table.name(record) != root.name.0);
        let only_git = others.map(|(_, record)| table.name(&record)).all(|name| name.starts_with(b"/"));
        only_git && table.header.manifest == manifest.digest() && trees_are_same(table, None, &root.path, &roots)
    }) {
        return Ok(difference);
    }
    // Nothing is stored, so nothing is too much.
    let policy = CapturePolicy { limit_bytes: u64::MAX, ..policy.clone() };
    let survey = Survey {
        roots: &roots,
        root_links: RootLinks::Follow,
        policy: &policy,
        known: table.as_ref(),
        sink: Sink::Hash,
        progress: &|_| (),
    };
    let sources = Sources::new(&policy.ignore);
    let scope = scope_of(&sources, manifest, root);
    let mut gathered = survey.take_scopes(&sources, &[scope])?;
    gathered.tree.roots.retain(|found| *found.name == *root.name.0);
    let baseline = Baseline::from_manifest(manifest);
    let entry = baseline.entry(number as u32).ok_or_else(|| CaptureError::NoSuchRoot(root.name.clone()))?;
    let mut links = Links::default();
    compare(Siblings::only(&entry), &gathered.tree, |_, above, finding| match finding {
        Finding::Both(base, node) => {
            if !is_same(&base, node, &gathered.tree) || base.mtime() != node.stat.mtime {
                difference.note(&base, Some(node));
            }
            links.note(manifest, &base, Some(node));
        }
        Finding::Gone(base) => {
            difference.note(&base, None);
            links.note(manifest, &base, None);
        }
        // What is in a directory that was not there goes with it.
        Finding::New(node) => difference.extra.extend(above.map(|above| (above.index() as usize, node.name.clone()))),
    });
    difference.entries.extend(links.broken(&difference.entries));
    Ok(difference)
}

/// The scope under which a root was captured: a git directory that lies elsewhere has no ignore files, and of the work
/// trees that share it only those of the snapshot count.
fn scope_of(sources: &Sources, manifest: &Manifest, root: &CaptureRoot) -> Scope {
    let scope = Scope::of_root(sources, root);
    let is_git_dir = sources.is_used() && root.name.0.starts_with(b"/") && scope.path.join("HEAD").is_file();
    if !is_git_dir || !scope.path.join("objects").is_dir() && !scope.path.join("commondir").is_file() {
        return scope;
    }
    let worktrees = manifest.find(&[&*root.name.0, b"/worktrees"].concat());
    let names = worktrees.map(|dir| manifest.children(dir).map(|(_, entry)| entry.name.clone()).collect());
    Scope { rules: Rules::of_git_dir(Some(names.unwrap_or_default())), ..scope }
}

/// The newest stat table that knows the tree; what it says of a file holds whatever it was made for.
pub(super) fn newest_table(layout: &Layout, root: &CaptureRoot) -> Option<StatTable> {
    use std::os::unix::fs::MetadataExt as _;
    let live = root.path.metadata().ok()?;
    let mut tables: Vec<_> = std::fs::read_dir(&layout.cache)
        .ok()?
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let key = entry.file_name().to_str()?.strip_suffix(".stat")?.parse().ok()?;
            Some((entry.metadata().ok()?.modified().ok()?, key))
        })
        .collect();
    tables.sort_unstable_by(|one, other| other.cmp(one));
    tables.into_iter().take(TABLES).find_map(|(_, key)| {
        let table = StatTable::from_file(Mapped::open(&layout.table(key)).ok()?, key)?;
        let (_, known) = KnownSiblings::of(Some(&table), None).advance_to(&root.name.0)?;
        ((known.stat.dev, known.stat.ino) == (live.dev(), live.ino())).then_some(table)
    })
}

impl Difference<'_> {
    fn note(&mut self, base: &BaseEntry<'_>, now: Option<&Node>) {
        let index = base.index() as usize;
        self.entries.insert(index);
        if base.kind() == EntryKind::Directory && now.is_none_or(|node| node.kind != EntryKind::Directory) {
            self.new_dirs.insert(index);
        }
    }

    /// Whether the tree is what it was.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.extra.is_empty()
    }

    /// Listing paths of entries that differ or are gone; a directory whose time alone differs is among them.
    pub fn changed(&self) -> Vec<Text> {
        self.entries.iter().map(|index| Text(self.manifest.path_of(*index))).collect()
    }

    /// Listing paths of what is there and was not; what is in a new directory goes with it.
    pub fn extra(&self) -> Vec<Text> {
        let path = |(above, name): &(usize, Box<[u8]>)| [&*self.manifest.path_of(*above), b"/", name].concat();
        self.extra.iter().map(|extra| Text(path(extra))).collect()
    }

    /// Writes the difference out, with modes, times, owners, attributes and links as they were. Nothing is synced; what
    /// an error leaves is the caller's to remove.
    pub fn lay_out(&self, dest: &Path, style: Style) -> Result<(), MaterialiseError> {
        lay_out::lay_out(self, dest, style)
    }
}

/// Which names were one file, and which are.
#[derive(Default)]
struct Links {
    /// Members of each link group: entry and, if it is there, what it is now.
    then: HashMap<u32, Vec<(usize, Option<Identity>)>>,
    /// Names of each file that has several now: entry and link group.
    now: HashMap<Identity, Vec<(usize, u32)>>,
}

/// Device and inode.
type Identity = (u64, u64);

impl Links {
    fn note(&mut self, manifest: &Manifest, base: &BaseEntry<'_>, node: Option<&Node>) {
        let index = base.index() as usize;
        let group = manifest.entries()[index].link_group;
        let file = node.filter(|node| node.kind == EntryKind::File);
        if group != 0 {
            self.then.entry(group).or_default().push((index, file.map(|node| (node.stat.dev, node.stat.ino))));
        }
        if let Some(node) = file.filter(|node| node.stat.nlink > 1) {
            self.now.entry((node.stat.dev, node.stat.ino)).or_default().push((index, group));
        }
    }

    /// Entries that must be laid out although each for itself is as it was: names that are no longer one file, or have
    /// become one.
    fn broken(&self, differing: &BTreeSet<usize>) -> BTreeSet<usize> {
        let mut broken = BTreeSet::new();
        for members in self.then.values() {
            let is_whole = members.iter().all(|(index, file)| *file == members[0].1 && !differing.contains(index));
            if !is_whole {
                broken.extend(members.iter().map(|(index, _)| *index));
            }
        }
        for names in self.now.values().filter(|names| names.len() > 1) {
            if names.iter().any(|(_, group)| *group == 0 || *group != names[0].1) {
                broken.extend(names.iter().map(|(index, _)| *index));
            }
        }
        broken
    }
}

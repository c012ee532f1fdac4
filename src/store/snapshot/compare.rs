//! A baseline and a tree that was gathered later, name by name.

use std::cmp::Ordering;
use std::iter::Peekable;

use super::base_entry::{BaseEntry, Siblings};
use super::tree::{Node, Tree};
use crate::model::EntryKind;

/// What stands at one path.
#[derive(Clone, Copy, Debug)]
pub(super) enum Finding<'a> {
    /// Something then and something now.
    Both(BaseEntry<'a>, &'a Node),
    /// Something then, nothing now.
    Gone(BaseEntry<'a>),
    /// Nothing then, something now.
    New(&'a Node),
}

/// One directory on both sides; none where it was or is none.
struct Level<'a> {
    /// The directory's entry then.
    above: Option<BaseEntry<'a>>,
    base: Option<Peekable<Siblings<'a>>>,
    nodes: Peekable<std::slice::Iter<'a, Node>>,
    path_len: usize,
}

/// Calls `visit` with every path of either side, directories before what is in them, and with the entry that its
/// directory had then.
pub(super) fn compare<'a>(
    base: Siblings<'a>,
    tree: &'a Tree,
    mut visit: impl FnMut(&[u8], Option<BaseEntry<'a>>, Finding<'a>),
) {
    let mut path = Vec::new();
    let mut levels =
        vec![Level { above: None, base: Some(base.peekable()), nodes: tree.roots.iter().peekable(), path_len: 0 }];
    while let Some(level) = levels.last_mut() {
        path.truncate(level.path_len);
        let above = level.above;
        let Some(finding) = level.next() else {
            levels.pop();
            continue;
        };
        let (base, node) = match finding {
            Finding::Both(base, node) => (Some(base), Some(node)),
            Finding::Gone(base) => (Some(base), None),
            Finding::New(node) => (None, Some(node)),
        };
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(base.map_or_else(|| node.map_or(&b""[..], |node| &node.name), |base| base.name()));
        visit(&path, above, finding);
        let dir = base.and_then(|base| base.dir());
        let nodes = node.filter(|node| node.kind == EntryKind::Directory).map(|node| &tree.dirs[node.dir as usize]);
        if dir.is_some() || nodes.is_some() {
            levels.push(Level {
                above: base.filter(|_| dir.is_some()),
                base: dir.map(|dir| dir.children().peekable()),
                nodes: nodes.map_or(&[][..], |nodes| nodes).iter().peekable(),
                path_len: path.len(),
            });
        }
    }
}

impl<'a> Level<'a> {
    fn next(&mut self) -> Option<Finding<'a>> {
        let base = self.base.as_mut().and_then(|base| base.peek().copied());
        let order = match (base, self.nodes.peek()) {
            (None, None) => return None,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(base), Some(node)) => base.name().cmp(&node.name),
        };
        if order != Ordering::Greater {
            self.base.as_mut().and_then(Iterator::next);
        }
        let node = if order == Ordering::Less { None } else { self.nodes.next() };
        match (base.filter(|_| order != Ordering::Greater), node) {
            (Some(base), Some(node)) => Some(Finding::Both(base, node)),
            (Some(base), None) => Some(Finding::Gone(base)),
            (None, node) => node.map(Finding::New),
        }
    }
}

/// Whether the object is the same, apart from its times and, of a directory, from what is in it.
pub(super) fn is_same(base: &BaseEntry<'_>, node: &Node, tree: &Tree) -> bool {
    let is_link = node.kind == EntryKind::Symlink;
    let extras = tree.extras_of(node);
    base.kind() == node.kind
        && (is_link || base.mode() == node.stat.permissions())
        && (base.uid(), base.gid()) == (node.stat.uid, node.stat.gid)
        && (node.kind == EntryKind::Directory || (base.digest(), base.size()) == (node.digest, node.size))
        && *base.xattrs() == *extras.map_or(&[][..], |extras| &extras.xattrs)
}

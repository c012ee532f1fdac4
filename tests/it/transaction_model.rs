//! Any tree becomes any other, and comes back exactly.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use agentguard::store::transaction::{complete, reverse};
use proptest::prelude::*;

use crate::transaction_process::told;
use crate::transaction_scene::{Directories, Kind, Scene, commit, exact, set_mode, set_mtime, shape};

#[derive(Clone, Debug)]
enum Node {
    File {
        content: u8,
        mode: u32,
        seconds: i64,
    },
    Directory {
        names: BTreeMap<String, Node>,
        mode: u32,
        seconds: i64,
    },
    Link(u8),
    Pipe,
    /// Another name of the first file of the tree, where there is one.
    Twin,
}

fn node() -> impl Strategy<Value = Node> {
    let mode = prop::sample::select(vec![0o644, 0o600, 0o400, 0o000, 0o755, 0o4755]);
    let leaf = prop_oneof![
        4 => (0..3_u8, mode, 0..3_i64).prop_map(|(content, mode, seconds)| Node::File { content, mode, seconds }),
        1 => (0..2_u8).prop_map(Node::Link),
        1 => Just(Node::Pipe),
        1 => Just(Node::Twin),
    ];
    leaf.prop_recursive(4, 24, 5, |inner| directory(inner.boxed()))
}

fn directory(inner: BoxedStrategy<Node>) -> impl Strategy<Value = Node> {
    let mode = prop::sample::select(vec![0o755, 0o755, 0o700, 0o500, 0o555, 0o300, 0o000, 0o2770]);
    let name = prop::sample::select(vec!["a", "b", "c", "a-b", "\u{1}\n", "z"]).prop_map(str::to_owned);
    (prop::collection::btree_map(name, inner, 0..5), mode, 0..3_i64)
        .prop_map(|(names, mode, seconds)| Node::Directory { names, mode, seconds })
}

fn tree() -> impl Strategy<Value = BTreeMap<String, Node>> {
    let name = prop::sample::select(vec!["a", "b", "c", "d", "a-b"]).prop_map(str::to_owned);
    prop::collection::btree_map(name, node(), 0..5)
}

fn build(node: &Node, path: &Path, first: &Path) {
    match node {
        Node::File { content, mode, seconds } => {
            fs::write(path, vec![b'0' + content; usize::from(*content) * 3]).expect("written");
            set_mode(path, *mode);
            set_mtime(path, 1_000_000_000 + seconds);
        }
        Node::Directory { names, mode, seconds } => {
            fs::create_dir(path).expect("made");
            for (name, node) in names {
                build(node, &path.join(name), first);
            }
            set_mode(path, *mode);
            set_mtime(path, 1_000_000_000 + seconds);
        }
        Node::Link(number) => symlink(format!("target {number}"), path).expect("linked"),
        Node::Pipe => Kind::Pipe.make(path, ""),
        Node::Twin => fs::hard_link(first, path).expect("linked"),
    }
}

fn build_all(tree: &BTreeMap<String, Node>, top: &Path) {
    fs::write(top.join("first"), "the first file").expect("written");
    for (name, node) in tree {
        build(node, &top.join(name), &top.join("first"));
    }
    set_mtime(top, 1_000_000_000);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, max_shrink_iters: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_tree_becomes_any_other_and_comes_back_exactly(old in tree(), new in tree(), merged: bool) {
        let scene = Scene::new();
        build_all(&old, &scene.live(""));
        build_all(&new, &scene.new_one(""));
        let (before, wanted) = (exact(&scene.live("")), shape(&scene.new_one("")));
        let plan = scene.plan(if merged { Directories::Merged } else { Directories::Whole });
        prop_assert_eq!(told(&commit(&plan)), "applied");
        prop_assert_eq!(shape(&scene.live("")), wanted.clone());
        prop_assert_eq!(told(&complete(&plan)), "applied");
        prop_assert_eq!(shape(&scene.live("")), wanted);
        let undo = reverse(&plan).expect("reversed");
        prop_assert_eq!(told(&commit(&undo)), "applied");
        prop_assert_eq!(exact(&scene.live("")), before);
    }
}

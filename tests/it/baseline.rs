//! What a capture saw can be asked for entry by entry, later, whatever has been captured since.

use std::fs;
use std::os::fd::AsFd as _;

use agentguard::model::{EntryKind, Text};
use agentguard::store::snapshot::{Baseline, Drift, LinkGroup, SameNow};
use agentguard::sys::walk::{Stat, lstat_at};

use crate::workspace_snapshot::{Place, has_git};

const TREE: &str = "mkdir -p a/b empty; echo one > a/one; echo two > a/b/two; ln -s one a/link; mkfifo a/pipe
    ln a/one linked; printf 3 > three; chmod 640 three; printf '*.o\\n' > .ignore; touch ignored.o";

fn stat(place: &Place, path: &str) -> Stat {
    let dir = fs::File::open(place.path("ws")).expect("opened");
    lstat_at(dir.as_fd(), path.as_bytes()).expect("there")
}

fn drift(place: &Place, baseline: &Baseline) -> Drift {
    baseline.drift(&place.roots("ws"), &place.policy()).expect("compared")
}

fn texts(paths: &[&str]) -> Vec<Text> {
    paths.iter().map(|path| Text::from(*path)).collect()
}

#[test]
fn a_baseline_names_every_entry_in_order_with_what_stat_said() {
    let place = Place::new();
    place.shell("ws", TREE);
    let baseline = place.capture_settled("ws").baseline;
    let root = baseline.root(b"workspace").expect("a directory");
    let names: Vec<_> = root.children().map(|entry| String::from_utf8_lossy(entry.name()).into_owned()).collect();
    assert_eq!(names, [".ignore", "a", "empty", "linked", "three"]);
    let mut children = root.children();
    let three = children.advance_to(b"three").expect("there");
    assert!(children.advance_to(b"linked").is_none(), "it was passed over");
    let now = stat(&place, "three");
    assert!(three.stat().is_some_and(|then| then.same_as(&now)));
    assert_eq!((three.mode(), three.size(), three.kind(), three.is_trusted()), (0o640, 1, EntryKind::File, true));
    assert_eq!(baseline.is_same_now(&three, &now), SameNow::Same);
    let two = baseline.find(b"workspace/a/b/two").expect("there");
    assert_eq!((two.path(), two.name()), (Text::from("workspace/a/b/two"), &b"two"[..]));
    assert_eq!(&*baseline.find(b"workspace/a/link").expect("there").target(), b"one");
    assert!(baseline.find(b"workspace/ignored.o").is_none() && baseline.find(b"workspace/a/o").is_none());
    assert_eq!(baseline.left_out(), 1);
    let links = LinkGroup { paths: texts(&["workspace/a/one", "workspace/linked"]), size: 4 };
    assert_eq!(baseline.link_groups(), std::slice::from_ref(&links));
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    assert_eq!(baseline.foreign_owners(uid, gid), 0);
    assert_eq!(baseline.foreign_owners(uid, gid + 1), baseline.len());
    // The same from nothing but the manifest: what stat said is not known, everything else is.
    let manifest = place.manifest(&place.capture("ws"));
    let from_manifest = Baseline::from_manifest(&manifest);
    assert_eq!((from_manifest.len(), from_manifest.link_groups()), (baseline.len(), vec![links]));
    assert_eq!(from_manifest.snapshot(), baseline.snapshot());
    for (index, entry) in manifest.entries().iter().enumerate() {
        let path = manifest.path_of(index);
        let (known, bare) = (baseline.find(&path).expect("there"), from_manifest.find(&path).expect("there"));
        assert_eq!((known.digest(), known.size(), known.mtime()), (entry.digest, entry.size, entry.mtime));
        assert_eq!((bare.digest(), bare.size(), bare.kind()), (entry.digest, entry.size, entry.kind));
        assert_eq!((bare.mode(), bare.uid(), &*bare.target()), (entry.mode, entry.uid, entry.target()));
        assert!(bare.stat().is_none() && known.stat().is_some());
    }
    let three = from_manifest.find(b"workspace/three").expect("there");
    assert_eq!(from_manifest.is_same_now(&three, &now), SameNow::NeedsHash);
    let other = Stat { size: 2, ..now };
    assert_eq!(from_manifest.is_same_now(&three, &other), SameNow::Differs);
}

#[test]
fn what_stat_cannot_tell_needs_a_hash() {
    let place = Place::new();
    place.shell("ws", TREE);
    let baseline = place.capture_settled("ws").baseline;
    let verdict = |path: &str| {
        let entry = baseline.find(format!("workspace/{path}").as_bytes()).expect("there");
        baseline.is_same_now(&entry, &stat(&place, path))
    };
    assert_eq!(verdict("a/one"), SameNow::Same);
    place.shell("ws", "touch three; printf longer > a/one; chmod 700 a/b; ln -sfn eno a/link; touch empty");
    assert_eq!(verdict("three"), SameNow::NeedsHash);
    assert_eq!(verdict("a/one"), SameNow::Differs);
    assert_eq!(verdict("a/b"), SameNow::Differs);
    assert_eq!(verdict("a/link"), SameNow::NeedsHash);
    assert_eq!(verdict("empty"), SameNow::NeedsHash);
    assert_eq!(verdict("a/pipe"), SameNow::Same);
}

#[test]
fn drift_counts_what_changed_went_and_came() {
    let place = Place::new();
    place.shell("ws", TREE);
    let baseline = place.capture_settled("ws").baseline;
    let cases = [
        ("true", (0, 0, 0), &[][..]),
        ("echo x > ignored.o; touch new.o", (0, 0, 0), &[]),
        ("touch three a", (0, 0, 0), &[]),
        ("printf 4 > three", (1, 0, 0), &["workspace/three"]),
        ("chmod 600 three; printf 3 > three", (1, 0, 0), &["workspace/three"]),
        ("chmod 640 three; mkdir n; touch n/m", (0, 0, 2), &["workspace/n", "workspace/n/m"]),
        ("rm -r n a/b", (0, 2, 0), &["workspace/a/b", "workspace/a/b/two"]),
        ("echo now a file > a/b", (1, 1, 0), &["workspace/a/b", "workspace/a/b/two"]),
        (
            "rm a/b; mkdir a/b; echo two > a/b/two; rm .ignore",
            (0, 1, 2),
            &["workspace/.ignore", "workspace/ignored.o", "workspace/new.o"],
        ),
    ];
    for (change, (changed, gone, new), paths) in cases {
        place.shell("ws", change);
        let expected = Drift { changed, gone, new, first_paths: texts(paths) };
        assert_eq!(drift(&place, &baseline), expected, "{change}");
    }
    place.shell("ws", "for i in $(seq 30); do touch many$i; done");
    let many = drift(&place, &baseline);
    assert_eq!((many.count(), many.first_paths.len()), (33, 20));
    fs::remove_dir_all(place.path("ws")).expect("removed");
    assert_eq!(drift(&place, &baseline).gone, baseline.len());
}

#[test]
fn a_baseline_outlives_the_captures_after_it() {
    let place = Place::new();
    place.shell("ws", TREE);
    let first = place.capture_settled("ws");
    place.shell("ws", "printf 4 > three; rm -r a");
    let second = place.capture_settled("ws");
    fs::remove_dir_all(place.path("state/cache")).expect("removed");
    assert_eq!(drift(&place, &second.baseline).count(), 0);
    let paths = drift(&place, &first.baseline);
    assert_eq!((paths.changed, paths.gone), (1, 6));
    assert_eq!(first.baseline.find(b"workspace/three").expect("there").size(), 1);
    assert_eq!(first.baseline.snapshot(), first.snapshot);
}

#[test]
fn what_any_capture_has_read_since_need_not_be_read_to_know_an_older_snapshot() {
    let place = Place::new();
    place.shell("ws", "for name in same changed back now; do echo $name > $name; done; ln -s same link");
    let first = place.capture_settled("ws");
    let verdict = |path: &str| {
        let baseline = place.store().baseline(&first.snapshot, &"workspace".into(), &place.path("ws")).expect("known");
        let entry = baseline.find(format!("workspace/{path}").as_bytes()).expect("there");
        (baseline.is_same_now(&entry, &stat(&place, path)), entry.stat().is_some())
    };
    assert_eq!(verdict("same"), (SameNow::Same, true), "the table of that very capture");
    place.shell("ws", "printf 'CHANGED\\n' > changed; echo now > again; mv again now; cp back again; mv again back");
    assert_eq!(verdict("changed"), (SameNow::NeedsHash, true));
    place.capture_settled("ws");
    place.shell("ws", "touch -r now again; echo NOW > now; touch -r again now; rm again");
    for (path, expected) in [
        ("same", SameNow::Same),
        ("link", SameNow::Same),
        ("back", SameNow::Same),
        ("changed", SameNow::Differs),
        // Of the old size and time.
        ("now", SameNow::NeedsHash),
    ] {
        assert_eq!(verdict(path), (expected, false), "{path}");
    }
    fs::remove_dir_all(place.path("state/cache")).expect("removed");
    assert_eq!(verdict("same"), (SameNow::NeedsHash, false), "no table at all");
}

#[test]
fn drift_of_a_repository_sees_its_small_state_and_no_objects() {
    if !has_git() {
        return;
    }
    let place = Place::new();
    place.shell("ws", "git init -q; touch a; git add a");
    let baseline = place.capture_settled("ws").baseline;
    place.shell("ws", "git hash-object -w --stdin < /dev/null; echo x | git hash-object -w --stdin");
    assert_eq!(drift(&place, &baseline), Drift::default());
    place.shell("ws", "git update-ref --no-deref refs/heads/x $(git write-tree) 2>/dev/null || git branch -M other");
    assert!(drift(&place, &baseline).count() > 0);
}

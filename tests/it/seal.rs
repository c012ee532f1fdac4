//! A seal keeps what is small in a result, so that it can be shown later, and knows what an overlay's upper layer says.

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::process::Command;

use agentguard::model::Text;
use agentguard::store::snapshot::{
    CapturePolicy, Durability, KeepLimit, LoadError, Manifest, ManifestEntry, OverlayMark, Sealed, SnapshotStore,
    hash_roots, still_equal,
};
use agentguard::sys::walk::{Access, ObjectKind};
use rustix::fs::{CWD, FileType, Mode, XattrFlags, makedev, mknodat, setxattr};

use crate::overlay_mount::{Overlay, run_in};
use crate::workspace_snapshot::Place;

const KEEP: KeepLimit = KeepLimit { per_file: 1000, total: 3000 };

fn policy() -> CapturePolicy {
    CapturePolicy { access: Access::Own, limit_bytes: u64::MAX, ..CapturePolicy::default() }
}

fn entry<'a>(manifest: &'a Manifest, path: &str) -> &'a ManifestEntry {
    let index = manifest.find(path.as_bytes()).unwrap_or_else(|| panic!("{path} is not there"));
    &manifest.entries()[index]
}

fn content(store: &SnapshotStore, manifest: &Manifest, path: &str) -> Option<String> {
    match store.read_content(manifest, entry(manifest, path)) {
        Ok(bytes) => Some(String::from_utf8(bytes).expect("text")),
        Err(LoadError::NotKept(_)) => None,
        Err(other) => panic!("{path}: {other}"),
    }
}

fn only_file(dir: PathBuf) -> PathBuf {
    let mut entries = fs::read_dir(dir).expect("readable");
    let path = entries.next().expect("one file").expect("entry").path();
    assert!(entries.next().is_none());
    path
}

#[test]
fn small_contents_of_a_result_can_be_shown_later_and_large_ones_are_only_hashed() {
    for durability in [Durability::Synced, Durability::Deferred] {
        let place = Place::new();
        place
            .shell("ws", "echo small > a; cp a twin; ln -s a link; head -c 1001 /dev/zero > big; touch empty; mkdir d");
        let sparse = File::create(place.path("ws/sparse")).expect("created");
        sparse.write_all_at(b"island", 100 << 20).expect("written");
        sparse.set_len(200 << 20).expect("sized");
        let store = place.store();
        let (sealed, snapshot) = store.seal_roots(&place.roots("ws"), &policy(), KEEP, durability).expect("sealed");
        let hashed = hash_roots(&place.roots("ws"), &policy()).expect("hashed");
        assert_eq!(sealed.root_digest, hashed.root_digest);
        let sum = String::from_utf8(place.shell("ws", "sha256sum < sparse | cut -c1-64")).expect("text");
        assert_eq!(entry(&sealed.manifest, "workspace/sparse").digest.to_string(), sum.trim());
        // From the seal at hand, from the store, and from the manifest alone.
        let loaded = store.load(&snapshot).expect("loaded");
        let parsed = Manifest::from_bytes(&sealed.manifest.to_bytes()).expect("parsed").kept_in(snapshot.pack);
        for manifest in [&sealed.manifest, &loaded, &parsed] {
            let shown = |path: &str| content(&store, manifest, path);
            assert_eq!(shown("workspace/a").as_deref(), Some("small\n"));
            assert_eq!(shown("workspace/twin").as_deref(), Some("small\n"));
            assert_eq!(shown("workspace/link").as_deref(), Some("a"));
            assert_eq!(shown("workspace/empty").as_deref(), Some(""));
            assert_eq!((shown("workspace/big"), shown("workspace/sparse")), (None, None));
        }
        assert_eq!(store.check(), []);
        assert_eq!(still_equal(&sealed, &place.roots("ws"), &policy()).expect("compared"), None);
    }
}

#[test]
fn what_is_kept_stays_within_the_limit_of_all() {
    let place = Place::new();
    place.shell("ws", "for i in 1 2 3 4 5 6 7; do head -c 900 /dev/urandom > $i; done");
    let store = place.store();
    let (sealed, snapshot) = store.seal_roots(&place.roots("ws"), &policy(), KEEP, Durability::Synced).expect("sealed");
    let entries = sealed.manifest.entries().iter().filter(|entry| entry.size == 900);
    let kept = entries.filter(|entry| store.read_content(&sealed.manifest, entry).is_ok()).count();
    assert_eq!(kept, 3);
    let pack = place.path("state/snapshots/kept").join(format!("{}.pack", snapshot.pack));
    assert!(pack.metadata().expect("there").len() < 5000);
}

#[test]
fn a_lost_or_damaged_pack_means_not_kept_and_no_capture_relies_on_it() {
    let place = Place::new();
    place.shell("ws", "echo one > a; echo two > b");
    let store = place.store();
    let (sealed, snapshot) =
        store.seal_roots(&place.roots("ws"), &policy(), KEEP, Durability::Deferred).expect("sealed");
    let pack = only_file(place.path("state/snapshots/kept"));
    let whole = fs::read(&pack).expect("read");
    // What a power cut can leave: zeros of the right length, nothing at all, a piece.
    for damaged in [vec![0; whole.len()], Vec::new(), whole[..whole.len() / 2].to_vec()] {
        fs::write(&pack, damaged).expect("written");
        assert_eq!(content(&store, &sealed.manifest, "workspace/a"), None);
        assert!(matches!(store.load(&snapshot), Err(LoadError::Damaged { .. })));
        assert_eq!(store.check().len(), 1);
    }
    let mut flipped = whole.clone();
    let at = whole.windows(4).position(|bytes| bytes == b"one\n").expect("kept");
    flipped[at] ^= 1;
    fs::write(&pack, flipped).expect("written");
    assert_eq!(content(&store, &sealed.manifest, "workspace/a"), None);
    assert_eq!(content(&store, &sealed.manifest, "workspace/b").as_deref(), Some("two\n"));
    let manifest = place.manifest(&place.capture("ws"));
    assert_eq!(content(&store, &manifest, "workspace/a").as_deref(), Some("one\n"));
    fs::remove_dir_all(place.path("state/snapshots/packs")).expect("removed");
    fs::remove_file(&pack).expect("removed");
    assert_eq!(content(&store, &sealed.manifest, "workspace/b"), None);
    assert!(store.load(&snapshot).is_err());
    assert!(
        store
            .read_content(&manifest, entry(&manifest, "workspace/b"))
            .is_err_and(|error| { !matches!(error, LoadError::NotKept(_)) })
    );
}

fn marks(sealed: &Sealed) -> Vec<(String, OverlayMark)> {
    sealed.overlay.iter().map(|(path, mark)| (path.to_string_lossy().into_owned(), *mark)).collect()
}

#[test]
fn the_marks_of_an_upper_layer_are_told_from_data() {
    let place = Place::new();
    place.shell("ws", "mkdir -p opaque plain; touch plain/gone plain/file");
    let ws = place.path("ws");
    mknodat(CWD, ws.join("deleted"), FileType::CharacterDevice, Mode::empty(), 0).expect("a whiteout");
    let set = |path: &str, name: &str, value: &[u8]| {
        setxattr(ws.join(path), name, value, XattrFlags::empty()).expect("an attribute");
    };
    set("opaque", "user.overlay.opaque", b"y");
    set("plain", "user.overlay.opaque", b"x");
    set("plain", "user.overlay.impure", b"y");
    set("plain/gone", "user.overlay.whiteout", b"");
    set("plain/file", "user.overlay.redirect", b"/etc");
    set("plain/file", "user.note", b"kept");
    let (sealed, _) =
        place.store().seal_roots(&place.roots("ws"), &policy(), KEEP, Durability::Synced).expect("sealed");
    let expected = [
        ("workspace/deleted", OverlayMark::Whiteout),
        ("workspace/opaque", OverlayMark::Opaque),
        ("workspace/plain", OverlayMark::HasWhiteouts),
        ("workspace/plain/file", OverlayMark::Redirect),
        ("workspace/plain/gone", OverlayMark::WhiteoutAttribute),
    ];
    assert_eq!(marks(&sealed), expected.map(|(path, mark)| (path.to_owned(), mark)));
    assert_eq!(sealed.specials.len(), 1);
    assert_eq!((sealed.specials[0].kind, sealed.specials[0].rdev), (ObjectKind::Device, 0));
    let names = |path: &str| -> Vec<String> {
        let xattrs = entry(&sealed.manifest, path).xattrs().iter();
        xattrs.map(|xattr| String::from_utf8_lossy(&xattr.name).into_owned()).collect()
    };
    assert_eq!(names("workspace/plain/file"), ["user.note"]);
    assert_eq!(names("workspace/opaque"), [""; 0]);
    if rustix::process::geteuid().is_root() {
        mknodat(CWD, ws.join("null"), FileType::CharacterDevice, Mode::RUSR, makedev(1, 3)).expect("a device");
        let again = hash_roots(&place.roots("ws"), &policy()).expect("sealed");
        assert_eq!((again.specials.len(), again.overlay.len()), (2, 5));
        assert_eq!(again.specials[1].rdev, makedev(1, 3));
    }
}

#[test]
fn a_real_upper_layer_is_read_as_the_kernel_meant_it() {
    let place = Place::new();
    place.shell("ws", "mkdir -p d/e replaced; echo 1 > d/one; echo 2 > d/e/two; echo 3 > replaced/three");
    for dir in ["upper", "work"] {
        fs::create_dir(place.path(dir)).expect("made");
    }
    let (ws, upper, work) = (place.path("ws"), place.path("upper"), place.path("work"));
    let overlay = Overlay { lower: &[&ws], upper: Some((&upper, &work)), target: &ws };
    let script = "rm d/one; rm -r d/e; rm -r replaced; mkdir replaced; echo new > replaced/new; chmod 700 d
        python3 -c 'import os; os.setxattr(\"replaced/new\", \"user.overlay.opaque\", b\"y\")' || true";
    if run_in(&overlay, script).is_none() {
        return;
    }
    let (sealed, _) =
        place.store().seal_roots(&place.roots("upper"), &policy(), KEEP, Durability::Synced).expect("sealed");
    let expected = [
        ("workspace/d", OverlayMark::CopiedUp),
        ("workspace/d/e", OverlayMark::Whiteout),
        ("workspace/d/one", OverlayMark::Whiteout),
        ("workspace/replaced", OverlayMark::Opaque),
    ];
    assert_eq!(marks(&sealed), expected.map(|(path, mark)| (path.to_owned(), mark)));
    assert_eq!(content(&place.store(), &sealed.manifest, "workspace/replaced/new").as_deref(), Some("new\n"));
    assert!(sealed.manifest.entries().iter().all(|entry| entry.xattrs().is_empty()));
    let paths: Vec<_> = sealed.specials.iter().map(|special| special.path.clone()).collect();
    assert_eq!(paths, [Text::from("workspace/d/e"), Text::from("workspace/d/one")]);
    // The work directory of an overlay is closed to its owner.
    let _ = Command::new("chmod").arg("-R").arg("u+rwx").arg(&work).status();
}

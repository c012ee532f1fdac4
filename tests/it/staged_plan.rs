//! The plan of a commit is made from what stands in the workspace: whatever is saved while it is made is seen.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use agentguard::store::snapshot::{CapturePolicy, CaptureRoot, SnapshotStore, hash_roots};
use agentguard::store::staged::{Began, PlanError, Workspace, compare, plan};
use agentguard::sys::clock;

#[test]
fn a_save_while_the_plan_waits_for_the_clock_is_a_conflict() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let at = |name: &str| dir.path().join(name);
    for name in ["ws", "state", "upper", "aside"] {
        fs::create_dir(at(name)).expect("made");
    }
    fs::write(at("ws/f"), "old\n").expect("written");
    fs::write(at("upper/f"), "mine\n").expect("written");
    let root = |name: &str| [CaptureRoot { name: "workspace".into(), path: at(name) }];
    let policy = CapturePolicy::default();
    let store = SnapshotStore::at(&at("state"));
    let began = Began(clock::stamp_now());
    let captured = store.capture(dir.path(), &root("ws"), &policy, &|_| {}).expect("captured");
    let sealed = hash_roots(&root("upper"), &policy).expect("sealed");
    let path = at("ws");
    let workspace =
        Workspace { path: &path, baseline: &captured.baseline, root_name: b"workspace", began, skip: &[], state: None };
    let staged = compare(&workspace, &sealed).expect("compared");
    let live = at("ws/f");
    // Changed a moment ago, and still what it was: looking at it waits until a later change must show (20 ms).
    fs::set_permissions(&live, fs::metadata(&live).expect("stat").permissions()).expect("ctime");
    let saved = live.clone();
    let editor = std::thread::spawn(move || {
        // Within that wait: nothing tells when it begins.
        std::thread::sleep(Duration::from_millis(6));
        fs::write(saved, "theirs\n").expect("saved");
    });
    let planned = plan(&workspace, &at("upper"), &at("aside"), &staged);
    editor.join().expect("the editor ends");
    match planned {
        Err(PlanError::Conflict { paths }) => assert_eq!(paths, ["f".into()]),
        other => panic!("the save was taken for what was there: {other:?}"),
    }
    assert_eq!(fs::read_to_string(&live).expect("read"), "theirs\n");
    assert_eq!(fs::metadata(&live).expect("stat").permissions().mode() & 0o700, 0o600);
}

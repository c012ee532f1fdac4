//! The snapshot store gives back exactly what it was given, notices every change, and writes nothing for none.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File, Permissions};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant, SystemTime};

use agentguard::model::Text;
use agentguard::store::snapshot::{
    CaptureError, CapturePolicy, CaptureRoot, Captured, Exclude, LoadError, MaterialiseError, RootChange,
    SnapshotStore, fingerprint, hash_roots, still_equal,
};
use agentguard::sys::copy_tree::copy_tree;
use agentguard::sys::walk::Access;
use rustix::fs::{Mode, OFlags, mkdirat, openat};

/// A project with an `in` directory, and a store beside it.
struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("temporary directory");
        fs::create_dir_all(dir.path().join("project/in")).expect("input directory");
        Self { dir }
    }

    fn project(&self) -> PathBuf {
        self.dir.path().join("project")
    }

    fn input(&self) -> PathBuf {
        self.project().join("in")
    }

    fn state(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    fn store(&self) -> SnapshotStore {
        SnapshotStore::at(&self.state())
    }

    fn roots(&self) -> Vec<CaptureRoot> {
        vec![CaptureRoot { name: "in".into(), path: self.input() }]
    }

    fn try_capture(&self, policy: &CapturePolicy) -> Result<Captured, CaptureError> {
        self.store().capture(&self.project(), &self.roots(), policy, &|_| ())
    }

    fn capture(&self) -> Captured {
        self.try_capture(&CapturePolicy::default()).expect("captured")
    }

    fn give_back(&self, captured: &Captured) -> PathBuf {
        let dest = self.dir.path().join("back");
        let _ = fs::remove_dir_all(&dest);
        let manifest = self.store().load(&captured.snapshot).expect("loaded");
        self.store().materialise(&manifest, &dest).expect("materialised");
        dest.join("in")
    }

    /// Captures until everything captured is older than a tick, so that the stat table answers for all of it.
    fn capture_settled(&self) -> Captured {
        let begun = SystemTime::now();
        wait_until(|| begun.elapsed().is_ok_and(|passed| passed > Duration::from_millis(40)));
        self.capture()
    }
}

fn wait_until(condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !condition() {
        assert!(Instant::now() < deadline, "the condition never held");
        std::thread::yield_now();
    }
}

/// Path to (size, mtime, ctime) of everything below.
fn stats(dir: &Path) -> BTreeMap<PathBuf, (u64, i64, i64, i64, i64)> {
    let mut found = BTreeMap::new();
    for entry in walkdir::WalkDir::new(dir) {
        let entry = entry.expect("readable");
        let stat = entry.metadata().expect("stat");
        let times = (stat.len(), stat.mtime(), stat.mtime_nsec(), stat.ctime(), stat.ctime_nsec());
        found.insert(entry.path().to_path_buf(), times);
    }
    found
}

fn shell(script: &str, dir: &Path) -> String {
    let out = Command::new("sh").arg("-euc").arg(script).current_dir(dir).output().expect("sh runs");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).expect("text").trim().to_owned()
}

fn make_rich_tree(dir: &Path) {
    fs::write(dir.join("plain"), "hello").expect("written");
    fs::write(dir.join("script"), "#!/bin/sh\n").expect("written");
    fs::set_permissions(dir.join("script"), Permissions::from_mode(0o750)).expect("mode");
    fs::create_dir_all(dir.join("sub/empty")).expect("made");
    fs::write(dir.join("sub/zero"), "").expect("written");
    fs::write(dir.join("sub/twin"), "hello").expect("written");
    symlink("../no where", dir.join("sub/link")).expect("linked");
    shell("mkfifo -m 640 sub/pipe", dir);
    fs::hard_link(dir.join("plain"), dir.join("sub/plain too")).expect("linked");
    let sparse = File::create(dir.join("sparse")).expect("created");
    sparse.write_all_at(b"island", 2 << 20).expect("written");
    sparse.set_len(3 << 20).expect("sized");
    let big = File::create(dir.join("sparse big")).expect("created");
    big.write_all_at(b"island", 20 << 20).expect("written");
    big.set_len(32 << 20).expect("sized");
    fs::write(dir.join("big"), vec![7_u8; (5 << 20) + 3]).expect("written");
    shell("touch -h -d '2001-02-03 04:05:06.789' plain sub/link sub/empty big sub/pipe; chmod 500 sub/empty", dir);
}

/// Everything stat and read can tell, for comparing two trees.
fn describe(dir: &Path) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    let mut first_names = BTreeMap::new();
    for entry in walkdir::WalkDir::new(dir).sort_by_file_name() {
        let entry = entry.expect("readable");
        let below = entry.path().strip_prefix(dir).expect("below").to_path_buf();
        let stat = entry.path().symlink_metadata().expect("stat");
        let content = match stat.file_type() {
            kind if kind.is_file() => format!("{:?}", agentguard_digest(entry.path())),
            kind if kind.is_symlink() => format!("{:?}", fs::read_link(entry.path()).expect("target")),
            _ => String::new(),
        };
        let first = first_names.entry(stat.ino()).or_insert_with(|| below.clone()).clone();
        let what = format!("{:o} {}.{} {content} is {first:?}", stat.mode(), stat.mtime(), stat.mtime_nsec());
        found.insert(below, what);
    }
    found
}

fn agentguard_digest(path: &Path) -> Vec<u8> {
    use sha2::Digest as _;
    sha2::Sha256::digest(fs::read(path).expect("read")).to_vec()
}

#[test]
fn the_input_hash_is_what_coreutils_compute() {
    let place = Place::new();
    make_rich_tree(&place.input());
    let captured = place.capture();
    let script = r#"
      list() { # DIR: its listing
        ls -A "$1" | LC_ALL=C sort | while IFS= read -r name; do line "$1/$name" "$name"; done
      }
      line() { # PATH NAME
        mode=$(stat -c %a "$1"); mode=$(printf %04o 0$mode)
        if [ -L "$1" ]; then t=l; mode=0777; readlink -n "$1" > "$tmp/c"
        elif [ -d "$1" ]; then t=d; list "$1" > "$tmp/$(echo "$1" | tr / _)"; cp "$tmp/$(echo "$1" | tr / _)" "$tmp/c"
        elif [ -p "$1" ]; then t=p; : > "$tmp/c"
        else t=f; cp "$1" "$tmp/c"; chmod u+w "$tmp/c"; fi
        printf '%s %s %s %s\t%s\0' "$mode" "$t" "$(sha256sum < "$tmp/c" | cut -c1-64)" "$(stat -c %s "$tmp/c")" "$2"
        rm -f "$tmp/c"
      }
      tmp=$(mktemp -d); line in in | sha256sum | cut -c1-64; rm -rf "$tmp"
    "#;
    assert_eq!(captured.input_hash.to_string(), shell(script, &place.project()));
    let manifest = place.store().load(&captured.snapshot).expect("loaded");
    assert_eq!(manifest.root_digest(), captured.input_hash);
    assert!(manifest.listing_of(b"in/sub").expect("a directory").ends_with(b"\tzero\0"));
    assert_eq!(hash_roots(&place.roots(), &CapturePolicy::default()).expect("sealed").root_digest, captured.input_hash);
}

#[test]
fn everything_survives_capture_and_materialise() {
    let place = Place::new();
    make_rich_tree(&place.input());
    let attribute =
        Command::new("setfattr").args(["-n", "user.note", "-v", "kept"]).arg(place.input().join("plain")).status();
    let before = describe(&place.input());
    let back = place.give_back(&place.capture());
    assert_eq!(describe(&back), before);
    for name in ["sparse", "sparse big"] {
        let blocks = back.join(name).metadata().expect("stat").blocks();
        assert!(blocks < 1024, "{name} has {blocks} blocks");
    }
    if attribute.is_ok_and(|status| status.success()) {
        let value =
            Command::new("getfattr").args(["--only-values", "-n", "user.note"]).arg(back.join("plain")).output();
        assert_eq!(value.expect("getfattr runs").stdout, b"kept");
    }
    let copy = place.dir.path().join("copy");
    copy_tree(&place.input(), &copy, Access::AsIs).expect("copied");
    assert_eq!(describe(&copy), before);
}

#[test]
fn an_unchanged_tree_writes_nothing() {
    let place = Place::new();
    make_rich_tree(&place.input());
    let first = place.capture();
    assert!(first.new_bytes > 0);
    let settled = place.capture_settled();
    let before = stats(&place.state());
    let again = place.capture();
    assert_eq!(stats(&place.state()), before);
    assert_eq!((settled.snapshot.clone(), settled.input_hash), (first.snapshot, first.input_hash));
    assert_eq!(again, Captured { new_bytes: 0, ..settled });
}

#[test]
fn an_edit_in_the_same_tick_is_seen() {
    let place = Place::new();
    let file = place.input().join("f");
    for round in 0..60 {
        fs::write(&file, format!("{round:04}")).expect("written");
        let captured = place.capture();
        let back = place.give_back(&captured);
        assert_eq!(fs::read_to_string(back.join("f")).expect("read"), format!("{round:04}"));
    }
}

#[test]
fn every_kind_of_change_changes_the_hash() {
    let place = Place::new();
    make_rich_tree(&place.input());
    let mut last = place.capture_settled().input_hash;
    for change in [
        "printf hellO > plain",
        "chmod 600 plain",
        "rm sub/zero",
        "mkdir sub/new",
        "ln -sfn elsewhere sub/link",
        "mv script sub/script",
        "printf x | dd of=big bs=1 seek=5000000 conv=notrunc 2>/dev/null",
    ] {
        shell(change, &place.input());
        let now = place.capture().input_hash;
        assert_ne!(now, last, "{change}");
        last = now;
    }
    let back = place.give_back(&place.capture());
    assert_eq!(describe(&back), describe(&place.input()));
}

#[test]
fn odd_names_and_deep_trees_come_back() {
    let place = Place::new();
    let long = "n".repeat(255);
    for name in [b"new\nline".as_slice(), b"\xff\xfe", b"-rf", b"a\tb", b"~", long.as_bytes(), b"a", b"a-b"] {
        fs::write(place.input().join(OsStr::from_bytes(name)), name).expect("written");
    }
    fs::create_dir(place.input().join("d")).expect("made");
    fs::write(place.input().join("d/x"), "x").expect("written");
    let before = describe(&place.input());
    assert_eq!(describe(&place.give_back(&place.capture())), before);
    make_deep(&place.input(), 3000);
    let captured = place.capture();
    assert_eq!(read_deep(&place.give_back(&captured), 3000), "deep");
    assert_eq!(place.capture_settled().input_hash, captured.input_hash);
    let copy = place.dir.path().join("copy");
    copy_tree(&place.input(), &copy, Access::AsIs).expect("copied");
    assert_eq!(read_deep(&copy, 3000), "deep");
    // Unlike std's `remove_dir_all`, `rm` holds no descriptor per level.
    shell("rm -rf project copy back", place.dir.path());
}

fn descend(dir: &Path, levels: usize, enter: impl Fn(&OwnedFd)) -> OwnedFd {
    let mut at = OwnedFd::from(File::open(dir).expect("opened"));
    for _ in 0..levels {
        enter(&at);
        at = openat(&at, "deep", OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).expect("opened");
    }
    at
}

fn make_deep(dir: &Path, levels: usize) {
    let end = descend(dir, levels, |at| mkdirat(at, "deep", Mode::RWXU).expect("made"));
    let file = openat(&end, "end", OFlags::CREATE | OFlags::WRONLY, Mode::RUSR).expect("created");
    rustix::io::write(file, b"deep").expect("written");
}

fn read_deep(dir: &Path, levels: usize) -> String {
    let end = descend(dir, levels, |_| ());
    let file = File::from(openat(&end, "end", OFlags::RDONLY, Mode::empty()).expect("opened"));
    std::io::read_to_string(file).expect("read")
}

#[test]
fn a_file_that_never_holds_still_is_named() {
    let place = Place::new();
    let path = place.input().join("busy");
    fs::write(&path, vec![0_u8; 3 << 20]).expect("written");
    let stop = std::sync::atomic::AtomicBool::new(false);
    let file = File::options().write(true).open(&path).expect("opened");
    let captured = std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut at = 0;
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                at = (at + 4099) % (3 << 20);
                file.write_all_at(b"x", at).expect("written");
            }
        });
        let deadline = Instant::now() + Duration::from_secs(20);
        let captured = loop {
            let captured = place.capture();
            if !captured.unstable.is_empty() || Instant::now() > deadline {
                break captured;
            }
        };
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        captured
    });
    assert_eq!(captured.unstable, [Text::from("in/busy")]);
    let back = place.give_back(&place.capture());
    assert_eq!(describe(&back), describe(&place.input()));
}

fn only_file(dir: &Path) -> PathBuf {
    let mut entries = fs::read_dir(dir).expect("readable");
    let path = entries.next().expect("one file").expect("entry").path();
    assert!(entries.next().is_none());
    path
}

#[test]
fn a_lost_pack_makes_its_files_be_read_again() {
    let place = Place::new();
    fs::write(place.input().join("small"), "small").expect("written");
    fs::write(place.input().join("large"), vec![3_u8; 5 << 20]).expect("written");
    let first = place.capture();
    let settled = place.capture_settled();
    assert_eq!(first.snapshot, settled.snapshot);
    for lost in ["packs", "large"] {
        fs::remove_file(only_file(&place.state().join("snapshots").join(lost))).expect("removed");
        let again = place.capture();
        assert_eq!(again.input_hash, first.input_hash);
        assert_eq!(describe(&place.give_back(&again)), describe(&place.input()));
    }
}

#[test]
fn a_flipped_byte_in_a_pack_is_found_and_never_given_out() {
    let place = Place::new();
    fs::write(place.input().join("a"), "some content").expect("written");
    fs::write(place.input().join("b"), "other content").expect("written");
    let captured = place.capture();
    let store = place.store();
    assert_eq!(store.check(), []);
    let manifest = store.load(&captured.snapshot).expect("loaded");
    let pack = only_file(&place.state().join("snapshots/packs"));
    let whole = fs::read(&pack).expect("read");
    for at in 0..whole.len() {
        let mut damaged = whole.clone();
        damaged[at] ^= 0x10;
        fs::write(&pack, &damaged).expect("written");
        assert!(!store.check().is_empty(), "byte {at} of {}", whole.len());
        let dest = place.dir.path().join("out");
        match store.materialise(&manifest, &dest) {
            Err(MaterialiseError::Load(LoadError::Damaged { path, .. })) => assert_eq!(path, pack),
            // A byte of the manifest, which is loaded already.
            Ok(()) => assert!(store.load(&captured.snapshot).is_err() || at < 16),
            Err(other) => panic!("{other}"),
        }
        let _ = fs::remove_dir_all(&dest);
    }
}

#[test]
fn a_flipped_byte_in_the_stat_table_is_never_believed() {
    let place = Place::new();
    fs::write(place.input().join("a"), "some content").expect("written");
    let first = place.capture();
    let settled = place.capture_settled();
    assert_eq!(first.snapshot, settled.snapshot);
    let table = only_file(&place.state().join("cache"));
    let whole = fs::read(&table).expect("read");
    for at in 0..whole.len() {
        let mut damaged = whole.clone();
        damaged[at] ^= 0x10;
        fs::write(&table, &damaged).expect("written");
        let again = place.capture();
        assert_eq!((again.input_hash, again.files), (first.input_hash, 1), "byte {at}");
        let manifest = place.store().load(&again.snapshot).expect("loaded");
        assert_eq!(manifest.root_digest(), first.input_hash);
    }
    assert_eq!(place.store().check(), []);
}

#[test]
fn past_the_limit_nothing_is_stored_and_the_largest_are_named() {
    let place = Place::new();
    for (dir, bytes) in [("one", 100_000), ("two", 300_000), ("three", 200_000), ("four", 50_000)] {
        fs::create_dir(place.input().join(dir)).expect("made");
        fs::write(place.input().join(dir).join("f"), vec![1; bytes]).expect("written");
    }
    let policy = CapturePolicy { limit_bytes: 500_000, ..CapturePolicy::default() };
    let Err(CaptureError::TooLarge { largest, .. }) = place.try_capture(&policy) else { panic!("was captured") };
    let expected = [("in/two", 300_000), ("in/three", 200_000), ("in/one", 100_000)];
    assert_eq!(largest, expected.map(|(path, bytes)| (Text::from(path), bytes)));
    assert_eq!(
        walkdir::WalkDir::new(place.state())
            .into_iter()
            .filter(|e| e.as_ref().is_ok_and(|e| e.file_type().is_file()))
            .count(),
        0
    );
    let exclude = Exclude::new(&["in/two".to_owned()]).expect("patterns");
    assert_eq!(place.try_capture(&CapturePolicy { exclude, ..policy }).expect("captured").files, 3);
}

#[test]
fn the_state_directory_and_sockets_are_left_out() {
    let place = Place::new();
    fs::write(place.input().join("f"), "f").expect("written");
    fs::create_dir(place.input().join(".state")).expect("made");
    fs::write(place.input().join(".state/secret"), "s").expect("written");
    let _socket = std::os::unix::net::UnixListener::bind(place.input().join("socket")).expect("bound");
    let policy = CapturePolicy { skip: vec![place.input().join(".state")], ..CapturePolicy::default() };
    let captured = place.try_capture(&policy).expect("captured");
    assert_eq!((captured.files, captured.skipped), (1, 1));
    let manifest = place.store().load(&captured.snapshot).expect("loaded");
    assert_eq!(manifest.entries().len(), 2);
}

#[test]
fn a_missing_root_is_named_and_a_linked_one_followed() {
    let place = Place::new();
    let missing = CaptureRoot { name: "gone".into(), path: place.project().join("gone") };
    let store = place.store();
    let result = store.capture(&place.project(), &[missing], &CapturePolicy::default(), &|_| ());
    let Err(CaptureError::Unreadable { path, .. }) = result else { panic!("was captured") };
    assert_eq!(path, Text::from("gone"));
    fs::write(place.project().join("file"), "followed").expect("written");
    symlink("file", place.project().join("link")).expect("linked");
    let root = CaptureRoot { name: "link".into(), path: place.project().join("link") };
    let captured = store
        .capture(&place.project(), std::slice::from_ref(&root), &CapturePolicy::default(), &|_| ())
        .expect("captured");
    let manifest = store.load(&captured.snapshot).expect("loaded");
    assert_eq!(store.read_content(&manifest, &manifest.entries()[0]).expect("read"), b"followed");
    let sealed = hash_roots(&[root], &CapturePolicy::default()).expect("sealed");
    assert_eq!(sealed.manifest.entries()[0].target(), b"file");
}

#[test]
fn a_sealed_tree_that_is_touched_is_noticed_by_path() {
    let place = Place::new();
    make_rich_tree(&place.input());
    let policy = CapturePolicy::default();
    for (change, path) in [
        ("true", None),
        ("touch plain", None),
        ("printf HELLO > plain", Some("in/plain")),
        ("rm sub/zero", Some("in/sub/zero")),
        ("touch sub/zzz", Some("in/sub/zzz")),
        ("chmod 700 sub", Some("in/sub")),
        ("rm -rf sub", Some("in/sub")),
    ] {
        let sealed = hash_roots(&place.roots(), &policy).expect("sealed");
        shell(change, &place.input());
        let found = still_equal(&sealed, &place.roots(), &policy).expect("compared");
        assert_eq!(found, path.map(Text::from), "{change}");
    }
}

#[test]
fn a_fingerprint_changes_with_any_touch_and_a_rename_of_the_root_may_be_allowed() {
    let place = Place::new();
    make_rich_tree(&place.input());
    let target = place.input();
    let before = fingerprint(&target, RootChange::RenameAllowed).expect("walked");
    assert!(before.is_some());
    assert_eq!(fingerprint(&target, RootChange::RenameAllowed).expect("walked"), before);
    let moved = place.project().join("moved");
    fs::rename(&target, &moved).expect("renamed");
    assert_eq!(fingerprint(&moved, RootChange::RenameAllowed).expect("walked"), before);
    assert_eq!(fingerprint(&target, RootChange::Counts).expect("walked"), None);
    shell("touch sub/zero", &moved);
    assert_ne!(fingerprint(&moved, RootChange::RenameAllowed).expect("walked"), before);
}

#[test]
fn what_a_killed_capture_left_is_swept_and_what_a_live_one_writes_is_not() {
    let place = Place::new();
    fs::write(place.input().join("f"), "f").expect("written");
    place.capture();
    let snapshots = place.state().join("snapshots");
    fs::write(snapshots.join("tmp-1-0"), "left").expect("written");
    let live = File::create(snapshots.join("tmp-2-0")).expect("created");
    live.lock().expect("locked");
    assert_eq!(place.store().sweep_temporaries().expect("swept"), 1);
    assert!(snapshots.join("tmp-2-0").exists() && !snapshots.join("tmp-1-0").exists());
    drop(live);
    assert_eq!(place.store().sweep_temporaries().expect("swept"), 1);
    assert_eq!(place.store().check(), []);
}

#[test]
fn the_store_is_private() {
    let place = Place::new();
    fs::write(place.input().join("f"), "f").expect("written");
    fs::write(place.input().join("large"), vec![1; 5 << 20]).expect("written");
    place.capture();
    for entry in walkdir::WalkDir::new(place.state()).min_depth(1) {
        let entry = entry.expect("entry");
        let mode = entry.metadata().expect("stat").mode() & 0o7777;
        assert_eq!(mode, if entry.file_type().is_dir() { 0o700 } else { 0o600 }, "{:?}", entry.path());
    }
}

//! A run that failed in one place replays in another: bundles carry all that it needs, and no secret.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use agentguard::model::Status;

use crate::project::{Outcome, Project, feed, is_root};

/// Frozen inputs with links, pipes and modes, standard input, and staging that starts from what is there.
const SCRIPT: &str = "cat > $AGENTGUARD_STAGING/from-stdin; cat $AGENTGUARD_INPUTS/data/sub/b >> $AGENTGUARD_STAGING/old; \
                      readlink $AGENTGUARD_INPUTS/data/link; stat -c %a $AGENTGUARD_INPUTS/data/tool; exit 7";

fn failing() -> Project {
    let project = Project::new();
    project.write("data/a", "one\n");
    project.write("data/sub/b", vec![b'x'; 5 << 20]);
    project.write("data/tool", "#!/bin/sh\n");
    fs::create_dir(project.join("data/empty")).expect("directory");
    std::os::unix::fs::symlink("sub/b", project.join("data/link")).expect("link");
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(project.join("data/tool"), fs::Permissions::from_mode(0o750)).expect("mode");
    project.write("report/old", "old\n");
    let options = ["run", "--input", "data", "--out", "report", "--out-from", "current", "--", "sh", "-c", SCRIPT];
    let mut command = project.command(&options);
    let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    feed(child.expect("spawned"), b"from the pipe\n").exits(7);
    project
}

fn exported(project: &Project, reference: &str) -> Vec<u8> {
    project.ag(&["export", reference, "-o", "-"]).exits(0).stdout
}

fn bundle(place: &Project, bytes: &[u8]) -> String {
    let path = place.outside("run.tar.zst");
    fs::write(&path, bytes).expect("a bundle");
    path.to_string_lossy().into_owned()
}

#[test]
fn a_failing_run_is_reproduced_where_its_project_never_was() {
    let (original, bytes) = {
        let project = failing();
        (project.last(), exported(&project, "@"))
    };
    let here = Project::new();
    let file = bundle(&here, &bytes);
    here.ag(&["import", &file]).exits(0);
    let imported = here.last();
    assert_eq!((imported.run_id, imported.input_hash), (original.run_id, original.input_hash));
    assert_eq!(imported.output_hash, original.output_hash);
    let replayed = here.ag(&["replay", "@"]).exits(0).says("reproduced").says("recorded in");
    assert_eq!(replayed.text(), "sub/b\n750\n");
    assert!(here.ag(&["show", "@-1"]).exits(0).text().contains("imported    recorded in"));
    assert_eq!(here.ag(&["show", "@-1", "--stdout"]).exits(0).text(), "sub/b\n750\n");
    here.ag(&["show", "@-1", "--manifest", "inputs"]).exits(0);
    here.ag(&["fsck"]).exits(0);
    assert_eq!(here.visible_names(), Vec::<String>::new(), "a replay publishes nothing");
    assert_eq!(here.leftovers(), Vec::<String>::new());
}

#[test]
fn a_workspace_run_is_reproduced_from_the_bundles_file_alone() {
    let script = "grep -c fn src/lib.rs; echo more >> src/lib.rs; rm src/gone; mkdir made; echo x > made/x; exit 9";
    let (original, bytes) = {
        let project = Project::new();
        project.write("src/lib.rs", "fn a() {}\nfn b() {}\n");
        project.write("src/gone", "y");
        project.run(&[], script).exits(9);
        (project.last(), exported(&project, "@failed"))
    };
    let here = Project::new();
    here.write("other", "stays\n");
    let replayed = here.ag(&["replay", &bundle(&here, &bytes)]).exits(0).says("reproduced");
    assert_eq!(replayed.text(), "2\n");
    assert_eq!(here.last().replay_of, Some(original.run_id));
    assert_eq!(here.visible_names(), ["other"], "nothing of the run is in the project");
    // What it had changed can be looked at: contents came along.
    let diff = here.ag(&["diff", &original.run_id.to_string()]).text();
    assert!(diff.contains("+more"), "{diff}");
    here.ag(&["replay", &bundle(&here, &bytes)]).exits(0);
    here.ag(&["fsck"]).exits(0);
}

#[test]
fn another_user_reproduces_what_root_has_recorded() {
    use std::os::unix::fs::chown;
    use std::os::unix::process::CommandExt as _;
    const USER: u32 = 65534;
    if !is_root() {
        return crate::project::skip("root", "only root can be two users");
    }
    let script = "cat data/a; echo new > data/a; touch b; exit 3";
    let (files, here) = {
        let there = Project::new();
        there.write("data/a", "one\n");
        there.run(&[], script).exits(3);
        let workspace = exported(&there, "@");
        let publish = failing();
        ([workspace, exported(&publish, "@")], Project::new())
    };
    let program = here.outside("agentguard");
    fs::copy(crate::project::binary(), &program).expect("copied");
    let mut owned = vec![here.path(), here.outside(""), here.join("agentguard.toml")];
    for (number, bytes) in files.iter().enumerate() {
        let path = here.outside(format!("{number}.tar.zst"));
        fs::write(&path, bytes).expect("a bundle");
        owned.push(path);
    }
    owned.iter().for_each(|path| chown(path, Some(USER), Some(USER)).expect("given away"));
    let run = |arguments: &[&str]| {
        let mut command = here.command(arguments);
        let mut own = std::process::Command::new(&program);
        own.args(command.get_args()).envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        own.env_remove("AGENTGUARD_STATE_DIR").current_dir(here.path()).stdin(Stdio::null()).uid(USER).gid(USER);
        command.stdin(Stdio::null());
        Outcome::of(own.output().expect("runs"))
    };
    for number in 0..files.len() {
        let path = here.outside(format!("{number}.tar.zst"));
        run(&["replay", &path.to_string_lossy()]).exits(0).says("reproduced");
    }
    run(&["fsck"]).exits(0);
}

#[test]
fn no_secret_of_arguments_environment_or_output_is_in_a_bundle() {
    const VALUES: [&str; 6] = [
        "hunter2-in-argv-0001",
        "hunter2-in-environment-0002",
        "sk-hunter2hunter2hunter20003",
        "hunter2-in-verify-0004",
        "hunter2-password-0005",
        "hunter2-b3BlbnNzaC1rZXk-0006",
    ];
    let project = Project::new();
    let script = "echo argv is hunter2-in-argv-0001; echo $DEPLOY_TOKEN >&2; echo sk-hunter2hunter2hunter20003; \
                  echo '{\"password\": \"hunter2-password-0005\"}'; \
                  printf -- '-----BEGIN PRIVATE KEY-----\\nhunter2-b3BlbnNzaC1rZXk-0006\\n-----END PRIVATE KEY-----\\n'; exit 5";
    let verify = "echo TOKEN=hunter2-in-verify-0004; false";
    for end in ["exit 5", "true"] {
        let script = script.replace("exit 5", end);
        let arguments = [
            "run",
            "--out",
            "o",
            "--retries",
            "1",
            "--backoff",
            "1ms",
            "--record-env",
            "DEPLOY_TOKEN",
            "--label",
            "api_key=hunter2-in-argv-0001",
            "--verify",
            verify,
            "--",
            "sh",
            "-c",
            &script,
            "--api-key",
            "hunter2-in-argv-0001",
        ];
        let mut command = project.command(&arguments);
        Outcome::of(command.env("DEPLOY_TOKEN", "hunter2-in-environment-0002").output().expect("runs"));
    }
    assert_eq!(project.records().len(), 2);
    project.ag(&["export", "--all-failed", "-o", "all.tar.zst"]).exits(0);
    let packed = fs::read(project.join("all.tar.zst")).expect("a bundle");
    let plain = zstd::decode_all(&packed[..]).expect("zstd");
    for value in VALUES {
        let found = memchr::memmem::find(&plain, value.as_bytes());
        let around = found.map(|at| String::from_utf8_lossy(&plain[at.saturating_sub(200)..at + 40]).into_owned());
        assert_eq!(around, None, "{value} is in the bundle");
    }
    assert!(memchr::memmem::find(&plain, b"argv is [redacted]").is_some(), "the rest of the output is there");
    let here = Project::new();
    let file = bundle(&here, &packed);
    here.ag(&["import", &file]).exits(0);
    here.ag(&["replay", "@"]).exits(125).says("lost its secrets").says("--api-key");
    here.ag(&["replay", "@", "--", "sh", "-c", "exit 5"]).exits(5);
    here.ag(&["fsck"]).exits(0);
}

#[test]
fn the_same_runs_make_the_same_bytes_and_importing_them_again_changes_nothing() {
    let project = failing();
    let bytes = exported(&project, "@");
    assert!(bytes == exported(&project, "@"));
    let here = Project::new();
    let file = bundle(&here, &bytes);
    here.ag(&["import", &file]).exits(0);
    let log = fs::read(here.state().join("runs.jsonl")).expect("the log");
    let again = here.ag(&["import", &file]).exits(0);
    assert!(again.text().contains("is here already, the same"));
    assert_eq!(fs::read(here.state().join("runs.jsonl")).expect("the log"), log);
    // Also where it was recorded, and of what was imported itself.
    assert!(project.ag(&["import", &file]).exits(0).text().contains("already"));
    let there = Project::new();
    there.ag(&["import", &bundle(&there, &exported(&here, "@"))]).exits(0);
    there.ag(&["replay", "@"]).exits(0).says("reproduced");
}

#[test]
fn all_failed_runs_go_into_one_bundle_or_one_each_and_none_is_no_error() {
    let project = Project::new();
    project.ag(&["export", "--all-failed", "-o", "x.tar.zst"]).exits(0).says("no failed run");
    project.run(&["--out", "o"], "true").exits(0);
    project.ag(&["export", "--all-failed", "-o", "x.tar.zst"]).exits(0).says("no failed run");
    assert!(!project.join("x.tar.zst").exists());
    for code in 1..=3 {
        project.run(&["--out", "o"], &format!("exit {code}")).exits(code);
    }
    let acknowledged = project.last().run_id;
    project.ag(&["failed", "ack", &acknowledged.to_string(), "--reason", "known"]).exits(0);
    project.ag(&["export", "--all-failed", "-o", "x.tar.zst"]).exits(0).says("2 runs");
    project.ag(&["export", "--all-failed", "-o", "each/"]).exits(0);
    assert_eq!(fs::read_dir(project.join("each")).expect("a directory").count(), 2);
    let here = Project::new();
    let many = project.join("x.tar.zst").to_string_lossy().into_owned();
    here.ag(&["replay", &many]).exits(125).says("held 2 runs").says("agentguard replay");
    assert_eq!(here.records().len(), 2);
    let before = project.visible_names();
    project.ag(&["export", "@", "-o", "no/such/place.tar.zst"]).exits(125);
    assert_eq!(project.visible_names(), before);
}

#[test]
fn a_held_run_arrives_as_one_that_was_dropped_and_replays() {
    let project = Project::new();
    project.write("f", "1\n");
    project.run(&["--hold"], "echo 2 > f").exits(0);
    let bytes = exported(&project, "@");
    let here = Project::new();
    let file = bundle(&here, &bytes);
    here.ag(&["import", &file]).exits(0);
    assert_eq!(here.last().status, Status::Held);
    here.ag(&["apply", "@"]).exits(125);
    here.ag(&["undo", "@"]).exits(125);
    here.ag(&["replay", "@"]);
    assert_eq!(here.visible_names(), Vec::<String>::new());
    here.ag(&["fsck"]).exits(0);
}

/// Struck at a point of the import: nothing is visible, or after the next command all of it.
#[test]
fn an_import_that_is_killed_leaves_nothing_or_is_completed() {
    let project = failing();
    project.run(&["--input", "data", "--out", "o"], "exit 2").exits(2);
    project.ag(&["export", "--all-failed", "-o", "all.tar.zst"]).exits(0);
    let file = project.join("all.tar.zst").to_string_lossy().into_owned();
    let mut seen = Vec::new();
    for point in ["snapshot.contents_written", "import.verified", "import.intended", "import.placed", "import.logged"] {
        for kind in ["kill", "eio"] {
            let here = Project::new();
            let mut command = here.command(&["import", &file]);
            let struck =
                Outcome::of(command.env("AGENTGUARD_FAULT", format!("{point}:{kind}")).output().expect("runs"));
            assert_eq!(struck.code, (kind == "eio").then_some(125), "{point}:{kind}: {}", struck.stderr);
            let visible = here.ag(&["log", "--format", "jsonl"]).exits(0).text().lines().count();
            assert!([0, 2].contains(&visible), "{point}: {visible} of 2 runs are visible");
            here.ag(&["recover"]).exits(0);
            let count = here.records().len();
            assert!(visible == 0 || count == 2, "{point}: what was visible stays");
            assert!(!here.state().join("import").exists(), "{point}: leftovers are swept");
            here.ag(&["fsck"]).exits(0);
            here.ag(&["import", &file]).exits(0);
            assert_eq!(here.records().len(), 2);
            here.ag(&["replay", "@"]).exits(0).says("reproduced");
            seen.push(count);
        }
    }
    assert!(seen.contains(&0) && seen.contains(&2), "{seen:?}");
}

/// A bundle taken apart, to be put together otherwise.
#[derive(Clone)]
struct Parts(Vec<(String, tar::EntryType, Vec<u8>)>);

impl Parts {
    fn of(bundle: &[u8]) -> Self {
        let mut archive = tar::Archive::new(zstd::Decoder::new(bundle).expect("zstd"));
        let entries = archive.entries().expect("tar").map(|entry| {
            let mut entry = entry.expect("an entry");
            let name = entry.path().expect("a path").to_string_lossy().into_owned();
            let mut bytes = Vec::new();
            std::io::Read::read_to_end(&mut entry, &mut bytes).expect("read");
            (name, entry.header().entry_type(), bytes)
        });
        Self(entries.collect())
    }

    fn packed(&self) -> Vec<u8> {
        zstd::encode_all(&self.tar()[..], 1).expect("zstd")
    }

    fn tar(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for (name, kind, bytes) in &self.0 {
            let mut header = tar::Header::new_ustar();
            // Not by `set_path`, which refuses what these tests are about.
            header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
            header.set_entry_type(*kind);
            header.set_size(bytes.len() as u64);
            header.set_cksum();
            out.extend_from_slice(header.as_bytes());
            out.extend_from_slice(bytes);
            out.resize(out.len().next_multiple_of(512), 0);
        }
        out.resize(out.len() + 1024, 0);
        out
    }

    fn at(&self, name: &str) -> usize {
        self.0.iter().position(|(other, _, _)| other.ends_with(name)).unwrap_or_else(|| panic!("{name}"))
    }

    fn with(&self, change: impl FnOnce(&mut Vec<(String, tar::EntryType, Vec<u8>)>)) -> Self {
        let mut changed = self.clone();
        change(&mut changed.0);
        changed
    }

    /// One file of the run changed, and the header made to agree with it.
    fn forged(&self, name: &str, change: impl FnOnce(&mut String)) -> Self {
        use sha2::Digest as _;
        let at = self.at(name);
        self.with(|parts| {
            let before = parts[at].2.clone();
            let mut text = String::from_utf8(before.clone()).expect("text");
            change(&mut text);
            assert_ne!(text.as_bytes(), before, "nothing was forged in {name}");
            let hash =
                |bytes: &[u8]| sha2::Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect::<String>();
            let header = String::from_utf8(parts[0].2.clone()).expect("text");
            let (old, new) = (
                format!("\"size\":{},\"sha256\":\"{}\"", before.len(), hash(&before)),
                format!("\"size\":{},\"sha256\":\"{}\"", text.len(), hash(text.as_bytes())),
            );
            assert!(header.contains(&old));
            parts[0].2 = header.replace(&old, &new).into_bytes();
            parts[at].2 = text.into_bytes();
        })
    }
}

/// Refused with these words, and nothing is there afterwards.
#[track_caller]
fn refused(bytes: &[u8], options: &[&str], words: &str) {
    let here = Project::new();
    let file = bundle(&here, bytes);
    let outcome = here.ag(&[&["import", &file], options].concat()).exits(125);
    assert!(outcome.stderr.contains(words), "not said: {words:?}: {}", outcome.stderr);
    assert!(!outcome.stderr.contains('\x1b'), "{}", outcome.stderr);
    assert_eq!(here.records().len(), 0);
    for name in ["runs", "snapshots", "import"] {
        let left: Vec<PathBuf> = fs::read_dir(here.state().join(name))
            .map(|entries| entries.map(|entry| entry.expect("entry").path()).collect())
            .unwrap_or_default();
        assert_eq!(left, Vec::<PathBuf>::new(), "{words}");
    }
    assert!(!Path::new("/tmp/ag-escaped").exists() && here.visible_names().is_empty());
    here.ag(&["fsck"]).exits(0);
}

#[test]
fn a_hostile_bundle_is_refused_whole() {
    let project = failing();
    let good = Parts::of(&exported(&project, "@"));
    let content = good.at(&good.0.last().expect("contents").0.clone());
    let regular = tar::EntryType::Regular;
    let extra = |name: &str, kind| {
        let name = name.to_owned();
        good.with(|parts| parts.insert(1, (name, kind, Vec::new()))).packed()
    };
    refused(&extra("/tmp/ag-escaped", regular), &[], "absolute path");
    refused(&extra("runs/../../../tmp/ag-escaped", regular), &[], "leads out of the bundle");
    refused(&extra("runs/link", tar::EntryType::Symlink), &[], "is a link");
    refused(&extra("runs/link", tar::EntryType::Link), &[], "is a link");
    for kind in [tar::EntryType::Fifo, tar::EntryType::Char, tar::EntryType::Directory, tar::EntryType::GNULongName] {
        refused(&extra("runs/x", kind), &[], "regular files only");
    }
    refused(&extra("runs/\x1b[31m", regular), &[], "stands where");
    refused(&good.with(|parts| parts.push(parts[content].clone())).packed(), &[], "more than its header lists");
    let twice = good.with(|parts| {
        let first = parts.iter().position(|part| part.0.starts_with("contents/")).expect("contents");
        parts[content] = parts[first].clone();
    });
    refused(&twice.packed(), &[], "there twice");
    refused(&good.with(|parts| drop(parts.pop())).packed(), &[], "truncated");
    refused(&good.with(|parts| parts[content].2[0] ^= 1).packed(), &[], "its hash is another one");
    refused(&good.with(|parts| parts[content].2.push(0)).packed(), &[], "is not what it is said to be");
    let manifest = good.at(&good.0.iter().find(|part| part.0.starts_with("manifests/")).expect("a listing").0.clone());
    refused(&good.with(|parts| parts[manifest].2[60] ^= 1).packed(), &[], "is not what it is said to be");
    refused(&[&good.packed()[..], b"more"].concat(), &[], "cannot");
    refused(&[good.packed(), zstd::encode_all(&b"more"[..], 1).expect("zstd")].concat(), &[], "follows its end");
    refused(&good.packed(), &["--limit", "1MiB"], "--limit");
    refused(b"", &[], "cannot import");
    refused(&zstd::encode_all(&vec![0_u8; 100 << 20][..], 1).expect("zstd"), &[], "no bundle");
    refused(&vec![b'x'; 10_000], &[], "no bundle");
}

#[test]
fn a_forged_bundle_is_refused_even_where_all_its_own_hashes_agree() {
    let project = failing();
    let original = project.last();
    let good = Parts::of(&exported(&project, "@"));
    let hash = original.input_hash.expect("inputs").to_string();
    let other = "0".repeat(64);
    refused(&good.forged("record.json", |text| *text = text.replace(&hash, &other)).packed(), &[], "another run");
    let both = good.forged("record.json", |text| *text = text.replace(&hash, &other));
    refused(&both.forged("journal", |text| *text = text.replace(&hash, &other)).packed(), &[], "input_hash");
    let output = original.output_hash.expect("outputs").to_string();
    let both = good.forged("record.json", |text| *text = text.replace(&output, &other));
    refused(&both.forged("journal", |text| *text = text.replace(&output, &other)).packed(), &[], "output_hash");
    let id = original.run_id.to_string();
    let stranger = id.replace(&id[30..], "abcdef");
    refused(&good.forged("record.json", |text| *text = text.replace(&id, &stranger)).packed(), &[], "another run");
    refused(&good.forged("run.json", |text| *text = text.replace(&id, &stranger)).packed(), &[], "another run");
    refused(&good.forged("run.json", |text| text.insert(0, '[')).packed(), &[], "run.json");
    let newer = |name, from: &str, to: &str| good.forged(name, |text| *text = text.replacen(from, to, 1)).packed();
    refused(&newer("record.json", "\"schema\":1", "\"schema\":7"), &[], "newer format 7");
    refused(&newer("run.json", "\"schema\":1", "\"schema\":7"), &[], "newer format 7");
    let header = |from: &str, to: &str| {
        good.with(|parts| {
            let text = String::from_utf8(parts[0].2.clone()).expect("text");
            assert!(text.contains(from), "{text}");
            parts[0].2 = text.replacen(from, to, 1).into_bytes();
        })
    };
    refused(&header("\"version\":1", "\"version\":2").packed(), &[], "newer format 2");
    refused(&header("agentguard-bundle", "other").packed(), &[], "no bundle");
    refused(&header("\"name\":\"journal\"", "\"name\":\"../../x\"").packed(), &[], "no file of a run");
    refused(&header("\"content_bytes\":", "\"content_bytes\":99999999").packed(), &[], "--limit");
    // A run that is here under this id already, and is another one.
    let here = Project::new();
    let file = bundle(&here, &good.packed());
    here.ag(&["import", &file]).exits(0);
    let log = fs::read(here.state().join("runs.jsonl")).expect("the log");
    let agent = |text: &mut String| *text = text.replace("\"agent\":\"sh\"", "\"agent\":\"zz\"");
    let changed = good.forged("record.json", agent).forged("journal", agent).packed();
    here.ag(&["import", &bundle(&here, &changed)]).exits(125).says("not as the bundle has it");
    assert_eq!(fs::read(here.state().join("runs.jsonl")).expect("the log"), log);
}

#[test]
fn a_bundle_that_was_cut_anywhere_is_refused() {
    let project = Project::new();
    project.write("in", "content\n");
    project.run(&["--input", "in", "--out", "o"], "exit 1").exits(1);
    let whole = exported(&project, "@");
    for part in 0..12 {
        refused(&whole[..whole.len() * part / 12], &[], "cannot import");
    }
    for short in 1..6 {
        refused(&whole[..whole.len() - short], &[], "cannot import");
    }
}

//! Every run is in the log exactly once, whole, and in a chain that `sha256sum` can recompute.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use agentguard::model::RunRecord;
use agentguard::store::log::{Problem, ProblemKind, RunLog};
use tempfile::TempDir;

use crate::support::{record, run_id, validate_record};

struct Project {
    dir: TempDir,
    log: RunLog,
}

impl Project {
    fn new() -> Self {
        let dir = TempDir::new().expect("temporary directory");
        let log = RunLog::at(dir.path());
        Self { dir, log }
    }

    fn with_runs(count: u64) -> Self {
        let project = Self::new();
        (0..count).for_each(|number| project.append(number));
        project
    }

    fn append(&self, number: u64) {
        let appended = self.log.append(&mut record(number)).expect("append");
        assert_eq!(appended.repaired, None);
    }

    fn bytes(&self) -> Vec<u8> {
        fs::read(self.log.path()).expect("log")
    }

    fn lines(&self) -> Vec<String> {
        let text = String::from_utf8(self.bytes()).expect("a log is text");
        assert!(text.is_empty() || text.ends_with('\n'));
        text.lines().inspect(|line| validate_record(line)).map(str::to_owned).collect()
    }

    fn problems(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        let checked = self.log.check(&mut |problem| problems.push(problem)).expect("check");
        assert_eq!(checked.problems, problems.len() as u64);
        problems
    }

    fn torn_files(&self) -> Vec<PathBuf> {
        let names = fs::read_dir(self.dir.path()).expect("state directory").map(|entry| entry.expect("entry").path());
        names.filter(|path| path.to_string_lossy().contains(".torn-")).collect()
    }

    /// Makes the log these bytes, appends run 99, and returns what was moved aside.
    fn append_after(&self, bytes: &[u8]) -> Option<Vec<u8>> {
        fs::write(self.log.path(), bytes).expect("write the log");
        let appended = self.log.append(&mut record(99)).expect("append");
        assert_eq!(appended.repaired.iter().cloned().collect::<Vec<_>>(), self.torn_files());
        appended.repaired.map(|path| {
            let torn = fs::read(&path).expect("what was torn");
            fs::remove_file(path).expect("remove it");
            torn
        })
    }
}

/// `prev` of each line, recomputed by coreutils.
fn hashes_by_sha256sum(path: &Path) -> Vec<String> {
    let script = r#"while IFS= read -r line; do printf '%s\n' "$line" | sha256sum | cut -c1-64; done < "$1""#;
    let ran = Command::new("bash").args(["-c", script, "bash"]).arg(path).output().expect("bash");
    String::from_utf8(ran.stdout).expect("hex").lines().map(str::to_owned).collect()
}

fn prev(line: &str) -> Option<String> {
    serde_json::from_str::<RunRecord>(line).expect("a record").prev.map(|digest| digest.to_string())
}

#[test]
fn each_line_names_the_sha256_of_the_line_before_it() {
    let project = Project::with_runs(5);
    let lines = project.lines();
    let hashes = hashes_by_sha256sum(project.log.path());
    assert_eq!(lines.len(), 5);
    assert_eq!(prev(&lines[0]), None);
    for at in 1..5 {
        assert_eq!(prev(&lines[at]).as_ref(), Some(&hashes[at - 1]));
    }
    assert_eq!(project.problems(), []);
}

#[test]
fn the_appended_record_is_the_stored_one_and_its_files_are_private() {
    let project = Project::with_runs(1);
    let mut appended = record(1);
    let _ = project.log.append(&mut appended).expect("append");
    assert!(appended.prev.is_some());
    assert_eq!(serde_json::from_str::<RunRecord>(&project.lines()[1]).expect("a record"), appended);
    for name in ["runs.jsonl", "runs.lock"] {
        let mode = fs::metadata(project.dir.path().join(name)).expect(name).permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
}

#[test]
fn fifty_writers_at_once_leave_fifty_whole_lines_and_one_chain() {
    let project = Project::new();
    std::thread::scope(|threads| {
        for number in 0..50 {
            let log = RunLog::at(project.dir.path());
            threads.spawn(move || {
                let mut record = record(number);
                record.labels.insert("padding".into(), "x".repeat(usize::try_from(number).expect("small") * 997));
                let _ = log.append(&mut record).expect("append");
            });
        }
    });
    let mut runs: Vec<_> = project.lines().iter().map(|line| serde_json::from_str::<RunRecord>(line)).collect();
    assert_eq!(runs.len(), 50);
    runs.sort_by_key(|run| run.as_ref().expect("a record").run_id);
    assert!(runs.iter().zip(0..).all(|(run, number)| run.as_ref().expect("a record").run_id == run_id(number)));
    assert_eq!(project.problems(), []);
}

const WRITER_DIR: &str = "AGENTGUARD_TEST_WRITER_DIR";
const WRITER_NUMBER: &str = "AGENTGUARD_TEST_WRITER_NUMBER";

/// The other half of the next test, which runs it in processes of their own; by itself it has nothing to do.
#[test]
fn a_writer_process_appends_until_it_is_killed() {
    let (Some(dir), Ok(writer)) = (std::env::var_os(WRITER_DIR), std::env::var(WRITER_NUMBER)) else { return };
    let log = RunLog::at(Path::new(&dir));
    let writer: u64 = writer.parse().expect("a number");
    for number in 0.. {
        let mut record = record(writer * 1_000_000 + number);
        record.labels.insert("padding".into(), "x".repeat(100_000));
        let _ = log.append(&mut record).expect("append");
    }
}

#[test]
fn processes_that_are_killed_while_they_append_leave_a_log_that_goes_on_whole() {
    let project = Project::new();
    let me = std::env::current_exe().expect("this test");
    let mut writers: Vec<_> = (0..4)
        .map(|number| {
            Command::new(&me)
                .args(["--exact", "log::a_writer_process_appends_until_it_is_killed"])
                .env(WRITER_DIR, project.dir.path())
                .env(WRITER_NUMBER, number.to_string())
                .stdout(std::process::Stdio::null())
                .spawn()
                .expect("spawn a writer")
        })
        .collect();
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    for (killed, writer) in (1..).zip(&mut writers) {
        while fs::metadata(project.log.path()).map_or(0, |log| log.len()) < killed * 2_000_000 {
            assert!(std::time::Instant::now() < deadline, "writers write");
            std::thread::yield_now();
        }
        writer.kill().expect("kill");
        writer.wait().expect("wait");
    }
    // A kill may fall between two pages of one write: then the tail is torn, kept aside, and the chain goes on.
    let _ = project.log.append(&mut record(999)).expect("append");
    let lines = project.lines();
    assert!(lines.len() >= 60, "{} lines", lines.len());
    assert_eq!(project.problems(), []);
}

#[test]
fn a_line_torn_at_any_byte_is_moved_aside_and_the_chain_goes_on() {
    let project = Project::with_runs(3);
    let whole = project.bytes();
    let last = project.lines()[2].len() + 1;
    let sound = whole.len() - last;
    for kept in 1..last {
        let torn = project.append_after(&whole[..sound + kept]);
        assert_eq!(torn.as_deref(), Some(&whole[sound..sound + kept]), "torn after {kept} bytes");
        assert_eq!(&project.bytes()[..sound], &whole[..sound]);
        assert_eq!(project.lines().len(), 3);
    }
    assert_eq!(project.problems(), []);
}

#[test]
fn zeros_and_half_lines_at_the_end_are_moved_aside_whether_or_not_a_newline_follows() {
    let project = Project::with_runs(3);
    let whole = project.bytes();
    let second_ends = project.lines()[..2].iter().map(|line| line.len() + 1).sum::<usize>();
    let mut zeroed_middle = whole.clone();
    zeroed_middle[second_ends + 40..second_ends + 300].fill(0);
    for (bytes, sound) in [
        ([whole.as_slice(), &[0; 4096]].concat(), whole.len()),
        ([whole.as_slice(), &[0; 100_000], b"\n"].concat(), whole.len()),
        ([whole.as_slice(), b"}\n\n{\"run_id\":\"x\"}\n"].concat(), whole.len()),
        (zeroed_middle, second_ends),
        (vec![0; 8192], 0),
    ] {
        assert_eq!(project.append_after(&bytes).as_deref(), Some(&bytes[sound..]));
        assert_eq!(project.problems(), []);
    }
}

#[test]
fn a_last_line_that_is_a_record_with_a_wrong_hash_stays_and_is_reported() {
    let project = Project::with_runs(2);
    let first = project.lines()[0].len() as u64 + 1;
    let second = project.bytes().len() as u64;
    let edited =
        String::from_utf8(project.bytes()).expect("text").replacen("\"agent\":\"writer\"", "\"agent\":\"wRiter\"", 1);
    assert_eq!(project.append_after(edited.as_bytes()), None);
    let broken = Problem { offset: first, kind: ProblemKind::ChainBroken { previous_offset: 0 } };
    assert_eq!(project.problems(), [broken]);
    assert!(project.bytes().len() as u64 > second);
}

#[test]
fn readers_pass_over_a_partial_last_line_and_a_missing_log_is_an_empty_one() {
    let project = Project::new();
    assert_eq!(project.log.newest_first().expect("no log").count(), 0);
    assert_eq!(project.log.in_order().expect("no log").count(), 0);
    assert!(!project.log.contains(&run_id(0)).expect("no log"));
    assert_eq!(project.problems(), []);
    (0..3).for_each(|number| project.append(number));
    let mut file = fs::OpenOptions::new().append(true).open(project.log.path()).expect("log");
    file.write_all(b"{\"run_id\":\"half").expect("write");
    let newest: Vec<_> = project.log.newest_first().expect("read").map(|line| line.expect("line")).collect();
    let mut oldest: Vec<_> = project.log.in_order().expect("read").map(|line| line.expect("line")).collect();
    oldest.reverse();
    assert_eq!(newest, oldest);
    assert_eq!(newest.len(), 3);
    let bytes = "{\"run_id\":\"half".len() as u64;
    let offset = fs::metadata(project.log.path()).expect("log").len() - bytes;
    assert_eq!(project.problems(), [Problem { offset, kind: ProblemKind::TornTail { bytes } }]);
}

#[test]
fn lines_of_any_size_are_read_from_both_ends() {
    let project = Project::new();
    let sizes = [0, 1 << 20, 10, 32_000, 33_000, 100_000, 1, 3 << 20, 65_536, 0];
    for (number, size) in (0..).zip(sizes) {
        let mut record = record(number);
        record.labels.insert("padding".into(), "x".repeat(size));
        let _ = project.log.append(&mut record).expect("append");
    }
    let mut newest: Vec<_> = project.log.newest_first().expect("read").map(|line| line.expect("line")).collect();
    newest.reverse();
    let oldest: Vec<_> = project.log.in_order().expect("read").map(|line| line.expect("line")).collect();
    assert!(newest == oldest);
    assert_eq!(oldest.len(), sizes.len());
    for (number, line) in (0..).zip(&oldest) {
        assert_eq!(line.record().expect("a record").run_id, run_id(number));
        assert!(project.log.contains(&run_id(number)).expect("find"));
    }
    assert!(!project.log.contains(&run_id(77)).expect("find"));
    assert_eq!(project.problems(), []);
}

#[test]
fn damage_a_duplicate_and_a_missing_line_are_each_reported_where_they_are() {
    let project = Project::with_runs(4);
    let lines = project.lines();
    let len = |at: usize| lines[at].len() as u64 + 1;
    let write = |lines: &[&str]| fs::write(project.log.path(), lines.join("\n") + "\n").expect("write");
    let broken = |offset, previous_offset| Problem { offset, kind: ProblemKind::ChainBroken { previous_offset } };

    write(&[&lines[0], &lines[2], &lines[3]]);
    assert_eq!(project.problems(), [broken(len(0), 0)]);

    write(&[&lines[1], &lines[2]]);
    assert_eq!(project.problems(), [Problem { offset: 0, kind: ProblemKind::BeginningGone }]);

    write(&[&lines[0], "garbage", &lines[2]]);
    let problems = project.problems();
    assert!(matches!(&problems[0], Problem { offset, kind: ProblemKind::Damaged(_) } if *offset == len(0)));
    assert_eq!(problems[1..], [broken(len(0) + 8, len(0))]);

    let again = project.log.append(&mut record(2)).expect("append");
    assert_eq!(again.repaired, None);
    let end = len(0) + 8 + len(2);
    assert_eq!(project.problems()[2..], [Problem { offset: end, kind: ProblemKind::Duplicate(run_id(2)) }]);
}

#[test]
fn a_full_disk_leaves_the_log_as_it_was_and_reserved_room_still_takes_a_line() {
    let Some(disk) = SmallDisk::mount() else { return };
    let log = RunLog::at(&disk.0);
    let _ = log.append(&mut record(0)).expect("append");
    let before = fs::read(log.path()).expect("log");
    let filler = disk.0.join("filler");
    // Fails once the disk is full, which is the point.
    let _full = fs::write(&filler, vec![b'x'; 16 << 20]);
    let mut large = record(1);
    large.labels.insert("padding".into(), "x".repeat(1 << 20));
    let error = log.append(&mut large).expect_err("no room");
    assert!(format!("{error:?}").contains("StorageFull"), "{error:?}");
    assert_eq!(fs::read(log.path()).expect("log"), before);

    fs::remove_file(&filler).expect("make room");
    log.reserve();
    let _full = fs::write(&filler, vec![b'x'; 16 << 20]);
    let mut usual = record(2);
    usual.labels.insert("padding".into(), "x".repeat(20_000));
    let _ = log.append(&mut usual).expect("the reserved room takes the line");
    assert_eq!(log.check(&mut |problem| panic!("{problem}")).expect("check").lines, 2);
}

/// A tmpfs of two MiB, unmounted with the value. `None`, said aloud, where this process may not mount.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount() -> Option<Self> {
        let dir = TempDir::new().expect("temporary directory").keep();
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=2m", "tmpfs"]).arg(&dir).output();
        if mounted.is_ok_and(|mount| mount.status.success()) {
            return Some(Self(dir));
        }
        let _empty = fs::remove_dir(&dir);
        let required = std::env::var("AGENTGUARD_TEST_REQUIRE").unwrap_or_default();
        assert!(!required.split(',').any(|feature| feature == "mount"), "mount is required and refused");
        let _ = writeln!(std::io::stderr(), "skipped: this process may not mount a small disk");
        None
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
        let _ = fs::remove_dir(&self.0);
    }
}

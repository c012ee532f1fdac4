//! The log in several files: `gc` closes the newest one, and nobody who reads can tell, but by the files' names.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};

use agentguard::model::RunId;
use agentguard::rules::run_ref::RunRef;
use agentguard::store::log::{ProblemKind, RunLog};
use tempfile::TempDir;

use crate::support::{record, run_id};

struct Scene {
    dir: TempDir,
    log: RunLog,
}

impl Scene {
    /// Nine lines, a new file before each third one.
    fn new() -> Self {
        let dir = TempDir::new().expect("temporary directory");
        let log = RunLog::at(dir.path());
        for number in 0..9 {
            if number > 0 && number % 3 == 0 {
                assert!(log.rotate(0).expect("rotated").is_some());
            }
            let _appended = log.append(&mut record(number)).expect("append");
        }
        Self { dir, log }
    }

    fn names(&self) -> Vec<String> {
        let files = self.log.files().expect("files");
        files.iter().map(|path| path.file_name().expect("a name").to_string_lossy().into_owned()).collect()
    }

    fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let _checked = self.log.check(&mut |problem| problems.push(self.log.describe(&problem))).expect("checked");
        problems
    }

    fn oldest_first(&self) -> Vec<RunId> {
        let lines = self.log.in_order().expect("opened");
        lines.map(|line| line.expect("read").head().expect("a record").run_id).collect()
    }
}

fn all() -> Vec<RunId> {
    (0..9).map(run_id).collect()
}

#[test]
fn every_reader_goes_on_over_the_files() {
    let scene = Scene::new();
    assert_eq!(scene.names(), ["runs-1.jsonl", "runs-2.jsonl", "runs.jsonl"]);
    assert_eq!(scene.problems(), Vec::<String>::new());
    assert_eq!(scene.oldest_first(), all());
    let newest = scene.log.newest_first().expect("opened");
    let mut newest: Vec<_> = newest.map(|line| line.expect("read")).collect();
    let before: Vec<_> = scene.log.before(&newest[2]).expect("opened").map(|line| line.expect("read")).collect();
    assert_eq!(before, newest[3..]);
    newest.reverse();
    let ids: Vec<RunId> = newest.iter().map(|line| line.head().expect("a record").run_id).collect();
    assert_eq!(ids, all());
    for (number, line) in newest.iter().enumerate() {
        let id = run_id(number as u64);
        assert!(scene.log.contains(&id).expect("looked up"));
        for reference in [RunRef::Id(id), RunRef::Back(8 - number), id.to_string()[24..].parse().expect("a part")] {
            assert_eq!(scene.log.find(&reference).expect("found"), *line, "{reference}");
        }
        let place = scene.log.locate(line.offset);
        let file = fs::read(&place.path).expect("a file");
        let at = usize::try_from(place.offset).expect("small");
        assert_eq!(&file[at..at + line.bytes.len()], line.bytes, "{place:?}");
    }
    assert!(!scene.log.contains(&run_id(99)).expect("looked up"));
}

#[test]
fn an_offset_stays_what_it_is_when_its_file_is_closed() {
    let scene = Scene::new();
    let last = scene.log.find(&RunRef::Back(0)).expect("found");
    assert!(scene.log.rotate(0).expect("rotated").is_some());
    assert_eq!(scene.log.find(&RunRef::Back(0)).expect("found"), last);
    assert!(scene.log.locate(last.offset).path.ends_with("runs-3.jsonl"));
    assert_eq!(scene.log.rotate(0).expect("nothing to close"), None);
    let _appended = scene.log.append(&mut record(9)).expect("append");
    assert_eq!(scene.problems(), Vec::<String>::new());
    assert_eq!(scene.oldest_first().len(), 10);
}

#[test]
fn only_a_file_that_is_long_enough_is_closed_and_its_torn_end_is_not_lost() {
    let scene = Scene::new();
    assert_eq!(scene.log.rotate(1 << 20).expect("looked at"), None);
    let mut bytes = fs::read(scene.log.path()).expect("the log");
    bytes.extend_from_slice(b"{\"run_id\":\"half");
    fs::write(scene.log.path(), bytes).expect("torn");
    let rotated = scene.log.rotate(1).expect("rotated").expect("closed");
    assert_eq!(fs::read(rotated.repaired.expect("set aside")).expect("kept"), b"{\"run_id\":\"half");
    assert_eq!(scene.problems(), Vec::<String>::new());
    assert_eq!(scene.oldest_first(), all());
}

#[test]
fn a_changed_or_missing_file_is_a_broken_chain() {
    let scene = Scene::new();
    fs::rename(scene.dir.path().join("runs-2.jsonl"), scene.dir.path().join("elsewhere")).expect("moved");
    let problems = scene.problems();
    assert_eq!(problems.len(), 1);
    assert!(problems[0].starts_with("runs.jsonl: the line at byte 0 does not follow the last line of runs-1.jsonl"));
    fs::rename(scene.dir.path().join("elsewhere"), scene.dir.path().join("runs-2.jsonl")).expect("moved back");
    fs::remove_file(scene.dir.path().join("runs-1.jsonl")).expect("removed");
    assert_eq!(scene.problems(), ["runs-2.jsonl: the line at byte 0 is the first and names one before it"]);

    let scene = Scene::new();
    let path = scene.dir.path().join("runs-1.jsonl");
    let text = fs::read_to_string(&path).expect("a segment");
    let at = text.rfind("agent.py").expect("in the last line");
    fs::write(&path, [&text[..at], "other.py", &text[at + 8..]].concat()).expect("changed");
    let mut kinds = Vec::new();
    let _checked = scene.log.check(&mut |problem| kinds.push(problem.kind)).expect("checked");
    assert!(matches!(kinds[..], [ProblemKind::ChainBroken { .. }]), "{kinds:?}");
}

#[test]
fn lines_that_are_added_while_files_are_closed_are_all_there_in_one_chain() {
    let scene = Scene::new();
    let (done, log) = (AtomicBool::new(false), &scene.log);
    std::thread::scope(|threads| {
        let writers: Vec<_> = (0..3_u64)
            .map(|writer| {
                threads.spawn(move || {
                    for number in 0..40 {
                        let _appended = log.append(&mut record(100 + writer * 1000 + number)).expect("append");
                    }
                })
            })
            .collect();
        let closer = threads.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                let _closed = log.rotate(1).expect("rotated");
            }
        });
        let reader = threads.spawn(|| {
            let mut seen = 9;
            while !done.load(Ordering::Relaxed) {
                let now = log.in_order().expect("opened").filter(Result::is_ok).count();
                assert!(now >= seen, "a reader lost lines that were there: {now} after {seen}");
                seen = now;
            }
        });
        writers.into_iter().for_each(|writer| writer.join().expect("a writer"));
        done.store(true, Ordering::Relaxed);
        closer.join().expect("the closer");
        reader.join().expect("the reader");
    });
    assert_eq!(scene.problems(), Vec::<String>::new());
    assert_eq!(scene.oldest_first().len(), 9 + 120);
}

#[test]
fn several_records_come_in_with_one_write_and_none_twice() {
    let scene = Scene::new();
    let mut records = [record(8), record(20), record(21)];
    let _appended = scene.log.append_missing(&mut records).expect("append");
    let _appended = scene.log.append_missing(&mut records).expect("append");
    assert_eq!(scene.problems(), Vec::<String>::new());
    assert_eq!(scene.oldest_first().len(), 11);
}

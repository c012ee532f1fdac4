//! `agentguard diff RUN` of real runs, before and after they are published, and `diff RUN RUN`.

use std::fs;

use agentguard::model::error_kind::Failure;
use agentguard::model::{ErrorClass, ErrorKind, Status};

use crate::project::Project;
use crate::recorded::{Kept, Trees};

#[test]
fn a_run_shows_the_same_changes_held_published_and_taken_back() {
    let project = Project::new();
    project.write("w/edited", "one\ntwo\n");
    project.write("w/removed/deep/f", "gone\n");
    project.write("w/replaced", "file\n");
    let script = "echo 3 >> edited; rm -r removed; rm replaced; mkdir replaced; echo in > replaced/x; echo new > new";
    let run = |options: &[&str]| {
        let arguments = [&["run", "--workspace", ".", "--quiet"][..], options, &["--", "sh", "-c", script]].concat();
        let mut command = project.command(&arguments);
        crate::project::Outcome::of(command.current_dir(project.join("w")).output().expect("runs"))
    };
    run(&["--hold"]).exits(0);
    let expected = "\
diff --git a/edited b/edited
--- a/edited
+++ b/edited
@@ -1,2 +1,3 @@
 one
 two
+3
diff --git a/new b/new
new file mode 100644
--- /dev/null
+++ b/new
@@ -0,0 +1 @@
+new
diff --git a/removed/deep/f b/removed/deep/f
deleted file mode 100644
--- a/removed/deep/f
+++ /dev/null
@@ -1 +0,0 @@
-gone
diff --git a/replaced b/replaced
deleted file mode 100644
--- a/replaced
+++ /dev/null
@@ -1 +0,0 @@
-file
diff --git a/replaced/x b/replaced/x
new file mode 100644
--- /dev/null
+++ b/replaced/x
@@ -0,0 +1 @@
+in
";
    assert_eq!(project.ag(&["diff", "@"]).exits(0).text(), expected);
    project.ag(&["apply", "@"]).exits(0);
    assert_eq!(project.ag(&["diff", "@"]).exits(0).text(), expected);
    project.ag(&["undo", "@"]).exits(0);
    assert_eq!(project.ag(&["diff", "@"]).exits(0).says("was taken back").text(), expected);
    let shown = project.ag(&["show", "@"]).exits(0).text();
    assert!(shown.contains("agentguard diff "), "{shown}");
}

#[test]
fn a_file_that_no_snapshot_holds_is_shown_as_it_was_before_and_after_the_commit() {
    let project = Project::new();
    project.write("w/.gitignore", "*.log\n");
    project.write("w/run.log", "one\n");
    fs::create_dir_all(project.join("w/.git/objects")).expect("made");
    fs::create_dir_all(project.join("w/.git/refs")).expect("made");
    project.write("w/.git/HEAD", "ref: refs/heads/main\n");
    project.write("w/.git/config", "[core]\n\trepositoryformatversion = 0\n");
    let arguments = ["run", "--workspace", ".", "--quiet", "--hold", "--", "sh", "-c", "echo two > run.log"];
    // Files carry the clock's coarse time: what was made in the tick before is not told from what was made after.
    std::thread::sleep(std::time::Duration::from_millis(50));
    let mut command = project.command(&arguments);
    crate::project::Outcome::of(command.current_dir(project.join("w")).output().expect("runs")).exits(0);
    let expected = "diff --git a/run.log b/run.log\n--- a/run.log\n+++ b/run.log\n@@ -1 +1 @@\n-one\n+two\n";
    assert_eq!(project.ag(&["diff", "@"]).exits(0).text(), expected);
    project.ag(&["apply", "@"]).exits(0);
    assert_eq!(project.ag(&["diff", "@"]).exits(0).text(), expected);
}

#[test]
fn outputs_of_publish_mode_are_shown_as_new_and_it_says_so() {
    let project = Project::new();
    project.run(&["--out", "o", "--quiet"], "echo one > $AGENTGUARD_STAGING/f; mkdir $AGENTGUARD_STAGING/e").exits(0);
    let outcome = project.ag(&["diff", "@"]).exits(0).says("replaced is not kept: all of them are shown as new");
    let expected = "# directory created, mode 0755: o/e/\ndiff --git a/o/f b/o/f\nnew file mode 100644\n--- /dev/null\n+++ b/o/f\n@@ -0,0 +1 @@\n+one\n";
    assert_eq!(outcome.text(), expected);
    assert_eq!(project.ag(&["diff", "@", "--name-status"]).exits(0).text(), "A\to/e/\nA\to/f\n");
    project.write("o/f", "changed since\n");
    assert!(
        project.ag(&["diff", "@"]).exits(0).text().contains("Files /dev/null and b/o/f (content not kept) differ\n")
    );
    project.run(&["--out", "o", "--quiet"], "exit 3").exits(3);
    assert_eq!(project.ag(&["diff", "@"]).exits(0).text(), "");
}

#[test]
fn two_runs_are_compared_fact_by_fact() {
    let trees = Trees::new();
    fs::write(trees.before().join("f"), "one\n").expect("written");
    fs::write(trees.after().join("f"), "two\n").expect("written");
    trees.record_as(1, Kept::Both, |_, spec| {
        spec.environment.insert("TZ".into(), "UTC".into());
        spec.environment.insert("API_TOKEN".into(), "first secret".into());
    });
    for number in 0..25 {
        fs::write(trees.before().join(format!("more {number:02}")), "").expect("written");
    }
    fs::write(trees.after().join("g"), "new\n").expect("written");
    trees.record_as(2, Kept::Both, |record, spec| {
        record.agent = "reader".into();
        record.command = vec!["sh".into(), "-c".into(), "two words".into()];
        record.isolation.view = "clone".into();
        record.status = Status::Failed;
        record.error_class = Some(ErrorClass::PartialWrite);
        record.error = Some(Failure::new(ErrorKind::ExitCode, "exited with 3"));
        record.exit_code = Some(3);
        record.tokens_used = Some(1200);
        record.cost_usd = Some(0.5);
        record.end_time = record.start_time;
        spec.environment.insert("TZ".into(), "CET\u{1b}".into());
        spec.environment.insert("API_TOKEN".into(), "second secret".into());
    });
    let text = trees.project.ag(&["diff", "@-1", "@"]).exits(0).text();
    for line in [
        "agent: writer -> reader\n",
        "command: python3 agent.py -> sh -c 'two words'\n",
        "view: overlay -> clone\n",
        "inputs: 25 added, 0 removed, 0 changed\n  added    workspace/more 00\n",
        "  added    workspace/more 19\n  and 5 more\n",
        "environment API_TOKEN: differs in what is redacted\n",
        "environment TZ: UTC -> CET\\x1b\n",
        "status: succeeded -> failed\n",
        "error class: none -> partial_write\n",
        "error: none -> exit_code\n",
        "exit code: 0 -> 3\n",
        "  added    g\n",
        "tokens: unknown -> 1200\n",
        "cost: unknown -> $0.5000\n",
        "duration: 400ms -> 0ms\n",
    ] {
        assert!(text.contains(line), "{line:?} is not in\n{text}");
    }
    assert!(!text.contains("secret") && !text.contains("cwd:") && !text.contains("mode:"), "{text}");
    let json = trees.project.ag(&["diff", "@-1", "@", "--json"]).exits(0);
    let json: serde_json::Value = serde_json::from_slice(&json.stdout).expect("JSON");
    let facts = json["facts"].as_array().expect("facts");
    let tokens = facts.iter().find(|fact| fact["fact"] == "tokens").expect("tokens");
    assert!(tokens["first"].is_null() && tokens["second"] == 1200);
    assert_eq!(json["inputs"].as_array().expect("paths").len(), 25);
    assert!(!json.to_string().contains("secret"));
    let same = trees.project.ag(&["diff", "@", "@"]).exits(0).text();
    assert!(same.ends_with(" do not differ\n"), "{same}");
    trees.project.ag(&["diff", "@", "@-1", "--stat"]).exits(125).says("name one run");
    fs::remove_dir_all(trees.project.state().join("snapshots")).expect("removed");
    let text = trees.project.ag(&["diff", "@-1", "@"]).exits(0).text();
    assert!(text.contains("inputs: differ; in which paths is not known: its snapshot cannot be read"), "{text}");
}

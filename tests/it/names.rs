//! Names with newlines, escape sequences, leading dashes or bytes that are no UTF-8 work everywhere; terminals never
//! receive them raw, JSON round-trips them.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use crate::project::Project;

fn odd_names() -> Vec<OsString> {
    let mut names: Vec<Vec<u8>> = [
        &b"new\nline"[..],
        b"esc\x1b[31mred",
        b"-rf",
        b"--",
        b"\xff\xfe",
        b"a b",
        b"colon:comma,back\\slash",
        b"\xe2\x80\xae",
        b"quote'\"",
        b"{staging}",
        b"tab\tname",
        b"*",
    ]
    .map(<[u8]>::to_vec)
    .to_vec();
    names.push(vec![b'n'; 255]);
    names.into_iter().map(OsString::from_vec).collect()
}

/// No control character, no escape sequence, no bidi override: nothing a terminal would obey.
#[track_caller]
fn harmless(text: &[u8]) {
    let shown = String::from_utf8_lossy(text);
    for letter in shown.chars() {
        let bad = (letter.is_control() && letter != '\n') || ('\u{202a}'..='\u{202e}').contains(&letter);
        assert!(!bad, "{letter:?} in {shown:?}");
    }
}

#[test]
fn odd_names_survive_run_log_show_and_replay_and_reach_no_terminal() {
    let project = Project::new();
    std::fs::create_dir(project.join("in")).expect("in");
    for name in odd_names() {
        std::fs::write(project.join("in").join(&name), name.as_bytes()).expect("written");
        std::os::unix::fs::symlink(
            &name,
            project
                .join("in")
                .join(OsString::from_vec([b"L".as_slice(), &name.as_bytes()[..name.len().min(200)]].concat())),
        )
        .expect("link");
    }
    project
        .run(
            &["--input", "in", "--out", "report", "--verify", "true"],
            "cp -a $AGENTGUARD_INPUTS/in/. $AGENTGUARD_STAGING/",
        )
        .exits(0);
    for name in odd_names() {
        assert_eq!(std::fs::read(project.join("report").join(&name)).expect("published"), name.as_bytes());
    }
    std::fs::remove_dir_all(project.join("in")).expect("removed");
    project.ag(&["replay", "@"]).exits(0).says("reproduced");
    for command in [&["log"][..], &["show", "@"], &["fsck"]] {
        let outcome = project.ag(command).exits(0);
        harmless(&outcome.stdout);
        harmless(outcome.stderr.as_bytes());
    }
}

#[test]
fn each_odd_name_works_as_an_input_an_output_and_an_argument() {
    for name in odd_names() {
        let project = Project::new();
        std::fs::write(project.join(&name), "x").expect("written");
        let joined = |prefix: &str| OsString::from_vec([prefix.as_bytes(), name.as_bytes()].concat());
        let mut arguments: Vec<OsString> = vec!["run".into(), joined("--input=./")];
        let out = OsString::from_vec([b"--out-file=out/".as_slice(), name.as_bytes()].concat());
        arguments.extend([out, "--label".into(), "k=v".into(), "--".into(), "sh".into(), "-c".into()]);
        arguments.push("cp -- \"$AGENTGUARD_INPUTS/$1\" \"$AGENTGUARD_STAGING/\"".into());
        arguments.extend(["sh".into(), name.clone()]);
        if name.as_bytes() == b"{staging}" {
            // An argument that is a placeholder is one: this name can only be used where none is expanded.
            continue;
        }
        let outcome = project.ag(&arguments).exits(0);
        harmless(outcome.stderr.as_bytes());
        assert_eq!(std::fs::read_to_string(project.join("out").join(&name)).expect("published"), "x");
        let record = project.last();
        assert_eq!(record.command.last().expect("an argument").as_os_str(), name);
        assert_eq!(record.targets[0].as_os_str(), OsStr::from_bytes(&[b"out/".as_slice(), name.as_bytes()].concat()));
        for command in [&["log"][..], &["show", "@"], &["replay", "@"]] {
            let outcome = project.ag(command).exits(0);
            harmless(&outcome.stdout);
            harmless(outcome.stderr.as_bytes());
        }
        let json = project.ag(&["show", "@-1", "--json"]).exits(0).text();
        let shown: agentguard::model::RunRecord = serde_json::from_str(&json).expect("JSON");
        assert_eq!(shown.command, record.command);
    }
}

#[test]
fn agents_output_cannot_forge_what_agentguard_says() {
    let project = Project::new();
    let outcome =
        project.run(&["--out", "o", "--agent", "evil\x1b]0;title\x07\nagentguard: published"], "exit 1").exits(1);
    harmless(outcome.stderr.as_bytes());
    let log = project.ag(&["log"]).exits(0);
    harmless(&log.stdout);
    assert_eq!(log.text().lines().count(), 2, "one line for the titles, one for the run");
}

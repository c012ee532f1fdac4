//! Every hash is a plain SHA-256 of bytes that can be printed: coreutils alone recompute them.

use std::process::Command;

use crate::project::Project;

/// Recomputes a tree hash with find, stat and sha256sum: `mode type hash size\tname\0`, sorted by name bytes.
const TREE_HASH: &str = r#"
listing() { # DIR: the listing of a directory on standard output
    (cd "$1" && find . -mindepth 1 -maxdepth 1 -printf '%f\n' | LC_ALL=C sort) | while IFS= read -r name; do
        entry "$1/$name" "$name"
    done
}
entry() { # PATH NAME
    mode=$(stat -c %04a "$1"); [ ${#mode} -lt 4 ] && mode=0$mode
    if [ -L "$1" ]; then
        text=$(readlink "$1"; printf x); text=${text%?x}
        printf '0777 l %s %s\t%s\0' "$(printf %s "$text" | sha256sum | cut -c-64)" "$(printf %s "$text" | wc -c)" "$2"
    elif [ -d "$1" ]; then
        printf '%s d %s %s\t%s\0' "$mode" "$(listing "$1" | sha256sum | cut -c-64)" "$(listing "$1" | wc -c)" "$2"
    elif [ -p "$1" ]; then
        printf '%s p %s 0\t%s\0' "$mode" "$(printf '' | sha256sum | cut -c-64)" "$2"
    else
        printf '%s f %s %s\t%s\0' "$mode" "$(sha256sum < "$1" | cut -c-64)" "$(stat -c %s "$1")" "$2"
    fi
}
"#;

fn shell(project: &Project, script: &str) -> String {
    let output = Command::new("bash")
        .args(["-c", &format!("{TREE_HASH}\n{script}")])
        .env("AG", crate::project::binary())
        .current_dir(project.path())
        .output()
        .expect("bash");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text").trim().to_owned()
}

fn scene() -> Project {
    let project = Project::new();
    project.write("data/b/deep", "deep\n");
    project.write("data/a", "a\n");
    project.write("notes.md", "notes\n");
    std::fs::create_dir(project.join("data/empty")).expect("directory");
    std::os::unix::fs::symlink("../a", project.join("data/b/link")).expect("link");
    shell(&project, "chmod 750 data/b; chmod 600 data/a; mkfifo data/pipe; chmod 640 data/pipe");
    let script = "cp -a {inputs}/data/. {staging}/; echo more > {staging}/more";
    let arguments = ["run", "--input", "data", "--input", "notes.md", "--out", "report", "--", "sh", "-c", script];
    project.ag(&arguments).exits(0);
    project
}

#[test]
fn sha256sum_alone_recomputes_both_hashes_from_the_trees() {
    let project = scene();
    let record = project.last();
    let inputs = shell(&project, "(entry data data; entry notes.md notes.md) | sha256sum | cut -c-64");
    assert_eq!(inputs, record.input_hash.expect("a hash").to_string());
    let outputs = shell(&project, "entry report report | sha256sum | cut -c-64");
    assert_eq!(outputs, record.output_hash.expect("a hash").to_string());
}

#[test]
fn the_printed_listings_hash_to_the_records_hashes_and_the_manifests_check() {
    let project = scene();
    let record = project.last();
    let inputs = shell(&project, "$AG show @ --manifest inputs --listing | sha256sum | cut -c-64");
    assert_eq!(inputs, record.input_hash.expect("a hash").to_string());
    let outputs = shell(&project, "$AG show @ --manifest outputs --listing | sha256sum | cut -c-64");
    assert_eq!(outputs, record.output_hash.expect("a hash").to_string());
    let inner =
        shell(&project, "$AG show @ --manifest outputs --listing report | cmp - <(listing report) && echo same");
    assert_eq!(inner, "same");
    let checked =
        shell(&project, "$AG show @ --manifest inputs | sha256sum -c && $AG show @ --manifest outputs | sha256sum -c");
    assert_eq!(checked.lines().filter(|line| line.ends_with(": OK")).count(), 6);
}

#[test]
fn standard_input_is_part_of_the_inputs_and_its_listing() {
    let project = Project::new();
    project.write("notes.md", "notes\n");
    let hash = shell(
        &project,
        "printf hello | $AG run -q --input notes.md --out o -- cat >&2; $AG show @ --manifest inputs --listing | sha256sum | cut -c-64",
    );
    assert_eq!(project.last().input_hash.expect("a hash").to_string(), hash);
    let by_hand = shell(
        &project,
        "(entry notes.md notes.md; printf '0600 f %s 5\\tstdin\\0' $(printf hello | sha256sum | cut -c-64)) | sha256sum | cut -c-64",
    );
    assert_eq!(by_hand, hash);
}

#[test]
fn each_line_of_the_log_holds_the_hash_of_the_line_before() {
    let project = Project::new();
    for _ in 0..3 {
        project.run(&["--out", "o"], "true").exits(0);
    }
    let second = shell(&project, "sed -n 1p .agentguard/runs.jsonl | sha256sum | cut -c-64");
    let third = shell(&project, "sed -n 2p .agentguard/runs.jsonl | sha256sum | cut -c-64");
    let prev: Vec<Option<String>> =
        project.records().iter().map(|record| record.prev.map(|prev| prev.to_string())).collect();
    assert_eq!(prev, [None, Some(second), Some(third)]);
}

//! Completions and man pages are rendered from the code and compared with the checked-in files; `AGENTGUARD_BLESS=1`
//! rewrites them. Extra files fail too.

use std::collections::BTreeMap;
use std::fs;

use agentguard::cli::generated::{SHELLS, completions, man_pages};

use crate::project::{Project, source_root};

#[track_caller]
fn compare(directory: &str, rendered: BTreeMap<String, Vec<u8>>) {
    let directory = source_root().join(directory);
    if std::env::var_os("AGENTGUARD_BLESS").is_some() {
        let _ = fs::remove_dir_all(&directory);
        fs::create_dir_all(&directory).expect("directory");
        for (name, text) in &rendered {
            fs::write(directory.join(name), text).expect("blessed");
        }
    }
    let checked_in: BTreeMap<String, Vec<u8>> = fs::read_dir(&directory)
        .unwrap_or_else(|error| panic!("{}: {error}; AGENTGUARD_BLESS=1 makes it", directory.display()))
        .map(|entry| {
            let path = entry.expect("entry").path();
            let name = path.file_name().expect("a name").to_string_lossy().into_owned();
            (name, fs::read(path).expect("read"))
        })
        .collect();
    let names = |files: &BTreeMap<String, Vec<u8>>| files.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&checked_in), names(&rendered), "{}", directory.display());
    for (name, text) in rendered {
        assert!(
            checked_in[&name] == text,
            "{name} is not what the code says: AGENTGUARD_BLESS=1 cargo test rewrites it"
        );
    }
}

#[test]
fn the_checked_in_completions_are_those_of_the_code() {
    compare("completions", SHELLS.iter().map(|(shell, name)| ((*name).to_owned(), completions(*shell))).collect());
}

#[test]
fn the_checked_in_man_pages_are_those_of_the_code() {
    compare("man", man_pages().expect("rendered").into_iter().collect());
}

#[test]
fn every_command_has_examples_in_its_long_help_and_help_goes_to_standard_output() {
    let project = Project::new();
    for command in [
        "run",
        "replay",
        "log",
        "show",
        "apply",
        "discard",
        "undo",
        "diff",
        "export",
        "import",
        "report",
        "recover",
        "gc",
        "fsck",
        "demo",
        "schema",
        "completions",
        "man",
    ] {
        let outcome = project.ag(&[command, "--help"]).exits(0);
        assert!(
            outcome.text().contains("Examples:") && outcome.text().contains(&format!("agentguard {command}")),
            "{command}"
        );
        assert!(outcome.stderr.is_empty());
    }
    let version = project.ag(&["--version"]).exits(0);
    assert_eq!(version.text(), format!("agentguard {}\n", env!("CARGO_PKG_VERSION")));
    assert_eq!(project.ag(&["-V"]).exits(0).text(), version.text());
    assert!(project.ag(&["man", "run"]).exits(0).text().contains(".TH"));
    assert!(project.ag(&["completions", "bash"]).exits(0).text().contains("agentguard"));
    project.ag(&["man", "nonesuch"]).exits(125).says("nonesuch");
    project.ag::<&str>(&[]).exits(125);
    assert!(!project.state().exists(), "asking for help makes nothing");
}

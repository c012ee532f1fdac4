//! `doctor` says of every facility what a run will find, and leaves nothing behind.

use crate::project::Project;
use crate::workspace_scene::facilities;

const NAMES: [&str; 10] = [
    "user namespace",
    "mounts",
    "overlay",
    "directory renames",
    "network namespace",
    "Landlock",
    "reflink",
    "exchange of names",
    "PID namespace",
    "cgroup kill",
];

#[test]
fn every_facility_is_tried_and_what_is_said_is_what_runs_find() {
    let project = Project::new();
    project.write("f", "f\n");
    let outcome = project.ag(&["doctor"]);
    let text = outcome.text();
    let said = |name: &str| -> &str {
        let line = text
            .lines()
            .find(|line| line.starts_with(&format!("{name}  ")))
            .unwrap_or_else(|| panic!("{name}: {text}"));
        line[name.len()..].trim()
    };
    for name in NAMES {
        assert!(said(name).starts_with("works") || said(name).starts_with("missing: "), "{name}: {text}");
    }
    assert_eq!(said("overlay") == "works", facilities().overlay, "{text}");
    assert_eq!(said("mounts") == "works", facilities().same_path, "{text}");
    assert_eq!(outcome.code, Some(i32::from(!facilities().same_path)));
    let view = project.ag(&["run", "--", "true"]).exits(0);
    assert_eq!(said("workspace runs").split(':').next(), Some(&*project.last().isolation.view), "{}", view.stderr);
    let held = project.last().isolation.processes;
    assert_eq!(
        said("PID namespace") == "works" && facilities().same_path,
        held.as_deref() == Some("namespace"),
        "{text}"
    );
    if facilities().overlay {
        project.write("dir/f", "f\n");
        let rename = project.ag(&["run", "--", "python3", "-c", "import os; os.rename('dir', 'moved')"]);
        assert_eq!(said("directory renames") == "works", rename.code == Some(0), "{text}{}", rename.stderr);
    }
    let strict = project.ag(&["run", "--isolation", "strict", "--", "true"]);
    assert_eq!(said("--isolation strict") == "works", strict.code == Some(0), "{}", strict.stderr);
    let network = project.ag(&["run", "--no-network", "--", "true"]);
    assert_eq!(said("network namespace") == "works", network.code == Some(0), "{}", network.stderr);
    assert_eq!(project.leftovers(), Vec::<String>::new());
    assert_eq!(std::fs::read_dir(project.state().join("trash")).expect("there").count(), 0);
    project.ag(&["fsck"]).exits(0);
}

#[test]
fn a_blocker_is_named_with_the_command_that_lifts_it() {
    if facilities().same_path {
        return crate::project::skip("no_userns", "user namespaces work here");
    }
    let text = Project::new().ag(&["doctor"]).exits(1).text();
    assert!(text.contains("user namespace      missing: user namespace: "), "{text}");
    assert!(text.contains("try: sudo sysctl user.max_user_namespaces="), "{text}");
}

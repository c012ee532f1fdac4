//! The newcomer's first command does the main job for real, and leaves nothing behind.

use crate::project::Project;

#[test]
fn the_demo_plays_every_scene_and_cleans_up() {
    let project = Project::new();
    let mut command = project.command(&["demo"]);
    let outcome = crate::project::Outcome::of(command.env("TMPDIR", project.path()).output().expect("runs")).exits(0);
    let text = outcome.text();
    for words in [
        "$ agentguard run --input sales.csv --out report --verify 'sh agents/verify.sh' -- sh agents/report.sh",
        "agentguard: published 2 files",
        "failed, nothing published: the agent exited with 7",
        "rejected, nothing published: verify",
        "$ agentguard replay @failed",
        "reproduced",
        "report/summary.md says \"Total: 280\"",
        "blocked, nothing published: fetch (needed by this run) is broken",
        "All as it should be",
    ] {
        assert!(text.contains(words), "{words:?} is not in\n{text}");
    }
    assert_eq!(project.visible_names(), Vec::<String>::new(), "the temporary project is gone");
}

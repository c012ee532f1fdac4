//! A git directory in which lock files come and go is the same; whatever a snapshot takes of it is noticed all the same.

use std::fs;

use crate::workspace_snapshot::{Place, has_git};

const REPOSITORY: &str = "git init -q --template=; mkdir .git/info
    printf '[user]\nname = me\nemail = me@localhost\n' >> .git/config
    printf '*.o\\n' > .gitignore; mkdir d; touch -d @1000000000 d/a.o d/b.c .gitignore; git add .; git commit -qm one";

/// What `git status` does where it has nothing to write.
const LOCK: &str = "touch .git/index.lock; rm .git/index.lock";

/// Everything in the store and the caches, with which object it is.
fn stored(place: &Place) -> Vec<u8> {
    place.shell("state", "find . -type f -exec stat -c '%n %i %s' {} + | sort")
}

#[test]
fn a_lock_file_that_came_and_went_makes_nothing_be_written() {
    if !has_git() {
        return;
    }
    let place = Place::new();
    place.shell("ws", REPOSITORY);
    place.shell(
        "ws",
        "git worktree add -q ../linked; mkdir -p .git/modules/x; cp -r .git/HEAD .git/objects .git/modules/x",
    );
    let lock = "cd $(git rev-parse --git-dir); touch index.lock; rm index.lock";
    for (dir, script) in [("ws", lock), ("ws", "git status --porcelain"), ("linked", lock)] {
        let settled = place.capture_settled(dir);
        let before = stored(&place);
        place.shell(dir, script);
        assert_eq!(place.capture(dir).snapshot, settled.snapshot, "{dir}: {script}");
        assert!(stored(&place) == before, "{dir}: {script}: written");
    }
    place.capture_settled("ws");
    let before = stored(&place);
    place.shell("ws", "cd .git/modules/x; touch index.lock; rm index.lock");
    place.capture("ws");
    assert!(stored(&place) == before, "a submodule's");
}

/// Each change is made in a repository of its own, with a lock file that hides it among changed times.
fn are_noticed(changes: &[&str]) {
    if !has_git() {
        return;
    }
    let place = Place::new();
    place.shell("ws", &format!("mkdir all; cd all; {REPOSITORY}"));
    place.shell("ws", &format!("for number in $(seq {}); do cp -a all $number; done", changes.len()));
    place.capture_settled("ws/all");
    for (number, change) in (1..).zip(changes) {
        let dir = format!("ws/{number}");
        let baseline = place.capture(&dir).baseline;
        place.shell(&dir, LOCK);
        let drift = || baseline.drift(&place.roots(&dir), &place.policy()).expect("compared").count();
        assert_eq!(drift(), 0, "before: {change}");
        place.shell(&dir, &format!("{change}; if test -d .git; then {LOCK}; fi"));
        assert!(drift() > 0, "{change}");
    }
}

#[test]
fn what_is_new_or_gone_in_a_git_directory_is_noticed() {
    are_noticed(&[
        "echo d > .git/MERGE_HEAD",
        "rm .git/HEAD",
        "rm -r .git/objects",
        "mv .git/objects .git/gone; touch .git/objects",
        "echo > .git/config.worktree",
        "touch .git/packed-refs",
        "mkdir .git/modules",
        "mkdir .git/sequencer",
    ]);
}

#[test]
fn what_is_another_in_a_git_directory_is_noticed() {
    are_noticed(&[
        "printf 'd\\n' >> .git/info/exclude",
        "printf '[core]\\nexcludesFile = x\\n' >> .git/config",
        "echo ref: refs/heads/other > .git/HEAD",
        "printf x >> .git/index",
        "git init -q --template= d",
        "rm -r .git",
        "mv .git elsewhere; ln -s elsewhere .git",
        "chmod 700 .git",
    ]);
}

#[test]
fn a_name_that_comes_in_the_tick_of_a_capture_is_noticed() {
    if !has_git() {
        return;
    }
    let place = Place::new();
    place.shell("ws", REPOSITORY);
    place.capture_settled("ws");
    for name in ["MERGE_HEAD", "ORIG_HEAD", "BISECT_LOG"] {
        fs::write(place.path("ws/.git/index.lock"), "").expect("written");
        fs::remove_file(place.path("ws/.git/index.lock")).expect("removed");
        let captured = place.capture("ws");
        fs::write(place.path("ws/.git").join(name), "").expect("written");
        assert_eq!(place.capture("ws").files, captured.files + 1, "{name}");
    }
}

#[test]
fn an_attribute_of_a_git_directory_is_noticed() {
    if !has_git() {
        return;
    }
    let place = Place::new();
    place.shell("ws", REPOSITORY);
    let settled = place.capture_settled("ws");
    let flags = rustix::fs::XattrFlags::empty();
    if rustix::fs::setxattr(place.path("ws/.git"), "user.note", b"n", flags).is_err() {
        return crate::project::skip("user.xattr", "the filesystem has no user attributes");
    }
    assert_ne!(place.capture("ws").snapshot, settled.snapshot);
}

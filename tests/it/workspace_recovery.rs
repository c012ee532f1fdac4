//! Promises 4 and 6 in workspace mode: agentguard is killed, or meets a full or failing disk, at every passage through
//! every named point of a commit of creates, edits, deletes, renames, chmods, symbolic links and changed kinds; after
//! recovery the tree is entirely old or entirely new, to git as well, the log is right and nothing is left over.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;
use std::sync::LazyLock;

use agentguard::sys::crash::POINTS;

use crate::project::{Outcome, Project, rounds, skip, wait_until};
use crate::workspace_scene::{Workspace, by_hand, is_running, run_arguments, views};

/// What the agent does.
const CHANGES: &str = "echo new >> edited; printf whole > t; mv t replaced; mkdir -p made/deep; echo x > made/deep/x; rm gone; rm -r tree; \
    rm -r kind; echo k > kind; rm retyped; mkdir retyped; echo r > retyped/r; ln -sf other link; chmod 700 dir; chmod 755 mode; \
    mv dir/from dir/to; git add -A; git commit -q -m agent";

/// A repository, made once and copied.
static TEMPLATE: LazyLock<Workspace> = LazyLock::new(|| {
    let here = Workspace::with_git();
    for name in ["edited", "replaced", "gone", "tree/a/b", "kind/x", "retyped", "dir/from", "mode"] {
        here.write(name, format!("{name}\n"));
    }
    here.by_hand("ln -s edited link; rm -rf .git/hooks .git/info .git/description .git/branches");
    here.git(&["add", "-A"]);
    here.git(&["commit", "-q", "-m", "second"]);
    here
});

/// Content and git's opinion of the trees before and after.
struct Sides {
    old: Vec<String>,
    new: Vec<String>,
}

/// What stands in the work tree and what git says of it, without the bytes that git writes differently each time (its
/// index holds inodes, its reflog times).
fn state(here: &Workspace) -> Vec<String> {
    let mut lines: Vec<String> = here.content().into_iter().filter(|line| !is_of_git(line)).collect();
    lines.push(here.git(&["--no-optional-locks", "status", "--porcelain"]));
    lines.push(here.git(&["log", "--format=%H %s"]));
    lines
}

/// Whether a line is that of git's own directory or something in it.
fn is_of_git(line: &str) -> bool {
    line.starts_with("\".git/") || line.starts_with("\".git\"")
}

static SIDES: LazyLock<Sides> = LazyLock::new(|| {
    let here = scene();
    let old = state(&here);
    // As the agent runs it, with git's fixed names and dates.
    let done = here.command::<&str>(&[]);
    let mut shell = Command::new("sh");
    shell.args(["-ec", CHANGES]).current_dir(here.path());
    for (name, value) in done.get_envs().filter_map(|(name, value)| Some((name, value?))) {
        shell.env(name, value);
    }
    assert!(shell.status().expect("sh").success());
    Sides { old, new: state(&here) }
});

fn scene() -> Workspace {
    let here = Workspace::of(Project::new());
    by_hand(&TEMPLATE.path(), &format!("cp -a .git .gitignore * {}", here.path().display()));
    here
}

fn struck(here: &Workspace, view: &str, fault: &str) -> Outcome {
    let mut command = here.command(&run_arguments(&["--view", view, "--verify", "true"], CHANGES));
    Outcome::of(command.env("AGENTGUARD_FAULT", fault).output().expect("runs"))
}

/// After recovery: one state, one line, no remains.
#[track_caller]
fn settled(here: &Workspace, before: &[String], about: &str) -> &'static str {
    let now = state(here);
    let is_new = now == SIDES.new;
    assert!(is_new || now == SIDES.old, "{about}: neither old nor new: {now:#?}");
    if !is_new {
        assert_eq!(here.exact(), before, "{about}: old, to the inode");
    }
    let records = here.records();
    assert!(
        records.len() == 1 || !is_new && records.is_empty() && about.contains("unbegun"),
        "{about}: in the log exactly once"
    );
    for record in records {
        assert_eq!(record.published, is_new, "{about}: published iff the tree is new");
        assert_eq!(record.error_class.is_none(), is_new, "{about}: {record:?}");
    }
    assert_eq!(here.leftovers(), Vec::<String>::new(), "{about}");
    assert_eq!(left_outside(here), Vec::<String>::new(), "{about}");
    let names: BTreeSet<String> = here.visible_names().into_iter().collect();
    let expected = if is_new { &SIDES.new } else { &SIDES.old };
    for name in names {
        let stands = name == ".git" || expected.iter().any(|line| line.starts_with(&format!("{name:?} ")));
        assert!(stands, "{about}: a name is left: {name}");
    }
    here.ag(&["fsck"]).exits(0);
    if is_new { "new" } else { "old" }
}

/// Directories of this project's runs in the temporary directory.
fn left_outside(here: &Workspace) -> Vec<String> {
    let runs: Vec<String> = std::fs::read_dir(here.state().join("runs"))
        .into_iter()
        .flatten()
        .flatten()
        .map(|run| run.file_name().to_string_lossy().into_owned())
        .collect();
    let mut left = Vec::new();
    for place in [std::env::temp_dir(), "/tmp".into()] {
        for entry in std::fs::read_dir(place).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.starts_with("agentguard-") && runs.iter().any(|run| name.contains(&**run)) {
                left.push(name);
            }
        }
    }
    left
}

/// By view: the two are tests of their own, so that they run beside each other.
fn strike_everywhere(view: &str) {
    if !views().contains(&view) {
        return;
    }
    let mut seen = BTreeMap::new();
    for point in POINTS {
        for passage in (1..200).step_by(rounds(1, 6)) {
            let mut passed = true;
            for kind in ["kill", "eio", "enospc"] {
                let here = scene();
                let before = here.exact();
                let about = format!("{view}: {point}:{kind}@{passage}");
                let outcome = struck(&here, view, &format!("{point}:{kind}@{passage}"));
                if kind == "kill" && outcome.code.is_some() {
                    outcome.exits(0);
                    passed = false;
                    break;
                }
                if outcome.code == Some(0) {
                    assert_eq!(state(&here), SIDES.new, "{about}: success that lies");
                }
                assert!(kind == "kill" || outcome.code.is_some(), "{about} died: {}", outcome.stderr);
                here.ag(&["recover"]).exits(0);
                let unbegun = if point == "run.marked" { "unbegun: " } else { "" };
                let side = settled(&here, &before, &format!("{unbegun}{about}"));
                assert_eq!(here.ag(&["recover"]).exits(0).text(), "nothing to recover\n", "{about}");
                *seen.entry((kind, side)).or_insert(0) += 1;
            }
            if !passed {
                break;
            }
        }
    }
    for (kind, side) in [("kill", "old"), ("kill", "new"), ("eio", "old"), ("enospc", "old")] {
        assert!(seen.contains_key(&(kind, side)), "{view}: both sides were struck: {seen:?}");
    }
}

#[test]
fn a_strike_at_any_passage_through_any_point_leaves_old_or_new_in_an_overlay() {
    strike_everywhere("overlay");
}

#[test]
fn a_strike_at_any_passage_through_any_point_leaves_old_or_new_in_a_clone() {
    strike_everywhere("clone");
}

#[test]
fn recovery_of_a_workspace_may_be_killed_itself_at_any_point() {
    for view in views() {
        let mut killed = 0;
        for point in POINTS {
            for passage in (1..200).step_by(rounds(1, 6)) {
                let here = scene();
                let before = here.exact();
                assert_eq!(struck(&here, view, "commit.intended:kill").code, None);
                let fault = format!("{point}:kill@{passage}");
                let again = here.command(&["recover"]).env("AGENTGUARD_FAULT", &fault).output().expect("runs");
                let struck_again = again.status.code().is_none();
                here.ag(&["recover"]).exits(0);
                assert_eq!(settled(&here, &before, &format!("{view}: recovery {fault}")), "new");
                if !struck_again {
                    break;
                }
                killed += 1;
            }
        }
        assert!(killed > 2, "{view}: {killed}");
    }
}

#[test]
fn the_next_run_recovers_a_workspace_by_itself() {
    for view in views() {
        let here = scene();
        assert_eq!(struck(&here, view, "commit.intended:kill").code, None);
        here.run(&["--view", view], "cat made/deep/x > $OUT/seen").exits(0).says("recovered run");
        assert_eq!(here.read_out("seen"), "x\n", "{view}: it starts from the completed commit");
        assert_eq!((state(&here), here.records().len()), (SIDES.new.clone(), 2));
    }
}

#[test]
fn a_path_changed_between_crash_and_recovery_is_not_overwritten() {
    for view in views() {
        for other in
            ["echo theirs > edited", "rm gone", "echo theirs > tree/a/theirs", "echo theirs > made", "chmod 600 mode"]
        {
            let here = scene();
            let outcome = struck(&here, view, "commit.intended:kill");
            assert_eq!(outcome.code, None, "{view}: {}", outcome.stderr);
            here.by_hand(other);
            let theirs = here.exact();
            here.ag(&["recover"]).exits(0);
            assert_eq!(here.exact(), theirs, "{view}: {other}");
            let record = here.last();
            assert_eq!(
                (record.error.expect("an error").kind.to_string(), record.published),
                ("conflict".into(), false)
            );
            assert_eq!(here.leftovers(), Vec::<String>::new());
        }
    }
}

#[test]
fn an_agent_that_outlives_its_supervisor_lands_nothing() {
    for view in views() {
        let here = scene();
        let before = here.exact();
        let mark = here.out("go").to_str().expect("UTF-8").to_owned();
        let late = format!(
            "touch $OUT/up; while [ ! -e {mark} ]; do sleep 0.02; done; echo late > edited; echo late > late; touch $OUT/tried"
        );
        let running = here.start(&["--view", view], &format!("{CHANGES}; {late}"));
        wait_until("the agent is at work", || here.out("up").exists());
        running.signal("KILL");
        // Its output is nobody's any more: not waited for.
        wait_until("its supervisor is dead", || running.has_ended());
        here.ag(&["recover"]).exits(0);
        assert_eq!(settled(&here, &before, view), "old");
        assert_eq!(here.last().status.to_string(), "interrupted");
        std::fs::write(&mark, "").expect("let go");
        wait_until("it has tried or is dead", || here.out("tried").exists() || !is_running(&mark));
        wait_until("it is gone", || !is_running(&mark));
        assert_eq!(settled(&here, &before, view), "old");
    }
}

#[test]
fn a_sigkill_at_every_system_call_that_writes_leaves_old_or_new() {
    if !crate::publish::has_strace() {
        return skip("strace", "not installed");
    }
    // Calls that make something; which of a kind is killed goes up until the run gets through unharmed.
    for calls in [
        "renameat2,rename,renameat",
        "unlink,unlinkat,rmdir,mkdir,mkdirat",
        "fchmod,chmod,fchmodat,utimensat,fsync,fdatasync,syncfs",
    ] {
        for number in 1..400 {
            let here = scene();
            let before = here.exact();
            let mut command = Command::new("strace");
            command.args(["-qq", "-o", "/dev/null", "-e", &format!("trace={calls}")]);
            command.args(["-e", &format!("inject={calls}:signal=KILL:when={number}")]);
            let own = here.command(&run_arguments(&["--quiet", "--verify", "true"], CHANGES));
            command
                .arg(own.get_program())
                .args(own.get_args())
                .current_dir(here.path())
                .stdin(std::process::Stdio::null());
            for (name, value) in own.get_envs().filter_map(|(name, value)| Some((name, value?))) {
                command.env(name, value);
            }
            let killed = command.output().expect("strace").status.code() != Some(0);
            here.ag(&["recover"]).exits(0);
            settled(&here, &before, &format!("begun or unbegun: {calls}#{number}"));
            if !killed {
                break;
            }
        }
    }
}

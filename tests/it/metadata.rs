//! What is published keeps what it was given: times, attributes, access lists, holes, links, modes, owners. Compared
//! with the same commands run bare, in either view.

use std::fs;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, PermissionsExt as _};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::project::{Outcome, Project, binary, is_root, skip};
use crate::trees::{Twins, has, python, views};

/// The steps one after the other in one project per view; each goes on with what the one before published.
#[track_caller]
fn steps(plant: &str, steps: &[&str]) {
    for view in views() {
        let twins = Twins::planted(plant);
        for step in steps {
            twins.both(&["--view", view, "--quiet"], step);
        }
    }
}

#[test]
fn times_are_those_that_the_agent_set() {
    steps(
        "echo a > a; echo b > b; ln -s a l; mkfifo p; mkdir d; touch -h -d '2001-01-01 01:01:01.111111111' a b l p d",
        &[
            "echo more >> a; touch -d '2002-02-02 02:02:02.222222222' a",
            "echo new > new; touch -d '1965-03-04 05:06:07.000000001' new",
            "rm l p; ln -s b l; mkfifo p; touch -h -d '2003-03-03 03:03:03.333333333' l p",
            "cp -p a d/copied; mv a d/moved; chmod 600 b",
            "mv d e",
            "sed -i s/b/B/ b; touch -r e/copied b",
        ],
    );
}

#[test]
fn a_rewrite_that_changes_nothing_is_no_change() {
    for view in views() {
        let twins = Twins::planted("echo a > a; chmod 640 a; mkdir d; echo f > d/f; touch -d 2001-01-01 a d/f");
        // The state directory is made by the first run.
        twins.both(&["--view", view, "--quiet"], "true");
        let before = twins.trees();
        let script = "cp a t; mv t a; chmod 640 a; echo f > d/f; chmod 700 d; chmod 755 d; touch a";
        twins.both(&["--view", view, "--quiet"], script);
        let record = twins.guarded.last();
        assert_eq!((record.changes, record.output_hash), (None, None));
        assert!(!record.published && record.status.to_string() == "succeeded", "{record:?}");
        assert_eq!(twins.trees().guarded, before.guarded, "not even the times");
    }
}

#[test]
fn attributes_are_kept_added_changed_and_removed() {
    if !has("setfattr", "--version") {
        return skip("setfattr", "not installed");
    }
    steps(
        "for f in a b c; do echo $f > $f; setfattr -n user.keep -v 1 $f; setfattr -n user.drop -v 2 $f; done
         mkdir d e; setfattr -n user.dir -v 1 d; ln -s a l",
        &[
            "echo more >> a",
            "setfattr -n user.keep -v changed b; setfattr -x user.drop b; setfattr -n user.binary -v 0sAAEC/wo= b",
            "setfattr -n user.new -v x e; setfattr -x user.dir d; setfattr -n user.large -v $(printf %03000d 7) c",
            "echo n > n; setfattr -n user.n -v '' n; mkdir m; setfattr -n user.m -v m m; echo x > m/x",
            "sed -i s/c/C/ c; echo y > t; mv t b",
            "mv d d2; mv a m/a; rm -r e",
        ],
    );
}

#[test]
fn access_lists_are_kept_added_changed_and_removed() {
    if !has("setfacl", "--version") {
        return skip("setfacl", "not installed");
    }
    steps(
        "for f in a b c; do echo $f > $f; done; mkdir d; setfacl -m u:$(id -u):rwx,m::rwx b d; setfacl -m g:$(id -g):r c",
        &[
            "echo more >> b; echo x > d/x",
            "setfacl -m u:$(id -u):rw,g::r,m::rw a; setfacl -b c",
            "setfacl -d -m u:$(id -u):rwx,g::rx d; echo inherits > d/inherits; mkdir d/sub; echo x > d/sub/x",
            "chmod 604 a; sed -i s/b/B/ b",
            "setfacl -k d; setfacl -b b d; mkdir n; setfacl -m g:$(id -g):rwx n; setfacl -d -m o::- n; echo x > n/x",
            "mv d d2; cp -a n n2",
        ],
    );
}

#[test]
fn an_access_list_that_names_somebody_else_survives_an_edit() {
    if !has("setfacl", "--version") {
        return skip("setfacl", "not installed");
    }
    let probe =
        Command::new("setfacl").args(["-m", "u:12345:r"]).arg(tempfile::tempdir().expect("directory").path()).status();
    if !probe.expect("setfacl").success() {
        return skip("setfacl", "nobody else's id can be named here");
    }
    let twins = Twins::planted(
        "for f in a b c; do echo $f > $f; setfacl -m u:12345:r,g:23456:rw $f; done
         mkdir d; setfacl -m u:12345:rx d; setfacl -d -m u:12345:rx d",
    );
    for step in ["echo more >> a", "chmod 620 b; touch -d 2001-01-01 b", "echo x > d/x", "echo y >> d/x; mv c d/c"] {
        twins.both(&["--quiet"], step);
    }
}

#[test]
fn names_of_one_file_stay_names_of_one_file() {
    steps(
        "echo one > a; ln a b; mkdir s; ln a s/c; echo two > x; ln x y; echo three > lone; mkfifo p; ln p q
         ln -s a l; ln -P l k; find . ! -type d -exec touch -h -d 2001-01-01 {} +",
        &[
            "echo more >> a; touch -d 2002-02-02 a",
            "chmod 600 s/c",
            "echo other > t; mv t b",
            "ln a new; ln lone s/lone",
            "rm x; echo after >> y",
            "ln -f y s/c",
            ": > a; echo again >> new",
            "mv s r; echo moved >> r/lone",
            "rm -r r; echo last >> lone",
            "chmod 640 p; ln q third; mv k m; rm l",
            "mkdir g; for i in 1 2 3 4 5 6 7 8 9; do ln lone g/$i; done; echo g >> g/5; rm lone",
            "cp -a g h; rm g/1 g/2; echo h > h/9",
        ],
    );
}

#[test]
fn modes_are_exact_also_those_that_close_a_thing_to_its_owner() {
    let modules = "mkdir -p mod/x/y; for i in 1 2 3 4 5 6 7 8; do echo $i > mod/x/$i; echo $i > mod/x/y/$i; done
                   find mod -type f -exec chmod 400 {} +; chmod 500 mod/x/y mod/x mod";
    steps(
        "mkdir closed; echo a > closed/a; chmod 400 closed/a; chmod 500 closed; mkdir g; chmod 2775 g; echo g > g/g",
        &[
            "umask 077; mkdir p; echo f > p/f; mkdir p/q; umask 0; echo w > w; mkdir o",
            "echo x > g/new; mkdir g/sub; echo x > g/sub/x; mkdir h; chmod 2770 h; echo h > h/h; chmod 1777 o",
            modules,
            "chmod u+w closed; echo b > closed/b; rm -f closed/a; chmod 500 closed",
            "chmod 700 mod mod/x; rm -f mod/x/3; chmod 500 mod/x mod; chmod 550 mod/x/y",
            "chmod -R u+w mod; mv mod moved; chmod 500 moved/x/y",
            "chmod -R u+w moved; rm -r moved; chmod 0700 g; chmod u+w closed; mv closed open",
            "echo secret > secret; chmod 000 secret; mkdir z; echo z > z/z; chmod 500 z; mkdir v; echo v > v/v; chmod 300 v",
        ],
    );
}

/// What is in a directory that even its owner may not search can be neither judged nor hashed.
#[test]
fn a_directory_closed_to_its_owner_with_something_in_it_is_published_or_refused_by_name() {
    for view in views() {
        let twins = Twins::planted("echo f > f");
        let script = "echo more >> f; mkdir z; echo z > z/z; chmod 000 z";
        if is_root() {
            twins.both(&["--view", view, "--quiet"], script);
            continue;
        }
        let before = twins.trees();
        let outcome = twins.run_guarded(&["--view", view, "--quiet"], &["sh", "-c", script]).exits(125);
        outcome.says("z/z");
        assert_eq!(twins.trees().guarded.get(&b"f"[..]), before.guarded.get(&b"f"[..]), "{view}");
        assert_eq!(twins.guarded.leftovers(), Vec::<String>::new());
    }
}

#[test]
fn a_failed_run_leaves_what_is_closed_to_its_owner_as_it_was() {
    for view in views() {
        let twins = Twins::planted("mkdir -p c/d; echo a > c/d/a; chmod 400 c/d/a; chmod 500 c/d c");
        let script = "chmod -R u+rwx c; echo x > c/d/a; mkdir -p z/y; echo z > z/y/z; chmod 000 z/y/z z/y z; exit 7";
        twins.fails_untouched(&["--view", view, "--quiet"], &["sh", "-c", script]);
        assert_eq!(twins.guarded.leftovers(), Vec::<String>::new());
    }
}

#[test]
fn the_umask_is_the_callers_and_has_no_other_effect() {
    for umask in ["000", "077", "777"] {
        let set = format!("umask {umask}; exec \"$@\"");
        for view in views() {
            let twins =
                Twins::planted("echo a > a; mkdir d; chmod 705 d; echo f > d/f").started_by(&["sh", "-c", &set, "sh"]);
            let script = "umask; : > new; mkdir dir; echo more >> a; : > t; mv -f t d/f; chmod 755 d";
            twins.both(&["--view", view, "--quiet"], script);
        }
    }
}

#[test]
fn owners_are_kept_where_the_agent_may_keep_them() {
    if !is_root() {
        return skip("root", "only root may give files away");
    }
    for view in views().into_iter().chain(["auto"]) {
        let twins = Twins::planted(
            "for f in a b c d e; do echo $f > $f; chown 12345:23456 $f; done; chmod 600 a; chmod 0 e
             mkdir s t; echo x > s/x; echo y > t/y; chown -R 12345 s; chown :23456 t; chmod 2775 t; ln -s a l; chown -h 1:1 l",
        );
        for step in [
            "echo more >> a; echo more >> s/x; cat e",
            "chmod 640 b; echo new > n; mv n c; echo in > s/in; echo in > t/in; mkdir t/sub",
            "chown 1:2 d; chown 3 s; echo mine > m; chown 4:5 m; chown -h 6:7 l; mkdir k; chown 8:9 k; echo k > k/k",
            "mv s r; cp -a t u; rm -r t",
        ] {
            twins.both(&["--view", view, "--quiet"], step);
        }
    }
}

/// Root's leftovers in a user's project: read, replaced and removed as the directory allows it.
#[test]
fn files_of_somebody_else_in_the_tree_do_not_hinder_an_ordinary_user() {
    if !is_root() {
        return skip("root", "only root may leave files of its own");
    }
    let twins = Twins::planted(
        "echo mine > mine; echo left > left; echo gone > gone; mkdir -p leftover shared; echo r > leftover/r
         echo s > shared/s; chmod 775 shared; chmod 755 .; chown 65534:65534 . agentguard.toml mine
         chown 65534:12345 shared shared/s; chmod 644 left gone",
    );
    fs::set_permissions(twins.bare(), fs::Permissions::from_mode(0o755)).expect("mode");
    let reachable = tempfile::tempdir().expect("temporary directory");
    fs::set_permissions(reachable.path(), fs::Permissions::from_mode(0o755)).expect("mode");
    let copy = reachable.path().join("agentguard");
    fs::copy(binary(), &copy).expect("copied");
    let home = reachable.path().join("home");
    fs::create_dir(&home).expect("home");
    let twins = twins
        .with_binary(copy)
        .with_environment(&[("HOME", home.to_str().expect("UTF-8").to_owned())])
        .started_by(&["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]);
    for step in [
        "cat left leftover/r; id -u; id -g; echo more >> mine; rm -f gone; echo new > new",
        "echo t > t; mv -f t left; mkdir d; mv mine d/mine",
        "echo n > shared/n; mkdir shared/sub",
        // Replaced, as editors do it. Written in place it would keep its group without agentguard, and gets its owner's with
        // it: nothing is written in place, and nobody but root could give a new file a group that its owner is not in.
        "echo t > t; mv -f t shared/s",
    ] {
        twins.both(&["--quiet"], step);
    }
    // Refused to the agent, or to the commit: what is root's stays as it is.
    let before = twins.trees().guarded;
    for step in ["echo x > leftover/x", "rm -f leftover/r", "echo x >> leftover/r", "chmod 777 leftover"] {
        assert_ne!(twins.run_guarded(&["--quiet"], &["sh", "-c", step]).code, Some(0), "{step}");
        assert_eq!(twins.trees().guarded, before, "{step}");
    }
    twins.fails_untouched(&["--quiet"], &["sh", "-c", "rm -f left; echo x > shared/s; exit 7"]);
}

const MEGABYTE: u64 = 1 << 20;

fn blocks_bytes(project: &Project, name: &str) -> u64 {
    project.join(name).metadata().expect("stat").blocks() * 512
}

fn byte_at(project: &Project, name: &str, at: u64) -> u8 {
    let mut byte = [0];
    fs::File::open(project.join(name)).expect("opened").read_exact_at(&mut byte, at).expect("read");
    byte[0]
}

#[test]
fn files_with_holes_keep_them() {
    for view in views() {
        let project = Project::new();
        let file = fs::File::create(project.join("old")).expect("created");
        file.set_len(200 * MEGABYTE).expect("sized");
        file.write_all_at(b"x", 100 * MEGABYTE).expect("written");
        let script = "printf y | dd of=old bs=1 seek=157286400 conv=notrunc; truncate -s 200M new
                      printf z | dd of=new bs=1 seek=52428800 conv=notrunc; truncate -s 60M empty; cp --sparse=always old copy";
        project.run(&["--view", view], script).exits(0);
        for (name, at, byte) in
            [("old", 100, b'x'), ("old", 150, b'y'), ("new", 50, b'z'), ("copy", 100, b'x'), ("copy", 150, b'y')]
        {
            assert_eq!(byte_at(&project, name, at * MEGABYTE), byte, "{name} at {at}");
            assert_eq!(project.join(name).metadata().expect("stat").len(), 200 * MEGABYTE, "{name}");
            // The kernel copies a file up in pieces of a megabyte: a piece with a byte in it is written whole.
            let most = if view == "overlay" && name != "new" { 4 * MEGABYTE } else { MEGABYTE };
            assert!(blocks_bytes(&project, name) < most, "{view}: {name} has {} bytes", blocks_bytes(&project, name));
        }
        assert_eq!(project.join("empty").metadata().expect("stat").len(), 60 * MEGABYTE);
        assert_eq!(blocks_bytes(&project, "empty"), 0);
    }
}

/// Peak memory of a command and of all that it waited for, in KiB, as its last line of output.
const PEAK: &str = "import resource, subprocess, sys
code = subprocess.run(sys.argv[1:]).returncode
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(code)";

fn run_measured(project: &Project, options: &[&str], script: &str) -> (Outcome, u64, Duration) {
    let mut command = Command::new(python());
    command.args(["-c", PEAK]).arg(binary()).arg("run").args(options).args(["--", "sh", "-ec", script]);
    let begun = Instant::now();
    let outcome = Outcome::of(command.current_dir(project.path()).output().expect("python3"));
    let peak = outcome.text().lines().last().and_then(|line| line.parse().ok()).expect("a number");
    (outcome, peak, begun.elapsed())
}

const PEAK_KIB: u64 = 80 << 10;

#[test]
fn a_large_file_with_holes_is_published_in_bounded_time_and_memory() {
    // Every byte of it is hashed, holes too: the size that is asked for decides how long it takes.
    let gigabytes: u64 = std::env::var("AGENTGUARD_TEST_HUGE_GB").map_or(2, |text| text.parse().expect("a number"));
    for view in views() {
        let project = Project::new();
        let script = format!(
            "truncate -s {gigabytes}G huge; printf z | dd of=huge bs=1 seek=1000000000 conv=notrunc 2>/dev/null"
        );
        let (outcome, peak, took) = run_measured(&project, &["--view", view], &script);
        outcome.exits(0);
        assert_eq!(project.join("huge").metadata().expect("stat").len(), gigabytes << 30);
        assert_eq!(byte_at(&project, "huge", 1_000_000_000), b'z');
        assert!(blocks_bytes(&project, "huge") < MEGABYTE, "{view}: {}", blocks_bytes(&project, "huge"));
        assert!(peak < PEAK_KIB, "{view}: {peak} KiB");
        assert!(took < Duration::from_secs(20 + 10 * gigabytes), "{view}: {took:?}");
    }
}

#[test]
fn a_file_of_100_gb_is_refused_or_left_out_before_it_is_read() {
    for view in views() {
        let project = Project::new();
        let file = fs::File::create(project.join("huge")).expect("created");
        file.set_len(100 << 30).expect("sized");
        project.write("small", "x");
        let begun = Instant::now();
        let outcome = project.run(&["--view", view], "touch spawned").exits(125).says("--exclude");
        assert!(outcome.stderr.contains("--snapshot-limit") && !project.join("spawned").exists());
        let (outcome, peak, _) = run_measured(&project, &["--view", view, "--exclude", "huge"], "echo more >> small");
        outcome.exits(0);
        assert_eq!(project.read("small"), "xmore\n");
        assert_eq!(
            (project.join("huge").metadata().expect("stat").len(), blocks_bytes(&project, "huge")),
            (100 << 30, 0)
        );
        let limits = ["--view", view, "--exclude", "huge", "--max-bytes", "1GB"];
        let (outcome, peak_rejected, _) = run_measured(&project, &limits, "truncate -s 100G another");
        outcome.exits(120).says("--max-bytes");
        assert!(!project.join("another").exists());
        assert!(peak.max(peak_rejected) < PEAK_KIB, "{view}: {peak} and {peak_rejected} KiB");
        assert!(begun.elapsed() < Duration::from_secs(20), "{view}: {:?}", begun.elapsed());
    }
}

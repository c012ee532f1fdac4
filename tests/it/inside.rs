//! What an agent finds inside an overlay view, and what it cannot reach.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Command;

use agentguard::model::spec::Network;
use agentguard::sys::inside::{Access, Bind, InsideError, Layers, Step, Writes};
use agentguard::sys::process::{ChildStdin, ChildStdout, Launch, Limits};
use agentguard::sys::terminal::Terminal;
use agentguard::view::overlay::{Bound, Changes, Confinement, Shown};

use super::inside_view::{View, is_whiteout, starter, views_work};
use super::project::{binary, exact_state, is_alive, is_root};

/// What a script prints without a view, in the same place.
fn plainly(view: &View, script: &str) -> String {
    let mut command = Command::new("sh");
    command.args(["-c", script]).current_dir(&view.layout.cwd);
    for (name, value) in &view.environment {
        command.env(name, value.as_ref().expect("set"));
    }
    String::from_utf8_lossy(&command.output().expect("run").stdout).into_owned()
}

#[test]
fn ids_directory_umask_limits_and_environment_are_what_they_are_outside() {
    if !views_work() {
        return;
    }
    let mut view = View::new();
    fs::create_dir(view.live("inner")).expect("made");
    view.layout.cwd = view.live("inner");
    let link = view.outside().join("link");
    std::os::unix::fs::symlink(&view.layout.workspace, &link).expect("linked");
    view.environment = vec![("PWD".into(), Some(link.join("inner").into()))];
    let script = "id -u; id -g; pwd; pwd -P; echo $PWD; umask; ulimit -a; trap; \
        env | grep -v '^_=' | sort; ls /proc/self/fd | wc -l; awk '/^Sig(Blk|Ign|Cgt)/ { print $1, substr($2, 10) }' /proc/self/status";
    assert_eq!(view.sh(script).text(), plainly(&view, script));
    assert!(view.sh("pwd").text().ends_with("/link/inner\n"), "the logical path is kept");
}

#[test]
fn writes_land_in_the_upper_and_the_live_tree_is_untouched() {
    if !views_work() {
        return;
    }
    let view = View::new();
    for name in ["kept", "edited", "deleted", "dir/inner", "gone/inner"] {
        view.write(name, "before");
    }
    let before = exact_state(&view.layout.workspace.join("dir"));
    let seen = view.sh("echo after >edited && rm deleted && rm -r gone && mkdir gone && echo new >gone/new && \
        echo new >dir/new && chmod 600 dir/inner && ls && cat edited gone/*");
    assert_eq!(seen.text(), "dir\nedited\ngone\nkept\nafter\nnew\n");
    assert_eq!(exact_state(&view.layout.workspace.join("dir")), before);
    for name in ["kept", "edited", "deleted", "dir/inner", "gone/inner"] {
        assert_eq!(fs::read_to_string(view.live(name)).expect("there"), "before");
    }
    assert_eq!(fs::read_to_string(view.upper("edited")).expect("staged"), "after\n");
    assert!(is_whiteout(&view.upper("deleted")) && !view.upper("kept").exists());
    assert_eq!(fs::read_to_string(view.upper("gone/new")).expect("staged"), "new\n");
}

#[test]
fn the_state_directory_does_not_exist_inside() {
    if !views_work() {
        return;
    }
    let view = View::new();
    let upper = view.upper("");
    let script = format!(
        "ls -a; test -e .agentguard && echo there; cat '{0}/x' 2>&1; echo forged >'{0}/x'; echo $?; mkdir .agentguard && ls .agentguard",
        upper.display()
    );
    let text = view.sh(&script).stdout;
    assert!(!text.contains(".agentguard\n") && !text.contains("there"), "{text}");
    assert!(!upper.join("x").exists());
}

#[test]
fn a_state_directory_elsewhere_is_empty_and_closed_inside() {
    if !views_work() {
        return;
    }
    for place in ["deep/down/state", "../beside"] {
        let mut view = View::new();
        view.write("file", "live");
        let state = view.live(place);
        fs::create_dir_all(&state).expect("made");
        let state = state.canonicalize().expect("exists");
        let old = view.layout.changes.take().expect("changes");
        fs::write(state.join("secret"), "kept").expect("written");
        for name in ["upper", "work"] {
            fs::create_dir(state.join(name)).expect("made");
        }
        fs::remove_dir_all(&view.layout.state_dir).expect("removed");
        drop(old);
        view.layout.changes = Some(Changes { upper: state.join("upper"), work: state.join("work") });
        view.layout.state_dir = state.clone();
        let script =
            format!("ls -A '{0}'; echo x 2>&1 >'{0}/new'; umount -l '{0}' 2>&1; echo more >file", state.display());
        let seen = view.sh(&script);
        assert!(!seen.stdout.contains("secret") && !seen.stdout.contains("upper"), "{}", seen.stdout);
        assert!(!state.join("new").exists());
        assert_eq!(fs::read_to_string(state.join("upper/file")).expect("staged"), "more\n");
        assert_eq!(fs::read_to_string(view.live("file")).expect("live"), "live");
    }
}

#[test]
fn the_view_cannot_be_unmounted_from_inside_nor_from_a_nested_user_namespace() {
    if !views_work() {
        return;
    }
    let view = View::new();
    view.write("file", "live");
    for script in [
        "umount -l . 2>/dev/null; echo x >file",
        "umount -l \"$PWD\" 2>/dev/null; cd \"$PWD\"; echo x >file",
        "unshare -Ur umount -l \"$PWD\" 2>/dev/null; cd \"$PWD\"; echo x >file",
        "unshare -Urm sh -c 'umount -l \"$PWD\" 2>/dev/null; cd \"$PWD\"; echo x >file'",
        "mount --bind / /mnt 2>/dev/null && echo x >\"/mnt/$PWD/file\"",
        "nsenter -t 1 -m sh -c \"echo x >'$PWD/file'\" 2>/dev/null",
        "nsenter -t $PPID -m sh -c \"echo x >'$PWD/file'\" 2>/dev/null",
        // Root keeps the right to trace what is outside.
        if is_root() { "true" } else { "echo x 2>/dev/null >\"/proc/$PPID/cwd/file\"" },
        if is_root() { "true" } else { "echo x 2>/dev/null >\"/proc/$PPID/root/$PWD/file\"" },
    ] {
        view.sh(script);
        assert_eq!(fs::read_to_string(view.live("file")).expect("live"), "live", "{script}");
    }
}

#[test]
fn root_keeps_other_owners_and_loses_the_right_to_mount() {
    if !is_root() || !views_work() {
        return;
    }
    let view = View::new();
    view.write("file", "live");
    let text = view.sh("chown 12345:54321 file && stat -c %u:%g file && grep CapBnd /proc/self/status").text();
    assert!(text.starts_with("12345:54321\n"), "{text}");
    let bounding = u64::from_str_radix(text.trim().rsplit('\t').next().expect("a mask"), 16).expect("hexadecimal");
    assert_eq!(bounding & (1 << 21), 0, "CAP_SYS_ADMIN is gone: {bounding:x}");
    assert!(!view.sh("mount -t tmpfs none /mnt").stderr.is_empty());
}

#[test]
fn an_ordinary_user_has_no_capabilities_inside() {
    if is_root() || !views_work() {
        return;
    }
    let text = View::new().sh("grep -E 'Cap(Inh|Prm|Eff|Amb)' /proc/self/status").text();
    assert!(text.lines().all(|line| line.ends_with("\t0000000000000000")), "{text}");
}

#[test]
fn root_in_a_user_namespace_loses_the_right_to_unmount_too() {
    if !is_root() || !views_work() {
        return;
    }
    let mut view = View::new();
    view.write("file", "live");
    view.opening = Some(vec![Step::UserNamespace { uid: 0, gid: 0 }, Step::MountNamespace]);
    view.sh("umount -l \"$PWD\"; cd \"$PWD\"; echo x >file; unshare -Ur umount -l \"$PWD\"; cd \"$PWD\"; echo x >file")
        .text();
    assert_eq!(fs::read_to_string(view.live("file")).expect("live"), "live");
    assert_eq!(fs::read_to_string(view.upper("file")).expect("staged"), "x\n");
}

#[test]
fn any_path_can_be_a_workspace() {
    if !views_work() {
        return;
    }
    let long = vec!["long-directory-name-".repeat(12); 15].join("/");
    let names: [&OsStr; 10] = [
        OsStr::new("a:b"),
        OsStr::new("a,b"),
        OsStr::new("a\\b"),
        OsStr::new("a\nb"),
        OsStr::new("a b\"c'd"),
        OsStr::new("-rf"),
        OsStr::new("ü\u{1b}[31m"),
        OsStr::from_bytes(b"\xff\xfe"),
        OsStr::new("a:b,c\\d\n,upperdir=x:"),
        OsStr::new(&long),
    ];
    for name in names {
        let view = View::named(name);
        view.write("file", "live");
        view.sh("echo staged >file; echo staged >new").text();
        assert_eq!(fs::read_to_string(view.upper("file")).expect("staged"), "staged\n", "{name:?}");
        assert_eq!(fs::read_to_string(view.live("file")).expect("live"), "live", "{name:?}");
        assert!(!view.live("new").exists(), "{name:?}");
    }
    assert!(long.len() > 3600);
}

#[test]
fn a_stacked_view_shows_the_staged_result_and_keeps_it() {
    if !views_work() {
        return;
    }
    let mut view = View::new();
    view.write("file", "live");
    view.write("deleted", "live");
    view.write("dir/old", "live");
    view.sh("echo staged >file; rm deleted; rm -r dir; mkdir dir; echo new >dir/new").text();
    let staged = view.upper("");
    let before = exact_state(&staged);
    view.stack();
    assert_eq!(view.sh("cat file; ls -A; ls dir; echo scratch >file; mkdir target").text(), "staged\ndir\nfile\nnew\n");
    assert_eq!(exact_state(&staged), before, "what was staged is as it was");
    assert_eq!(fs::read_to_string(view.upper("file")).expect("scratch"), "scratch\n");
    view.layout.changes = None;
    let seen = view.sh("cat file; echo x >new");
    assert!(seen.stdout == "staged\n" && seen.stderr.contains("Read-only"), "{seen:?}");
}

#[test]
fn a_view_without_changes_is_read_only() {
    if !views_work() {
        return;
    }
    let mut view = View::new();
    view.write("file", "live");
    view.layout.changes = None;
    let seen = view.sh("cat file; echo x >file; echo x >new; ls -A .agentguard");
    assert_eq!(seen.stdout, "live", "the state is masked: {seen:?}");
    assert_eq!(fs::read_to_string(view.live("file")).expect("live"), "live");
}

#[test]
fn directories_of_the_run_are_shown_at_their_own_path() {
    if !views_work() {
        return;
    }
    let mut view = View::new();
    view.write("cache/entry", "live");
    view.write("frozen.txt", "live");
    let private = view.layout.state_dir.join("runs/one/agent");
    fs::create_dir(&private).expect("made");
    let frozen = view.layout.state_dir.join("runs/one/frozen");
    fs::write(&frozen, "frozen").expect("written");
    let shown = view.outside().join("shown/here");
    view.layout.private = vec![Shown { host_path: private.clone(), view_path: shown.clone() }];
    view.layout.binds = vec![
        Bound { host_path: view.live("cache"), view_path: view.live("cache"), access: Access::ReadWrite },
        Bound { host_path: frozen, view_path: view.live("frozen.txt"), access: Access::ReadOnly },
    ];
    let script = format!("echo a >'{}/file'; echo b >cache/new; cat frozen.txt; echo c >frozen.txt", shown.display());
    let seen = view.sh(&script);
    assert!(seen.stdout == "frozen" && seen.stderr.contains("Read-only"), "{seen:?}");
    assert_eq!(fs::read_to_string(private.join("file")).expect("written"), "a\n");
    assert_eq!(fs::read_to_string(view.live("cache/new")).expect("passed through"), "b\n");
    assert!(!shown.join("file").exists() && !view.upper("cache").exists());
}

#[test]
fn a_command_that_cannot_be_executed_says_so_as_without_a_view() {
    if !views_work() {
        return;
    }
    let mut view = View::new();
    view.environment = vec![("PATH".into(), Some("/usr/bin:/bin".into()))];
    view.write("not-executable", "#!/bin/sh\n");
    fs::set_permissions(view.write("no-interpreter", "#!/no/such/program\n"), fs::Permissions::from_mode(0o755))
        .expect("set");
    fs::set_permissions(view.write("no-shebang", "echo \"ran $1\"\n"), fs::Permissions::from_mode(0o755)).expect("set");
    let errno = |program: &str| match view.exec(&[OsStr::new(program)]) {
        Err(InsideError::NotExecuted(error)) => error.raw_os_error(),
        other => panic!("{program}: {other:?}"),
    };
    assert_eq!(errno("no-such-command-anywhere"), Some(libc::ENOENT));
    assert_eq!(errno("./missing"), Some(libc::ENOENT));
    assert_eq!(errno("./no-interpreter"), Some(libc::ENOENT));
    assert_eq!(errno("./not-executable"), Some(libc::EACCES));
    assert_eq!(view.exec(&[OsStr::new("./no-shebang"), OsStr::new("here")]).expect("ran").text(), "ran here\n");
    let argument = OsStr::from_bytes(b"\xff\n\x01");
    let seen = view.exec(&[OsStr::new("printf"), OsStr::new("%s|"), argument, OsStr::new("")]).expect("ran");
    assert_eq!(seen.stdout, format!("{}||", String::from_utf8_lossy(argument.as_bytes())));
}

#[test]
fn the_exit_code_and_the_signal_of_the_agent_come_through() {
    if !views_work() {
        return;
    }
    let view = View::new();
    assert_eq!(view.sh("exit 77").end.code, Some(77));
    assert_eq!(view.sh("kill -KILL $$").end.signal, Some(9));
    assert_eq!(view.sh("yes | head -n 1").text(), "y\n", "SIGPIPE ends the writer");
}

#[test]
fn a_step_that_fails_names_itself_its_object_and_the_reason() {
    if !views_work() {
        return;
    }
    let view = View::new();
    let missing = view.outside().join("missing");
    let failed = |steps: &[Step]| match starter().try_steps(steps) {
        Err(InsideError::Step(failed)) => (failed.step, failed.path.map(|path| path.to_path_buf()), failed.errno),
        other => panic!("{other:?}"),
    };
    let inside = |step: Step| {
        let mut steps = agentguard::view::overlay::opening(Network::Host, false);
        steps.push(step);
        steps
    };
    let bind = Bind { from: missing.as_path().into(), to: "/mnt".into(), access: Access::ReadWrite };
    assert_eq!(failed(&inside(Step::Bind(bind))), ("bind mount".into(), Some(missing.clone()), libc::ENOENT));
    let enter = Step::Enter { directory: missing.as_path().into() };
    assert_eq!(failed(&inside(enter)), ("working directory".into(), Some(missing.clone()), libc::ENOENT));
    let proc_upper = Layers {
        lower: vec![view.layout.workspace.as_path().into()],
        writes: Some(Writes { upper: "/proc/self".into(), work: "/proc/self".into() }),
        target: view.layout.workspace.as_path().into(),
    };
    let (step, path, errno) = failed(&inside(Step::Overlay(proc_upper)));
    assert_eq!((step.as_str(), path, errno), ("overlay", Some(view.layout.workspace.clone()), libc::EINVAL));
    let message = starter().try_steps(&inside(Step::Mask { path: missing.as_path().into() })).expect_err("fails");
    assert_eq!(message.to_string(), format!("mask on {missing:?}: No such file or directory (os error 2)"));
}

#[test]
fn an_upper_layer_on_an_overlay_is_refused_by_name() {
    if !views_work() {
        return;
    }
    // The state of an agentguard inside a view lies on that view.
    let view = View::new();
    let inner = view.outside().join("inner");
    fs::create_dir(&inner).expect("made");
    for name in ["upper", "work", "tree", "upper/u", "upper/w"] {
        fs::create_dir_all(inner.join(name)).expect("made");
    }
    let text = |name: &str| inner.join(name).as_path().into();
    let first = Layers {
        lower: vec![text("tree")],
        writes: Some(Writes { upper: text("upper"), work: text("work") }),
        target: text("tree"),
    };
    let second = Layers {
        lower: vec![view.layout.workspace.as_path().into()],
        writes: Some(Writes { upper: text("tree/u"), work: text("tree/w") }),
        target: view.layout.workspace.as_path().into(),
    };
    let mut steps = agentguard::view::overlay::opening(Network::Host, false);
    // In two rounds: the second overlay's layers exist once the first is mounted.
    steps.push(Step::Overlay(first));
    let argv = [OsString::from("true")];
    let launch = Launch {
        argv: &argv,
        cwd: &inner,
        environment: &[],
        stdin: ChildStdin::Null,
        stdout: ChildStdout::Pipes,
        terminal: &Terminal::None,
        limits: Limits::default(),
    };
    match starter().start(&steps).expect("started").go(&launch, &[Step::Overlay(second)]) {
        Err(InsideError::Step(failed)) => assert_eq!((failed.step.as_str(), failed.errno), ("overlay", libc::EINVAL)),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_host_without_user_namespaces_is_told_by_the_failing_step() {
    if !views_work() {
        return;
    }
    let project = tempfile::tempdir().expect("temporary directory");
    // The limit counts in the process tree's own user namespace, which this test makes for itself.
    let script = format!("echo 0 > /proc/sys/user/max_user_namespaces; exec '{}' doctor", binary().display());
    let output =
        Command::new("unshare").args(["-Ur", "sh", "-c", &script]).current_dir(project.path()).output().expect("run");
    let text = String::from_utf8_lossy(&output.stdout);
    let missing = "user namespace: No space left on device (os error 28)";
    assert!(text.contains(missing), "{text}{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn a_network_namespace_has_the_loopback_interface_and_nothing_else() {
    if !views_work() {
        return;
    }
    let mut view = View::new();
    view.network = Network::None;
    let text = view
        .sh("tail -n +3 /proc/net/dev | cut -d: -f1 | tr -d ' '; cat /sys/class/net/lo/operstate 2>/dev/null")
        .stdout;
    assert_eq!(text.lines().next(), Some("lo"), "{text}");
    assert!(!text.contains("eth") && !text.contains("ens"), "{text}");
    let listens = "import socket; s = socket.create_server(('127.0.0.1', 0)); c = socket.create_connection(s.getsockname()); print('up')";
    assert_eq!(view.python(listens).text(), "up\n");
}

#[test]
fn confinement_refuses_writes_outside_and_tells_its_abi() {
    if !views_work() {
        return;
    }
    let mut view = View::new();
    view.write("file", "live");
    fs::create_dir(view.outside().join("open")).expect("made");
    view.layout.confinement = Confinement::Confined(vec![view.layout.workspace.clone(), view.outside().join("open")]);
    let out = view.outside();
    let script = format!(
        "echo a >file && mkdir d && mv file d/ && echo b >'{0}/open/b' && : >/dev/null && cat d/file && ls '{0}'; \
         (echo c >'{0}/escaped') 2>&1; mkdir '{0}/dir' 2>&1; rmdir '{0}/open' 2>&1; ln d/file '{0}/link' 2>&1; kill -0 $PPID 2>&1",
        out.display()
    );
    let seen = view.sh(&script);
    if seen.entered.landlock_abi.is_none() {
        panic!("it says what is enforced: {seen:?}");
    }
    assert!(seen.stdout.starts_with("a\nopen\ntree\n"), "{seen:?}");
    assert!(out.join("open/b").exists(), "{seen:?}");
    for name in ["escaped", "dir", "link"] {
        assert!(!out.join(name).exists(), "{name}: {seen:?}");
    }
    if seen.entered.landlock_abi >= Some(6) {
        assert!(seen.stdout.to_lowercase().contains("not permitted"), "no signals to the outside: {seen:?}");
    }
    assert_eq!(fs::read_to_string(view.live("file")).expect("live"), "live");
}

#[test]
fn a_child_that_is_never_told_to_go_is_gone_with_its_handle() {
    let mut waiting = starter().start(&[]).expect("started");
    let pid = waiting.pid().expect("alive").as_raw_nonzero().to_string();
    assert!(is_alive(&pid));
    drop(waiting);
    assert!(!PathBuf::from(format!("/proc/{pid}")).exists(), "ended and reaped");
}

#[test]
fn a_child_that_is_killed_before_it_is_the_agent_is_not_taken_for_one() {
    let argv = ["true"].map(OsString::from);
    let launch = Launch {
        argv: &argv,
        cwd: &std::env::temp_dir(),
        environment: &[],
        stdin: ChildStdin::Null,
        stdout: ChildStdout::Pipes,
        terminal: &Terminal::None,
        limits: Limits::default(),
    };
    let mut waiting = starter().start(&[]).expect("started");
    let pid = waiting.pid().expect("alive");
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("sent");
    match waiting.go(&launch, &[]) {
        Err(InsideError::Ended(end)) => assert_eq!(end.signal, Some(9)),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_childs_entry_is_no_command() {
    let output = Command::new(binary()).args(["agentguard:inside", "3"]).output().expect("run");
    assert_eq!(output.status.code(), Some(125));
    assert!(String::from_utf8_lossy(&output.stderr).contains("unrecognized"), "{output:?}");
}

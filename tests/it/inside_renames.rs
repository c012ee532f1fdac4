//! Renames of directories that exist in the live tree work inside a view as on any filesystem.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use agentguard::sys::inside::{RenameService, Step};
use agentguard::view::overlay::Confinement;

use super::inside_view::{View, finish, is_whiteout, views_work};
use super::project::{exact_state, is_alive, is_root, wait_until};

/// Python with the rename calls of the kernel.
const PRELUDE: &str = "
import ctypes, errno, os, stat
libc = ctypes.CDLL(None, use_errno=True)
def renameat2(old, new, flags=0, olddir=-100, newdir=-100):
    if libc.syscall({NUMBER}, olddir, os.fsencode(old), newdir, os.fsencode(new), flags):
        return errno.errorcode[ctypes.get_errno()]
    return 'ok'
NOREPLACE, EXCHANGE, WHITEOUT = 1, 2, 4
def tree(top='.'):
    found = []
    for base, dirs, files in os.walk(top):
        dirs.sort()
        found += [os.path.relpath(os.path.join(base, d), top) + '/' for d in dirs]
        found += [os.path.relpath(os.path.join(base, f), top) for f in files]
    return ' '.join(sorted(found))
";

fn program(body: &str) -> String {
    PRELUDE.replace("{NUMBER}", &libc::SYS_renameat2.to_string()) + body
}

/// A tree with directories at several depths.
fn view() -> View {
    let view = View::new();
    for name in ["dir/file", "dir/sub/deep/leaf", "dir/sub/other", "full/file", "plain"] {
        view.write(name, name);
    }
    for name in ["dir/empty", "empty"] {
        fs::create_dir(view.live(name)).expect("made");
    }
    view
}

#[track_caller]
fn check(view: &View, body: &str, expected: &str) {
    let before = exact_state(&view.layout.workspace);
    let text = view.python(&program(body)).text();
    assert_eq!(text.trim(), expected.trim(), "{body}");
    let untouched =
        |lines: Vec<String>| lines.into_iter().filter(|line| !line.contains(".agentguard")).collect::<Vec<_>>();
    assert_eq!(untouched(exact_state(&view.layout.workspace)), untouched(before), "the live tree is untouched");
}

#[test]
fn a_live_directory_is_renamed_with_everything_in_it() {
    if !views_work() {
        return;
    }
    let view = view();
    check(
        &view,
        "os.rename('dir', 'moved')\nprint(tree('moved'))\nprint(open('moved/sub/deep/leaf').read())\nprint(os.path.exists('dir'))",
        "empty/ file sub/ sub/deep/ sub/deep/leaf sub/other\ndir/sub/deep/leaf\nFalse",
    );
    assert!(is_whiteout(&view.upper("dir")));
    assert!(
        !view
            .upper("")
            .read_dir()
            .expect("readable")
            .any(|entry| { entry.expect("entry").file_name().to_string_lossy().starts_with(".agentguard-mv") })
    );
}

#[test]
fn every_rename_call_moves_directories_from_any_starting_point() {
    if !views_work() {
        return;
    }
    check(
        &view(),
        "
print(libc.rename(b'dir', b'a'))
d = os.open('a', os.O_RDONLY)
print(libc.renameat(d, b'sub', -100, b'full/sub'))
print(renameat2('full/sub/deep', 'deep', 0, -100, d))
print(renameat2(os.getcwd() + '/full', os.getcwd() + '/../tree/./b/'))
os.chdir('b')
print(renameat2('sub', '../sub'), renameat2('../empty', 'empty'))
os.chdir('..')
os.symlink('b', 'link')
print(renameat2('/proc/self/cwd/link/empty', 'link/e'))
print(tree())",
        "0\n0\nok\nok\nok ok\nok\na/ a/deep/ a/deep/leaf a/empty/ a/file b/ b/e/ b/file link/ plain sub/ sub/other",
    );
}

#[test]
fn errors_are_those_of_any_filesystem() {
    if !views_work() {
        return;
    }
    check(
        &view(),
        "
print(renameat2('dir', 'full'), renameat2('dir', 'empty', NOREPLACE), renameat2('dir', 'plain'))
print(renameat2('plain', 'empty'), renameat2('dir', 'dir/sub/x'), renameat2('dir/sub', 'dir'))
print(renameat2('missing', 'x'), renameat2('dir', 'missing/x'), renameat2('dir', '/proc/x'))
print(renameat2('dir/.', 'x'), renameat2('dir', '..'), renameat2('', 'x'), renameat2('dir', 'x', 64))
print(renameat2('dir', 'n' * 256), renameat2('plain/x', 'y'))
print(libc.rename(b'dir', None), errno.errorcode[ctypes.get_errno()])
print(tree())",
        "ENOTEMPTY EEXIST ENOTDIR\nEISDIR EINVAL ENOTEMPTY\nENOENT ENOENT EXDEV\nEBUSY EBUSY ENOENT EINVAL\n\
         ENAMETOOLONG ENOTDIR\n-1 EFAULT\n\
         dir/ dir/empty/ dir/file dir/sub/ dir/sub/deep/ dir/sub/deep/leaf dir/sub/other empty/ full/ full/file plain",
    );
}

#[test]
fn an_empty_directory_is_replaced_and_another_mount_is_another_filesystem() {
    if !views_work() {
        return;
    }
    let view = view();
    check(
        &view,
        "print(renameat2('dir', 'empty'))\nprint(tree('empty'))",
        "ok\nempty/ file sub/ sub/deep/ sub/deep/leaf sub/other",
    );
    let out = view.outside().join("out");
    fs::create_dir(&out).expect("made");
    check(
        &view,
        &format!("print(renameat2('full', {:?}))\nprint(os.listdir('full'))", out.join("x").display().to_string()),
        "EXDEV\n['file']",
    );
}

#[test]
fn directories_are_exchanged_with_directories_and_with_files() {
    if !views_work() {
        return;
    }
    check(
        &view(),
        "
print(renameat2('dir', 'full', EXCHANGE), tree('dir'), '|', tree('full'))
print(renameat2('plain', 'dir', EXCHANGE), open('dir').read(), tree('plain'))
print(renameat2('full/sub', 'empty', EXCHANGE), tree('full'), '|', tree('empty'))
print(renameat2('full', 'full/sub', EXCHANGE), renameat2('empty', 'missing', EXCHANGE))",
        "ok file | empty/ file sub/ sub/deep/ sub/deep/leaf sub/other\nok plain file\n\
         ok empty/ file sub/ | deep/ deep/leaf other\nEINVAL ENOENT",
    );
}

#[test]
fn modes_times_attributes_and_the_identity_of_files_are_kept() {
    if !views_work() {
        return;
    }
    let view = view();
    for (name, mode) in [("dir", 0o2751), ("dir/sub", 0o555), ("dir/sub/deep", 0o1700)] {
        fs::set_permissions(view.live(name), fs::Permissions::from_mode(mode)).expect("set");
    }
    let has_attributes =
        rustix::fs::setxattr(view.live("dir/sub"), "user.note", b"kept", rustix::fs::XattrFlags::empty()).is_ok();
    let body = "
def look(top):
    for path in ('', '/sub', '/sub/deep', '/sub/deep/leaf', '/file'):
        s = os.stat(top + path)
        print(oct(s.st_mode), s.st_mtime_ns, s.st_uid, s.st_gid, s.st_ino if stat.S_ISREG(s.st_mode) else '', s.st_size)
look('dir')
os.rename('dir', 'moved')
print('then')
look('moved')
print(os.getxattr('moved/sub', 'user.note') if ATTRIBUTES else b'kept')"
        .replace("ATTRIBUTES", if has_attributes { "True" } else { "False" });
    let text = view.python(&program(&body)).text();
    let (before, after) = text.split_once("then\n").expect("two looks");
    let after = after.strip_suffix("b'kept'\n").unwrap_or_else(|| panic!("{after}"));
    assert_eq!(before, after);
    fs::set_permissions(view.live("dir/sub"), fs::Permissions::from_mode(0o755)).expect("set");
}

#[test]
fn what_may_not_be_renamed_stays() {
    if is_root() || !views_work() {
        return;
    }
    let view = view();
    for (name, mode) in [("dir", 0o555), ("full", 0o555)] {
        fs::set_permissions(view.live(name), fs::Permissions::from_mode(mode)).expect("set");
    }
    // A directory that changes its parent must be writable itself; and so must both parents.
    check(
        &view,
        "print(renameat2('dir', 'empty/dir'), renameat2('dir/sub', 'sub'), renameat2('empty', 'full/empty'), renameat2('dir', 'd'))",
        "EACCES EACCES EACCES ok",
    );
    for name in ["dir", "full"] {
        fs::set_permissions(view.live(name), fs::Permissions::from_mode(0o755)).expect("set");
    }
}

#[test]
fn git_moves_directories_and_its_tree_is_clean() {
    if !views_work() {
        return;
    }
    let view = view();
    let git = |arguments: &[&str]| {
        let done = Command::new("git")
            .args(["-c", "user.name=n", "-c", "user.email=e@e", "-c", "safe.directory=*"])
            .args(arguments)
            .current_dir(&view.layout.workspace)
            .stdout(Stdio::null())
            .status();
        assert!(done.expect("git runs").success());
    };
    fs::write(view.live(".gitignore"), ".agentguard\n").expect("written");
    git(&["init", "-q"]);
    git(&["add", "."]);
    git(&["commit", "-qm", "first"]);
    let text = view
        .sh("git -c safe.directory='*' mv dir moved && git -c safe.directory='*' mv moved/sub sub && git -c safe.directory='*' status --porcelain && ls")
        .text();
    assert_eq!(
        text,
        "R  dir/file -> moved/file\nR  dir/sub/deep/leaf -> sub/deep/leaf\nR  dir/sub/other -> sub/other\n\
         empty\nfull\nmoved\nplain\nsub\n"
    );
}

#[test]
fn a_thousand_renames_from_several_threads_all_succeed() {
    if !views_work() {
        return;
    }
    let view = View::new();
    for number in 0..40 {
        view.write(&format!("d{number}/inner/file"), "x");
    }
    let body = "
import threading
failed = []
def work(own):
    for turn in range(25):
        for number in own:
            old, new = f'd{number}' + '.' * (turn % 2), f'd{number}' + '.' * ((turn + 1) % 2)
            try:
                os.rename(old, new)
                os.rename(new + '/inner/file', new + '/inner/file2')
                os.rename(new + '/inner/file2', new + '/inner/file')
            except OSError as error:
                failed.append(error)
threads = [threading.Thread(target=work, args=(range(at, 40, 4),)) for at in range(4)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
print(failed, len(os.listdir('.')), all(os.path.exists(f'd{n}./inner/file') for n in range(40)))";
    check(&view, body, "[] 40 True");
}

#[test]
fn signals_do_not_cut_a_rename_that_is_being_served() {
    if !views_work() {
        return;
    }
    let view = View::new();
    for number in 0..200 {
        view.write(&format!("big/{number}/file"), "x");
    }
    let body = "
import signal
signal.signal(signal.SIGALRM, lambda *ignored: None)
signal.siginterrupt(signal.SIGALRM, True)
signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
def rename(old, new):
    # Until it is heard, a caller that wants to be interrupted is.
    while libc.rename(old, new):
        if ctypes.get_errno() != errno.EINTR:
            return errno.errorcode[ctypes.get_errno()]
    return 'ok'
for turn in range(5):
    print(rename(b'big', b'gib'), rename(b'gib', b'big'))
signal.setitimer(signal.ITIMER_REAL, 0)
print(len(os.listdir('big')))";
    check(&view, body, &("ok ok\n".repeat(5) + "200"));
}

#[test]
fn a_directory_that_is_somebodys_working_directory_can_be_renamed() {
    if !views_work() {
        return;
    }
    let view = view();
    check(
        &view,
        "
os.chdir('dir/sub')
print(renameat2('../../dir', '../../moved'))
try:
    open('new', 'w')
except OSError as error:
    print(errno.errorcode[error.errno])
os.chdir('PLACE')
print(tree('moved'))"
            .replace("PLACE", &view.layout.workspace.display().to_string())
            .as_str(),
        "ok\nENOENT\nempty/ file sub/ sub/deep/ sub/deep/leaf sub/other",
    );
}

#[test]
fn chroots_and_nested_namespaces_are_seen_through() {
    if !views_work() {
        return;
    }
    let view = view();
    fs::create_dir_all(view.live("root/inner")).expect("made");
    view.write("root/inner/file", "x");
    // An absolute link leads to the caller's root, and `..` not above it.
    std::os::unix::fs::symlink("/inner", view.live("root/link")).expect("linked");
    let body = "
if os.fork() == 0:
    if os.getuid(): libc.unshare(0x10000000)
    os.chroot('root')
    os.chdir('/')
    print(renameat2('/link/../../inner', '/moved'), renameat2('moved', 'again'), sorted(os.listdir('/')), flush=True)
    os._exit(0)
os.wait()
if os.fork() == 0:
    libc.unshare(0x10020000)
    print(libc.mount(b'full', b'empty', None, 4096, None), renameat2('dir', 'd2'), renameat2('empty', 'x'), flush=True)
    os._exit(0)
os.wait()
print(sorted(os.listdir('d2')), sorted(os.listdir('root')))";
    check(&view, body, "ok ok ['again', 'link']\n0 ok EBUSY\n['empty', 'file', 'sub'] ['again', 'link']");
}

#[test]
fn a_confined_agent_cannot_have_a_directory_renamed_outside() {
    if !views_work() {
        return;
    }
    let mut view = view();
    view.layout.confinement = Confinement::Confined(vec![view.layout.workspace.clone()]);
    fs::create_dir(view.outside().join("out")).expect("made");
    let seen = view.python(&program(
        "print(renameat2('dir', 'moved'), renameat2('../out', '../elsewhere'), renameat2('../out', 'in'))",
    ));
    assert_eq!(seen.entered.renames, RenameService::Own);
    assert_eq!(seen.text().trim(), "ok EACCES EXDEV");
}

#[test]
fn a_move_that_cannot_be_finished_is_taken_back() {
    if !views_work() {
        return;
    }
    if !is_root() {
        super::project::skip("root", "a file of another owner cannot be made");
        return;
    }
    // Nobody who has no name in a user namespace can have a file copied up there (EOVERFLOW).
    let mut view = view();
    view.opening = Some(vec![Step::UserNamespace { uid: 0, gid: 0 }, Step::MountNamespace, Step::ServeRenames]);
    std::os::unix::fs::chown(view.write("dir/sub/deep/foreign", "x"), Some(12345), None).expect("changed");
    check(
        &view,
        "
def look():
    return [(path, os.stat(path).st_mtime_ns, os.stat(path).st_mode) for path in ('dir', 'dir/sub', 'dir/sub/deep')]
before = look()
print(renameat2('dir', 'moved'), tree('dir'), sorted(os.listdir('.')), look() == before)
print(renameat2('dir', 'full', EXCHANGE), renameat2('full', 'dir', EXCHANGE), tree('full'), sorted(os.listdir('.')))",
        "EOVERFLOW empty/ file sub/ sub/deep/ sub/deep/foreign sub/deep/leaf sub/other ['dir', 'empty', 'full', 'plain'] True\n\
         EOVERFLOW EOVERFLOW file ['dir', 'empty', 'full', 'plain']",
    );
}

/// Processes with the helper's name whose mount namespace is that of `pid`.
fn helpers_of(pid: u32) -> Vec<String> {
    let namespace = fs::read_link(format!("/proc/{pid}/ns/mnt")).ok();
    let processes = fs::read_dir("/proc").expect("proc").flatten();
    processes
        .map(|entry| entry.path())
        .filter(|path| fs::read_to_string(path.join("comm")).is_ok_and(|name| name == "agentguard-mv\n"))
        // An ordinary user may not look at the namespaces of a process that has capabilities.
        .filter(|path| fs::read_link(path.join("ns/mnt")).is_ok_and(|found| Some(found) == namespace) || !is_root())
        .filter_map(|path| path.file_name().map(|name| name.to_string_lossy().into_owned()))
        .collect()
}

#[test]
fn the_helper_is_gone_with_the_agent_and_its_children_and_holds_no_pipe() {
    if !views_work() {
        return;
    }
    let view = View::new();
    let begun = Instant::now();
    let (child, entered) = view.launch(&["sh", "-c", "sleep 0.2; echo end"].map(OsStr::new)).expect("started");
    let pid = child.init().as_raw_nonzero().get().unsigned_abs();
    let mut helpers = Vec::new();
    wait_until("the helper is there", || {
        helpers = helpers_of(pid);
        !helpers.is_empty()
    });
    for helper in &helpers {
        let stat = fs::read_to_string(format!("/proc/{helper}/stat")).unwrap_or_default();
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        assert!(!is_root() || fields.get(1) == Some(&pid.to_string().as_str()), "it is no child of the agent: {stat}");
    }
    let seen = finish(child, entered);
    assert_eq!((seen.stdout.as_str(), seen.end.code), ("end\n", Some(0)));
    assert!(begun.elapsed() < Duration::from_secs(5), "the end of the output came with the agent's end");
    if is_root() {
        wait_until("the helper is gone", || helpers.iter().all(|helper| !is_alive(helper)));
    }
}

#[test]
fn a_child_that_outlives_the_agent_is_still_served() {
    if !views_work() {
        return;
    }
    let view = view();
    let done = view.outside().join("done");
    let script = format!(
        "setsid sh -c \"touch started; sleep 0.05; mv -T dir moved && mv -T full empty && : > '{}'\" >/dev/null 2>&1 & \
         while [ ! -e started ]; do sleep 0.01; done; exit 3",
        done.display()
    );
    assert_eq!(view.sh(&script).end.code, Some(3));
    wait_until("the child has renamed", || done.exists());
}

#[test]
fn files_are_renamed_by_the_kernel_itself() {
    if !views_work() {
        return;
    }
    let view = view();
    let inode = fs::metadata(view.live("plain")).expect("there").ino();
    check(
        &view,
        "print(renameat2('plain', 'dir/file'), renameat2('full/file', 'x', NOREPLACE), renameat2('x', 'dir/file', EXCHANGE))
os.symlink('dir', 'link')
print(renameat2('link', 'dir/link'), os.readlink('dir/link'))
os.mkfifo('pipe')
print(renameat2('pipe', 'p2'), os.stat('x').st_ino)",
        &format!("ok ok ok\nok dir\nok {inode}"),
    );
}

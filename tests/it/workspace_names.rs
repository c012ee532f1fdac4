//! Names of every kind, paths of any depth, and workspaces whose own path is odd or long.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use sha2::Digest as _;

use crate::project::Project;
use crate::trees::{Twins, python, views};

/// Steps over files, directories and links of odd names: `sys.argv[1]` says which.
const ODD_NAMES: &str = r#"
import os, sys
NAMES = [b'-rf', b'--', b'a\nb', b'\xff\xfe', b'esc\x1b[31mred', b'n' * 255, b'\xe2\x80\xae', b'*', b'q\'"$(x)`', b'{staging}',
         b'co:lon,com\\ma', b' ', b'tab\t', b'...', b'.wh.whiteout', b'\\134', b'#x']
def write(path, text):
    with open(path, 'ab') as file:
        file.write(text)
    os.utime(path, (10**9, 10**9))
def create():
    for top in b'files', b'dirs', b'links':
        os.mkdir(top)
    for name in NAMES:
        write(b'files/' + name, name)
        os.mkdir(b'dirs/' + name)
        write(b'dirs/' + name + b'/' + name, name)
        os.symlink(name, b'links/' + name)
def modify():
    for name in NAMES:
        write(b'files/' + name, b' more')
        write(b'dirs/' + name + b'/new', name)
        os.chmod(b'dirs/' + name, 0o700)
        os.setxattr(b'files/' + name, b'user.name', name)
def rename():
    os.mkdir(b'moved')
    for before, after in zip(NAMES, NAMES[1:] + NAMES[:1]):
        os.rename(b'dirs/' + before, b'moved/' + after)
        os.link(b'files/' + before, b'moved/' + after + b'/linked')
    os.rename(b'links', b'renamed')
def delete():
    for name in NAMES:
        os.unlink(b'files/' + name)
        os.unlink(b'renamed/' + name)
        os.mkdir(b'files/' + name)
        os.unlink(b'moved/' + name + b'/new')
def swap():
    for name in NAMES:
        os.rmdir(b'files/' + name)
        os.symlink(name, b'files/' + name)
globals()[sys.argv[1]]()
"#;

#[test]
fn files_of_any_name_are_created_changed_moved_and_deleted() {
    for view in views() {
        let twins = Twins::planted(":");
        for step in ["create", "modify", "rename", "delete", "swap"] {
            let command = [python(), "-c", ODD_NAMES, step];
            twins.fails_untouched(
                &["--workspace", ".", "--view", view, "--quiet"],
                &["sh", "-c", "\"$@\"; exit 7", "sh", command[0], "-c", ODD_NAMES, step],
            );
            twins.both_command(&["--workspace", ".", "--view", view], &command);
            let listing = twins.guarded.ag(&["show", "@", "--manifest", "outputs", "--listing"]).exits(0).stdout;
            let hash: String = sha2::Sha256::digest(&listing).iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(twins.guarded.last().output_hash.map(|hash| hash.to_string()), Some(hash), "{step}");
        }
        twins.guarded.ag(&["fsck"]).exits(0);
    }
}

/// A path of 30 times 200 bytes, made, changed, moved and removed.
const DEEP: &str = r#"
import os, shutil, sys
def down():
    os.chdir('top')
    for _ in range(30):
        os.chdir('d' * 200)
def create():
    os.mkdir('top')
    os.chdir('top')
    for _ in range(30):
        os.mkdir('d' * 200)
        os.chdir('d' * 200)
    modify()
def modify():
    with open('file', 'a') as file:
        file.write('deep')
    os.utime('file', (10**9, 10**9))
if sys.argv[1] == 'create':
    create()
elif sys.argv[1] == 'modify':
    down()
    modify()
    os.symlink('file', 'link')
    os.mkdir('directory')
elif sys.argv[1] == 'move':
    os.rename('top', 'moved')
    os.rename('moved/' + 'd' * 200, 'below')
elif sys.argv[1] == 'recreate':
    shutil.rmtree('below')
    create()
else:
    shutil.rmtree('top')
"#;

#[test]
fn paths_longer_than_path_max_are_published() {
    for view in views() {
        let twins = Twins::planted(":");
        for step in ["create", "modify", "move", "recreate", "remove"] {
            let failing = ["sh", "-c", "\"$@\"; exit 7", "sh", python(), "-c", DEEP, step];
            twins.fails_untouched(&["--view", view, "--quiet"], &failing);
            twins.both_command(&["--view", view, "--quiet"], &[python(), "-c", DEEP, step]);
        }
        assert_eq!(twins.guarded.leftovers(), Vec::<String>::new());
    }
}

const EVERYTHING: &str =
    "echo more >> file; echo new > new; rm gone; mv dir moved; mkdir dir; echo x > dir/x; chmod 600 mode";
const PLANT: &str = "for f in file gone mode; do echo $f > $f; done; mkdir -p dir/sub; echo deep > dir/sub/deep";

#[test]
fn a_workspace_may_have_any_name() {
    let names: [&[u8]; 9] =
        [b"sp ace", b"co:lon", b"com,ma", b"back\\slash", b"new\nline", b"\xff\xfe", b"quo'te\"", b"{staging}", b"-rf"];
    let top = tempfile::tempdir().expect("temporary directory");
    for name in names {
        let parent = top.path().join(OsString::from_vec(name.to_vec()));
        fs::create_dir(&parent).expect("created");
        for view in views() {
            let twins = Twins::of(Project::below(&parent), PLANT);
            twins.both(&["--view", view, "--verify", "test -f new && test -d moved/sub"], EVERYTHING);
            twins.both(&["--view", view, "--quiet"], "mv moved again; ln again/sub/deep linked");
        }
    }
}

/// A directory whose path has so many bytes, with the name of the project in it still to come.
fn long_directory(top: &Path, bytes: usize) -> PathBuf {
    let mut path = top.to_path_buf();
    while path.as_os_str().len() + 2 < bytes {
        let left = bytes - path.as_os_str().len() - 1;
        path.push("p".repeat(left.min(250)));
    }
    fs::create_dir_all(&path).expect("created");
    path
}

#[test]
fn a_workspace_may_have_a_path_of_3_800_bytes() {
    let top = tempfile::tempdir().expect("temporary directory");
    let parent = long_directory(top.path(), 3_800);
    for view in views() {
        let twins = Twins::of(Project::below(&parent), PLANT);
        twins.both(&["--view", view, "--verify", "test -f new && test -d moved/sub"], EVERYTHING);
    }
}

#[test]
fn a_path_too_long_for_the_kernel_is_refused_before_the_agent_starts() {
    let top = tempfile::tempdir().expect("temporary directory");
    for bytes in [3_900, 3_950, 4_000, 4_030, 4_060, 4_075] {
        let parent = long_directory(top.path(), bytes);
        for view in views() {
            let project = Project::below(&parent);
            // A shell of its own for the change of directory: the paths in it would be too long.
            let planted = Command::new("sh").args(["-ec", PLANT]).current_dir(project.path()).status().expect("sh");
            assert!(planted.success());
            let outcome = project.run(&["--view", view], "echo more >> file; echo new > new");
            match outcome.code {
                Some(0) => {
                    assert_eq!((project.read("file"), project.read("new")), ("file\nmore\n".into(), "new\n".into()))
                }
                Some(125) => {
                    assert_eq!(project.visible_names(), ["dir", "file", "gone", "mode"], "{bytes}");
                    assert_eq!(project.read("file"), "file\n");
                    assert!(outcome.stderr.contains("too long"), "{bytes}: {}", outcome.stderr);
                }
                code => panic!("{bytes}, {view}: {code:?} {}", outcome.stderr),
            }
        }
    }
}

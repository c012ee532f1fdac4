//! What agents really do: git, build tools, package managers, databases, editors. The tree is afterwards what the same
//! commands make of it without agentguard, and the tools themselves find nothing wrong with it.

use crate::project::{Outcome, skip};
use crate::trees::{Twins, has, python, views};
use crate::workspace_scene::facilities;

/// A home of their own, and dates that make commit ids the same in both.
fn environment(home: &tempfile::TempDir) -> Vec<(&'static str, String)> {
    let home = home.path().to_str().expect("UTF-8").to_owned();
    vec![
        ("HOME", home.clone()),
        ("XDG_CONFIG_HOME", format!("{home}/.config")),
        ("GIT_CONFIG_NOSYSTEM", "1".into()),
        ("GIT_AUTHOR_NAME", "A".into()),
        ("GIT_AUTHOR_EMAIL", "a@example.org".into()),
        ("GIT_AUTHOR_DATE", "1000000000 +0000".into()),
        ("GIT_COMMITTER_NAME", "C".into()),
        ("GIT_COMMITTER_EMAIL", "c@example.org".into()),
        ("GIT_COMMITTER_DATE", "1000000001 +0000".into()),
        ("GIT_EDITOR", "true".into()),
        ("npm_config_cache", format!("{home}/npm")),
        ("npm_config_update_notifier", "false".into()),
        ("PIP_NO_CACHE_DIR", "1".into()),
        ("PIP_DISABLE_PIP_VERSION_CHECK", "1".into()),
        ("PYTHONDONTWRITEBYTECODE", "1".into()),
    ]
}

fn twins(home: &tempfile::TempDir, plant: &str) -> Twins {
    let exports: Vec<String> =
        environment(home).into_iter().map(|(name, value)| format!("export {name}='{value}'\n")).collect();
    Twins::planted(&format!("{}{plant}", exports.concat())).with_environment(&environment(home))
}

fn home() -> tempfile::TempDir {
    tempfile::tempdir().expect("temporary directory")
}

const REPOSITORY: &str = "
git init -q -b main
git config pack.threads 1; git config gc.auto 0
mkdir -p src/deep docs
for i in 1 2 3 4 5 6 7 8 9; do seq $i $((i * 20)) > src/$i.txt; echo $i > src/deep/$i; done
echo doc > docs/readme; ln -s src/1.txt link; printf 'target/\\n*.log\\n' > .gitignore; chmod +x docs/readme
git add -A; git commit -qm first
echo two >> src/2.txt; git commit -qam second
git checkout -q -b topic HEAD~1; echo topic >> src/3.txt; git commit -qam topic; echo more >> src/4.txt; git commit -qam more
git checkout -q -b side main; echo side > side; git add side; git commit -qm side; git checkout -q main
mkdir target; echo built > target/out; echo log > x.log
";

const GIT_STEPS: [&str; 19] = [
    "echo more >> src/1.txt; echo new > src/new; rm src/9.txt; git add -A; git commit -qm work",
    "git checkout -q topic; git rebase -q main; git checkout -q main; git merge -q --ff-only topic",
    "echo dirty >> src/1.txt; echo untracked > u; git stash -q -u; git status --porcelain; git stash pop -q; git status --porcelain",
    "git add -A; git commit -q --amend --no-edit; git stash list",
    "git mv src/deep src/renamed; git mv docs manual; git commit -qm moved",
    "git mv src lib; git mv lib/renamed deep; git commit -qm 'moved again'",
    "git worktree add -q wt -b wtb; cd wt; echo w > w; git add w; git commit -qm w; git status --porcelain",
    "git merge -q --no-edit side; git merge -q --no-edit wtb; git log --oneline | wc -l",
    "git tag v1; git checkout -q -b other HEAD~2; echo o > o; git add o; git commit -qm o; git checkout -q main; git cherry-pick other",
    "git gc -q; git count-objects -v | grep -v size",
    // A private copy has inodes that git's index does not know: unrefreshed, a reset writes every file anew, with a new time.
    "git update-index -q --refresh; git reset -q --hard HEAD~1; git clean -fdxq -e wt; git status --porcelain",
    "git rm -rq deep; git commit -qm removed; git checkout -q HEAD~1 -- deep; git commit -qm restored",
    "git checkout -q v1; git checkout -q main; git switch -q -c last; git rm -q lib/5.txt; git commit -qm gone
     git restore -q --source=v1 lib/5.txt; git add lib; git commit -qm restored",
    "echo x >> lib/1.txt; git diff --stat; git commit -qam x; git revert --no-edit HEAD > /dev/null; echo y >> lib/2.txt; git commit -qam y",
    "GIT_SEQUENCE_EDITOR=\"sed -i '2s/pick/squash/'\" git rebase -q -i HEAD~2; git log --oneline | wc -l",
    "echo theirs > side; git commit -qam theirs; git checkout -q -b conflict HEAD~1; echo ours > side; git commit -qam ours
     git merge -q last > /dev/null || git status --porcelain; echo both > side; git commit -qam both; git checkout -q main",
    "git worktree remove --force wt; git worktree prune; git branch -D wtb side topic other | wc -l",
    "git repack -adq; git prune; git pack-refs --all; git reflog expire --expire=now --all; git gc -q --prune=now",
    "git init -q inner; cd inner; echo i > i; git add i; git commit -qm inner; git status --porcelain",
];

/// What holds the time of day, the object's inode or the absolute path of the tree; or depends on git's own luck.
fn is_gits_own(path: &[u8]) -> bool {
    let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
    let below = |top: &[u8]| path.windows(top.len()).any(|window| window == top);
    (below(b".git/") && (name == b"index" || name == b"gitdir"))
        || below(b".git/objects/pack/")
        || below(b".git/objects/info/")
        || path == b"wt/.git"
}

/// What git finds in both trees, without agentguard: nothing wrong, and the same.
#[track_caller]
fn git_agrees(twins: &Twins, step: &str) {
    for question in [
        "git fsck --full --strict 2>&1",
        "git status --porcelain --untracked-files=all",
        "git log --all --format='%H %T %s'",
        "git for-each-ref; git stash list; git worktree list | wc -l; git ls-files -s",
        "[ ! -e wt ] || { git -C wt status --porcelain; git -C wt log -1 --format=%H; git -C wt fsck 2>&1; }",
        "! find . -path ./.agentguard -prune -o -name '*.lock' -print -o -name 'tmp_obj*' -print | grep .",
    ] {
        let (bare, guarded) = twins.bare_and_live(&["sh", "-ec", question]);
        assert_eq!(guarded.text(), bare.text(), "{step}: {question}");
        assert_eq!(
            (guarded.code, bare.code),
            (Some(0), Some(0)),
            "{step}: {question}: {}{}",
            guarded.text(),
            guarded.stderr
        );
    }
}

#[test]
fn git_works_as_ever_and_finds_nothing_wrong() {
    for view in views() {
        let home = home();
        let twins = twins(&home, REPOSITORY);
        // A further work tree holds absolute paths: made in a copy at another path, it would be that copy's.
        let steps = if facilities().same_path { GIT_STEPS.len() } else { 6 };
        for step in GIT_STEPS.into_iter().take(steps) {
            twins.both_except(&["--view", view, "--quiet"], &["sh", "-ec", step], &is_gits_own);
            git_agrees(&twins, step);
        }
    }
}

#[test]
fn git_work_that_fails_leaves_the_repository_as_it_was() {
    for view in views() {
        let home = home();
        let twins = twins(&home, REPOSITORY);
        for step in GIT_STEPS.iter().take(10) {
            let script = format!("( {step} ); exit 7");
            twins.fails_untouched(&["--view", view, "--quiet"], &["sh", "-c", &script]);
        }
        git_agrees(&twins, "nothing");
    }
}

#[test]
fn cargo_builds_and_what_it_built_is_still_fresh_afterwards() {
    if !has("cargo", "--version") {
        return skip("cargo", "not installed");
    }
    let plant =
        "mkdir src; printf '[package]\\nname = \"tiny\"\\nversion = \"0.1.0\"\\nedition = \"2021\"\\n' > Cargo.toml
                 echo 'mod part; fn main() { println!(\"{}\", part::NUMBER); }' > src/main.rs
                 echo 'pub const NUMBER: u32 = 1;' > src/part.rs";
    let built = |path: &[u8]| path.starts_with(b"target");
    for view in views() {
        let twins = Twins::planted(plant).with_environment(&[("CARGO_TARGET_DIR", "target".into())]);
        for step in [
            "cargo build -q --offline; ./target/debug/tiny",
            "sed -i s/1/2/ src/part.rs; cargo run -q --offline",
            "mv src/part.rs src/other.rs; sed -i s/part/other/g src/main.rs; cargo run -q --offline; rm -r target/debug/incremental",
        ] {
            twins.both_except(&["--view", view, "--quiet"], &["sh", "-ec", step], &built);
            let again = twins.bare_and_live(&[
                "sh",
                "-ec",
                "cargo build -v --offline 2>&1 | grep -c Fresh; ./target/debug/tiny",
            ]);
            assert_eq!(again.1.text(), again.0.text(), "{step}");
            assert!(again.1.text().starts_with("1\n"), "{step}: {}", again.1.text());
        }
        twins.both(&["--view", view, "--quiet"], "cargo clean -q");
    }
}

#[test]
fn npm_installs_folders_and_archives() {
    if !has("npm", "--version") {
        return skip("npm", "not installed");
    }
    let plant = "mkdir dep other; echo '{\"name\":\"dep\",\"version\":\"1.0.0\",\"bin\":\"dep.js\"}' > dep/package.json
                 echo 'console.log(\"dep\")' > dep/dep.js; echo '{\"name\":\"other\",\"version\":\"2.0.0\"}' > other/package.json
                 echo 'module.exports = 2' > other/index.js; echo '{\"name\":\"top\",\"version\":\"0.0.0\"}' > package.json";
    for view in views() {
        let home = home();
        let twins = twins(&home, plant);
        for step in [
            "npm install --offline --no-audit --no-fund --silent ./dep $(npm pack --silent ./other) > /dev/null; node_modules/.bin/dep || node node_modules/dep/dep.js",
            "npm uninstall --offline --no-audit --no-fund --silent dep > /dev/null; node -p 'require(\"other\")'",
        ] {
            twins.both(&["--view", view, "--quiet"], step);
        }
    }
}

#[test]
fn pip_installs_into_a_directory() {
    if !has(python(), "-c=import pip") && !has(python(), "-mpip") {
        return skip("pip", "not installed");
    }
    let wheel = "import zipfile
with zipfile.ZipFile('tiny-1.0-py3-none-any.whl', 'w') as wheel:
    def add(name, text):
        wheel.writestr(zipfile.ZipInfo(name, (2001, 1, 1, 0, 0, 0)), text)
    add('tiny/__init__.py', 'NUMBER = 1\\n')
    add('tiny/data/x.txt', 'x\\n')
    add('tiny-1.0.dist-info/METADATA', 'Metadata-Version: 2.1\\nName: tiny\\nVersion: 1.0\\n')
    add('tiny-1.0.dist-info/WHEEL', 'Wheel-Version: 1.0\\nGenerator: x\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n')
    add('tiny-1.0.dist-info/RECORD', '')";
    // The absolute path of the archive stands in one file, and the hash of that file in another.
    let located = |path: &[u8]| path.ends_with(b"/direct_url.json") || path.ends_with(b"/RECORD");
    for view in views() {
        let home = home();
        let twins = twins(&home, ":");
        let pip = format!("{} -m pip install -q --no-index --no-compile --no-warn-script-location", python());
        for step in [
            format!("{} -c \"{}\"; {pip} -t lib ./tiny-1.0-py3-none-any.whl", python(), wheel),
            format!("PYTHONPATH=lib {} -c 'import tiny; print(tiny.NUMBER)'; {pip} --upgrade -t lib ./*.whl", python()),
        ] {
            twins.both_except(&["--view", view, "--quiet"], &["sh", "-ec", &step], &located);
        }
    }
}

const SQLITE: &str = "
import os, sqlite3, sys
db = sqlite3.connect('data.db', isolation_level=None)
print(db.execute('pragma journal_mode=wal').fetchone())
db.execute('create table if not exists t(x)')
print(db.execute('select count(*) from t').fetchone(), db.execute('pragma integrity_check').fetchone())
other = sqlite3.connect('data.db', isolation_level=None)
for number in range(500):
    (db if number % 2 else other).execute('insert into t values (?)', (os.urandom(3),))
if sys.argv[1] == 'checkpoint':
    print(db.execute('pragma wal_checkpoint(truncate)').fetchone())
sys.stdout.flush()
if sys.argv[1] != 'close':
    os._exit(0)
other.close()
db.close()
";

#[test]
fn sqlite_in_wal_mode_keeps_every_row_whether_it_was_closed_or_not() {
    let database = |path: &[u8]| path.starts_with(b"data.db");
    for view in views() {
        let twins = Twins::planted(":");
        for end in ["open", "open", "checkpoint", "close", "open"] {
            twins.both_except(&["--view", view, "--quiet"], &[python(), "-c", SQLITE, end], &database);
        }
        twins.fails_untouched(&["--view", view], &["sh", "-c", "\"$@\"; exit 7", "sh", python(), "-c", SQLITE, "open"]);
        let count = "import sqlite3; db = sqlite3.connect('data.db'); print(db.execute('select count(*) from t').fetchone(), \
                     db.execute('pragma integrity_check').fetchone())";
        let (bare, guarded) = twins.bare_and_live(&[python(), "-c", count]);
        assert_eq!((guarded.text(), bare.text()), ("(2500,) ('ok',)\n".into(), "(2500,) ('ok',)\n".into()));
    }
}

const EDITS: [&str; 12] = [
    "sed -i 's/one/ONE/' a.txt src/*.c",
    "cp -p a.txt a.txt~; echo edited > a.txt.tmp; mv a.txt.tmp a.txt",
    "mv b.txt b.txt~; echo rewritten > b.txt; chmod --reference=b.txt~ b.txt; rm b.txt~",
    "rm -rf src; mkdir src; echo 'int main(void) { return 0; }' > src/main.c; mkdir src/new; echo n > src/new/n",
    "tar cf all.tar tree; rm -rf tree; tar xpf all.tar; rm all.tar",
    "ln -sfn tree/x current; ln -sfn tree/y current; mkdir -p out/a/b/c; find . -name '*.o' -delete; find out -type d -empty -delete",
    "cp -al tree snapshot; echo changed > snapshot/x/new; echo more >> snapshot/x/one; rm -r tree/y",
    "cp -a tree copy; diff -r tree copy; mv copy/x copy/w; rm -rf tree; mv copy tree",
    "printf '%s\\n' '--- a.txt' '+++ a.txt' '@@ -1 +1,2 @@' ' edited' '+patched' > p; patch -s < p || { cat p; echo patched >> a.txt; }; rm -f p *.orig *.rej",
    "for i in 1 2 3 4 5 6 7 8 9; do for j in 1 2 3 4 5 6 7 8 9; do mkdir -p many/$i; echo $i$j > many/$i/$j; done; done",
    "for i in 1 2 3 4 5; do mv many/$i many/1$i; done; rm many/9/*; rmdir many/9; install -m 711 a.txt many/6/a",
    "mv many less; mv less/11 .; mv 11 less/6/; rm -r less/7; touch less/7; mv less many",
];

/// Renames as languages do them: no falling back to a copy.
const RENAMES: &str = "
import os, shutil
os.rename('tree', 'tree2')
os.rename('tree2/x', 'x')
os.makedirs('deep/er')
os.rename('x', 'deep/er/x')
os.rename('deep', 'deeper')
os.mkdir('empty')
os.rename('deeper/er', 'empty')
try:
    os.rename('empty', 'tree2')
except OSError as error:
    print(error.errno)
here = os.open('.', os.O_RDONLY)
os.rename('src', 'csrc', src_dir_fd=here, dst_dir_fd=here)
os.chdir('empty')
os.rename('../csrc', '../src')
os.rename('../empty', '../full')
print(os.path.basename(os.getcwd()), sorted(os.listdir('.')))
with open('written-from-inside', 'w') as file:
    file.write('x')
os.chdir('..')
shutil.move('full', 'tree')
os.replace('tree/x/one', 'one')
";

#[test]
fn edits_as_editors_scripts_and_languages_make_them_are_the_same() {
    let plant = "echo one > a.txt; echo two > b.txt; chmod 640 b.txt; mkdir -p src tree/x tree/y; echo one > src/a.c; echo one > src/b.c
                 : > src/a.o; echo 1 > tree/x/one; echo 2 > tree/y/two; ln -s x tree/z; ln tree/x/one tree/y/linked";
    for view in views() {
        let twins = Twins::planted(plant);
        for step in EDITS {
            twins.both(&["--view", view, "--quiet"], step);
        }
        let twins = Twins::planted(plant);
        twins.both_command(&["--view", view, "--quiet"], &[python(), "-c", RENAMES]);
        twins.fails_untouched(&["--view", view], &["sh", "-c", &format!("{}\nexit 7", EDITS.join("\n"))]);
    }
}

#[test]
fn what_make_has_built_is_up_to_date_afterwards() {
    if !has("make", "--version") {
        return skip("make", "not installed");
    }
    let plant = "printf 'out: a b\\n\\tcat a b > out\\nb: a\\n\\tcp a b\\n' > Makefile; echo a > a; touch -d 2001-01-01 a Makefile";
    for view in views() {
        let twins = Twins::planted(plant);
        for step in ["make -s", "echo more >> a; make -s", "touch -d 2002-02-02 out; rm b; make -s"] {
            twins.both(&["--view", view, "--quiet"], step);
            let Outcome { code, .. } = twins.bare_and_live(&["make", "-q"]).1;
            assert_eq!(code, Some(0), "{step}");
        }
    }
}

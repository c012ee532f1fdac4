"""Random changes below the current directory: random_changes.py SEED COUNT [EXIT_CODE].

Deterministic: the same seed on the same tree does the same, whatever order a directory is read in. Every operation
prints what came of it, so that a view that answers differently is seen at once.
"""

import ctypes
import errno
import os
import random
import shutil
import stat
import sys

seed, count = int(sys.argv[1]), int(sys.argv[2])
rng = random.Random(seed)
libc = ctypes.CDLL(None, use_errno=True)
NAMES = ["a", "b", "c", "d", "-rf", "e f", "n\nl", "\udcff", ".h"]
KEPT = {".agentguard", "agentguard.toml"}
FILE_MODES = [0o644, 0o600, 0o755, 0o400, 0o444, 0o000, 0o200, 0o666]
DIRECTORY_MODES = [0o755, 0o700, 0o500, 0o555, 0o1777, 0o2755, 0o300]
if os.getuid() == 0:
    # Of anybody else nothing below such a directory can be published: the run is refused.
    DIRECTORY_MODES.append(0o000)


def entries():
    found = []
    pending = [""]
    while pending:
        top = pending.pop()
        try:
            names = sorted(os.listdir(top or "."))
        except OSError:
            continue
        for name in names:
            path = os.path.join(top, name)
            if path in KEPT:
                continue
            mode = os.lstat(path).st_mode
            found.append((path, mode))
            if stat.S_ISDIR(mode):
                pending.append(path)
    return sorted(found)


now = []


def pick(wanted):
    paths = [path for path, mode in now if wanted(mode)]
    return rng.choice(paths) if paths else fresh()


def anything(mode):
    return True


def other(mode):
    return not stat.S_ISDIR(mode)


def fresh():
    tops = [""] + [path for path, mode in now if stat.S_ISDIR(mode) and path.count("/") < 4]
    path = os.path.join(rng.choice(tops), rng.choice(NAMES))
    return path


def some(wanted=anything):
    return pick(wanted) if rng.random() < 0.8 else fresh()


def data():
    size = rng.choice([0, 1, 10, 100, 5000, 70000])
    return bytes(rng.randrange(256) for _ in range(8)) * (size // 8 + 1)


def date(path):
    """A time of its own for what was changed, sometimes, so that times can be compared."""
    if rng.random() < 0.7:
        when = rng.randrange(10**18, 15 * 10**17)
        if os.path.lexists(path) and not os.path.isdir(path):
            os.utime(path, ns=(when, when), follow_symlinks=False)


def write(path, flags):
    # Without O_NONBLOCK, a fifo would wait for a reader.
    descriptor = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC | flags, 0o644)
    try:
        if rng.random() < 0.3 and not flags & os.O_APPEND:
            os.lseek(descriptor, rng.choice([3, 5000, 300000]), os.SEEK_SET)
        os.write(descriptor, data())
    finally:
        os.close(descriptor)
    date(path)


def create():
    write(fresh(), os.O_CREAT | os.O_EXCL)


def overwrite():
    write(some(other), os.O_CREAT | os.O_TRUNC)


def append():
    write(some(other), os.O_APPEND)


def patch():
    write(some(other), 0)


def replace():
    path = some(other)
    temporary = path + ".tmp"
    write(temporary, os.O_CREAT | os.O_TRUNC)
    os.rename(temporary, path)


def truncate():
    path = pick(stat.S_ISREG)
    os.truncate(path, rng.choice([0, 1, 4096, 100000]))
    date(path)


def rename():
    before, after = some(), some()
    # Over another name of the same file: an overlay that has forgotten that they are one says ESTALE (Linux 6.18, as user).
    if not (has_names(before) and has_names(after)):
        os.rename(before, after)


def has_names(path):
    try:
        found = os.lstat(path)
    except OSError:
        return False
    return found.st_nlink > 1 and not stat.S_ISDIR(found.st_mode)


def rename_directory():
    os.rename(pick(stat.S_ISDIR), fresh())


def exchange():
    if libc.renameat2(-100, os.fsencode(some()), -100, os.fsencode(some()), 2):
        raise OSError(ctypes.get_errno(), "exchange")


def mkdir():
    os.mkdir(fresh(), rng.choice([0o755, 0o700, 0o777]))


def makedirs():
    os.makedirs(os.path.join(fresh(), rng.choice(NAMES), rng.choice(NAMES)))


def rmdir():
    os.rmdir(pick(stat.S_ISDIR))


def unlink():
    os.unlink(some(other))


def symlink():
    # Never upwards: what is written through a link must stay in this tree.
    path = fresh()
    os.symlink(os.path.join(*rng.choices(NAMES, k=rng.choice([1, 1, 2, 5]))), path)
    date(path)


def link():
    os.link(some(other), fresh(), follow_symlinks=False)


def chmod():
    path = some()
    mode = os.lstat(path).st_mode
    if not stat.S_ISLNK(mode):
        wanted = rng.choice(DIRECTORY_MODES if stat.S_ISDIR(mode) else FILE_MODES)
        # Attributes of what its owner may not read are lost, unless the owner is root.
        os.chmod(path, wanted if os.getuid() == 0 or wanted & 0o400 or not os.listxattr(path) else 0o755)


def utime():
    path = some(other)
    when = rng.randrange(10**18, 15 * 10**17)
    os.utime(path, ns=(when, when), follow_symlinks=False)


def setxattr():
    path = some()
    name = "user." + rng.choice(["note", "a", "b.c"])
    if os.path.lexists(path) and not os.path.islink(path) and not os.access(path, os.R_OK):
        return
    os.setxattr(path, name, data()[: rng.choice([0, 5, 1000])], follow_symlinks=False)


def removexattr():
    path = some()
    names = os.listxattr(path, follow_symlinks=False)
    os.removexattr(path, rng.choice(sorted(names)) if names else "user.none", follow_symlinks=False)


def mkfifo():
    path = fresh()
    os.mkfifo(path, 0o644)
    date(path)


def remove(path):
    """In an order of its own: what is left if it fails half-way must not depend on the directory's order."""
    for name in sorted(os.listdir(path)):
        below = os.path.join(path, name)
        if stat.S_ISDIR(os.lstat(below).st_mode):
            remove(below)
        else:
            os.unlink(below)
    os.rmdir(path)


def remove_tree():
    remove(pick(stat.S_ISDIR))


def recreate():
    path = pick(stat.S_ISDIR)
    remove(path)
    os.mkdir(path)
    for name in rng.sample(NAMES, 2):
        write(os.path.join(path, name), os.O_CREAT)


def copy_back():
    """The same content and mode at the same path by way of another inode: no change of the tree."""
    path = pick(stat.S_ISREG)
    found = os.lstat(path)
    if stat.S_ISREG(found.st_mode) and found.st_nlink == 1:
        shutil.copy2(path, path + ".tmp", follow_symlinks=False)
        os.rename(path + ".tmp", path)


OPERATIONS = [
    (create, 8), (overwrite, 6), (append, 4), (patch, 4), (replace, 4), (truncate, 2), (rename, 6), (rename_directory, 6),
    (exchange, 2), (mkdir, 4), (makedirs, 2), (rmdir, 2), (unlink, 4), (symlink, 4), (link, 5), (chmod, 5), (utime, 2),
    (setxattr, 3), (removexattr, 2), (mkfifo, 2), (remove_tree, 1), (recreate, 2), (copy_back, 2),
]  # fmt: skip

if not os.path.exists(".agentguard"):
    for number in range(count):
        now = entries()
        crowded = len(now) > 120
        operation = remove_tree if crowded else rng.choices([o for o, _ in OPERATIONS], [w for _, w in OPERATIONS])[0]
        try:
            operation()
            came = "ok"
        except OSError as error:
            came = errno.errorcode[error.errno]
        print(number, operation.__name__, came, flush=False)
    sys.exit(int(sys.argv[3]) if len(sys.argv) > 3 else 0)
sys.exit("the state directory can be seen")

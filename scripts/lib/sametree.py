#!/usr/bin/env python3
"""What `diff -r` does not see: kinds, modes, owners, times in nanoseconds, link targets, hard links, xattrs.

    sametree.py A B [--skip xattr,owner]      exit 1 and the first differences, one a line
"""

import os
import stat
import sys


def describe(path, skip, links):
    s = os.lstat(path)
    told = {"kind": stat.S_IFMT(s.st_mode)}
    if not stat.S_ISLNK(s.st_mode):
        told["mode"] = oct(stat.S_IMODE(s.st_mode))
    if not stat.S_ISDIR(s.st_mode):
        told["size"] = s.st_size
        told["mtime_ns"] = s.st_mtime_ns
        if s.st_nlink > 1:
            told["hard link of"] = links.setdefault((s.st_dev, s.st_ino), path_tail(path))
    if stat.S_ISLNK(s.st_mode):
        told["target"] = os.readlink(path)
    if stat.S_ISCHR(s.st_mode) or stat.S_ISBLK(s.st_mode):
        told["device"] = s.st_rdev
    if "owner" not in skip:
        told["owner"] = (s.st_uid, s.st_gid)
    if "xattr" not in skip:
        names = sorted(n for n in os.listxattr(path, follow_symlinks=False) if not n.startswith("user.haven."))
        told["xattr"] = {n: os.getxattr(path, n, follow_symlinks=False) for n in names}
    return told


def path_tail(path):
    return path[len(path_tail.root) :]


def tree(root, skip):
    found, links, todo = {}, {}, [root]
    path_tail.root = root
    while todo:
        top = todo.pop()
        for name in sorted(os.listdir(top)):
            full = os.path.join(top, name)
            found[os.path.relpath(full, root)] = describe(full, skip, links)
            if stat.S_ISDIR(os.lstat(full).st_mode):
                todo.append(full)
    return found


def main():
    a, b, *more = sys.argv[1:]
    skip = more[1].split(",") if more else []
    one, two = tree(os.path.abspath(a), skip), tree(os.path.abspath(b), skip)
    different = [
        f"{path}: {one.get(path, 'missing')} | {two.get(path, 'missing')}"
        for path in sorted(set(one) | set(two))
        if one.get(path) != two.get(path)
    ]
    for line in different[:10]:
        print(line, file=sys.stderr)
    print(f"{len(one)} entries, {len(different)} differ")
    return 1 if different or not one else 0


if __name__ == "__main__":
    sys.exit(main())

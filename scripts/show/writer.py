#!/usr/bin/env python3
"""Writes, renames, rewrites and deletes like a photo server under load, until told to stop or refused.

    writer.py --dir MOUNT/round-1 --journal DIR --seconds 20 --workers 2

Each worker notes in DIR/worker-N (which must not be on the tested file system) when each operation began, when
its fsync had returned, when it had returned: see lib/story.py. verify.py reads that and decides what is whole.
SIGTERM ends every worker after the operation it is in. An error ends the worker that got it; it is noted, and
`--errors DIR` prints them and exits 1 if there are any.
"""

import argparse
import errno
import glob
import json
import os
import random
import signal
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import story

PIECE = 64 * 1024  # as a web server writes an upload


class Worker:
    def __init__(self, options, number):
        self.o = options
        self.name = f"{options.seed}.{number}"
        self.dice = random.Random(self.name)
        self.directory = f"w{number}"
        self.journal = os.open(
            os.path.join(options.journal, f"worker-{number}"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o644
        )
        self.count = 0
        self.files = {}  # path -> recipe
        self.stop = False

    def note(self, **line):
        os.write(self.journal, (json.dumps(line) + "\n").encode())

    def mark(self, event):
        self.note(k=self.count, e=event, t=time.time())

    def place(self, path):
        os.makedirs(os.path.dirname(path), exist_ok=True)
        return path

    def run(self):
        self.note(directory=self.directory)
        signal.signal(signal.SIGTERM, lambda *_: setattr(self, "stop", True))
        deadline = time.time() + self.o.seconds
        try:
            # From here on paths are relative: when the mount dies and goes, nothing may land in what lay below it.
            root = os.path.join(self.o.dir, self.directory)
            os.makedirs(root, exist_ok=True)
            os.chdir(root)
            while not self.stop and time.time() < deadline and (not self.o.ops or self.count < self.o.ops):
                self.one()
                if self.o.pause_ms:
                    time.sleep(self.o.pause_ms / 1000)
        except OSError as error:
            self.note(k=self.count, e="x", t=time.time(), error=errno.errorcode.get(error.errno, "?"), text=str(error))

    # ---------------------------------------------------------------- what is done

    def one(self):
        many = len(self.files) > 40
        choices = [(self.upload, 40), (self.derive, 25)]
        if self.files:
            choices += [(self.rewrite, 8), (self.append, 4), (self.shorten, 2), (self.replace, 6), (self.move, 8)]
            choices += [(self.delete, 30 if many else 5)]
        chosen = self.dice.choices([c for c, _ in choices], [w for _, w in choices])[0]
        chosen()

    def photo_size(self):
        return self.dice.choice([self.dice.randint(1, 4_000), self.dice.randint(20_000, 200_000)] * 2 + [self.dice.randint(500_000, 3_000_000)])

    def fresh_path(self, kind):
        code = f"{self.dice.getrandbits(64):016x}"
        return f"{kind}/{code[0]}/{code[1:3]}/{code}"

    def any_path(self):
        return self.dice.choice(sorted(self.files))

    def upload(self):
        """An original: written, fsynced, closed, its time set."""
        size = self.photo_size()
        self.write(self.fresh_path("upload") + ".jpg", [("write", 0, f"{self.name}.{self.count}", size)], fsync=True,
                   mtime_ns=1_400_000_000_123_456_789 + self.count * 1_000_000_007)  # fmt: skip

    def derive(self):
        """A thumbnail: written in place at its final name, never fsynced."""
        self.write(self.fresh_path("thumbs") + ".webp", [("write", 0, f"{self.name}.{self.count}", self.photo_size())])

    def rewrite(self):
        path = self.any_path()
        size = story.size_of(self.files[path])
        steps = [("write", self.dice.randint(0, size), f"{self.name}.{self.count}.{n}", self.dice.randint(1, 50_000))
                 for n in range(self.dice.randint(1, 4))]  # fmt: skip
        self.write(path, steps, fsync=self.dice.random() < 0.5)

    def append(self):
        path = self.any_path()
        end = story.size_of(self.files[path])
        self.write(path, [("write", end, f"{self.name}.{self.count}", self.dice.randint(1, 100_000))], fsync=self.dice.random() < 0.5)

    def shorten(self):
        path = self.any_path()
        self.write(path, [("cut", self.dice.randint(0, story.size_of(self.files[path])))], fsync=self.dice.random() < 0.5)

    def replace(self):
        """A sidecar: a new file beside it, fsynced, renamed over it."""
        path = self.any_path()
        self.write(path + ".tmp", [("write", 0, f"{self.name}.{self.count}", self.photo_size())], fsync=True)
        self.rename(path + ".tmp", path)

    def move(self):
        self.rename(self.any_path(), self.fresh_path("library") + ".jpg")

    # ---------------------------------------------------------------- how, with its marks

    def begin(self, **what):
        self.note(k=self.count, e="b", t=time.time(), what=what)

    def end(self):
        self.mark("r")
        self.count += 1

    def write(self, path, steps, fsync=False, mtime_ns=None):
        full = self.place(path)
        self.begin(op="write", path=path, steps=steps, mtime_ns=mtime_ns, fsync=fsync)
        fd = os.open(full, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            for step in steps:
                if step[0] == "cut":
                    os.ftruncate(fd, step[1])
                    continue
                data = story.noise(step[2], step[3])
                for at in range(0, len(data), PIECE):
                    piece, offset = data[at : at + PIECE], step[1] + at
                    while piece:
                        sent = os.pwrite(fd, piece, offset)
                        piece, offset = piece[sent:], offset + sent
            if fsync:
                os.fsync(fd)
                self.mark("s")
        finally:
            os.close(fd)
        if mtime_ns:
            os.utime(full, ns=(mtime_ns, mtime_ns))
        self.end()
        self.files[path] = story.tidy(self.files.get(path, ()) + tuple(steps))

    def rename(self, path, to):
        target = self.place(to)
        self.begin(op="rename", path=path, to=to)
        os.rename(self.place(path), target)
        self.end()
        self.files[to] = self.files.pop(path)

    def delete(self):
        path = self.any_path()
        full = self.place(path)
        self.begin(op="unlink", path=path)
        os.unlink(full)
        self.end()
        del self.files[path]


def print_errors(journal):
    """Errors the workers met, and the longest any operation took."""
    errors, longest, ops = [], 0.0, 0
    for path in sorted(glob.glob(os.path.join(journal, "worker-*"))):
        told = story.Story(path)
        ops += len(told.ops)
        errors += told.errors
        longest = max([longest] + [op.returned - op.begun for op in told.ops if op.returned])
    print(json.dumps({"operations": ops, "errors": len(errors), "first": errors[:1], "longest_s": round(longest, 3)}))
    return 1 if errors else 0


def main():
    flag = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flag.add_argument("--dir")
    flag.add_argument("--journal")
    flag.add_argument("--seconds", type=float, default=1e9)
    flag.add_argument("--ops", type=int, default=0, help="end each worker after so many operations")
    flag.add_argument("--workers", type=int, default=2)
    flag.add_argument("--pause-ms", type=float, default=0)
    flag.add_argument("--seed", default="1")
    flag.add_argument("--errors", metavar="JOURNAL")
    o = flag.parse_args()
    if o.errors:
        return print_errors(o.errors)
    if not o.dir or not o.journal:
        flag.error("--dir and --journal are needed")
    os.makedirs(o.journal, exist_ok=True)
    os.makedirs(o.dir, exist_ok=True)
    children = []
    signal.signal(signal.SIGTERM, lambda *_: [os.kill(child, signal.SIGTERM) for child in children])
    for number in range(o.workers):
        child = os.fork()
        if not child:
            Worker(o, number).run()
            os._exit(0)
        children.append(child)
    status = 0
    for child in children:
        status |= os.waitpid(child, 0)[1]
    return 1 if status else 0


if __name__ == "__main__":
    sys.exit(main())

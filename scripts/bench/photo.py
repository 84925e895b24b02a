#!/usr/bin/env python3
"""A photo library's life on one directory, measured.

    photo.py --dir MOUNT/b --phases all       import, look, edit; one JSON line per measurement
    photo.py --dir MOUNT/b --phases cold      after a remount with an empty cache
    photo.py --dir MOUNT/b --verify           every byte against the journal; exit 1 on any difference

The tree is Immich's: originals and sidecars below upload/, two derived images for each below thumbs/, both
fanned out over two levels of hexadecimal directories; a storage template later moves originals to library/.
Contents follow from --seed and never repeat (except in `duplicate`), so no store can profit from sameness.

Time counts only while the file system works: contents and checksums are made beforehand. Readings first drop
the file's pages from the kernel, so that the file system answers and not the page cache. What was done is
noted outside the directory, one line per change once it is complete; --verify and later phases start from it.

Compatible with other drivers of the same flags and fields, so that scripts/bench/compare runs either.
"""

import argparse
import collections
import contextlib
import errno
import hashlib
import json
import os
import random
import shlex
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor

IO_BYTES = 1 << 20
OWNER = "3f7d2a90-5c1e-4b8a-9d64-27e0b1c8a5f3"
PREVIEW_BYTES, THUMBNAIL_BYTES, SIDECAR_BYTES, SMALL_BYTES = 200_000, 20_000, 2_000, 4_000
# A file system that says one of these has nothing more to say.
GIVE_UP = {"ENOTCONN", "ENODEV", "EROFS", "ENOSPC", "ESHUTDOWN"}


# -------------------------------------------------------------------- what the files hold


def noise(name, size):
    """Bytes that follow from `name` alone and that nothing can compress."""
    return random.Random(name).randbytes(size)


def sidecar(name):
    """XMP-like text: compresses well, differs for every name."""
    tag = hashlib.blake2b(name.encode(), digest_size=8).hexdigest()
    lines = (f'<rdf:li id="{tag}-{n:03d}" rating="{n % 6}">summer</rdf:li>' for n in range(64))
    return "\n".join(lines).encode()[:SIDECAR_BYTES]


Photo = collections.namedtuple("Photo", "number name size original sidecar preview thumbnail moved copy mtime")


def photo(seed, number, kb_min, kb_max):
    name = f"{seed}:{number}"
    code = hashlib.blake2b(name.encode(), digest_size=16).hexdigest()
    size = random.Random("size " + name).randint(kb_min * 1000, kb_max * 1000)
    place = f"{OWNER}/{code[0:2]}/{code[2:4]}"
    return Photo(
        number, name, size,
        original=f"upload/{place}/{code}.jpg",
        sidecar=f"upload/{place}/{code}.jpg.xmp",
        preview=f"thumbs/{place}/{code}-preview.jpeg",
        thumbnail=f"thumbs/{place}/{code}-thumbnail.webp",
        moved=f"library/{OWNER}/2023/{1 + number % 12:02d}/P{number:07d}.jpg",
        copy=f"upload/{place}/again-{code}.jpg",
        mtime=1_500_000_000 + 97 * number,
    )  # fmt: skip


# -------------------------------------------------------------------- what was done


class Notes:
    """The journal: a line per completed change, in a file outside the tested directory."""

    def __init__(self, path):
        self.path, self.lock = path, threading.Lock()
        self.file = open(path, "a", buffering=1)

    def add(self, op, path, **more):
        line = json.dumps({"op": op, "path": path, **more, "t": round(time.time(), 3)})
        with self.lock:
            self.file.write(line + "\n")

    def tree(self):
        """{path: (size, sha256)} as it should be now."""
        files = {}
        with open(self.path) as lines:
            for entry in map(json.loads, lines):
                if entry["op"] == "put":
                    files[entry["path"]] = (entry["size"], entry["sha256"])
                else:
                    held = files.pop(entry["path"])
                    if entry["op"] == "rename":
                        files[entry["to"]] = held
        return files


# -------------------------------------------------------------------- how long it took


class Clock:
    """Durations of one kind of operation. `with clock.op(bytes): ...` measures one."""

    def __init__(self, phase):
        self.phase, self.seconds, self.bytes, self.lock = phase, [], 0, threading.Lock()

    @contextlib.contextmanager
    def op(self, size=0):
        begin = time.perf_counter()
        yield
        spent = time.perf_counter() - begin
        with self.lock:
            self.seconds.append(spent)
            self.bytes += size

    def line(self, workers):
        ops = sorted(self.seconds)
        if not ops:
            return {"phase": self.phase, "ops": 0}
        busy = sum(ops) / workers

        def rank(share):
            return round(1000 * ops[min(int(share * len(ops)), len(ops) - 1)], 3)

        line = {"phase": self.phase, "ops": len(ops), "bytes": self.bytes, "seconds": round(busy, 3)}
        line["ops_per_s"] = round(len(ops) / busy, 1) if busy else None
        if self.bytes and busy:
            line["mb_per_s"] = round(self.bytes / busy / 1e6, 1)
        return line | {"p50_ms": rank(0.5), "p99_ms": rank(0.99), "max_ms": rank(1)}


# -------------------------------------------------------------------- the phases


class Library:
    def __init__(self, options):
        self.o = options
        self.root = os.path.abspath(options.dir)
        mark = hashlib.blake2b(self.root.encode(), digest_size=6).hexdigest()
        self.notes = Notes(options.journal or f"{tempfile.gettempdir()}/photo-{mark}.journal")
        self.failures = []
        self.photos = [
            photo(options.seed, n, options.min_kb, options.max_kb) for n in range(options.originals)
        ]

    def at(self, path):
        return os.path.join(self.root, path)

    def dice(self, phase):
        return random.Random(f"{self.o.seed} {phase}")

    def workers(self, job, items):
        """job(item) for all items on --jobs threads; single failures are kept, fatal ones rise."""

        def guarded(item):
            try:
                job(item)
            except OSError as error:
                if errno_name(error) in GIVE_UP:
                    raise
                self.failures.append(f"{errno_name(error)} {error.filename}")

        with ThreadPoolExecutor(self.o.jobs) as pool:
            list(pool.map(guarded, items))

    def tell(self, clocks, wrote=False, workers=None, **more):
        """One line per clock; after writing, the time until --settle says all is stored."""
        if wrote and self.o.settle:
            begin = time.perf_counter()
            run = subprocess.run(self.o.settle, shell=True, text=True, stdout=subprocess.PIPE)
            more["settle_s"] = round(time.perf_counter() - begin, 3)
            if run.stdout.strip():
                more["settle_out"] = run.stdout.strip().splitlines()[-1]
            if run.returncode:
                more["settle_rc"] = run.returncode
        more["load1"] = round(os.getloadavg()[0], 2)
        if self.o.label:
            more["label"] = self.o.label
        if self.failures:
            more |= {"errors": len(self.failures), "first_error": self.failures[0]}
            self.failures = []
        for clock in clocks:
            print(json.dumps(clock.line(workers or self.o.jobs) | more), flush=True)

    # -- one file

    def put(self, clock, path, data, mtime=None, fsync=False):
        full, digest = self.at(path), hashlib.sha256(data).hexdigest()
        os.makedirs(os.path.dirname(full), exist_ok=True)
        with clock.op(len(data)):
            with raw(full, os.O_WRONLY | os.O_CREAT | os.O_TRUNC) as fd:
                write_fully(fd, data)
                if fsync:
                    os.fsync(fd)
            if mtime:
                os.utime(full, (mtime, mtime))
        self.notes.add("put", path, size=len(data), sha256=digest)

    def get(self, clock, path):
        full = self.at(path)
        forget_pages(full)
        with clock.op(os.stat(full).st_size), raw(full, os.O_RDONLY) as fd:
            while os.read(fd, IO_BYTES):
                pass

    # -- warm

    def ingest(self):
        kinds = [Clock("ingest/" + kind) for kind in ("original", "preview", "thumbnail", "sidecar")]
        original, preview, thumbnail, text = kinds

        def one(p):
            self.put(original, p.original, noise("original " + p.name, p.size), mtime=p.mtime)
            self.put(text, p.sidecar, sidecar(p.name))
            self.put(preview, p.preview, noise("preview " + p.name, PREVIEW_BYTES))
            self.put(thumbnail, p.thumbnail, noise("thumbnail " + p.name, THUMBNAIL_BYTES))

        self.workers(one, self.photos)
        total = Clock("ingest")
        for kind in kinds:
            total.seconds += kind.seconds
            total.bytes += kind.bytes
        self.tell([total, *kinds], wrote=True)

    def stat(self):
        clock, paths = Clock("stat"), sorted(self.notes.tree())
        self.dice("stat").shuffle(paths)

        def one(path):
            full = self.at(path)
            with clock.op():
                os.stat(full)

        self.workers(one, paths)
        self.tell([clock])

    def readdir(self, phase="readdir", stat=False):
        clock, entries, todo = Clock(phase), 0, [self.root]
        while todo:
            with clock.op(), os.scandir(todo.pop()) as listing:
                for entry in listing:
                    entries += 1
                    if stat:
                        entry.stat(follow_symlinks=False)
                    if entry.is_dir(follow_symlinks=False):
                        todo.append(entry.path)
        rate = round(entries / sum(clock.seconds), 1)
        self.tell([clock], workers=1, entries=entries, entries_per_s=rate)

    def look(self, phase, ending, most):
        """Read up to `most` files whose names end so, in random order."""
        clock = Clock(phase)
        paths = sorted(p for p in self.notes.tree() if p.endswith(ending))
        self.dice(phase).shuffle(paths)
        paths = paths[:most]
        self.workers(lambda path: self.get(clock, path), paths)
        self.tell([clock], workers=max(1, min(self.o.jobs, len(paths))))

    def thumbs(self):
        self.look("thumbs/thumbnail", "-thumbnail.webp", self.o.reads)
        self.look("thumbs/preview", "-preview.jpeg", self.o.reads)

    def video(self):
        path = f"upload/{OWNER}/00/00/film-{self.o.seed}.mp4"
        full, clock, digest = self.at(path), Clock("video/write"), hashlib.sha256()
        os.makedirs(os.path.dirname(full), exist_ok=True)
        fd = os.open(full, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        for part in range(self.o.video_mb):
            data = noise(f"film {self.o.seed} {part}", IO_BYTES)
            digest.update(data)
            with clock.op(len(data)):
                write_fully(fd, data)
        with clock.op():
            os.close(fd)
        self.notes.add("put", path, size=self.o.video_mb * IO_BYTES, sha256=digest.hexdigest())
        self.tell([clock], wrote=True, workers=1)
        clock = Clock("video/read")
        self.get(clock, path)
        self.tell([clock], workers=1)

    def fsync(self):
        clock = Clock("fsync")

        def one(number):
            path = f"profile/{OWNER}/note-{self.o.seed}-{number:05d}.bin"
            self.put(clock, path, noise(f"note {self.o.seed} {number}", SMALL_BYTES), fsync=True)

        self.workers(one, range(self.o.fsyncs))
        self.tell([clock], wrote=True)

    def duplicate(self):
        clock = Clock("duplicate")
        again = self.dice("duplicate").sample(self.photos, len(self.photos) // 2)
        self.workers(
            lambda p: self.put(clock, p.copy, noise("original " + p.name, p.size), mtime=p.mtime), again
        )
        self.tell([clock], wrote=True)

    def mutate(self):
        overwrite, rename, delete = clocks = [Clock("mutate/" + n) for n in ("overwrite", "rename", "delete")]
        doomed = self.dice("delete").sample(self.photos, len(self.photos) // 10)
        gone = {p.number for p in doomed}
        kept = [p for p in self.photos if p.number not in gone]

        def move(p):
            os.makedirs(os.path.dirname(self.at(p.moved)), exist_ok=True)
            with rename.op():
                os.rename(self.at(p.original), self.at(p.moved))
            self.notes.add("rename", p.original, to=p.moved)

        def remove(p):
            for path in (p.original, p.sidecar, p.preview, p.thumbnail):
                with delete.op():
                    os.unlink(self.at(path))
                self.notes.add("delete", path)

        self.workers(
            lambda p: self.put(overwrite, p.preview, noise("edited " + p.name, PREVIEW_BYTES)), kept[::4]
        )
        self.workers(move, kept[1::4])
        self.workers(remove, doomed)
        self.tell(clocks, wrote=True)

    # -- cold

    def cold_walk(self):
        self.readdir("cold-walk", stat=True)

    def cold_read(self):
        self.look("cold-read/thumbnail", "-thumbnail.webp", self.o.reads)
        self.look("cold-read/original", ".jpg", self.o.cold_originals)
        if self.o.video_mb:
            self.look("cold-read/video", ".mp4", 1)

    # -- proof

    def verify(self):
        expected, lock, read = self.notes.tree(), threading.Lock(), 0
        wrong = collections.defaultdict(list)

        def one(path):
            nonlocal read
            size, digest, trouble = 0, hashlib.sha256(), None
            try:
                forget_pages(self.at(path))
                with raw(self.at(path), os.O_RDONLY) as fd:
                    while block := os.read(fd, IO_BYTES):
                        size += len(block)
                        digest.update(block)
            except FileNotFoundError:
                trouble = "missing"
            except OSError:
                trouble = "io_error"
            if not trouble and size != expected[path][0]:
                trouble = "wrong_size"
            if not trouble and digest.hexdigest() != expected[path][1]:
                trouble = "corrupt"
            with lock:
                read += size
                if trouble:
                    wrong[trouble].append(path)

        begin = time.perf_counter()
        self.workers(one, sorted(expected))
        there = {
            os.path.relpath(os.path.join(top, name), self.root)
            for top, _, names in os.walk(self.root)
            for name in names
        }
        bad = sorted(path for paths in wrong.values() for path in paths)
        line = {"phase": "verify", "ok": not bad, "files": len(expected), "bytes": read}
        line["wall_s"] = round(time.perf_counter() - begin, 3)
        line |= {kind: len(wrong[kind]) for kind in ("missing", "wrong_size", "corrupt", "io_error")}
        line |= {"unexpected": len(there - expected.keys()), "examples": bad[:5], "label": self.o.label}
        print(json.dumps(line), flush=True)
        return not bad


WARM = ("ingest", "stat", "readdir", "thumbs", "video", "fsync", "duplicate", "mutate")
COLD = ("cold-walk", "cold-read")


# -------------------------------------------------------------------- small change


@contextlib.contextmanager
def raw(path, flags):
    fd = os.open(path, flags, 0o644)
    try:
        yield fd
    except BaseException:
        os.close(fd)
        raise
    os.close(fd)  # within the measured time: some file systems do their work here


def write_fully(fd, data):
    done = 0
    while done < len(data):
        done += os.write(fd, memoryview(data)[done : done + IO_BYTES])


def forget_pages(path):
    with raw(path, os.O_RDONLY) as fd:
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)


def errno_name(error):
    return errno.errorcode.get(error.errno, str(error.errno))


def options(argv):
    flag = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flag.add_argument("--dir", required=True, help="a directory on the file system to be measured")
    flag.add_argument("--phases", default=None, help=f"all, cold, or some of {','.join(WARM + COLD)}")
    flag.add_argument("--verify", action="store_true")
    flag.add_argument("--seed", default="1")
    flag.add_argument("--originals", type=int, default=200)
    flag.add_argument("--min-kb", type=int, default=1000)
    flag.add_argument("--max-kb", type=int, default=6000)
    flag.add_argument("--video-mb", type=int, default=256, help="MiB of the one film; 0: none to read cold")
    flag.add_argument("--reads", type=int, default=500, help="derived images read in a phase")
    flag.add_argument("--cold-originals", type=int, default=40)
    flag.add_argument("--fsyncs", type=int, default=200)
    flag.add_argument("--jobs", type=int, default=1)
    flag.add_argument("--settle", help="a command that returns when everything is stored")
    flag.add_argument("--journal", help="where the notes are kept")
    flag.add_argument("--label", default="")
    o = flag.parse_args(argv)
    wanted = o.phases if o.phases is not None else ("" if o.verify else "all")
    o.phases = []
    for name in filter(None, wanted.split(",")):
        o.phases += {"all": WARM, "cold": COLD}.get(name, (name,))
    for name in o.phases:
        if name not in WARM + COLD:
            flag.error(f"no phase is called {shlex.quote(name)}")
    return o


def main(argv=None):
    o = options(argv)
    os.makedirs(o.dir, exist_ok=True)
    library = Library(o)
    for phase in o.phases:
        try:
            getattr(library, phase.replace("-", "_"))()
        except OSError as error:
            print(json.dumps({"phase": phase, "label": o.label, "error": str(error)}), flush=True)
            return 2
    return 0 if not o.verify or library.verify() else 1


if __name__ == "__main__":
    sys.exit(main())

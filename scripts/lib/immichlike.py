#!/usr/bin/env python3
"""A writer that behaves like Immich towards its files and its database, and times each call on the mount.

    immichlike.py --media DIR --database CONNINFO --workers N --log FILE      until SIGTERM

Upload: write the file, fsync, insert the row. Move: a row in move_history, rename, the new path and the end of that row in
one transaction. Delete: delete the row, and a moment later unlink the file. Paths in the database begin with /data.
On SIGTERM each worker finishes what it is at; the last line on stdout sums up.
"""
import argparse, hashlib, json, multiprocessing, os, random, signal, sys, time, uuid

import psycopg2

OWNER = "11111111-1111-4111-8111-111111111111"


class Worker:
    def __init__(self, args, number):
        self.args, self.number = args, number
        self.random = random.Random(args.seed * 1000 + number)
        self.db = psycopg2.connect(args.database)
        self.db.autocommit = True
        self.sql = self.db.cursor()
        self.mine, self.queue = [], []
        self.worst, self.ops, self.errors, self.slow = 0.0, 0, [], []
        self.base = os.path.join(args.media, "upload", OWNER, f"w{number}")
        self.library = os.path.join(args.media, "library", "admin", f"w{number}")
        for folder in (self.base, self.library):
            os.makedirs(folder, exist_ok=True)

    def timed(self, what, call, *rest):
        began = time.monotonic()
        result = call(*rest)
        took = time.monotonic() - began
        self.worst = max(self.worst, took)
        if took > 0.05:
            self.slow.append((round(time.time(), 3), what, round(took * 1000, 1)))
        return result

    def there(self, path):
        return "/data" + path[len(self.args.media):]

    def upload(self):
        name = f"{uuid.UUID(int=self.random.getrandbits(128))}.jpg"
        path = os.path.join(self.base, name)
        data = self.random.randbytes(self.random.randint(2000, self.args.bytes))
        def write():
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
            for at in range(0, len(data), 65536):
                os.write(fd, data[at:at + 65536])
            return fd
        fd = self.timed("write", write)
        # How long the disk takes is not what is looked at here.
        if self.random.random() < self.args.fsync:
            os.fsync(fd)
        self.timed("close", os.close, fd)
        self.timed("utime", os.utime, path, (1.7e9, 1.7e9))
        asset = str(uuid.UUID(int=self.random.getrandbits(128)))
        self.sql.execute(
            'INSERT INTO asset (id, "ownerId", type, "originalPath", "originalFileName", checksum) VALUES (%s, %s, %s, %s, %s, %s)',
            (asset, OWNER, "IMAGE", self.there(path), name, hashlib.sha1(data).digest()))
        self.mine.append((asset, path))

    def move(self):
        at = self.random.randrange(len(self.mine))
        asset, old = self.mine[at]
        folder = os.path.join(self.library, str(self.random.randrange(2000, 2027)))
        new = os.path.join(folder, os.path.basename(old) if self.random.random() < 0.5 else f"{self.random.getrandbits(64):x}.jpg")
        if new == old or os.path.exists(new):
            return
        self.sql.execute('INSERT INTO move_history ("entityId", "pathType", "oldPath", "newPath") VALUES (%s, %s, %s, %s)',
                         (asset, "original", self.there(old), self.there(new)))
        self.timed("mkdir", os.makedirs, folder, 0o755, True)
        self.timed("rename", os.rename, old, new)
        self.sql.execute('BEGIN; UPDATE asset SET "originalPath" = %s WHERE id = %s; DELETE FROM move_history WHERE "entityId" = %s; COMMIT',
                         (self.there(new), asset, asset))
        self.mine[at] = (asset, new)

    def delete(self):
        asset, path = self.mine.pop(self.random.randrange(len(self.mine)))
        self.sql.execute("DELETE FROM asset WHERE id = %s", (asset,))
        self.queue.append(path)
        # Immich's deletions wait in a queue.
        if len(self.queue) > 3:
            self.timed("unlink", os.unlink, self.queue.pop(0))

    def run(self, stop):
        began = time.monotonic()
        pause = self.args.workers / self.args.rate if self.args.rate else 0
        while not stop.is_set():
            dice = self.random.random()
            try:
                if len(self.mine) < 20 or dice < 0.4:
                    self.upload()
                elif dice < 0.7:
                    self.move()
                else:
                    self.delete()
            except Exception as error:  # told, and judged by whoever started this
                self.errors.append(repr(error))
                break
            self.ops += 1
            ahead = self.ops * pause - (time.monotonic() - began)
            if ahead > 0:
                time.sleep(ahead)
        return {"worker": self.number, "ops": self.ops, "seconds": time.monotonic() - began, "worst_ms": self.worst * 1000,
                "errors": self.errors, "slow": self.slow[-200:], "assets": len(self.mine)}


def work(args, number, stop, results):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        results.put(Worker(args, number).run(stop))
    except Exception as error:
        results.put({"worker": number, "ops": 0, "seconds": 1, "worst_ms": 0, "errors": [repr(error)], "slow": [], "assets": 0})


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--media", required=True)
    parser.add_argument("--database", required=True)
    parser.add_argument("--workers", type=int, default=6)
    parser.add_argument("--rate", type=float, default=0, help="operations a second, all together; 0: as many as there can be")
    parser.add_argument("--bytes", type=int, default=40000, help="longest file")
    parser.add_argument("--fsync", type=float, default=1.0, help="share of uploads that call fsync")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    args.media = args.media.rstrip("/")
    stop, results = multiprocessing.Event(), multiprocessing.Queue()
    workers = [multiprocessing.Process(target=work, args=(args, n, stop, results)) for n in range(args.workers)]
    for worker in workers:
        worker.start()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    all_ = [results.get() for _ in workers]
    for worker in workers:
        worker.join()
    total = {
        "ops": sum(one["ops"] for one in all_),
        "ops_per_second": round(sum(one["ops"] / one["seconds"] for one in all_), 1),
        "worst_ms": round(max(one["worst_ms"] for one in all_), 1),
        "errors": [error for one in all_ for error in one["errors"]],
        "slow": sorted(slow for one in all_ for slow in one["slow"]),
        "assets": sum(one["assets"] for one in all_),
    }
    print(json.dumps(total))
    return 1 if total["errors"] else 0


if __name__ == "__main__":
    sys.exit(main())

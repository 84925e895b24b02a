#!/usr/bin/env python3
"""Random life of a directory: files made, rewritten, renamed, deleted, snapshots taken and pruned, garbage collected.

    churn.py --dir MOUNT --haven BINARY --ops N --seed S --manifest FILE      does it and notes what must be there
    churn.py --dir MOUNT --check FILE                                        compares, the snapshots too
"""

import argparse
import hashlib
import json
import os
import random
import shutil
import subprocess
import sys


def content(dice):
    size = dice.choice([0, 100, 4000, 30_000, 200_000]) if dice.random() < 0.9 else dice.randrange(1, 3_000_000)
    # Some content comes again and again.
    seed = dice.randrange(200) if dice.random() < 0.2 else dice.getrandbits(64)
    return random.Random(seed).randbytes(size)


def digest(path):
    return hashlib.sha256(open(path, "rb").read()).hexdigest()


class Life:
    def __init__(self, o):
        self.o, self.dice = o, random.Random(o.seed)
        self.files, self.names, self.snapshots, self.count, self.bytes = {}, [], {}, 0, 0
        self.top = os.path.join(o.dir, "churn")
        os.makedirs(self.top)

    def haven(self, *arguments):
        subprocess.run([self.o.haven, *arguments, "-L", self.o.dir], check=True, stdout=subprocess.DEVNULL)

    def any(self):
        return self.dice.choice(self.names) if self.names else None

    def forget(self, name):
        at = self.names.index(name)
        self.names[at] = self.names[-1]
        self.names.pop()

    def step(self):
        kind = self.dice.random()
        name = self.any()
        if kind < 0.45 or name is None or len(self.names) < 20:
            self.count += 1
            name = f"d{self.dice.randrange(50)}/f{self.count}"
            path = os.path.join(self.top, name)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            data = content(self.dice)
            with open(path, "wb") as out:
                out.write(data)
            self.files[name] = hashlib.sha256(data).hexdigest()
            self.names.append(name)
            self.bytes += len(data)
        elif kind < 0.55:
            data = content(self.dice)
            with open(os.path.join(self.top, name), "wb") as out:
                out.write(data)
            self.files[name] = hashlib.sha256(data).hexdigest()
            self.bytes += len(data)
        elif kind < 0.65:
            self.count += 1
            to = f"d{self.dice.randrange(50)}/r{self.count}"
            os.makedirs(os.path.dirname(os.path.join(self.top, to)), exist_ok=True)
            os.rename(os.path.join(self.top, name), os.path.join(self.top, to))
            self.files[to] = self.files.pop(name)
            self.forget(name)
            self.names.append(to)
        else:
            os.unlink(os.path.join(self.top, name))
            del self.files[name]
            self.forget(name)

    def rare(self):
        kind = self.dice.random()
        if kind < 0.5:
            name = f"s{len(self.snapshots)}-{self.count}"
            self.haven("snapshot", "create", name)
            self.snapshots[name] = dict(self.files)
        elif kind < 0.8 and self.snapshots:
            name = self.dice.choice(sorted(self.snapshots))
            self.haven("snapshot", "remove", name)
            del self.snapshots[name]
        else:
            self.haven("gc", "--release")


def work(o):
    life = Life(o)
    every = max(o.ops // 120, 50)
    for n in range(o.ops):
        life.step()
        if n % every == every - 1:
            life.rare()
        # A library of some size, not one that grows without end.
        while len(life.names) > 3000:
            name = life.any()
            os.unlink(os.path.join(life.top, name))
            del life.files[name]
            life.forget(name)
    json.dump({"files": life.files, "snapshots": life.snapshots}, open(o.manifest, "w"))
    print(f"{o.ops} operations, {life.bytes / 1e9:.2f} GB written, {len(life.files)} files and {len(life.snapshots)} snapshots left")


def tree(top):
    found = {}
    for directory, _, names in os.walk(top):
        for name in names:
            path = os.path.join(directory, name)
            found[os.path.relpath(path, top)] = digest(path)
    return found


def check(o):
    wanted = json.load(open(o.check))
    wrong = 0
    places = {"now": (wanted["files"], os.path.join(o.dir, "churn"))}
    for name, files in wanted["snapshots"].items():
        places[name] = (files, os.path.join(o.dir, ".snapshots", name, "churn"))
    for place, (files, top) in places.items():
        found = tree(top)
        bad = [name for name in files.keys() | found.keys() if files.get(name) != found.get(name)]
        wrong += len(bad)
        if bad:
            print(f"{place}: {len(bad)} files differ, {bad[0]} for one")
    print(f"{sum(len(files) for files, _ in places.values())} files in {len(places)} states read, {wrong} wrong")
    return 1 if wrong else 0


parser = argparse.ArgumentParser()
parser.add_argument("--dir", required=True)
parser.add_argument("--haven")
parser.add_argument("--ops", type=int)
parser.add_argument("--seed", type=int, default=1)
parser.add_argument("--manifest")
parser.add_argument("--check")
o = parser.parse_args()
sys.exit(check(o) if o.check else work(o))

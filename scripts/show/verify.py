#!/usr/bin/env python3
"""Decides whether what is left after a crash is whole, from the writer's journal.

    verify.py --dir MOUNT/round-1 --journal DIR --promise closed
    verify.py ... --promise fsynced --moment 1700000000.5       (what had returned by then must be there too)
    verify.py ... --promise until   --moment 1700000000.5 --strict

Always a failure: something promised is missing or older than promised, bytes that nobody wrote there, a read
error, a path that never existed, a tree that contradicts itself. With --strict also: the files together do not
show one state that really was (of each worker, and of all workers in the order things happened). One JSON line
is printed; exit 1 on failure. --manifest FILE keeps what was found (path, SHA-256, mtime) for a later `--same FILE`.
"""

import argparse
import glob
import hashlib
import json
import os
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import story


class Verdict:
    def __init__(self):
        self.problems, self.mixed = [], []
        self.files = self.bytes = self.ops = self.promised = self.torn = 0


def one_state(told, seen, low):
    """The states not older than `low` which everything seen agrees with, and the paths that fit none."""
    possible, misfits = [(low, told.last)], []
    for path in sorted(set(told.paths) | set(seen)):
        found = seen.get(path)
        spans = told.spans(told.paths.get(path, []), low, told.last)
        mine = [(first, last) for first, last, value in spans if story.fits(found, value)]
        if not mine:
            misfits.append(path)
        possible = story.overlap(possible, mine)
    return possible, misfits


def judge(told, seen, promise, moment, cut, verdict):
    """Adds one worker to the verdict; returns the states it may be in (empty: in no single one)."""
    low, floors = told.required(promise, moment, cut)
    verdict.ops += len(told.ops)
    verdict.promised += len(floors)
    possible, misfits = one_state(told, seen, low)
    if possible:
        return possible
    where = os.path.basename(told.path)
    before = len(verdict.problems)

    # No single state. Which promises are broken file by file? A promised file must be, in one of the places it has
    # had since, as it was promised; or on its way to what was written to it later; or gone, if something that takes
    # it away had begun.
    for turns in told.files.values():
        promised = max((t.since for t in turns if floors.get((t.since - 1) // 3, -1) >= t.since), default=None)
        if promised is None:
            continue
        ways = [t for t, after in zip(turns, turns[1:] + [None]) if after is None or after.since > promised]
        if any(t.path is None or story.fits(seen.get(t.path), t.value) for t in ways):
            continue
        later = [story.contents(recipe) for recipe in {t.value.recipe for t in ways}]
        places = [seen[path] for path in {t.path for t in ways} if path in seen and not seen[path].error]
        if len(later) > 1 and any(story.is_torn(found.data, later, zeros=False) for found in places):
            verdict.torn += 1
        else:
            verdict.problems.append(f"{where}: {describe(seen, ways[0])}, promised in state {promised}")

    # And is there anything that never was? What was not promised may be missing, old or torn, but not strange.
    # Its data may be torn between any contents that the files which lived there have had, wherever they were then.
    for path, found in sorted(seen.items()):
        turns = told.paths.get(path)
        if turns is None:
            verdict.problems.append(f"{where}: {path} never existed")
        elif found.error:
            verdict.problems.append(f"{where}: {path}: {found.error}")
        elif not any(t.value and t.value.steps is None and story.fits(found, t.value) for t in turns):
            lived = [file for file in told.files.values() if any(t.path == path for t in file)]
            contents = [story.contents(t.value.recipe) for file in lived for t in file if t.value is not story.NEVER]
            if story.is_torn(found.data, contents):
                verdict.torn += 1
            else:
                verdict.problems.append(f"{where}: {path} holds bytes that nobody wrote there")
    if promise in ("closed", "until") and len(verdict.problems) == before:
        for path in misfits:
            verdict.problems.append(f"{where}: {path} is older than promised")
    verdict.mixed.append(f"{where}: no single state; misfits {misfits[:3]}")
    return []


def describe(seen, turn):
    found = seen.get(turn.path)
    if found is None:
        return f"{turn.path} is missing"
    if found.error:
        return f"{turn.path}: {found.error}"
    wanted = story.size_of(turn.value.recipe)
    return f"{turn.path} has {len(found.data)} bytes (of {wanted}), mtime {found.mtime_ns}, and is not what was written"


def out_of_order(tales):
    """Pairs in which something later was kept and something that had returned before it began was not."""
    kept = []  # (begin of the latest operation surely kept, worker)
    lost = []  # (return of the earliest operation surely not kept, worker)
    for told, possible in tales:
        first, last = possible[0][0], possible[-1][1]
        sure = (first + 1) // 3 - 1  # its data at least is there
        if sure >= 0:
            kept.append((told.ops[sure].begun, told.path))
        gone = last // 3
        if gone < len(told.ops) and told.ops[gone].returned:
            lost.append((told.ops[gone].returned, told.path))
    return [f"{k} kept what began after {v} returned, and {v} was not kept" for b, k in kept for r, v in lost if b > r and k != v]


def lag(tales, crash):
    """Seconds before the crash of the earliest returned operation that was not kept; 0 when all were."""
    ages = [0.0]
    for told, possible in tales:
        gone = [op.returned for k, op in enumerate(told.ops) if op.returned and 3 * k + 3 > possible[-1][1]]
        ages += [crash - min(gone)] if gone else []
    return round(max(ages), 3)


def manifest(seen):
    return {p: [hashlib.sha256(f.data).hexdigest() if f.data is not None else None, f.mtime_ns] for p, f in sorted(seen.items())}


def same(path, directory):
    with open(path) as file:
        wanted = json.load(file)
    trouble = []
    for name, files in wanted.items():
        seen, wrong = story.look(os.path.join(directory, name))
        found = manifest(seen)
        trouble += wrong + [f"{name}/{p}" for p in sorted(set(files) | set(found)) if files.get(p) != found.get(p)]
    print(json.dumps({"ok": not trouble, "files": sum(map(len, wanted.values())), "problems": trouble[:5]}))
    return 1 if trouble else 0


def main():
    flag = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flag.add_argument("--dir", required=True)
    flag.add_argument("--journal")
    flag.add_argument("--promise", choices=("closed", "fsynced", "until"))
    flag.add_argument("--moment", type=float)
    flag.add_argument("--crash", type=float, help="when it happened: for `lost_s`, and to disbelieve an fsync that returned later")
    flag.add_argument("--strict", action="store_true")
    flag.add_argument("--manifest")
    flag.add_argument("--same")
    o = flag.parse_args()
    if o.same:
        return same(o.same, o.dir)
    verdict, tales, kept = Verdict(), [], {}
    begun = time.time()
    for path in sorted(glob.glob(os.path.join(o.journal, "worker-*"))):
        told = story.Story(path)
        seen, trouble = story.look(os.path.join(o.dir, told.directory))
        verdict.problems += trouble
        verdict.files += len(seen)
        verdict.bytes += sum(len(f.data) for f in seen.values() if f.data is not None)
        possible = judge(told, seen, o.promise, o.moment, o.crash, verdict)
        if possible:
            tales.append((told, possible))
        kept[told.directory] = manifest(seen)
    if not kept:
        flag.error(f"no journal in {o.journal}")
    order = out_of_order(tales)
    one = not verdict.mixed and not order
    ok = not verdict.problems and (one or not o.strict)
    line = {"ok": ok, "one_state": one, "files": verdict.files, "bytes": verdict.bytes, "operations": verdict.ops}
    line |= {"promised": verdict.promised, "torn": verdict.torn, "problems": verdict.problems[:5] + (verdict.mixed + order)[:5]}
    if o.crash and not verdict.mixed:
        line["lost_s"] = lag(tales, o.crash)
    line["took_s"] = round(time.time() - begun, 2)
    print(json.dumps(line))
    if o.manifest:
        with open(o.manifest, "w") as file:
            json.dump(kept, file)
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())

#!/usr/bin/env python3
"""Judges snapshots taken during an ingest of scripts/bench/photo.py by its journal.

    ingested.py MOUNT BELOW JOURNAL TAKEN JOBS     TAKEN has a line `name begin end` for each snapshot, in seconds

What was complete when a snapshot began must be in it; at most JOBS files may be there that were being written, and hold
the beginning of what they hold now; nothing else. Sizes and bytes are looked at of what no snapshot before had, and of one
older file in fifty: each file is compared in the first snapshot that has it, and in some later. (All sizes in all of 200
snapshots are twelve million questions, and an hour.)
"""

import hashlib
import json
import os
import random
import sys

SHARE_READ_AGAIN = 1 / 50


def digest(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def is_beginning(path, whole):
    with open(path, "rb") as some, open(whole, "rb") as all_of_it:
        data = some.read()
        return data == all_of_it.read(len(data))


def judge(top, live, begun, ended, done, jobs, known, dice):
    """What is wrong with one snapshot, and how many bytes were compared; `known` gains what it has."""
    wrong, read, unfinished = [], 0, 0
    there = {os.path.relpath(os.path.join(at, name), top) for at, _, names in os.walk(top) for name in names}
    for path, (size, sha, when) in done.items():
        if when < begun and path not in there:
            wrong.append(f"{path} is missing")
    for path in there:
        size, sha, when = done.get(path, (None, None, None))
        if path in known and dice.random() >= SHARE_READ_AGAIN:
            continue
        if size is None or when - 0.001 > ended or os.stat(f"{top}/{path}").st_size != size:
            if size is not None and when < begun:
                wrong.append(f"{path} has another size")
                continue
            unfinished += os.stat(f"{top}/{path}").st_size != size
            if not is_beginning(f"{top}/{path}", f"{live}/{path}"):
                wrong.append(f"{path} holds what was never written")
        else:
            known.add(path)
            read += size
            if digest(f"{top}/{path}") != sha:
                wrong.append(f"{path} has other bytes")
    if unfinished > jobs:
        wrong.append(f"{unfinished} files are half written, by {jobs} writers")
    return wrong, len(there), read


def main(mount, below, journal, taken, jobs):
    done = {}
    for line in open(journal):
        entry = json.loads(line)
        done[entry["path"]] = (entry["size"], entry["sha256"], entry["t"])
    known, dice, right, files, read, count = set(), random.Random(1), 0, 0, 0, 0
    for line in open(taken):
        name, begun, ended = line.split()
        wrong, held, compared = judge(
            f"{mount}/.snapshots/{name}/{below}", f"{mount}/{below}", float(begun), float(ended), done, int(jobs), known, dice
        )
        count, right, files, read = count + 1, right + (not wrong), files + held, read + compared
        for trouble in wrong[:3]:
            print(f"{name}: {trouble}", file=sys.stderr)
    print(f"ingest: {right} of {count} snapshots as the journal says: {files} files by name, {read / 1e6:.0f} MB by size and content")
    return 0 if right == count else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))

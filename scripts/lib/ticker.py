#!/usr/bin/env python3
"""Writes 4 KiB every millisecond and notes how long each write took; then tells the longest while snapshots were taken.

    ticker.py FILE LOG                   until ended
    ticker.py --judge LOG TAKEN          TAKEN has a line `name begin end` for each snapshot, in seconds
"""

import os
import struct
import sys
import time


def tick(path, log):
    out = open(log, "wb", buffering=1 << 16)
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    block = os.urandom(4096)
    at = 0
    try:
        while True:
            begun = time.time()
            os.pwrite(fd, block, at)
            out.write(struct.pack("<dd", begun, time.time() - begun))
            at = (at + 4096) % (8 << 20)
            time.sleep(0.001)
    finally:
        out.close()


def judge(log, taken):
    data = open(log, "rb").read()
    ticks = list(struct.iter_unpack("<dd", data[: len(data) // 16 * 16]))
    windows = [tuple(map(float, line.split()[1:])) for line in open(taken)]
    inside, outside, longest_call = [], [], max(end - begin for begin, end in windows)
    at = 0
    for begun, took in ticks:
        while at < len(windows) and windows[at][1] < begun:
            at += 1
        hit = at < len(windows) and begun + took >= windows[at][0]
        (inside if hit else outside).append(took)
    show = lambda some: f"{len(some)} writes, longest {max(some, default=0) * 1000:.1f} ms"
    print(f"{len(windows)} snapshots, the longest command {longest_call * 1000:.0f} ms")
    print(f"while one was taken: {show(inside)}; at other times: {show(outside)}")
    return 0 if inside and max(inside) < 0.05 else 1


if __name__ == "__main__":
    if sys.argv[1] == "--judge":
        sys.exit(judge(*sys.argv[2:]))
    import signal

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    tick(*sys.argv[1:])

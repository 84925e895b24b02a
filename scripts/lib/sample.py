#!/usr/bin/env python3
"""Watches a process's memory and a directory's size until told to stop; one JSON line at the end.

    sample.py PID DIRECTORY SECONDS_BETWEEN        SIGTERM (or the end of the process) stops it

Sizes are what the files take on disk (their blocks). `gap_s` is the longest time between two looks.
"""

import json
import os
import signal
import sys
import time


def disk_bytes(top):
    total, todo = 0, [top]
    while todo:
        try:
            with os.scandir(todo.pop()) as found:
                for entry in found:
                    if entry.is_dir(follow_symlinks=False):
                        todo.append(entry.path)
                    else:
                        try:
                            total += entry.stat(follow_symlinks=False).st_blocks * 512
                        except FileNotFoundError:
                            pass
        except FileNotFoundError:
            pass
    return total


def resident_bytes(pid):
    try:
        with open(f"/proc/{pid}/status") as lines:
            return next((int(l.split()[1]) * 1024 for l in lines if l.startswith("VmRSS")), None)
    except (FileNotFoundError, ProcessLookupError):
        return None


def main():
    pid, top, between = int(sys.argv[1]), sys.argv[2], float(sys.argv[3])
    running = [True]
    signal.signal(signal.SIGTERM, lambda *_: running.clear())
    most_memory = most_disk = looks = 0
    gap, last = 0.0, time.monotonic()
    while running:
        memory = resident_bytes(pid)
        if memory is None:
            break
        most_memory, most_disk = max(most_memory, memory), max(most_disk, disk_bytes(top))
        looks += 1
        now = time.monotonic()
        gap, last = max(gap, now - last), now
        time.sleep(max(0.0, between - (time.monotonic() - now)))
    print(json.dumps({"samples": looks, "gap_s": round(gap, 2), "rss_bytes_max": most_memory, "disk_bytes_max": most_disk}))


if __name__ == "__main__":
    main()

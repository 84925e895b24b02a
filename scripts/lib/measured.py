#!/usr/bin/env python3
"""Runs a command and tells what it took, from the kernel's own books.

    measured.py RESULT.json COMMAND...

`read_bytes` are all bytes its reads gave it, from the page cache too (rchar of /proc/PID/io); `peak_bytes` is the most
memory it held (ru_maxrss). Output and exit code are the command's.
"""
import json
import os
import subprocess
import sys
import time

result, command = sys.argv[1], sys.argv[2:]
started = time.monotonic()
process = subprocess.Popen(command)
# The books are open until the process is fetched.
os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
seconds = time.monotonic() - started
with open(f"/proc/{process.pid}/io") as file:
    io = dict(line.strip().split(": ") for line in file)
_, status, usage = os.wait4(process.pid, 0)
code = os.waitstatus_to_exitcode(status)
with open(result, "w") as file:
    json.dump({
        "seconds": round(seconds, 3), "exit": code, "peak_bytes": usage.ru_maxrss * 1024, "read_bytes": int(io["rchar"]),
        "written_bytes": int(io["wchar"]), "cpu_seconds": round(usage.ru_utime + usage.ru_stime, 3),
    }, file)
sys.exit(code if code >= 0 else 128 - code)

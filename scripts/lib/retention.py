#!/usr/bin/env python3
"""What borg prune keeps beside what the engine keeps: retention.py ENGINE SCRATCH. Exit code 1 where they differ."""
import calendar
import os
import pathlib
import random
import re
import shutil
import subprocess
import sys
import time

ZONES = ["Europe/Berlin", "America/St_Johns"]
DAY = 86400
RULES = [
    "within 1d, daily 7, weekly 4, monthly -1",  # the rule that was run for years
    "daily 14, monthly 6, yearly 1",
    "within 10d, weekly 4, monthly -1",
    "last 5",
    "last -1",
    "minutely 30",
    "hourly 48, daily 30",
    "hourly -1",
    "daily -1",
    "weekly -1",
    "monthly -1",
    "yearly -1",
    "yearly 2",
    "yearly 100",
    "within 48H",
    "within 2w",
    "within 6m, yearly -1",
    "within 1y, monthly 3",
    "within 3y",
    "last 3, minutely 3, hourly 3, daily 3, weekly 3, monthly 3, yearly 3",
    "last 10, hourly 24, daily 31, weekly 53, monthly 24, yearly 10",
    "within 1H, last 1, yearly 9",
    "daily 7, weekly 4, monthly 12, yearly 5",
    "daily 2000",
    "weekly 60, monthly 30",
    "weekly 500, monthly 500, yearly 500",
    "minutely -1, daily 2",
]


def daily(now):
    """One a day for three years, the last one some hours ago."""
    last = now - 5 * 3600 - 137
    return [last - n * DAY for n in range(3 * 365 + 1)]


def irregular(now):
    """Three years of habits that change, with all that calendars have in store."""
    dice = random.Random(20261025)
    at, moments = now - 1000, set()
    while at > now - 3 * 365 * DAY:
        moments.add(at)
        habit = dice.random()
        step = dice.choice([2, 40, 700]) if habit < 0.2 else dice.randrange(1800, DAY) if habit < 0.75 else 3 * DAY
        at -= 40 * DAY if habit > 0.995 else step
    # Every quarter of an hour through the nights when clocks are set, in both zones (times of UTC), the turn of each
    # year, and the leap day.
    year = time.gmtime(now).tm_year
    for y in range(year - 3, year + 1):
        sundays = {month: [d for d in range(1, calendar.monthrange(y, month)[1] + 1) if calendar.weekday(y, month, d) == 6] for month in (3, 10, 11)}
        nights = [(3, sundays[3][-1]), (10, sundays[10][-1]), (3, sundays[3][1]), (11, sundays[11][0]), (12, 31), (2, 28)]
        for month, day in nights:
            start = calendar.timegm((y, month, day, 0, 0, 0)) - 2 * 3600
            moments.update(m for m in range(start, start + 9 * 3600, 900) if now - 3 * 365 * DAY < m < now - 60)
    return sorted(moments)


def borg(environment, *arguments):
    return subprocess.run(["borg", *arguments], env=environment, capture_output=True, text=True, check=True)


def create_all(environment, repository, moments, tiny):
    """`borg create` for each, a process each; its modules are loaded once for all, which halves the time."""
    source = """
import os, sys
from borg.archiver import main
repository, tiny = sys.argv[1:3]
for line in sys.stdin:
    stamp, name = line.split()
    child = os.fork()
    if child == 0:
        sys.argv = ["borg", "create", "--files-cache=disabled", "--timestamp", stamp, f"{repository}::{name}", tiny]
        main()
        os._exit(3)  # main always exits
    if os.waitpid(child, 0)[1]:
        sys.exit(f"borg create {name} failed")
"""
    lines = "".join(f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(m))} {name(m)}\n" for m in moments)
    # Debian's borg is a Python program: its own interpreter has its modules.
    python = pathlib.Path(shutil.which("borg")).read_text().splitlines()[0].removeprefix("#!").split()
    subprocess.run([*python, "-c", source, repository, str(tiny)], env=environment, input=lines, text=True, check=True)


def name(moment):
    return f"at-{moment}"


def kept_by_borg(environment, repository, rules):
    options = [f"--keep-{word}" for rule in rules.split(", ") for word in ["=".join(rule.split())]]
    said = borg(environment, "prune", "--list", "--dry-run", *options, repository).stderr
    out = {}
    for line in said.splitlines():
        found = re.match(r"(?:Keeping archive \(rule: (.*?)\):|Would prune:)\s+(at-\d+)\s", line)
        if not found:
            sys.exit(f"borg says something else: {line}")
        out[found[2]] = (found[1] or "-").replace("secondly", "last")
    return out


def kept_by_engine(engine, now, zone, moments, rules):
    lines = [f"{m}\t{name(m)}\n" for m in moments]
    random.Random(7).shuffle(lines)
    command = [engine, str(now), zone, rules]
    said = subprocess.run(command, input="".join(lines), capture_output=True, text=True, check=True).stdout
    return dict(line.split("\t") for line in said.splitlines())


def both(engine, environment, repository, zone, moments, rules):
    """Borg takes the time of its call, and `within` counts from it: asked again where that second may decide."""
    while True:
        before = int(time.time())
        theirs = kept_by_borg({**environment, "TZ": zone}, repository, rules)
        after = int(time.time()) + 1
        ours = [kept_by_engine(engine, now, zone, moments, rules) for now in (before, after)]
        if ours[0] == ours[1]:
            return theirs, ours[0]


def main():
    engine, scratch = sys.argv[1], pathlib.Path(sys.argv[2])
    tiny = scratch / "tiny"
    tiny.write_text("tiny\n")
    base = {**os.environ, "BORG_BASE_DIR": str(scratch / "borg"), "LC_ALL": "C.UTF-8", "BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK": "yes"}
    wrong = compared = 0
    for zone in ZONES:
        assert kept_by_engine(engine, 0, zone, [0], "last 1") == {name(0): "last #1"}
    for series in (daily, irregular):
        started = time.time()
        now = int(started)
        moments = series(now)
        repository = str(scratch / series.__name__)
        borg(base, "init", "-e", "none", repository)
        create_all(base, repository, moments, tiny)
        print(f"{series.__name__}: {len(moments)} archives made by borg create in {time.time() - started:.0f} s", flush=True)
        for zone in ZONES:
            for rules in RULES:
                theirs, ours = both(engine, base, repository, zone, moments, rules)
                same = theirs == ours
                compared += len(theirs)
                assert len(theirs) == len(moments) and any(fate != "-" for fate in theirs.values())
                kept = sum(fate != "-" for fate in theirs.values())
                print(f"{series.__name__:<10} {zone:<18} {kept:>5} kept  {'same' if same else 'DIFFERENT':<10} {rules}", flush=True)
                wrong += not same
                for archive in sorted(theirs if not same else [], reverse=True):
                    if theirs[archive] != ours.get(archive):
                        print(f"    {archive} borg: {theirs[archive]}  engine: {ours.get(archive)}")
    print(f"{compared} fates compared in {2 * len(ZONES) * len(RULES)} runs of borg prune; {wrong} runs differ")
    sys.exit(wrong > 0)


if __name__ == "__main__":
    main()

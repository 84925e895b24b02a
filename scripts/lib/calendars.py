"""Whether Haven's reading of systemd's calendar words is systemd's: the next five times of each, by both.

    scripts/lib/calendars.py HAVEN DIRECTORY
"""
import json
import os
import re
import subprocess
import sys

SPECS = ["hourly", "daily", "weekly", "monthly", "quarterly", "yearly", "*-*-* 03:00:00", "*-*-* 00/6:30:00",
         "Mon..Fri 02:30", "Sat,Sun *-*-* 10:15", "*-*-1..7 05:00", "*:0/15", "*-02-29 12:00:00", "Sun *-*-1..7 04:00:00",
         "*-*-01,15 06:00"]
# Jobs whose names stand in the settings as they are shown.
JOBS = ["snapshot", "gc", "scrub"]


def ours(haven, env):
    said = subprocess.run([haven, "schedule", "--json"], env=env, check=True, capture_output=True).stdout
    return {job["kind"]: job["next"] for job in json.loads(said)["jobs"]}


def theirs(spec, env):
    command = ["systemd-analyze", "calendar", "--iterations=5", spec]
    shown = subprocess.run(command, env=env, check=True, capture_output=True, text=True).stdout
    times = re.findall(r"(?:Next elapse|Iter. #\d+|Iteration #\d+): \w+ (\S+ \S+) UTC", shown)
    dates = subprocess.run(["date", "-u", "-f", "-", "+%s"], input="\n".join(times), check=True, capture_output=True, text=True)
    return [int(line) for line in dates.stdout.split()]


def main(haven, directory):
    env = dict(os.environ, TZ="UTC", HAVEN_CONFIG=f"{directory}/schedules.toml")
    for first in range(0, len(SPECS), len(JOBS)):
        group = dict(zip(JOBS, SPECS[first:]))
        with open(env["HAVEN_CONFIG"], "w") as out:
            out.write('[library]\nurl = "/library"\n[schedule]\ntimezone = "UTC"\njitter = "0s"\n')
            out.writelines(f"{job} = {json.dumps(spec)}\n" for job, spec in group.items())
        # Again where one of the times came between the two.
        for _ in range(3):
            here = ours(haven, env)
            there = {job: theirs(spec, env) for job, spec in group.items()}
            if all(here[job] == there[job] for job in group):
                break
        for job, spec in group.items():
            assert len(there[job]) == 5, f"{spec}: systemd gives {there[job]}"
            assert here[job] == there[job], f"{spec}: {here[job]} here, {there[job]} by systemd"
    print(f"{len(SPECS)} schedules give the times that systemd gives", file=sys.stderr)


if __name__ == "__main__":
    main(*sys.argv[1:])

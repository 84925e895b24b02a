#!/usr/bin/env python3
"""The figures of several places side by side (Markdown), the first place as the measure, and the goals.

    table.py LINES PLACE...          exit 1 when a place had errors or did not verify
"""

import json
import sys

# What is read from which phase, in which unit, and the goal as (place, at least or at most, figure).
# `durable` divides the bytes by the time until the store had them.
ROWS = [
    ("ingest", "mb_per_s", "MB/s", []),
    ("ingest", "durable", "MB/s", [("garage", ">=", 135), ("garage40", ">=", 100)]),
    ("ingest", "cpu_s_per_gb", "CPU s/GB", [("garage", "<=", 8)]),
    ("stat", "ops_per_s", "/s", [("*", ">=", 21_000)]),
    ("readdir", "entries_per_s", "entries/s", [("*", ">=", 20_000)]),
    ("thumbs/thumbnail", "ops_per_s", "/s", [("*", ">=", 4_300)]),
    ("thumbs/preview", "ops_per_s", "/s", []),
    ("video/write", "mb_per_s", "MB/s", [("*", ">=", 601)]),
    ("video/read", "mb_per_s", "MB/s", [("*", ">=", 1_381)]),
    ("fsync", "p50_ms", "ms", [("*", "<=", 1.0)]),
    ("duplicate", "mb_per_s", "MB/s", []),
    ("mutate/overwrite", "ops_per_s", "/s", []),
    ("mutate/rename", "ops_per_s", "/s", [("*", ">=", 2_400)]),
    ("mutate/delete", "ops_per_s", "/s", [("*", ">=", 1_300)]),
    ("first ls", "wall_s", "s", [("dir", "<=", 1.0), ("garage40", "<=", 2.5)]),
    ("cold-walk", "entries_per_s", "entries/s", [("*", ">=", 20_000)]),
    ("cold-read/thumbnail", "ops_per_s", "/s", [("garage10", ">=", 150)]),
    ("cold-read x8/thumbnail", "ops_per_s", "/s", [("garage10", ">=", 1_000), ("garage40", ">=", 454)]),
    ("cold-read/original", "mb_per_s", "MB/s", [("garage", ">=", 150), ("garage10", ">=", 150)]),
    ("cold-read/video", "mb_per_s", "MB/s", [("garage", ">=", 480), ("garage10", ">=", 480), ("garage40", ">=", 138)]),
]  # fmt: skip


def read(path):
    """{place: {phase: line}}, with the figures that take two lines to know."""
    places, trouble = {}, []
    with open(path) as lines:
        for line in map(json.loads, lines):
            place = places.setdefault(line.get("label", ""), {})
            if line.get("error") or line.get("errors") or line.get("settle_rc") or line.get("ok") is False:
                trouble.append(line)
            place[line["phase"]] = line
    for place in places.values():
        ingest = place.get("ingest")
        if not ingest or not ingest.get("bytes"):
            continue
        spent = ingest["seconds"] + ingest.get("settle_s", 0)
        ingest["durable"] = round(ingest["bytes"] / spent / 1e6, 1)
        try:
            cost = json.loads(ingest.get("settle_out", ""))
            ingest["cpu_s_per_gb"] = round(cost["cpu_s"] / (ingest["bytes"] / 1e9), 1)
        except ValueError:
            pass
    return places, trouble


def plain(value):
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def cell(value, measure, goals, place):
    if value is None:
        return "-"
    text = plain(value)
    if measure and measure != value:
        text += f" (×{value / measure:.2f})"
    for name, sign, goal in goals:
        if place != "ext4" and name in ("*", place):
            met = value >= goal if sign == ">=" else value <= goal
            text += f" {'✓' if met else '✗'} {'≥' if sign == '>=' else '≤'} {plain(goal)}"
    return text


def main():
    path, *names = sys.argv[1:]
    places, trouble = read(path)
    print("| | " + " | ".join(names) + " |\n|---" * 1 + "|---" * len(names) + "|")
    for phase, key, unit, goals in ROWS:
        values = [places.get(name, {}).get(phase, {}).get(key) for name in names]
        if all(value is None for value in values):
            continue
        what = f"{phase} {'durable ' if key == 'durable' else 'p50 ' if key == 'p50_ms' else ''}{unit}"
        cells = [cell(v, values[0] if n else None, goals, names[n]) for n, v in enumerate(values)]
        print("| " + " | ".join([what, *cells]) + " |")
    for name in names:
        verify = places.get(name, {}).get("verify", {})
        told = f"{verify['files']} files, {verify['bytes'] / 1e6:,.0f} MB verified" if verify.get("ok") else "NOT VERIFIED"
        if not verify.get("ok"):
            trouble.append({"label": name, "verify": verify})
        try:
            told += f"; {json.loads(places[name]['mutate/delete']['settle_out'])['rss_mb_peak']} MB resident at most"
        except (KeyError, ValueError):
            pass
        print(f"{name}: {told}")
    for line in trouble:
        print("trouble:", json.dumps(line), file=sys.stderr)
    return 1 if trouble else 0


if __name__ == "__main__":
    sys.exit(main())

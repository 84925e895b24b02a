#!/usr/bin/env python3
"""Adds up the verdicts of many rounds (JSON lines): one JSON line, exit 1 when any round failed.

    summary.py NAME FILE ROUNDS [LIMIT_NAME LIMIT]      the limit: a field that must stay below it in each round
"""

import json
import sys


def main():
    name, path, rounds, *limits = sys.argv[1:]
    with open(path) as lines:
        verdicts = [json.loads(line) for line in lines]
    ok = [v for v in verdicts if v["ok"]]
    line = {"show": name, "rounds": len(verdicts), "whole": len(ok)}
    line["one_state"] = sum(1 for v in verdicts if v.get("one_state"))
    for field in ("files", "bytes", "operations", "promised", "torn"):
        line[field] = sum(v.get(field, 0) for v in verdicts)
    for field in sorted({f for v in verdicts for f in v if f.endswith(("_ms", "_s")) and f != "took_s"}):
        values = sorted(v[field] for v in verdicts if field in v)
        line[field] = {"median": values[len(values) // 2], "max": values[-1]}
    failed = len(verdicts) != int(rounds) or len(ok) != len(verdicts)
    for field, limit in zip(limits[::2], limits[1::2]):
        over = [v[field] for v in verdicts if not v.get(field, float("inf")) < float(limit)]
        line[field] = line.get(field, {}) | {"limit": float(limit), "over": len(over)}
        failed |= bool(over)
    line["ok"] = not failed
    line["problems"] = [p for v in verdicts if not v["ok"] for p in v.get("problems", [])][:10]
    print(json.dumps(line))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

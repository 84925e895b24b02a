#!/usr/bin/env python3
"""Judges what an import did, by what maketakeout.py knows to be right and what the fake server holds.

    judgeimport.py state EXPECTED.json STATE.json      every asset, album, date, place, text, tag as it must be
    judgeimport.py same  STATE.json STATE.json         two servers hold the same
    judgeimport.py report EXPECTED.json ROWS.jsonl     each entry in exactly one bucket, and the buckets as they must be

Prints one line of JSON; faults go to the other output, and the exit code is 1 when there are any.
"""
import collections
import datetime
import json
import re
import sys
import xml.etree.ElementTree as ElementTree

NS = {"exif": "http://ns.adobe.com/exif/1.0/", "dc": "http://purl.org/dc/elements/1.1/",
      "rdf": "http://www.w3.org/1999/02/22-rdf-syntax-ns#", "digiKam": "http://www.digikam.org/ns/1.0/"}


def read_xmp(text):
    """Date (instant in seconds and offset), place, description and tags of a sidecar."""
    found = {"taken": None, "offset": None, "place": None, "description": "", "tags": set()}
    if not text:
        return found
    root = ElementTree.fromstring(text)

    def one(name):
        node = root.find(f".//{name}", NS)
        return node.text if node is not None else None

    date = one("exif:DateTimeOriginal")
    if date:
        moment = datetime.datetime.fromisoformat(date)
        found["taken"] = int(moment.timestamp())
        found["offset"] = int(moment.utcoffset().total_seconds())

    def degrees(value):
        whole, minutes, side = re.fullmatch(r"(\d+),([\d.]+)([NSEW])", value).groups()
        return (int(whole) + float(minutes) / 60) * (-1 if side in "SW" else 1)

    if one("exif:GPSLatitude"):
        found["place"] = (degrees(one("exif:GPSLatitude")), degrees(one("exif:GPSLongitude")))
    node = root.find(".//dc:description//rdf:li", NS)
    found["description"] = node.text or "" if node is not None else ""
    found["tags"] = {li.text for li in root.findall(".//digiKam:TagsList//rdf:li", NS)}
    return found


def judge_asset(want, got, by_api, extensions):
    """What is wrong with one asset."""
    if want["size"] != got["size"]:
        yield f"size {got['size']}"
    if want["kind"] == "motion":
        if got["visibility"] != "hidden":
            yield f"a moving half is {got['visibility']}"
        if got["name"].rsplit(".", 1)[-1].lower() not in ("mp4", "mov"):
            yield f"a moving half is called {got['name']}"
        return
    xmp = read_xmp(got["sidecar"])
    for key in ("visibility", "favourite", "trashed", "liveVideo"):
        if want[key] != got[key]:
            yield f"{key} is {got[key]!r} and not {want[key]!r}"
    extension = got["name"].rsplit(".", 1)[-1].lower()
    if extension not in extensions[want["kind"]]:
        yield f"{want['kind']} is called .{extension}"
    stem = want["title"].rsplit(".", 1)[0]
    if want["edited"]:
        # It keeps the name it has in the Takeout, in which some characters are replaced and the end is cut.
        stem = re.sub(r"[/\\:?*\"<>|%'\x00-\x1f]", "_", stem)[:30]
    if not got["name"].startswith(stem) or want["edited"] != ("-edi" in got["name"]):
        yield f"{got['name']!r} for the title {want['title']!r}"
    # The date that the server sees: the sidecar's before the file's.
    if not want["unmatched"]:
        if xmp["taken"] is None and want["clock"] not in ("offset", "video"):
            yield f"no date, and the file's clock is {want['clock']}"
        if xmp["taken"] is not None and abs(xmp["taken"] - want["taken"]) > 2:
            yield f"taken {xmp['taken']} and not {want['taken']} (clock: {want['clock']})"
        if xmp["taken"] is not None and want["clock"] in ("offset", "naive") and xmp["offset"] != want["offset"]:
            yield f"offset {xmp['offset']} and not {want['offset']} (clock: {want['clock']})"
        created = datetime.datetime.fromisoformat(got["createdAt"].replace("Z", "+00:00")).timestamp()
        if abs(created - want["taken"]) > 2:
            yield f"uploaded as taken {created} and not {want['taken']} (clock: {want['clock']})"
    place = want["place"]
    if place is None or want["placeInFile"]:
        if xmp["place"] is not None:
            yield f"place {xmp['place']} where nothing was to be said"
    elif xmp["place"] is None or any(abs(a - b) > 1e-6 for a, b in zip(place, xmp["place"])):
        yield f"place {xmp['place']} and not {place}"
    if xmp["description"] != want["description"]:
        yield f"description {xmp['description']!r} and not {want['description']!r}"
    tags = xmp["tags"] | by_api
    people = {tag for tag in tags if not tag.startswith("takeout/")}
    if people != set(want["tags"]):
        yield f"tags {sorted(people)} and not {want['tags']}"
    if ("takeout/unmatched" in tags) != want["unmatched"]:
        yield f"tags {sorted(tags)}, unmatched: {want['unmatched']}"


def judge_state(expected, state):
    faults = []
    got = {asset["sha1"]: asset for asset in state["assets"]}
    want = {asset["sha1"]: asset for asset in expected["assets"]}
    if len(got) != len(state["assets"]):
        faults.append("one content twice")
    tags = collections.defaultdict(set)
    for tag in state["tags"]:
        for sha1 in tag["assets"]:
            tags[sha1].add(tag["value"])
    for sha1 in want.keys() - got.keys():
        faults.append(f"missing: {want[sha1]['kind']} {want[sha1].get('title')} {sha1}")
    for sha1 in got.keys() - want.keys():
        faults.append(f"not wanted: {got[sha1]['name']} {sha1}")
    for sha1 in want.keys() & got.keys():
        for fault in judge_asset(want[sha1], got[sha1], tags[sha1], expected["extensions"]):
            faults.append(f"{want[sha1].get('title') or got[sha1]['name']}: {fault}")
    key = lambda album: (album["name"], album["description"], album["assets"])
    albums = lambda of: collections.Counter(json.dumps(key(a)) for a in of)
    wanted = [a for a in expected["albums"] if a["assets"]]
    had = [a for a in state["albums"] if a["assets"]]
    for album in (albums(wanted) - albums(had)).elements():
        faults.append(f"missing album: {album[:150]}")
    for album in (albums(had) - albums(wanted)).elements():
        faults.append(f"album not wanted: {album[:150]}")
    if state["stacks"]:
        faults.append(f"{len(state['stacks'])} stacks, which nobody asked for")
    if state["paused"]:
        faults.append(f"paused and not resumed: {state['paused']}")
    return faults, {"assets": len(got), "albums": len(had), "in_albums": sum(len(a["assets"]) for a in had)}


def judge_same(one, other):
    faults = []
    for kind in ("assets", "albums", "tags", "stacks"):
        count = lambda of: collections.Counter(json.dumps(x, sort_keys=True) for x in of[kind])
        for x in list((count(one) - count(other)).elements())[:5]:
            faults.append(f"only in the first: {kind} {x[:300]}")
        for x in list((count(other) - count(one)).elements())[:5]:
            faults.append(f"only in the second: {kind} {x[:300]}")
    if one["paused"] != other["paused"]:
        faults.append(f"paused: {one['paused']} and {other['paused']}")
    return faults, {"assets": len(one["assets"])}


# What the maker calls an entry, and the buckets it may end in.
BUCKETS = {
    "upload": {"uploaded", "duplicate"}, "copy": {"uploaded", "duplicate"}, "motion": {"motion-half", "duplicate"},
    "filtered": {"filtered"}, "sidecar": {"sidecar-used"}, "orphan": {"sidecar-orphan"}, "album": {"album-json"},
    "json": {"other-json"}, "other": {"unsupported"},
}


def judge_report(expected, rows):
    """`rows`: one for each entry, with its path, its part's path and its bucket."""
    faults = []
    buckets = collections.Counter(row["bucket"] for row in rows)
    seen = collections.Counter(f"{row['part'].rsplit('/', 1)[-1]}:{row['path']}" for row in rows)
    want = expected["where"]
    for entry in want.keys() - seen.keys():
        faults.append(f"in no bucket: {entry}")
    for entry, times in seen.items():
        if entry not in want or times != 1:
            faults.append(f"{times} times in the report: {entry}")
    for row in rows:
        made = want.get(f"{row['part'].rsplit('/', 1)[-1]}:{row['path']}")
        if made and row["bucket"] not in BUCKETS[made]:
            faults.append(f"{row['bucket']} and not {made}: {row['path']} ({row.get('why')})")
    if sum(buckets.values()) != expected["entries"]:
        faults.append(f"{sum(buckets.values())} entries and not {expected['entries']}")
    photos = sum(asset["kind"] != "motion" for asset in expected["assets"])
    if buckets["uploaded"] != photos:
        faults.append(f"{buckets['uploaded']} uploaded and not {photos}")
    return faults, {"entries": sum(buckets.values()), "buckets": dict(sorted(buckets.items()))}


def main():
    mode, first, second = sys.argv[1:4]
    with open(first) as file:
        first = json.load(file)
    with open(second) as file:
        second = [json.loads(line) for line in file] if mode == "report" else json.load(file)
    judge = {"state": judge_state, "same": judge_same, "report": judge_report}[mode]
    faults, told = judge(first, second)
    for fault in faults[:40]:
        print(fault, file=sys.stderr)
    print(json.dumps({"faults": len(faults), **told}))
    sys.exit(1 if faults else 0)


if __name__ == "__main__":
    main()

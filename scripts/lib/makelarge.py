#!/usr/bin/env python3
"""Makes Takeouts that are large in one way or another.

    makelarge.py entries DIR N       N entries in four parts: half of them sidecars, each with a small picture
    makelarge.py directory DIR N     N files in one folder
    makelarge.py bytes DIR BYTES     films of 1 to 40 MB, stored, with their sidecars, in two parts
"""
import json
import os
import pathlib
import random
import sys
import zipfile

STAMP = "20260105T101112Z"
ROOT = "Takeout/Google Photos"


def parts(out, count):
    out.mkdir(parents=True, exist_ok=True)
    return [zipfile.ZipFile(out / f"takeout-{STAMP}-3-{n + 1:03}.zip", "w", zipfile.ZIP_STORED) for n in range(count)]


def sidecar(title, taken):
    return json.dumps({"title": title, "description": "", "photoTakenTime": {"timestamp": str(taken)},
                       "creationTime": {"timestamp": str(taken + 999)},
                       "geoData": {"latitude": 0.0, "longitude": 0.0, "altitude": 0.0}})


def put(archive, name, data):
    archive.writestr(zipfile.ZipInfo(name, (2026, 1, 5, 10, 11, 12)), data)


def entries(out, count, folder):
    archives = parts(out, 4)
    for n in range(count // 2):
        title, taken = f"IMG_{n:07}.JPG", 1_300_000_000 + n * 900
        where = folder or f"Photos from {2009 + n * 17 // (count // 2)}"
        # A start and an end that are a JPEG's, and a content of its own.
        picture = b"\xff\xd8\xff\xe0\0\x10JFIF\0\1\1\0\0\1\0\1\0\0" + n.to_bytes(8, "big") * 4 + b"\xff\xd9"
        put(archives[n % 4], f"{ROOT}/{where}/{title}", picture)
        put(archives[(n + n // 3) % 4], f"{ROOT}/{where}/{title}.supplemental-metadata.json", sidecar(title, taken))
    for archive in archives:
        archive.close()


def films(out, total):
    dice, archives, done, n = random.Random(7), parts(out, 2), 0, 0
    while done < total:
        size = dice.randrange(1 << 20, 40 << 20)
        film = (b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom" + (size - 24).to_bytes(4, "big") + b"mdat" + n.to_bytes(8, "big")
                + os.urandom(size - 40))
        title = f"VID_{n:05}.mp4"
        put(archives[n % 2], f"{ROOT}/Photos from 2020/{title}", film)
        put(archives[n % 2], f"{ROOT}/Photos from 2020/{title}.supplemental-metadata.json", sidecar(title, 1_600_000_000 + n))
        done, n = done + size, n + 1
    for archive in archives:
        archive.close()
    print(json.dumps({"media_bytes": done, "files": n}))


kind, out, number = sys.argv[1], pathlib.Path(sys.argv[2]), int(float(sys.argv[3]))
if kind == "bytes":
    films(out, number)
else:
    entries(out, number, "Photos from 2020" if kind == "directory" else None)

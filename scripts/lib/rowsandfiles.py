#!/usr/bin/env python3
"""A second opinion: has every row of Immich's table of assets its file with that SHA-1? Shares nothing with Haven.

    rowsandfiles.py CONNINFO DIR        DIR stands for /data in the database; prints rows, bytes, and how many are broken
"""
import hashlib, os, sys

import psycopg2

sql = psycopg2.connect(sys.argv[1]).cursor()
sql.execute('SELECT "entityId", "oldPath", "newPath" FROM move_history')
moves = {}
for entity, old, new in sql.fetchall():
    moves.setdefault(entity, []).extend([old, new])
sql.execute('SELECT id, "originalPath", checksum FROM asset WHERE NOT "isExternal"')
rows = broken = size = 0
for asset, path, checksum in sql.fetchall():
    rows += 1
    for place in [path, *moves.get(asset, [])]:
        file = os.path.join(sys.argv[2], os.path.relpath(place, "/data"))
        if os.path.exists(file):
            data = open(file, "rb").read()
            size += len(data)
            if hashlib.sha1(data).digest() == bytes(checksum):
                break
    else:
        broken += 1
        print("broken:", asset, path, file=sys.stderr)
print(rows, size, broken)
sys.exit(bool(broken))

#!/usr/bin/env python3
"""Reads a whole Haven library from a directory, by FORMAT.md alone; shares nothing with the Rust code.

    pip install blake3 zstandard argon2-cffi cryptography
    crates/format/tests/reader.py crates/format/tests/golden/v1 "golden passphrase"
    crates/format/tests/reader.py DIRECTORY PASSPHRASE --snapshots        which there are
    crates/format/tests/reader.py DIRECTORY PASSPHRASE --snapshot NAME    one of them

Prints every path with type, size and the BLAKE3 of its content, and fails at the first byte that is not as described.
"""
import pathlib
import re
import sys

import argon2.low_level
import zstandard
from blake3 import blake3
from cryptography.hazmat.primitives.ciphers.aead import AESGCM


def derive(context, data):
    return blake3(data, derive_key_context=context).digest()


def keyed(key, data):
    return blake3(data, key=key).digest()


def varint(data, at):
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            return value, at


def message(data):
    """Field number → list of values; numbers as unsigned, everything else as bytes."""
    fields, at = {}, 0
    while at < len(data):
        tag, at = varint(data, at)
        value, at = varint(data, at)
        if tag & 7 == 2:
            value, at = data[at : at + value], at + value
        else:
            assert tag & 7 == 0
        fields.setdefault(tag >> 3, []).append(value)
    return fields


def one(fields, number, default=0):
    return fields.get(number, [default])[-1]


def head(letters):
    return b"HAVEN" + letters + b"\x01"


class Library:
    def __init__(self, directory, passphrase):
        self.directory = pathlib.Path(directory)
        name = self.names("cfg/")[-1]
        newest = [n for n in self.names("cfg/") if n[:20] == name[:20]]
        opened = [self.unlock(self.read(name), passphrase) for name in newest]
        assert len(set(opened)) == 1
        self.id, master = opened[0]
        self.hash_key = derive("haven 2026-11 chunk id", master)
        self.name_key = derive("haven 2026-11 directory name", master)
        self.object_root = derive("haven 2026-11 object key", master)

    def names(self, prefix):
        """Names of that kind, in order; other names are none of the library's."""
        number, nonce = "[0-9a-f]{16}", "[0-9a-f]{16}"
        form = {"cfg/": f"{number}-{nonce}", "l/": f"{number}-{number}-{nonce}", "r/": f"{number}-{number}-{nonce}"}[prefix]
        files = (str(p.relative_to(self.directory)) for p in self.directory.rglob("*") if p.is_file())
        return sorted(n for n in files if re.fullmatch(prefix + form, n))

    def read(self, name):
        return (self.directory / name).read_bytes()

    @staticmethod
    def unlock(data, passphrase):
        body, tag, check = data[:-40], data[-40:-8], data[-8:]
        assert body[:8] == head(b"cf") and blake3(data[:-8]).digest()[:8] == check
        config = message(body[8:])
        library = one(config, 1)
        for slot in map(message, config[6]):
            if one(slot, 2) != 1:
                continue
            cost, salt = message(one(slot, 5)), one(slot, 6)
            seed = argon2.low_level.hash_secret_raw(
                passphrase, salt, one(cost, 2), one(cost, 1), one(cost, 3), 32, argon2.low_level.Type.ID, 0x13
            )
            key = derive("haven 2026-11 slot key", b"\x01" + salt + seed)
            aad = library + one(slot, 1).to_bytes(4, "little") + b"\x01"
            master = AESGCM(key).decrypt(one(slot, 7), one(slot, 8), aad)
            assert keyed(derive("haven 2026-11 config tag", master), body) == tag
            return library, master
        raise SystemExit("no passphrase slot")

    def open(self, name, index, sealed):
        aad = self.id + len(name).to_bytes(2, "little") + name.encode() + index.to_bytes(8, "little")
        payload = AESGCM(keyed(self.object_root, name.encode())).decrypt(sealed[:12], sealed[12:], aad)
        if payload[0] == 0:
            return payload[1:]
        assert payload[0] == 1
        length = int.from_bytes(payload[1:5], "little")
        plain = zstandard.ZstdDecompressor().decompress(payload[5:], max_output_size=length)
        assert len(plain) == length
        return plain

    def whole(self, name, letters):
        data = self.read(name)
        plain = self.open(name, 0, data[8:])
        assert data[:8] == plain[:8] == head(letters)
        return message(plain[8:])

    def footer(self, name, letters):
        data = self.read(name)
        assert data[:8] == head(letters) and data[-8:] == b"HAVENEND"
        start = len(data) - 12 - int.from_bytes(data[-12:-8], "little")
        plain = self.open(name, start, data[start:-12])
        assert plain[:8] == head(letters)
        return message(plain[8:])

    def part(self, name, offset, length):
        return self.open(name, offset, self.read(name)[offset : offset + length])

    def history(self):
        """Names of the segments of the history by lsn."""
        names = self.names("l/")
        if not names:
            return {}
        name = max(names, key=lambda n: (n[19:35], n[2:18]))
        chain = {}
        while name:
            segment = self.whole(name, b"sg")
            assert name == f"l/{one(segment, 1):016x}-{one(segment, 2):016x}-{one(segment, 3).hex()}"
            chain[one(segment, 1)] = name
            name = one(segment, 4, b"").decode()
            if name and not (self.directory / name).exists():
                # Older than the roots that are kept: known by name only.
                chain[int(name[2:18], 16)] = name
                break
            if name:
                assert one(segment, 5) == blake3(self.read(name)).digest()
        return chain

    def shard(self, reference):
        name = f"m/{one(reference, 1).hex()}"
        assert blake3(self.read(name)).digest() == one(reference, 6) and len(self.read(name)) == one(reference, 2)
        count = 0
        for block in map(message, self.footer(name, b"sh")[1]):
            plain, at = self.part(name, one(block, 2), one(block, 3)), 0
            while at < len(plain):
                length, at = varint(plain, at)
                key, at = plain[at : at + length], at + length
                length, at = varint(plain, at)
                value, at = (plain[at : at + length - 1], at + length - 1) if length else (None, at)
                count += 1
                yield key, value
        assert count == one(reference, 5)

    def roots(self):
        """Names of the roots, the newest first."""
        return sorted(self.names("r/"), key=lambda n: (n[2:18], -int(n[19:35], 16)))

    def root(self, name, chain):
        """A root, if the history says the same of where it stands."""
        root = self.whole(name, b"rt")
        assert name == f"r/{2**64 - 1 - one(root, 1):016x}-{one(root, 2):016x}-{one(root, 3).hex()}"
        same = chain.get(one(root, 4)) == one(root, 5, b"").decode()
        return root if same or all(lsn < one(root, 4) for lsn in chain) else None

    def records_of_root(self, root):
        records = {}
        for run in reversed([message(run) for run in root.get(9, [])]):
            for reference in map(message, run.get(1, [])):
                records.update(self.shard(reference))
        return records

    def records(self, until=2**64 - 1):
        """The newest state, or that after the transaction `until`."""
        chain, records, start, done = self.history(), {}, 0, 0
        roots, found = self.roots(), None
        for name in roots:
            root = self.root(name, chain)
            if root and one(root, 7) <= until:
                found, records, start, done = name, self.records_of_root(root), one(root, 4), one(root, 7)
                break
        newest = found == (roots or [None])[0]
        for lsn in sorted(lsn for lsn in chain if lsn > start):
            if done == until:
                break
            segment = self.whole(chain[lsn], b"sg")
            packs = [self.directory / f"p/{p.hex()[:2]}/{p.hex()}" for p in segment.get(6, [])]
            if newest and not all(pack.exists() for pack in packs):
                break
            for tx in map(message, segment.get(7, [])):
                if one(tx, 1) <= done or one(tx, 1) > until:
                    continue
                assert one(tx, 1) == done + 1
                done = one(tx, 1)
                for op in map(message, tx.get(3, [])):
                    records[one(op, 1)] = op[2][-1] if 2 in op else None
        assert until in (done, 2**64 - 1)
        return {key: value for key, value in records.items() if value is not None}

    def snapshots(self, records):
        """Snapshot messages by name, oldest first."""
        found = {key[1:].decode(): message(value) for key, value in records.items() if key[:1] == b"\x40"}
        return dict(sorted(found.items(), key=lambda item: one(item[1], 1)))

    def past(self, snapshot):
        """The records of a snapshot: its root's, or else from the newest root before it and the log."""
        name = one(snapshot, 4, b"").decode()
        if not name:
            return self.records(one(snapshot, 1))
        root = self.root(name, {})
        assert one(root, 7) == one(snapshot, 1)
        return {key: value for key, value in self.records_of_root(root).items() if value is not None}

    def content(self, records, index, ino, size):
        out = bytearray(size)
        prefix = b"\x10" + ino.to_bytes(8, "big") + b"\x01"
        for key in sorted(k for k in records if k.startswith(prefix)):
            extent, offset = message(records[key]), int.from_bytes(key[10:], "big")
            chunk = one(extent, 2, b"")
            if not chunk:
                continue
            place = message(index.get(b"\x20" + chunk) or one(extent, 4))
            pack = one(place, 1).hex()
            plain = self.part(f"p/{pack[:2]}/{pack}", one(place, 2), one(place, 3))
            assert keyed(self.hash_key, plain) == chunk and len(plain) == one(place, 4)
            skip, length = one(extent, 3), min(one(extent, 1), max(size - offset, 0))
            out[offset : offset + length] = plain[skip : skip + length]
        return bytes(out)

    def walk(self, records, index, ino=1, path=""):
        """`index`: the newest state, whose chunk index counts for all."""
        prefix = b"\x10" + ino.to_bytes(8, "big") + b"\x03"
        for key in sorted(k for k in records if k.startswith(prefix)):
            entry = message(records[key])
            name, child = one(entry, 1), one(entry, 2)
            stands = int.from_bytes(keyed(self.name_key, ino.to_bytes(8, "big") + name)[:8], "big") >> 10
            assert int.from_bytes(key[10:], "big") >> 8 == stands + 1
            inode = message(records[b"\x10" + child.to_bytes(8, "big") + b"\x00"])
            here = f"{path}/{name.decode(errors='surrogateescape')}"
            kind = one(inode, 1) >> 12
            if kind == 0o04:
                yield here, "directory", 0, ""
                yield from self.walk(records, index, child, here)
            elif kind == 0o12:
                yield here, "symlink", one(inode, 5), one(inode, 13).decode(errors="surrogateescape")
            elif kind == 0o10:
                data = self.content(records, index, child, one(inode, 5))
                yield here, "file", len(data), blake3(data).hexdigest()
            else:
                yield here, "special", 0, ""


def main(directory, passphrase, what="", name=""):
    library = Library(directory, passphrase.encode())
    newest = records = library.records()
    if what == "--snapshots":
        for name, snapshot in library.snapshots(newest).items():
            print(name, f"change {one(snapshot, 1)}", one(snapshot, 3, b"").decode(), sep="\t")
        return
    if what == "--snapshot":
        records = library.past(library.snapshots(newest)[name])
    for row in sorted(library.walk(records, newest)):
        print(*row, sep="\t")
    for key in sorted(k for k in records if k[:1] == b"\x10" and k[9] == 2):
        print(f"inode {int.from_bytes(key[1:9], 'big')}\txattr\t{key[10:].decode()}\t{records[key]!r}")


if __name__ == "__main__":
    main(*sys.argv[1:])

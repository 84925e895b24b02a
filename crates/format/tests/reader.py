#!/usr/bin/env python3
"""Reads a whole Haven library from a directory, by FORMAT.md alone; shares nothing with the Rust code.

    pip install blake3 zstandard argon2-cffi cryptography
    crates/format/tests/reader.py crates/format/tests/golden/v1 "golden passphrase"

Prints every path with type, size and the BLAKE3 of its content, and fails at the first byte that is not as described.
"""
import pathlib
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
        files = (p for p in self.directory.rglob("*") if p.is_file())
        return sorted(n for n in (str(p.relative_to(self.directory)) for p in files) if n.startswith(prefix))

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

    def records(self):
        chain, records, start, done = self.history(), {}, 0, 0
        for name in sorted(self.names("r/"), key=lambda n: (n[2:18], -int(n[19:35], 16))):
            root = self.whole(name, b"rt")
            if chain.get(one(root, 4)) == one(root, 5, b"").decode() or all(lsn < one(root, 4) for lsn in chain):
                for run in reversed([message(run) for run in root.get(9, [])]):
                    for reference in map(message, run.get(1, [])):
                        records.update(self.shard(reference))
                start, done = one(root, 4), one(root, 7)
                break
        for lsn in sorted(lsn for lsn in chain if lsn > start):
            segment = self.whole(chain[lsn], b"sg")
            if not all((self.directory / f"p/{p.hex()[:2]}/{p.hex()}").exists() for p in segment.get(6, [])):
                break
            for tx in map(message, segment.get(7, [])):
                if one(tx, 1) <= done:
                    continue
                assert done == 0 or one(tx, 1) == done + 1
                done = one(tx, 1)
                for op in map(message, tx.get(3, [])):
                    records[one(op, 1)] = op[2][-1] if 2 in op else None
        return {key: value for key, value in records.items() if value is not None}

    def content(self, records, ino, size):
        out = bytearray(size)
        prefix = b"\x10" + ino.to_bytes(8, "big") + b"\x01"
        for key in sorted(k for k in records if k.startswith(prefix)):
            extent, offset = message(records[key]), int.from_bytes(key[10:], "big")
            chunk = one(extent, 2, b"")
            if not chunk:
                continue
            place = message(records.get(b"\x20" + chunk) or one(extent, 4))
            pack = one(place, 1).hex()
            plain = self.part(f"p/{pack[:2]}/{pack}", one(place, 2), one(place, 3))
            assert keyed(self.hash_key, plain) == chunk and len(plain) == one(place, 4)
            skip, length = one(extent, 3), min(one(extent, 1), max(size - offset, 0))
            out[offset : offset + length] = plain[skip : skip + length]
        return bytes(out)

    def walk(self, records, ino=1, path=""):
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
                yield from self.walk(records, child, here)
            elif kind == 0o12:
                yield here, "symlink", one(inode, 5), one(inode, 13).decode(errors="surrogateescape")
            elif kind == 0o10:
                data = self.content(records, child, one(inode, 5))
                yield here, "file", len(data), blake3(data).hexdigest()
            else:
                yield here, "special", 0, ""


if __name__ == "__main__":
    library = Library(sys.argv[1], sys.argv[2].encode())
    records = library.records()
    for row in sorted(library.walk(records)):
        print(*row, sep="\t")
    for key in sorted(k for k in records if k[:1] == b"\x10" and k[9] == 2):
        print(f"inode {int.from_bytes(key[1:9], 'big')}\txattr\t{key[10:].decode()}\t{records[key]!r}")

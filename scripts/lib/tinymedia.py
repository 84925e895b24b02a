"""Pictures and films of a few hundred bytes that real decoders read: JPEG, PNG, HEIC, MP4, MOV.

Each has pixels of its own, made from a number, so no two are the same. No other package is needed. JPEGs are written by
a baseline coder of one grey value for each 8x8 block; films hold one such JPEG (Motion JPEG, which ffmpeg plays); HEICs
hold one of a few coded pictures kept in heic.json beside this file and an Exif item of their own.
"""
import base64
import json
import pathlib
import struct
import zlib

# ---------------------------------------------------------------- JPEG

_DC_COUNTS = [0, 1, 5, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0]
_DC_VALUES = list(range(12))


def _codes(counts, values):
    out, code, k = {}, 0, 0
    for length, count in enumerate(counts, 1):
        for _ in range(count):
            out[values[k]] = (code, length)
            code, k = code + 1, k + 1
        code <<= 1
    return out


_DC = _codes(_DC_COUNTS, _DC_VALUES)
_EOB = (0, 1)  # of an AC table that knows nothing else


def _segment(marker, body):
    return bytes([0xFF, marker]) + struct.pack(">H", len(body) + 2) + body


_TABLES = (
    _segment(0xDB, b"\0" + b"\1" * 64)
    + _segment(0xC0, struct.pack(">BHHB", 8, 32, 32, 1) + b"\1\x11\0")
    + _segment(0xC4, b"\0" + bytes(_DC_COUNTS) + bytes(_DC_VALUES))
    + _segment(0xC4, b"\x10" + bytes([1] + [0] * 15) + b"\0")
    + _segment(0xDA, b"\1\1\0\0\x3f\0")
)


def jpeg(seed, exif=b"", xmp=b""):
    """32x32, grey, 16 blocks whose values are `seed`'s bits."""
    bits, count, last = 0, 0, 0
    value = (seed * 0x9E3779B97F4A7C15 + 0x1234567) & (1 << 128) - 1
    for _ in range(16):
        level = (value & 0xFF) * 4 - 512  # DC is 8 times the grey value
        value >>= 8
        diff, last = level - last, level
        size = abs(diff).bit_length()
        code, length = _DC[size]
        bits, count = bits << length | code, count + length
        if size:
            bits = bits << size | (diff if diff > 0 else diff + (1 << size) - 1)
            count += size
        bits, count = bits << 1 | _EOB[0], count + 1
    pad = -count % 8
    scan = (bits << pad | (1 << pad) - 1).to_bytes((count + pad) // 8, "big").replace(b"\xff", b"\xff\0")
    head = b"\xff\xd8"
    if exif:
        head += _segment(0xE1, b"Exif\0\0" + exif)
    if xmp:
        head += _segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + xmp)
    return head + _TABLES + scan + b"\xff\xd9"


def png(seed):
    """8x8, grey; without a date, as screenshots are."""
    rows = b"".join(b"\0" + ((seed * 2654435761 + y * 40503) & (1 << 64) - 1).to_bytes(8, "big") for y in range(8))

    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = struct.pack(">IIBBBBB", 8, 8, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


# ---------------------------------------------------------------- Exif

_SIZES = {2: 1, 3: 2, 4: 4, 5: 8, 7: 1}


def _ifd(entries, at, following=b""):
    """An IFD at offset `at`: tag -> (type, count, bytes). What is longer than four bytes follows it."""
    start = at + 2 + 12 * len(entries) + 4
    body, tail = struct.pack(">H", len(entries)), b""
    for tag in sorted(entries):
        kind, count, data = entries[tag]
        if len(data) > 4:
            data, tail = struct.pack(">I", start + len(tail)), tail + data + b"\0" * (len(data) % 2)
        body += struct.pack(">HHI", tag, kind, count) + data.ljust(4, b"\0")
    return body + b"\0\0\0\0" + tail + following


def _ascii(text):
    data = text.encode() + b"\0"
    return (2, len(data), data)


def _angle(value):
    value = abs(value)
    degrees, rest = int(value), (value - int(value)) * 60
    minutes, seconds = int(rest), (rest - int(rest)) * 60
    return (5, 3, struct.pack(">IIIIII", degrees, 1, minutes, 1, round(seconds * 10000), 10000))


def exif(local=None, offset=None, place=None, live_id=None, note=""):
    """A TIFF block. `local` is `2019:07:14 10:11:12`, `offset` `+02:00`, `place` latitude and longitude in degrees,
    `live_id` what Apple writes into both halves of a live photo."""
    sub = {}
    if local:
        sub[0x9003] = _ascii(local)
    if offset:
        sub[0x9011] = _ascii(offset)
    if live_id:
        apple = b"Apple iOS\0\0\1MM"
        sub[0x927C] = None
        apple += _ifd({0x11: _ascii(live_id)}, len(apple))
        sub[0x927C] = (7, len(apple), apple)
    gps = {}
    if place:
        lat, lon = place
        gps = {
            1: _ascii("N" if lat >= 0 else "S"),
            2: _angle(lat),
            3: _ascii("E" if lon >= 0 else "W"),
            4: _angle(lon),
        }
    root = {0x010F: _ascii("Maker"), 0x0131: _ascii(note or "x" * 8)}
    if live_id:
        root[0x010F] = _ascii("Apple")
    if sub:
        root[0x8769] = (4, 1, b"\0\0\0\0")
    if gps:
        root[0x8825] = (4, 1, b"\0\0\0\0")
    length = len(_ifd(root, 8))
    sub_at = 8 + length
    sub_bytes = _ifd(sub, sub_at) if sub else b""
    gps_at = sub_at + len(sub_bytes)
    if sub:
        root[0x8769] = (4, 1, struct.pack(">I", sub_at))
    if gps:
        root[0x8825] = (4, 1, struct.pack(">I", gps_at))
    return b"MM\0*\0\0\0\x08" + _ifd(root, 8) + sub_bytes + (_ifd(gps, gps_at) if gps else b"")


def motion_xmp(length):
    """What a Pixel writes into a motion photo: its film is the file's last `length` bytes."""
    return (
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        '<rdf:Description rdf:about="" xmlns:GCamera="http://ns.google.com/photos/1.0/camera/" '
        'xmlns:Container="http://ns.google.com/photos/1.0/container/" '
        'xmlns:Item="http://ns.google.com/photos/1.0/container/item/" GCamera:MotionPhoto="1" '
        'GCamera:MotionPhotoVersion="1" GCamera:MicroVideo="1" GCamera:MicroVideoVersion="1" '
        f'GCamera:MicroVideoOffset="{length}" GCamera:MotionPhotoPresentationTimestampUs="0"><Container:Directory><rdf:Seq>'
        '<rdf:li rdf:parseType="Resource"><Container:Item Item:Mime="image/jpeg" Item:Semantic="Primary" Item:Length="0" '
        'Item:Padding="0"/></rdf:li><rdf:li rdf:parseType="Resource"><Container:Item Item:Mime="video/mp4" '
        f'Item:Semantic="MotionPhoto" Item:Length="{length}" Item:Padding="0"/></rdf:li></rdf:Seq></Container:Directory>'
        "</rdf:Description></rdf:RDF></x:xmpmeta>"
    ).encode()


# ---------------------------------------------------------------- ISO boxes

def _box(kind, *parts):
    body = b"".join(parts)
    return struct.pack(">I", len(body) + 8) + kind + body


def _full(kind, version, flags, *parts):
    return _box(kind, struct.pack(">I", version << 24 | flags), *parts)


_MATRIX = struct.pack(">9I", 0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000)


def film(seed, created=0, quicktime=False, live_id=None, seconds=1):
    """One frame shown for `seconds`; `created` in Unix seconds."""
    frame = jpeg(seed)
    stamp = created + 2082844800 if created else 0
    brand = b"qt  " if quicktime else b"isom"
    ftyp = _box(b"ftyp", brand, b"\0\0\2\0", brand, b"mp41" if not quicktime else b"")
    mdat = _box(b"mdat", frame)
    duration = seconds * 1000
    visual = (b"\0" * 6 + b"\0\1" + b"\0" * 16 + struct.pack(">HHIIIH", 32, 32, 0x480000, 0x480000, 0, 1)
              + b"\0" * 32 + struct.pack(">HH", 24, 0xFFFF))
    if quicktime:
        entry = _box(b"jpeg", visual)
    else:
        decoder = b"\x04\x0d\x6c\x11" + b"\0" * 11
        esds = b"\x03" + bytes([3 + len(decoder) + 3]) + b"\0\1\0" + decoder + b"\x06\x01\x02"
        entry = _box(b"mp4v", visual, _full(b"esds", 0, 0, esds))
    table = _box(
        b"stbl",
        _full(b"stsd", 0, 0, struct.pack(">I", 1), entry),
        _full(b"stts", 0, 0, struct.pack(">III", 1, 1, duration)),
        _full(b"stsc", 0, 0, struct.pack(">IIII", 1, 1, 1, 1)),
        _full(b"stsz", 0, 0, struct.pack(">III", 0, 1, len(frame))),
        _full(b"stco", 0, 0, struct.pack(">II", 1, len(ftyp) + 8)),
    )
    times = struct.pack(">II", stamp & 0xFFFFFFFF, stamp & 0xFFFFFFFF)
    dinf = _box(b"dinf", _full(b"dref", 0, 0, struct.pack(">I", 1), _full(b"url ", 0, 1)))
    handler = _full(b"hdlr", 0, 0, b"mhlr" if quicktime else b"\0" * 4, b"vide", b"\0" * 12, b"\0")
    track = _box(
        b"trak",
        _full(b"tkhd", 0, 7, times, struct.pack(">III", 1, 0, duration), b"\0" * 16, _MATRIX,
              struct.pack(">II", 32 << 16, 32 << 16)),
        _box(b"mdia", _full(b"mdhd", 0, 0, times, struct.pack(">IIHH", 1000, duration, 0x55C4, 0)), handler,
             _box(b"minf", _full(b"vmhd", 0, 1, b"\0" * 8), dinf, table)),
    )
    more = b""
    if live_id:
        key = b"com.apple.quicktime.content.identifier"
        more = _box(
            b"meta",
            _full(b"hdlr", 0, 0, b"\0" * 4, b"mdta", b"\0" * 12, b"\0"),
            _full(b"keys", 0, 0, struct.pack(">I", 1), _box(b"mdta", key)),
            _box(b"ilst", _box(b"\0\0\0\1", _box(b"data", struct.pack(">II", 1, 0), live_id.encode()))),
        )
    head = _full(b"mvhd", 0, 0, times, struct.pack(">II", 1000, duration), struct.pack(">IH", 0x10000, 0x100),
                 b"\0" * 10, _MATRIX, b"\0" * 24, struct.pack(">I", 2))
    return ftyp + mdat + _box(b"moov", head, track, more)


_COILS = json.loads((pathlib.Path(__file__).parent / "heic.json").read_text())


def heic(seed, exif_block):
    """64x64, one of the pictures kept, with an Exif item of its own."""
    coded = _COILS[seed % len(_COILS)]
    config, picture = base64.b64decode(coded["config"]), base64.b64decode(coded["picture"])
    item = struct.pack(">I", 0) + exif_block
    ftyp = _box(b"ftyp", b"heic", b"\0\0\0\0", b"mif1", b"heic")

    def meta(at):
        infe = lambda number, kind: _full(b"infe", 2, 0, struct.pack(">HH", number, 0), kind, b"\0")
        where = struct.pack(">HHHII", 1, 0, 1, at, len(picture))
        where += struct.pack(">HHHII", 2, 0, 1, at + len(picture), len(item))
        return _full(
            b"meta", 0, 0,
            _full(b"hdlr", 0, 0, b"\0" * 4, b"pict", b"\0" * 12, b"\0"),
            _full(b"pitm", 0, 0, struct.pack(">H", 1)),
            _full(b"iinf", 0, 0, struct.pack(">H", 2), infe(1, b"hvc1"), infe(2, b"Exif")),
            _full(b"iref", 0, 0, _box(b"cdsc", struct.pack(">HHH", 2, 1, 1))),
            _box(b"iprp",
                 _box(b"ipco", _box(b"hvcC", config), _full(b"ispe", 0, 0, struct.pack(">II", 64, 64))),
                 _full(b"ipma", 0, 0, struct.pack(">I", 1), struct.pack(">HBBB", 1, 2, 0x81, 2))),
            _full(b"iloc", 0, 0, struct.pack(">BBH", 0x44, 0, 2), where),
        )

    at = len(ftyp) + len(meta(0)) + 8
    return ftyp + meta(at) + _box(b"mdat", picture, item)

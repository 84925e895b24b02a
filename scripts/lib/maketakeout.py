#!/usr/bin/env python3
"""Makes a Google Takeout of real small pictures and films in four zip parts, and writes beside it what a server must hold
once all of it was imported. Knows the truth because it makes it: names are cut and counted by rules of its own, and no
code of the importer is asked.

    maketakeout.py DIR [--media 20000] [--seed 1]

writes DIR/takeout-20260105T101112Z-3-00{1..4}.zip and DIR/expected.json.
"""
import argparse
import collections
import datetime
import hashlib
import json
import pathlib
import random
import zipfile
import zlib

import tinymedia

STAMP = "20260105T101112Z"
ROOT = "Takeout/Google Photos"
PEOPLE = ["Anna", "Ben Öz", "Чарли", "Dora & Emil"]
PLACES = [(52.52, 13.405), (-33.8688, 151.2093), (40.7128, -74.006), (35.6762, 139.6503)]
EXTENSIONS = {"jpeg": ["jpg", "jpeg"], "heic": ["heic", "heif"], "png": ["png"], "mp4": ["mp4", "m4v"], "mov": ["mov", "mp4"]}


# ---------------------------------------------------------------- names, as Google makes them

def units(text):
    return len(text.encode("utf-16-le")) // 2


def cut(text, limit):
    out, used = "", 0
    for char in text:
        if used >= limit:
            break
        out, used = out + char, used + units(char)
    return out


def clean(title):
    return "".join("_" if c in "/\\:?*\"<>|%'" or ord(c) < 32 else c for c in title)


def split(name):
    dot = name.rfind(".")
    return (name[:dot], name[dot:]) if dot > 0 else (name, "")


def media_name(title, suffix=""):
    stem, extension = split(clean(title))
    return cut(stem + suffix, 51 - units(extension)) + extension


class Folder:
    """Names of one folder: what is taken gets a counter, media and sidecars each their own."""

    def __init__(self):
        self.taken = collections.Counter()

    def media(self, name):
        count = self.taken[name.lower()]
        self.taken[name.lower()] += 1
        stem, extension = split(name)
        return (f"{stem}({count}){extension}" if count else name), count

    def sidecar(self, title, old):
        base = cut(clean(title) if old else clean(title) + ".supplemental-metadata", 46)
        key = base.lower() + ".json"
        count = self.taken[key]
        self.taken[key] += 1
        return f"{base}({count}).json" if count else f"{base}.json"


# ---------------------------------------------------------------- the truth

class Maker:
    def __init__(self, seed, media):
        self.dice = random.Random(seed)
        self.wanted = media
        self.serial = seed * 1_000_000
        self.entries = []  # path, bytes, bucket, part
        self.folders = collections.defaultdict(Folder)
        self.assets = {}  # sha1 -> what is expected
        self.albums = {}  # folder -> {name, description, assets}
        self.media = 0

    # -- pieces

    def number(self):
        self.serial += 1
        return self.serial

    def put(self, folder, name, data, bucket, part=None):
        part = part if part is not None else self.dice.randrange(4)
        self.entries.append((f"{ROOT}/{folder}/{name}", data, bucket, part))
        if bucket in ("upload", "copy", "motion", "filtered"):
            self.media += 1
        return part

    def expect(self, data, **facts):
        sum_ = hashlib.sha1(data).hexdigest()
        assert sum_ not in self.assets, "two files of the same content"
        self.assets[sum_] = {"sha1": sum_, "size": len(data), **facts}
        return sum_

    def moment(self, year):
        taken = int(datetime.datetime(year, 1, 1, tzinfo=datetime.timezone.utc).timestamp())
        return taken + self.dice.randrange(86400 * 2, 86400 * 360)

    def sidecar(self, title, photo):
        def place(at):
            return {"latitude": at[0], "longitude": at[1], "altitude": 0.0, "latitudeSpan": 0.0, "longitudeSpan": 0.0}

        body = {
            "title": title,
            "description": photo["description"],
            "imageViews": str(self.dice.randrange(99)),
            "creationTime": {"timestamp": str(photo["taken"] + 86400 * 9), "formatted": "…"},
            "photoTakenTime": {"timestamp": str(photo["taken"]), "formatted": "…"},
            "geoData": place(photo["place"] or (0.0, 0.0)),
            "geoDataExif": place(photo["exif_place"] or (0.0, 0.0)),
            "url": f"https://photos.google.com/photo/AF1Qip{photo['number']}",
            "googlePhotosOrigin": {"mobileUpload": {"deviceFolder": {"localFolderName": ""}, "deviceType": "IOS_PHONE"}},
        }
        if photo["people"]:
            body["people"] = [{"name": name} for name in photo["people"]]
        if photo["partner"]:
            body["googlePhotosOrigin"] = {"fromPartnerSharing": {}}
        for flag in photo["flags"]:
            body[flag] = True
        return json.dumps(body, ensure_ascii=False, indent=2).encode()

    def photo(self, year):
        """What is known of a photo, before it has a file."""
        dice = self.dice
        place = dice.choice(PLACES) if dice.random() < 0.3 else None
        clock = dice.choices(["offset", "naive", "none", "wrong"], [4, 4, 2, 1])[0]
        # Google's place is the file's, the owner's correction of it, or the only one.
        exif_place = dice.choice([place, place, None]) if place else None
        if place and exif_place and dice.random() < 0.2:
            exif_place = (place[0] + 5, place[1] - 5)
        return {
            "number": self.number(), "taken": self.moment(year), "place": place, "exif_place": exif_place,
            "clock": clock, "offset": dice.choice([-7 * 3600, 0, 3600, 7200, 19800, 34200]),
            "description": dice.choice(["", "", "", "Am See & <im> Wald", "東京 2019 \"x\""]),
            "people": dice.sample(PEOPLE, dice.randrange(1, 3)) if dice.random() < 0.15 else [],
            "partner": dice.random() < 0.03, "flags": [],
        }

    def exif(self, photo, live_id=None):
        if photo["clock"] == "none" and not photo["exif_place"] and not live_id:
            return b""
        moment = photo["taken"] if photo["clock"] != "wrong" else 1009843200
        local = datetime.datetime(1970, 1, 1) + datetime.timedelta(seconds=moment + photo["offset"])
        sign, minutes = "-" if photo["offset"] < 0 else "+", abs(photo["offset"]) // 60
        offset = f"{sign}{minutes // 60:02}:{minutes % 60:02}" if photo["clock"] == "offset" else None
        return tinymedia.exif(
            None if photo["clock"] == "none" else local.strftime("%Y:%m:%d %H:%M:%S"), offset,
            photo["exif_place"], live_id, f"n{photo['number']}",
        )

    def picture(self, kind, photo, live_id=None):
        number = photo["number"]
        if kind == "jpeg":
            return tinymedia.jpeg(number, self.exif(photo, live_id))
        if kind == "heic":
            return tinymedia.heic(number, self.exif(photo, live_id) or tinymedia.exif(note=f"n{number}"))
        if kind == "png":
            photo["clock"], photo["exif_place"] = "none", None
            return tinymedia.png(number)
        photo["clock"], photo["exif_place"] = "video", None
        return tinymedia.film(number, photo["taken"], kind == "mov")

    def facts(self, photo, kind, title):
        return {
            "kind": kind, "title": title, "taken": photo["taken"], "clock": photo["clock"], "offset": photo["offset"],
            "place": photo["place"], "placeInFile": photo["place"] is not None and photo["place"] == photo["exif_place"],
            "description": "" if photo["description"] == title else photo["description"],
            "tags": sorted(f"People/{name}" for name in photo["people"]), "unmatched": False,
            "favourite": "favorited" in photo["flags"], "trashed": False,
            "visibility": "archive" if "archived" in photo["flags"] else "timeline", "liveVideo": None, "edited": False,
        }

    # -- whole photos

    def place_json(self, folder, title, photo, part, bucket="sidecar"):
        part = part if self.dice.random() > 0.33 else (part + self.dice.randrange(1, 4)) % 4
        # Which of its two rules Google followed is one fact of a folder.
        name = self.folders[folder].sidecar(title, zlib.crc32(folder.encode()) % 5 == 0)
        self.put(folder, name, self.sidecar(title, photo), bucket, part)

    def add(self, year, kind, title, flags=(), folder=None):
        """A photo with its sidecar in a year's folder, or another one."""
        photo = self.photo(year)
        photo["flags"] = list(flags)
        data = self.picture(kind, photo)
        folder = folder or f"Photos from {year}"
        name, count = self.folders[folder].media(media_name(title))
        skipped = "trashed" in flags or "inLockedFolder" in flags
        if not skipped:
            self.expect(data, **self.facts(photo, kind, title))
        part = self.put(folder, name, data, "filtered" if skipped else "upload")
        self.place_json(folder, title, photo, part)
        made = {"photo": photo, "data": data, "title": title, "kind": kind, "folder": folder, "count": count, "name": name}
        self.maybe_edit(made, skipped)
        return made

    def maybe_edit(self, made, skipped):
        if skipped or made["kind"] not in ("jpeg", "heic") or self.dice.random() > 0.06 or len(made["title"]) > 40:
            return
        kind = made["kind"] if made["kind"] == "heic" and self.dice.random() < 0.5 else "jpeg"
        photo = dict(made["photo"], number=self.number(), flags=made["photo"]["flags"])
        stem, extension = split(media_name(made["title"]))
        extension = extension if kind == made["kind"] else ".jpg"
        name = f"{stem}-edited({made['count']}){extension}" if made["count"] else f"{stem}-edited{extension}"
        data = self.picture(kind, photo)
        sum_ = self.expect(data, **self.facts(photo, kind, made["title"]))
        self.assets[sum_]["edited"] = True
        self.folders[made["folder"]].taken[name.lower()] += 1
        self.put(made["folder"], name, data, "upload")

    def live(self, year, title, kind="mp4"):
        """A still with a film of its own and one sidecar for both, as iPhones make them."""
        photo = self.photo(year)
        live_id = f"{self.dice.getrandbits(128):032X}"
        data = self.picture("heic", photo, live_id)
        film = tinymedia.film(self.number(), photo["taken"], True, live_id, seconds=2)
        folder = f"Photos from {year}"
        name, count = self.folders[folder].media(media_name(title))
        stem, _ = split(title)
        film_name = f"{stem}({count}).{kind.upper()}" if count else f"{stem}.{kind.upper()}"
        self.folders[folder].taken[film_name.lower()] += 1
        self.expect(data, **self.facts(photo, "heic", title))
        part = self.put(folder, name, data, "upload")
        self.motion(folder, film_name, film, data)
        self.place_json(folder, title, photo, part)

    def motion(self, folder, name, film, still):
        sum_ = self.expect(film, kind="motion", visibility="hidden")
        self.assets[hashlib.sha1(still).hexdigest()]["liveVideo"] = sum_
        self.put(folder, name, film, "motion")

    def pixel(self, year, title, valid):
        """A JPEG with its film inside, valid or void, and the same film beside it (`PXL_….MP.jpg`, `PXL_….MP`)."""
        photo = self.photo(year)
        film = tinymedia.film(self.number(), photo["taken"])
        tail = film if valid else bytes(self.dice.randrange(1, 99))
        data = tinymedia.jpeg(photo["number"], self.exif(photo), tinymedia.motion_xmp(len(film))) + tail
        folder = f"Photos from {year}"
        self.expect(data, **self.facts(photo, "jpeg", title))
        part = self.put(folder, self.folders[folder].media(media_name(title))[0], data, "upload")
        if valid:
            # The server takes the film out of the picture by itself.
            self.put(folder, split(title)[0], film, "motion")
        else:
            self.motion(folder, split(title)[0], film, data)
        self.place_json(folder, title, photo, part)

    def alone(self, folder, kind, title):
        """A photo without any sidecar."""
        photo = self.photo(2015)
        photo["clock"] = "offset"
        data = self.picture(kind, photo)
        facts = self.facts(photo, kind, title)
        facts |= {"unmatched": True, "tags": [], "description": "", "place": None, "title": title}
        self.expect(data, **facts)
        self.put(folder, self.folders[folder].media(title)[0], data, "upload")

    def copy(self, album, made, with_json=True):
        """A byte copy in an album's folder, as Google makes them."""
        name, _ = self.folders[album].media(media_name(made["title"]))
        part = self.put(album, name, made["data"], "copy")
        if with_json:
            self.place_json(album, made["title"], made["photo"], part)
        self.albums[album]["assets"].add(hashlib.sha1(made["data"]).hexdigest())

    def album(self, folder, title, description=""):
        self.albums[folder] = {"name": title, "description": description, "assets": set()}
        body = {"title": title}
        if description:
            body |= {"description": description, "access": "protected"}
        self.put(folder, "metadata.json", json.dumps(body, ensure_ascii=False).encode(), "album")

    # -- all of it

    def make(self):
        dice, pool = self.dice, []
        years = list(range(2009, 2026))
        self.album("Trip", "Trip", "the first")
        self.album("Trip(1)", "Trip", "the second")
        for n in range(max(4, self.wanted // 500)):
            title = dice.choice(["Hochzeit: Ü & Z", "Foto's?", "東京", "Sommer", "家族 100%"]) + f" {n}"
            self.album(clean(title).rstrip(". "), title, dice.choice(["", "mit <spitzen> Klammern & mehr"]))
        for n, (flag, folder) in enumerate([("trashed", "Trash"), ("inLockedFolder", "Locked Folder")] * 4):
            self.add(2020, "jpeg", f"HID_{n}.JPG", [flag], folder)
        for n in range(5):
            self.alone("Photos from 2015", "jpeg", f"lonely-{n}.jpg")
            self.alone("Failed Videos", "mp4", f"failed {n}.mp4")
            orphan = dict(self.photo(2011), flags=[])
            self.put("Photos from 2011", f"nobody-{n}.jpg.supplemental-metadata.json",
                     self.sidecar(f"nobody-{n}.jpg", orphan), "orphan")
        for n in range(10):
            # Media names differ in their 47th unit, sidecars are cut before it: only the titles tell.
            same = f"a_name_like_another_in_46_units_{n // 2}".ljust(46, "x")
            self.add(2013, "jpeg", f"{same}{'ab'[n % 2]}.jpg")
        while self.media < self.wanted:
            self.one(dice.choice(years), pool)
        for path, data, bucket, part in dice.sample([e for e in self.entries if e[2] == "upload"], 5):
            # The same entry once more in another part.
            self.entries.append((path, data, "copy", (part + 1) % 4))
        self.entries.append(("Takeout/archive_browser.html", b"<html>", "other", 0))
        self.entries.append((f"{ROOT}/print-subscriptions.json", b'{"subscriptions": []}', "json", 1))
        self.entries.append((f"{ROOT}/user-generated-memory-titles.json", b'{"title": ["a", "b"]}', "json", 2))
        self.entries.append((f"{ROOT}/Trip/shared_album_comments.json", b'{"sharedAlbumComments": []}', "json", 3))
        self.entries.append(("Takeout/Contacts/All/Somebody.jpg", tinymedia.jpeg(self.number()), "filtered", 0))

    def one(self, year, pool):
        dice = self.dice
        n = self.number() % 10_000_000
        flags = [f for f, chance in (("favorited", 0.05), ("archived", 0.05)) if dice.random() < chance]
        what = dice.choices(
            ["jpeg", "heic", "video", "png", "live", "pixel", "wrong", "unicode", "long", "again", "album"],
            [40, 12, 5, 4, 8, 4, 2, 4, 2, 1, 18],
        )[0]
        if what == "jpeg":
            pool.append(self.add(year, "jpeg", f"IMG_{n % 3000:04}.JPG", flags))
        elif what == "heic":
            pool.append(self.add(year, "heic", f"IMG_E{n % 3000:04}.HEIC", flags))
        elif what == "video":
            pool.append(self.add(year, dice.choice(["mp4", "mov"]), f"VID_{n}.{'mp4'}", flags))
        elif what == "png":
            pool.append(self.add(year, "png", f"Screenshot_{n}_{'x' * dice.randrange(30)}.png", flags))
        elif what == "live":
            self.live(year, f"IMG_L{n % 4000:05}.HEIC", dice.choice(["mp4", "mov"]))
        elif what == "pixel":
            self.pixel(year, f"PXL_{year}0922_{n:09}.MP.jpg", dice.random() < 0.5)
        elif what == "wrong":
            kind, title = dice.choice([("jpeg", f"IMG_W{n}.HEIC"), ("mp4", f"IMG_W{n}.jpg"), ("png", f"IMG_W{n}.JPG")])
            pool.append(self.add(year, kind, title, flags))
        elif what == "unicode":
            title = dice.choice(["Foto's am “See”: {}?.jpg", "Привет {}.jpg", "写真 {}.jpg", "🏔️ {} 😀.jpg", "Über {}.jpg"])
            pool.append(self.add(year, "jpeg", title.format(n), flags))
        elif what == "long":
            pool.append(self.add(year, "jpeg", f"{n}_" + "langer Name " * 5 + "ende.jpg", flags))
        elif what == "again" and pool:
            made = dice.choice(pool)
            name, _ = self.folders[made["folder"]].media(media_name(made["title"]))
            part = self.put(made["folder"], name, made["data"], "copy")
            self.place_json(made["folder"], made["title"], made["photo"], part)
        elif what == "album" and pool:
            self.copy(dice.choice(list(self.albums)), dice.choice(pool), dice.random() < 0.8)

    def write(self, out):
        out.mkdir(parents=True, exist_ok=True)
        paths = []
        for part in range(4):
            path = out / f"takeout-{STAMP}-3-{part + 1:03}.zip"
            paths.append(path)
            # Python writes the zip64 end record only when it must; parts one and four must.
            zipfile.ZIP_FILECOUNT_LIMIT = 1 if part in (0, 3) else 65535
            with zipfile.ZipFile(path, "w", allowZip64=True) as archive:
                for name, data, bucket, _ in (e for e in self.entries if e[3] == part):
                    info = zipfile.ZipInfo(name, (2026, 1, 5, 10, 11, 12))
                    deflated = part == 1 or part == 2 and self.dice.random() < 0.5 or part == 3 and name.endswith(".json")
                    info.compress_type = zipfile.ZIP_DEFLATED if deflated else zipfile.ZIP_STORED
                    with archive.open(info, "w", force_zip64=part == 0) as entry:
                        entry.write(data)
        # A file lies once in its year and again in albums: which of them is uploaded is the importer's choice.
        for album in self.albums.values():
            album["assets"] = sorted(album["assets"])
        buckets = collections.Counter(bucket for _, _, bucket, _ in self.entries)
        expected = {
            "parts": [p.name for p in paths], "entries": len(self.entries), "buckets": buckets, "media": self.media,
            "assets": sorted(self.assets.values(), key=lambda a: a["sha1"]),
            "albums": sorted(self.albums.values(), key=lambda a: (a["name"], a["description"])),
            "extensions": EXTENSIONS,
            "where": {f"{paths[part].name}:{name}": bucket for name, _, bucket, part in self.entries},
        }
        (out / "expected.json").write_text(json.dumps(expected, ensure_ascii=False, indent=1) + "\n")
        return expected


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dir", type=pathlib.Path)
    parser.add_argument("--media", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    maker = Maker(arguments.seed, arguments.media)
    maker.make()
    expected = maker.write(arguments.dir)
    print(json.dumps({"entries": expected["entries"], "buckets": expected["buckets"], "assets": len(expected["assets"]),
                      "albums": len(expected["albums"])}))


if __name__ == "__main__":
    main()

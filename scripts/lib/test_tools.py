#!/usr/bin/env python3
"""The tools that judge a crash are judged themselves: on a directory that is put into every state worth telling apart."""

import datetime
import glob
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import unittest
import zipfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
import judgeimport
import maketakeout
import story

SHOW = os.path.join(HERE, "..", "show")


def tool(name, *flags):
    run = subprocess.run([sys.executable, os.path.join(SHOW, name), *flags], stdout=subprocess.PIPE, text=True)
    return run.returncode, json.loads(run.stdout)


class CrashVerdicts(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.top = tempfile.mkdtemp(prefix="haven-tools.")
        cls.journal = os.path.join(cls.top, "journal")
        flags = ["--dir", f"{cls.top}/live", "--journal", cls.journal, "--ops", "120", "--workers", "2", "--seed", "7"]
        subprocess.run([sys.executable, os.path.join(SHOW, "writer.py"), *flags], check=True)
        cls.tales = [story.Story(p) for p in sorted(glob.glob(cls.journal + "/worker-*"))]
        cls.end = max(op.returned for told in cls.tales for op in told.ops)

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.top)

    def setUp(self):
        self.dir = tempfile.mkdtemp(dir=self.top)
        shutil.copytree(f"{self.top}/live", self.dir, dirs_exist_ok=True)

    def verdict(self, promise, *flags):
        status, line = tool("verify.py", "--dir", self.dir, "--journal", self.journal, "--promise", promise, *flags)
        self.assertEqual(status == 0, line["ok"])
        return line

    def rewind(self, worker, state):
        """Puts the directory of one worker into a state it was in."""
        told = self.tales[worker]
        root = os.path.join(self.dir, told.directory)
        shutil.rmtree(root)
        os.makedirs(root)
        for path, turns in told.paths.items():
            value = ([story.NEVER] + [t.value for t in turns if t.since <= state])[-1]
            if value is story.NEVER:
                continue
            os.makedirs(os.path.dirname(f"{root}/{path}"), exist_ok=True)
            with open(f"{root}/{path}", "wb") as file:
                file.write(story.contents(value.recipe))
            if value.mtime_ns:
                os.utime(f"{root}/{path}", ns=(value.mtime_ns, value.mtime_ns))

    def kept(self, worker, fsynced):
        """The path and value of a file that lives at the end, its last write (not) fsynced."""
        told = self.tales[worker]
        for turns in told.files.values():
            last = told.ops[(turns[-1].since - 1) // 3]
            writes = last.what["op"] == "write" and story.size_of(turns[-1].value.recipe) > 100
            if writes and (last.synced is not None) == fsynced:
                return f"{self.dir}/{told.directory}/{turns[-1].path}"
        self.fail("the writer left no such file: choose another seed")

    def test_what_was_written_is_whole_under_every_promise(self):
        for flags in (["closed"], ["fsynced"], ["until", "--moment", str(self.end)]):
            line = self.verdict(*flags, "--strict", "--crash", str(self.end))
            self.assertTrue(line["ok"] and line["one_state"], line)
            self.assertEqual(line["lost_s"], 0)

    def test_a_missing_fsynced_file_is_a_loss(self):
        os.unlink(self.kept(0, fsynced=True))
        for promise in ("closed", "fsynced"):
            self.assertIn("is missing", str(self.verdict(promise)["problems"]))

    def test_a_missing_file_that_was_never_fsynced_is_a_loss_only_where_closing_was_promised(self):
        os.unlink(self.kept(0, fsynced=False))
        self.assertFalse(self.verdict("closed")["ok"])
        self.assertTrue(self.verdict("fsynced")["ok"])
        self.assertFalse(self.verdict("fsynced", "--moment", str(self.end))["ok"])

    def test_one_changed_byte_is_found(self):
        for fsynced in (True, False):
            self.setUp()
            with open(self.kept(1, fsynced), "r+b") as file:
                file.seek(50)
                byte = file.read(1)[0]
                file.seek(50)
                file.write(bytes([(byte + 100) % 255 + 1 if (byte + 100) % 255 + 1 != byte else 7]))
            self.assertFalse(self.verdict("fsynced")["ok"], fsynced)

    def test_zeros_in_a_file_that_was_never_fsynced_are_torn_and_no_loss(self):
        with open(self.kept(1, fsynced=False), "r+b") as file:
            file.write(bytes(60))
        line = self.verdict("fsynced")
        self.assertTrue(line["ok"])
        self.assertEqual(line["torn"], 1, line)
        self.assertFalse(self.verdict("fsynced", "--strict")["ok"])

    def test_a_lost_time_stamp_is_a_loss_once_everything_had_returned(self):
        os.utime(self.kept(0, fsynced=True), (1, 1))
        self.assertTrue(self.verdict("fsynced")["ok"])
        self.assertFalse(self.verdict("closed")["ok"])

    def test_a_file_that_never_was_is_strange(self):
        with open(f"{self.dir}/w0/stranger", "w"):
            pass
        self.assertIn("never existed", str(self.verdict("fsynced")["problems"]))

    def test_an_earlier_state_is_whole_up_to_the_moment_it_was_left(self):
        for worker, told in enumerate(self.tales):
            moment = self.tales[0].ops[99].returned
            done = sum(1 for op in told.ops if op.returned <= moment)
            self.rewind(worker, 3 * done)
        line = self.verdict("until", "--moment", str(moment), "--strict", "--crash", str(self.end))
        self.assertTrue(line["ok"], line)
        self.assertGreaterEqual(line["lost_s"], self.end - self.tales[0].ops[110].returned)
        later = self.tales[0].ops[102].returned
        self.assertFalse(self.verdict("until", "--moment", str(later))["ok"])
        self.assertFalse(self.verdict("closed")["ok"])

    def test_two_workers_at_different_times_are_not_one_state(self):
        self.rewind(0, 3 * 20)
        line = self.verdict("until", "--moment", "1")
        self.assertTrue(line["ok"] and not line["one_state"], line)
        self.assertFalse(self.verdict("until", "--moment", "1", "--strict")["ok"])

    def test_what_was_found_once_is_compared_again(self):
        self.verdict("closed", "--manifest", f"{self.top}/manifest")
        again = ["--dir", self.dir, "--same", f"{self.top}/manifest"]
        self.assertEqual(tool("verify.py", *again)[0], 0)
        os.truncate(self.kept(0, fsynced=True), 99)
        self.assertEqual(tool("verify.py", *again)[0], 1)

    def test_errors_that_the_writer_met_are_told(self):
        self.assertEqual(tool("writer.py", "--errors", self.journal)[0], 0)
        broken = os.path.join(self.top, "broken")
        shutil.copytree(self.journal, broken)
        with open(broken + "/worker-0", "a") as file:
            file.write(json.dumps({"k": 120, "e": "x", "t": 0, "error": "EIO", "text": "it broke"}) + "\n")
        status, line = tool("writer.py", "--errors", broken)
        self.assertEqual((status, line["errors"]), (1, 1))


class ImportVerdicts(unittest.TestCase):
    """A server that holds exactly what it should, and then one thing otherwise."""

    @classmethod
    def setUpClass(cls):
        cls.top = pathlib.Path(tempfile.mkdtemp(prefix="haven-tools."))
        maker = maketakeout.Maker(3, 400)
        maker.make()
        maker.write(cls.top)
        cls.expected = json.loads((cls.top / "expected.json").read_text())

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.top)

    def state(self):
        albums = [dict(album) for album in self.expected["albums"]]
        assets = [self.held(asset) for asset in self.expected["assets"]]
        return {"assets": assets, "albums": albums, "tags": [], "stacks": [], "paused": []}

    def held(self, want):
        held = {"sha1": want["sha1"], "size": want["size"], "visibility": want["visibility"], "sidecar": None}
        if want["kind"] == "motion":
            return dict(held, name="half.mp4")
        stem = want["title"].rsplit(".", 1)[0] + ("-edited" if want["edited"] else "")
        zone = datetime.timezone(datetime.timedelta(seconds=want["offset"]))
        moment = datetime.datetime.fromtimestamp(want["taken"], zone)
        inner = f"<exif:DateTimeOriginal>{moment.isoformat()}</exif:DateTimeOriginal>"
        if want["place"] and not want["placeInFile"]:
            at = [f"{int(abs(n))},{(abs(n) % 1) * 60:.7f}" for n in want["place"]]
            at = [at[0] + "SN"[want["place"][0] > 0], at[1] + "WE"[want["place"][1] > 0]]
            inner += f"<exif:GPSLatitude>{at[0]}</exif:GPSLatitude><exif:GPSLongitude>{at[1]}</exif:GPSLongitude>"
        text = want["description"].replace("&", "&amp;").replace("<", "&lt;")
        inner += f"<dc:description><rdf:Alt><rdf:li>{text}</rdf:li></rdf:Alt></dc:description>" if text else ""
        tags = want["tags"] + (["takeout/unmatched"] if want["unmatched"] else [])
        tags = "".join(f"<rdf:li>{tag.replace('&', '&amp;')}</rdf:li>" for tag in tags)
        inner += f"<digiKam:TagsList><rdf:Seq>{tags}</rdf:Seq></digiKam:TagsList>"
        spaces = " ".join(f'xmlns:{name}="{uri}"' for name, uri in judgeimport.NS.items())
        return dict(
            held, name=f"{stem}.{self.expected['extensions'][want['kind']][0]}", sidecar=f"<x {spaces}>{inner}</x>",
            createdAt=moment.astimezone(datetime.timezone.utc).isoformat(), favourite=want["favourite"],
            trashed=False, liveVideo=want["liveVideo"],
        )

    def faults(self, state):
        return judgeimport.judge_state(self.expected, state)[0]

    def test_what_is_right_is_called_right(self):
        self.assertEqual(self.faults(self.state()), [])
        self.assertEqual(judgeimport.judge_same(self.state(), self.state())[0], [])

    def test_each_thing_that_is_wrong_is_found(self):
        count = 0

        def spoil(what):
            nonlocal count
            count += 1
            state = self.state()
            what(state)
            self.assertTrue(self.faults(state), f"the {count}th fault")
            self.assertTrue(judgeimport.judge_same(self.state(), state)[0])

        def first(state, **facts):
            want = {a["sha1"]: a for a in self.expected["assets"]}
            return next(a for a in state["assets"] if all(want.get(a["sha1"], {}).get(k) == v for k, v in facts.items()))

        def cut(asset, old, new):
            self.assertIn(old, asset["sidecar"])
            asset["sidecar"] = asset["sidecar"].replace(old, new)

        spoil(lambda s: s["assets"].pop())
        spoil(lambda s: s["assets"].append(dict(s["assets"][0], sha1="0" * 40)))
        spoil(lambda s: s["albums"].remove(next(a for a in s["albums"] if a["assets"])))
        spoil(lambda s: next(a for a in s["albums"] if a["assets"]).update(assets=[]))
        spoil(lambda s: s["paused"].append("faceDetection"))
        spoil(lambda s: s["stacks"].append({}))
        spoil(lambda s: first(s, kind="motion").update(visibility="timeline"))
        spoil(lambda s: first(s, visibility="archive").update(visibility="timeline"))
        spoil(lambda s: first(s, favourite=True).update(favourite=False))
        spoil(lambda s: first(s, kind="heic").update(name="x.heic"))
        spoil(lambda s: first(s, clock="naive").update(sidecar=None))
        spoil(lambda s: cut(first(s, clock="naive", offset=7200), "+02:00", "+03:00"))
        spoil(lambda s: cut(first(s, description="Am See & <im> Wald"), "Wald", "Feld"))
        spoil(lambda s: cut(first(s, tags=["People/Anna"]), "People/Anna", "People/Ann"))
        spoil(lambda s: cut(first(s, unmatched=True), "takeout/unmatched", "takeout/x"))
        spoil(lambda s: cut(first(s, place=[52.52, 13.405], placeInFile=False), "13,24", "13,25"))
        live = next(a for a in self.expected["assets"] if a.get("liveVideo"))
        spoil(lambda s: first(s, sha1=live["sha1"]).update(liveVideo=None))

    def test_an_entry_in_no_bucket_or_in_two_is_found(self):
        rows = []
        for where, made in self.expected["where"].items():
            part, path = where.split(":", 1)
            bucket = {"upload": "uploaded", "copy": "duplicate", "motion": "motion-half"}.get(made)
            rows.append({"path": path, "part": f"/srv/{part}", "bucket": bucket or next(iter(judgeimport.BUCKETS[made]))})
        judge = lambda rows: judgeimport.judge_report(self.expected, rows)[0]
        self.assertEqual(judge(rows), [])
        self.assertTrue(judge(rows[1:]))
        self.assertTrue(judge(rows + rows[:1]))
        self.assertTrue(judge([dict(rows[0], bucket="failed")] + rows[1:]))

    def test_the_parts_are_zips_of_both_kinds_and_whole(self):
        methods, wide = set(), 0
        for name in self.expected["parts"]:
            with zipfile.ZipFile(self.top / name) as archive:
                self.assertIsNone(archive.testzip())
                methods |= {entry.compress_type for entry in archive.infolist()}
            wide += b"PK\6\6" in (self.top / name).read_bytes()[-200:]
        self.assertEqual(methods, {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED})
        self.assertEqual(wide, 2)


if __name__ == "__main__":
    unittest.main(verbosity=0)

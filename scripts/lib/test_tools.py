#!/usr/bin/env python3
"""The tools that judge a crash are judged themselves: on a directory that is put into every state worth telling apart."""

import glob
import json
import os
import shutil
import subprocess
import sys
import tempfile
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
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


if __name__ == "__main__":
    unittest.main(verbosity=0)

#!/usr/bin/env python3
"""The hook for drills, packaging/docker/drill-immich, with a made-up docker, psql and server: what it starts, what it asks
for, what it lets fail, and that both containers are taken away again. It says nothing of a real Immich."""

import hashlib
import http.server
import os
import pathlib
import subprocess
import tempfile
import threading
import unittest

HOOK = pathlib.Path(__file__).resolve().parents[2] / "packaging/docker/drill-immich"
PHOTO = b"a photo"
# Both stand for themselves and for their programs: what they were told goes to a file, and what they say comes from the environment.
PROGRAM = """#!/bin/sh
echo "${0##*/} $*" >>"$SEEN"
case "${0##*/} $*" in
  *psql*) words=$(cat); echo "$words" >>"$SEEN"
    case $words in
      *data_type*) echo bytea ;;
      *encode*) echo "anna|photo-1|$SUM"; echo "bert|photo-2|$SUM" ;;
      *unix_socket*) echo /run/made-up ;;
      *current_user*) echo postgres ;;
    esac ;;
  "docker inspect"*Running*) echo true ;;
  "docker inspect"*) echo "made_up 10.0.0.2" ;;
  "docker port"*) echo "$ADDRESS" ;;
esac
"""


class Server(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        part = self.path.split("/")
        mine = {"photo-1": "anna", "photo-2": "bert"}
        if self.path == "/api/server/ping":
            self.tell("application/json", b'{"res":"pong"}')
        elif not self.headers.get("x-api-key", "").endswith("-" + mine[part[3]]):
            self.send_error(401)
        else:
            photo = self.server.photo if part[3] == "photo-2" else PHOTO
            self.tell(*(("image/webp", b"RIFF") if part[4] == "thumbnail" else ("image/jpeg", photo)))

    def tell(self, kind, body):
        self.send_response(200)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class Hook(unittest.TestCase):
    def setUp(self):
        kept = tempfile.TemporaryDirectory(prefix="haven-hook.")
        self.addCleanup(kept.cleanup)
        self.top = pathlib.Path(kept.name)
        (self.top / "files").mkdir()
        for name in ("docker", "psql"):
            (self.top / name).write_text(PROGRAM)
            (self.top / name).chmod(0o755)
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server)
        self.server.photo = PHOTO
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.addCleanup(self.server.server_close)
        self.addCleanup(self.server.shutdown)

    def hook(self, **more):
        environment = {
            "PATH": f"{self.top}:{os.environ['PATH']}", "SEEN": f"{self.top}/seen", "SUM": hashlib.sha1(PHOTO).hexdigest(),
            "ADDRESS": f"127.0.0.1:{self.server.server_port}", "HAVEN_DRILL_FILES": f"{self.top}/files",
            "HAVEN_DRILL_DATABASE": "dbname=immich", "HAVEN_DRILL_DATABASE_NAME": "immich", "HAVEN_DRILL_IMMICH": "3.1.0",
            "HAVEN_DRILL_MEDIA_LOCATION": "/data", **more,
        }
        ran = subprocess.run([HOOK], env=environment, capture_output=True, text=True)
        seen = (self.top / "seen").read_text()
        self.assertRegex(seen, r"docker rm -f haven-drill-\d+ haven-drill-\d+-redis\n$")
        return ran, seen

    def test_a_photo_of_each_user_is_asked_for_and_compared(self):
        ran, seen = self.hook()
        self.assertEqual((ran.returncode, ran.stderr), (0, ""))
        self.assertIn("original of 2 users", ran.stdout)
        self.assertIn("/run/made-up:/run/haven-drill", seen)
        self.assertIn("immich-server:v3.1.0", seen)
        self.assertTrue((self.top / "files/encoded-video/.immich").exists())

    def test_a_database_in_a_container_is_reached_there(self):
        ran, seen = self.hook(HAVEN_DRILL_WITHIN="docker exec -i immich_postgres")
        self.assertEqual((ran.returncode, ran.stderr), (0, ""))
        self.assertIn("docker exec -i immich_postgres psql ", seen)
        self.assertRegex(seen, r"docker run .*--network made_up .*-e DB_HOSTNAME=10.0.0.2 -e DB_DATABASE_NAME=immich ")

    def test_what_is_not_what_it_was_fails(self):
        self.server.photo = b"another"
        ran, _ = self.hook()
        self.assertEqual(ran.returncode, 1)
        self.assertIn("photo-2 is not what it was", ran.stderr)
        self.assertNotIn("photo-1", ran.stderr)


if __name__ == "__main__":
    unittest.main(verbosity=0)

#!/usr/bin/env python3
"""Stand-ins for Telegram, ntfy, a webhook, a mail server and healthchecks, with the limits of the real ones.

    tellstand.py --dir DIR        prints `HTTP_PORT SMTP_PORT`, then serves until it is ended

Each message that was taken is a line of JSON in DIR/heard: {"at", "via", "title", "text", …}; each that was refused is a line
in DIR/refused, with why. A file DIR/down.VIA makes that one answer 503, DIR/hang.VIA take the request and never answer,
DIR/lose.VIA take the message and hang up without an answer.

Limits, as the services document them: Telegram 4096 UTF-16 units, entities within the text, no second message to a chat
within a second (429, retry_after); ntfy 4096 bytes; SMTP lines of 998 characters, one Message-ID a mail; healthchecks five
pings a minute and check (429), a body of 100 kB, run ids that are UUIDs.
"""
import argparse, email, email.policy, json, os, re, socketserver, threading, time, uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

LOCK = threading.Lock()
LAST, PINGS, IDS = {}, {}, set()


def note(name, **value):
    with LOCK:
        with open(os.path.join(ARGS.dir, name), "a") as file:
            file.write(json.dumps({"at": round(time.time(), 3)} | value) + "\n")


def is_set(word, via):
    return os.path.exists(os.path.join(ARGS.dir, f"{word}.{via}"))


class Web(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def answer(self, status, value, headers=()):
        body = value.encode() if isinstance(value, str) else json.dumps(value).encode()
        self.send_response(status)
        for name, text in headers:
            self.send_header(name, text)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def refuse(self, via, status, why, value=None, headers=()):
        note("refused", via=via, status=status, why=why)
        self.answer(status, why if value is None else value, headers)

    def do_PUT(self):
        self.do_POST()

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        path = self.path.split("?")[0]
        if path.startswith("/bot"):
            via, serve = "telegram", self.telegram
        elif path.startswith("/ntfy"):
            via, serve = "ntfy", self.ntfy
        elif path.startswith("/hook"):
            via, serve = "webhook", self.webhook
        elif path.startswith("/ping/"):
            via, serve = "healthchecks", self.ping
        else:
            return self.answer(404, "not found")
        if is_set("hang", via):
            time.sleep(600)
            return None
        if is_set("down", via):
            note("refused", via=via, status=503, why="down")
            return self.answer(503, "down")
        if is_set("lose", via):
            # It has arrived, and nobody hears of it.
            self.answer = lambda *_: self.connection.close()
        return serve(path, body)

    def telegram(self, path, body):
        bad = lambda why: self.refuse("telegram", 400, why, {"ok": False, "error_code": 400, "description": f"Bad Request: {why}"})
        if path.endswith("/sendDocument"):
            if len(body) > 50_000_000:
                return bad("file is too big")
            note("heard", via="telegram", document=True, bytes=len(body), title="", text="")
            return self.answer(200, {"ok": True, "result": {"message_id": int(time.time())}})
        value = json.loads(body)
        units = value["text"].encode("utf-16-le")
        if len(units) // 2 > 4096:
            return bad("message is too long")
        if value.get("parse_mode") in ("Markdown", "MarkdownV2", "HTML"):
            return bad("can't parse entities")
        for entity in value.get("entities", []):
            if entity["offset"] < 0 or entity["length"] < 1 or (entity["offset"] + entity["length"]) * 2 > len(units):
                return bad("entity out of bounds")
        chat = value["chat_id"]
        with LOCK:
            since = time.time() - LAST.get(chat, 0)
            if since >= 1:
                LAST[chat] = time.time()
        if since < 1:
            parameters = {"ok": False, "error_code": 429, "description": "Too Many Requests: retry after 1", "parameters": {"retry_after": 1}}
            return self.refuse("telegram", 429, "too soon", parameters)
        note("heard", via="telegram", title=value["text"].split("\n")[0], text=value["text"])
        return self.answer(200, {"ok": True, "result": {"message_id": int(time.time() * 1000)}})

    def ntfy(self, path, body):
        if self.command == "PUT":
            note("heard", via="ntfy", document=True, bytes=len(body), title="", text="")
            return self.answer(200, {"id": uuid.uuid4().hex[:12]})
        value = json.loads(body)
        if len(value.get("message", "").encode()) > 4096:
            return self.refuse("ntfy", 413, "message is too long")
        if not re.fullmatch(r"[-_A-Za-z0-9]{1,64}", value.get("topic", "")) or value.get("priority") not in range(1, 6):
            return self.refuse("ntfy", 400, "invalid topic or priority")
        note("heard", via="ntfy", title=value["title"], text=value["message"])
        return self.answer(200, {"id": uuid.uuid4().hex[:12]})

    def webhook(self, path, body):
        value = json.loads(body)
        note("heard", via="webhook", title=value["title"], text=value.get("body", ""), log=value.get("log", ""), id=value["id"],
             signed="x-haven-signature" in self.headers)
        return self.answer(200, "{}")

    def ping(self, path, body):
        parts = path.split("/")[2:]
        if len(parts) not in (2, 3):
            return self.refuse("healthchecks", 404, "not found")
        check, what = parts[1], parts[2] if len(parts) == 3 else "success"
        run = re.search(r"[?&]rid=([^&]*)", self.path)
        if run:
            try:
                uuid.UUID(run.group(1))
            except ValueError:
                return self.refuse("healthchecks", 400, "invalid uuid")
        if what not in ("start", "success", "fail", "log") and not (what.isdigit() and int(what) < 256):
            return self.refuse("healthchecks", 400, "invalid url format")
        if len(body) > 100_000:
            return self.refuse("healthchecks", 413, "too large")
        with LOCK:
            recent = [at for at in PINGS.get(check, []) if time.time() - at < 60]
            PINGS[check] = recent + [time.time()]
        if ARGS.ping_limit and len(recent) >= ARGS.ping_limit:
            return self.refuse("healthchecks", 429, "rate limit exceeded")
        note("heard", via="healthchecks", check=check, what=what, run=run.group(1) if run else None, title=check, text=body.decode(errors="replace")[:10_000])
        return self.answer(200, "OK")


class Mail(socketserver.StreamRequestHandler):
    def say(self, text):
        self.wfile.write(text.encode() + b"\r\n")
        self.wfile.flush()

    def handle(self):
        if is_set("down", "smtp"):
            return
        self.say("220 here ESMTP")
        sender, to = None, []
        while True:
            line = self.rfile.readline()
            if not line:
                return
            word = line[:4].upper().strip()
            if word == b"EHLO":
                self.say("250-here\r\n250-8BITMIME\r\n250 SMTPUTF8")
            elif word == b"MAIL":
                sender, to = line.decode().strip(), []
                self.say("250 fine")
            elif word == b"RCPT":
                to.append(line.decode().strip())
                self.say("250 fine")
            elif word == b"DATA":
                if not sender or not to:
                    self.say("503 who?")
                    continue
                self.say("354 go on")
                text = b""
                while True:
                    part = self.rfile.readline()
                    if part == b".\r\n" or not part:
                        break
                    if len(part) > 1000:
                        note("refused", via="smtp", status=500, why="line too long")
                        self.say("500 line too long")
                        return
                    text += part[1:] if part.startswith(b"..") else part
                self.take(text)
            elif word == b"QUIT":
                self.say("221 bye")
                return
            else:
                self.say("250 fine")

    def take(self, text):
        mail = email.message_from_bytes(text, policy=email.policy.default)
        if is_set("hang", "smtp"):
            time.sleep(600)
        plain, html = mail.get_body(("plain",)), mail.get_body(("html",))
        with LOCK:
            again = mail["message-id"] in IDS
            IDS.add(mail["message-id"])
        # What a mail box with that id shows once counts once.
        note("again" if again else "heard", via="smtp", title=mail["subject"], text=plain.get_content() if plain else "",
             html=bool(html), id=mail["message-id"])
        self.say("250 queued")


class MailServer(socketserver.ThreadingTCPServer):
    daemon_threads, allow_reuse_address = True, True


def main():
    web = ThreadingHTTPServer(("127.0.0.1", 0), Web)
    web.daemon_threads = True
    post = MailServer(("127.0.0.1", 0), Mail)
    threading.Thread(target=post.serve_forever, daemon=True).start()
    print(web.server_address[1], post.server_address[1], flush=True)
    web.serve_forever()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dir", required=True)
    parser.add_argument("--ping-limit", type=int, default=5)
    ARGS = parser.parse_args()
    main()

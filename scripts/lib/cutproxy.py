#!/usr/bin/env python3
"""A relay to a store that can be slow, and can be cut.

    cutproxy.py serve --listen 4000 --to 127.0.0.1:3900 --control /tmp/relay [--delay-ms 40]
    cutproxy.py ctl /tmp/relay cut hang      nothing passes; what is said meanwhile is held, as packets lost are sent again
    cutproxy.py ctl /tmp/relay cut reset     open connections are reset, new ones too
    cutproxy.py ctl /tmp/relay heal          all passes again; connections that hung go on
    cutproxy.py ctl /tmp/relay delay 40      milliseconds added to a round trip, half each way
    cutproxy.py ctl /tmp/relay stats         bytes each way, connections, seconds of processor time, as JSON

TCP_NODELAY on both sides, and TCP_QUICKACK after every read: without the latter a server that leaves Nagle's
algorithm on waits 40 ms for our acknowledgement before the last piece of some answers. A new connection costs
no extra round trip. Loopback only.
"""

import argparse
import asyncio
import collections
import json
import os
import resource
import socket
import struct
import sys

HELD_BYTES_MAX = 16 << 20  # per direction: beyond it the sender is made to wait, as a full network would
QUICKACK = getattr(socket, "TCP_QUICKACK", 12)


class State:
    def __init__(self, delay_ms):
        self.half = delay_ms / 2000
        self.cut = None
        self.ends = set()
        self.up = self.down = self.connections = 0


class End(asyncio.Protocol):
    """One side of a connection. What it receives leaves through `other`, later."""

    def __init__(self, state, upward):
        self.state, self.upward = state, upward
        self.other = self.transport = self.timer = None
        self.queue = collections.deque()  # (when it may leave, bytes, or None for the end of the stream)
        self.held = 0
        self.waiting = self.full = self.ended = False

    def connection_made(self, transport):
        self.transport, self.socket = transport, transport.get_extra_info("socket")
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.quick()
        self.state.ends.add(self)

    def quick(self):
        self.socket.setsockopt(socket.IPPROTO_TCP, QUICKACK, 1)

    def data_received(self, data):
        self.quick()
        self.push(data)
        if self.upward:
            self.state.up += len(data)
        else:
            self.state.down += len(data)

    def eof_received(self):
        self.push(None)
        return True

    def push(self, data):
        self.queue.append((asyncio.get_running_loop().time() + self.state.half, data))
        self.held += len(data or b"")
        if self.held > HELD_BYTES_MAX:
            self.transport.pause_reading()
            self.waiting = True
        if len(self.queue) == 1:
            self.pump()

    def pump(self):
        """Sends what is due, unless the line is cut, the far side is not there yet, or is full."""
        if self.timer:
            self.timer.cancel()
            self.timer = None
        loop = asyncio.get_running_loop()
        far = self.other
        while self.queue and not self.state.cut and far and far.transport and not far.full:
            due, data = self.queue[0]
            if due > loop.time() + 0.0002:
                self.timer = loop.call_at(due, self.pump)
                return
            self.queue.popleft()
            if data is None:
                self.ended = True
                if far.ended:  # both have said their last word
                    far.transport.close()
                    self.transport.close()
                elif not far.transport.is_closing():
                    far.transport.write_eof()
                continue
            self.held -= len(data)
            far.transport.write(data)
        if self.waiting and self.held <= HELD_BYTES_MAX // 2 and not self.transport.is_closing():
            self.waiting = False
            self.transport.resume_reading()

    # asyncio tells the end that is being written to; the end that writes has to wait.
    def pause_writing(self):
        self.full = True

    def resume_writing(self):
        self.full = False
        if self.other:
            self.other.pump()

    def connection_lost(self, error):
        self.state.ends.discard(self)
        if self.timer:
            self.timer.cancel()
        if self.other and self.other.transport:
            self.other.transport.abort() if error else self.other.transport.close()

    def reset(self):
        """Ends with RST instead of FIN."""
        if self.transport and not self.transport.is_closing():
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.transport.abort()


class Near(End):
    """The side of the client: connecting brings its far side into being."""

    def __init__(self, state, target):
        super().__init__(state, upward=True)
        self.target = target

    def connection_made(self, transport):
        super().connection_made(transport)
        if self.state.cut == "reset":
            self.reset()
            return
        self.state.connections += 1
        self.opening = asyncio.ensure_future(self.open())

    async def open(self):
        far = End(self.state, upward=False)
        far.other, self.other = self, far
        try:
            await asyncio.get_running_loop().create_connection(lambda: far, *self.target)
        except OSError:
            self.reset()
            return
        self.pump()


async def command(state, line):
    verb, *rest = line.split()
    if verb == "cut":
        state.cut = rest[0] if rest else "hang"
        if state.cut == "reset":
            for end in list(state.ends):
                end.reset()
    elif verb == "heal":
        state.cut = None
        for end in list(state.ends):
            end.pump()
    elif verb == "delay":
        state.half = float(rest[0]) / 2000
    elif verb != "stats":
        return {"error": f"unknown command {verb}"}
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "cut": state.cut,
        "delay_ms": state.half * 2000,
        "up_bytes": state.up,
        "down_bytes": state.down,
        "connections": state.connections,
        "open": len(state.ends),
        "cpu_s": round(usage.ru_utime + usage.ru_stime, 2),
    }


async def serve(o):
    state = State(o.delay_ms)
    host, port = o.to.rsplit(":", 1)
    loop = asyncio.get_running_loop()

    async def control(reader, writer):
        answer = await command(state, (await reader.readline()).decode())
        writer.write(json.dumps(answer).encode() + b"\n")
        await writer.drain()
        writer.close()

    await loop.create_server(lambda: Near(state, (host, int(port))), "127.0.0.1", o.listen, backlog=512)
    if os.path.exists(o.control):
        os.unlink(o.control)
    await asyncio.start_unix_server(control, o.control)
    await asyncio.Event().wait()


def ctl(o):
    with socket.socket(socket.AF_UNIX) as link:
        link.settimeout(10)
        link.connect(o.control)
        link.sendall((" ".join(o.words) + "\n").encode())
        answer = link.makefile().readline()
    print(answer, end="")
    return 1 if "error" in json.loads(answer) else 0


def main():
    flag = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = flag.add_subparsers(dest="verb", required=True)
    one = verbs.add_parser("serve")
    one.add_argument("--listen", type=int, required=True)
    one.add_argument("--to", required=True)
    one.add_argument("--control", required=True)
    one.add_argument("--delay-ms", type=float, default=0)
    two = verbs.add_parser("ctl")
    two.add_argument("control")
    two.add_argument("words", nargs="+")
    o = flag.parse_args()
    if o.verb == "ctl":
        return ctl(o)
    asyncio.run(serve(o))
    return 0


if __name__ == "__main__":
    sys.exit(main())

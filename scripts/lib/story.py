"""What a writer did, so that it can be decided afterwards whether what is left of it is whole.

A worker changes one directory of its own, one operation after the other, and notes in a journal outside the
tested file system when each began (`b`), when its fsync had returned (`s`) and when it had returned (`r`).
So at any instant the directory is in one of the states

    3k      before operation k (and after k-1)
    3k + 1  within it: a written file holds, byte for byte, something old, something new, or zero
    3k + 2  all data of k handed over; if `s` is noted, durable
    3k + 3  k returned: its time stamps are set too

and the file system, whatever befell it, may only show one of them (`Story.fits`), not older than what was
promised. Contents are recipes, evaluated when needed: a whole run is described by a few kilobytes.
"""

import collections
import json
import os
import random

NEVER = None  # the value of a path that holds nothing


# -------------------------------------------------------------------- contents


def noise(name, size):
    return random.Random(name).randbytes(size)


def contents(recipe):
    """The bytes of a recipe: a tuple of ("write", offset, name, size) and ("cut", size), in order."""
    data = bytearray()
    for step in recipe:
        if step[0] == "cut":
            data = data[: step[1]].ljust(step[1], b"\0")
        else:
            _, offset, name, size = step
            if offset > len(data):
                data += bytes(offset - len(data))
            data[offset : offset + size] = noise(name, size)
    return bytes(data)


def tidy(recipe):
    """The same content in fewer steps: what a cut to nothing hides is dropped."""
    for index in range(len(recipe) - 1, -1, -1):
        if recipe[index] == ("cut", 0):
            return tuple(recipe[index + 1 :])
    return tuple(recipe)


def size_of(recipe):
    size = 0
    for step in recipe:
        size = step[1] if step[0] == "cut" else max(size, step[1] + step[3])
    return size


def is_torn(data, sources, zeros=True):
    """Could `data` be a file on its way through `sources`: each byte from one of them, or (with `zeros`) zero?"""
    if not len(data) <= max(map(len, sources)) or (not zeros and len(data) < min(map(len, sources))):
        return False
    block = 4096
    for at in range(0, len(data), block):
        piece = data[at : at + block]
        pieces = [one[at : at + block].ljust(len(piece), b"\0") for one in sources]
        if (zeros and not any(piece)) or any(one.startswith(piece) for one in pieces):
            continue
        if any((byte or not zeros) and all(byte != one[i] for one in pieces) for i, byte in enumerate(piece)):
            return False
    return True


# -------------------------------------------------------------------- values and timelines

# What a path holds: a recipe, and the modification time if one was set. `steps` are the last steps of the
# recipe, while they are on their way: then anything between none and all of them fits.
Value = collections.namedtuple("Value", "recipe mtime_ns steps", defaults=(None, None))
# From state `since` on, until the next one.
Turn = collections.namedtuple("Turn", "since path value")
Op = collections.namedtuple("Op", "what begun synced returned")


class Seen:
    """A file as found: its bytes and time stamp, or the error that reading gave."""

    def __init__(self, data=None, mtime_ns=None, error=None):
        self.data, self.mtime_ns, self.error = data, mtime_ns, error


def fits(seen, value):
    if value is NEVER or seen is None:
        return value is NEVER and seen is None
    if seen.error:
        return False
    if value.steps is not None:
        whole = len(value.recipe)
        return is_torn(seen.data, [contents(value.recipe[:n]) for n in range(whole - value.steps, whole + 1)])
    if len(seen.data) != size_of(value.recipe) or seen.data != contents(value.recipe):
        return False
    return value.mtime_ns is None or value.mtime_ns == seen.mtime_ns


class Story:
    """One worker's journal, read back."""

    def __init__(self, path):
        self.path, self.ops, self.errors = path, [], []
        with open(path, "rb") as lines:
            whole = [line for line in lines if line.endswith(b"\n")]
        head = json.loads(whole[0])
        self.directory = head["directory"]
        marks = collections.defaultdict(dict)
        for line in map(json.loads, whole[1:]):
            marks[line["k"]][line["e"]] = line
        for number in sorted(marks):
            m = marks[number]
            if "x" in m:
                self.errors.append(m["x"])
            if "b" not in m:
                continue  # refused while making a directory for it
            at = {e: m[e]["t"] if e in m else None for e in "bsr"}
            self.ops.append(Op(m["b"]["what"], at["b"], at["s"], at["r"]))
        self.paths = collections.defaultdict(list)  # path -> its turns
        self.files = collections.defaultdict(list)  # file (born as operation n) -> its turns; path NEVER: gone
        self._live()

    @property
    def last(self):
        """The latest state that may have been reached: every begun operation may have been carried out."""
        return 3 * len(self.ops)

    def _live(self):
        holder, now = {}, {}  # path -> file, path -> Value
        for k, op in enumerate(self.ops):
            what, path = op.what["op"], op.what["path"]

            def turn(state, path, value):
                self.paths[path].append(Turn(state, path, value))
                if value is NEVER:
                    now.pop(path, None)
                else:
                    now[path] = value

            if what == "write":
                before = now.get(path)
                file = holder.setdefault(path, k)
                old = before.recipe if before else ()
                steps, mtime = tuple(map(tuple, op.what["steps"])), op.what.get("mtime_ns")
                new = tidy(old + steps)
                for state, value in (
                    (3 * k + 1, Value(old + steps, None, len(steps))),
                    (3 * k + 2, Value(new)),
                    (3 * k + 3, Value(new, mtime)),
                ):
                    turn(state, path, value)
                    self.files[file].append(Turn(state, path, value))
            elif what == "unlink":
                turn(3 * k + 3, path, NEVER)
                self.files[holder.pop(path)].append(Turn(3 * k + 3, NEVER, NEVER))
            elif what == "rename":
                to, value = op.what["to"], now[path]
                if to in holder:
                    self.files[holder.pop(to)].append(Turn(3 * k + 3, NEVER, NEVER))
                turn(3 * k + 3, path, NEVER)
                turn(3 * k + 3, to, value)
                holder[to] = holder.pop(path)
                self.files[holder[to]].append(Turn(3 * k + 3, to, value))
            else:
                raise ValueError(f"{self.path}: unknown operation {what}")

    def required(self, promise, moment=None, cut=None):
        """The oldest state that may be shown, and per operation the state it must have reached.

        `closed`: whatever returned stays. `fsynced`: whatever fsync returned for (before the power was `cut`: a
        machine without power tells nobody anything), and whatever had returned by `moment`. `until`: whatever had
        returned by `moment`, no more. Times are seconds since 1970.
        """
        floors = {}
        for k, op in enumerate(self.ops):
            done = op.returned is not None and (promise == "closed" or (moment is not None and op.returned <= moment))
            if done:
                floors[k] = 3 * k + 3
            elif op.synced is not None and (promise == "closed" or (promise == "fsynced" and not (cut and op.synced > cut))):
                floors[k] = 3 * k + 2
        return max(floors.values(), default=0), floors

    def spans(self, turns, low, high):
        """[(first, last, value)] that a list of turns gives between two states, both included."""
        edges = [(0, NEVER)] + [(t.since, t.value) for t in turns]
        for (since, value), (until, _) in zip(edges, edges[1:] + [(high + 1, None)]):
            if max(since, low) <= min(until - 1, high):
                yield max(since, low), min(until - 1, high), value


def overlap(spans, others):
    """The states that lie in one of `spans` and in one of `others`; both are sorted lists of (first, last)."""
    return [(max(a, c), min(b, d)) for a, b in spans for c, d in others if max(a, c) <= min(b, d)]


def look(root):
    """{path: Seen} of every file below `root`, and what was wrong with the tree itself."""
    seen, trouble, todo = {}, [], [root]
    while todo:
        top = todo.pop()
        try:
            names, children = sorted(os.listdir(top)), 0
            if len(set(names)) != len(names):
                trouble.append(f"{top}: a name is listed twice")
            for name in names:
                full = os.path.join(top, name)
                try:
                    status = os.lstat(full)
                    if os.path.isdir(full):
                        children += 1
                        todo.append(full)
                        continue
                    with open(full, "rb", buffering=0) as file:
                        data = file.readall()
                    if len(data) != status.st_size:
                        trouble.append(f"{full}: {status.st_size} bytes by stat, {len(data)} by reading")
                    seen[os.path.relpath(full, root)] = Seen(data, status.st_mtime_ns)
                except FileNotFoundError:
                    trouble.append(f"{full}: listed, and not there")
                except OSError as error:
                    seen[os.path.relpath(full, root)] = Seen(error=str(error))
            links = os.stat(top).st_nlink
            if links not in (1, 2 + children):  # 1: a file system that does not count
                trouble.append(f"{top}: {links} links for {children} directories")
        except OSError as error:
            if top != root or not isinstance(error, FileNotFoundError):
                trouble.append(str(error))
    return seen, trouble

"""The texts of tests/token_strings.c, made again, byte for byte."""

import json
import pathlib

MASK = (1 << 64) - 1
COUNT = 20000
PER_HASH = 500
TABLES = json.loads((pathlib.Path(__file__).parent.parent / "golden/token/strings.json").read_text())


class Rng:
    """splitmix64"""

    def __init__(self, state):
        self.state = state

    def next(self):
        self.state = (self.state + 0x9E3779B97F4A7C15) & MASK
        z = self.state
        z = ((z ^ z >> 30) * 0xBF58476D1CE4E5B9) & MASK
        z = ((z ^ z >> 27) * 0x94D049BB133111EB) & MASK
        return z ^ z >> 31

    def below(self, n):
        return self.next() % n

    def pick(self, table):
        items = TABLES[table]
        return items[self.below(len(items))]

    def from_ranges(self, table):
        first, last = self.pick(table)
        return chr(first + self.below(last - first + 1))


def special(rng):
    name = rng.pick("specials")
    return {0: name[:-1], 1: name[1:]}.get(rng.below(5), name)


def element(rng, kind):
    if kind == 0:
        cp = rng.below(0x10F800)
        return chr(cp if cp < 0xD800 else cp + 0x800)
    if kind == 1:
        return chr(rng.below(0x80))
    if kind == 2:
        return rng.pick("words") + rng.pick("separators")
    if kind == 3:
        return rng.pick("bases") if rng.below(3) == 0 else rng.from_ranges("marks")
    if kind == 4:
        return rng.pick("spaces")
    if kind == 6:
        return special(rng) + rng.pick("separators")
    if kind == 7:
        return rng.pick("code")
    return rng.from_ranges("recent" if kind == 8 else "scripts")


def text(i, corrupt=False):
    """Text i as bytes."""
    rng = Rng(0x6C6F6F6B666172 + i)
    kind = i % 10
    if kind == 5:
        unit = rng.pick("units")
        out = unit * (1 + rng.below(600)) + rng.pick("words")
    else:
        n = 1 + rng.below(40)
        out = "".join(element(rng, kind) for _ in range(n))
    out = bytearray(out.encode())
    if corrupt and out:
        for _ in range(1 + len(out) // 8):
            at = rng.below(len(out))
            out[at] = rng.below(256)
    return bytes(out)


def fnv(hash, ids):
    for word in [len(ids), *ids]:
        for byte in word.to_bytes(4, "little"):
            hash = ((hash ^ byte) * 0x100000001B3) & MASK
    return hash


HASH_START = 0xCBF29CE484222325

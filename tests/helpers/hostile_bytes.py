"""Whole files made hostile: what a format calls a number, a size or a name becomes something that it should not be."""

from __future__ import annotations

import json
import random
import struct
from collections.abc import Iterator
from typing import Any

NUMBERS = (-1, 0, 1, 2, 127, 255, 65535, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**62, 2**63 - 1, -(2**31), -(2**63))
VALUES: tuple[Any, ...] = (
    *NUMBERS, 10**30, 10**400, -0.5, 1.5, 1e308, float("nan"), float("inf"), True, False, None, "", "x", "../x", "/etc/x",
    "a\0b", "\x1b[31mred", "\u202egnp", "\ud800", "<script>alert(1)</script>", "9" * 400, "1e999", [], [1], [[]], ["x"], {},
    {"name": "x"}, {"__class__": "os.system"}, [{}], [None, 1], "cnn", "none", "__init__",
)  # fmt: skip
NAMES = ("__class__", "", "x" * 300, "../x", "name", "schema", "a\nb", "__metadata__")


def harmed(name: str, data: bytes, rng: random.Random) -> bytes:
    """One of many ways to harm a file of that reader (`hostile_readers.READERS`); any bytes may be given."""
    try:
        if name in ("manifest", "result"):
            return _dump(_alter(json.loads(data), rng))
        if name == "checkpoint" and rng.random() < 0.8:
            return _alter_safetensors(data, rng)
        if name == "study":
            return _alter_toml(data.decode(), rng).encode(errors="surrogatepass")
    except (ValueError, RecursionError, struct.error, IndexError, KeyError, TypeError, AttributeError):
        pass
    return _alter_bytes(data, rng)


def _dump(value: Any) -> bytes:
    return json.dumps(value).encode()


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    for key in list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield value, key
        yield from _places(value[key])


def _alter(value: Any, rng: random.Random) -> Any:
    for _ in range(rng.choice((1, 1, 2, 3))):
        places = list(_places(value))
        if not places:
            return rng.choice(VALUES)
        parent, key = rng.choice(places)
        way = rng.randrange(4)
        if way == 0:
            del parent[key]
        elif way == 1 and isinstance(parent, dict):
            parent[rng.choice(NAMES)] = parent.pop(key)
        elif way == 2:
            # another part of the same file: of a type that stands there somewhere
            other, name = rng.choice(places)
            parent[key] = json.loads(json.dumps(other[name])) if name in other or isinstance(other, list) else None
        else:
            parent[key] = rng.choice(VALUES)
    return value


def _alter_safetensors(data: bytes, rng: random.Random) -> bytes:
    (length,) = struct.unpack("<Q", data[:8])
    header, body = json.loads(data[8 : 8 + length]), data[8 + length :]
    own = header.get("__metadata__", {}).get("pretext")
    if own is not None and rng.random() < 0.6:
        text = _dump(_alter(json.loads(own), rng)).decode()
        header["__metadata__"]["pretext"] = text
    else:
        header = _alter(header, rng)
    text = _dump(header)
    stated = len(text) if rng.random() < 0.95 else rng.choice(NUMBERS) % 2**64
    return struct.pack("<Q", stated) + text + body


def _alter_toml(text: str, rng: random.Random) -> str:
    lines = text.split("\n")
    number = rng.randrange(len(lines))
    key, equals, _ = lines[number].partition("=")
    value = rng.choice(VALUES)
    words = ["[" * 300, "{a={a={a=1}}}", "1e400", "9" * 5000, "nan", "-inf", "1979-05-27", "0x" + "f" * 500, "'''x",
             json.dumps(value) if not isinstance(value, float) else repr(value)]  # fmt: skip
    way = rng.randrange(4)
    if way == 0 or not equals:
        lines.insert(number, rng.choice(lines + ["[pretrain.x]", "[[probe]]", "a.b.c = 1", "\ufeff", "\0", "[report]"]))
    elif way == 1:
        lines[number] = f"{rng.choice(NAMES)} = {rng.choice(words)}"
    else:
        lines[number] = f"{key}= {rng.choice(words)}"
    return "\n".join(lines)


def _alter_bytes(data: bytes, rng: random.Random) -> bytes:
    harmed = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        if not harmed:
            return b"\0"
        place = rng.randrange(len(harmed))
        way = rng.randrange(6)
        if way == 0:
            harmed[place] ^= 1 << rng.randrange(8)
        elif way == 1:
            harmed[place] = rng.randrange(256)
        elif way in (2, 3):  # a size or an offset
            size = rng.choice((2, 4, 8))
            place -= place % size
            number = rng.choice(NUMBERS) % 2 ** (8 * size)
            harmed[place : place + size] = number.to_bytes(size, "little")
        elif way == 4:
            del harmed[place : place + rng.choice((1, 4, 8, 64, 10**6))]
        else:
            start = rng.randrange(len(harmed))
            harmed[place:place] = harmed[start : start + rng.choice((1, 8, 64))]
    return bytes(harmed)

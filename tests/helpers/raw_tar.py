"""Tars put together block by block, so that they can say what is not true."""

import tarfile


def header(name, kind=tarfile.REGTYPE, size=0, link="", **changes):
    """One block of a tar that says what it is told to, true or not."""
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, link
    block = bytearray(member.tobuf(tarfile.GNU_FORMAT)[-512:])
    block[124:136] = size if isinstance(size, bytes) else tarfile.itn(size, 12, tarfile.GNU_FORMAT)
    for place, value in changes.items():
        at = int(place[1:])
        block[at : at + len(value)] = value
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def pad(content):
    return content + bytes(-len(content) % 512)


def record(key, value):
    """One line of a POSIX.1-2001 header, which begins with its own length."""
    body = b" " + key + b"=" + value + b"\n"
    length = len(body) + 1
    while len(str(length)) + len(body) != length:
        length += 1
    return str(length).encode() + body


def extended(*records, kind=b"x"):
    content = b"".join(records)
    return header("pax", kind, len(content)) + pad(content)


A = header("set/a", size=3) + pad(b"one")
END = bytes(1024)

"""Image files that are odd, broken or hostile, made in code, the same each time: bytes here, what only a folder can hold below."""

from __future__ import annotations

import io
import os
import socket
import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image, PngImagePlugin

CUTS = (1, 8, 20, 0.5, 0.9)  # bytes kept of a file, or the share of them
LOSSLESS = {"WEBP": {"lossless": True}, "TIFF": {"compression": "tiff_lzw"}}
HUGE = 30_000  # pixels a side: 900 million


def photograph(height: int = 24, width: int = 32, seed: int = 0) -> np.ndarray:
    """A smooth colour picture, (height, width, 3) uint8."""
    small = np.random.default_rng(seed).integers(0, 256, size=(4, 4, 3), dtype=np.uint8)
    return np.array(Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC))


def encode(image: Image.Image | np.ndarray, kind: str, **options) -> bytes:
    """The bytes of an image file."""
    picture = Image.fromarray(image) if isinstance(image, np.ndarray) else image
    target = io.BytesIO()
    picture.save(target, kind, **options)
    return target.getvalue()


def chunk(kind: bytes, content: bytes) -> bytes:
    """One chunk of a PNG."""
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(width: int, height: int, content: bytes, *, depth: int = 8, color: int = 0, before: bytes = b"") -> bytes:
    """A PNG whose parts need not fit; `content` is compressed as its pixels."""
    head = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0)
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + before
            + chunk(b"IDAT", content) + chunk(b"IEND", b""))  # fmt: skip


def zeros(size: int) -> bytes:
    """That many zero bytes, compressed; no more than a MiB of them is in memory."""
    packer = zlib.compressobj(9)
    block = bytes(1 << 20)
    parts = [packer.compress(block) for _ in range(size >> 20)]
    return b"".join((*parts, packer.compress(bytes(size & (1 << 20) - 1)), packer.flush()))


def tiff(tags: dict[int, tuple[int, int, int]], content: bytes = bytes(64)) -> bytes:
    """A little-endian TIFF of the given tags (type, count, value or offset), which may lie; pixels begin at byte 8."""
    entries = b"".join(struct.pack("<HHII", tag, *entry) for tag, entry in sorted(tags.items()))
    directory = struct.pack("<H", len(tags)) + entries + bytes(4)
    return b"II*\0" + struct.pack("<I", 8 + len(content)) + content + directory


def tiff_tags(width: int, height: int, **changes: tuple[int, int, int]) -> dict[int, tuple[int, int, int]]:
    """The tags of a grey TIFF in one strip; `changes` by number, as t279=(4, 1, 5)."""
    tags = {256: (4, 1, width), 257: (4, 1, height), 258: (3, 1, 8), 259: (3, 1, 1), 262: (3, 1, 1), 273: (4, 1, 8),
            277: (3, 1, 1), 278: (4, 1, height), 279: (4, 1, width * height & 0xFFFFFFFF)}  # fmt: skip
    return tags | {int(name[1:]): entry for name, entry in changes.items()}


def bitmap(width: int, height: int, content: bytes, *, compression: int = 1) -> bytes:
    """A BMP of 256 greys; `content` is its run lengths, or its pixels."""
    palette = b"".join(bytes((grey, grey, grey, 0)) for grey in range(256))
    head = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 8, compression, len(content), 0, 0, 256, 0)
    offset = 14 + len(head) + len(palette)
    return b"BM" + struct.pack("<IHHI", offset + len(content), 0, 0, offset) + head + palette + content


def many_scans(side: int, count: int) -> bytes:
    """A progressive JPEG of grey whose last scan is repeated: each costs a pass over all pixels, and next to no bytes."""
    whole = encode(Image.new("L", (side, side), 93), "JPEG", progressive=True)
    start = whole.rindex(b"\xff\xda")
    tables = whole.rindex(b"\xff\xc4", 0, start)
    return whole[:-2] + whole[tables if tables > start else start : -2] * count + whole[-2:]


def sound() -> dict[str, bytes]:
    """Files that any reader must take, by name; whatever the name says, they show `photograph()`, or grey, or its like."""
    picture = photograph()
    colour, grey = Image.fromarray(picture), Image.fromarray(picture[..., 1])
    alpha = Image.fromarray(np.linspace(0, 255, 24 * 32).astype(np.uint8).reshape(24, 32))
    deep = (picture[..., 0].astype(np.uint16) * 257)[:, ::-1].copy()
    rgba, grey_alpha = colour.copy(), grey.copy()
    rgba.putalpha(alpha)
    grey_alpha.putalpha(alpha)
    others = [Image.fromarray(photograph(seed=seed)) for seed in (1, 2)]
    moving = {"save_all": True, "append_images": others, "duration": 40}
    text = PngImagePlugin.PngInfo()
    text.add_text("long", "x" * 500_000)
    files = {
        "plain.jpg": encode(colour, "JPEG", quality=95, subsampling=0),
        "plain.png": encode(colour, "PNG"),
        "plain.gif": encode(colour, "GIF"),
        "plain.webp": encode(colour, "WEBP", lossless=True),
        "plain.tif": encode(colour, "TIFF", compression="tiff_lzw"),
        "plain.bmp": encode(colour, "BMP"),
        "a-png.jpg": encode(colour, "PNG"),
        "progressive.jpg": encode(colour, "JPEG", quality=95, progressive=True),
        "cmyk.jpg": encode(colour.convert("CMYK"), "JPEG", quality=95, subsampling=0),
        "ycck.jpg": ycck(colour),
        "grey.jpg": encode(grey, "JPEG", quality=95),
        "grey-16.png": encode(deep, "PNG"),
        "grey-16.tif": encode(deep, "TIFF"),
        "float.tif": encode((picture[..., 0] / np.float32(255)).astype(np.float32), "TIFF"),
        "one-bit.png": encode(grey.convert("1"), "PNG"),
        "palette.png": encode(colour.quantize(16), "PNG"),
        "palette-alpha.png": encode(colour.quantize(16), "PNG", transparency=bytes(range(0, 256, 16))),
        "grey-alpha.png": encode(grey_alpha, "PNG"),
        "rgba.png": encode(rgba, "PNG"),
        "rgba.webp": encode(rgba, "WEBP", lossless=True, exact=True),
        "animated.gif": encode(colour, "GIF", **moving),
        "animated.png": encode(colour, "PNG", **moving),
        "animated.webp": encode(colour, "WEBP", lossless=True, **moving),
        "profile.png": encode(colour, "PNG", icc_profile=b"no profile at all" * 9),
        "profile.jpg": encode(colour, "JPEG", quality=95, subsampling=0, icc_profile=bytes(300)),
        "text.png": encode(colour, "PNG", pnginfo=text),
        "pixel.png": encode(picture[:1, :1], "PNG"),
        "pixel.gif": encode(picture[:1, :1], "GIF"),
        "row.png": encode(np.full((1, 50_000, 3), 93, np.uint8), "PNG"),
        "column.png": encode(np.full((50_000, 1, 3), 93, np.uint8), "PNG"),
        "row.jpg": encode(np.full((1, 50_000, 3), 93, np.uint8), "JPEG", quality=95),
        "column.bmp": encode(np.full((50_000, 1, 3), 93, np.uint8), "BMP"),
        "run-lengths.bmp": bitmap(32, 24, b"\x20\x5d\0\0" * 24),
    }  # fmt: skip
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        files[f"turned-{orientation}.png"] = encode(colour, "PNG", exif=exif)
        files[f"turned-{orientation}.jpg"] = encode(colour, "JPEG", quality=95, subsampling=0, exif=exif)
    return files


def ycck(picture: Image.Image) -> bytes:
    """A JPEG of four inks as print shops write it, luma and chroma first: Adobe's marker says so."""
    y, cb, cr = picture.convert("YCbCr").split()
    whole = encode(
        Image.merge("CMYK", (y, cb, cr, Image.new("L", picture.size, 255))), "JPEG", quality=95, subsampling=0
    )
    at = whole.index(b"Adobe\0")
    return whole[: at + 11] + b"\x02" + whole[at + 12 :]


def broken() -> dict[str, bytes]:
    """Files that no reader can take whole, by name."""
    files = {"zero.png": b"", "zero.jpg": b"", "one-byte.png": b"\x89", "one-byte.gif": b"G",
             "text.png": b"no picture, but words\n" * 9, "script.jpg": b"#!/bin/sh\ntouch /tmp/run\n",
             "postscript.jpg": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n"}  # fmt: skip
    noisy = np.random.default_rng(3).integers(0, 256, size=(40, 40, 3), dtype=np.uint8)
    for kind, extension in (
        ("JPEG", "jpg"),
        ("PNG", "png"),
        ("GIF", "gif"),
        ("WEBP", "webp"),
        ("TIFF", "tif"),
        ("BMP", "bmp"),
    ):
        whole = encode(noisy, kind, **LOSSLESS.get(kind, {}))
        for cut in CUTS:
            files[f"cut-{cut}.{extension}"] = whole[: cut if isinstance(cut, int) else int(len(whole) * cut)]
    return files


def bombs() -> dict[str, bytes]:
    """Small files that would take gigabytes or hours if they were believed, by name."""
    text = b"key\0\0" + zeros(20 << 20)
    return {
        "huge.png": png(HUGE, HUGE, zeros(HUGE * HUGE // 8 + HUGE), depth=1),
        "huge-head.png": png(2**31 - 1, 2**31 - 1, b""),
        "wide.png": png(80_000_000, 1, zeros(1 << 20)),
        "huge.gif": b"GIF89a" + struct.pack("<HHBBB", 65535, 65535, 0x80, 0, 0) + bytes(6)
                    + b"," + struct.pack("<HHHHB", 0, 0, 1, 1, 0) + b"\x02\x02\x4c\x01\0;",
        "frame.gif": b"GIF89a" + struct.pack("<HHBBB", 1, 1, 0x80, 0, 0) + bytes(6)
                     + b"," + struct.pack("<HHHHB", 65000, 65000, 65535, 65535, 0) + b"\x02\x02\x4c\x01\0;",
        "huge.webp": b"RIFF" + struct.pack("<I", 30) + b"WEBPVP8X" + struct.pack("<I", 10) + bytes(4) + b"\xff" * 6 + bytes(4),
        "huge.jpg": encode(photograph(), "JPEG").replace(struct.pack(">HH", 24, 32), b"\xff\xff\xff\xff", 1),
        "huge.bmp": bitmap(2**31 - 1, 1, b"\0\2\xff\xff\0\1"),
        "delta.bmp": bitmap(80_000_000, 1, b"\0\2\xff\xff\0\1"),
        "huge.tif": tiff(tiff_tags(HUGE * 10, HUGE * 10)),
        "strip.tif": tiff(tiff_tags(8, 8, t278=(4, 1, 2**32 - 1), t279=(4, 1, 2**32 - 1))),
        "tile.tif": tiff(tiff_tags(16, 16, t322=(4, 1, 2**20), t323=(4, 1, 2**20), t324=(4, 1, 8), t325=(4, 1, 2**31),
                                   t259=(3, 1, 5))),
        "count.tif": tiff(tiff_tags(8, 8, t270=(2, 2**32 - 1, 8))),
        "text-bomb.png": png(8, 8, zlib.compress(bytes(72)), before=chunk(b"zTXt", text)),
        "profile-bomb.png": png(8, 8, zlib.compress(bytes(72)), before=chunk(b"iCCP", text)),
        "long-chunk.png": png(8, 8, zlib.compress(bytes(72)), before=struct.pack(">I", 2**31 - 1) + b"tEXt"),
        "scans.jpg": many_scans(600, 2_000),
    }  # fmt: skip


def odd_names() -> list[str]:
    """Names of image files that a terminal, a shell or a decoder of text would stumble over."""
    return [
        "new\nline.png", "tab\tand\x1b[31mred.png", "\x7f.png", "-rf.png", "--help.png", " .png", "quote'\".png", "back\\slash.png",
        os.fsdecode(b"latin\xe9.png"), os.fsdecode(b"\xff\xfe.png"), "right\u202eto-left.png", "\u00e9.png", "e\u0301.png",
        "a" * 251 + ".png", "%s%n{0}$(id).png", "<script>alert(1)<script>.png",
    ]  # fmt: skip


def put_links(folder: Path, outside: Path) -> dict[str, str]:
    """Put links, a pipe and a socket with images' names into a folder; returns the start of each reason, by name."""
    os.mkfifo(folder / "pipe")
    (folder / ".hidden.png").write_bytes(encode(photograph(), "PNG"))
    targets = {"out.png": outside, "out-relative.png": os.path.relpath(outside, folder), "zero.png": "/dev/zero",
               "loop.png": "loop.png", "dangling.png": "nowhere.png", "to-pipe.png": "pipe", "to-folder.png": "."}  # fmt: skip
    for name, target in targets.items():
        (folder / name).symlink_to(target)
    os.mkfifo(folder / "pipe.png")
    with socket.socket(socket.AF_UNIX) as server:
        here = os.open(folder, os.O_RDONLY)  # a socket's address is short; its folder's name need not be
        server.bind(f"/proc/self/fd/{here}/socket.jpg")
        os.close(here)
    leaves = "a symbolic link that leaves the folder"
    return {"out.png": leaves, "out-relative.png": leaves, "zero.png": leaves, "loop.png": "can't be read: Too many levels",
            "dangling.png": "can't be read: No such file", "to-pipe.png": "not a plain file",
            "to-folder.png": "a symbolic link to a folder"}  # fmt: skip

"""Decoding: every mode, depth and orientation becomes the same upright square; broken files say why they are none."""

import io
import os
import struct
import warnings
import zlib

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from pretext.datasets.images import EXTENSIONS, decode_rgb, fit_square, resize_rgb
from pretext.errors import DataError


def photograph(height, width, seed=0):
    """A smooth colour picture, so that lossy formats stay close to it."""
    generator = np.random.default_rng(seed)
    small = Image.fromarray(generator.integers(0, 256, size=(4, 4, 3), dtype=np.uint8))
    return np.asarray(small.resize((width, height), Image.Resampling.BICUBIC))


def save(image, path, **options):
    if isinstance(image, np.ndarray):
        image = Image.fromarray(image)
    image.save(path, **options)
    return path


def close(first, second, most):
    return np.abs(first.astype(int) - second.astype(int)).max() <= most


@pytest.mark.parametrize(
    ("name", "options", "most"),
    [
        ("a.png", {}, 0),
        ("a.bmp", {}, 0),
        ("a.tif", {}, 0),
        ("a.tiff", {"compression": "tiff_lzw"}, 0),
        ("a.webp", {"lossless": True}, 0),
        ("a.webp", {"quality": 95}, 40),
        ("a.jpg", {"quality": 98, "subsampling": 0}, 12),
        ("a.jpg", {"quality": 98, "progressive": True}, 40),
        ("a.gif", {}, 60),
    ],
)
def test_formats(tmp_path, name, options, most):
    expected = photograph(40, 40)
    decoded = decode_rgb(save(expected, tmp_path / name, **options), image_size=40)
    assert decoded.shape == (40, 40, 3)
    assert decoded.dtype == np.uint8
    assert decoded.flags.c_contiguous
    assert decoded.flags.writeable
    assert close(decoded, expected, most)


def test_content_decides_not_the_extension(tmp_path):
    expected = photograph(8, 8)
    save(expected, tmp_path / "a.png").rename(tmp_path / "a.jpg")
    np.testing.assert_array_equal(decode_rgb(tmp_path / "a.jpg", image_size=8), expected)


def test_other_formats_that_pillow_knows_are_refused(tmp_path):
    save(photograph(8, 8), tmp_path / "a.ppm").rename(tmp_path / "a.png")
    with pytest.raises(DataError, match="not a JPEG, PNG, WebP, BMP, TIFF or GIF image"):
        decode_rgb(tmp_path / "a.png", image_size=8)
    assert {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif"} <= EXTENSIONS


@pytest.mark.parametrize(("height", "width"), [(40, 64), (64, 40)])
def test_the_centre_is_kept(tmp_path, height, width):
    picture = photograph(height, width)
    top, left = (height - 40) // 2, (width - 40) // 2
    decoded = decode_rgb(save(picture, tmp_path / "a.png"), image_size=40)
    np.testing.assert_array_equal(decoded, picture[top : top + 40, left : left + 40])


@pytest.mark.parametrize(("height", "width"), [(90, 144), (31, 20)])
def test_resizing_equals_resizing_all_and_cropping_after(height, width):
    picture = photograph(height, width)
    scale = 20 / min(height, width)
    whole = Image.fromarray(picture).resize((round(width * scale), round(height * scale)), Image.Resampling.BICUBIC)
    left, top = (whole.width - 20) // 2, (whole.height - 20) // 2
    expected = np.asarray(whole)[top : top + 20, left : left + 20]
    resized = resize_rgb(picture, image_size=20)
    # an odd rest moves the crop by half a pixel, so that only even rests can be equal
    assert close(resized, expected, 1 if (whole.width - 20) % 2 == 0 and (whole.height - 20) % 2 == 0 else 30)


@pytest.mark.parametrize("side", [192, 300, 1537])
def test_shrinking_is_antialiased(tmp_path, side):
    board = (np.indices((side, side)).sum(axis=0) % 2 * 255).astype(np.uint8)
    decoded = decode_rgb(save(np.stack([board] * 3, axis=2), tmp_path / "a.png"), image_size=32)
    assert close(decoded, np.full_like(decoded, 127), 6)


@pytest.mark.parametrize("side", [64, 200, 513, 1100])
def test_a_jpeg_decoded_small_looks_the_same(tmp_path, side):
    generator = np.random.default_rng(0)
    noisy = np.clip(photograph(side, side).astype(int) + generator.integers(-40, 41, size=(side, side, 3)), 0, 255)
    path = save(noisy.astype(np.uint8), tmp_path / "a.jpg", quality=95, subsampling=0)
    with Image.open(path) as image:
        expected = np.asarray(image.resize((32, 32), Image.Resampling.BICUBIC))
    decoded = decode_rgb(path, image_size=32)
    assert np.abs(decoded.astype(int) - expected).mean() < 1
    assert close(decoded, expected, 8)


# where the stored picture's (row, column) comes from in the upright one, by EXIF orientation
STORE = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: a.transpose(1, 0, 2)[::-1],
    7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
    8: lambda a: a.transpose(1, 0, 2)[:, ::-1],
}


@pytest.mark.parametrize("extension", ["jpg", "png", "webp", "tif"])
@pytest.mark.parametrize("orientation", STORE)
def test_orientation_is_applied(tmp_path, orientation, extension):
    upright = photograph(48, 32)
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = np.ascontiguousarray(STORE[orientation](upright))
    lossless = {"jpg": {"quality": 98, "subsampling": 0}, "webp": {"lossless": True}}.get(extension, {})
    path = save(stored, tmp_path / f"a.{extension}", exif=exif, **lossless)
    assert close(decode_rgb(path, image_size=32), upright[8:40], 12 if extension == "jpg" else 0)


@pytest.mark.parametrize("exif", [b"Exif\0\0garbage garbage", b"Exif\0\0II*\0\xff\xff\xff\x7f garbage"])
def test_a_broken_exif_block_does_not_cost_the_image(tmp_path, exif):
    picture = photograph(16, 16)
    path = save(picture, tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(decode_rgb(path, image_size=16), picture)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 50_000), (50_000, 1), (2, 3)])
def test_extreme_shapes(tmp_path, height, width):
    path = save(np.full((height, width, 3), 93, np.uint8), tmp_path / "a.png")
    decoded = decode_rgb(path, image_size=96)
    assert decoded.shape == (96, 96, 3)
    assert (decoded == 93).all()


def test_a_square_out_of_a_line_takes_the_middle():
    line = Image.fromarray(np.repeat(np.arange(5, dtype=np.uint8)[None, :, None], 3, axis=2) * 50)
    assert (np.asarray(fit_square(line, image_size=1)) == 100).all()


def png_head(width, height):
    head = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + head + struct.pack(">I", zlib.crc32(head))


@pytest.mark.parametrize("side", [9_500, 14_000, 60_000])
def test_bombs_are_refused_without_being_decoded(tmp_path, side):
    (tmp_path / "a.png").write_bytes(png_head(side, side) + struct.pack(">I", 0) + b"IDAT")
    with pytest.raises(DataError, match=rf"too large, more than {Image.MAX_IMAGE_PIXELS} pixels: .*{side * side}"):
        decode_rgb(tmp_path / "a.png", image_size=8)


def test_an_empty_file(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"")
    with pytest.raises(DataError, match=r"the file is empty \(0 bytes\)"):
        decode_rgb(tmp_path / "a.jpg", image_size=8)


@pytest.mark.parametrize("extension", ["jpg", "png", "webp", "bmp", "tif", "gif"])
@pytest.mark.parametrize("share", [0.3, 0.7])
def test_a_file_cut_short(tmp_path, extension, share):
    generator = np.random.default_rng(0)
    path = save(generator.integers(0, 256, size=(64, 64, 3), dtype=np.uint8), tmp_path / f"a.{extension}")
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(DataError, match=r"can't be read: \w+|its head is broken"):
        decode_rgb(path, image_size=64)


def test_a_file_that_may_not_be_read(tmp_path, monkeypatch):
    path = save(photograph(8, 8), tmp_path / "a.png")

    def refuse(*arguments, **options):
        raise PermissionError(13, "Permission denied", os.fspath(path))

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(DataError, match=r"^can't be read: Permission denied$"):
        decode_rgb(path, image_size=8)


def test_an_absent_file(tmp_path):
    with pytest.raises(DataError, match=r"^can't be read: No such file or directory$"):
        decode_rgb(tmp_path / "a.png", image_size=8)


def sample_files():
    """One small file of each format."""
    files = []
    for kind in ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF"):
        buffer = io.BytesIO()
        Image.fromarray(photograph(12, 10)).save(buffer, format=kind)
        files.append(buffer.getvalue())
    return files


FILES = sample_files()


def image_or_reason(path):
    try:
        return decode_rgb(path, image_size=8)
    except DataError as error:
        return error.message


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.sampled_from(FILES), places=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), max_size=6))
def test_bytes_gone_wrong_give_an_image_or_a_reason(tmp_path, content, places):
    broken = bytearray(content)
    for where, value in places:
        broken[int(where * (len(broken) - 1))] = value
    (tmp_path / "a.bin").write_bytes(bytes(broken))
    answer = image_or_reason(tmp_path / "a.bin")
    if isinstance(answer, str):
        assert answer.isascii()
        assert answer.isprintable()
    else:
        assert answer.shape == (8, 8, 3)


def test_warning_filters_are_as_before(tmp_path):
    before = list(warnings.filters)
    decode_rgb(save(photograph(8, 8), tmp_path / "a.png"), image_size=8)
    assert warnings.filters == before


def test_an_image_of_the_wanted_size_is_handed_on():
    picture = photograph(8, 8)
    np.testing.assert_array_equal(resize_rgb(picture, image_size=8), picture)
    assert resize_rgb(picture.transpose(1, 0, 2), image_size=8).flags.c_contiguous

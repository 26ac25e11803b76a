"""Decoding: every mode and bit depth becomes the same 8-bit RGB."""

import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from pretext.datasets.images import decode_rgb
from pretext.errors import DataError


def photograph(height, width, seed=0):
    """A smooth colour picture."""
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


def converted(tmp_path, image, name="a.png", **options):
    return decode_rgb(save(image, tmp_path / name, **options), image_size=image.width)


def test_grey_and_bilevel(tmp_path):
    grey_HW = np.arange(256, dtype=np.uint8).reshape(16, 16)
    expected = np.stack([grey_HW] * 3, axis=2)
    np.testing.assert_array_equal(converted(tmp_path, Image.fromarray(grey_HW)), expected)
    bilevel = converted(tmp_path, Image.fromarray(grey_HW > 100))
    np.testing.assert_array_equal(bilevel, (expected > 100) * np.uint8(255))


def test_transparency_is_laid_over_white(tmp_path):
    rgba_HW4 = np.zeros((4, 4, 4), dtype=np.uint8)
    rgba_HW4[..., 0] = 200
    rgba_HW4[0, :, 3], rgba_HW4[1, :, 3] = 255, 51
    expected = np.empty((4, 4, 3), dtype=np.uint8)
    expected[0], expected[1], expected[2:] = (200, 0, 0), (244, 204, 204), 255
    assert close(converted(tmp_path, Image.fromarray(rgba_HW4)), expected, 1)
    assert close(converted(tmp_path, Image.fromarray(rgba_HW4), "a.webp", lossless=True), expected, 1)
    grey = converted(tmp_path, Image.fromarray(rgba_HW4).convert("LA"))
    assert (grey[0] == 60).all()
    assert (grey[2:] == 255).all()


def test_palettes_with_and_without_transparency(tmp_path):
    index_HW = np.arange(4, dtype=np.uint8).reshape(2, 2)
    image = Image.fromarray(index_HW).convert("P")
    image.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255, 10, 20, 30])
    expected = np.array([[[255, 0, 0], [0, 255, 0]], [[0, 0, 255], [10, 20, 30]]], dtype=np.uint8)
    np.testing.assert_array_equal(converted(tmp_path, image), expected)
    expected[1, 0] = 255
    for name in ("a.png", "a.gif"):
        np.testing.assert_array_equal(converted(tmp_path, image, name, transparency=2), expected)
    expected[0, 0] = (255, 128, 128)
    assert close(converted(tmp_path, image, transparency=bytes([127, 255, 0, 255])), expected, 1)


def test_a_colour_that_stands_for_transparent(tmp_path):
    picture = photograph(4, 4).copy()
    picture[1, 2] = (1, 2, 3)
    decoded = converted(tmp_path, Image.fromarray(picture), transparency=(1, 2, 3))
    picture[1, 2] = 255
    np.testing.assert_array_equal(decoded, picture)


def test_the_first_frame_counts(tmp_path):
    frames = [Image.new("RGB", (4, 4), color) for color in ("red", "blue")]
    for name in ("a.gif", "a.webp", "a.png", "a.tif"):
        options = {"lossless": True} if name == "a.webp" else {}
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:], **options)
        decoded = decode_rgb(tmp_path / name, image_size=4)
        assert (decoded == (255, 0, 0)).all(), name


def test_print_and_video_colours(tmp_path):
    cmyk = Image.new("CMYK", (4, 4), (0, 255, 255, 0))
    assert close(converted(tmp_path, cmyk, "a.jpg", quality=100), np.full((4, 4, 3), (255, 0, 0), np.uint8), 3)
    assert (converted(tmp_path, cmyk, "a.tif") == (255, 0, 0)).all()
    picture = photograph(16, 16)
    assert close(converted(tmp_path, Image.fromarray(picture).convert("YCbCr"), "a.tif"), picture, 4)


def test_lab(tmp_path):
    # CIE Lab (53, 80, 67) is about sRGB red; L is stored as 0..255 and a, b as signed bytes
    lab = Image.frombytes("LAB", (2, 2), bytes([135, 80, 67]) * 4)
    assert close(converted(tmp_path, lab, "a.tif"), np.full((2, 2, 3), (255, 0, 0), np.uint8), 12)


def test_sixteen_bits(tmp_path):
    deep_HW = np.array([[0, 257, 65535], [128 * 257, 128 * 257 + 129, 128 * 257 + 128], [1, 128, 129]], dtype=np.uint16)
    expected = np.array([[0, 1, 255], [128, 129, 128], [0, 0, 1]])
    for name, image in [
        ("a.png", Image.fromarray(deep_HW)),
        ("a.tif", Image.fromarray(deep_HW)),
        ("b.tif", Image.frombytes("I;16B", (3, 3), deep_HW.astype(">u2").tobytes())),
    ]:
        decoded = converted(tmp_path, image, name)
        np.testing.assert_array_equal(decoded, np.stack([expected] * 3, axis=2), err_msg=name)


def test_sixteen_bits_with_a_value_that_stands_for_transparent(tmp_path):
    deep_HW = np.array([[0, 300], [600, 65535]], dtype=np.uint16)
    path = save(deep_HW, tmp_path / "a.png")
    content = path.read_bytes()
    chunk = b"tRNS" + struct.pack(">H", 300)
    keyed = content[:33] + struct.pack(">I", 2) + chunk + struct.pack(">I", zlib.crc32(chunk)) + content[33:]
    path.write_bytes(keyed)
    np.testing.assert_array_equal(decode_rgb(path, image_size=2)[..., 0], [[0, 255], [2, 255]])


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.array([[0, 10], [200, 255]], np.int32), [[0, 10], [200, 255]]),
        (np.array([[0, 257], [514, 65535]], np.int32), [[0, 1], [2, 255]]),
        (np.array([[0, 1 << 20], [1 << 21, 1 << 22]], np.int32), [[0, 64], [128, 255]]),
        (np.array([[-100, 0], [50, 100]], np.int32), [[0, 128], [191, 255]]),
        (np.array([[-7, -7], [-7, -7]], np.int32), [[0, 0], [0, 0]]),
        (np.array([[0, 0.25], [0.5, 1]], np.float32), [[0, 64], [128, 255]]),
        (np.array([[0, 0.1], [0.2, 0.2]], np.float32), [[0, 26], [51, 51]]),
        (np.array([[-1, 0], [1, 3]], np.float32), [[0, 64], [128, 255]]),
        (np.array([[1e30, 2e30], [2e30, 3e30]], np.float32), [[0, 128], [128, 255]]),
    ],
)
def test_thirty_two_bits(tmp_path, values, expected):
    decoded = converted(tmp_path, Image.fromarray(values), "a.tif")
    np.testing.assert_array_equal(decoded, np.stack([expected] * 3, axis=2))


def test_values_that_are_no_numbers_are_refused(tmp_path):
    path = save(np.array([[0, np.nan], [1, 2]], np.float32), tmp_path / "a.tif")
    with pytest.raises(DataError, match="values that are not finite numbers"):
        decode_rgb(path, image_size=2)

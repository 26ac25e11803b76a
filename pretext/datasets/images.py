"""Turn one image file, of whatever mode, bit depth and orientation, into a square of 8-bit RGB.

Embedded colour profiles are not applied: numbers are taken as sRGB, as nearly every training pipeline does.
"""

from __future__ import annotations

import math
import os
import stat
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import ExifTags, Image, TiffImagePlugin, UnidentifiedImageError, WebPImagePlugin

from pretext.errors import DataError, UnreadableError, is_system_failure

EXTENSIONS = frozenset({".bmp", ".gif", ".jfif", ".jpe", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})
# content decides, not the extension; a closed list keeps Pillow's exotic decoders (some start programs) out. Pillow
# knows the last two only once their modules are imported
FORMATS = ("BMP", "GIF", "JPEG", "PNG", TiffImagePlugin.TiffImageFile.format, WebPImagePlugin.WebPImageFile.format)
WHITE = (255, 255, 255, 255)
MAX_FILE_BYTES = 1 << 30  # more than the pixels that are allowed take in any of the formats, uncompressed
MAX_SIDE = 200_000  # a row has no other limit than the pixels', and decoders hold several rows
MAX_SCANS = 100  # encoders write about ten in a progressive JPEG; each costs a pass over all its pixels
BAND_PIXELS = 1 << 20  # converted at a time, where a conversion needs memory of its own
# by EXIF orientation; 1 and anything unheard of leave the picture as it lies
UPRIGHT_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def decode_rgb(path: Path, *, image_size: int) -> np.ndarray:
    """Read the first frame of an image file as an upright square of RGB.

    The short side is resized to `image_size` (bicubic, antialiased) and the centre kept. EXIF orientation is
    applied. Transparent pixels are laid over white. Grey of 16 bits is divided by 257; grey of 32 bits is taken as
    what `_grey_to_byte` says.

    Args:
        path: A JPEG, PNG, WebP, BMP, TIFF or GIF file.
        image_size: Side of the square in pixels.

    Returns:
        image_HWC: (image_size, image_size, 3) uint8, C-contiguous.

    Raises:
        DataError: If the file can't be read, is no plain file, is empty, broken or cut short, or is larger than
            `MAX_FILE_BYTES`, `MAX_SIDE`, `MAX_SCANS` or Pillow's `MAX_IMAGE_PIXELS` allow. The message is the reason
            alone, without the path.
        UnreadableError: If that was the system's failure and says nothing of the file.

    Cost: one decoding; a large JPEG is decoded at an eighth to a half of its size, never below twice the target.
    Memory is 8 bytes for each pixel in the file, 20 in WebP: 1.8 GB for the largest that is allowed.
    """
    with open_image(path) as image:
        extent = _allow_smaller_jpeg(image, image_size=image_size)
        image.load()
        square = fit_square(_to_rgb(image), image_size=image_size, extent=extent)
        turn = _upright_turn(image)
        return np.array(square if turn is None else square.transpose(turn))


@contextmanager
def open_image(path: Path) -> Iterator[Image.Image]:
    """Open an image file that may be hostile; whatever goes wrong inside the block becomes a `DataError`.

    Raises:
        DataError: As of `decode_rgb`.
    """
    try:
        # filters of the warnings module are global, so the block is short and no other thread should decode
        with warnings.catch_warnings(), _open_plain(path) as handle:
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(handle, formats=FORMATS) as image:
                if min(image.size) < 1 or max(image.size) > MAX_SIDE:
                    raise DataError(f"has {image.width} x {image.height} pixels; a side must be in 1..{MAX_SIDE}")
                if image.info.get("progressive"):
                    _check_scans(handle)
                yield image
    except DataError:
        raise
    except UnidentifiedImageError as error:
        raise DataError("not a JPEG, PNG, WebP, BMP, TIFF or GIF image, or its head is broken") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise DataError(f"too large, more than {Image.MAX_IMAGE_PIXELS} pixels: {error}") from error
    except Exception as error:  # on broken bytes decoders raise SyntaxError, KeyError, struct.error, almost anything
        told = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        if is_system_failure(error):
            raise UnreadableError(f"can't be read: {told}") from error
        line = told.encode("ascii", "backslashreplace").decode().partition("\n")[0]
        line = "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in line)
        raise DataError(f"can't be read: {line or type(error).__name__}") from error


def _open_plain(path: Path) -> BinaryIO:
    """Open a plain file; one that is something else by now, such as a pipe nobody writes to, must not be waited for."""
    handle = os.fdopen(os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)), "rb")
    status = os.fstat(handle.fileno())
    problem = (
        "not a plain file" if not stat.S_ISREG(status.st_mode)
        else "the file is empty (0 bytes)" if status.st_size == 0
        else f"too large, {status.st_size} bytes of at most {MAX_FILE_BYTES}" if status.st_size > MAX_FILE_BYTES
        else None
    )  # fmt: skip
    if problem:
        handle.close()
        raise DataError(problem)
    return handle


def _check_scans(handle: BinaryIO) -> None:
    """Refuse a progressive JPEG of so many scans that decoding would take hours; what is read next is as before."""
    place, num_scans, last = handle.tell(), 0, b""
    handle.seek(0)
    while chunk := handle.read(1 << 20):
        num_scans += (last + chunk).count(b"\xff\xda")  # in coded data a zero follows ff
        last = chunk[-1:]
    handle.seek(place)
    if num_scans > MAX_SCANS:
        raise DataError(f"a JPEG of {num_scans} scans; at most {MAX_SCANS} are read")


def resize_rgb(image_HWC: np.ndarray, *, image_size: int) -> np.ndarray:
    """Return uint8 RGB (H, W, 3) as (image_size, image_size, 3): short side resized, antialiased, centre kept."""
    if image_HWC.shape[:2] == (image_size, image_size):
        return np.ascontiguousarray(image_HWC)
    return np.array(fit_square(Image.fromarray(image_HWC), image_size=image_size))


def fit_square(image: Image.Image, *, image_size: int, extent: tuple[float, float] | None = None) -> Image.Image:
    """Resize the short side to `image_size` and keep the centre, both in one step.

    Only the kept square is resized, so that 1 x 50,000 pixels never become 96 x 4,800,000.

    Args:
        image: An image of mode RGB.
        image_size: Side of the square in pixels.
        extent: Width and height of the picture where it ends within the last pixels; None is the whole image.
    """
    width, height = extent or image.size
    side = min(width, height)
    left, top = (width - side) / 2, (height - side) / 2
    box = (left, top, left + side, top + side)
    # the gap lets Pillow average whole blocks first when it shrinks more than six times: faster, same picture
    return image.resize((image_size, image_size), Image.Resampling.BICUBIC, box=box, reducing_gap=3.0)


def _allow_smaller_jpeg(image: Image.Image, *, image_size: int) -> tuple[float, float] | None:
    """Let a JPEG decode at a fraction of its size as long as twice the target is left for the antialiasing filter.

    Returns the exact size of what will be decoded (513 pixels at an eighth are 64.125, in 65 pixels), or None.
    """
    scale = 2 * image_size / min(image.size)
    smaller = image.draft(image.mode, (math.ceil(image.width * scale), math.ceil(image.height * scale)))
    return None if smaller is None else smaller[1][2:]


def _upright_turn(image: Image.Image) -> Image.Transpose | None:
    """Return what turns the picture upright; it commutes with the square crop, so the small square can be turned."""
    try:
        return UPRIGHT_TURNS.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # sound pixels under a broken EXIF block are worth keeping as they lie
        return None


def _to_rgb(image: Image.Image) -> Image.Image:
    deep = image.mode in ("I", "F") or image.mode.startswith("I;16")
    if not deep and not image.has_transparency_data:
        return image if image.mode == "RGB" else image.convert("RGB")  # of the same mode that would be a copy
    low, high = _bounds(image) if image.mode in ("I", "F") else (0.0, 65535.0)

    def convert(band: Image.Image) -> Image.Image:
        if not deep:
            return _lay_over_white(band)
        key = image.info.get("transparency")
        return Image.fromarray(_grey_to_byte(np.asarray(band), image.mode, low, high, key)).convert("RGB")

    rgb = Image.new("RGB", image.size)
    for top, band in _bands(image):
        rgb.paste(convert(band), (0, top))
    return rgb


def _bands(image: Image.Image) -> Iterator[tuple[int, Image.Image]]:
    """Yield an image's rows, a few at a time, each with the first one's number."""
    step = max(1, BAND_PIXELS // image.width)
    for top in range(0, image.height, step):
        yield top, image.crop((0, top, image.width, min(top + step, image.height)))


def _lay_over_white(image: Image.Image) -> Image.Image:
    rgba = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", rgba.size, WHITE), rgba).convert("RGB")


def _bounds(image: Image.Image) -> tuple[float, float]:
    """Return the lowest and the highest value of an image of 32 bits."""
    bands = (np.asarray(band) for _, band in _bands(image))
    bound_N2 = np.array([[band_HW.min(), band_HW.max()] for band_HW in bands], np.float64)
    if not np.isfinite(bound_N2).all():
        raise DataError("holds values that are not finite numbers")
    return float(bound_N2[:, 0].min()), float(bound_N2[:, 1].max())


def _grey_to_byte(grey_HW: np.ndarray, mode: str, low: float, high: float, key: object) -> np.ndarray:
    """Map deep grey to 0..255, some rows of an image with values in `low` to `high`; a 16-bit `key` is transparent.

    16 bits: 65535 is white. 32-bit integers: as they are when all lie in 0..255, as 16 bits when all lie in 0..65535.
    32-bit floats: 1.0 is white when all lie in 0..1. Any other 32-bit image is stretched from its own lowest to its
    own highest value, since nothing in the file says what is white.
    """
    if mode.startswith("I;16"):
        white_HW = np.where(grey_HW == key, 65535, grey_HW) if isinstance(key, int) else grey_HW
        return _round_to_byte(white_HW / 257.0)
    value_HW = grey_HW.astype(np.float64)
    if mode == "F" and low >= 0 and high <= 1:
        return _round_to_byte(value_HW * 255)
    if mode == "I" and low >= 0 and high <= 65535:
        return _round_to_byte(value_HW if high <= 255 else value_HW / 257)
    span = high - low
    return _round_to_byte((value_HW - low) / span * 255 if span > 0 else np.zeros_like(value_HW))


def _round_to_byte(value_HW: np.ndarray) -> np.ndarray:
    return np.floor(value_HW + 0.5).clip(0, 255).astype(np.uint8)

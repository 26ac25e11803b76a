"""Turn one image file, of whatever mode, bit depth and orientation, into a square of 8-bit RGB.

Embedded colour profiles are not applied: numbers are taken as sRGB, as nearly every training pipeline does.
"""

from __future__ import annotations

import math
import warnings
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, TiffImagePlugin, UnidentifiedImageError, WebPImagePlugin

from pretext.errors import DataError

EXTENSIONS = frozenset({".bmp", ".gif", ".jfif", ".jpe", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})
# content decides, not the extension; a closed list keeps Pillow's exotic decoders (some start programs) out. Pillow
# knows the last two only once their modules are imported
FORMATS = ("BMP", "GIF", "JPEG", "PNG", TiffImagePlugin.TiffImageFile.format, WebPImagePlugin.WebPImageFile.format)
WHITE = (255, 255, 255, 255)
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
        DataError: If the file can't be read, is empty, broken or cut short, or has more than Pillow's
            `MAX_IMAGE_PIXELS`. The message is the reason alone, without the path.

    Cost: one decoding; a large JPEG is decoded at an eighth to a half of its size, never below twice the target.
    """
    try:
        # filters of the warnings module are global, so the block is short and no other thread should decode
        with warnings.catch_warnings(), path.open("rb") as handle:
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            if handle.seek(0, 2) == 0:
                raise DataError("the file is empty (0 bytes)")
            handle.seek(0)
            with Image.open(handle, formats=FORMATS) as image:
                extent = _allow_smaller_jpeg(image, image_size=image_size)
                image.load()
                square = fit_square(_to_rgb(image), image_size=image_size, extent=extent)
                turn = _upright_turn(image)
                return np.array(square if turn is None else square.transpose(turn))
    except DataError:
        raise
    except UnidentifiedImageError as error:
        raise DataError("not a JPEG, PNG, WebP, BMP, TIFF or GIF image, or its head is broken") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise DataError(f"too large, more than {Image.MAX_IMAGE_PIXELS} pixels: {error}") from error
    except Exception as error:  # on broken bytes decoders raise SyntaxError, KeyError, struct.error, almost anything
        told = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        line = told.encode("ascii", "backslashreplace").decode().partition("\n")[0]
        raise DataError(f"can't be read: {line or type(error).__name__}") from error


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
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        return Image.fromarray(_grey_to_byte(image)).convert("RGB")
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, WHITE), rgba).convert("RGB")
    return image.convert("RGB")


def _grey_to_byte(image: Image.Image) -> np.ndarray:
    """Map deep grey to 0..255.

    16 bits: 65535 is white. 32-bit integers: as they are when all lie in 0..255, as 16 bits when all lie in 0..65535.
    32-bit floats: 1.0 is white when all lie in 0..1. Any other 32-bit image is stretched from its own lowest to its
    own highest value, since nothing in the file says what is white.
    """
    grey_HW = np.asarray(image)
    if image.mode.startswith("I;16"):
        key = image.info.get("transparency")
        white_HW = np.where(grey_HW == key, 65535, grey_HW) if isinstance(key, int) else grey_HW
        return _round_to_byte(white_HW / 257.0)
    value_HW = grey_HW.astype(np.float64)
    low, high = float(value_HW.min()), float(value_HW.max())
    if not (math.isfinite(low) and math.isfinite(high)):
        raise DataError("holds values that are not finite numbers")
    if image.mode == "F" and low >= 0 and high <= 1:
        return _round_to_byte(value_HW * 255)
    if image.mode == "I" and low >= 0 and high <= 65535:
        return _round_to_byte(value_HW if high <= 255 else value_HW / 257)
    span = high - low
    return _round_to_byte((value_HW - low) / span * 255 if span > 0 else np.zeros_like(value_HW))


def _round_to_byte(value_HW: np.ndarray) -> np.ndarray:
    return np.floor(value_HW + 0.5).clip(0, 255).astype(np.uint8)

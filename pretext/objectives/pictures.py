"""Small pictures of what a network does: rows of images with a name before each."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

GAP, LABEL_WIDTH, LEAST_SIDE = 4, 150, 64  # px


def image_table(rows: Mapping[str, Tensor]) -> Image.Image:
    """Draw rows of images (B, 3, H, W) in 0..1, one column an image; small images are enlarged by whole factors."""
    first = next(iter(rows.values()))
    count, height = first.shape[0], first.shape[2]
    factor = max(1, -(-LEAST_SIDE // height))
    side = height * factor
    canvas = Image.new("RGB", (LABEL_WIDTH + count * (side + GAP), len(rows) * (side + GAP) + GAP), "white")
    draw, font = ImageDraw.Draw(canvas), ImageFont.load_default(15)
    for row, (name, image_BCHW) in enumerate(rows.items()):
        top = GAP + row * (side + GAP)
        draw.text((GAP, top + side // 2), name, fill="black", font=font, anchor="lm")
        pixel_BHWC = (image_BCHW.clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()
        for column, pixel_HWC in enumerate(pixel_BHWC):
            big = np.repeat(np.repeat(pixel_HWC, factor, 0), factor, 1)
            canvas.paste(Image.fromarray(big), (LABEL_WIDTH + column * (side + GAP), top))
    return canvas

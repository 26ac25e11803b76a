"""Which of a split's stored images an encoder reads, so that no image is brought to Lab twice."""

from __future__ import annotations

from torch import Tensor

from pretext.artifacts.rows import Rows
from pretext.artifacts.shards import DataSet
from pretext.encoders.base import Encoder


def rows_for(data: DataSet, split: str, input_space: str, *, colour_changes: bool) -> tuple[Rows, str]:
    """The stored images of a split for an encoder, and the space they are in.

    Args:
        data: Where they lie.
        split: One split, or several joined by +.
        input_space: The encoder's own, "rgb" or "lab".
        colour_changes: Whether they are augmented in a way that means something in sRGB only.

    Returns:
        Lab codes and "lab" for an encoder that sees Lab, where they were prepared and colours stay as they are; else
        sRGB and "rgb", which the encoder converts on its device.
    """
    lab = data.lab(split) if input_space == "lab" and not colour_changes else None
    return (data.split(split).images, "rgb") if lab is None else (lab, "lab")


def own_input(encoder: Encoder, stored01_BCHW: Tensor, space: str) -> Tensor:
    """Stored images in 0..1, of the space that `rows_for` told, as `encoder.encode` takes them."""
    return stored01_BCHW if space == encoder.input_space else encoder.from_rgb(stored01_BCHW)

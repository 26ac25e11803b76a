"""Rebuild an encoder from its file alone."""

from __future__ import annotations

from pathlib import Path

from pretext.artifacts.checkpoint import check_keys, read_header, read_tensors
from pretext.artifacts.layout import find_run
from pretext.catalog import ENCODERS
from pretext.encoders.base import Encoder
from pretext.errors import ArtifactError


def load_encoder(path: str | Path) -> Encoder:
    """Load a pretrained encoder as a plain module in eval mode, on the CPU.

    Args:
        path: A run's folder, or a checkpoint file.

    Returns:
        A module from images (B, 3, H, W), float in 0..1, to features (B, D); `forward_layer` gives inner layers.

    Raises:
        ArtifactError: If there is no such checkpoint, it is broken, or its tensors are not those of its description.
    """
    path = Path(path)
    file = find_run(path).checkpoint if path.suffix != ".safetensors" else path
    header = read_header(file)
    encoder = build_encoder(header, file)
    tensors = read_tensors(file, "encoder.")
    check_keys(file, encoder.state_dict(), tensors)
    encoder.load_state_dict(tensors)
    return encoder.eval()


def build_encoder(header: dict, file: Path) -> Encoder:
    """An encoder of the shape that a checkpoint's header describes, with new weights.

    Raises:
        ArtifactError: If the header describes no encoder.
    """
    description = header.get("encoder")
    if not isinstance(description, dict) or "name" not in description:
        raise ArtifactError(f"{file} describes no encoder; it holds {header.get('kind', 'something else')}")
    options = {name: value for name, value in description.items() if name != "name"}
    return ENCODERS[description["name"]].load()(**options)

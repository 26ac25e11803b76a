"""Rebuild an encoder from its file alone."""

from __future__ import annotations

from pathlib import Path

import torch

from pretext.artifacts.checkpoint import check_keys, read_header, read_shapes, read_tensors
from pretext.artifacts.layout import MANIFEST, find_run
from pretext.artifacts.verify import check_recorded
from pretext.catalog import ENCODERS
from pretext.encoders.base import Encoder
from pretext.errors import ArtifactError, UnknownVariantError


def load_encoder(path: str | Path) -> Encoder:
    """Load a pretrained encoder as a plain module in eval mode, on the CPU.

    Args:
        path: A run's folder, or a checkpoint file.

    Returns:
        A module from images (B, 3, H, W), float in 0..1, to features (B, D); `forward_layer` gives inner layers.

    Raises:
        ArtifactError: If there is no such checkpoint, it is broken, its tensors are not those of its description, or its
            bytes not those that its run's manifest, where there is one beside it, recorded.
    """
    path = Path(path)
    file = find_run(path).checkpoint if path.suffix != ".safetensors" else path
    check_recorded(file, file.with_name(MANIFEST))
    encoder = build_encoder(read_header(file), file)
    tensors = read_tensors(file, "encoder.")
    if odd := [
        name
        for name, own in encoder.state_dict().items()
        if tensors[name].is_floating_point() != own.is_floating_point()
    ]:
        raise ArtifactError(f"{file} does not fit its own description: {odd[0]} is {tensors[odd[0]].dtype}")
    encoder.load_state_dict(tensors)
    return encoder.eval()


def build_encoder(header: dict, file: Path) -> Encoder:
    """An encoder of the shape that a checkpoint's header describes, with new weights.

    It is built without memory first: one whose tensors are not those of the file is never given any.

    Raises:
        ArtifactError: If the header describes no encoder, or another one than the file's tensors are of.
    """
    description = header.get("encoder")
    if not isinstance(description, dict) or not isinstance(description.get("name"), str):
        raise ArtifactError(f"{file} describes no encoder; it holds {str(header.get('kind', 'something else'))[:80]}")
    options = {name: value for name, value in description.items() if name != "name"}
    try:
        build = ENCODERS[description["name"]].load()
        with torch.device("meta"):
            empty = build(**options)
    except UnknownVariantError as error:
        raise ArtifactError(f"{file} describes an encoder that is not known here: {error.message[:200]}") from error
    except (TypeError, ValueError, ArithmeticError, RuntimeError, LookupError, AttributeError) as error:
        reason = str(error).partition("\n")[0][:200]
        raise ArtifactError(f"{file} describes an encoder that can't be built: {reason}") from error
    check_keys(file, empty.state_dict(), read_shapes(file, "encoder."))
    return build(**options)

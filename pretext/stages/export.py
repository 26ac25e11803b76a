"""`export`: a run's encoder for use without this package."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import torch

from pretext.artifacts.atomic import write_bytes
from pretext.artifacts.checkpoint import read_header, write_tensors
from pretext.artifacts.layout import RunLayout, find_run
from pretext.artifacts.manifest import Parent, Record, require_done
from pretext.encoders.base import Encoder
from pretext.encoders.restore import load_encoder
from pretext.errors import ConfigError
from pretext.progress import Progress
from pretext.stage_configs import ExportConfig

SUFFIX = {"state-dict": "safetensors", "torch-export": "pt2"}


def run(config: ExportConfig, *, explicit: Collection[str] = (), progress: Progress | None = None) -> dict[str, Any]:
    """Export one run's encoder; see `ExportConfig` for the options.

    Args:
        config: The options.
        explicit: Not needed: every option is always read.
        progress: Not needed: it takes seconds.

    Returns:
        The file, status, and how to load it.

    Raises:
        PretextError: If the run is unfinished, or its encoder does not have the format asked for.
    """
    layout = find_run(config.run)
    manifest = require_done(layout.manifest, hint=f"run `pretext pretrain` again to finish {config.run}")
    encoder = load_encoder(config.run)
    kind = _format(config, encoder)
    path = config.out or layout.folder / f"encoder.{SUFFIX[kind]}"
    record = Record(path.with_name(f"{path.name}.manifest.json"), "export", {"format": kind},
                    [Parent("checkpoint", str(layout.checkpoint), manifest["outputs"]["checkpoint.safetensors"]["sha256"])])  # fmt: skip
    if config.dry_run:
        return {"output": str(path), "status": "dry run", "format": kind}
    if record.is_done(overwrite=config.overwrite):
        return _outcome(path, record.content, "already done")

    record.begin({"format": kind}, seed=manifest["seed"])
    largest = WRITERS[kind](encoder, path, layout)
    content = record.finish([path], summary={"format": kind, "encoder": encoder.name, "largest difference": largest})
    return _outcome(path, content, "done")


def _format(config: ExportConfig, encoder: Encoder) -> str:
    shaped = _torchvision_state(encoder) is not None
    if config.format == "state-dict" and not shaped:
        raise ConfigError(f"{encoder.name} as this run has it is not of torchvision's shape; only resnet18 with "
                          "--stem 7x7 and --width 1 is", hint="--format torch-export, which carries its code along")  # fmt: skip
    return config.format if config.format != "auto" else "state-dict" if shaped else "torch-export"


def _torchvision_state(encoder: Encoder) -> dict[str, torch.Tensor] | None:
    """The encoder's body under torchvision's names, None where torchvision has no such network."""
    import torchvision

    build = getattr(torchvision.models, encoder.name, None)
    if build is None:
        return None
    with torch.device("meta"):
        expected = {
            name: tensor for name, tensor in build(weights=None).state_dict().items() if not name.startswith("fc.")
        }
    body = {name: tensor for name, tensor in encoder.state_dict().items() if not name.startswith("project.")}
    if {name: tensor.shape for name, tensor in body.items()} != {
        name: tensor.shape for name, tensor in expected.items()
    }:
        return None
    return body


def _write_state_dict(encoder: Encoder, path: Path, layout: RunLayout) -> float:
    state = _torchvision_state(encoder)
    assert state is not None
    write_tensors(path, state, {"kind": "torchvision state dict", "encoder": read_header(layout.checkpoint)["encoder"]})
    return 0.0


def _write_torch_export(encoder: Encoder, path: Path, layout: RunLayout) -> float:
    batch = torch.export.Dim("batch", min=1)
    program = torch.export.export(encoder, (_example(encoder),), dynamic_shapes=({0: batch},))
    content = io.BytesIO()  # torch's own writer ends the process where the disk is full
    torch.export.save(program, content)
    with warnings.catch_warnings():
        # torch 2.11 reads weights from an unwritable buffer and says so; nothing writes to them here
        warnings.filterwarnings("ignore", message="The given buffer is not writable")
        largest = _difference(encoder, torch.export.load(content).module())
    write_bytes(path, content.getvalue())
    return largest


WRITERS: dict[str, Callable[[Encoder, Path, RunLayout], float]] = {
    "state-dict": _write_state_dict, "torch-export": _write_torch_export,
}  # fmt: skip


def _example(encoder: Encoder) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.rand(2, 3, encoder.image_size, encoder.image_size, generator=generator)


@torch.no_grad()
def _difference(encoder: Encoder, loaded: Callable[[torch.Tensor], torch.Tensor]) -> float:
    """The largest difference between the encoder and what was written, on another batch size than the example's."""
    image01_BCHW = _example(encoder).repeat(3, 1, 1, 1)
    return float((encoder(image01_BCHW) - loaded(image01_BCHW)).abs().max())


def _outcome(path: Path, content: dict[str, Any], status: str) -> dict[str, Any]:
    how = {"state-dict": "torchvision.models.resnet18().load_state_dict(safetensors.torch.load_file(FILE), strict=False)",
           "torch-export": "torch.export.load(FILE).module()"}  # fmt: skip
    return {"output": str(path), "status": status, **content["summary"], "load": how[content["summary"]["format"]]}

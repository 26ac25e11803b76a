"""Networks that judge an image without a reference: found by name, and known by what they are made of."""

from __future__ import annotations

import hashlib
import importlib
import sys
from pathlib import Path

import torch
from torch import nn

from pretext.errors import AbsentWeightsError, ConfigError


def find_quality(quality: str | None, *, offline: bool) -> nn.Module:
    """A quality network: "MODULE:NAME" of a function without arguments that returns one, or a metric of pyiqa.

    Raises:
        ConfigError: If there is none.
        AbsentWeightsError: If `offline`, and pyiqa would fetch it.
    """
    if not quality:
        raise ConfigError("--loss no-reference needs --quality, a network that judges images",
                          hint="--quality MODULE:NAME, or a name that pyiqa knows such as niqe")  # fmt: skip
    if ":" not in quality:
        return _from_pyiqa(quality, offline=offline)
    module, _, name = quality.partition(":")
    try:
        found = getattr(importlib.import_module(module), name)()
    except Exception as error:  # whatever the user's own code raises
        raise ConfigError(f"--quality {quality} can't be made: {type(error).__name__}: {error}",
                          hint=f"it calls NAME without arguments; PYTHONPATH must name the folder of {module}") from error  # fmt: skip
    if not isinstance(found, nn.Module):
        raise ConfigError(f"--quality {quality} must return a torch module, got {type(found).__name__}")
    return found


def quality_fingerprint(quality: nn.Module) -> str:
    """Of a quality network's numbers and of the file that its class stands in."""
    digest = hashlib.sha256()
    for name, tensor in sorted(quality.state_dict().items()):
        digest.update(name.encode() + tensor.detach().cpu().float().numpy().tobytes())
    file = getattr(sys.modules.get(type(quality).__module__), "__file__", None)
    digest.update(Path(file).read_bytes() if file else b"")
    return "sha256:" + digest.hexdigest()


def _from_pyiqa(name: str, *, offline: bool) -> nn.Module:
    if offline:
        raise AbsentWeightsError(f"--quality {name} is a metric of pyiqa, which fetches its own weights; --offline forbids that",
                                 hint="--quality MODULE:NAME of a network of yours")  # fmt: skip
    try:
        import pyiqa  # type: ignore[import-not-found]
    except ImportError as error:
        raise ConfigError(f"--quality {name} is a metric of pyiqa, which is not installed",
                          hint="pip install pyiqa, or --quality MODULE:NAME of a network of yours") from error  # fmt: skip
    try:
        # as a loss it passes gradients on, and does not look at the range of every batch
        found: nn.Module = pyiqa.create_metric(name, as_loss=True, device=torch.device("cpu"), loss_reduction="none")
    except (AssertionError, KeyError) as error:
        raise ConfigError(f"--quality {name} is no metric of pyiqa", hint="pyiqa.list_models('NR')") from error
    if getattr(found, "metric_mode", "NR") != "NR":
        raise ConfigError(f"--quality {name} needs a reference; only no-reference metrics of pyiqa can be used")
    return found

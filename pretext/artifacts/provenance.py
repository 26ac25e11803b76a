"""With what something was made: versions and hardware."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from functools import cache
from pathlib import Path
from typing import Any

import pretext

LIBRARIES = (
    "torch",
    "torchvision",
    "torchmetrics",
    "numpy",
    "pyarrow",
    "scikit-learn",
    "scikit-image",
    "safetensors",
    "pillow",
)


def versions() -> dict[str, str]:
    """Versions of this package, Python and the libraries that decide numbers."""
    found = {name: _version_of(name) for name in LIBRARIES}
    own = {"pretext": pretext.__version__, "python": platform.python_version()}
    return own | {name: version for name, version in found.items() if version is not None}


@cache
def _version_of(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def device_facts(device: str | None) -> dict[str, Any]:
    """The hardware by model, never by host name."""
    return {"device": device or "cpu", "processor": _processor(), "cores": os.cpu_count(), "system": platform.system()}


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass  # not Linux
    return platform.processor() or platform.machine()

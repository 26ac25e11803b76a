"""Turn `auto` into a device and a precision, and say plainly when the one asked for is not there."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import torch

from pretext.errors import DeviceError


@dataclass(frozen=True, slots=True)
class Compute:
    """Where and in which arithmetic a network runs."""

    device: torch.device
    precision: str

    def autocast(self) -> AbstractContextManager[None]:
        """Mixed precision: bf16 for convolutions and products, float32 for the rest; nothing at fp32."""
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.precision == "bf16")

    @property
    def name(self) -> str:
        """The hardware's name, for records."""
        return torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else "cpu"


def resolve_compute(device: str, precision: str = "fp32") -> Compute:
    """The device and precision meant by the options.

    Raises:
        DeviceError: If CUDA is asked for and there is none, or it can't do bf16.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise DeviceError("--device cuda was asked for, but PyTorch finds no CUDA device here",
                          hint="--device cpu runs the same on the processor")  # fmt: skip
    kind = "cuda" if device != "cpu" and torch.cuda.is_available() else "cpu"
    if precision == "auto":
        precision = "bf16" if _has_fast_bf16(kind) else "fp32"
    elif precision == "bf16" and kind == "cuda" and not torch.cuda.is_bf16_supported():
        raise DeviceError(f"{torch.cuda.get_device_name()} has no bf16 arithmetic", hint="--precision fp32")
    return Compute(torch.device(kind), precision)


def _has_fast_bf16(kind: str) -> bool:
    if kind == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return False  # not Linux: fp32 is never wrong
    return "avx512_bf16" in flags or "amx_bf16" in flags

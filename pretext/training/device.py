"""Turn `auto` into a device and a precision, and say plainly when the one asked for is not there."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import torch

from pretext import world
from pretext.errors import DeviceError
from pretext.memory import keep_memory


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

    Of several processes on a machine each has its own GPU. On a CPU the process keeps its memory from now on.

    Raises:
        DeviceError: If CUDA is asked for and there is none, or it can't do bf16; or there are more processes than GPUs.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise DeviceError("--device cuda was asked for, but PyTorch finds no CUDA device here",
                          hint="--device cpu runs the same on the processor")  # fmt: skip
    kind = "cuda" if device != "cpu" and torch.cuda.is_available() else "cpu"
    place = _own_gpu() if kind == "cuda" and world.size() > 1 else torch.device(kind)
    if precision == "auto":
        precision = "bf16" if _has_fast_bf16(kind) else "fp32"
    elif precision == "bf16" and kind == "cuda" and not torch.cuda.is_bf16_supported():
        raise DeviceError(f"{torch.cuda.get_device_name()} has no bf16 arithmetic", hint="--precision fp32")
    if kind == "cpu":
        keep_memory()
    return Compute(place, precision)


def _own_gpu() -> torch.device:
    number, count = world.local_rank(), torch.cuda.device_count()
    if number >= count:
        raise DeviceError(f"this process is number {number + 1} on its machine, but PyTorch finds {count} CUDA devices here",
                          hint="torchrun --nproc-per-node with the number of GPUs, or --device cpu")  # fmt: skip
    torch.cuda.set_device(number)  # what is not told a device, such as the processes' exchange, takes the current one
    return torch.device("cuda", number)


def _has_fast_bf16(kind: str) -> bool:
    if kind == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return False  # not Linux: fp32 is never wrong
    return "avx512_bf16" in flags or "amx_bf16" in flags

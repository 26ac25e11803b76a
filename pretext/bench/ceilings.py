"""What the hardware can do at best, measured on the spot: bytes copied and products of matrices."""

from __future__ import annotations

from functools import partial

import torch

from pretext.bench.measure import median_seconds
from pretext.training.device import Compute

# Large enough that no cache holds them, and that a device is busy with them; a processor would take a minute for the latter.
COPY_BYTES = 1 << 28
SIDES = {"cpu": 2048, "cuda": 8192}
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


def measure_ceilings(compute: Compute) -> dict[str, float]:
    """Bytes a second (read and written) of a memory copy, and operations a second of a matrix product in each arithmetic
    that the device is fast in."""
    source = torch.ones(COPY_BYTES, dtype=torch.uint8, device=compute.device)
    target = torch.empty_like(source)
    found = {"copy_bytes_per_s": 2 * COPY_BYTES / median_seconds(lambda: target.copy_(source), compute.device)}
    side = SIDES[compute.device.type]
    for name in dict.fromkeys(("fp32", compute.precision)):
        factors = torch.randn(2, side, side, device=compute.device).to(DTYPES[name]).unbind()
        seconds = median_seconds(partial(torch.mm, *factors), compute.device)
        found[f"matmul_{name}_flops_per_s"] = 2 * side**3 / seconds
    return found

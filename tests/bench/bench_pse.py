"""What PSE costs beside MSE, and beside the plain way: a blur of the residual by grouped separable convolutions.

python tests/bench/bench_pse.py [--json FILE]      forward and backward, batch 128 of 3 x 96 x 96

Both forms of PSE are compared in value first; a table is printed, and the last line of stdout is one JSON document.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from pretext.artifacts.manifest import device_facts, versions
from pretext.losses import gaussian_kernel, mse, pse

CASES = (
    ("sigma 4, cut at 4 sigma, symmetric", 4.0, 4.0, "symmetric"),
    ("sigma 3, cut at 1 sigma, zero", 3.0, 1.0, "zero"),
)
ROUNDS, WARM_UP = 15, 3


def convolved_pse(prediction: Tensor, target: Tensor, kernel: Tensor, padding: str) -> Tensor:
    """The plain way: pad, blur rows, blur columns, square, mean."""
    radius, channels = len(kernel) // 2, prediction.shape[1]
    residual = (prediction - target).abs()
    pad = (radius,) * 4
    if padding == "symmetric":  # torch's "reflect" leaves the border out; half-sample mirroring repeats it
        residual = torch.cat([residual[..., :radius].flip(-1), residual, residual[..., -radius:].flip(-1)], -1)
        residual = torch.cat([residual[..., :radius, :].flip(-2), residual, residual[..., -radius:, :].flip(-2)], -2)
    else:
        residual = F.pad(residual, pad)
    weight = kernel.expand(channels, 1, -1)
    residual = F.conv2d(residual, weight[..., None, :], groups=channels)
    return F.conv2d(residual, weight[..., :, None], groups=channels).square().mean()


def seconds(loss: Callable[[Tensor, Tensor], Tensor], prediction: Tensor, target: Tensor) -> tuple[float, float]:
    """Median and interquartile range of forward and backward."""
    times = []
    for _ in range(WARM_UP + ROUNDS):
        prediction.grad = None
        started = time.perf_counter()
        loss(prediction, target).backward()
        if prediction.device.type == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - started)
    lower, middle, upper = statistics.quantiles(times[WARM_UP:], n=4)
    return middle, upper - lower


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    target = torch.rand(128, 3, 96, 96, device=arguments.device)
    prediction = torch.rand(128, 3, 96, 96, device=arguments.device, requires_grad=True)
    rows = [{"what": "mse", **dict(zip(("median_s", "iqr_s"), seconds(mse, prediction, target), strict=True))}]
    for name, sigma, truncate, padding in CASES:
        kernel = torch.as_tensor(gaussian_kernel(sigma, truncate), dtype=torch.float32, device=arguments.device)
        ways = {
            "pse": lambda p, t, s=sigma, c=truncate, d=padding: pse(p, t, sigma=s, truncate=c, padding=d),
            "convolution": lambda p, t, k=kernel, d=padding: convolved_pse(p, t, k, d),
        }
        values = {way: float(loss(prediction, target).detach()) for way, loss in ways.items()}
        assert abs(values["pse"] / values["convolution"] - 1) < 1e-5, values
        for way, loss in ways.items():
            median, spread = seconds(loss, prediction, target)
            rows.append({"what": f"{way}: {name}", "median_s": median, "iqr_s": spread})
    for row in rows:
        row["times_mse"] = row["median_s"] / rows[0]["median_s"]
        print(
            f"{row['what']:<48} {1e3 * row['median_s']:8.1f} ms  (iqr {1e3 * row['iqr_s']:.1f})  {row['times_mse']:6.1f} x mse"
        )
    device = torch.cuda.get_device_name() if arguments.device == "cuda" else None
    document = {"schema": 1, "suite": "pse", "rows": rows, "versions": versions(), "device": device_facts(device),
                "threads": torch.get_num_threads()}  # fmt: skip
    if arguments.json:
        arguments.json.write_text(json.dumps(document, indent=1) + "\n")
    print(json.dumps(document))


if __name__ == "__main__":
    main()

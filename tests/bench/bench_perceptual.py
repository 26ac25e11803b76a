"""What a training step with a perceptual loss costs beside the least that it must.

python tests/bench/bench_perceptual.py [--json FILE] [--device cuda] [--batch 128] [--networks squeezenet1_1,vgg16]

The least is an autoencoder's step with MSE, and of the cut loss network one forward on both images and one backward
on one. Weights are random, layer 2, 96 px. All parts take turns in every round, so that a machine that slows down
slows them alike; a table is printed, and the last line of stdout is one JSON document.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from pretext.artifacts.manifest import device_facts, versions
from pretext.catalog import ENCODERS
from pretext.encoders.decoders import build_decoder_for
from pretext.losses import MSELoss
from pretext.perceptual.losses import build_perceptual
from pretext.perceptual.networks import FeatureNetwork

SIZE, LAYER, ENCODER = 96, "2", "cnn"
WARM_UP = 2


class Step:
    """One update of an autoencoder."""

    def __init__(self, loss: Callable[..., Tensor], image01_BCHW: Tensor, width: float) -> None:
        torch.manual_seed(0)
        row = ENCODERS[ENCODER]
        encoder = row.load()(image_size=SIZE, **{**row.reads, "width": width})
        self.network = nn.Sequential(encoder, build_decoder_for(encoder, width=width)).to(image01_BCHW.device)
        self.network.to(memory_format=torch.channels_last)
        self.optimizer = torch.optim.Adam(self.network.parameters())
        self.loss, self.image = loss, image01_BCHW

    def __call__(self) -> None:
        self.optimizer.zero_grad()
        self.loss(self.network(self.image), self.image).backward()
        self.optimizer.step()


def passes(network: FeatureNetwork, image01_BCHW: Tensor) -> Callable[[], None]:
    """The cut network forward on both images, and backward on one."""

    def run() -> None:
        with torch.no_grad():
            network(image01_BCHW)
        features = network(image01_BCHW.detach().requires_grad_())
        torch.autograd.backward(features, [torch.ones_like(feature) for feature in features])

    return run


def seconds(parts: dict[str, Callable[[], None]], rounds: int, device: str) -> dict[str, list[float]]:
    """Seconds of every round of each part."""
    times: dict[str, list[float]] = {name: [] for name in parts}
    for _ in range(WARM_UP + rounds):
        for name, part in parts.items():
            if device == "cuda":
                torch.cuda.synchronize()
            started = time.perf_counter()
            part()
            if device == "cuda":
                torch.cuda.synchronize()
            times[name].append(time.perf_counter() - started)
    return {name: values[WARM_UP:] for name, values in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--width", type=float, default=0.25, help="of the autoencoder")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--networks", default="squeezenet1_1,vgg16")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    image = torch.rand(arguments.batch, 3, SIZE, SIZE, device=arguments.device)
    image = image.to(memory_format=torch.channels_last)
    rows = []
    for name in arguments.networks.split(","):
        loss = build_perceptual(loss_network=name, loss_network_weights="random", layer=(LAYER,), offline=True)
        loss = loss.to(arguments.device, memory_format=torch.channels_last)
        known = [feature.clone() for feature in loss.network(image)]
        parts: dict[str, Callable[[], None]] = {
            "perceptual": Step(loss, image, arguments.width),
            "features known": Step(lambda p, t, own=loss, k=known: own(p, t, k), image, arguments.width),
            "mse": Step(MSELoss(), image, arguments.width),
            "passes": passes(loss.network, image),
        }
        times = seconds(parts, arguments.rounds, arguments.device)
        ratios = [a / (b + c) for a, b, c in zip(times["perceptual"], times["mse"], times["passes"], strict=True)]
        lower, middle, upper = statistics.quantiles(ratios, n=4)
        median = {part: statistics.median(values) for part, values in times.items()}
        rows.append({"network": name, "layer": LAYER, "median_s": median, "ratio": middle, "ratio_iqr": upper - lower,
                     "ratio_features_known": median["features known"] / median["perceptual"]})  # fmt: skip
        print(f"{name} layer {LAYER}: " + ", ".join(f"{part} {1e3 * value:.1f} ms" for part, value in median.items()))
        print(f"    step / (mse step + passes) = {middle:.3f} (iqr {upper - lower:.3f}); with the target's features "
              f"known {rows[-1]['ratio_features_known']:.2f} of it")  # fmt: skip
    device = torch.cuda.get_device_name() if arguments.device == "cuda" else None
    document = {"schema": 1, "suite": "perceptual", "batch": arguments.batch, "width": arguments.width,
                "rounds": arguments.rounds, "rows": rows, "versions": versions(), "device": device_facts(device),
                "threads": torch.get_num_threads()}  # fmt: skip
    if arguments.json:
        arguments.json.write_text(json.dumps(document, indent=1) + "\n")
    print(json.dumps(document))


if __name__ == "__main__":
    main()

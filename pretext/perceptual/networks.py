"""Frozen networks, cut off behind the last layer that is wanted: published ones, or encoders of this package's runs."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, fx, nn

from pretext.artifacts.layout import find_run
from pretext.artifacts.manifest import require_done
from pretext.catalog import NETWORKS
from pretext.datasets.download import Progress
from pretext.encoders.base import Encoder
from pretext.encoders.restore import load_encoder
from pretext.errors import ConfigError
from pretext.perceptual.cutting import TRACE_SIZE, cut_network, fold_scale, layer_numbers, random_tensors
from pretext.perceptual.frozen import Frozen
from pretext.perceptual.weights import load_weights

IMAGENET_MEAN, IMAGENET_SD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
LABELS_SEEN = "ImageNet-1K labels"
RANGE_TOLERANCE = 1e-3
# Where LPIPS looks; SqueezeNet 1.0 has the same Fire modules as 1.1, its pooling between others.
LPIPS_TAPS: dict[str, tuple[int, ...]] = {
    "alexnet": (1, 4, 7, 9, 11),
    "squeezenet1_0": (1, 4, 7, 8, 9, 10, 12),
    "squeezenet1_1": (1, 4, 7, 9, 10, 11, 12),
    "vgg16": (3, 8, 15, 22, 29),
}


class FeatureNetwork(Frozen):
    """A frozen network cut off behind the last layer that is wanted.

    Nothing of it is ever trained: the network inside is no submodule, so that it is in no `parameters()`, in no
    `state_dict()` and never in train mode; `.to()` moves it nevertheless. It computes in float32, also under autocast.

    Attributes:
        name: The network's name in the catalogue, or that of a run's folder.
        layers: The chosen layers, in the order of the results.
        channels: Channels of each of them.
        facts: What a record must know of it, ready for JSON: network, layers, nodes, weights ("imagenet", "random" or
            "run"), fingerprint (SHA-256 of the file of the weights; of the tensors in use where they are random),
            normalize, and saw: what it was trained on, None if it was not.
    """

    name: str
    layers: tuple[str, ...]
    channels: tuple[int, ...]
    facts: dict[str, Any]
    _inner: nn.Module

    def __init__(self, name: str, layers: Sequence[str], channels: Sequence[int], facts: Mapping[str, Any],
                 inner: nn.Module) -> None:  # fmt: skip
        """Wrap a module from image01_BCHW, which it must not change, to a tensor for each of `layers`; it is frozen here."""
        super().__init__(inner)
        self.name, self.layers, self.channels, self.facts = name, tuple(layers), tuple(channels), dict(facts)
        self._range_checked = False

    def forward(self, image01_BCHW: Tensor) -> list[Tensor]:
        """Features of images, one tensor for each of `layers`.

        Args:
            image01_BCHW: sRGB (B, 3, H, W) in [0, 1]; not changed. On the CPU the range is checked in every call, on a
                device in the first one only, since looking waits for the device.

        Returns:
            feature_BCHW for each layer, float32; a vector as (B, D, 1, 1). Gradients reach the image.

        Raises:
            ValueError: If the images have another shape or range, are not float, or are too small for the layers.
        """
        self._check(image01_BCHW)
        with torch.autocast(image01_BCHW.device.type, enabled=False):
            try:
                features = self._inner(image01_BCHW.float())
            except RuntimeError as error:
                side = min(image01_BCHW.shape[2:])
                if torch.compiler.is_compiling() or (smallest := self._smallest(image01_BCHW.device, side)) <= side:
                    raise
                raise ValueError(
                    f"image must be at least {smallest} px high and wide for {self.name} at layer "
                    f"{', '.join(self.layers)}, got {tuple(image01_BCHW.shape[2:])}"
                ) from error
        return [value.float() if value.ndim == 4 else value.float()[:, :, None, None] for value in features]

    def _check(self, image01_BCHW: Tensor) -> None:
        if image01_BCHW.ndim != 4 or image01_BCHW.shape[1] != 3:
            raise ValueError(f"image must be (B, 3, H, W), got {tuple(image01_BCHW.shape)}")
        if not image01_BCHW.is_floating_point():
            raise ValueError(f"image must be float in 0..1, got {image01_BCHW.dtype}")
        on_device = image01_BCHW.device.type != "cpu"
        if torch.compiler.is_compiling() or not image01_BCHW.numel() or (on_device and self._range_checked):
            return
        image = image01_BCHW.detach()
        image = image.movedim(1, -1) if image.stride(1) == 1 else image  # in the order of memory, three times as fast
        low, high = (float(value) for value in image.aminmax())
        if low < -RANGE_TOLERANCE or high > 1 + RANGE_TOLERANCE:  # NaN passes: a diverged training has its own error
            raise ValueError(f"image must be in 0..1, got {low:.4g}..{high:.4g}")
        self._range_checked = True

    @torch.no_grad()
    def _smallest(self, device: torch.device, above: int) -> int:
        """The smallest side, from `above` on, of images that the network can take; `above` if nothing is found."""
        for side in range(above, TRACE_SIZE + 1):
            try:
                self._inner(torch.zeros(1, 3, side, side, device=device))
            except RuntimeError:
                continue
            return side
        return above


class _Published(nn.Module):
    """Normalise, then run the cut network."""

    mean_C11: Tensor
    sd_C11: Tensor

    def __init__(self, graph: fx.GraphModule, nodes: Sequence[str], normalize: str) -> None:
        super().__init__()
        self.graph, self.nodes, self.normalize = graph, tuple(nodes), normalize == "imagenet"
        self.scaled = self.normalize and fold_scale(graph, torch.tensor(IMAGENET_SD))
        for name, values in (("mean_C11", IMAGENET_MEAN), ("sd_C11", IMAGENET_SD)):
            self.register_buffer(name, torch.tensor(values)[:, None, None])

    def forward(self, image01_BCHW: Tensor) -> list[Tensor]:
        if self.normalize:
            # laid out for one whole image first: three numbers again and again are subtracted six times as slowly
            image01_BCHW = image01_BCHW - torch.empty_like(image01_BCHW[:1]).copy_(self.mean_C11)
            image01_BCHW = image01_BCHW if self.scaled else image01_BCHW / self.sd_C11
        found = self.graph(image01_BCHW)
        return [found[node] for node in self.nodes]


class _Own(nn.Module):
    """The layers of an encoder of this package, which wants its images as they are."""

    def __init__(self, encoder: Encoder, layers: Sequence[str]) -> None:
        super().__init__()
        self.encoder, self.layers = encoder, tuple(layers)
        for module in encoder.modules():
            if hasattr(module, "inplace"):
                # a layer that is compared might be overwritten by the next one
                module.inplace = False  # type: ignore[assignment]

    def forward(self, image01_BCHW: Tensor) -> list[Tensor]:
        value = self.encoder.from_rgb(image01_BCHW)
        if type(self.encoder).encode is not Encoder.encode or len(self.layers) == 1:  # no chain, or nothing to share
            return [self.encoder.encode(value, layer) for layer in self.layers]
        found: dict[str, Tensor] = {}
        for name, function in self.encoder.iter_layers():
            value = function(value)
            if name in self.layers:
                found[name] = value
            if len(found) == len(set(self.layers)):
                break
        return [found[layer] for layer in self.layers]


def is_run(network: str) -> bool:
    """Whether a name means a run's folder and not a network of the catalogue."""
    return network not in NETWORKS and Path(network).is_dir()


def check_given(network: str, explicit: Collection[str]) -> None:
    """Refuse an option that was given and that a run, which takes images as they are, would not read.

    Raises:
        ConfigError: If it is one.
    """
    if is_run(network) and "normalize" in explicit:
        raise ConfigError(
            f"--normalize is for published networks; {network} is a run, whose encoder takes images as they are"
        )


def build_network(
    network: str,
    *,
    layers: Sequence[str],
    weights: str = "imagenet",
    weights_dir: Path = Path("weights"),
    offline: bool = False,
    normalize: str = "imagenet",
    seed: int = 0,
    progress: Progress | None = None,
) -> FeatureNetwork:
    """A frozen network that gives the features of some of its layers.

    Args:
        network: A network of the catalogue, or the folder of a run, whose encoder is meant then.
        layers: "1" to "4", names of nodes of torchvision's graph such as "features.3", or the layers of a run's
            encoder.
        weights: "imagenet": torchvision's IMAGENET1K_V1. "random": torchvision's initialisation under `seed`. A run
            has weights of its own.
        weights_dir: Where published weights lie, and where they are downloaded to.
        offline: Whether downloads are forbidden.
        normalize: "imagenet" brings [0, 1] to the mean and deviation that the network was trained with, "none" hands
            it on. A run's encoder takes [0, 1] as it is.
        seed: Of random weights; whichever layers are asked for, a seed gives the same weights.
        progress: Called with (bytes so far, bytes in all or None) during a download.

    Raises:
        UnknownVariantError: If there is no such network, and no such folder.
        ConfigError: If it has no such layer, or the options are no options of a run.
        ArtifactError: If a file of weights is broken or not of this network, or a run is not finished.
        DataError: If weights are missing and can't be downloaded.
        ValueError: If another argument is out of its range.
    """
    if not layers or isinstance(layers, str):
        raise ValueError(f"layers must be a list of at least one, got {layers!r}")
    if weights not in ("imagenet", "random"):
        raise ValueError(f"weights must be imagenet or random, got {weights!r}")
    if normalize not in ("imagenet", "none"):
        raise ValueError(f"normalize must be imagenet or none, got {normalize!r}")
    if is_run(network):
        if weights == "random":
            raise ConfigError(f"random weights are for published networks; {network} is a run, with its own weights",
                              hint="pretext pretrain --objective random makes a run of an untrained encoder")  # fmt: skip
        return _build_own(Path(network), layers)
    row = NETWORKS[network]
    built: FeatureNetwork = row.load()(
        **row.fixed, layers=layers, weights=weights, weights_dir=weights_dir, offline=offline, normalize=normalize,
        seed=seed, progress=progress,
    )  # fmt: skip
    return built


def build_torchvision(
    *,
    name: str,
    nodes: Sequence[str],
    layers: Sequence[str],
    weights: str = "imagenet",
    weights_dir: Path = Path("weights"),
    offline: bool = False,
    normalize: str = "imagenet",
    seed: int = 0,
    progress: Progress | None = None,
) -> FeatureNetwork:
    """A network of torchvision; see `build_network` for the other arguments and the errors.

    Of published weights only those in front of the last layer are kept. Random ones are drawn for the whole network
    first, in up to some seconds.

    Args:
        name: torchvision's name of it.
        nodes: The nodes that are its layers 1, 2, ...
    """
    wanted = [nodes[int(layer) - 1] if layer in layer_numbers(nodes) else layer for layer in layers]
    graph, channels = cut_network(name, wanted, nodes)
    needed = graph.state_dict()
    if weights == "random":
        tensors = random_tensors(name, needed, seed)
        fingerprint = _fingerprint(tensors)
    else:
        tensors, fingerprint = load_weights(name, needed, weights_dir=weights_dir, offline=offline, progress=progress)
    graph.load_state_dict(tensors, assign=True)
    facts = {"network": name, "layers": list(layers), "nodes": wanted, "weights": weights, "fingerprint": fingerprint,
             "normalize": normalize, "saw": LABELS_SEEN if weights == "imagenet" else None}  # fmt: skip
    return FeatureNetwork(name, layers, channels, facts, _Published(graph, wanted, normalize))


def default_taps(network: str) -> tuple[str, ...]:
    """The layers that LPIPS compares.

    Those of its paper for AlexNet, VGG-16 and SqueezeNet, and the four of the catalogue for other networks. Of a run:
    the layer that a decoder starts from.

    Raises:
        UnknownVariantError: If there is no such network, and no such folder.
        ArtifactError: If the run has no checkpoint.

    Reference: Zhang, Isola, Efros, Shechtman, Wang 2018, arXiv:1801.03924; the taps are those of its code.
    """
    if network in LPIPS_TAPS:
        return tuple(f"features.{index}" for index in LPIPS_TAPS[network])
    if is_run(network):
        return (load_encoder(network).code_layer,)
    return layer_numbers(NETWORKS[network].fixed["nodes"])


def _build_own(folder: Path, layers: Sequence[str]) -> FeatureNetwork:
    layout = find_run(folder)
    manifest = require_done(layout.manifest, hint=f"run `pretext pretrain` again to finish {folder}")
    encoder = load_encoder(layout.folder)
    if absent := [layer for layer in layers if layer not in encoder.layers]:
        raise ConfigError(f"--layer '{absent[0]}' is no layer of {folder}; it has {', '.join(encoder.layers)}")
    summary, objective = manifest["summary"], manifest["config"]["objective"]
    words = f"{summary['data']['name']}, by {objective['name']}"
    words += f" with {objective['loss']}" if "loss" in objective else ""
    words += f" of a network that saw {objective['loss_network_saw']}" if "loss_network_saw" in objective else ""
    facts = {"network": layout.folder.resolve().name, "layers": list(layers), "nodes": list(layers), "weights": "run",
             "fingerprint": manifest["outputs"][layout.checkpoint.name]["sha256"], "normalize": "none",
             "saw": words if summary["images_seen"] else None}  # fmt: skip
    inner = _Own(encoder, layers)
    with torch.no_grad():
        found = inner(torch.zeros(1, 3, encoder.image_size, encoder.image_size))
    return FeatureNetwork(facts["network"], layers, [value.shape[1] for value in found], facts, inner)


def _fingerprint(tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for key in sorted(tensors):
        digest.update(f"{key}{tuple(tensors[key].shape)}".encode())
        digest.update(tensors[key].contiguous().numpy().tobytes())
    return f"sha256:{digest.hexdigest()}"

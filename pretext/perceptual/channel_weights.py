"""The weights of LPIPS's channels, and the network that they belong to."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from pretext.datasets.download import Progress
from pretext.perceptual.fitted import Fitted, read_fitted
from pretext.perceptual.networks import FeatureNetwork, build_network, default_taps
from pretext.perceptual.weights import LPIPS_FILES, lpips_weights

FITTED_TO = ("fingerprint", "normalize")  # facts of a network that its fitted weights depend on, besides the layers


def find_channels(
    network: str,
    channel_weights: str,
    *,
    layer: Sequence[str] | None,
    weights: str = "imagenet",
    normalize: str = "imagenet",
    weights_dir: Path = Path("weights"),
    offline: bool = False,
    seed: int = 0,
    progress: Progress | None = None,
) -> tuple[FeatureNetwork, list[Tensor] | None]:
    """A network cut where LPIPS looks, with the weights of its channels.

    Args:
        network: As in `build_network`; the other arguments too.
        channel_weights: "unit", 1 everywhere; "published", those of version 0.1 of the authors; or a folder or file
            that `fit-metric` wrote.
        layer: Layers to compare. None for those of the fit, or else `default_taps`.

    Returns:
        The network, and per layer weight_C >= 0, or None for 1 everywhere.

    Raises:
        ValueError: If the weights belong to another network, other layers or other images.
        ArtifactError: If the file of a fit is missing or broken; and as `build_network`.
    """
    if channel_weights == "published":
        _check_published(network, weights, normalize, layer)
    fitted = None if channel_weights in ("unit", "published") else read_fitted(Path(channel_weights))
    layers = layer or (fitted.layers if fitted else default_taps(network))
    built = build_network(network, layers=layers, weights=weights, weights_dir=weights_dir, offline=offline,
                          normalize=normalize, seed=seed, progress=progress)  # fmt: skip
    if channel_weights == "published":
        return built, lpips_weights(network, weights_dir=weights_dir, offline=offline, progress=progress)
    if fitted is None:
        return built, None
    _check_fitted(channel_weights, fitted, built)
    return built, fitted.weights


def _check_published(network: str, weights: str, normalize: str, layer: Sequence[str] | None) -> None:
    found: dict[str, Any] = {"network": network, "weights": weights, "normalize": normalize}
    fits = network in LPIPS_FILES and weights == normalize == "imagenet"
    if fits and layer is not None and tuple(layer) != default_taps(network):
        fits, found = False, found | {"layer": ",".join(layer)}
    if not fits:
        raise ValueError(
            f"published channel weights belong to {', '.join(LPIPS_FILES)} with ImageNet weights and normalisation, at "
            f"LPIPS's own layers; got {', '.join(f'{name} {value}' for name, value in found.items())}: "
            "--channel-weights unit fits every network"
        )


def _check_fitted(path: str, fitted: Fitted, built: FeatureNetwork) -> None:
    differences = (
        [] if fitted.layers == built.layers else [f"layers {','.join(fitted.layers)}, not {','.join(built.layers)}"]
    )
    differences += [f"{name} {fitted.network.get(name)}, not {built.facts[name]}" for name in FITTED_TO
                    if fitted.network.get(name) != built.facts[name]]  # fmt: skip
    if differences:
        raise ValueError(f"channel weights of {path} were fitted to {fitted.network.get('network')} with "
                         f"{'; '.join(differences)}")  # fmt: skip

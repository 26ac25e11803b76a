"""How far two images are from each other, one number a pair: in a network's features, or by their structure."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from pretext.losses.operands import check_pair, lift_precision, without_autocast

WINDOW, SIGMA = 11, 1.5  # px, of structural similarity


def unit_features(feature_BCHW: Tensor, eps: float = 1e-8) -> Tensor:
    """Scale the channels at every place to Euclidean length 1, `x / sqrt(sum_c x^2 + eps)`.

    Args:
        feature_BCHW: Features, any float dtype.
        eps: > 0; keeps the gradient finite where all channels are 0, at 1 / sqrt(eps) at most.

    Returns:
        unit_BCHW: float32 (float64 if the features are); 0 where all channels are 0.
    """
    (feature,) = lift_precision(feature_BCHW)
    return feature * (feature.square().sum(1, keepdim=True) + eps).rsqrt()


def lpips_terms(features_x: Sequence[Tensor], features_y: Sequence[Tensor]) -> list[Tensor]:
    """What LPIPS weights and adds up: of each layer and channel, the squared difference of unit features.

    Args:
        features_x: Of each layer, the features (B, C, H, W) of B images.
        features_y: The same of the images they are compared with.

    Returns:
        Per layer term_BC >= 0, the mean over places. Summed over channels it is the mean of 2 - 2 cos, so 4 at most,
        and 2 at most for features that are nowhere negative.

    Raises:
        ValueError: If the layers or their shapes differ.

    Reference: Zhang, Isola, Efros, Shechtman, Wang 2018, "The Unreasonable Effectiveness of Deep Features as a
        Perceptual Metric", arXiv:1801.03924, eq. 1.
    """
    check_layers(features_x, features_y)
    return [_mean_square(unit_features(x) - unit_features(y), (2, 3)) for x, y in zip(features_x, features_y)]


def lpips_distance(
    features_x: Sequence[Tensor], features_y: Sequence[Tensor], weights: Sequence[Tensor] | None
) -> Tensor:
    """LPIPS: the terms of all layers, each channel by its weight, added up.

    Args:
        features_x: As in `lpips_terms`.
        features_y: As in `lpips_terms`.
        weights: Per layer weight_C >= 0, linear in the squared difference as in the authors' code (the paper's eq. 1
            squares them); None for 1 everywhere.

    Returns:
        distance_B >= 0, float32; 0 on equal features, symmetric.

    Raises:
        ValueError: If the layers, their shapes or the number of channels differ.
    """
    terms = lpips_terms(features_x, features_y)
    if weights is None:
        return _total([term_BC.sum(1) for term_BC in terms])
    if [tuple(weight_C.shape) for weight_C in weights] != [(term_BC.shape[1],) for term_BC in terms]:
        raise ValueError(f"weights must be one for each of {[term_BC.shape[1] for term_BC in terms]} channels, got "
                         f"{[tuple(weight_C.shape) for weight_C in weights]}")  # fmt: skip
    return _total([(term_BC * weight_C.to(term_BC)).sum(1) for term_BC, weight_C in zip(terms, weights)])


def feature_distance(
    features_x: Sequence[Tensor], features_y: Sequence[Tensor], layer_weights: Sequence[float] | None = None
) -> Tensor:
    """Mean squared difference of the features of each layer, weighted and added up.

    Args:
        features_x: Of each layer, the features (B, C, H, W) of B images, any float dtype.
        features_y: The same of the images they are compared with.
        layer_weights: One weight >= 0 a layer; None for 1 each.

    Returns:
        distance_B >= 0, float32; 0 on equal features, symmetric.

    Raises:
        ValueError: If the layers, their shapes or the number of weights differ.

    Reference: Pihlgren et al. 2023, "A Systematic Performance Analysis of Deep Perceptual Loss Networks",
        arXiv:2302.04032.
    """
    check_layers(features_x, features_y)
    weights = check_layer_weights(layer_weights, len(features_x))
    return _total([weight * squared_distance(x, y) for weight, x, y in zip(weights, features_x, features_y)])


def check_layer_weights(layer_weights: Sequence[float] | None, num_layers: int) -> tuple[float, ...]:
    """One weight for each layer, 1 if none is given; ValueError if their number differs or one is negative."""
    weights = (1.0,) * num_layers if layer_weights is None else tuple(map(float, layer_weights))
    if len(weights) != num_layers or not all(0 <= weight < float("inf") for weight in weights):
        raise ValueError(f"layer_weights must be {num_layers} numbers >= 0, one a layer, got {weights}")
    return weights


def squared_distance(x_BCHW: Tensor, y_BCHW: Tensor) -> Tensor:
    """Mean squared difference of each pair (B, C, H, W), distance_B, float32 (float64 if an argument is)."""
    check_pair(x_BCHW, y_BCHW)
    x, y = lift_precision(x_BCHW, y_BCHW)
    return _mean_square(x - y, (1, 2, 3))


def ssim_distance(x01_BCHW: Tensor, y01_BCHW: Tensor) -> Tensor:
    """1 - structural similarity, the mean over channels and over all places where a window of 11 px fits (sigma 1.5).

    Args:
        x01_BCHW: Images in 0..1, any float dtype, at least 11 px a side.
        y01_BCHW: The same shape.

    Returns:
        distance_B in 0..2, float32; 0 on equal images, symmetric.

    Raises:
        ValueError: If the shapes differ or the images are too small.

    Reference: Wang, Bovik, Sheikh, Simoncelli 2004, IEEE TIP 13(4); computed by torchmetrics.
    """
    from torchmetrics.functional.image import structural_similarity_index_measure

    x, y = _image_pair("ssim", x01_BCHW, y01_BCHW, WINDOW)
    with without_autocast(x):
        # the mean that it returns counts windows that hang over the border, or not, by its version
        _, similarity_BCHW = structural_similarity_index_measure(
            x, y, sigma=SIGMA, data_range=1.0, reduction="none", return_full_image=True
        )
        edge = WINDOW // 2
        return (1 - similarity_BCHW[..., edge:-edge, edge:-edge].flatten(1).mean(1)).clamp_min(0)


def ms_ssim_distance(x01_BCHW: Tensor, y01_BCHW: Tensor) -> Tensor:
    """1 - structural similarity over five scales, each half the one before, with the authors' exponents.

    Args:
        x01_BCHW: Images in 0..1, any float dtype, at least 176 px a side: the window must fit at the fifth scale.
        y01_BCHW: The same shape.

    Returns:
        distance_B in 0..1, float32; 0 on equal images, symmetric. A scale's negative similarity counts as 0.

    Raises:
        ValueError: If the shapes differ or the images are too small.

    Reference: Wang, Simoncelli, Bovik 2003, Asilomar; computed by torchmetrics.
    """
    from torchmetrics.functional.image import multiscale_structural_similarity_index_measure

    x, y = _image_pair("ms-ssim", x01_BCHW, y01_BCHW, WINDOW * 2**4)
    with without_autocast(x):
        similarity_B = multiscale_structural_similarity_index_measure(
            x, y, sigma=SIGMA, data_range=1.0, reduction="none", normalize="relu"
        )
        return (1 - similarity_B).clamp_min(0)


def _image_pair(name: str, x01_BCHW: Tensor, y01_BCHW: Tensor, smallest: int) -> tuple[Tensor, Tensor]:
    check_pair(x01_BCHW, y01_BCHW)
    if x01_BCHW.ndim != 4 or min(x01_BCHW.shape[2:]) < smallest:
        raise ValueError(f"image must be (B, C, H, W) of at least {smallest} px a side for {name}, got "
                         f"{tuple(x01_BCHW.shape)}")  # fmt: skip
    return x01_BCHW.float(), y01_BCHW.float()


def check_layers(features_x: Sequence[Tensor], features_y: Sequence[Tensor]) -> None:
    shapes_x, shapes_y = ([tuple(feature.shape) for feature in features] for features in (features_x, features_y))
    if shapes_x != shapes_y or not shapes_x or any(len(shape) != 4 for shape in shapes_x):
        raise ValueError(f"features must be (B, C, H, W) of the same layers, got {shapes_x} and {shapes_y}")


def _mean_square(value_BCHW: Tensor, dims: tuple[int, ...]) -> Tensor:
    # The gradient of a sum keeps the memory layout, that of a mean makes channels_last contiguous, at twice the time.
    return value_BCHW.square().sum(dims) / math.prod(value_BCHW.shape[dim] for dim in dims)


def _total(distances: Sequence[Tensor]) -> Tensor:
    return torch.stack(list(distances)).sum(0)

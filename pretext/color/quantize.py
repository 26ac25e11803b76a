"""Colours as classes, one per group of channels, and what is done with such classes.

Letters beyond the package's: G the two groups of channels, K classes of one group, c channels of one group, N colours
in any order.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from pretext.color.bins import Bins, Ends, Points

LETTERS = {"rgb": "RGB", "lab": "Lab"}


@dataclass(frozen=True)
class Quantizer:
    """How the colours of a small map become two classes per pixel, one per group of channels, and back.

    Maps are float, in natural units: R, G, B in 0..1; L in 0..100, a and b as CIE Lab has them.

    Args:
        name: As in the catalogue.
        version: Goes up whenever some colour changes its class.
        image_space: Which channels a map has.
        groups: The letters of the channels of each group, in the order of the channels, all three of them.
        codes: How each group becomes a class.
    """

    name: str
    version: int
    image_space: Literal["rgb", "lab"]
    groups: tuple[str, str]
    codes: tuple[Bins | Points, Bins | Points]

    def __post_init__(self) -> None:
        if "".join(self.groups) != LETTERS[self.image_space]:
            raise ValueError(f"groups must spell {LETTERS[self.image_space]}, got {self.groups}")

    @property
    def num_bins(self) -> tuple[int, int]:
        """Classes of each group."""
        first, second = self.codes
        return first.num_bins, second.num_bins

    @property
    def per_image(self) -> bool:
        """Whether some bins span each image's own range, so that decoding needs `ranges`."""
        return any(code.spans is None for code in self.codes)

    def channels(self, group: int) -> slice:
        """Where the channels of a group lie in a map."""
        split = len(self.groups[0])
        return slice(split, None) if group else slice(0, split)

    def ranges(self, map_BCHW: Tensor) -> Tensor:
        """Ends of the span of bins of each channel.

        Returns:
            range_BC2: float32. For bins of the image's own range the map's minimum and its maximum + 1; for fixed
            bins their ends; for points the smallest and largest coordinate.

        Raises:
            ValueError: If the map is not a float (B, 3, H, W) with a pixel in it.
        """
        map_BCHW = _checked(map_BCHW)
        range_BC2 = torch.empty(len(map_BCHW), 3, 2, device=map_BCHW.device)
        for group, code in enumerate(self.codes):
            part_Bc2 = range_BC2[:, self.channels(group)]
            if code.spans is None:
                flat_BcN = map_BCHW[:, self.channels(group)].flatten(2)
                part_Bc2.copy_(torch.stack((flat_BcN.amin(2), flat_BcN.amax(2) + 1), dim=2))
            else:
                part_Bc2.copy_(part_Bc2.new_tensor(code.spans))
        return range_BC2

    def encode(self, map_BCHW: Tensor) -> Tensor:
        """The class of each pixel in each group.

        Args:
            map_BCHW: Float, natural units. Values beyond all bins count to the nearest; NaN is not looked for.

        Returns:
            bin_BGHW: int16, group g in 0..num_bins[g] - 1.

        Raises:
            ValueError: If the map is not a float (B, 3, H, W) with a pixel in it.
        """
        map_BCHW = _checked(map_BCHW)
        range_BC2 = self.ranges(map_BCHW)
        bins = []
        for group, code in enumerate(self.codes):
            channels = self.channels(group)
            ends: Ends | None = code.spans
            if ends is None:
                ends_cB211 = range_BC2[:, channels, :, None, None].to(map_BCHW.dtype).unbind(1)
                ends = [(end_B211[:, 0], end_B211[:, 1]) for end_B211 in ends_cB211]
            bins.append(code.encode(map_BCHW[:, channels], ends))
        return torch.stack(bins, dim=1)

    def decode(self, bin_BGHW: Tensor, range_BC2: Tensor | None = None) -> Tensor:
        """The map whose every colour is the centre of its bin.

        Args:
            bin_BGHW: Integers, as `encode` returns them.
            range_BC2: As `ranges` returns it; needed if `per_image`. Fixed bins take no notice of it.

        Returns:
            map_BCHW: float32, natural units.

        Raises:
            ValueError: If `bin_BGHW` is not an integer (B, 2, H, W), or bins span each image's own range and
                `range_BC2` is None or not (B, 3, 2).
        """
        if bin_BGHW.ndim != 4 or bin_BGHW.shape[1] != 2 or bin_BGHW.is_floating_point():
            raise ValueError(f"bins must be integers (B, 2, H, W), got {bin_BGHW.dtype} {tuple(bin_BGHW.shape)}")
        parts = []
        for group, bin_BHW in enumerate(bin_BGHW.unbind(1)):
            centre_Kc = self._centres(group, torch.float32, bin_BGHW.device)
            parts.append(self._place(_look_up(centre_Kc, bin_BHW), group, range_BC2))
        return torch.cat(parts, dim=1)

    def expect(self, logit_BKHW: Tensor, group: int, *, temperature: float, range_BC2: Tensor | None = None) -> Tensor:
        """The annealed mean of predicted classes: from the most probable colour to the mean colour.

        Args:
            logit_BKHW: Scores of the K classes of one group.
            group: 0 or 1.
            temperature: Logits are divided by it, >= 0. 1 gives the mean, 0 (and the limit towards it) the mode.
                0.38 keeps most of the mode's saturation and the mean's smoothness.
            range_BC2: As for `decode`.

        Returns:
            map_BcHW: The channels of the group in natural units, float32 (float64 for float64).

        Raises:
            ValueError: If K is not the number of classes, `temperature` is negative or NaN, or as `decode`.

        Reference: Zhang, Isola, Efros 2016, "Colorful Image Colorization", arXiv:1603.08511, sec. 2.3.
        """
        if logit_BKHW.ndim != 4 or logit_BKHW.shape[1] != self.num_bins[group]:
            raise ValueError(f"logits must be (B, {self.num_bins[group]}, H, W), got {tuple(logit_BKHW.shape)}")
        if not temperature >= 0:
            raise ValueError(f"temperature must be >= 0, got {temperature}")
        logit_BKHW = logit_BKHW if logit_BKHW.dtype == torch.float64 else logit_BKHW.float()
        centre_Kc = self._centres(group, logit_BKHW.dtype, logit_BKHW.device)
        if temperature == 0:
            return self._place(_look_up(centre_Kc, logit_BKHW.argmax(1)), group, range_BC2)
        # with the largest logit at 0 no temperature is too low
        chance_BKHW = ((logit_BKHW - logit_BKHW.amax(1, keepdim=True)) / temperature).softmax(1)
        with torch.autocast(logit_BKHW.device.type, enabled=False):
            mean_BcHW = torch.einsum("bkhw,kc->bchw", chance_BKHW, centre_Kc)
        return self._place(mean_BcHW, group, range_BC2)

    def centres(self, group: int) -> Tensor:
        """Centres of the bins, or the points, of a group: centre_Kc, float32, natural units.

        Raises:
            ValueError: If the group's bins span each image's own range.
        """
        if self.codes[group].spans is None:
            raise ValueError(f"group must have fixed bins, got {group} of {self.name}")
        return self._centres(group, torch.float32, torch.device("cpu"))

    def facts(self) -> dict[str, Any]:
        """What defines the classes, for JSON: names, and per group the edges of its bins or its points."""
        return {
            "name": self.name,
            "version": self.version,
            "image_space": self.image_space,
            "groups": list(self.groups),
            "num_bins": list(self.num_bins),
            "per_image": self.per_image,
            "codes": [code.facts(letters) for letters, code in zip(self.groups, self.codes, strict=True)],
        }

    def _centres(self, group: int, dtype: torch.dtype, device: torch.device) -> Tensor:
        return torch.from_numpy(self.codes[group].centres).to(device=device, dtype=dtype)

    def _place(self, value_BcHW: Tensor, group: int, range_BC2: Tensor | None) -> Tensor:
        """From what `_centres` are given in to natural units."""
        if self.codes[group].spans is not None:
            return value_BcHW
        if range_BC2 is None or range_BC2.shape != (len(value_BcHW), 3, 2):
            got = None if range_BC2 is None else tuple(range_BC2.shape)
            raise ValueError(f"ranges must be ({len(value_BcHW)}, 3, 2) to decode {self.name}, got {got}")
        low, high = range_BC2[:, self.channels(group), :, None, None].to(value_BcHW).unbind(2)
        return low + (high - low) * value_BcHW


def _checked(map_BCHW: Tensor) -> Tensor:
    """The map in full precision, outside the graph."""
    shape = tuple(map_BCHW.shape)
    if len(shape) != 4 or shape[1] != 3 or 0 in shape[2:] or not map_BCHW.is_floating_point():
        raise ValueError(f"map must be a float (B, 3, H, W) with a pixel in it, got {map_BCHW.dtype} {shape}")
    return map_BCHW.detach().to(torch.float64 if map_BCHW.dtype == torch.float64 else torch.float32)


def _look_up(centre_Kc: Tensor, bin_BHW: Tensor) -> Tensor:
    flat_Nc = centre_Kc.index_select(0, bin_BHW.reshape(-1).int())
    return flat_Nc.view(*bin_BHW.shape, centre_Kc.shape[1]).movedim(-1, 1)


def _shares_of(count_K: Tensor | np.ndarray | Sequence[float]) -> Tensor:
    count_K = torch.as_tensor(count_K, dtype=torch.float64)
    if count_K.ndim != 1 or not (count_K >= 0).all() or not 0 < count_K.sum() < math.inf:
        raise ValueError(f"counts must be (K,), >= 0, finite and not all 0, got {count_K.tolist()}")
    return count_K / count_K.sum()


def marginal_entropy(count_K: Tensor | np.ndarray | Sequence[float]) -> float:
    """Entropy in nats of the histogram `count_K`: the cross-entropy that the best constant prediction reaches.

    Raises:
        ValueError: If a count is negative or not finite, or all are 0.
    """
    return float(torch.special.entr(_shares_of(count_K)).sum())


def rebalance_weights(count_K: Tensor | np.ndarray | Sequence[float], uniform_share: float) -> Tensor:
    """Weights that make rare classes count more: `1 / ((1 - u) p + u / Q)`, scaled so that their mean over p is 1.

    Args:
        count_K: How often each class occurs.
        uniform_share: u in 0..1, the share of the uniform law over the Q classes that occur. 1 gives ones; 0 gives
            every class that occurs the same total weight.

    Returns:
        weight_K: float32, on the device of `count_K`. A class that never occurs has no share to divide by, and takes
        the largest weight of the others.

    Raises:
        ValueError: If a count is negative or not finite, all are 0, or `uniform_share` is outside 0..1.

    Reference: Zhang, Isola, Efros 2016, "Colorful Image Colorization", arXiv:1603.08511, sec. 2.2. There p is smoothed.
    """
    if not 0 <= uniform_share <= 1:
        raise ValueError(f"uniform_share must be in 0..1, got {uniform_share}")
    share_K = _shares_of(count_K)
    seen_K = share_K > 0
    weight_K = 1 / ((1 - uniform_share) * share_K + uniform_share / seen_K.sum())
    weight_K[~seen_K] = weight_K[seen_K].max()
    return (weight_K / (share_K * weight_K).sum()).float()


def soft_code(ab_N2: Tensor, points_K2: Tensor, *, neighbours: int = 5, sigma: float = 5.0) -> Tensor:
    """Spread each colour over its nearest points with Gaussian weights.

    A hard class throws away how close a colour is to the neighbouring points; the spread keeps it.

    Args:
        ab_N2: Float, in the units of the points.
        points_K2: For example `centres(1)` of a quantiser.
        neighbours: How many points share a colour, 1..K. 1 gives one-hot rows. The paper has 5, its code 10.
        sigma: Width of the Gaussian, > 0.

    Returns:
        weight_NK: >= 0, rows sum to 1; dtype and device of `ab_N2`.

    Raises:
        ValueError: If `ab_N2` or `points_K2` has not two columns, `neighbours` is outside 1..K, or `sigma` is not > 0.

    Cost: an N x K matrix of distances.
    Reference: Zhang, Isola, Efros 2016, "Colorful Image Colorization", arXiv:1603.08511, sec. 2.2.
    """
    for name, tensor in (("ab", ab_N2), ("points", points_K2)):
        if tensor.ndim != 2 or tensor.shape[1] != 2:
            raise ValueError(f"{name} must have two columns, got shape {tuple(tensor.shape)}")
    if not 1 <= neighbours <= len(points_K2):
        raise ValueError(f"neighbours must be in 1..{len(points_K2)}, got {neighbours}")
    if not sigma > 0:
        raise ValueError(f"sigma must be > 0, got {sigma}")
    # through a matrix product the distances would lose half of their digits
    distance_NK = torch.cdist(ab_N2, points_K2.to(ab_N2), compute_mode="donot_use_mm_for_euclid_dist")
    nearest = distance_NK.topk(neighbours, largest=False)
    # a softmax of -d^2 / 2 s^2 is the normalised Gaussian, and can't divide by zero far from every point
    mass_NM = torch.softmax(-nearest.values.square() / (2 * sigma**2), dim=1)
    return torch.zeros_like(distance_NK).scatter_(1, nearest.indices, mass_NM)

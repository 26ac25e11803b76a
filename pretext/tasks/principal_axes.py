"""Training sets turned onto their principal axes, without loss.

Letters beside the package's alphabet: n images of a set, R principal axes, J columns.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

CHUNK_ELEMENTS = 2**23
NUM_AXES = 256
GRAM_ROWS = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class Spanned:
    """One training set: standardised, and turned onto its principal axes without loss.

    Attributes:
        index_n: Its images.
        feature_nR: Coordinates on the principal axes, in the features' dtype; the mean of each is 0.
        spectrum_R: Sum of squares of each coordinate; float64, positive.
        mean_D: Mean of the raw features; float64.
        scale_D: What the centred features are divided by; float64, positive.
        wide: Whether the axes are given by images: there are more features than those.
        basis: The axes, (D, R); where wide, (n, R): the axes are its products with the standardised images. float64.
        rest_nn: Products of the images with each other, less those of their coordinates on the axes; None where the
            axes are all.
    """

    index_n: Tensor
    feature_nR: Tensor
    spectrum_R: Tensor
    mean_D: Tensor
    scale_D: Tensor
    wide: bool
    basis: Tensor
    rest_nn: Tensor | None = None

    def unfold(self, weight_RJ: Tensor, rest_nJ: Tensor, feature_ND: Tensor) -> tuple[Tensor, Tensor]:
        """Weights on the raw features, and what centring adds to the intercepts: (weight_DJ, shift_J), float64.

        Args:
            weight_RJ: Coordinates on the axes, float64.
            rest_nJ: Multipliers of the images' remainders, float64; read only where there are remainders.
            feature_ND: All images' features.
        """
        if self.rest_nn is None:
            weight_DJ = self.basis @ weight_RJ
        else:
            weight_DJ = rest_nJ + self.basis @ (weight_RJ - self.feature_nR.double().T @ rest_nJ)
        if self.wide:
            columns = _columns(feature_ND, self.index_n, self.mean_D, self.scale_D)
            weight_DJ = torch.cat([standard_nd.T @ weight_DJ for standard_nd in columns])
        weight_DJ = weight_DJ / self.scale_D[:, None]
        return weight_DJ, -self.mean_D @ weight_DJ


def is_large(num_images: int, num_features: int) -> bool:
    """Whether finding all principal axes of so many images would cost more than it saves: a few stand for them then."""
    return min(num_images, num_features) > 2 * NUM_AXES and num_images < 2 * num_features


def span(feature_ND: Tensor, index_n: Tensor, *, standardize: bool) -> Spanned:
    """Standardise one training set and turn it onto its principal axes.

    Args:
        feature_ND: All images' features.
        index_n: The images of the training set, at least one.
        standardize: False only centres, which a free intercept makes no difference to.

    Returns:
        The set in coordinates of its own span, with what is needed to come back.

    Cost: an n x D product with itself and, in float64, an eigendecomposition of side min(n, D). Where `is_large`, two
    products of n x n by n x 256 stand for the latter, and all is in the features' dtype.
    """
    mean_D, scale_D = _moments(feature_ND, index_n)
    if not standardize:
        scale_D = torch.ones_like(scale_D)
    return (_span_leading if is_large(len(index_n), feature_ND.shape[1]) else _span_all)(
        feature_ND, index_n, mean_D, scale_D
    )


def _span_all(feature_ND: Tensor, index_n: Tensor, mean_D: Tensor, scale_D: Tensor) -> Spanned:
    """On all axes."""
    n, D = len(index_n), feature_ND.shape[1]
    wide = n < D
    chunks = (_columns if wide else _rows)(feature_ND, index_n, mean_D, scale_D)
    gram = mean_D.new_zeros((n, n) if wide else (D, D))
    for chunk in chunks:
        gram += chunk @ chunk.T if wide else chunk.T @ chunk
    spectrum, axes = torch.linalg.eigh(gram)
    kept = spectrum > spectrum[-1].clamp_min(0) * max(n, D) * torch.finfo(torch.float64).eps
    spectrum_R, axes = spectrum[kept], axes[:, kept]
    if wide:
        feature_nR = (axes * spectrum_R.sqrt()).to(feature_ND.dtype)
        basis = axes / spectrum_R.sqrt()
    else:
        rows = [(chunk @ axes).to(feature_ND.dtype) for chunk in _rows(feature_ND, index_n, mean_D, scale_D)]
        feature_nR, basis = torch.cat(rows), axes
    return Spanned(index_n=index_n, feature_nR=feature_nR, spectrum_R=spectrum_R, mean_D=mean_D, scale_D=scale_D,
                   wide=wide, basis=basis)  # fmt: skip


def _span_leading(feature_ND: Tensor, index_n: Tensor, mean_D: Tensor, scale_D: Tensor) -> Spanned:
    """On the leading axes, roughly, with the images' remainders beside them, exactly.

    However rough the axes are, the remainders make the whole exact; axes only save evaluations.

    Reference: Halko, Martinsson, Tropp 2011, SIAM Review 53, randomised subspace iteration.
    """
    dtype, n = feature_ND.dtype, len(index_n)
    gram_nn = feature_ND.new_zeros(n, n)
    for standard_nd in _columns(feature_ND, index_n, mean_D, scale_D):
        own_nd = standard_nd.to(dtype)
        for start in range(0, n, GRAM_ROWS):  # from the diagonal on: half of the work
            gram_nn[start : start + GRAM_ROWS, start:].addmm_(own_nd[start : start + GRAM_ROWS], own_nd[start:].T)
    gram_nn = gram_nn.triu_() + gram_nn.triu(1).T
    generator = torch.Generator().manual_seed(0)
    image_nR = torch.randn(n, NUM_AXES, generator=generator, dtype=dtype).to(gram_nn.device)
    for _ in range(2):
        axes_nR = torch.linalg.qr(image_nR).Q
        image_nR = gram_nn @ axes_nR
    spectrum_R, turn_RR = torch.linalg.eigh(axes_nR.double().T @ image_nR.double())
    kept = spectrum_R > spectrum_R[-1].clamp_min(0) * n * torch.finfo(dtype).eps
    spectrum_R, turn_RR = spectrum_R[kept], turn_RR[:, kept] / spectrum_R[kept].sqrt()
    feature_nR = image_nR @ turn_RR.to(dtype)
    spectrum_R = torch.linalg.vecdot(feature_nR, feature_nR, dim=0).double()
    return Spanned(
        index_n=index_n, feature_nR=feature_nR, spectrum_R=spectrum_R, mean_D=mean_D, scale_D=scale_D, wide=True,
        basis=axes_nR.double() @ turn_RR, rest_nn=gram_nn.addmm_(feature_nR, feature_nR.T, alpha=-1),
    )  # fmt: skip


def _moments(feature_ND: Tensor, index_n: Tensor) -> tuple[Tensor, Tensor]:
    n, D = len(index_n), feature_ND.shape[1]
    nothing = torch.zeros(D, dtype=torch.float64, device=feature_ND.device)
    means, scales = [], []
    for raw_nd in _columns(feature_ND, index_n, nothing, nothing + 1):
        variance_d, mean_d = torch.var_mean(raw_nd, dim=0, correction=0)
        # scikit-learn's bound on the rounding error of a constant feature's variance
        eps = torch.finfo(torch.float64).eps
        constant_d = variance_d <= n * eps * variance_d + (n * mean_d * eps).square()
        means.append(mean_d)
        scales.append(torch.where(constant_d, 1.0, variance_d.sqrt()))
    return torch.cat(means), torch.cat(scales)


def _columns(feature_ND: Tensor, index_n: Tensor, mean_D: Tensor, scale_D: Tensor) -> Iterator[Tensor]:
    """Standardised features in float64, some columns at a time."""
    step = max(1, CHUNK_ELEMENTS // len(index_n))
    for start in range(0, feature_ND.shape[1], step):
        columns = slice(start, start + step)
        raw_nd = feature_ND[:, columns].index_select(0, index_n).double()
        yield (raw_nd - mean_D[columns]) / scale_D[columns]


def _rows(feature_ND: Tensor, index_n: Tensor, mean_D: Tensor, scale_D: Tensor) -> Iterator[Tensor]:
    """Standardised features in float64, some rows at a time."""
    for rows in index_n.split(max(1, CHUNK_ELEMENTS // feature_ND.shape[1])):
        yield (feature_ND.index_select(0, rows).double() - mean_D) / scale_D

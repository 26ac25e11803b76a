"""Predicting another network's features of an image from its code: a perceptual loss without decoding an image."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn

from pretext.artifacts.rows import Rows
from pretext.encoders.base import Encoder, scale_channels
from pretext.encoders.decoders import WIDEST, sizes_above, up_block
from pretext.objectives.base import Objective, Setting, View
from pretext.training.pool import chunk_indices

CODE_GRID = 4  # a map starts from at most 4 x 4 places of a vector
HIDDEN = (64, 2048)  # fewest and most units of a vector's hidden layer; the published one has half as many as features
ROWS_PER_READ = 1024


class FeatureHead(nn.Module):
    """From an encoder's code to features.

    To vectors: one hidden layer with ReLU, half as wide as the features, from 64 to 2048. To maps: nearest upsampling,
    each time followed by a 3x3 convolution, batch norm and ReLU, at 256 * `width` channels, and a last 3x3 convolution;
    a vector is first brought to at most 4 x 4 places by a linear layer. A map that is larger than wanted is averaged.
    What comes out is scaled to the features' own mean and spread by channel, so that learning does not hang on their
    units.

    Args:
        code_shape: (D,) or (C, H, W).
        shape: The features', (D,) or (C, h, w).
        width: Factor on the maps' channels.
        mean: The features' mean, one a channel, (C, 1, 1) or (D,).
        sd: Their standard deviation, likewise.
    """

    def __init__(self, *, code_shape: tuple[int, ...], shape: tuple[int, ...], width: float, mean: Tensor,
                 sd: Tensor) -> None:  # fmt: skip
        super().__init__()
        self.shape = shape
        is_map = len(shape) == 3 and shape[1] > 1
        self.layers = _map_head(code_shape, shape, width) if is_map else _vector_head(code_shape, math.prod(shape))
        self.register_buffer("mean", mean, persistent=False)
        self.register_buffer("sd", sd, persistent=False)

    def forward(self, code: Tensor) -> Tensor:
        """Features (B, *shape), float32 also under autocast, of codes (B, *code_shape)."""
        return self.mean + self.sd * self.layers(code).float().unflatten(1, self.shape[:1]).reshape(-1, *self.shape)


def _vector_head(code_shape: tuple[int, ...], num_features: int) -> nn.Sequential:
    units = min(max(HIDDEN[0], num_features // 2), HIDDEN[1])
    layers: list[nn.Module] = []
    if len(code_shape) == 3:
        grid = min(code_shape[1], CODE_GRID)
        layers, code_shape = [nn.AdaptiveAvgPool2d(grid), nn.Flatten()], (code_shape[0], grid, grid)
    return nn.Sequential(
        *layers, nn.Linear(math.prod(code_shape), units), nn.ReLU(inplace=True), nn.Linear(units, num_features)
    )


def _map_head(code_shape: tuple[int, ...], shape: tuple[int, ...], width: float) -> nn.Sequential:
    channels, size = scale_channels(WIDEST, width), shape[1]
    if len(code_shape) == 1:
        grid = size
        while grid > CODE_GRID:
            grid = (grid + 1) // 2
        before = channels
        start: list[nn.Module] = [nn.Linear(code_shape[0], before * grid**2), nn.Unflatten(1, (before, grid, grid))]
    else:
        before, grid = code_shape[0], min(code_shape[1], size)
        start = [nn.AdaptiveAvgPool2d(grid)] if grid < code_shape[1] else []
    blocks = []
    for side in sizes_above(grid, size):
        blocks.append(up_block(before, channels, side))
        before = channels
    return nn.Sequential(*start, *blocks, nn.Conv2d(before, shape[0], kernel_size=3, padding=1))


class PredictFeatures(Objective):
    """Encoder, head, and the loss between the predicted and the stored features.

    Args:
        encoder: Its `code_layer` is what the features are predicted from.
        head: A `FeatureHead`.
        loss: Of two tensors of one shape.
        constant_loss: What the images' mean feature scores.

    Reference: Pihlgren, Sandin, Liwicki 2020, "Pretraining Image Encoders without Reconstruction via Feature Prediction
        Loss", arXiv:2003.07441.
    """

    def __init__(self, encoder: Encoder, head: FeatureHead, loss: nn.Module, constant_loss: float) -> None:
        super().__init__()
        self.encoder, self.head, self.loss, self._constant_loss = encoder, head, loss, constant_loss

    def forward(self, input01_BCHW: Tensor) -> Tensor:
        """Predict features, (B, 3, H, W) in 0..1 to (B, *shape) float32."""
        features: Tensor = self.head(self.encoder.encode(input01_BCHW, self.encoder.code_layer))
        return features

    def loss_of(self, view: View) -> Tensor:
        if view.target_BGHW is None:
            raise ValueError("target must be given for a prediction of features, got None")
        loss: Tensor = self.loss(self(view.input01_BCHW), view.target_BGHW)
        return loss

    def terms_of(self, view: View) -> dict[str, Tensor]:
        return {"features": self.loss_of(view)}

    def constant_losses(self) -> dict[str, float]:
        """What the images' mean feature scores: the mean variance of a feature where the loss is the squared error."""
        return {"features": self._constant_loss}


def build_predict_features(setting: Setting) -> PredictFeatures:
    """An encoder with a head for the setting's features, which are read twice for their mean and spread.

    Raises:
        ValueError: If there are no features or no loss, or the features are neither vectors nor square maps.
    """
    if setting.features is None or setting.loss is None:
        raise ValueError("features and a loss must be given")
    rows = setting.features.rows
    if len(rows.row_shape) not in (1, 3) or len(set(rows.row_shape[1:])) > 1:
        raise ValueError(f"features must be (D,) or (C, h, h), got {rows.row_shape}")
    mean, mean_C, sd_C = _moments(rows)
    head = FeatureHead(code_shape=setting.encoder.code_shape, shape=rows.row_shape, width=setting.width, mean=mean_C,
                       sd=sd_C)  # fmt: skip
    return PredictFeatures(setting.encoder, head, setting.loss, _constant_loss(rows, mean, setting.loss))


def _moments(rows: Rows) -> tuple[Tensor, Tensor, Tensor]:
    """Mean over images of every feature; mean and standard deviation of every channel over images and places."""
    total, square = np.zeros(rows.row_shape), np.zeros(rows.row_shape)
    for index_B in chunk_indices(len(rows), ROWS_PER_READ):
        block = rows.read(index_B).astype(np.float64)
        total += block.sum(0)
        square += (block**2).sum(0)
    places = tuple(range(1, len(rows.row_shape)))
    mean, mean_C = total / len(rows), (total / len(rows)).mean(places, keepdims=True)
    sd_C = np.sqrt(np.maximum(0, (square / len(rows)).mean(places, keepdims=True) - mean_C**2))
    return torch.from_numpy(mean).float(), torch.from_numpy(mean_C).float(), torch.from_numpy(sd_C).float()


@torch.no_grad()
def _constant_loss(rows: Rows, mean: Tensor, loss: nn.Module) -> float:
    total = 0.0
    for index_B in chunk_indices(len(rows), ROWS_PER_READ):
        block = torch.from_numpy(rows.read(index_B))
        total += float(loss(mean.expand_as(block), block)) * len(index_B)
    return total / len(rows)

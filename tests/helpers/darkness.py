"""A no-reference quality for tests."""

from torch import nn


class Darkness(nn.Module):
    """Likes dark pictures, which an unanchored training would paint."""

    lower_better = True

    def forward(self, image01_BCHW):
        return image01_BCHW.mean((1, 2, 3))

"""The control without training: what the shape of the network alone is worth."""

from __future__ import annotations

from pretext.encoders.base import Encoder
from pretext.objectives.base import Objective, Setting


class RandomControl(Objective):
    """An encoder as it was initialised."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = encoder


def build_random(setting: Setting) -> RandomControl:
    """Wrap the encoder; there is no loss and nothing else to build."""
    return RandomControl(setting.encoder)

"""Denoising: from a corrupted image to the clean one."""

from __future__ import annotations

from torch import Tensor, nn

from pretext.augment import NOISES, corrupt
from pretext.encoders.base import Encoder
from pretext.encoders.decoders import build_decoder_for
from pretext.objectives.autoencode import Autoencode
from pretext.objectives.base import Setting, View


class Denoise(Autoencode):
    """An autoencoder that sees a corrupted image and is compared with the clean one."""

    def __init__(
        self, encoder: Encoder, decoder: nn.Module, loss: nn.Module, *, noise: str, noise_level: float
    ) -> None:
        super().__init__(encoder, decoder, loss)
        if noise not in NOISES:
            raise ValueError(f"noise must be one of {', '.join(NOISES)}, got {noise!r}")
        self.noise, self.noise_level = noise, noise_level

    def seen(self, view: View) -> Tensor:
        return corrupt(view.input01_BCHW, self.noise, self.noise_level, view.generator, view.span)


def build_denoise(setting: Setting, *, noise: str = "salt-pepper", noise_level: float = 0.05) -> Denoise:
    """A denoising autoencoder; encoder and decoder as for `autoencode`."""
    assert setting.loss is not None
    decoder = build_decoder_for(setting.encoder, width=setting.width)
    return Denoise(setting.encoder, decoder, setting.loss, noise=noise, noise_level=noise_level)

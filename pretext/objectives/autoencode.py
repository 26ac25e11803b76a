"""Autoencoding: image to code to image."""

from __future__ import annotations

from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from pretext.encoders.base import Encoder
from pretext.encoders.decoders import build_decoder_for
from pretext.objectives.base import Objective, Setting, View
from pretext.objectives.pictures import image_table


class Autoencode(Objective):
    """Encoder, decoder, and the loss between the image and its reconstruction."""

    def __init__(self, encoder: Encoder, decoder: nn.Module, loss: nn.Module) -> None:
        super().__init__()
        self.encoder, self.decoder, self.loss = encoder, decoder, loss

    def forward(self, image01_BCHW: Tensor) -> Tensor:
        """Reconstruct images; (B, 3, H, W) in 0..1 to the same."""
        return self.decoder(self.encoder.encode(image01_BCHW, self.encoder.code_layer))

    def loss_of(self, view: View) -> Tensor:
        return self.loss(*self._compared(view))

    def terms_of(self, view: View) -> dict[str, Tensor]:
        terms_of = getattr(self.loss, "terms_of", None)
        return terms_of(*self._compared(view)) if terms_of is not None else {}

    def _compared(self, view: View) -> tuple[Any, ...]:
        """What the loss gets: the reconstruction, the image, and the image's features where they are known."""
        known = () if view.target_BGHW is None else ([view.target_BGHW.float()],)
        return self(self.seen(view)), view.input01_BCHW, *known

    def seen(self, view: View) -> Tensor:
        """What the encoder gets to see of a batch."""
        return view.input01_BCHW

    @torch.no_grad()
    def picture(self, view: View) -> Image.Image:
        seen, original = self.seen(view), view.input01_BCHW
        reconstruction = self(seen).float()
        rows = {"original": original} | ({} if seen is original else {"seen": seen})
        residual = (reconstruction - original).abs()
        return image_table(rows | {"reconstruction": reconstruction, "|residual| x 2": 2 * residual})


def build_autoencode(setting: Setting) -> Autoencode:
    """An autoencoder whose decoder is the encoder's counterpart, as wide as the encoder."""
    assert setting.loss is not None
    return Autoencode(setting.encoder, build_decoder_for(setting.encoder, width=setting.width), setting.loss)

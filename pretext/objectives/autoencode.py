"""Autoencoding: image to vector to image."""

from __future__ import annotations

import torch
from PIL import Image
from torch import Tensor, nn

from pretext.encoders.base import Encoder
from pretext.encoders.decoders import build_decoder
from pretext.objectives.base import Objective
from pretext.objectives.pictures import image_table


class Autoencode(Objective):
    """Encoder, decoder, and the loss between the image and its reconstruction."""

    def __init__(self, encoder: Encoder, decoder: nn.Module, loss: nn.Module) -> None:
        super().__init__()
        self.encoder, self.decoder, self.loss = encoder, decoder, loss

    def forward(self, image01_BCHW: Tensor) -> Tensor:
        """Reconstruct images; (B, 3, H, W) in 0..1 to the same."""
        return self.decoder(self.encoder(image01_BCHW))

    def loss_of(self, image01_BCHW: Tensor) -> Tensor:
        return self.loss(self(image01_BCHW), image01_BCHW)

    @torch.no_grad()
    def picture(self, image01_BCHW: Tensor) -> Image.Image:
        reconstruction = self(image01_BCHW).float()
        residual = (reconstruction - image01_BCHW).abs()
        return image_table({"original": image01_BCHW, "reconstruction": reconstruction, "|residual| x 2": 2 * residual})


def build_autoencode(*, encoder: Encoder, loss: nn.Module, width: float) -> Autoencode:
    """An autoencoder whose decoder mirrors the slides' (Golmakani), as wide as the encoder."""
    decoder = build_decoder(image_size=encoder.image_size, width=width, latent_dim=encoder.num_features)
    return Autoencode(encoder, decoder, loss)

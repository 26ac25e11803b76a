"""Encoders: images to feature vectors, and the decoder that goes back."""

from __future__ import annotations

from pretext.encoders.base import Encoder
from pretext.encoders.cnn import build_cnn
from pretext.encoders.decoders import build_decoder
from pretext.encoders.resnet import build_resnet18

__all__ = ["Encoder", "build_cnn", "build_decoder", "build_resnet18"]

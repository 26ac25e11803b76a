"""Encoders: images to feature vectors, and the decoders that go back."""

from __future__ import annotations

from pretext.encoders.base import Encoder
from pretext.encoders.cnn import build_cnn
from pretext.encoders.conv4 import build_conv4
from pretext.encoders.conv_k4 import build_conv_k4
from pretext.encoders.decoders import build_decoder, build_decoder_for
from pretext.encoders.fcn import build_alexnet_fcn, build_resnet18_fcn, build_simplenet5, build_simplenet13
from pretext.encoders.resnet import build_resnet18
from pretext.encoders.split import SplitNet

__all__ = [
    "Encoder", "SplitNet", "build_alexnet_fcn", "build_cnn", "build_conv4", "build_conv_k4", "build_decoder", "build_decoder_for",
    "build_resnet18", "build_resnet18_fcn", "build_simplenet5", "build_simplenet13",
]  # fmt: skip

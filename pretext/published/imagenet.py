"""Top-1 accuracy on ImageNet of the networks whose features are compared, as torchvision states it."""

from __future__ import annotations

SOURCE = "torchvision, IMAGENET1K_V1 weights, one central crop"
# Fractions of the 50,000 validation images.
TOP1: dict[str, float] = {
    "alexnet": 0.56522, "vgg11": 0.69020, "vgg16": 0.71592, "vgg16_bn": 0.73360, "vgg19": 0.72376,
    "densenet121": 0.74434, "resnet18": 0.69758, "resnet50": 0.76130, "resnext50_32x4d": 0.77618,
    "googlenet": 0.69778, "inception_v3": 0.77294, "squeezenet1_0": 0.58092, "squeezenet1_1": 0.58178,
    "efficientnet_b0": 0.77692, "efficientnet_b7": 0.84122,
}  # fmt: skip

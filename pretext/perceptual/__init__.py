"""Frozen networks whose features say how unlike two images are: as a loss, and as a metric."""

from pretext.perceptual.networks import FeatureNetwork, build_network

__all__ = ["FeatureNetwork", "build_network"]

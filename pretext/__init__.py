"""Unsupervised pretraining of image encoders: prepare, pretrain, extract, probe, fine-tune, report.

Importing this package imports nothing heavy; `load_encoder` loads torch when it is called.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["__version__", "load_encoder"]

if TYPE_CHECKING:
    from pretext.encoders.restore import load_encoder


def __getattr__(name: str) -> Any:
    if name == "load_encoder":
        from pretext.encoders.restore import load_encoder

        return load_encoder
    raise AttributeError(f"module 'pretext' has no attribute {name!r}")

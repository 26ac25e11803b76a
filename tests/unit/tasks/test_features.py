"""What every classifier asks of its input, and of the arithmetic."""

from __future__ import annotations

import pytest
import torch

from pretext.tasks.features import check_features, full_precision


def test_good_features_pass() -> None:
    check_features(torch.zeros(2, 3), torch.tensor([0, 1]), num_classes=2)


@pytest.mark.parametrize(
    ("feature", "label", "num_classes", "message"),
    [
        (torch.zeros(3), torch.zeros(3, dtype=torch.int64), 2, r"got torch.float32 \(3,\)"),
        (torch.zeros(2, 0), torch.tensor([0, 1]), 2, r"got torch.float32 \(2, 0\)"),
        (torch.zeros(2, 3).half(), torch.tensor([0, 1]), 2, "got torch.float16"),
        (torch.tensor([[0.0], [torch.nan]]), torch.tensor([0, 1]), 2, "feature must be finite, got nan"),
        (torch.zeros(2, 3), torch.tensor([0]), 2, r"label must be \(2,\) of int64, got torch.int64 \(1,\)"),
        (torch.zeros(2, 3), torch.tensor([0, 1]).int(), 2, "got torch.int32"),
        (torch.zeros(2, 3), torch.tensor([0, 1]), 1, "num_classes must be at least 2, got 1"),
        (torch.zeros(2, 3), torch.tensor([0, -1]), 2, r"label must be in 0..1, got -1"),
    ],
)
def test_bad_features_are_named(feature, label, num_classes: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_features(feature, label, num_classes=num_classes)


def test_full_precision_is_put_back_even_after_an_error() -> None:
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        with full_precision():
            assert torch.get_float32_matmul_precision() == "highest"
        assert torch.get_float32_matmul_precision() == "high"
        with pytest.raises(RuntimeError, match="shapes"), full_precision():
            torch.zeros(2, 3) @ torch.zeros(2, 3)
        assert torch.get_float32_matmul_precision() == "high"
    finally:
        torch.set_float32_matmul_precision(before)

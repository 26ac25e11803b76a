"""Checks and precision shared by every loss. Run alone: pytest tests/unit/losses/test_operands.py."""

from __future__ import annotations

import pytest
import torch

from pretext.losses.operands import check_pair, lift_precision, without_autocast


def test_nothing_is_broadcast():
    with pytest.raises(ValueError, match=r"one shape, got \(2, 3, 4, 4\) and \(2, 1, 4, 4\)"):
        check_pair(torch.zeros(2, 3, 4, 4), torch.zeros(2, 1, 4, 4))


def test_an_empty_batch_is_refused():
    with pytest.raises(ValueError, match=r"at least one element, got shape \(0, 3, 4, 4\)"):
        check_pair(torch.zeros(0, 3, 4, 4), torch.zeros(0, 3, 4, 4))


def test_integer_images_are_refused_by_name():
    image = torch.zeros(1, 3, 4, 4)
    with pytest.raises(ValueError, match=r"prediction must be a float tensor, got torch\.int64"):
        check_pair(image.long(), image)
    with pytest.raises(ValueError, match=r"target must be a float tensor, got torch\.uint8"):
        check_pair(image, image.to(torch.uint8))


@pytest.mark.parametrize(
    ("first", "second", "lifted"),
    [
        (torch.bfloat16, torch.bfloat16, torch.float32),
        (torch.float16, torch.float32, torch.float32),
        (torch.float32, torch.float32, torch.float32),
        (torch.bfloat16, torch.float64, torch.float64),
    ],
)
def test_lifted_to_single_or_to_double_where_one_is(first, second, lifted):
    pair = lift_precision(torch.zeros(1, dtype=first), torch.zeros(1, dtype=second))
    assert [tensor.dtype for tensor in pair] == [lifted, lifted]


def test_products_keep_their_dtype_inside_the_context():
    matrix = torch.ones(2, 2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        outside = matrix @ matrix
        with without_autocast(matrix):
            inside = matrix @ matrix
    assert (outside.dtype, inside.dtype) == (torch.bfloat16, torch.float32)

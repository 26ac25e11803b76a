"""The stored scale of Lab. Run alone: pytest tests/unit/color/test_codes.py."""

from __future__ import annotations

import pytest
import torch

from pretext.color import LAB_LOW, LAB_SPAN, bytes_to_lab, lab_to_bytes, lab_to_unit, rgb_to_lab, unit_to_lab

ALL_BYTES = torch.arange(256, dtype=torch.uint8).expand(3, 1, 256)


def colours():
    generator = torch.Generator().manual_seed(0)
    return rgb_to_lab(torch.randint(256, (4, 3, 16, 16), generator=generator, dtype=torch.uint8))


def test_the_scale_of_the_range_of_srgb():
    assert LAB_LOW == (0, -87, -108)
    assert [low + span for low, span in zip(LAB_LOW, LAB_SPAN, strict=True)] == [100, 99, 95]
    ends = torch.tensor([LAB_LOW, (100, 99, 95), (50, 6, -6.5)]).double().T.reshape(3, 1, 3)
    expected = torch.tensor([0, 1, 0.5], dtype=torch.float64).expand(3, 1, 3)
    torch.testing.assert_close(lab_to_unit(ends), expected, rtol=0, atol=1e-12)


def test_srgb_lies_inside():
    corner = torch.tensor([0, 255], dtype=torch.uint8)
    unit = lab_to_unit(rgb_to_lab(torch.cartesian_prod(corner, corner, corner).T.reshape(3, 2, 4)))
    assert unit.min() >= -1e-6
    assert unit.max() <= 1 + 1e-6


def test_unit_there_and_back():
    lab = colours()
    torch.testing.assert_close(unit_to_lab(lab_to_unit(lab)), lab, rtol=1e-5, atol=2e-5)
    torch.testing.assert_close(unit_to_lab(lab_to_unit(lab.double())), lab.double(), rtol=1e-9, atol=1e-9)


def test_every_byte_survives():
    lab = bytes_to_lab(ALL_BYTES)
    assert lab.dtype == torch.float32
    assert torch.equal(lab_to_bytes(lab), ALL_BYTES)


def test_a_byte_is_within_half_a_step():
    lab = colours()
    error = (bytes_to_lab(lab_to_bytes(lab)) - lab).abs().amax(dim=(0, 2, 3))
    half = torch.tensor(LAB_SPAN) / 510
    assert (error <= half + 1e-4).all()
    assert (error > 0.9 * half).all()


def test_a_byte_over_255_is_a_network_s_input():
    torch.testing.assert_close(lab_to_unit(bytes_to_lab(ALL_BYTES)), ALL_BYTES / 255, rtol=0, atol=1e-6)


def test_bytes_stop_at_the_ends():
    lab = torch.tensor([[-1.0, 101], [-90, 130], [-128, 128]]).view(3, 1, 2)
    assert lab_to_bytes(lab).flatten().tolist() == [0, 255] * 3


def test_a_byte_is_the_nearest():
    steps = torch.tensor([0.4, 0.6, 127.49, 127.51, 254.4, 254.6]).expand(3, 1, 6) / 255
    assert lab_to_bytes(unit_to_lab(steps))[:, 0].tolist() == [[0, 1, 127, 128, 254, 255]] * 3


def test_gradient_is_the_scale():
    lab = colours()[:2, :, :2, :2].double().requires_grad_()
    assert torch.autograd.gradcheck(lab_to_unit, (lab,))
    assert torch.autograd.gradcheck(unit_to_lab, (lab,))
    assert not lab_to_bytes(lab).requires_grad


@pytest.mark.parametrize(("code", "name"), [(lab_to_unit, "lab"), (unit_to_lab, "unit"), (lab_to_bytes, "lab")])
def test_refuses_other_tensors(code, name):
    with pytest.raises(ValueError, match=rf"{name} must have 3 channels at dimension -3, got shape \(1, 2, 4, 4\)"):
        code(torch.zeros(1, 2, 4, 4))
    with pytest.raises(ValueError, match=f"{name} must be float, got torch.uint8"):
        code(ALL_BYTES)


def test_refuses_other_bytes():
    with pytest.raises(ValueError, match=r"bytes must be uint8, got torch.float32"):
        bytes_to_lab(torch.zeros(3, 4, 4))
    with pytest.raises(ValueError, match=r"bytes must have 3 channels at dimension -3, got shape \(4, 4, 3\)"):
        bytes_to_lab(torch.zeros(4, 4, 3, dtype=torch.uint8))

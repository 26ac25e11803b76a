"""Changes of place against torchvision, image by image. Run alone: pytest tests/unit/augment/test_geometry.py.

Tolerances: 3e-5 on noise, whose slope is up to 1 per pixel, is a position right to 3e-5 pixels.
"""

from __future__ import annotations

import pytest
import torch
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as reference

from pretext.augment.draws import Draws, rectangle_corners
from pretext.augment.geometry import crop_and_flip, warp

SIZES = [(24, 24), (20, 31)]
BILINEAR = InterpolationMode.BILINEAR


def noise(count, size):
    return torch.rand(count, 3, *size, generator=torch.Generator().manual_seed(0))


def smooth(count, size):
    """Slow waves, on which interpolating once or three times makes little difference."""
    y, x = torch.meshgrid(torch.linspace(0, 1, size[0]), torch.linspace(0, 1, size[1]), indexing="ij")
    waves = [0.5 + 0.4 * torch.sin(2 * x + (3 + c) * y + k) for k in range(count) for c in range(3)]
    return torch.stack(waves).view(count, 3, *size)


def assert_each(changed, image, change, arguments, atol=3e-5):
    for single, result, argument in zip(image, changed, arguments, strict=True):
        torch.testing.assert_close(result, change(single, argument), rtol=0, atol=atol)


@pytest.mark.parametrize("size", SIZES)
def test_whole_pixel_windows_are_torchvision_s(size):
    image = noise(5, size)
    shift, flip = torch.tensor([[0, 0], [8, 8], [4, 4], [1, 6], [7, 2]]), torch.tensor([0, 1, 0, 1, 1]).bool()

    def change(single, argument):
        (top, left), mirrored = argument
        window = reference.crop(reference.pad(single, [4, 4, 4, 4]), top, left, *size)
        return reference.horizontal_flip(window) if mirrored else window

    arguments = list(zip(shift.tolist(), flip.tolist(), strict=True))
    changed = crop_and_flip(image, padding=4, shift_B2=shift, flip_B=flip)
    assert changed.is_contiguous(memory_format=torch.channels_last)
    assert_each(changed, image, change, arguments, atol=0)


def test_windows_without_a_shift_or_a_flip():
    image, flip = noise(2, (6, 7)), torch.tensor([True, False])
    mirrored = crop_and_flip(image, padding=0, shift_B2=None, flip_B=flip)
    torch.testing.assert_close(mirrored, torch.stack([image[0].flip(2), image[1]]), rtol=0, atol=0)
    middle = crop_and_flip(image, padding=3, shift_B2=None, flip_B=None)
    torch.testing.assert_close(middle, image, rtol=0, atol=0)
    corner = crop_and_flip(image, padding=1, shift_B2=torch.zeros(2, 2, dtype=torch.long), flip_B=None)
    torch.testing.assert_close(corner[:, :, 1:, 1:], image[:, :, :-1, :-1], rtol=0, atol=0)
    assert corner[:, :, 0].abs().sum() == 0
    assert corner[:, :, :, 0].abs().sum() == 0


@pytest.mark.parametrize("size", SIZES)
def test_nothing_to_do_is_a_copy(size):
    image = noise(2, size)
    torch.testing.assert_close(warp(image, Draws()), image, rtol=0, atol=3e-6)


@pytest.mark.parametrize("size", SIZES)
def test_flip(size):
    image, flip = noise(2, size), torch.tensor([True, False])
    torch.testing.assert_close(
        warp(image, Draws(flip_B=flip)), torch.stack([image[0].flip(2), image[1]]), rtol=0, atol=3e-6
    )


@pytest.mark.parametrize("size", SIZES)
def test_resized_crop(size):
    boxes = [[0, 0, *size], [3, 2, 15, 17], [0, 5, 20, 12], [size[0] - 9, size[1] - 18, 9, 18], [4, 4, 1, 1]]
    image = noise(len(boxes), size)
    changed = warp(image, Draws(box_B4=torch.tensor(boxes)))
    assert_each(changed, image, lambda single, box: reference.resized_crop(single, *box, size=list(size)), boxes)


@pytest.mark.parametrize("size", SIZES)
def test_rotation(size):
    angles = [0.0, 10.0, -7.3, 90.0, 171.0]
    image = noise(len(angles), size)
    changed = warp(image, Draws(angle_B=torch.tensor(angles)))
    assert_each(changed, image, lambda single, angle: reference.rotate(single, angle, BILINEAR), angles)


@pytest.mark.parametrize("size", SIZES)
def test_perspective(size):
    start = rectangle_corners(*size)
    inwards = torch.tensor([[[0, 0]] * 4, [[2, 1], [-1, 0], [-2, -2], [0, -3]], [[4, 5], [0, 5], [-4, -4], [1, 0]]])
    corners = start + inwards
    image = noise(3, size)
    changed = warp(image, Draws(corner_B42=corners))

    def change(single, end):
        return reference.perspective(single, start.tolist(), end, BILINEAR)

    assert_each(changed, image, change, corners.tolist())


@pytest.mark.parametrize("size", [(48, 48), (40, 56)])
def test_all_at_once_is_the_chain(size):
    start = rectangle_corners(*size)
    boxes = [[2, 3, 36, 38], [0, 1, 37, 44], [1, 0, 39, 48]]
    flips, angles = [True, False, True], [-9.0, 10.0, 4.0]
    inwards = [[[2, 1], [-1, 0], [-2, -2], [0, -1]], [[0, 0]] * 4, [[2, 2], [0, 2], [-2, -1], [1, 0]]]
    corners = start + torch.tensor(inwards)
    image = smooth(3, size)
    draws = Draws(
        box_B4=torch.tensor(boxes), flip_B=torch.tensor(flips), angle_B=torch.tensor(angles), corner_B42=corners
    )

    def chain(single, argument):
        box, flip, angle, end = argument
        single = reference.resized_crop(single, *box, size=list(size))
        single = reference.horizontal_flip(single) if flip else single
        return reference.perspective(reference.rotate(single, angle, BILINEAR), start.tolist(), end, BILINEAR)

    changed, arguments = warp(image, draws), list(zip(boxes, flips, angles, corners.tolist(), strict=True))
    for single, result, argument in zip(image, changed, arguments, strict=True):
        gap = (result - chain(single, argument)).abs()
        # at a black edge the chain blends over more than the one pixel that is blended here
        assert gap.median() < 1e-3
        assert gap.mean() < 5e-3
        assert (gap > 0.02).float().mean() < 0.06
    # and where nothing was tilted the only black edge is the rotation's
    torch.testing.assert_close(changed[1], chain(image[1], arguments[1]), rtol=0, atol=5e-3)


def test_the_original_is_left_alone():
    image = noise(2, (12, 12))
    before = image.clone()
    warp(image, Draws(angle_B=torch.tensor([20.0, -20.0]), flip_B=torch.tensor([True, True])))
    crop_and_flip(image, padding=2, shift_B2=torch.tensor([[0, 1], [4, 4]]), flip_B=torch.tensor([True, False]))
    torch.testing.assert_close(image, before, rtol=0, atol=0)

"""From stored bytes to what a network sees. Run alone: pytest tests/unit/augment/test_batched.py."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torchvision.transforms.v2 import functional as reference

from pretext.augment import AUGMENTATIONS, Augmentation, Draws, apply_draws, augment_batch, draw


def stored(count=6, height=32, width=32):
    generator = torch.Generator().manual_seed(0)
    return torch.randint(256, (count, height, width, 3), generator=generator, dtype=torch.uint8)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("preset", AUGMENTATIONS)
@pytest.mark.parametrize("size", [(32, 32), (20, 28), (1, 1)])
def test_contract(preset, size):
    image = stored(5, *size)
    before = image.clone()
    result = augment_batch(image, preset, seeded())
    assert result.shape == (5, 3, *size)
    assert result.dtype == torch.float32
    assert result.is_contiguous(memory_format=torch.channels_last)
    assert result.min() >= 0
    assert result.max() <= 1
    assert torch.equal(image, before)


def test_none_is_exactly_a_255th():
    image = stored()
    expected = image.numpy().astype(np.float32).transpose(0, 3, 1, 2) / np.float32(255)
    np.testing.assert_array_equal(augment_batch(image, "none").numpy(), expected)


def test_none_takes_half_precision_as_it_is():
    image = torch.rand(3, 8, 8, 3, generator=seeded()).half()
    result = augment_batch(image, "none")
    assert torch.equal(result, image.permute(0, 3, 1, 2).float())
    assert result.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float16])
def test_flip_mirrors_some_images_and_does_nothing_else(dtype):
    image = stored(64, 8, 8) if dtype == torch.uint8 else torch.rand(64, 8, 8, 3, generator=seeded()).half()
    plain = augment_batch(image, "none")
    result = augment_batch(image, "flip", seeded(3))
    draws = draw(AUGMENTATIONS["flip"], 64, 8, 8, seeded(3))
    assert torch.equal(result, torch.where(draws.flip_B[:, None, None, None], plain.flip(3), plain))
    assert 20 < draws.flip_B.sum() < 44


@pytest.mark.parametrize("preset", ["flip", "small", "strong"])
def test_the_seed_decides_every_bit(preset):
    image = stored()
    first, again, other = (augment_batch(image, preset, seeded(seed)) for seed in (7, 7, 8))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("preset", ["small", "strong"])
def test_global_random_state_has_no_say(preset):
    image = stored()
    torch.manual_seed(0)
    state = torch.get_rng_state()
    first = augment_batch(image, preset, seeded())
    assert torch.equal(state, torch.get_rng_state())
    torch.manual_seed(1)
    assert torch.equal(first, augment_batch(image, preset, seeded()))


@pytest.mark.parametrize("preset", ["small", "strong"])
def test_images_of_a_batch_differ_in_their_changes(preset):
    image = stored(1).expand(8, -1, -1, -1)
    result = augment_batch(image, preset, seeded())
    assert len({row.numpy().tobytes() for row in result}) == 8


@pytest.mark.parametrize("preset", ["small", "strong"])
def test_an_image_is_changed_without_regard_to_its_neighbours(preset):
    augmentation, image = AUGMENTATIONS[preset], stored()
    other = image.clone()
    other[1:] = 255 - other[1:]
    draws = draw(augmentation, 6, 32, 32, seeded())
    alone, among = (apply_draws(batch, augmentation, draws)[0] for batch in (image, other))
    torch.testing.assert_close(alone, among, rtol=0, atol=1e-6)


def test_small_is_the_library_s_chain():
    image, augmentation = stored(), AUGMENTATIONS["small"]
    draws = draw(augmentation, len(image), 32, 32, seeded(2))
    result = apply_draws(image, augmentation, draws)
    for index, single in enumerate(image.permute(0, 3, 1, 2).float() / 255):
        for name, factor in draws.colour:
            single = getattr(reference, f"adjust_{name}")(single, factor[index].item())
        top, left = draws.shift_B2[index].tolist()
        single = reference.crop(reference.pad(single, [4, 4, 4, 4]), top, left, 32, 32)
        single = reference.horizontal_flip(single) if draws.flip_B[index] else single
        torch.testing.assert_close(result[index], single, rtol=0, atol=2e-6)


def test_strong_colour_then_crop_is_the_library_s_chain():
    options = {"brightness": 0.2, "contrast": 0.1, "saturation": 0.05, "hue": 0.05, "flip_probability": 0.5}
    augmentation = Augmentation(crop_scale=(0.5, 1.0), **options)
    image = stored()
    draws = draw(augmentation, len(image), 32, 32, seeded(5))
    result = apply_draws(image, augmentation, draws)
    for index, single in enumerate(image.permute(0, 3, 1, 2).float() / 255):
        for name, factor in draws.colour:
            single = getattr(reference, f"adjust_{name}")(single, factor[index].item())
        single = reference.resized_crop(single, *draws.box_B4[index].tolist(), size=[32, 32])
        single = reference.horizontal_flip(single) if draws.flip_B[index] else single
        torch.testing.assert_close(result[index], single, rtol=0, atol=5e-5)


def test_colour_alone_moves_nothing():
    image = stored()
    draws = Draws(colour=(("brightness", torch.full((6,), 0.5)),))
    result = apply_draws(image, Augmentation(brightness=0.5), draws)
    torch.testing.assert_close(result, image.permute(0, 3, 1, 2) / 510, rtol=0, atol=1e-6)


def test_the_middle_of_a_grey_picture_stays_grey_and_its_corners_turn_black():
    image = torch.full((16, 48, 48, 3), 128, dtype=torch.uint8)
    geometry = Augmentation(
        crop_scale=(0.8, 1.0), rotation_degrees=10, perspective_distortion=0.1, perspective_probability=1.0
    )
    result = augment_batch(image, geometry, seeded())
    torch.testing.assert_close(result[..., 12:-12, 12:-12], torch.full((16, 3, 24, 24), 128 / 255))
    assert (result == 0).any()


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (torch.zeros(2, 8, 8, 3), r"uint8 or float16 \(B, H, W, 3\), got torch.float32 \(2, 8, 8, 3\)"),
        (torch.zeros(2, 3, 8, 8, dtype=torch.uint8), r"float16 \(B, H, W, 3\), got torch.uint8 \(2, 3, 8, 8\)"),
        (torch.zeros(8, 8, 3, dtype=torch.uint8), r"got torch.uint8 \(8, 8, 3\)"),
    ],
)
def test_only_stored_images(image, message):
    with pytest.raises(ValueError, match=message):
        augment_batch(image, "none")


@pytest.mark.parametrize("preset", ["small", "strong"])
def test_colours_are_changed_in_stored_srgb_only(preset):
    with pytest.raises(ValueError, match=r"image must be uint8 \(B, H, W, 3\), got torch.float16 \(2, 8, 8, 3\)"):
        augment_batch(torch.zeros(2, 8, 8, 3, dtype=torch.float16), preset, seeded())


def test_random_changes_need_a_generator():
    with pytest.raises(ValueError, match="generator must be given for a random augmentation, got None"):
        augment_batch(stored(), "small")


def test_unknown_preset():
    with pytest.raises(ValueError, match="got 'huge'"):
        augment_batch(stored(), "huge", seeded())

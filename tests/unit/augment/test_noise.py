"""Corruptions against their closed forms."""

import pytest
import torch

from pretext.augment import NOISES, corrupt


def images(dtype=torch.float32, share_of_ends=0.0):
    generator = torch.Generator().manual_seed(0)
    image01 = torch.rand(8, 3, 48, 48, generator=generator).clamp(0.01, 0.99)
    ends = torch.rand(image01.shape, generator=generator) < share_of_ends
    return torch.where(ends, (image01 > 0.5).float(), image01).to(dtype)


def noisy(image01, noise, level, seed=1):
    return corrupt(image01, noise, level, torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("noise", NOISES)
def test_level_zero_is_the_identity(noise):
    image01 = images()
    assert torch.equal(noisy(image01, noise, 0.0), image01)


@pytest.mark.parametrize("noise", NOISES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_same_seed_same_bits_same_kind_and_the_input_stays(noise, dtype):
    image01 = images(dtype).contiguous(memory_format=torch.channels_last)
    before = image01.clone()
    one, two = noisy(image01, noise, 0.3), noisy(image01, noise, 0.3)
    assert torch.equal(one, two)
    assert not torch.equal(one, noisy(image01, noise, 0.3, seed=2))
    assert torch.equal(image01, before)
    assert (one.dtype, one.shape, one.stride()) == (image01.dtype, image01.shape, image01.stride())
    assert one.min() >= 0
    assert one.max() <= 1


@pytest.mark.parametrize("level", [0.05, 0.2, 0.5, 1.0])
@pytest.mark.parametrize("share_of_ends", [0.0, 0.4])
def test_salt_and_pepper_changes_the_expected_share(level, share_of_ends):
    image01 = images(share_of_ends=share_of_ends)
    share_0, share_1 = (image01 == 0).float().mean(), (image01 == 1).float().mean()
    expected = level / 2 * ((1 - share_0) + (1 - share_1))
    changed = (noisy(image01, "salt-pepper", level) != image01).float().mean()
    assert changed == pytest.approx(float(expected), abs=0.005)


@pytest.mark.parametrize("level", [0.05, 0.5, 1.0])
def test_masking_blacks_the_stated_share_and_leaves_the_rest(level):
    image01 = images()
    masked = noisy(image01, "masking", level)
    assert (masked == 0).float().mean() == pytest.approx(level, abs=0.005)
    assert torch.equal(masked[masked != 0], image01[masked != 0])


def test_channels_are_hit_separately():
    hit = noisy(images(), "masking", 0.5) == 0
    assert (hit.all(1)).float().mean() == pytest.approx(0.125, abs=0.01)


def test_gaussian_noise_has_the_stated_deviation():
    grey = torch.full((4, 3, 64, 64), 0.5)
    difference = noisy(grey, "gaussian", 0.05) - grey
    assert float(difference.std()) == pytest.approx(0.05, rel=0.02)
    assert float(difference.mean()) == pytest.approx(0, abs=1e-3)


@pytest.mark.parametrize(
    ("noise", "level", "text"),
    [("pepper", 0.1, "'pepper'"), ("masking", 1.5, r"0\.\.1, got 1\.5"), ("gaussian", -0.1, r"0\.\.1, got -0\.1")],
)
def test_bad_arguments(noise, level, text):
    with pytest.raises(ValueError, match=text):
        noisy(images(), noise, level)

"""Classes of colours, annealed means and weights. Run alone: pytest tests/unit/color/test_quantize.py."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from pretext.color import (
    Quantizer,
    build_lab,
    build_lab_313,
    build_lab_gamut,
    build_lab_rescaled,
    build_lab_rescaled_all,
    build_rgb,
    marginal_entropy,
    rebalance_weights,
    soft_code,
)
from pretext.color.bins import Bins

BUILDERS = [build_rgb, build_lab, build_lab_rescaled, build_lab_rescaled_all, build_lab_313, build_lab_gamut]
FIXED = [build_rgb, build_lab, build_lab_313, build_lab_gamut]
RESCALED = [build_lab_rescaled, build_lab_rescaled_all]
all_spaces = pytest.mark.parametrize("build", BUILDERS, ids=lambda f: f.__name__)
fixed_spaces = pytest.mark.parametrize("build", FIXED, ids=lambda f: f.__name__)
rescaled_spaces = pytest.mark.parametrize("build", RESCALED, ids=lambda f: f.__name__)


def a_map(quantizer, count=5, side=12, dtype=torch.float32):
    """Colours all over the space, not all of them real."""
    share = torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(0), dtype=dtype)
    if quantizer.image_space == "rgb":
        return share
    low, span = torch.tensor([0.0, -87, -108]).view(3, 1, 1), torch.tensor([100.0, 186, 203]).view(3, 1, 1)
    return low.to(dtype) + span.to(dtype) * share


@all_spaces
def test_contract(build):
    quantizer = build()
    image = a_map(quantizer)
    before = image.clone()
    bins, ranges = quantizer.encode(image), quantizer.ranges(image)
    assert bins.shape == (5, 2, 12, 12)
    assert bins.dtype == torch.int16
    assert ranges.shape == (5, 3, 2)
    assert ranges.dtype == torch.float32
    assert torch.equal(image, before)
    decoded = quantizer.decode(bins, ranges)
    assert decoded.shape == image.shape
    assert decoded.dtype == torch.float32
    for group, count in enumerate(quantizer.num_bins):
        assert bins[:, group].min() >= 0
        assert bins[:, group].max() < count
    doubled = quantizer.encode(image.double())
    assert (doubled == bins).double().mean() > 0.999


@all_spaces
def test_short_floats_and_graphs(build):
    quantizer = build()
    image = a_map(quantizer).half()
    bins = quantizer.encode(image.float())
    assert torch.equal(quantizer.encode(image), bins)
    recorded = image.float().requires_grad_()
    assert torch.equal(quantizer.encode(recorded), bins)
    assert not quantizer.ranges(recorded).requires_grad


@fixed_spaces
def test_a_decoded_map_is_encoded_to_the_same_bins(build):
    quantizer = build()
    bins = quantizer.encode(a_map(quantizer))
    assert torch.equal(quantizer.encode(quantizer.decode(bins)), bins)


@fixed_spaces
def test_every_class_survives(build):
    quantizer = build()
    most = max(quantizer.num_bins)
    bins = torch.stack([torch.arange(most) % count for count in quantizer.num_bins]).view(1, 2, 1, most)
    decoded = quantizer.decode(bins)
    assert torch.equal(quantizer.encode(decoded).long(), bins)
    for group, count in enumerate(quantizer.num_bins):
        own = decoded[0, quantizer.channels(group), 0, :count].T
        torch.testing.assert_close(own, quantizer.centres(group))


@all_spaces
def test_rounding_error_is_at_most_half_a_cell(build):
    quantizer = build()
    image = a_map(quantizer)
    ranges = quantizer.ranges(image)
    error = (quantizer.decode(quantizer.encode(image), ranges) - image).abs()
    for group, code in enumerate(quantizer.codes):
        if not isinstance(code, Bins):
            continue
        counts = torch.tensor(code.counts)
        half = (ranges[:, quantizer.channels(group), 1] - ranges[:, quantizer.channels(group), 0]) / (2 * counts)
        part = error[:, quantizer.channels(group)]
        assert (part <= half[:, :, None, None] * (1 + 1e-4)).all()
        assert part.max() > 0.95 * half.max()
        diagonal = half.square().sum(1).sqrt()
        assert (part.square().sum(1).sqrt() <= diagonal[:, None, None] * (1 + 1e-4)).all()


def test_half_cells_of_the_fixed_spaces():
    image = a_map(build_lab())
    lightness, a, b = (build_lab().decode(build_lab().encode(image)) - image).abs().unbind(1)
    assert lightness.max() <= 0.505 + 1e-4
    assert (a**2 + b**2).sqrt().max() <= math.hypot(18.6, 20.3) / 2 + 1e-3
    coarse = (build_lab_313().decode(build_lab_313().encode(image)) - image).abs()[:, 0]
    assert coarse.max() <= 1 + 1e-4


@pytest.mark.parametrize("build", [build_lab_rescaled, build_lab_rescaled_all])
def test_rescaled_bins_by_a_slow_loop(build):
    quantizer = build()
    image = a_map(quantizer, side=6, dtype=torch.float64)
    expected = np.zeros((5, 2, 6, 6), dtype=int)
    for index, (lightness, a, b) in enumerate(image.numpy()):
        edges = np.linspace(0, 101, 101)
        if build is build_lab_rescaled_all:
            edges = np.linspace(lightness.min(), lightness.max() + 1, 101)
        expected[index, 0] = np.digitize(lightness, edges) - 1
        steps = [np.digitize(value, np.linspace(value.min(), value.max() + 1, 11)) - 1 for value in (a, b)]
        expected[index, 1] = 10 * steps[0] + steps[1]
    np.testing.assert_array_equal(quantizer.encode(image).numpy(), expected)


def test_ranges():
    image = a_map(build_lab())
    least, most = image.amin((2, 3)), image.amax((2, 3)) + 1
    fixed = torch.tensor([[0.0, 101], [-87, 99], [-108, 95]]).expand(5, 3, 2)
    assert torch.equal(build_lab().ranges(image), fixed)
    assert torch.equal(build_lab_rescaled_all().ranges(image), torch.stack((least, most), dim=2))
    mixed = build_lab_rescaled().ranges(image)
    assert torch.equal(mixed[:, 0], fixed[:, 0])
    assert torch.equal(mixed[:, 1:], torch.stack((least, most), dim=2)[:, 1:])
    assert build_lab_313().ranges(image)[0].tolist() == [[0, 100], [-90, 100], [-110, 100]]
    assert build_rgb().ranges(image)[0].flatten().tolist() == pytest.approx([0, 1.01] * 3)


@rescaled_spaces
def test_an_image_is_rescaled_by_its_own_range_only(build):
    image = a_map(build())
    bins = build().encode(image)
    alone = torch.cat([build().encode(one[None]) for one in image])
    assert torch.equal(bins, alone)


@settings(max_examples=50, deadline=None)
@given(st.floats(0.01, 50), st.floats(-300, 300), st.integers(0, 1000))
def test_rescaled_bins_ignore_a_shift_and_a_scale_up_to_the_plus_one(scale, shift, seed):
    generator = torch.Generator().manual_seed(seed)
    image = 80 * torch.rand(1, 3, 5, 5, generator=generator, dtype=torch.float64)
    bins = build_lab_rescaled().encode(scale * image + shift)[0, 1]
    least, most = image.amin((2, 3), keepdim=True), image.amax((2, 3), keepdim=True)
    # a scale acts like another number in the place of the 1
    share = 10 * (image - least) / (most - least + 1 / scale)
    assume(((share - share.round()).abs() < 1e-4).sum() == 3)  # the minimum of each channel, and no other value
    a, b = share[0, 1:].clamp_min(0).floor()
    assert torch.equal(bins.double(), 10 * a + b)


@all_spaces
@pytest.mark.parametrize("value", [0.0, 0.5, 1.0, 99.99])
def test_flat_maps(build, value):
    quantizer = build()
    image = torch.full((2, 3, 4, 4), value)
    bins = quantizer.encode(image)
    decoded = quantizer.decode(bins, quantizer.ranges(image))
    assert decoded.isfinite().all()
    for group, code in enumerate(quantizer.codes):
        assert len(bins[:, group].unique()) == 1
        if code.spans is None:
            assert bins[0, group, 0, 0] == 0
            assert (decoded - image)[:, quantizer.channels(group)].abs().max() <= 0.0501 + 1e-5


@all_spaces
def test_one_constant_channel(build):
    quantizer = build()
    for channel in range(3):
        image = a_map(quantizer)
        image[:, channel] = 0.5
        bins = quantizer.encode(image)
        assert bins.min() >= 0
        assert quantizer.decode(bins, quantizer.ranges(image)).isfinite().all()


@all_spaces
def test_values_far_outside_reach_no_class_that_is_not_there(build):
    quantizer = build()
    image = 1e4 * torch.randn(3, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    bins = quantizer.encode(image)
    assert bins.min() >= 0
    assert all(bins[:, group].max() < count for group, count in enumerate(quantizer.num_bins))


@all_spaces
def test_an_empty_batch(build):
    quantizer = build()
    image = torch.zeros(0, 3, 4, 4)
    assert quantizer.encode(image).shape == (0, 2, 4, 4)
    assert quantizer.decode(quantizer.encode(image), quantizer.ranges(image)).shape == image.shape


@all_spaces
@pytest.mark.parametrize("group", [0, 1])
def test_annealed_mean_between_mean_and_mode(build, group):
    quantizer = build()
    image = a_map(quantizer)
    ranges = quantizer.ranges(image)
    generator = torch.Generator().manual_seed(1)
    logit = 2 * torch.randn(5, quantizer.num_bins[group], 12, 12, generator=generator)
    expect = {t: quantizer.expect(logit, group, temperature=t, range_BC2=ranges) for t in (1, 0.38, 1e-6, 1e-30, 0)}
    channels = quantizer.channels(group)

    best = torch.zeros(5, 2, 12, 12, dtype=torch.int64)
    best[:, group] = logit.argmax(1)
    mode = quantizer.decode(best, ranges)[:, channels]
    assert torch.equal(expect[0], mode)
    for cold in (1e-6, 1e-30):
        torch.testing.assert_close(expect[cold], mode, rtol=1e-5, atol=1e-3)

    chance = logit.softmax(1)
    mean = torch.zeros_like(mode)
    for index in range(quantizer.num_bins[group]):
        one = torch.zeros(5, 2, 12, 12, dtype=torch.int64)
        one[:, group] = index
        mean += chance[:, index, None] * quantizer.decode(one, ranges)[:, channels]
    torch.testing.assert_close(expect[1], mean, rtol=1e-4, atol=1e-3)
    nearer = (expect[0.38] - mode).square().mean()
    assert 0 < nearer < (expect[1] - mode).square().mean()


def test_equal_logits_have_the_middle_as_mean_and_the_first_as_mode():
    quantizer = build_lab()
    logit = torch.zeros(1, 100, 1, 1)
    assert quantizer.expect(logit, 1, temperature=1).flatten().tolist() == pytest.approx([6, -6.5], abs=1e-4)
    assert quantizer.expect(logit, 1, temperature=0).flatten().tolist() == pytest.approx([-77.7, -97.85])
    assert quantizer.expect(logit, 0, temperature=1).item() == pytest.approx(50.5, abs=1e-4)


def test_expect_keeps_precision_and_gradients():
    quantizer = build_lab_313()
    logit = torch.randn(1, 313, 2, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert quantizer.expect(logit, 1, temperature=0.38).dtype == torch.float64
    assert quantizer.expect(logit.half(), 1, temperature=0.38).dtype == torch.float32
    logit = logit[:, :, :1, :1].clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda value: quantizer.expect(value, 1, temperature=0.38), (logit,))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast = quantizer.expect(logit.detach().float(), 1, temperature=1)
    torch.testing.assert_close(cast, quantizer.expect(logit.detach().float(), 1, temperature=1))


@all_spaces
def test_facts_are_json_and_say_what_a_class_is(build):
    quantizer = build()
    facts = json.loads(json.dumps(quantizer.facts()))
    assert facts["name"] == quantizer.name
    assert facts["version"] == 1
    assert facts["groups"] == list(quantizer.groups)
    assert facts["num_bins"] == list(quantizer.num_bins)
    assert facts["per_image"] is quantizer.per_image
    for letters, count, code in zip(facts["groups"], facts["num_bins"], facts["codes"], strict=True):
        edges = code.get("edges") or code.get("edges_of_span")
        if edges is None:
            assert len(code["points"]) == count
        else:
            assert list(edges) == list(letters)
            assert math.prod(len(edge) - 1 for edge in edges.values()) == count


def test_quantizers_are_values():
    assert build_lab() == build_lab()
    assert hash(build_lab_313()) == hash(build_lab_313())
    assert build_lab() != build_lab_rescaled()
    with pytest.raises(AttributeError):
        build_lab().name = "other"


def test_refuses_other_groups():
    with pytest.raises(ValueError, match=r"groups must spell Lab, got \('R', 'GB'\)"):
        Quantizer("wrong", 1, "lab", ("R", "GB"), build_rgb().codes)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (torch.zeros(3, 4, 4), r"map must be a float \(B, 3, H, W\) with a pixel in it, got torch.float32 \(3, 4, 4\)"),
        (torch.zeros(1, 4, 4, 3), r"got torch.float32 \(1, 4, 4, 3\)"),
        (torch.zeros(1, 3, 4, 4, dtype=torch.uint8), r"got torch.uint8 \(1, 3, 4, 4\)"),
        (torch.zeros(1, 3, 0, 4), r"got torch.float32 \(1, 3, 0, 4\)"),
    ],
)
def test_refuses_other_maps(image, message):
    for build in BUILDERS:
        with pytest.raises(ValueError, match=message):
            build().encode(image)
        with pytest.raises(ValueError, match=message):
            build().ranges(image)


def test_refuses_other_bins():
    bins = build_lab().encode(a_map(build_lab()))
    with pytest.raises(ValueError, match=r"bins must be integers \(B, 2, H, W\), got torch.float32 \(5, 2, 12, 12\)"):
        build_lab().decode(bins.float())
    with pytest.raises(ValueError, match=r"got torch.int16 \(5, 1, 12, 12\)"):
        build_lab().decode(bins[:, :1])
    with pytest.raises((IndexError, RuntimeError), match="out of range"):
        build_lab().decode(bins + 200)
    with pytest.raises(ValueError, match=r"ranges must be \(5, 3, 2\) to decode lab-rescaled, got None"):
        build_lab_rescaled().decode(bins)
    with pytest.raises(ValueError, match=r"ranges must be \(5, 3, 2\) to decode lab-rescaled, got \(1, 3, 2\)"):
        build_lab_rescaled().decode(bins, torch.zeros(1, 3, 2))


def test_refuses_other_logits():
    logit = torch.zeros(1, 100, 2, 2)
    with pytest.raises(ValueError, match=r"logits must be \(B, 313, H, W\), got \(1, 100, 2, 2\)"):
        build_lab_313().expect(logit, 1, temperature=1)
    with pytest.raises(ValueError, match="temperature must be >= 0, got -0.5"):
        build_lab().expect(logit, 1, temperature=-0.5)
    with pytest.raises(ValueError, match="temperature must be >= 0, got nan"):
        build_lab().expect(logit, 1, temperature=math.nan)
    with pytest.raises(ValueError, match=r"ranges must be \(1, 3, 2\) to decode lab-rescaled, got None"):
        build_lab_rescaled().expect(logit, 1, temperature=1)
    with pytest.raises(ValueError, match="group must have fixed bins, got 1 of lab-rescaled"):
        build_lab_rescaled().centres(1)


def test_marginal_entropy():
    assert marginal_entropy([5] * 313) == pytest.approx(math.log(313), abs=1e-12)
    assert marginal_entropy(torch.tensor([0, 7, 0])) == 0
    assert marginal_entropy(np.array([1, 3])) == pytest.approx(0.25 * math.log(4) + 0.75 * math.log(4 / 3))


counts = st.lists(st.integers(0, 10**6), min_size=1, max_size=40).filter(any)


@settings(max_examples=60, deadline=None)
@given(counts, st.floats(0, 1))
def test_rebalance_weights(count, uniform_share):
    share = np.array(count) / sum(count)
    weight = rebalance_weights(count, uniform_share).double().numpy()
    assert share @ weight == pytest.approx(1, abs=1e-5)
    assert (weight > 0).all()
    seen = share > 0
    plain = 1 / ((1 - uniform_share) * share[seen] + uniform_share / seen.sum())
    np.testing.assert_allclose(weight[seen] / weight[seen][0], plain / plain[0], rtol=1e-5)
    assert (weight[~seen] == weight.max()).all()
    np.testing.assert_allclose(rebalance_weights(count, 1).numpy(), 1, rtol=1e-6)


def test_without_a_uniform_share_all_classes_weigh_the_same():
    count = torch.tensor([1, 10, 989])
    weight = rebalance_weights(count, 0)
    torch.testing.assert_close(weight * count / 1000, torch.full((3,), 1 / 3))
    assert weight.dtype == torch.float32


@pytest.mark.parametrize("count", [[0, 0], [-1, 2], [math.inf, 1], [math.nan, 1]])
def test_refuses_other_counts(count):
    with pytest.raises(ValueError, match=r"counts must be \(K,\), >= 0, finite and not all 0, got \["):
        marginal_entropy(count)
    with pytest.raises(ValueError, match="not all 0"):
        rebalance_weights(count, 0.5)


def test_refuses_tables_of_counts_and_other_shares():
    with pytest.raises(ValueError, match=r"got \[\[1.0, 2.0\]\]"):
        marginal_entropy([[1, 2]])
    for share in (-0.1, 1.1, math.nan):
        with pytest.raises(ValueError, match=f"uniform_share must be in 0..1, got {share}"):
            rebalance_weights([1, 2], share)


@pytest.mark.parametrize("neighbours", [1, 5, 10, 313])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_soft_code_by_a_slow_loop(neighbours, dtype):
    points = build_lab_313().centres(1)
    generator = torch.Generator().manual_seed(0)
    ab = (150 * torch.rand(40, 2, generator=generator, dtype=torch.float64) - 75).to(dtype)
    weight = soft_code(ab, points, neighbours=neighbours)
    assert weight.dtype == dtype
    torch.testing.assert_close(weight.sum(1), torch.ones(40, dtype=dtype))
    for row, colour in zip(weight.double().numpy(), ab.double().numpy(), strict=True):
        squared = ((points.double().numpy() - colour) ** 2).sum(1)
        nearest = np.argsort(squared)[:neighbours]
        expected = np.zeros(313)
        expected[nearest] = np.exp(-squared[nearest] / 50)
        np.testing.assert_allclose(
            row, expected / expected.sum(), rtol=0, atol=1e-4 if dtype == torch.float32 else 1e-9
        )


def test_soft_code_of_a_point_and_of_a_colour_far_from_all():
    points = build_lab_313().centres(1)
    weight = soft_code(torch.stack((points[150], torch.tensor([1e4, 0.0]))), points)
    assert weight[0].argmax() == 150
    assert (weight > 0).sum(1).max() <= 5
    assert weight.isfinite().all()
    assert weight[1].sum() == pytest.approx(1)
    narrow = soft_code(points, points, sigma=0.5)
    torch.testing.assert_close(narrow, torch.eye(313))


def test_soft_code_refuses():
    points = build_lab_313().centres(1)
    with pytest.raises(ValueError, match=r"ab must have two columns, got shape \(4, 3\)"):
        soft_code(torch.zeros(4, 3), points)
    with pytest.raises(ValueError, match=r"points must have two columns, got shape \(313,\)"):
        soft_code(torch.zeros(4, 2), points[:, 0])
    for neighbours in (0, 314):
        with pytest.raises(ValueError, match=f"neighbours must be in 1..313, got {neighbours}"):
            soft_code(torch.zeros(4, 2), points, neighbours=neighbours)
    with pytest.raises(ValueError, match="sigma must be > 0, got 0"):
        soft_code(torch.zeros(4, 2), points, sigma=0)

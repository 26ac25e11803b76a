"""Images in Lab and as bins, against scikit-image and plain numpy."""

import numpy as np
import pytest
import torch
from skimage.color import rgb2lab
from skimage.transform import resize

from pretext.catalog import LAB_SPACES
from pretext.color import LAB_LOW, LAB_SPAN
from pretext.color.spaces import (
    build_lab,
    build_lab_313,
    build_lab_gamut,
    build_lab_rescaled,
    build_lab_rescaled_all,
    build_rgb,
)
from pretext.datasets import color_blocks as module
from pretext.datasets.color_blocks import Converter, Wanted, merge

LOW, SPAN = np.array(LAB_LOW), np.array(LAB_SPAN)
EVERY_SPACE = [
    build_rgb(),
    build_lab(),
    build_lab_rescaled(),
    build_lab_rescaled_all(),
    build_lab_313(),
    build_lab_gamut(),
]


@pytest.fixture(scope="module")
def image_NHWC():
    """Seven smooth images of 24 px with strong colours, and some noise."""
    generator = np.random.default_rng(0)
    row_HW, column_HW = np.mgrid[0:24, 0:24] / 23
    slope_N2 = generator.uniform(-4, 4, (7, 2, 1, 1, 3))
    image = 0.5 + 0.5 * np.sin(slope_N2[:, 0] * row_HW[..., None] + slope_N2[:, 1] * column_HW[..., None])
    noisy = 255 * image + generator.normal(0, 8, image.shape)
    return noisy.clip(0, 255).round().astype(np.uint8)


def small_maps(image_NHWC, size, border, *, lab):
    """The images made small by scikit-image, channels second."""
    mode = {"reflect": "reflect", "zero": "constant"}[border]
    values = rgb2lab(image_NHWC) if lab else image_NHWC / 255
    small = [
        resize(value, (size, size), order=1, mode=mode, anti_aliasing=True, preserve_range=True) for value in values
    ]
    return np.stack(small).transpose(0, 3, 1, 2)


def bins_by_hand(value, edges):
    """The bin of each value between these edges, and whether it is clear of any edge."""
    found = np.clip(np.digitize(value, edges) - 1, 0, len(edges) - 2)
    clear = np.abs(value[..., None] - edges).min(-1) > 1e-3 * (edges[1] - edges[0])
    return found, clear


class TestLab:
    @pytest.mark.parametrize("at_once", [1, 24 * 24 * 3, 1 << 17])
    def test_codes_are_scikit_images_lab_to_half_a_step(self, image_NHWC, monkeypatch, at_once):
        monkeypatch.setattr(module, "PIXELS_AT_ONCE", at_once)
        ((code, _),) = Converter(Wanted("uint8", {}, 1, "reflect"))(image_NHWC).values()
        assert (code.dtype, code.shape) == (np.uint8, image_NHWC.shape)
        off = np.abs(rgb2lab(image_NHWC) - (LOW + SPAN * (code / 255.0)))
        assert (off.max((0, 1, 2)) <= 0.5 * SPAN / 255 + 1e-3).all()

    def test_halves_are_the_network_input(self, image_NHWC):
        ((unit, facts),) = Converter(Wanted("float16", {}, 1, "reflect"))(image_NHWC).values()
        assert (unit.dtype, unit.shape) == (np.float16, image_NHWC.shape)
        np.testing.assert_allclose(unit.astype(float), (rgb2lab(image_NHWC) - LOW) / SPAN, atol=3e-4)
        assert (facts["error_max"] < 2.0**-11 * SPAN).all()

    def test_the_error_of_the_code_is_measured(self, image_NHWC):
        ((code, facts),) = Converter(Wanted("uint8", {}, 1, "reflect"))(image_NHWC).values()
        off = np.abs(rgb2lab(image_NHWC) - (LOW + SPAN * (code / 255.0)))
        assert facts["measured"] == 7 * 24 * 24
        np.testing.assert_allclose(facts["error"] / facts["measured"], off.mean((0, 1, 2)), atol=1e-4)
        np.testing.assert_allclose(facts["error_max"], off.max((0, 1, 2)), atol=1e-3)

    def test_every_corner_of_srgb_has_a_code(self):
        corner_N3 = np.array(np.meshgrid([0, 255], [0, 255], [0, 255])).reshape(3, 8).T.astype(np.uint8)
        image_NHWC = np.broadcast_to(corner_N3[:, None, None], (8, 8, 8, 3))
        ((code, facts),) = Converter(Wanted("uint8", {}, 1, "reflect"))(image_NHWC).values()
        off = np.abs(rgb2lab(image_NHWC) - (LOW + SPAN * (code / 255.0)))
        assert (off.max((0, 1, 2)) <= 0.5 * SPAN / 255 + 1e-3).all(), "no colour lies outside the scale"
        assert (facts["error_max"] <= 0.5 * SPAN / 255 + 1e-3).all()


class TestTargets:
    @pytest.mark.parametrize("border", ["reflect", "zero"])
    @pytest.mark.parametrize("size", [6, 5, 24])
    def test_rgb_by_hand(self, image_NHWC, size, border):
        ((found, _),) = Converter(Wanted(None, {"x": build_rgb()}, size, border))(image_NHWC).values()
        assert (found.dtype, found.shape) == (np.int16, (7, 2, size, size))
        red, green, blue = small_maps(image_NHWC, size, border, lab=False).transpose(1, 0, 2, 3)
        want, clear = bins_by_hand(red, np.linspace(0, 1.01, 101))
        np.testing.assert_array_equal(found[:, 0][clear], want[clear])
        (g, clear_g), (b, clear_b) = (bins_by_hand(value, np.linspace(0, 1.01, 11)) for value in (green, blue))
        clear &= clear_g & clear_b
        np.testing.assert_array_equal(found[:, 1][clear], (10 * g + b)[clear])
        assert clear.mean() > 0.8

    @pytest.mark.parametrize("border", ["reflect", "zero"])
    def test_lab_by_hand(self, image_NHWC, border):
        ((found, _),) = Converter(Wanted(None, {"x": build_lab()}, 6, border))(image_NHWC).values()
        light, a, b = small_maps(image_NHWC, 6, border, lab=True).transpose(1, 0, 2, 3)
        want, clear = bins_by_hand(light, np.linspace(0, 101, 101))
        np.testing.assert_array_equal(found[:, 0][clear], want[clear])
        (ia, clear_a), (ib, clear_b) = (
            bins_by_hand(a, np.linspace(-87, 99, 11)),
            bins_by_hand(b, np.linspace(-108, 95, 11)),
        )
        clear = clear_a & clear_b
        np.testing.assert_array_equal(found[:, 1][clear], (10 * ia + ib)[clear])
        assert clear.mean() > 0.8

    def test_rescaled_bins_span_each_images_own_range(self, image_NHWC):
        ((found, _),) = Converter(Wanted(None, {"x": build_lab_rescaled()}, 6, "reflect"))(image_NHWC).values()
        for bins, (light, a, b) in zip(found, small_maps(image_NHWC, 6, "reflect", lab=True), strict=True):
            want, clear = bins_by_hand(light, np.linspace(0, 101, 101))
            np.testing.assert_array_equal(bins[0][clear], want[clear])
            (ia, clear_a), (ib, clear_b) = (bins_by_hand(v, np.linspace(v.min(), v.max() + 1, 11)) for v in (a, b))
            clear = clear_a & clear_b
            np.testing.assert_array_equal(bins[1][clear], (10 * ia + ib)[clear])

    @pytest.mark.parametrize("quantizer", [build_lab_313(), build_lab_gamut()], ids=lambda q: q.name)
    def test_points_are_the_nearest(self, image_NHWC, quantizer):
        ((found, _),) = Converter(Wanted(None, {"x": quantizer}, 6, "reflect"))(image_NHWC).values()
        light, a, b = small_maps(image_NHWC, 6, "reflect", lab=True).transpose(1, 0, 2, 3)
        number_K = torch.arange(quantizer.num_bins[1])
        every_bin = torch.stack([number_K % 50, number_K], 1)[..., None, None].to(torch.int16)
        point_K2 = quantizer.decode(every_bin)[:, 1:, 0, 0].numpy()
        far_NSSK = np.hypot(a[..., None] - point_K2[:, 0], b[..., None] - point_K2[:, 1])
        chosen = np.take_along_axis(far_NSSK, found[:, 1, ..., None].astype(int), -1)[..., 0]
        np.testing.assert_allclose(chosen, far_NSSK.min(-1), atol=1e-2)
        want, clear = bins_by_hand(light, np.linspace(0, 100, 51))
        np.testing.assert_array_equal(found[:, 0][clear], want[clear])

    def test_several_spaces_and_the_lab_image_come_from_one_conversion(self, image_NHWC, monkeypatch):
        converted, convert = [], module.rgb_to_lab
        monkeypatch.setattr(
            module, "rgb_to_lab", lambda image, out: converted.append(len(image)) or convert(image, out=out)
        )
        quantizers = {f"targets-{quantizer.name}": quantizer for quantizer in EVERY_SPACE}
        together = Converter(Wanted("uint8", quantizers, 6, "reflect"))(image_NHWC)
        assert sum(converted) == 7
        assert together.keys() == {"lab", *quantizers}
        for stem, quantizer in quantizers.items():
            ((alone, _),) = Converter(Wanted(None, {stem: quantizer}, 6, "reflect"))(image_NHWC).values()
            np.testing.assert_array_equal(together[stem][0], alone)

    def test_rgb_alone_converts_nothing(self, image_NHWC, monkeypatch):
        monkeypatch.setattr(module, "rgb_to_lab", None)
        assert Converter(Wanted(None, {"x": build_rgb()}, 6, "reflect"))(image_NHWC).keys() == {"x"}

    @pytest.mark.parametrize("at_once", [1, 24 * 24 * 3])
    def test_how_many_are_converted_at_once_changes_no_bin(self, image_NHWC, monkeypatch, at_once):
        quantizers = {quantizer.name: quantizer for quantizer in EVERY_SPACE if quantizer.name != "lab"}
        whole = Converter(Wanted("uint8", quantizers, 6, "reflect"))(image_NHWC)
        monkeypatch.setattr(module, "PIXELS_AT_ONCE", at_once)
        for stem, (rows, _) in Converter(Wanted("uint8", quantizers, 6, "reflect"))(image_NHWC).items():
            np.testing.assert_array_equal(rows, whole[stem][0])


class TestFacts:
    @pytest.mark.parametrize("quantizer", EVERY_SPACE, ids=lambda quantizer: quantizer.name)
    def test_counts_moments_and_errors(self, image_NHWC, quantizer):
        ((found, facts),) = Converter(Wanted(None, {"x": quantizer}, 6, "reflect"))(image_NHWC).values()
        for group in (0, 1):
            want = np.bincount(found[:, group].ravel(), minlength=quantizer.num_bins[group])
            assert facts[f"counts{group}"].tolist() == want.tolist()
        lab = quantizer.image_space == "lab"
        map_NCSS = small_maps(image_NHWC, 6, "reflect", lab=lab)
        unit_NCSS = (map_NCSS - LOW[:, None, None]) / SPAN[:, None, None] if lab else map_NCSS
        assert facts["places"] == 7 * 6 * 6
        np.testing.assert_allclose(facts["value"] / facts["places"], unit_NCSS.mean((0, 2, 3)), rtol=1e-4)
        np.testing.assert_allclose(facts["square"] / facts["places"], (unit_NCSS**2).mean((0, 2, 3)), rtol=1e-4)
        assert (facts["error"] / facts["measured"] <= facts["error_max"]).all()

    def test_the_round_trip_error_of_equal_bins_is_at_most_half_a_bin(self, image_NHWC):
        ((_, facts),) = Converter(Wanted(None, {"x": build_lab()}, 6, "reflect"))(image_NHWC).values()
        half_bin = np.array([1.01, 18.6, 20.3]) / 2
        assert (facts["error_max"] <= half_bin + 1e-3).all()
        assert (facts["error"] / facts["measured"] > 0.1 * half_bin).all()

    def test_of_parts_they_become_those_of_the_whole(self, image_NHWC):
        convert = Converter(Wanted(None, {"x": build_lab_313()}, 6, "reflect"))
        ((_, whole),) = convert(image_NHWC).values()
        parts = [
            facts for part in (image_NHWC[:3], image_NHWC[3:4], image_NHWC[4:]) for _, facts in convert(part).values()
        ]
        merged = merge([{}, *parts])
        assert merged.keys() == whole.keys()
        for name, value in whole.items():
            np.testing.assert_allclose(merged[name], value, rtol=1e-12)
        assert merge([]) == {}


@pytest.mark.parametrize("quantizer", EVERY_SPACE, ids=lambda quantizer: quantizer.name)
@pytest.mark.parametrize("kind", ["grey", "black", "white", "one colour", "constant channel"])
def test_images_without_spread_give_bins_and_numbers(quantizer, kind):
    generator = np.random.default_rng(1)
    noise_NHWC = generator.integers(0, 256, (3, 16, 16, 3), dtype=np.uint8)
    image_NHWC = {
        "grey": noise_NHWC[..., :1].repeat(3, -1), "black": np.zeros_like(noise_NHWC), "white": np.full_like(noise_NHWC, 255),
        "one colour": np.broadcast_to(np.array([30, 200, 90], np.uint8), noise_NHWC.shape),
        "constant channel": np.where(np.arange(3) == 1, np.uint8(77), noise_NHWC),
    }[kind]  # fmt: skip
    converted = Converter(Wanted("uint8", {"x": quantizer}, 4, "reflect"))(image_NHWC)
    bins, _ = converted["x"]
    for group, number in enumerate(quantizer.num_bins):
        assert 0 <= bins[:, group].min() <= bins[:, group].max() < number
    assert all(np.isfinite(value).all() for _, found in converted.values() for value in found.values())


def test_the_catalogue_knows_which_spaces_are_of_lab():
    assert tuple(quantizer.name for quantizer in EVERY_SPACE if quantizer.image_space == "lab") == LAB_SPACES

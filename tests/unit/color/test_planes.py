"""Any layout, any size, any number of dimensions. Run alone: pytest tests/unit/color/test_planes.py."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from pretext.color import (
    build_lab,
    build_lab_313,
    build_lab_rescaled_all,
    bytes_to_lab,
    downscale,
    lab_to_bytes,
    lab_to_rgb,
    lab_to_unit,
    rgb_to_lab,
    srgb_to_linear,
)
from pretext.color import planes as planes_module


def random_bytes(*shape):
    return torch.randint(256, shape, generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


def both(image):
    """The same image as bytes and as floats, in the same layout."""
    return (image, image / 255)


def interleaved(image):
    return image.contiguous(memory_format=torch.channels_last)


LAYOUTS = {
    "planar": lambda: random_bytes(4, 3, 6, 7),
    "interleaved": lambda: interleaved(random_bytes(4, 3, 6, 7)),
    "rows of a batch": lambda: interleaved(random_bytes(9, 3, 6, 7))[1:8:2],
    "window": lambda: random_bytes(4, 3, 9, 9)[:, :, 2:8, 1:8],
    "turned": lambda: random_bytes(4, 3, 7, 6).transpose(2, 3),
    "repeated": lambda: random_bytes(1, 3, 6, 7).expand(4, -1, -1, -1),
    "part of six channels": lambda: random_bytes(4, 6, 6, 7)[:, 1:4],
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("convert", [rgb_to_lab, srgb_to_linear])
def test_layout_changes_no_value(layout, convert):
    for image in both(LAYOUTS[layout]()):
        before = image.clone()
        assert torch.equal(convert(image), convert(image.contiguous()))
        assert torch.equal(image, before)


@pytest.mark.parametrize("layout", ["planar", "interleaved", "turned"])
def test_layout_is_kept(layout):
    for image in both(LAYOUTS[layout]()):
        lab = rgb_to_lab(image)
        assert lab.stride() == image.stride()
        assert lab_to_rgb(lab).stride() == image.stride()
        assert lab_to_unit(lab).stride() == image.stride()
        code = lab_to_bytes(lab)
        assert code.stride() == image.stride()
        assert bytes_to_lab(code).stride() == image.stride()


@pytest.mark.parametrize("leading", [(), (1,), (5,), (2, 3), (2, 1, 2)])
def test_any_leading_dimensions(leading):
    for image in both(random_bytes(*leading, 3, 4, 5)):
        lab = rgb_to_lab(image)
        assert lab.shape == image.shape
        expected = torch.stack([rgb_to_lab(one) for one in image.reshape(-1, 3, 4, 5)]).view(image.shape)
        torch.testing.assert_close(lab, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("shape", [(0, 3, 4, 5), (2, 3, 0, 5), (2, 3, 4, 0), (0, 2, 3, 4, 5), (3, 0, 0)])
def test_nothing_in_nothing_out(shape):
    for image in both(torch.zeros(shape, dtype=torch.uint8)):
        assert rgb_to_lab(image).shape == shape


@pytest.mark.parametrize("pixels", [1, 7, 42, 43, 100, 1000])
def test_blocks_change_no_value(pixels, monkeypatch):
    for image in both(random_bytes(5, 3, 6, 7)):
        whole = rgb_to_lab(image)
        monkeypatch.setitem(planes_module.BLOCK_PIXELS, "cpu", pixels)
        torch.testing.assert_close(rgb_to_lab(image), whole, rtol=0, atol=1e-4)
        torch.testing.assert_close(rgb_to_lab(interleaved(image)), whole, rtol=0, atol=1e-4)
        monkeypatch.undo()


def test_a_result_is_new_memory():
    image = random_bytes(2, 3, 4, 4) / 255
    first = rgb_to_lab(image)
    kept = first.clone()
    second = rgb_to_lab(1 - image)
    assert torch.equal(first, kept)
    assert first.data_ptr() != second.data_ptr()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_result_goes_where_it_is_told_in_whatever_layout(layout):
    for image in both(random_bytes(4, 3, 6, 7)):
        lab = LAYOUTS[layout]().float()
        if layout == "repeated":  # its images share one memory
            lab = lab.clone()
        assert rgb_to_lab(image, out=lab) is not None
        assert torch.equal(lab, rgb_to_lab(image))
        code = torch.zeros(lab.shape, dtype=torch.uint8).permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)
        lab_to_bytes(lab, out=code)
        assert torch.equal(code, lab_to_bytes(lab))


@pytest.mark.parametrize(
    "out", [torch.empty(1, 3, 4, 5), torch.empty(2, 3, 4, 4), torch.empty(2, 3, 4, 5, dtype=torch.float64)]
)
def test_a_place_of_another_shape_or_dtype_is_refused(out):
    with pytest.raises(ValueError, match=r"out must be torch.float32 \(2, 3, 4, 5\)"):
        rgb_to_lab(random_bytes(2, 3, 4, 5), out=out)


def test_a_place_takes_no_part_in_the_graph():
    image = torch.full((1, 3, 2, 2), 0.5, requires_grad=True)
    assert not rgb_to_lab(image, out=torch.empty(1, 3, 2, 2)).requires_grad


def test_memory_is_used_again_for_what_is_smaller_larger_or_of_other_precision():
    image = random_bytes(3, 3, 8, 8) / 255
    for dtype, tolerance in ((torch.float32, 1e-4), (torch.float64, 1e-9), (torch.float32, 1e-4)):
        for count in (1, 3, 2):
            there_and_back = lab_to_rgb(rgb_to_lab(image[:count].to(dtype)))
            torch.testing.assert_close(there_and_back, image[:count].to(dtype), rtol=0, atol=tolerance)


def test_threads_that_convert_at_once_do_not_share_memory():
    image = random_bytes(8, 3, 64, 64)
    want = [rgb_to_lab(one) for one in image]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(20):
            assert all(map(torch.equal, pool.map(rgb_to_lab, image), want))


def test_what_inference_mode_cached_serves_training():
    with torch.inference_mode():
        image = torch.zeros(1, 3, 2, 2, dtype=torch.uint8)
        rgb_to_lab(image)
    weight = torch.ones((), requires_grad=True)
    (rgb_to_lab(image.clone()) * weight).sum().backward()
    assert weight.grad.isfinite()


@pytest.mark.parametrize("recorded", [False, True])
def test_autocast_takes_no_digits(recorded):
    image = (random_bytes(1, 3, 4, 4) / 255).requires_grad_(recorded)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        lab = rgb_to_lab(image)
    assert lab.dtype == torch.float32
    assert torch.equal(lab, rgb_to_lab(image))


def test_no_graph_without_grad_mode():
    image = torch.full((1, 3, 2, 2), 0.5, requires_grad=True)
    with torch.no_grad():
        assert not rgb_to_lab(image).requires_grad


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_gives_the_same_colours_and_classes():
    image = random_bytes(4, 3, 24, 24)
    for stored in (*both(image), *both(interleaved(image))):
        lab = rgb_to_lab(stored)
        on_gpu = rgb_to_lab(stored.cuda())
        assert on_gpu.device.type == "cuda"
        assert on_gpu.stride() == stored.stride()
        torch.testing.assert_close(on_gpu.cpu(), lab, rtol=0, atol=1e-3)
        torch.testing.assert_close(lab_to_rgb(on_gpu).cpu(), lab_to_rgb(lab), rtol=0, atol=1e-4)
        assert torch.equal(lab_to_bytes(lab.cuda()).cpu(), lab_to_bytes(lab))
        small = downscale(lab.cuda(), 12)
        torch.testing.assert_close(small.cpu(), downscale(lab, 12), rtol=1e-4, atol=1e-3)
        for build in (build_lab, build_lab_rescaled_all, build_lab_313):
            bins = build().encode(2 * small)
            assert (bins.cpu() == build().encode(2 * small.cpu())).double().mean() > 0.99
            decoded = build().decode(bins, build().ranges(2 * small))
            torch.testing.assert_close(decoded.cpu(), build().decode(bins.cpu(), build().ranges(2 * small.cpu())))


@pytest.mark.parametrize("mode", [False, True])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_several_threads_give_the_bits_of_one_and_leave_their_number(mode, layout, monkeypatch):
    monkeypatch.setattr(planes_module, "BLOCK_PIXELS", {"cpu": 64})
    image = torch.rand(5, 3, 12, 20, generator=torch.Generator().manual_seed(0)).contiguous(memory_format=layout)
    before = torch.get_num_threads()
    found = {}
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            with torch.inference_mode(mode):
                found[threads] = rgb_to_lab(image)
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    assert torch.equal(found[1], found[3])
    assert found[3].is_inference() == mode

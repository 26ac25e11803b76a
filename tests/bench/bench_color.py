"""What colour costs beside scikit-image, and what holds for all 16,777,216 colours of 24 bits.

python tests/bench/bench_color.py [--json FILE] [--device cuda] [--threads 1 2]      96 x 96 images

More than one thread needs as many idle cores: threads that wait for each other gain nothing from busy ones.

Lab of every colour is compared with scikit-image, every colour is put into the bins of every colour space, and the
points of `lab-gamut` are derived anew. Then a table is printed, and the last line of stdout is one JSON document.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from scipy.spatial import cKDTree
from skimage.color import lab2rgb, rgb2lab
from skimage.transform import resize

from pretext import color
from pretext.artifacts.manifest import device_facts, versions
from pretext.color.spaces import CHROMA_BINS, GAMUT_POINTS

BATCH, BASELINE_BATCH, SIDE, TARGET = 256, 8, 96, 12
ROUNDS, WARM_UP = 31, 2
BUILDERS = (
    color.build_rgb, color.build_lab, color.build_lab_rescaled, color.build_lab_rescaled_all, color.build_lab_313,
    color.build_lab_gamut,
)  # fmt: skip


def check_all_colours(device: str) -> dict[str, object]:
    """Every 24-bit colour, one red level after the other."""
    level = torch.arange(256, dtype=torch.uint8, device=device)
    green_HW, blue_HW = torch.meshgrid(level, level, indexing="ij")
    quantizers = [build() for build in BUILDERS]
    reached = {quantizer.name: [torch.zeros(count, dtype=torch.bool) for count in quantizer.num_bins]
               for quantizer in quantizers}  # fmt: skip
    cells_1600, lows, highs = torch.zeros(1600, dtype=torch.bool), [], []
    error, round_trip, code_error = 0.0, 0.0, torch.zeros(3)
    for red in range(256):
        image_13HW = torch.stack((torch.full_like(green_HW, red), green_HW, blue_HW))[None]
        lab_13HW = color.rgb_to_lab(image_13HW)
        ours_HW3 = lab_13HW[0].permute(1, 2, 0).cpu().numpy()
        error = max(error, float(np.abs(ours_HW3 - rgb2lab(image_13HW[0].permute(1, 2, 0).cpu().numpy())).max()))
        round_trip = max(round_trip, (color.lab_to_rgb(lab_13HW) * 255 - image_13HW).abs().max().item())
        code_13HW = (color.bytes_to_lab(color.lab_to_bytes(lab_13HW)) - lab_13HW).abs()
        code_error = torch.maximum(code_error, code_13HW.amax((0, 2, 3)).cpu())
        lows.append(lab_13HW.amin((0, 2, 3)).cpu())
        highs.append(lab_13HW.amax((0, 2, 3)).cpu())
        a_HW, b_HW = (lab_13HW[0, 1:] / 10).round().long() + 20
        cells_1600 |= (40 * a_HW + b_HW).flatten().bincount(minlength=1600).cpu() > 0
        for quantizer in quantizers:
            bins_12HW = quantizer.encode(image_13HW / 255 if quantizer.image_space == "rgb" else lab_13HW)
            for group, seen_K in enumerate(reached[quantizer.name]):
                seen_K |= bins_12HW[0, group].flatten().long().bincount(minlength=len(seen_K)).cpu() > 0
    low, high = torch.stack(lows).amin(0).tolist(), torch.stack(highs).amax(0).tolist()
    counts = {name: [int(seen_K.sum()) for seen_K in groups] for name, groups in reached.items()}
    assert error <= 1e-3, error
    assert round_trip <= 0.01, round_trip
    assert np.allclose(low[1:], (-86.18303, -107.85730), rtol=0, atol=1e-4), low
    assert np.allclose(high[1:], (98.23305, 94.47812), rtol=0, atol=1e-4), high
    spans = zip(low[1:], CHROMA_BINS.spans, high[1:], strict=True)
    assert all(least > start and most < end for least, (start, end), most in spans)
    points = [[10 * (cell // 40 - 20), 10 * (cell % 40 - 20)] for cell in cells_1600.nonzero().flatten().tolist()]
    assert points == GAMUT_POINTS.centres.tolist()
    assert counts["lab"] == [100, 77], counts
    assert counts["lab-gamut"] == [50, 261], counts
    return {
        "colours": 256**3, "lab_error_against_scikit_image": error, "round_trip_error_in_levels": round_trip,
        "byte_code_error": code_error.tolist(), "lab_low": low, "lab_high": high, "bins_reached": counts,
    }  # fmt: skip


def check_nearest_points() -> None:
    quantizer = color.build_lab_313()
    ab_N2 = torch.rand(200_000, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 300 - 150
    map_13N1 = torch.cat((torch.zeros(1, 1, len(ab_N2), 1, dtype=torch.float64), ab_N2.T[None, :, :, None]), dim=1)
    _, expected_N = cKDTree(quantizer.codes[1].centres).query(ab_N2.numpy())
    assert (quantizer.encode(map_13N1)[0, 1, :, 0].numpy() == expected_N).all()


def seconds(work: Callable[[], object], device: str) -> float:
    """Of one thread its CPU time, which neighbours on the machine disturb less; else time on the wall."""
    clock = time.process_time if device == "cpu" and torch.get_num_threads() == 1 else time.perf_counter
    started = clock()
    work()
    if device == "cuda":
        torch.cuda.synchronize()
    return clock() - started


def compare(what: str, ours: Callable[[], object], baseline: Callable[[], object], device: str) -> dict[str, object]:
    """Images per second of both, and how many times faster: the median over rounds in which both took their turn.

    Beside it the same of each one's fastest round: what a machine without neighbours would show.
    """
    pairs = [(seconds(ours, device) / BATCH, seconds(baseline, device) / BASELINE_BATCH)
             for _ in range(WARM_UP + ROUNDS)][WARM_UP:]  # fmt: skip
    lower, middle, upper = statistics.quantiles([theirs / own for own, theirs in pairs], n=4)
    own_s, baseline_s = zip(*pairs, strict=True)
    row = {
        "what": what, "images_per_s": 1 / statistics.median(own_s),
        "baseline_images_per_s": 1 / statistics.median(baseline_s), "times_faster": middle,
        "times_faster_iqr": upper - lower, "best_images_per_s": 1 / min(own_s),
        "best_baseline_images_per_s": 1 / min(baseline_s), "best_times_faster": min(baseline_s) / min(own_s),
    }  # fmt: skip
    print(
        f"{what:<26} {row['images_per_s']:9,.0f} images/s {row['baseline_images_per_s']:7,.0f} plain {middle:5.1f} x "
        f"(iqr {upper - lower:.1f})   best {row['best_images_per_s']:9,.0f} {row['best_baseline_images_per_s']:7,.0f} "
        f"{row['best_times_faster']:5.1f} x",
        flush=True,
    )
    return row


def baseline_bins(lab_HW3: np.ndarray) -> np.ndarray:
    """The plain way to the bins of `lab`."""
    lightness = np.digitize(lab_HW3[..., 0], np.linspace(0, 101, 101)) - 1
    a = np.digitize(lab_HW3[..., 1], np.linspace(-87, 99, 11)) - 1
    b = np.digitize(lab_HW3[..., 2], np.linspace(-108, 95, 11)) - 1
    return np.stack((lightness, 10 * a + b))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, nargs="+", default=sorted({1, torch.get_num_threads()}))
    arguments = parser.parse_args()
    device = arguments.device
    torch.set_num_threads(1)
    exhaustive = check_all_colours(device)
    check_nearest_points()
    print(f"all {exhaustive['colours']:,} colours checked", flush=True)

    generator = torch.Generator().manual_seed(0)
    byte_BHWC = torch.randint(256, (BATCH, SIDE, SIDE, 3), generator=generator, dtype=torch.uint8)
    plain_HWC = list(byte_BHWC[:BASELINE_BATCH].numpy())
    plain_lab_HWC = [rgb2lab(image_HWC) for image_HWC in plain_HWC]
    interleaved_BCHW = byte_BHWC.to(device).permute(0, 3, 1, 2)
    planar_BCHW = interleaved_BCHW.contiguous()
    lab_BCHW = color.rgb_to_lab(planar_BCHW)
    small_BCHW = color.downscale(lab_BCHW, TARGET)
    plain_small_HWC = list(small_BCHW[:BASELINE_BATCH].permute(0, 2, 3, 1).cpu().numpy().astype(np.float64))
    tree = cKDTree(color.build_lab_313().codes[1].centres)
    lab, points = color.build_lab(), color.build_lab_313()

    def each(images: list[np.ndarray], work: Callable[[np.ndarray], object]) -> Callable[[], object]:
        return lambda: [work(image) for image in images]

    def shrink(image_HWC: np.ndarray) -> np.ndarray:
        return resize(image_HWC, (TARGET, TARGET), order=1, anti_aliasing=True, preserve_range=True)

    plain_to_lab, plain_to_rgb = each(plain_HWC, rgb2lab), each(plain_lab_HWC, lab2rgb)
    cases = [
        ("uint8 H x W x 3 to Lab", lambda: color.rgb_to_lab(interleaved_BCHW), plain_to_lab),
        ("uint8 3 x H x W to Lab", lambda: color.rgb_to_lab(planar_BCHW), plain_to_lab),
        ("float 3 x H x W to Lab", lambda x=planar_BCHW / 255: color.rgb_to_lab(x), plain_to_lab),
        ("float H x W x 3 to Lab", lambda x=interleaved_BCHW / 255: color.rgb_to_lab(x), plain_to_lab),
        ("Lab to sRGB", lambda: color.lab_to_rgb(lab_BCHW), plain_to_rgb),
        (f"Lab, {SIDE} to {TARGET} px", lambda: color.downscale(lab_BCHW, TARGET), each(plain_lab_HWC, shrink)),
        ("bins of lab, 12 px", lambda: lab.encode(small_BCHW), each(plain_small_HWC, baseline_bins)),
        ("points of lab-313, 12 px", lambda: points.encode(small_BCHW),
         each(plain_small_HWC, lambda lab_HW3: tree.query(lab_HW3[..., 1:]))),
    ]  # fmt: skip
    rows = []
    for count in arguments.threads if device == "cpu" else [1]:
        torch.set_num_threads(count)
        print(f"{count} threads")
        rows += [{"threads": count, **compare(what, ours, plain, device)} for what, ours, plain in cases]
    name = torch.cuda.get_device_name() if device == "cuda" else None
    document = {"schema": 1, "suite": "color", "exhaustive": exhaustive, "rows": rows, "versions": versions(),
                "device": device_facts(name), "load_average": os.getloadavg()}  # fmt: skip
    if arguments.json:
        arguments.json.write_text(json.dumps(document, indent=1) + "\n")
    print(json.dumps(document))


if __name__ == "__main__":
    main()

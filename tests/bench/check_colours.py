"""What holds for all 16,777,216 colours of 24 bits; how fast colour is, `pretext bench color` tells.

python tests/bench/check_colours.py [--json FILE] [--device cuda]

Lab of every colour is compared with scikit-image, every colour is put into the bins of every colour space, and the
points of `lab-gamut` are derived anew. The last line of stdout is one JSON document.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from scipy.spatial import cKDTree
from skimage.color import rgb2lab

from pretext import color
from pretext.artifacts.provenance import device_facts, versions
from pretext.color.spaces import CHROMA_BINS, GAMUT_POINTS

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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    exhaustive = check_all_colours(arguments.device)
    check_nearest_points()
    name = torch.cuda.get_device_name() if arguments.device == "cuda" else None
    document = {"schema": 2, "suite": "colours", "exhaustive": exhaustive, "versions": versions(),
                "device": device_facts(name)}  # fmt: skip
    if arguments.json:
        arguments.json.write_text(json.dumps(document, indent=1) + "\n")
    print(json.dumps(document))


if __name__ == "__main__":
    main()

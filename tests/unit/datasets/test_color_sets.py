"""Which files a choice of colour spaces means, and what is computed for them."""

import numpy as np
import pytest

from pretext.artifacts.layout import DataLayout
from pretext.datasets.color_sets import estimate, plan_sets, wanted_of

ASKED = {"size": 6, "border": "reflect", "lab_dtype": "float16"}


def test_lab_images_come_first_and_once_if_any_space_needs_them():
    assert [one.stem for one in plan_sets(("rgb", "lab", "lab-313", "rgb"), **ASKED)] == [
        "lab", "targets-rgb-6", "targets-lab-6", "targets-lab-313-6",
    ]  # fmt: skip
    assert [one.stem for one in plan_sets(("rgb",), **ASKED)] == ["targets-rgb-6"]
    assert plan_sets((), **ASKED) == []


def test_what_a_set_is_decides_its_rows_and_its_record(tmp_path):
    lab, targets = plan_sets(("lab",), **ASKED)
    assert (lab.quantizer, lab.row_shape(8), lab.dtype) == (None, (8, 8, 3), np.float16)
    assert (targets.row_shape(8), targets.dtype) == ((2, 6, 6), np.int16)
    record = targets.record(DataLayout(tmp_path), "sha256:f")
    assert record.path == tmp_path / "targets-lab-6.manifest.json"
    assert record.request == {"color_space": "lab", "target_size": 6, "target_border": "reflect",
                              "quantizer_version": targets.quantizer.version}  # fmt: skip
    assert [parent.fingerprint for parent in record.parents] == ["sha256:f"]


@pytest.mark.parametrize("some", [slice(None), slice(0, 1), slice(1, None)])
def test_only_what_is_lacking_is_computed(some):
    sets = plan_sets(("lab", "rgb"), **ASKED)[some]
    wanted = wanted_of(sets)
    assert wanted.lab == ("float16" if sets[0].quantizer is None else None)
    assert list(wanted.quantizers) == [one.stem for one in sets if one.quantizer]


def test_an_estimate_counts_bytes_and_takes_time():
    image_NHWC = np.random.default_rng(0).integers(0, 256, (4, 16, 16, 3), dtype=np.uint8)
    size, seconds = estimate(plan_sets(("lab", "rgb"), **ASKED), image_NHWC)
    assert size == 16 * 16 * 3 * 2 + 2 * (2 * 6 * 6 * 2)
    assert 0 < seconds < 10

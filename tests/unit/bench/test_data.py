"""Rows of the part `data` on a few images; what the stage wrote must be what the plain loop found."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from pretext.artifacts.layout import targets_stem
from pretext.artifacts.rows import Rows
from pretext.bench import data as module
from pretext.bench import measure as measure_module
from pretext.training.device import Compute


@pytest.fixture(scope="module")
def rows():
    """All rows, each contender having worked once."""

    def race_once(*contenders, **options):
        return measure_module.race(*contenders, least=1, **options)

    with pytest.MonkeyPatch.context() as patch:
        for name, value in {
            "DRAWN": 4,
            "BINARY_IMAGES": 6,
            "JPEG_IMAGES": 6,
            "LOOP_IMAGES": 5,
            "LOADER_IMAGES": 3,
        }.items():
            patch.setattr(module, name, value)
        patch.setattr(measure_module, "WARM_UP", 0)
        patch.setattr(module, "race", race_once)
        patch.setattr(module.world, "cores", lambda: 1)
        return list(module.measure(Compute(torch.device("cpu"), "fp32")))


def test_rows_are_finite_and_named_once(rows):
    assert len({(row.what, row.against) for row in rows}) == len(rows) == 6
    for row in rows:
        assert (row.part, row.unit) == ("data", "images")
        assert all(0 < value < math.inf for value in (row.per_s, row.against_per_s, row.ratio))


def test_the_plain_loop_and_images_alone_have_goals(rows):
    goals = [(row.against, row.goal) for row in rows if row.goal is not None]
    assert goals == [("plain loop in one process", 8), ("images alone", 0.5)] * 2
    assert all(row.note for row in rows if row.goal == 8)


def test_workers_find_what_the_loop_finds():
    dataset = module.ColoredImages([module.draw_images(1)[0][:, ::step] for step in (1, -1)])
    alone, together = module.run_loop(dataset, 2), module.run_loader(dataset, 2, 1)
    assert alone.keys() == together.keys() == {"image", "lab", *(f"bins of {name}" for name in module.SPACES)}
    assert all(np.array_equal(alone[name], together[name]) for name in alone)


class TestAgreement:
    @pytest.fixture
    def plain(self):
        dataset = module.ColoredImages(module.draw_images(2))
        return module.run_loop(dataset, 2)

    @pytest.fixture
    def written(self, plain):
        """A data set that holds what the loop found."""
        rows = {name: Rows([value.copy()], value.shape[1:], value.dtype) for name, value in plain.items()}
        stems = {targets_stem(name, module.TARGET): rows[f"bins of {name}"] for name in module.SPACES}
        return SimpleNamespace(num_images={"unlabeled": 2}, split=lambda name: SimpleNamespace(images=rows["image"]),
                               lab=lambda name: rows["lab"], targets=lambda name, stem: stems[stem])  # fmt: skip

    def test_same_values_pass(self, written, plain):
        module.check_agreement(written, plain)

    @pytest.mark.parametrize("name", ["lab", "bins of lab-313"])
    def test_one_value_in_a_hundred_is_too_many(self, written, plain, name):
        plain[name].reshape(-1)[::100] += 1
        with pytest.raises(AssertionError, match=f"{name}: only 9"):
            module.check_agreement(written, plain)

    def test_no_pixel_may_differ(self, written, plain):
        plain["image"][0, 0, 0, 0] ^= 1
        with pytest.raises(AssertionError):
            module.check_agreement(written, plain)

"""Mistakes are picked by confidence, and their pictures found again."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from pretext.artifacts.layout import DataLayout
from pretext.artifacts.shards import open_data
from pretext.reports.mistakes import ImageFinder, data_folders, pick_mistakes


@pytest.fixture
def measured(workshop):
    workshop.add("a", ("probe-linear", 1.0))
    (run,) = workshop.gather()
    return workshop, run, run.results[0]


def test_most_and_least_confident_mistakes(measured):
    _, _, result = measured
    most_M, least_M = pick_mistakes(result, 5)
    wrong = sorted((n for n in range(60) if not result.correct_N[n]), key=lambda n: -result.confidence_N[n])
    assert len(wrong) > 10
    assert most_M.tolist() == wrong[:5]
    assert least_M.tolist() == wrong[::-1][:5]


def test_few_mistakes_are_not_shown_twice(measured):
    import dataclasses

    _, _, result = measured
    wrong = np.flatnonzero(~result.correct_N)
    for count in range(4):
        rank_N = np.zeros_like(result.rank_N)
        rank_N[wrong[:count]] = 1
        most_M, least_M = pick_mistakes(dataclasses.replace(result, rank_N=rank_N), 5)
        assert sorted([*most_M, *least_M]) == sorted(wrong[:count])


def test_images_are_those_of_the_data_set(measured):
    workshop, run, result = measured
    images = open_data(DataLayout(workshop.root / "data" / "shapes")).split("test")
    found = ImageFinder().find(run, result, [7, 3])
    assert (np.stack(found) == images.images.read(np.array([7, 3]))).all()


def test_relative_paths_are_found_from_above_the_run(measured):
    workshop, run, result = measured
    for parents in (result.content["parents"], run.features["features.parquet"]["parents"], run.manifest["parents"]):
        for parent in parents:
            if parent["kind"] == "data":
                parent["path"] = "data/shapes"
    assert workshop.root / "data/shapes" in list(data_folders(run, result))
    assert len(ImageFinder().find(run, result, [0])) == 1


def test_data_that_are_gone_are_a_sentence(measured):
    workshop, run, result = measured
    shutil.rmtree(workshop.root / "data")
    text = ImageFinder().find(run, result, [0])
    assert text.startswith("The pictures can't be shown: ")
    assert "has no manifest.json" in text


def test_data_that_have_changed_are_a_sentence(measured):
    workshop, run, result = measured
    shutil.rmtree(workshop.root / "data")
    workshop.fab.make_data(workshop.root / "data" / "shapes", num_test=60, seed=9)
    text = ImageFinder().find(run, result, [0])
    assert text.endswith("now holds other data than was tested on.")


def test_unknown_image_is_a_sentence(measured):
    import dataclasses

    _, run, result = measured
    ids = ["nowhere", *result.ids[1:]]
    text = ImageFinder().find(run, dataclasses.replace(result, ids=ids), [0])
    assert text == "The pictures can't be shown: data set shapes has no image nowhere."


def test_files_that_do_not_say_where_the_data_lie(measured):
    _, run, result = measured
    for content in (result.content, *run.features.values(), run.manifest):
        content["parents"] = []
    assert ImageFinder().find(run, result, [0]).endswith("its files do not say where the data lie.")

"""Which runs are one method and which results one evaluation."""

from __future__ import annotations

from pretext.reports.grouping import find_groups, find_methods
from pretext.reports.naming import PIXELS, RANDOM, SCRATCH, TRAINED


def _groups(workshop):
    return find_groups([(run, result) for run in workshop.gather() for result in run.results])


def test_study_has_the_methods_that_were_written(study):
    assert [(method.label, method.identity.sort) for method in study.methods] == [
        ("cnn-l1", TRAINED), ("cnn-mse", TRAINED), ("cnn-pse4", TRAINED), ("pixels", PIXELS), ("cnn-random", RANDOM),
        ("cnn-scratch", SCRATCH),
    ]  # fmt: skip
    assert [len(method.runs) for method in study.methods] == [1, 2, 2, 1, 2, 2]


def test_numbers_in_names_are_sorted_as_numbers(workshop):
    for sigma in (10.0, 4.0, 3.5):
        workshop.add(f"p{sigma}", loss="pse", sigma=sigma)
    methods, _ = find_methods(workshop.gather())
    assert [method.label for method in methods] == ["cnn-pse3.5", "cnn-pse4", "cnn-pse10"]


def test_scratch_joins_the_fine_tuning_that_shares_its_settings(workshop):
    workshop.add("a", ("fine-tune-full", 2.0), ("fine-tune-scratch", 1.0))
    (group,) = _groups(workshop)
    assert {result.kind for _, result in group} == {"fine-tune-full", "fine-tune-scratch"}


def test_scratch_with_other_settings_stays_apart(workshop):
    workshop.add("a", ("fine-tune-full", 2.0))
    workshop.add("b", ("fine-tune-scratch", 1.0), protocol={"k": 10})
    assert [len(group) for group in _groups(workshop)] == [1, 1]


def test_other_folds_other_data_and_other_images_are_other_evaluations(workshop):
    other = workshop.fab.make_data(workshop.root / "data" / "other", num_test=60, seed=1)
    fewer = workshop.data | {"num_test": 50}
    workshop.add("a", ("probe-linear", 1.0))
    workshop.add("b", ("probe-linear", 1.0), protocol={"k": 10})
    workshop.add("c", ("probe-linear", 1.0), data=other)
    workshop.add("d", ("probe-linear", 1.0), data=fewer)
    workshop.add("e", ("probe-linear", 1.0), protocol={"seed": 5, "labels_per_class": [1, 2], "device": "cuda"})
    assert sorted([run.name for run, _ in group] for group in _groups(workshop)) == [["a", "e"], ["b"], ["c"], ["d"]]

"""Which runs are one method and which results one evaluation."""

from __future__ import annotations

from pretext.reports.grouping import find_families, find_methods
from pretext.reports.naming import PIXELS, RANDOM, SCRATCH, TRAINED


def _groups(workshop):
    families = find_families([(run, result) for run in workshop.gather() for result in run.results])
    return [members for family in families for members in family.groups.values()]


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


def _families(workshop):
    found = find_families([(run, result) for run in workshop.gather() for result in run.results])
    return [({key: sorted(run.name for run, _ in members) for key, members in family.groups.items()}, family.primary)
            for family in found]  # fmt: skip


def test_layers_are_groups_of_one_family_and_the_output_vector_its_primary_one(workshop):
    workshop.add_color("a", ("conv1", 0.5), ("conv2", 0.6), ("latent", 1.0))
    workshop.add_color("b", ("conv1", 0.5), ("conv2", 0.6), space="rgb")
    workshop.add_pixels(0.3)
    both, latent = ["a", "b"], ("latent", "")
    groups = {("conv1", "resize"): both, ("conv2", "resize"): both, latent: ["a", "pixels"]}
    assert _families(workshop) == [(groups, latent)]


def test_without_an_output_vector_the_commonest_and_then_the_deepest_layer_is_primary(workshop):
    workshop.add_color("a", ("conv1", 0.5), ("conv2", 0.6), ("conv10", 0.7))
    workshop.add_color("b", ("conv1", 0.5), ("conv2", 0.6), space="rgb")
    workshop.add_pixels(0.3)
    ((groups, primary),) = _families(workshop)
    assert list(groups) == [("conv1", "resize"), ("conv2", "resize"), ("conv10", "resize")]
    assert primary == ("conv2", "resize")
    assert groups[primary] == ["a", "b", "pixels"]


def test_two_ways_to_read_one_map_are_two_groups(workshop):
    workshop.add_color("a", ("conv1", 0.5), pool="resize")
    workshop.add_color("b", ("conv1", 0.5), pool="avg", space="rgb")
    ((groups, primary),) = _families(workshop)
    assert groups == {("conv1", "avg"): ["b"], ("conv1", "resize"): ["a"]}
    assert primary == ("conv1", "resize")


def test_pixels_alone_are_a_family(workshop):
    workshop.add_pixels(0.3)
    assert _families(workshop) == [({("", ""): ["pixels"]}, ("", ""))]


def test_other_folds_other_data_and_other_images_are_other_evaluations(workshop):
    other = workshop.fab.make_data(workshop.root / "data" / "other", num_test=60, seed=1)
    fewer = workshop.data | {"num_test": 50}
    workshop.add("a", ("probe-linear", 1.0))
    workshop.add("b", ("probe-linear", 1.0), protocol={"k": 10})
    workshop.add("c", ("probe-linear", 1.0), data=other)
    workshop.add("d", ("probe-linear", 1.0), data=fewer)
    workshop.add("e", ("probe-linear", 1.0), protocol={"seed": 5, "labels_per_class": [1, 2], "device": "cuda"})
    assert sorted([run.name for run, _ in group] for group in _groups(workshop)) == [["a", "e"], ["b"], ["c"], ["d"]]

"""Names and identities."""

from __future__ import annotations

import pytest

from pretext.reports.naming import evaluation_base, flatten, images_key, label_all, run_identity, without


@pytest.mark.parametrize(("bases", "options", "labels"), [
    (["a", "b"], [{"lr": 1}, {"lr": 2}], ["a", "b"]),
    (["a", "a"], [{"lr": 0.1, "epochs": 3}, {"lr": 0.01, "epochs": 3}], ["a, lr 0.1", "a, lr 0.01"]),
    (["a", "a"], [{"encoder.latent_dim": 8}, {"encoder.latent_dim": 16}], ["a, latent dim 8", "a, latent dim 16"]),
    (["a", "a"], [{"data fingerprint": "x", "lr": 1}, {"data fingerprint": "y", "lr": 2}], ["a, lr 1", "a, lr 2"]),
    (["a", "a"], [{"lr": 1}, {}], ["a, lr 1", "a"]),
    (["a", "a", "a"], [{}, {}, {}], ["a", "a (2)", "a (3)"]),
])  # fmt: skip
def test_labels_say_what_differs(bases, options, labels):
    assert label_all(bases, options) == labels


def test_flatten_and_without():
    assert flatten({"a": {"b": 1}, "c": [1, 2]}, "") == {"a.b": 1, "c": "[1, 2]"}
    assert flatten({"b": 1}, "a") == {"a.b": 1}
    assert without({"a": 1, "b": 2}, ["a"]) == {"b": 2}


@pytest.mark.parametrize(("settings", "base"), [
    ({"loss": "pse", "sigma": 4.0}, "cnn-pse4"), ({"loss": "pse", "sigma": 2.5}, "cnn-pse2.5"),
    ({"loss": "mse"}, "cnn-mse"), ({"loss": None}, "cnn-random"),
    ({"loss": "mse", "encoder": "resnet18"}, "resnet18-mse"),
])  # fmt: skip
def test_method_is_named_as_run_folders_are(workshop, settings, base):
    workshop.add("a", **settings)
    assert run_identity(workshop.gather()[0]).base == base


def test_seed_and_place_do_not_make_another_method(workshop):
    workshop.add("a", seed=0)
    workshop.add("b", seed=1, device="cuda")
    workshop.add("c", seed=0, lr=0.5)
    a, b, c = (run_identity(run).key for run in workshop.gather())
    assert a == b != c


def test_run_without_anything_has_no_identity(workshop):
    workshop.fab.make_pixels(workshop.runs / "pixels", workshop.data)
    assert run_identity(workshop.gather()[0]) is None


def test_images_are_the_same_in_any_order(workshop):
    import dataclasses

    workshop.add("a", ("probe-linear", 1.0))
    result = workshop.gather()[0].results[0]
    turned = dataclasses.replace(result, ids=result.ids[::-1], label_N=result.label_N[::-1])
    fewer = dataclasses.replace(result, ids=result.ids[1:], label_N=result.label_N[1:])
    assert images_key(turned) == images_key(result) != images_key(fewer)


def test_evaluation_names_the_data_where_there_are_several():
    assert evaluation_base("probe-knn", "shapes", False) == "Nearest neighbours"
    assert evaluation_base("probe-new", "shapes", True) == "probe-new on shapes"

"""Names and identities."""

from __future__ import annotations

import pytest

from pretext.reports.naming import (
    evaluation_base,
    flatten,
    images_key,
    label_all,
    layer_of,
    layer_rank,
    pool_of,
    run_identity,
    short,
    without,
)


@pytest.mark.parametrize(("bases", "options", "labels"), [
    (["a", "b"], [{"lr": 1}, {"lr": 2}], ["a", "b"]),
    (["a", "a"], [{"lr": 0.1, "epochs": 3}, {"lr": 0.01, "epochs": 3}], ["a, lr 0.1", "a, lr 0.01"]),
    (["a", "a"], [{"encoder.latent_dim": 8}, {"encoder.latent_dim": 16}], ["a, latent dim 8", "a, latent dim 16"]),
    (["a", "a"], [{"data fingerprint": "x", "lr": 1}, {"data fingerprint": "y", "lr": 2}], ["a, lr 1", "a, lr 2"]),
    (["a", "a"], [{"lr": 1}, {}], ["a, lr 1", "a"]),
    (["a", "a"], [{"encoder.channels": '["L", "ab"]'}, {"encoder.channels": '["RGB"]'}],
     ["a, channels L|ab", "a, channels RGB"]),
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


@pytest.mark.parametrize(("settings", "base"), [
    ({}, "simplenet5-split-brain-lab"), ({"space": "rgb", "objective": "colorize"}, "simplenet5-colorize-rgb"),
    ({"loss": "regression"}, "simplenet5-split-brain-lab-regression"), ({"space": None}, "simplenet5-random"),
    ({"encoder": "alexnet-fcn", "space": "lab-rescaled"}, "alexnet-fcn-split-brain-lab-rescaled"),
])  # fmt: skip
def test_colour_tasks_are_named_by_what_they_predict(workshop, settings, base):
    workshop.add_color("a", **settings)
    assert run_identity(workshop.gather()[0]).base == base


def test_noise_is_named_with_its_level(workshop):
    for level in (0.05, 0.5):
        objective = {"name": "denoise", "loss": "bce", "noise": "salt-pepper", "noise_level": level}
        workshop.add(f"a{level}", encoder="conv4", objective=objective)
    assert [run_identity(run).base for run in workshop.gather()] == [
        "conv4-denoise-salt-pepper0.05-bce", "conv4-denoise-salt-pepper0.5-bce"]  # fmt: skip


def test_the_layer_that_was_read_is_not_the_method(workshop):
    workshop.add_color("a", ("conv1", 0.5), ("latent", 1.0), seed=0)
    workshop.add_color("b", ("conv2", 0.5), seed=1)
    workshop.add_color("c", seed=2)
    assert len({run_identity(run).key for run in workshop.gather()}) == 1


def test_the_random_control_of_one_network_serves_all_its_colour_spaces(workshop):
    workshop.add_color("a", space=None)
    workshop.add_color("b", space=None, seed=1)
    runs = workshop.gather()
    manifests = [run.manifest for run in runs]
    for manifest, space in zip(manifests, ("lab", "lab-rescaled"), strict=True):
        manifest["config"]["objective"] = {"name": "random", "color_space": space}
    assert len({run_identity(run).key for run in runs}) == 1
    manifests[1]["config"]["encoder"]["channels"] = ["R", "GB"]
    assert len({run_identity(run).key for run in runs}) == 2


def test_layers_follow_the_image():
    layers = ["logits", "latent", "conv10", "pooled", "conv2", "layer1", "stem"]
    assert sorted(layers, key=layer_rank) == ["stem", "conv2", "conv10", "layer1", "pooled", "latent", "logits"]


def test_only_probes_of_maps_have_a_layer_and_a_pool(workshop):
    layout = workshop.add_color("a", ("conv1", 0.5), ("latent", 1.0))
    workshop.fab.make_result(layout, "fine-tune-full", workshop.data, quality=1.0, seed=0)
    workshop.add_pixels(0.5)
    found = {(run.name, result.stem): (layer_of(result), pool_of(result))
             for run in workshop.gather() for result in run.results}  # fmt: skip
    assert found == {
        ("a", "probe-linear"): ("latent", {}), ("a", "probe-linear-conv1"): ("conv1", {"pool": "resize"}),
        ("a", "fine-tune-full"): ("", {}), ("pixels", "probe-linear"): ("", {}),
    }  # fmt: skip


@pytest.mark.parametrize(("value", "text"), [
    (0.05, "0.05"), (3, "3"), ("lab", "lab"), ("[100, 313]", "100|313"), ("[]", ""), ("[x", "[x"),
])  # fmt: skip
def test_values_in_names(value, text):
    assert short(value) == text


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

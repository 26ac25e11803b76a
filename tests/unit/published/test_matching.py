"""Published numbers are whole, and only what was measured alike is called the same."""

from __future__ import annotations

import subprocess
import sys

import pytest

from pretext.published import METRICS, PUBLISHED, matching

CONFIG = {
    "split": "unlabeled", "val_fraction": 0.15, "epochs": 50, "batch_size": 128, "optimizer": "adam", "lr": 1e-4,
    "schedule": "constant", "warmup_epochs": 0.0, "weight_decay": 0.0, "grad_clip": 1.0, "augment": "small",
    "objective": {"name": "autoencode", "loss": "pse-slides", "sigma": 4.0},
    "encoder": {"name": "cnn", "image_size": 96, "width": 1.0, "latent_dim": 256},
}  # fmt: skip
PROTOCOL = {
    "name": "kfold", "k": 5, "fold_seed": 12345, "test": "test split", "head": "slides", "lr": 1e-4, "batch_size": 128,
    "schedule": "plateau", "grad_clip": 0.5, "patience": 50, "augment": "strong",
}  # fmt: skip


def _slides(config=None, protocol=None, result=None, num_images=100_000):
    """A run that does everything as the slides' code does, but for what is given."""
    config = CONFIG | (config or {})
    scores = {"top1": 0.5, "top2": 0.7, "top4": 0.9, "top5": 0.95}
    content = {"kind": "fine-tune-as-coded-ft", "protocol": PROTOCOL | (protocol or {}), "encoder": config["encoder"],
               "data": {"name": "stl10", "num_train": 5000, "num_test": 8000}, "objective": config["objective"],
               "ensemble": scores, "mean": scores | {"top1": 0.45}}  # fmt: skip
    return content | (result or {}), {"config": config, "summary": {"num_images": num_images, "num_validation": 15_000}}


def _found(content, manifest):
    return {figure.key: (same, why) for figure, same, why in matching(content, manifest)}


def test_rows_are_whole():
    assert len({figure.key for figure in PUBLISHED}) == len(PUBLISHED) == 199
    assert len([figure for figure in PUBLISHED if figure.labels_per_class]) == 14
    for figure in PUBLISHED:
        assert 0 < figure.value < 1
        assert figure.metric in METRICS
        assert figure.subject
        assert figure.row
        assert figure.key.startswith(figure.row + "/")


@pytest.mark.parametrize(
    ("key", "value", "sd"),
    [
        ("simclr/pixels/top1", 0.358, None),
        ("simclr/resnet50/top1", 0.829, None),
        ("peer/resnet50-scratch/top1", 0.58, None),
    ],
)
def test_values_are_those_of_the_sources(key, value, sd):
    figure = next(figure for figure in PUBLISHED if figure.key == key)
    assert figure.value == pytest.approx(value, abs=1e-12)
    assert figure.sd == (pytest.approx(sd) if sd else None)


def test_exactly_the_slides_protocol_is_the_same():
    found = _found(*_slides())
    slides = {key: value for key, value in found.items() if key.startswith("slides/")}
    assert set(slides) == {f"slides/fine-tune/cnn-pse-4/{metric}" for metric in METRICS if metric != "fold_mean_top5"}
    assert set(slides.values()) == {(True, "")}


@pytest.mark.parametrize(("change", "words"), [
    ({"result": {"data": {"name": "coco", "num_train": 5000, "num_test": 8000}}}, "coco images"),
    ({"num_images": 85_000}, "85,000 pretraining images"),
    ({"config": {"encoder": CONFIG["encoder"] | {"width": 0.25}}}, "width 0.25"),
    ({"config": {"encoder": CONFIG["encoder"] | {"latent_dim": 64}}}, "latent 64"),
    ({"config": {"objective": CONFIG["objective"] | {"loss": "pse"}}}, "loss pse"),
    ({"config": {"lr": 1e-3}}, "learning rate 0.001"), ({"config": {"schedule": "cosine"}}, "schedule cosine"),
    ({"config": {"split": "train"}}, "split train"), ({"protocol": {"k": 10}}, "k 10"),
    ({"protocol": {"name": "official"}}, "folds official"), ({"protocol": {"fold_seed": 1}}, "fold seed 1"),
    ({"protocol": {"head": "linear"}}, "head linear"), ({"protocol": {"head": None}}, "head not stated"),
    ({"protocol": {"test": "held-out folds"}}, "test set held-out folds"),
    ({"result": {"kind": "fine-tune-full"}}, "protocol full"),
])  # fmt: skip
def test_any_difference_is_named(change, words):
    content, manifest = _slides(**change)
    same, why = _found(content, manifest)["slides/fine-tune/cnn-pse-4/ensemble_top1"]
    assert not same
    assert why == f"ours: {words}, 50 epochs"


def test_many_differences_are_counted():
    content, manifest = _slides(config={"encoder": CONFIG["encoder"] | {"width": 0.25}, "lr": 0.1, "batch_size": 64},
                                protocol={"k": 3, "head": "linear"}, num_images=1_000)  # fmt: skip
    same, why = _found(content, manifest)["slides/fine-tune/cnn-pse-4/ensemble_top1"]
    assert not same
    assert why == "ours: 1,000 pretraining images, width 0.25, k 3, head linear, 50 epochs and 2 more"


@pytest.mark.parametrize("change", [
    {"config": {"objective": CONFIG["objective"] | {"sigma": 7.0}}}, {"config": {"encoder": {"name": "vit-tiny"}}},
    {"result": {"kind": "probe-knn"}},
])  # fmt: skip
def test_what_can_not_stand_beside_the_slides_does_not(change):
    assert not [key for key in _found(*_slides(**change)) if key.startswith("slides/")]


def test_source_that_leaves_things_open_is_never_the_same():
    found = _found(*_slides())
    assert found["readme/cnn-pse/ensemble_top1"] == (False, "the README states neither sigma nor settings")


def test_controls_have_their_own_neighbours():
    content, _ = _slides(result={"kind": "probe-linear", "encoder": {"name": "pixels"}, "objective": {"name": "none"}})
    found = _found(content, None)
    assert list(found) == ["simclr/pixels/top1"]
    assert found["simclr/pixels/top1"] == (False, "the README does not state the pixels' size or preparation")
    trained, manifest = _slides(result={"kind": "probe-linear"})
    assert {"simclr/resnet18-low/top1", "simclr/resnet50/top1"} < set(_found(trained, manifest))


def test_manifest_without_a_summary_counts_as_different():
    content, _ = _slides()
    _, why = _found(content, {"config": CONFIG})["slides/fine-tune/cnn-pse-4/ensemble_top1"]
    assert why == "ours: pretraining images not stated, 50 epochs"


def _student(**change):
    """A split-brain that does everything as the student project did, on the project's own data."""
    objective = {"name": "split-brain", "loss": "cross-entropy", "color_space": "lab-rescaled", "bins": [100, 100],
                 "target_size": 12, "border": "zero", "rebalance": 1.0} | change.get("objective", {})  # fmt: skip
    encoder = {"name": "resnet18-fcn", "image_size": 96, "width": 1.0, "channels": ["L", "ab"]}
    config = {"data": {"name": "ds-ga-1008"}, "epochs": 7, "optimizer": "adam", "lr": 1e-4, "batch_size": 64,
              "schedule": "step", "objective": objective, "encoder": encoder}  # fmt: skip
    content = {
        "kind": "fine-tune-student", "encoder": encoder, "objective": objective,
        "protocol": {"test": "test split", "lr": 1e-4, "batch_size": 64, "stratified": False}
        | change.get("protocol", {}),
        "data": {"name": "ds-ga-1008", "class_names": [str(n) for n in range(1000)], "num_train": 64_000,
                 "num_test": 64_000},
        "labels_per_class": change.get("labels_per_class"),
    }  # fmt: skip
    return content, {"config": config, "summary": {"num_images": 512_000}}


def test_private_data_are_never_the_same_even_where_all_else_is():
    found = _found(*_student())
    assert found == {f"student/table-1/resnet18-fcn-lab-rescaled/fold_mean_top{k}": (False, "the data are not public")
                     for k in (1, 5)}  # fmt: skip


def test_few_label_figures_want_as_many_labels_drawn_as_theirs():
    rows = [{"labels_per_class": labels, "top1": 0.1} for labels in (1, 8, 100)]
    found = _found(*_student(labels_per_class=rows))
    few = {key: why for key, (_, why) in found.items() if "table-2" in key}
    assert set(few) == {f"student/table-2/fold_mean_top{k}/{labels}" for k in (1, 5) for labels in (1, 8)}
    assert set(few.values()) == {"the data are not public"}
    stratified = _found(*_student(labels_per_class=rows, protocol={"stratified": True}))
    assert stratified["student/table-2/fold_mean_top1/8"][1] == (
        "ours: stratified few-label draws, 7 epochs; the data are not public")  # fmt: skip
    silent = _found(*_student(labels_per_class=rows, protocol={"stratified": None}))
    assert "few-label draws not stated" in silent["student/table-2/fold_mean_top1/8"][1]


@pytest.mark.parametrize(("objective", "words"), [
    ({"bins": [50, 313]}, "bins 50|313"), ({"target_size": 16}, "target size 16"),
    ({"rebalance": 0.5}, "rebalance 0.5"),
    ({"border": "reflect"}, "target border reflect"), ({"loss": "regression"}, "loss regression"),
])  # fmt: skip
def test_differences_of_colour_tasks_are_named(objective, words):
    _, why = _found(*_student(objective=objective))["student/table-1/resnet18-fcn-lab-rescaled/fold_mean_top1"]
    assert why == f"ours: {words}, 7 epochs; the data are not public"


def test_other_colours_have_another_neighbour():
    assert {key.split("/")[2] for key in _found(*_student(objective={"color_space": "rgb"}))} == {"resnet18-fcn-rgb"}
    assert not _found(*_student(objective={"color_space": "lab-gamut"}))


def _layer(layer, objective, **encoder):
    facts = {"name": "alexnet-fcn", "layer": layer, "pool": "resize", "width": 0.5} | encoder
    content = {"kind": "probe-linear", "protocol": {}, "data": {"name": "stl10"}, "encoder": facts,
               "objective": objective}  # fmt: skip
    return content, {"config": {"objective": objective, "data": {"name": "stl10"}}}


def test_a_layer_stands_beside_the_same_layer_of_the_same_task():
    task = {"name": "split-brain", "loss": "cross-entropy", "color_space": "lab"}
    found = _found(*_layer("conv3", task))
    assert {key for key in found if key.startswith("split-brain")} == {
        "split-brain/imagenet/split-brain-cl/conv3", "split-brain/places205/split-brain-cl/conv3"}  # fmt: skip
    why = found["split-brain/imagenet/split-brain-cl/conv3"][1]
    assert why.startswith("ours: stl10 images, pretraining data stl10, pretraining images not stated, ")
    assert why.endswith("; trained at 180 px, read at 227 px")
    assert not [key for key in _found(*_layer("conv3", task | {"color_space": "rgb"})) if key.startswith("split-")]
    assert not [key for key in _found(*_layer("conv6", task)) if key.startswith("split-brain")]


@pytest.mark.parametrize(("objective", "name"), [
    ({"name": "random"}, "gaussian"), ({"name": "autoencode", "loss": "mse"}, "autoencoder"),
    ({"name": "denoise", "noise": "masking"}, "denoising"),
    ({"name": "colorize", "loss": "regression", "color_space": "lab"}, "l-to-ab-reg"),
    ({"name": "predict-light", "loss": "cross-entropy", "color_space": "lab-313"}, "ab-to-l-cl"),
    ({"name": "two-colorizers", "loss": "cross-entropy", "color_space": "lab"}, "two-colorizers"),
    ({"name": "cross-channel", "loss": "cross-entropy", "color_space": "lab"}, "one-network"),
])  # fmt: skip
def test_every_ablation_finds_its_own_row(objective, name):
    found = {key.split("/")[2] for key in _found(*_layer("conv1", objective)) if key.startswith("split-brain/imagenet")}
    assert found == {name}


def test_import_is_light():
    code = "import sys, pretext.published; print({'numpy', 'torch', 'pyarrow', 'matplotlib'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"

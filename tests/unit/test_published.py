"""Published numbers, and what may stand beside them."""

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


def _slides(config=None, protocol=None, result=None, num_images=85_000):
    """A run that does everything as the slides' code does, but for what is given."""
    config = CONFIG | (config or {})
    scores = {"top1": 0.5, "top2": 0.7, "top4": 0.9, "top5": 0.95}
    content = {"kind": "fine-tune-as-coded-ft", "protocol": PROTOCOL | (protocol or {}), "encoder": config["encoder"],
               "data": {"name": "stl10", "num_train": 5000, "num_test": 8000}, "objective": config["objective"],
               "ensemble": scores, "mean": scores | {"top1": 0.45}}  # fmt: skip
    return content | (result or {}), {"config": config, "summary": {"num_images": num_images}}


def _found(content, manifest):
    return {figure.key: (same, why) for figure, same, why in matching(content, manifest)}


def test_rows_are_whole():
    assert len({figure.key for figure in PUBLISHED}) == len(PUBLISHED) == 7 * 2 * 4 + 4 + 6
    for figure in PUBLISHED:
        assert 0 < figure.value < 1
        assert figure.metric in METRICS
        assert figure.subject
        assert figure.row
        assert figure.key.startswith(figure.row + "/")


@pytest.mark.parametrize(
    ("key", "value", "sd"),
    [
        ("slides/fine-tune/cnn-mse/ensemble_top1", 0.4896, None),
        ("slides/fine-tune/cnn-pse-4/ensemble_top2", 0.7088, None),
        ("slides/fine-tune/cnn-pse-5/ensemble_top4", 0.8913, None),
        ("slides/fine-tune/cnn-pse-6/fold_mean_top1", 0.4847, 0.0040),
        ("slides/fine-tune/resnet-pse-3/ensemble_top1", 0.5645, None),
        ("slides/freeze/cnn-mse/ensemble_top1", 0.2815, None),
        ("slides/freeze/cnn-pse-3/ensemble_top4", 0.7667, None),
        ("slides/freeze/resnet-pse-3/fold_mean_top1", 0.3714, 0.0136),
        ("readme/resnet-pse/ensemble_top1", 0.5325, None),
        ("simclr/pixels/top1", 0.358, None),
    ],
)
def test_values_are_those_of_the_sources(key, value, sd):
    figure = next(figure for figure in PUBLISHED if figure.key == key)
    assert figure.value == pytest.approx(value, abs=1e-12)
    assert figure.sd == (pytest.approx(sd) if sd else None)


def test_exactly_the_slides_protocol_is_the_same():
    found = _found(*_slides())
    slides = {key: value for key, value in found.items() if key.startswith("slides/")}
    assert set(slides) == {f"slides/fine-tune/cnn-pse-4/{metric}" for metric in METRICS}
    assert set(slides.values()) == {(True, "")}


@pytest.mark.parametrize(("change", "words"), [
    ({"result": {"data": {"name": "coco", "num_train": 5000, "num_test": 8000}}}, "coco images"),
    ({"num_images": 17_000}, "20,000 pretraining images"),
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
                                protocol={"k": 3, "head": "linear"}, num_images=850)  # fmt: skip
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


def test_import_is_light():
    code = "import sys, pretext.published; print({'numpy', 'torch', 'pyarrow', 'matplotlib'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"

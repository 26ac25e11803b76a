"""What each fine-tuning protocol does to an encoder, seen in the weights it leaves."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tiny_chain import extract, prepare, train

from pretext import stage_configs as configs
from pretext.artifacts.checkpoint import read_header
from pretext.artifacts.results import read_predictions, read_result
from pretext.catalog import PROTOCOLS
from pretext.encoders.base import Encoder
from pretext.errors import ArtifactError, ConfigError
from pretext.stages import extract_features, fine_tune

COUNTS = ("running_mean", "running_var", "num_batches_tracked")
SPLIT = {"objective": "split-brain", "encoder": "simplenet5", "width": 0.5}


def tune(root, name="run", **changes):
    options = {"run": root / "runs" / name, "data_dir": root / "data", "k": 2, "epochs": 2, "batch_size": 16,
               "precision": "fp32", "device": "cpu", **changes}  # fmt: skip
    return fine_tune.run(configs.FineTuneConfig(**options))


@pytest.fixture(scope="module")
def tuned(tmp_path_factory):
    """Folders by protocol: one run at 64 px fine-tuned by every protocol that fits, a split-brain by the others."""
    root = tmp_path_factory.mktemp("protocols")
    prepare(root, image_size=64, num_unlabeled=40, color_space=("lab",), target_size=4)
    train(root, epochs=1)
    train(root, "split", epochs=1, **SPLIT)
    homes = {protocol: "split" if protocol == "student" else "run" for protocol in PROTOCOLS}
    for protocol, name in homes.items():
        tune(root, name, protocol=protocol)
    return {protocol: root / "runs" / name for protocol, name in homes.items()}


def encoder_tensors(file):
    return {name: value for name, value in load_file(file).items() if name.startswith("encoder.")}


def moved(tuned, protocol):
    """(whether any weight, whether any batch-norm buffer) differs from the checkpoint, over all folds."""
    before = encoder_tensors(tuned[protocol] / "checkpoint.safetensors")
    weights = buffers = False
    for fold in range(2):
        after = encoder_tensors(tuned[protocol] / f"fine-tune-{protocol}-fold-{fold}.safetensors")
        assert after.keys() <= before.keys()
        for name, value in after.items():
            if not torch.equal(value, before[name]):
                if name.endswith(COUNTS):
                    buffers = True
                else:
                    weights = True
    return weights, buffers


@pytest.mark.parametrize(("protocol", "weights", "buffers"), [
    ("full", True, True),
    ("scratch", True, True),
    ("frozen", False, False),
    ("as-coded-ft", False, True),
    ("as-coded-frozen", False, False),
    ("student", True, True),
    ("student-dae", True, False),
])  # fmt: skip
def test_what_moves(tuned, protocol, weights, buffers):
    assert moved(tuned, protocol) == (weights, buffers)


def test_scratch_does_not_start_from_the_checkpoint(tuned):
    before = encoder_tensors(tuned["full"] / "checkpoint.safetensors")
    full = encoder_tensors(tuned["full"] / "fine-tune-full-fold-0.safetensors")
    scratch = encoder_tensors(tuned["scratch"] / "fine-tune-scratch-fold-0.safetensors")
    distance = {name: (float((full[name] - value).norm()), float((scratch[name] - value).norm()))
                for name, value in before.items() if name.endswith("0.weight")}  # fmt: skip
    assert all(near < 0.5 * far for near, far in distance.values()), distance


@pytest.mark.parametrize("protocol", list(PROTOCOLS))
def test_results_are_those_of_the_predictions(tuned, protocol):
    result = read_result(tuned[protocol] / f"fine-tune-{protocol}.json")
    predictions = read_predictions(tuned[protocol] / f"fine-tune-{protocol}-predictions.parquet")
    assert result["ensemble"]["top1"] == (predictions.prob_NK.argmax(1) == predictions.label_N).mean()
    np.testing.assert_allclose([fold["top1"] for fold in result["folds"]], (predictions.rank_NF == 0).mean(0))
    assert result["protocol"]["k"] == 2
    assert ("never move" in "".join(result["notes"])) == (protocol == "as-coded-ft")


def test_as_coded_protocols_use_the_slides_head(tuned):
    heads = {protocol: read_result(folder / f"fine-tune-{protocol}.json")["protocol"]["head"]
             for protocol, folder in tuned.items()}  # fmt: skip
    assert {protocol for protocol, head in heads.items() if head == "slides"} == {"as-coded-ft", "as-coded-frozen"}
    assert set(heads.values()) == {"slides", "linear"}


def test_a_result_says_what_the_head_is_on_and_all_of_the_recipe(tuned):
    for protocol, folder in tuned.items():
        facts = read_result(folder / f"fine-tune-{protocol}.json")["protocol"]
        assert facts["layer"] == ("logits" if protocol == "student" else "latent")
        assert (facts["warmup_epochs"], facts["epochs"], facts["batch_size"]) == (0, 2, 16)
        assert "stratified" not in facts
        assert read_header(folder / f"fine-tune-{protocol}-fold-1.safetensors")["layer"] == facts["layer"]


def test_the_students_head_is_on_the_logits_of_both_halves_at_every_place(tuned):
    tensors = load_file(tuned["student"] / "fine-tune-student-fold-0.safetensors")
    assert tensors["head.0.weight"].shape == (10, 200 * 4 * 4)
    (note,) = read_result(tuned["student"] / "fine-tune-student.json")["notes"]
    assert "top-1" in note


def test_a_code_that_is_a_map_is_flattened(tuned):
    root = tuned["student"].parents[1]
    tune(root, "split", protocol="student-dae", epochs=1)
    assert read_result(tuned["student"] / "fine-tune-student-dae.json")["protocol"]["layer"] == "conv4"
    tensors = load_file(tuned["student"] / "fine-tune-student-dae-fold-0.safetensors")
    assert tensors["head.0.weight"].shape == (10, 2 * 48 * 8 * 8)


def test_an_encoder_without_logits_is_named_and_costs_nothing(root):
    before = sorted(path.name for path in (root / "runs/run").iterdir())
    with pytest.raises(ConfigError, match="--protocol student puts its head on layer 'logits', which the cnn of this run lacks: "
                       "it has conv1, .*, latent") as caught:  # fmt: skip
        tune(root, protocol="student")
    assert "such as one of split-brain" in caught.value.hint
    assert sorted(path.name for path in (root / "runs/run").iterdir()) == before


def reads(tuned, protocol):
    return json.loads((tuned[protocol] / f"fine-tune-{protocol}.manifest.json").read_text())["config"]["reads"]


def test_lab_is_read_where_the_encoder_sees_it_and_colours_stay(tuned, monkeypatch):
    assert {protocol: reads(tuned, protocol) for protocol in tuned} == dict.fromkeys(tuned, "rgb") | {"student": "lab"}
    root, folder = tuned["student"].parents[1], tuned["student"]
    scores = {}
    for name, changes in {"flip": {"augment": "flip"}, "strong": {"augment": "strong"}}.items():
        tune(root, "split", protocol="full", overwrite=True, **changes)
        scores[name] = json.loads((folder / "fine-tune-full.manifest.json").read_text())["config"]["reads"]
    assert scores == {"flip": "lab", "strong": "rgb"}

    def refuse(self, image01_BCHW):
        raise AssertionError("an image was converted a second time")

    with monkeypatch.context() as patch:
        patch.setattr(Encoder, "from_rgb", refuse)
        tune(root, "split", protocol="full", augment="flip", overwrite=True)
        with pytest.raises(AssertionError, match="converted a second time"):
            tune(root, "split", protocol="full", augment="strong", overwrite=True)


def test_stored_lab_and_srgb_train_the_same_classifier_but_for_rounding(tuned, tmp_path):
    """Without its Lab images the data set is the same; the encoder converts what it is given."""
    root, answers = tuned["student"].parents[1], []
    for name in ("with", "without"):
        own = tmp_path / name
        shutil.copytree(root / "data", own / "data")
        shutil.copytree(tuned["student"], own / "runs/split", ignore=shutil.ignore_patterns("fine-tune-*"))
        if name == "without":
            (own / "data/shapes/lab.manifest.json").unlink()
        tune(own, "split", augment="flip")
        answers.append(read_predictions(own / "runs/split/fine-tune-full-predictions.parquet").prob_NK)
        manifest = json.loads((own / "runs/split/fine-tune-full.manifest.json").read_text())
        assert manifest["config"]["reads"] == ("lab" if name == "with" else "rgb")
    assert not np.array_equal(*answers)
    assert np.abs(answers[0] - answers[1]).max() < 0.02 * answers[0].std()


def test_instance_norm_is_batch_norm_of_one_image_at_a_time():
    from pretext.encoders.cnn import build_cnn
    from pretext.tasks.classifier import with_instance_norm

    torch.manual_seed(0)
    encoder = build_cnn(image_size=64, width=0.25, latent_dim=8)
    for module in encoder.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.uniform_(module.bias)
    image01 = torch.rand(4, 3, 64, 64)
    with torch.no_grad():
        found = with_instance_norm(encoder).eval()(image01)
        one_by_one = torch.cat([encoder.train()(image) for image in image01.split(1)])
    torch.testing.assert_close(found, one_by_one, rtol=1e-4, atol=1e-5)


def test_one_pixel_maps_have_no_statistics_of_their_own(root):
    with pytest.raises(ConfigError, match="as-coded-frozen does not fit cnn at 32 px"):
        fine_tune.run(
            configs.FineTuneConfig(run=root / "runs/run", data_dir=root / "data", protocol="as-coded-frozen", k=2)
        )


def test_few_labels_curve_of_fine_tuning(root):
    fine_tune.run(configs.FineTuneConfig(run=root / "runs/run", data_dir=root / "data", k=2, epochs=1, batch_size=8,
                                         labels_per_class=(1, 2), draws=2))  # fmt: skip
    result = read_result(root / "runs/run/fine-tune-full.json")
    rows = result["labels_per_class"]
    assert result["protocol"]["stratified"] is True
    assert [(row["labels_per_class"], row["draw"]) for row in rows] == [(1, 0), (1, 1), (2, 0), (2, 1)]
    assert not (root / "runs/run/fine-tune-full-resume").exists()


def test_raw_pixels_can_not_be_fine_tuned(root):
    extract_features.run(configs.ExtractFeaturesConfig(raw_pixels=True, data_dir=root / "data", runs_dir=root / "runs"))
    with pytest.raises(ArtifactError, match="there is no encoder to train on"):
        fine_tune.run(configs.FineTuneConfig(run=root / "runs/shapes-pixels", data_dir=root / "data"))


def test_raw_pixels_are_averages_of_pixels(root):
    from pretext.artifacts.features import read_split
    from pretext.artifacts.layout import DataLayout
    from pretext.artifacts.shards import open_data

    extract_features.run(configs.ExtractFeaturesConfig(raw_pixels=True, pixel_size=8, data_dir=root / "data",
                                                       runs_dir=root / "runs"))  # fmt: skip
    found = read_split(root / "runs/shapes-pixels/features.parquet", "train").feature_ND
    images = open_data(DataLayout(root / "data/shapes")).split("train").images.read(np.arange(60))
    expected = images.reshape(60, 8, 4, 8, 4, 3).mean((2, 4)).transpose(0, 3, 1, 2).reshape(60, -1) / 255
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_pooled_and_flat_layers(root):
    for pool, width in (("avg", 8), ("flatten", 8 * 16 * 16), ("resize", 8 * 16 * 16)):
        outcome = extract(root, layer="conv1", pool=pool, overwrite=True)
        assert outcome["features"] == width

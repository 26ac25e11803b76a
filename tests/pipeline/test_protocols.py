"""What each fine-tuning protocol does to an encoder, seen in the weights it leaves."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tiny_chain import extract, prepare, train

from pretext import stage_configs as configs
from pretext.artifacts.results import read_predictions, read_result
from pretext.catalog import PROTOCOLS
from pretext.errors import ArtifactError, ConfigError
from pretext.stages import extract_features, fine_tune

COUNTS = ("running_mean", "running_var", "num_batches_tracked")


@pytest.fixture(scope="module")
def tuned(tmp_path_factory):
    """One run at 64 px, fine-tuned by every protocol."""
    root = tmp_path_factory.mktemp("protocols")
    prepare(root, image_size=64, num_unlabeled=40)
    train(root, epochs=1)
    for protocol in PROTOCOLS:
        fine_tune.run(configs.FineTuneConfig(run=root / "runs/run", data_dir=root / "data", protocol=protocol, k=2, epochs=2,
                                             batch_size=16, precision="fp32"))  # fmt: skip
    return root / "runs/run"


def encoder_tensors(file):
    return {name: value for name, value in load_file(file).items() if name.startswith("encoder.")}


def moved(tuned, protocol):
    """(whether any weight, whether any batch-norm buffer) differs from the checkpoint, over all folds."""
    before = encoder_tensors(tuned / "checkpoint.safetensors")
    weights = buffers = False
    for fold in range(2):
        after = encoder_tensors(tuned / f"fine-tune-{protocol}-fold-{fold}.safetensors")
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
])  # fmt: skip
def test_what_moves(tuned, protocol, weights, buffers):
    assert moved(tuned, protocol) == (weights, buffers)


def test_scratch_does_not_start_from_the_checkpoint(tuned):
    before = encoder_tensors(tuned / "checkpoint.safetensors")
    full = encoder_tensors(tuned / "fine-tune-full-fold-0.safetensors")
    scratch = encoder_tensors(tuned / "fine-tune-scratch-fold-0.safetensors")
    distance = {name: (float((full[name] - value).norm()), float((scratch[name] - value).norm()))
                for name, value in before.items() if name.endswith("0.weight")}  # fmt: skip
    assert all(near < 0.5 * far for near, far in distance.values()), distance


@pytest.mark.parametrize("protocol", list(PROTOCOLS))
def test_results_are_those_of_the_predictions(tuned, protocol):
    result = read_result(tuned / f"fine-tune-{protocol}.json")
    predictions = read_predictions(tuned / f"fine-tune-{protocol}-predictions.parquet")
    assert result["ensemble"]["top1"] == (predictions.prob_NK.argmax(1) == predictions.label_N).mean()
    np.testing.assert_allclose([fold["top1"] for fold in result["folds"]], (predictions.rank_NF == 0).mean(0))
    assert result["protocol"]["k"] == 2
    assert ("never move" in "".join(result["notes"])) == (protocol == "as-coded-ft")


def test_as_coded_protocols_use_the_slides_head(tuned):
    for protocol in ("as-coded-ft", "as-coded-frozen"):
        assert read_result(tuned / f"fine-tune-{protocol}.json")["protocol"]["head"] == "slides"
    assert read_result(tuned / "fine-tune-full.json")["protocol"]["head"] == "linear"


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
    rows = read_result(root / "runs/run/fine-tune-full.json")["labels_per_class"]
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
    images = open_data(DataLayout(root / "data/shapes")).split("train").read_images(np.arange(60))
    expected = images.reshape(60, 8, 4, 8, 4, 3).mean((2, 4)).transpose(0, 3, 1, 2).reshape(60, -1) / 255
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_pooled_and_flat_layers(root):
    for pool, width in (("avg", 8), ("flatten", 8 * 16 * 16)):
        outcome = extract(root, layer="conv1", pool=pool, overwrite=True)
        assert outcome["features"] == width

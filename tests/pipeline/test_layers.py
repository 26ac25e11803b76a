"""Features of several layers beside each other in one run, each with its own probes."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch
from tiny_chain import extract, prepare, train

import pretext
from pretext import stage_configs as configs
from pretext.artifacts.features import read_feature_header, read_split
from pretext.artifacts.layout import DataLayout, features_stems, result_stems
from pretext.artifacts.results import read_result
from pretext.artifacts.shards import open_data
from pretext.encoders.base import Encoder
from pretext.errors import ArtifactError
from pretext.stages import extract_features, probe
from pretext.tasks.pooling import pool_map


def score(root, **changes):
    return probe.run(configs.ProbeConfig(run=root / "runs/run", k=2, **changes))


def times(folder):
    return {path: (path.stat().st_mtime_ns, path.stat().st_ino) for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture(scope="module")
def layered(chain, tmp_path_factory):
    """The chain with the features of two layers beside the vectors, all of them probed. Not to be written to."""
    root = tmp_path_factory.mktemp("layered") / "chain"
    shutil.copytree(chain, root)
    extract(root, layer="conv1", pool="resize", max_features=200)
    extract(root, layer="conv3")
    for layer in ("latent", "conv1", "conv3"):
        score(root, layer=layer)
    return root


@pytest.fixture
def own(layered, tmp_path):
    """A copy of it that a test may change."""
    shutil.copytree(layered, tmp_path / "chain")
    return tmp_path / "chain"


def test_every_layer_has_files_of_its_own(chain, layered):
    folder = layered / "runs/run"
    assert features_stems(folder) == ["features", "features-conv1", "features-conv3"]
    assert result_stems(folder) == ["probe-linear", "probe-linear-conv1", "probe-linear-conv3"]
    new = {path.name for path in folder.iterdir()} - {path.name for path in (chain / "runs/run").iterdir()}
    assert new == {
        "features-conv1.parquet", "features-conv1.manifest.json", "features-conv3.parquet", "features-conv3.manifest.json",
        *(f"probe-linear{layer}{end}" for layer in ("", "-conv1", "-conv3")
          for end in (".json", ".manifest.json", "-predictions.parquet")),
    }  # fmt: skip
    for name in ("features.parquet", "features.manifest.json"):
        assert (folder / name).read_bytes() == (chain / "runs/run" / name).read_bytes()


def test_stored_features_are_the_layers_maps(layered):
    encoder = pretext.load_encoder(layered / "runs/run")
    rows = open_data(DataLayout(layered / "data/shapes")).split("test").images
    image01 = torch.from_numpy(rows.read(np.arange(50))).permute(0, 3, 1, 2).float() / 255
    with torch.no_grad():
        maps = {layer: encoder.forward_layer(image01, layer) for layer in ("conv1", "conv3")}
    assert maps["conv1"].shape[1:] == (8, 16, 16)
    resized = pool_map(maps["conv1"], "resize", max_features=200)
    assert resized.shape[1] == 8 * 5 * 5
    for layer, expected in (("conv1", resized), ("conv3", maps["conv3"].flatten(1))):
        found = read_split(layered / f"runs/run/features-{layer}.parquet", "test").feature_ND
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_a_result_says_its_layer_and_is_of_its_features(layered):
    folder = layered / "runs/run"
    wide = {"conv1": {"layer": "conv1", "pool": "resize", "max_features": 200, "num_features": 200},
            "conv3": {"layer": "conv3", "pool": "flatten", "num_features": 16 * 4 * 4},
            "latent": {"layer": "latent", "pool": "flatten", "num_features": 12}}  # fmt: skip
    scores = set()
    for layer, facts in wide.items():
        end = "" if layer == "latent" else f"-{layer}"
        result = read_result(folder / f"probe-linear{end}.json")
        assert result["kind"] == "probe-linear"
        assert {name: value for name, value in result["encoder"].items()
                if name in ("layer", "pool", "max_features", "num_features")} == facts  # fmt: skip
        assert read_feature_header(folder / f"features{end}.parquet")["encoder"] == result["encoder"]
        (parent,) = result["parents"]
        made = json.loads((folder / f"features{end}.manifest.json").read_text())
        assert parent["fingerprint"] == made["outputs"][f"features{end}.parquet"]["sha256"]
        assert made["request"].get("max_features") == facts.get("max_features")
        scores.add(result["mean"]["loss"])
    assert len(scores) == 3


def test_a_second_time_touches_no_file(own):
    before = times(own)
    assert extract(own, layer="conv1", pool="resize", max_features=200)["status"] == "already done"
    assert extract(own, layer="conv3")["status"] == "already done"
    for layer in ("latent", "conv1", "conv3"):
        assert score(own, layer=layer)["status"] == "already done"
    assert times(own) == before


def test_other_features_of_one_layer_leave_the_others_alone(own):
    before = times(own)
    with pytest.raises(ArtifactError, match=r"max_features was 200, now 100"):
        extract(own, layer="conv1", pool="resize", max_features=100)
    with pytest.raises(ArtifactError, match=r"max_features was 200, now None; pool was 'resize', now 'avg'"):
        extract(own, layer="conv1", pool="avg")
    assert times(own) == before
    outcome = extract(own, layer="conv1", pool="avg", overwrite=True)
    assert (outcome["features"], outcome["layer"]) == (8, "conv1")
    changed = {path.name for path, time in times(own).items() if before.get(path) != time}
    assert changed == {"features-conv1.parquet", "features-conv1.manifest.json"}
    with pytest.raises(ArtifactError, match=r"its features \(.*features-conv1.parquet\) has changed since"):
        score(own, layer="conv1")
    assert score(own, layer="conv3")["status"] == "already done"


def test_a_layer_without_features_names_the_command(chain):
    with pytest.raises(ArtifactError, match="has no features-conv4.manifest.json") as caught:
        score(chain, layer="conv4")
    assert caught.value.hint == f"pretext extract-features {chain}/runs/run --layer conv4"


def test_pixels_have_no_layers(root):
    extract_features.run(configs.ExtractFeaturesConfig(raw_pixels=True, data_dir=root / "data", runs_dir=root / "runs"))
    with pytest.raises(ArtifactError, match="has no features-conv4.manifest.json") as caught:
        probe.run(configs.ProbeConfig(run=root / "runs/shapes-pixels", layer="conv4"))
    assert caught.value.hint == "raw pixels have no layers: leave --layer out"
    assert probe.run(configs.ProbeConfig(run=root / "runs/shapes-pixels", k=2))["status"] == "done"


def test_features_of_another_layer_under_the_vectors_name(own):
    """An earlier version wrote every layer to features.parquet."""
    folder = own / "runs/run"
    (folder / "features-conv3.parquet").replace(folder / "features.parquet")
    text = (folder / "features-conv3.manifest.json").read_text()
    (folder / "features.manifest.json").write_text(text.replace("features-conv3.parquet", "features.parquet"))
    with pytest.raises(ArtifactError, match=r"features.parquet holds layer conv3, not latent") as caught:
        score(own, kind="knn")
    assert caught.value.hint == f"pretext extract-features {folder} --overwrite"


def test_a_new_checkpoint_breaks_the_link_to_every_layer(own):
    train(own, seed=1, overwrite=True)
    with pytest.raises(
        ArtifactError, match=r"features-conv3.parquet was made from checkpoint sha256:.*now holds"
    ) as caught:
        score(own, layer="conv3")
    assert caught.value.hint.endswith("runs/run --layer conv3 --overwrite")
    extract(own, layer="conv3", overwrite=True)
    assert score(own, layer="conv3", overwrite=True)["status"] == "done"


def test_a_dry_run_tells_the_layers_file(own):
    before = times(own)
    outcome = extract(own, layer="conv2", pool="resize", max_features=72, dry_run=True)
    assert (outcome["output"], outcome["features"]) == (str(own / "runs/run/features-conv2.parquet"), 72)
    told = score(own, layer="conv3", dry_run=True)
    assert (told["output"], told["reads"]) == (
        str(own / "runs/run/probe-linear-conv3.json"), str(own / "runs/run/features-conv3.parquet"))  # fmt: skip
    assert times(own) == before


@pytest.fixture(scope="module")
def split_brain(tmp_path_factory):
    """A split-brain on small images that were brought to Lab. Not to be written to."""
    root = tmp_path_factory.mktemp("split-brain")
    prepare(root, num_unlabeled=40, color_space=("lab",), target_size=4, lab_dtype="float16")
    train(root, objective="split-brain", encoder="resnet18-fcn", epochs=1)
    extract(root)
    return root


def test_prepared_lab_is_read_and_nothing_is_converted(split_brain, tmp_path, monkeypatch):
    def refuse(self, image01_BCHW):
        raise AssertionError("an image was converted a second time")

    found = {}
    for name in ("lab", "rgb"):
        shutil.copytree(split_brain, tmp_path / name)
        if name == "rgb":
            (tmp_path / name / "data/shapes/lab.manifest.json").unlink()
        else:
            with monkeypatch.context() as patch:
                patch.setattr(Encoder, "from_rgb", refuse)
                extract(tmp_path / name, overwrite=True)
        extract(tmp_path / name, layer="logits", pool="avg")
        folder = tmp_path / name / "runs/run"
        assert json.loads((folder / "features-logits.manifest.json").read_text())["config"]["reads"] == name
        found[name] = read_split(folder / "features-logits.parquet", "test").feature_ND
    assert found["lab"].shape == (50, 200)
    assert not np.array_equal(found["lab"], found["rgb"])
    assert np.abs(found["lab"] - found["rgb"]).max() < 0.02 * found["lab"].std()


def test_every_layer_of_two_halves_can_be_stored_and_probed(split_brain, tmp_path):
    shutil.copytree(split_brain, tmp_path / "chain")
    for layer in ("stem", "layer3", "logits"):
        outcome = extract(tmp_path / "chain", layer=layer, pool="resize", max_features=300)
        assert 100 < outcome["features"] <= 300
        assert score(tmp_path / "chain", layer=layer)["status"] == "done"
    assert result_stems(tmp_path / "chain/runs/run") == [
        f"probe-linear-{layer}" for layer in ("layer3", "logits", "stem")
    ]

"""Published networks beside the encoders of runs: their features in files, and runs as networks."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from tiny_chain import extract, prepare

import pretext
from pretext import stage_configs as configs
from pretext.artifacts.features import read_feature_header, read_split
from pretext.artifacts.layout import DataLayout
from pretext.artifacts.results import read_result
from pretext.artifacts.shards import open_data
from pretext.config import resolve
from pretext.errors import ArtifactError, ConfigError, DataError, UnknownVariantError, UsageError
from pretext.perceptual import build_network
from pretext.perceptual.networks import default_taps
from pretext.stages import extract_features, probe

NAME = "squeezenet1_1"


def of_network(root, explicit=(), **changes):
    options = {"network": NAME, "network_weights": "random", "layer": "2", "data_dir": root / "data", "device": "cpu",
               "runs_dir": root / "runs", "weights_dir": root / "weights", "offline": True, **changes}  # fmt: skip
    return extract_features.run(configs.ExtractFeaturesConfig(**options), explicit=explicit)


def images(root, split="test"):
    rows = open_data(DataLayout(root / "data/shapes")).split(split).images
    return torch.from_numpy(rows.read(np.arange(len(rows)))).permute(0, 3, 1, 2).float() / 255


@pytest.fixture(scope="module")
def networks(tmp_path_factory):
    """A data set and the features of a network with random weights. Not to be written to."""
    root = tmp_path_factory.mktemp("networks")
    prepare(root)
    of_network(root)
    return root


def test_a_networks_features_are_stored_with_all_that_a_probe_needs(networks):
    file = networks / f"runs/shapes-{NAME}-random/features-2.parquet"
    network = build_network(NAME, layers=["2"], weights="random")
    with torch.no_grad():
        expected = network(images(networks))[0]
    np.testing.assert_allclose(read_split(file, "test").feature_ND, expected.flatten(1), rtol=1e-4, atol=1e-5)
    header = read_feature_header(file)
    assert header["map_shape"] == list(expected.shape[1:]) == [128, 7, 7]
    assert header["encoder"] == {"name": NAME, "weights": "random", "normalize": "imagenet", "layer": "2",
                                 "pool": "flatten", "num_features": 128 * 49}  # fmt: skip
    assert header["objective"] == {"name": "random"}
    assert header["network"] == network.facts
    assert (header["pretraining"], header["seed"], header["checkpoint"]) == (None, 0, None)


def test_the_same_features_are_not_extracted_twice_and_others_not_over_them(networks):
    file = networks / f"runs/shapes-{NAME}-random/features-2.parquet"
    before = file.stat().st_mtime_ns
    assert of_network(networks)["status"] == "already done"
    with pytest.raises(ArtifactError, match="pool"):
        of_network(networks, pool="avg")
    assert of_network(networks, dry_run=True, layer="1", network_weights="imagenet")["status"] == "dry run"
    assert file.stat().st_mtime_ns == before
    assert not (networks / f"runs/shapes-{NAME}").exists()


def test_published_weights_are_told_as_what_they_are_and_are_a_parent(networks, tmp_path):
    tensors = build_network(NAME, layers=["1"], weights="random", seed=4)._inner.graph.state_dict()
    save_file(tensors, tmp_path / f"{NAME}.safetensors")
    outcome = of_network(networks, network_weights="imagenet", layer="features.1", pool="avg", weights_dir=tmp_path,
                         runs_dir=tmp_path)  # fmt: skip
    file = tmp_path / f"shapes-{NAME}/features-features.1.parquet"
    assert outcome["output"] == str(file)
    header = read_feature_header(file)
    assert header["objective"] == {"name": "supervised ImageNet-1K"}
    assert header["network"]["saw"] == "ImageNet-1K labels"
    assert (header["encoder"]["weights"], header["seed"]) == ("imagenet", None)
    assert (header["map_shape"], header["encoder"]["num_features"]) == (None, 64)
    save_file({key: tensor + 1 for key, tensor in tensors.items()}, tmp_path / f"{NAME}.safetensors")
    with pytest.raises(ArtifactError, match="weights"):
        of_network(networks, network_weights="imagenet", layer="features.1", pool="avg", weights_dir=tmp_path,
                   runs_dir=tmp_path)  # fmt: skip
    (tmp_path / f"{NAME}.safetensors").unlink()
    options = {"network_weights": "imagenet", "layer": "features.1", "pool": "avg", "runs_dir": tmp_path}
    for offline in (True, False):  # finished features ask for no weights
        assert of_network(networks, **options, weights_dir=tmp_path, offline=offline)["status"] == "already done"
    with pytest.raises(DataError, match="is missing"):
        of_network(networks, **options, weights_dir=tmp_path, offline=True, overwrite=True)
    assert of_network(networks, **options, weights_dir=tmp_path, offline=True)["status"] == "already done", (
        "nothing is lost"
    )


def test_other_random_weights_and_images_as_they_are_have_folders_of_their_own(networks, tmp_path):
    changes = {"seed": 3, "normalize": "none", "layer": "1", "pool": "avg", "runs_dir": tmp_path}
    assert of_network(networks, {"seed"}, **changes)["status"] == "done"
    folder = tmp_path / f"shapes-{NAME}-random-s3-unnormalized"
    network = build_network(NAME, layers=["1"], weights="random", seed=3, normalize="none")
    with torch.no_grad():
        expected = network(images(networks))[0].mean((2, 3))
    np.testing.assert_allclose(
        read_split(folder / "features-1.parquet", "test").feature_ND, expected, rtol=1e-4, atol=1e-5
    )
    header = read_feature_header(folder / "features-1.parquet")
    assert (header["seed"], header["encoder"]["normalize"], header["network"]) == (3, "none", network.facts)
    manifest = json.loads((folder / "features-1.manifest.json").read_text())
    assert (manifest["seed"], manifest["request"]["seed"], manifest["request"]["normalize"]) == (3, 3, "none")
    moved = tmp_path / f"shapes-{NAME}-random-s4-unnormalized"
    folder.rename(moved)
    with pytest.raises(ArtifactError, match="seed was 3, now 4"):
        of_network(networks, **changes | {"seed": 4})


def test_what_is_asked_of_networks_only_is_no_part_of_a_runs_features(root):
    extract(root, layer="conv2")
    request = json.loads((root / "runs/run/features-conv2.manifest.json").read_text())["request"]
    assert not {"network", "network_weights", "normalize", "seed"} & request.keys()


def test_a_layer_does_not_hide_that_two_things_were_asked_for(networks):
    given = {"raw_pixels": True, "layer": "2", "data_dir": networks / "data"}
    both, explicit = resolve(configs.ExtractFeaturesConfig, given | {"network": NAME})
    with pytest.raises(UsageError, match="features are of one thing"):
        extract_features.run(both, explicit=explicit)
    pixels, explicit = resolve(configs.ExtractFeaturesConfig, given)
    with pytest.raises(ConfigError, match="--layer is read only without --raw-pixels"):
        extract_features.run(pixels, explicit=explicit)


def test_the_folder_of_a_run_is_no_network_to_extract_from(chain, tmp_path):
    run = str(chain / "runs/run")
    with pytest.raises(ConfigError, match="is the folder of a run") as caught:
        of_network(chain, network=run, network_weights="imagenet", layer="latent", runs_dir=tmp_path)
    assert caught.value.hint == f"pretext extract-features {run} --layer ..."
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"network_weights": "imagenet", "explicit": {"seed"}}, ConfigError, "--seed is that of random weights"),
        ({"layer": "latent"}, UsageError, "--network needs --layer"),
        ({"layer": "conv3"}, ConfigError, "'conv3' is no layer of squeezenet1_1; it has 1 to 4"),
        ({"network": "squeezenet"}, UnknownVariantError, "network 'squeezenet' is unknown"),
        ({"raw_pixels": True}, UsageError, "features are of one thing: give either --network or --raw-pixels"),
        ({"network": None, "layer": "latent"}, UsageError, "give the run whose encoder is used, or --network"),
        ({"precision": "bf16"}, ConfigError, "a --network computes in fp32"),
        ({"network_weights": "imagenet"}, DataError, "squeezenet1_1-b8a52dc0.pth is missing"),
        ({"network": "inception_v3", "layer": "4"}, ConfigError, "data set shapes: image must be at least 43 px"),
    ],
)
def test_what_cannot_be_extracted_is_refused(networks, tmp_path, changes, error, message):
    with pytest.raises(error, match=message):
        of_network(networks, **{"runs_dir": tmp_path, **changes})
    assert not list(tmp_path.iterdir())


def test_an_own_map_has_its_shape_in_the_header(root):
    extract(root, layer="conv3")
    header = read_feature_header(root / "runs/run/features-conv3.parquet")
    assert np.prod(header["map_shape"]) == header["encoder"]["num_features"]
    assert len(header["map_shape"]) == 3
    assert read_feature_header(root / "runs/run/features.parquet")["map_shape"] is None


def test_a_probe_reads_a_networks_features(networks):
    folder = networks / f"runs/shapes-{NAME}-random"
    of_network(networks, layer="1", pool="avg")
    probe.run(configs.ProbeConfig(run=folder, layer="1", k=2, strengths=(1e-2,)), explicit={"strengths"})
    result = read_result(folder / "probe-linear-1.json")
    assert result["encoder"]["name"] == NAME
    assert result["objective"] == {"name": "random"}
    assert 0 <= result["mean"]["top1"] <= 1


def test_a_run_is_a_network_of_its_encoders_layers(chain):
    run = chain / "runs/run"
    encoder, manifest = pretext.load_encoder(run), json.loads((run / "manifest.json").read_text())
    network = build_network(str(run), layers=["conv2", "latent"])
    batch = images(chain)[:4]
    with torch.no_grad():
        found = network(batch)
        assert torch.equal(found[0], encoder.forward_layer(batch, "conv2"))
        assert torch.equal(found[1][:, :, 0, 0], encoder(batch))
    assert network.channels == (found[0].shape[1], 12)
    assert network.facts == {
        "network": "run", "layers": ["conv2", "latent"], "nodes": ["conv2", "latent"], "weights": "run",
        "fingerprint": manifest["outputs"]["checkpoint.safetensors"]["sha256"], "normalize": "none",
        "saw": "shapes, by autoencode with mse",
    }  # fmt: skip
    assert default_taps(str(run)) == ("latent",)


def test_what_a_run_is_not_asked_for_is_refused(chain):
    run = str(chain / "runs/run")
    with pytest.raises(ConfigError, match=r"--layer 'conv9' is no layer of .*it has conv1"):
        build_network(run, layers=["conv9"])
    with pytest.raises(ConfigError, match="a run, with its own weights"):
        build_network(run, layers=["conv1"], weights="random")
    with pytest.raises(ArtifactError, match="is not a run"):
        build_network(str(chain / "data"), layers=["conv1"])

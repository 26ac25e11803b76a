"""The file of a fitted metric, written, read, and refused where it is not one."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from safetensors import safe_open

from pretext.artifacts.checkpoint import write_tensors
from pretext.artifacts.manifest import Record
from pretext.errors import ArtifactError
from pretext.perceptual.fitted import Fitted, read_fitted, write_fitted

NETWORK = {"network": "vgg16", "weights": "imagenet", "saw": "ImageNet-1K labels"}


def fitted(*weights):
    return Fitted(NETWORK, tuple(str(n + 1) for n in range(len(weights))), [torch.tensor(w) for w in weights])


def test_what_is_written_is_read(tmp_path):
    written = fitted([0.0, 1.5], [2.0, 0.25, 3.0])
    write_fitted(tmp_path / "metric.safetensors", written, {"strength": 0.1})
    found = read_fitted(tmp_path / "metric.safetensors")
    assert (found.network, found.layers) == (NETWORK, ("1", "2"))
    assert all(torch.equal(a, b) for a, b in zip(found.weights, written.weights, strict=True))


def test_layers_keep_their_order_past_ten(tmp_path):
    write_fitted(tmp_path / "m.safetensors", fitted(*[[float(n)] for n in range(12)]), {})
    assert [float(w[0]) for w in read_fitted(tmp_path / "m.safetensors").weights] == list(range(12))


def test_equal_metrics_are_equal_bytes_without_pickles(tmp_path):
    for name in ("a", "b"):
        write_fitted(tmp_path / name, fitted([1.0]), {"strength": 0.1})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    with safe_open(tmp_path / "a", framework="numpy") as file:
        assert np.array_equal(file.get_tensor("layer0"), np.ones(1, np.float32))


@pytest.mark.parametrize("weights", [[[-1.0]], [[float("nan")]], [[[1.0]]]])
def test_weights_that_are_no_weights_are_refused_before_anything_is_written(tmp_path, weights):
    with pytest.raises(ValueError, match="weights must be"):
        write_fitted(tmp_path / "m", fitted(*weights), {})
    assert not (tmp_path / "m").exists()


def test_one_vector_a_layer(tmp_path):
    with pytest.raises(ValueError, match="one vector a layer, got 1 for 2"):
        write_fitted(tmp_path / "m", Fitted(NETWORK, ("1", "2"), [torch.ones(3)]), {})


def header(**changes):
    return {"kind": "fitted metric", "network": NETWORK, "layers": ["1"], **changes}


@pytest.mark.parametrize(
    ("tensors", "facts", "words"),
    [
        ({"layer0": torch.ones(2)}, header(kind="checkpoint"), "holds no fitted metric"),
        ({"layer0": torch.ones(2)}, header(network=None), "holds no fitted metric"),
        ({"layer1": torch.ones(2)}, header(), "has weights layer1 for 1 layers"),
        ({"layer0": -torch.ones(2)}, header(), "negative or not finite"),
        ({"layer0": torch.ones(2, 2)}, header(), "of shape"),
    ],
)
def test_another_or_a_damaged_file_is_refused(tmp_path, tensors, facts, words):
    write_tensors(tmp_path / "m.safetensors", tensors, facts)
    with pytest.raises(ArtifactError, match=words):
        read_fitted(tmp_path / "m.safetensors")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ArtifactError, match=r"m\.safetensors does not exist"):
        read_fitted(tmp_path / "m.safetensors")


def test_a_run_is_read_only_when_it_is_done(tmp_path):
    with pytest.raises(ArtifactError, match=r"has no fit-metric\.manifest\.json"):
        read_fitted(tmp_path)
    record = Record(tmp_path / "fit-metric.manifest.json", "fit-metric", {})
    record.begin({}, seed=0)
    write_fitted(tmp_path / "metric.safetensors", fitted([1.0]), {})
    with pytest.raises(ArtifactError, match="not finished"):
        read_fitted(tmp_path)
    record.finish([tmp_path / "metric.safetensors"], summary={})
    assert read_fitted(tmp_path).layers == ("1",)

"""What every encoder of the catalogue must do; a new row is tested by standing there."""

from __future__ import annotations

import pytest
import torch

from pretext import load_encoder
from pretext.artifacts.checkpoint import write_tensors
from pretext.catalog import ENCODERS
from pretext.errors import ArtifactError


def build(name, *, image_size=64, seed=0):
    torch.manual_seed(seed)
    row = ENCODERS[name]
    return row.load()(image_size=image_size, **{**row.reads, **row.tiny})


@pytest.fixture(params=list(ENCODERS))
def name(request):
    return request.param


def images(count=3, size=64, seed=0):
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(seed))


def test_there_are_encoders():
    assert len(ENCODERS) >= 2


def test_output_is_a_vector_of_the_stated_size(name):
    encoder = build(name)
    assert encoder.name == name
    assert encoder(images()).shape == (3, encoder.num_features)


def test_layers_are_named_in_order_and_end_in_the_output(name):
    encoder = build(name).eval()
    assert encoder.layers[-1] == "latent"
    with torch.no_grad():
        for layer in encoder.layers:
            assert encoder.forward_layer(images(), layer).shape[0] == 3
        torch.testing.assert_close(encoder.forward_layer(images(), "latent"), encoder(images()), rtol=0, atol=0)


def test_every_parameter_gets_a_gradient(name):
    encoder = build(name)
    encoder(images(4)).square().sum().backward()
    missing = [key for key, value in encoder.named_parameters() if value.grad is None or not value.grad.abs().sum() > 0]
    # a convolution's bias before batch norm is cancelled by the mean: its gradient is rounding, but it is there
    assert [key for key in missing if not key.endswith("bias")] == []


def test_an_image_is_judged_alone_in_eval_mode(name):
    encoder = build(name).eval()
    batch = images(4)
    other = batch.clone()
    other[1:] = images(3, seed=9)
    with torch.no_grad():
        torch.testing.assert_close(encoder(batch)[0], encoder(other)[0], rtol=1e-5, atol=1e-6)


def test_the_input_is_not_changed(name):
    batch = images()
    before = batch.clone()
    build(name)(batch)
    assert torch.equal(batch, before)


def test_same_seed_same_bits(name):
    one, two = build(name, seed=5).state_dict(), build(name, seed=5).state_dict()
    assert all(torch.equal(one[key], two[key]) for key in one)


def test_saved_and_restored_it_is_the_same(name, tmp_path):
    encoder = build(name).eval()
    row = ENCODERS[name]
    header = {"kind": "pretrain", "encoder": {"name": name, "image_size": 64, **row.reads, **row.tiny}}
    file = tmp_path / "checkpoint.safetensors"
    write_tensors(file, {f"encoder.{key}": value for key, value in encoder.state_dict().items()}, header)
    restored = load_encoder(file)
    assert not restored.training
    with torch.no_grad():
        assert torch.equal(restored(images()), encoder(images()))


def test_a_foreign_tensor_is_refused_by_name(name, tmp_path):
    encoder = build(name)
    row = ENCODERS[name]
    header = {"kind": "pretrain", "encoder": {"name": name, "image_size": 64, **row.reads, **row.tiny}}
    tensors = {f"encoder.{key}": value for key, value in encoder.state_dict().items()}
    first = next(iter(tensors))
    tensors["encoder.module.weight"] = tensors.pop(first)
    write_tensors(tmp_path / "checkpoint.safetensors", tensors, header)
    with pytest.raises(ArtifactError, match=r"missing: .*; unexpected: module.weight"):
        load_encoder(tmp_path / "checkpoint.safetensors")

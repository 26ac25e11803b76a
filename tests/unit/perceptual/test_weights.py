"""Published weights: which file is taken, what it may hold, and what is said where there is none."""

import hashlib
from pathlib import Path

import pytest
import torch
import torchmetrics
from safetensors.torch import save_file

from pretext.errors import ArtifactError, ConfigError, DataError
from pretext.perceptual import build_network, weights
from pretext.perceptual.cutting import cut_network
from pretext.perceptual.networks import default_taps
from pretext.perceptual.weights import LPIPS_FILES, load_weights, lpips_weights

NAME, NODES = "squeezenet1_1", ["features.1", "features.3"]
FILE = "squeezenet1_1-b8a52dc0.pth"  # torchvision's own name of it


@pytest.fixture(scope="module")
def needed():
    return cut_network(NAME, NODES)[0].state_dict()


def drawn(needed, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return {key: torch.randn(tensor.shape, generator=generator) for key, tensor in needed.items()}


def load(needed, folder, name=NAME):
    return load_weights(name, needed, weights_dir=folder, offline=True)


def forget_checksum(monkeypatch, path):
    """Let a file of our own stand for the published one."""
    real = weights.fetch
    digest = "sha256:" + hashlib.sha256(path.read_bytes()).hexdigest()
    monkeypatch.setattr(weights, "fetch", lambda url, to, **options: real(url, to, **{**options, "checksum": digest}))


@pytest.mark.parametrize("name", ["squeezenet1_1.safetensors", "squeezenet1_1-features.safetensors"])
def test_a_file_of_half_precision_with_more_than_is_needed_will_do(needed, tmp_path, name):
    half = {key: tensor.half() for key, tensor in drawn(needed).items()}
    save_file({**half, "classifier.1.bias": torch.zeros(1000).half()}, tmp_path / name)
    found, fingerprint = load(needed, tmp_path)
    assert found.keys() == needed.keys()
    assert all(tensor.dtype == torch.float32 for tensor in found.values())
    assert all(torch.equal(found[key], half[key].float()) for key in found)
    assert fingerprint == "sha256:" + hashlib.sha256((tmp_path / name).read_bytes()).hexdigest()


def test_the_network_computes_with_the_files_weights(needed, tmp_path):
    tensors = drawn(needed)
    save_file(tensors, tmp_path / f"{NAME}.safetensors")
    network = build_network(NAME, layers=["1"], normalize="none", weights_dir=tmp_path, offline=True)
    image = torch.rand(1, 3, 32, 32)
    expected = torch.conv2d(image, tensors["features.0.weight"], tensors["features.0.bias"], stride=2).relu()
    torch.testing.assert_close(network(image)[0], expected)
    assert (network.facts["weights"], network.facts["saw"]) == ("imagenet", "ImageNet-1K labels")


def test_torchvisions_own_file_is_preferred_and_verified(needed, tmp_path, monkeypatch):
    own, other = drawn(needed, seed=1), drawn(needed, seed=2)
    save_file(other, tmp_path / f"{NAME}.safetensors")
    torch.save(own, tmp_path / FILE)
    with pytest.raises(DataError, match=rf"{FILE} has sha256:\w+, expected sha256:b8a52dc0"):
        load(needed, tmp_path)
    forget_checksum(monkeypatch, tmp_path / FILE)
    found, _ = load(needed, tmp_path)
    assert all(torch.equal(found[key], own[key]) for key in needed)


def test_a_missing_file_is_named_with_its_address_checksum_and_place(needed, tmp_path):
    with pytest.raises(DataError, match="downloads are forbidden by --offline") as caught:
        load(needed, tmp_path)
    assert str(tmp_path / FILE) in caught.value.message
    for word in (f"https://download.pytorch.org/models/{FILE}", "sha256:b8a52dc0", f"{NAME}.safetensors"):
        assert word in caught.value.hint


def test_a_missing_file_is_downloaded_to_its_place(needed, tmp_path, monkeypatch):
    asked = []

    def fetch(url, to, **options):
        asked.append((url, to, options["checksum"], options["offline"]))
        torch.save(drawn(needed), to)
        return to

    monkeypatch.setattr(weights, "fetch", fetch)
    folder = tmp_path / "new" / "weights"
    found, _ = load_weights(NAME, needed, weights_dir=folder, offline=False)
    assert asked == [(f"https://download.pytorch.org/models/{FILE}", folder / FILE, "sha256:b8a52dc0", False)]
    assert found.keys() == needed.keys()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("features.0.bias"), "needed weights: missing: features.0.bias"),
        (
            lambda t: t.update({"features.0.bias": torch.zeros(5)}),
            r"wrong shape: features.0.bias is \(5,\), not \(64,\)",
        ),
    ],
)
def test_weights_of_something_else_are_refused_by_name(needed, tmp_path, change, message):
    tensors = drawn(needed)
    change(tensors)
    save_file(tensors, tmp_path / f"{NAME}.safetensors")
    with pytest.raises(ArtifactError, match=message):
        load(needed, tmp_path)


@pytest.mark.parametrize("content", [b"no weights", b""])
def test_a_broken_file_is_an_error_for_people(needed, tmp_path, monkeypatch, content):
    (tmp_path / f"{NAME}.safetensors").write_bytes(content)
    with pytest.raises(ArtifactError, match=f"{NAME}.safetensors can't be read as safetensors"):
        load(needed, tmp_path)
    (tmp_path / FILE).write_bytes(content)
    forget_checksum(monkeypatch, tmp_path / FILE)
    with pytest.raises(ArtifactError, match=f"{FILE} can't be read as weights"):
        load(needed, tmp_path)


class Foreign:
    """Whatever a pickle may name; reading it must not import or run it."""


@pytest.mark.parametrize("content", [[torch.zeros(1)], {"epoch": 3}, {"features.0.bias": Foreign()}])
def test_a_pickle_of_other_things_than_tensors_is_refused(needed, tmp_path, monkeypatch, content):
    torch.save(content, tmp_path / FILE)
    forget_checksum(monkeypatch, tmp_path / FILE)
    with pytest.raises(ArtifactError, match=f"{FILE} (holds something else than|can't be read as) weights"):
        load(needed, tmp_path)


def test_the_old_names_of_densenets_parts_are_understood_and_missing_counts_made_up(tmp_path):
    needed = cut_network("densenet121", ["features.denseblock1"])[0].state_dict()
    tensors = {key: torch.rand(tensor.shape) for key, tensor in needed.items() if "num_batches" not in key}
    renamed = {
        key.replace(".norm1.", ".norm.1.").replace(".conv2.", ".conv.2."): tensor for key, tensor in tensors.items()
    }
    assert renamed.keys() - tensors.keys()
    save_file(renamed, tmp_path / "densenet121.safetensors")
    found, _ = load(needed, tmp_path, "densenet121")
    assert all(torch.equal(found[key], tensor) for key, tensor in tensors.items())
    assert all(found[key] == 0 for key in needed.keys() - tensors.keys())


@pytest.mark.parametrize(("network", "short"), [("alexnet", "alex"), ("squeezenet1_1", "squeeze"), ("vgg16", "vgg")])
def test_lpips_weights_fit_the_taps_and_are_read_in_their_order(tmp_path, network, short):
    channels = cut_network(network, default_taps(network))[1]
    expected = [torch.rand(count) for count in channels]
    tensors = {f"lin{layer}.model.1.weight": weight.reshape(1, -1, 1, 1) for layer, weight in enumerate(expected)}
    save_file(tensors, tmp_path / f"lpips-{short}-v0.1.safetensors")
    found = lpips_weights(network, weights_dir=tmp_path, offline=True)
    assert len(found) == len(expected)
    assert all(torch.equal(one, two) for one, two in zip(found, expected, strict=True))


@pytest.mark.parametrize("network", LPIPS_FILES)
def test_the_published_lpips_file_is_known_by_its_checksum(tmp_path, network):
    short = LPIPS_FILES[network][0]
    shipped = Path(torchmetrics.__file__).parent / "functional/image/lpips_models" / f"{short}.pth"
    (tmp_path / shipped.name).symlink_to(shipped)
    found = lpips_weights(network, weights_dir=tmp_path, offline=True)  # torchmetrics ships the published files
    assert all((weight >= 0).all() and weight.max() > 0.1 for weight in found)
    assert [len(weight) for weight in found] == cut_network(network, default_taps(network))[1]


def test_lpips_weights_that_were_never_published_are_refused():
    with pytest.raises(ConfigError, match="published for alexnet, squeezenet1_1, vgg16, not for resnet18") as caught:
        lpips_weights("resnet18")
    assert "unit" in caught.value.hint

"""One flipped bit in any file of a chain stops the stage that would use it, by name, before it writes anything."""

import pytest

from pretext import load_encoder
from pretext.artifacts import verify
from pretext.errors import ArtifactError
from pretext.stage_configs import ExtractFeaturesConfig, FineTuneConfig, PretrainConfig, ProbeConfig
from pretext.stages import extract_features, fine_tune, pretrain, probe


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)


@pytest.fixture
def flipped(root, monkeypatch):
    monkeypatch.setattr(verify, "_checked", set())

    def flip_one(pattern):
        (path, *_) = sorted(root.glob(pattern))
        flip(path)
        return root

    return flip_one


STAGES = {
    "pretrain": lambda root: pretrain.run(PretrainConfig(data_dir=root / "data", out=root / "new", epochs=1, width=0.125)),
    "init": lambda root: pretrain.run(PretrainConfig(data_dir=root / "data", out=root / "new", epochs=1, width=0.125,
                                                     init_from=root / "runs/run")),
    "extract": lambda root: extract_features.run(ExtractFeaturesConfig(run=root / "runs/run", data_dir=root / "data", layer="conv1")),
    "probe": lambda root: probe.run(ProbeConfig(run=root / "runs/run", kind="knn")),
    "fine-tune": lambda root: fine_tune.run(FineTuneConfig(run=root / "runs/run", data_dir=root / "data", protocol="frozen")),
    "load_encoder": lambda root: load_encoder(root / "runs/run"),
}  # fmt: skip


@pytest.mark.parametrize(
    ("stage", "pattern", "part"),
    [
        ("pretrain", "data/*/unlabeled-*.arrow", ""),
        ("init", "runs/run/checkpoint.safetensors", " (tensor"),
        ("extract", "runs/run/checkpoint.safetensors", " (tensor"),
        ("extract", "data/*/test-*.arrow", ""),
        ("probe", "runs/run/features.parquet", " (column "),
        ("fine-tune", "data/*/train-*.arrow", ""),
        ("fine-tune", "runs/run/checkpoint.safetensors", " (tensor"),
        ("load_encoder", "runs/run/checkpoint.safetensors", " (tensor"),
    ],
)
def test_a_flipped_bit_is_found_before_it_is_used(flipped, stage, pattern, part):
    root = flipped(pattern)
    before = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
    with pytest.raises(ArtifactError, match=r"is damaged: its bytes \d+ to \d+") as caught:
        STAGES[stage](root)
    assert str(sorted(root.glob(pattern))[0]) in str(caught.value)
    assert part in str(caught.value)
    assert caught.value.hint
    assert {path: path.read_bytes() for path in root.rglob("*") if path.is_file()} == before, "nothing was written"

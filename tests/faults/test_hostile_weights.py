"""Weights that lie about themselves, or want to be run: refused in one sentence, without code and without memory."""

from __future__ import annotations

import json
import pickle
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from failing_file import FailingFile
from fault_counts import attempt, count
from hostile_readers import whole_files
from safetensors.numpy import save_file

from pretext.artifacts.checkpoint import read_header, read_tensors
from pretext.encoders.restore import load_encoder
from pretext.errors import ArtifactError
from pretext.perceptual.weights import _read

SUITE = "hostile files"


def _refused(read, path: Path, match: str | None = None) -> str:
    """The reader's one sentence."""
    with pytest.raises(ArtifactError, match=match) as caught:
        read(path)
    assert path.name in caught.value.message
    assert len(caught.value.message) < 4000
    count(SUITE, 1, 1, inputs=1)
    return caught.value.message


def test_weights_that_the_disk_fails_to_give_are_told(tmp_path, monkeypatch):
    torch.save({"a": torch.ones(2)}, tmp_path / "net.pth")
    with attempt("input/output error while reading"), monkeypatch.context() as patch:
        patch.setattr("builtins.open", lambda file, *_: FailingFile(file))
        with pytest.raises(ArtifactError, match=r"net\.pth can't be read as weights: .*Input/output error"):
            _read(tmp_path / "net.pth")


class TestSafetensors:
    def _write(self, path, header, body=b"", *, stated=None):
        text = header if isinstance(header, bytes) else json.dumps(header).encode()
        path.write_bytes(struct.pack("<Q", len(text) if stated is None else stated) + text + body)

    @pytest.mark.parametrize(
        ("header", "stated"),
        [
            ({}, 2**63), ({}, 2**64 - 1), ({}, 100_000_001), ({}, 0), ({}, 1),
            ({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 2**40]}}, None),
            ({"a": {"dtype": "F32", "shape": [2], "data_offsets": [-8, 0]}}, None),
            ({"a": {"dtype": "F32", "shape": [-2], "data_offsets": [0, 8]}}, None),
            ({"a": {"dtype": "F32", "shape": [2**33, 2**33], "data_offsets": [0, 8]}}, None),
            ({"a": {"dtype": "F32", "shape": [2**64], "data_offsets": [0, 8]}}, None),
            ({"a": {"dtype": "F33", "shape": [2], "data_offsets": [0, 8]}}, None),
            ({"a": {"dtype": "F32", "shape": [2], "data_offsets": [8, 0]}}, None),
            ({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 8]}}, None),
            ({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]},
              "b": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}, None),
            ({"a": 5}, None), ([], None), (b"{" + b'"a":[' * 50_000, None), (b"\xff\xfe{}", None),
            ({"__metadata__": {"pretext": 5}}, None), ({"__metadata__": ["pretext"]}, None),
            (b'{"__metadata__": {"pretext": NaN}}', None),
        ],
    )  # fmt: skip
    def test_headers_that_lie(self, tmp_path, header, stated):
        path = tmp_path / "x.safetensors"
        self._write(path, header, bytes(8), stated=stated)
        for read in (read_header, read_tensors, load_encoder):
            _refused(read, path)

    @pytest.mark.parametrize(
        "text", ['{"schema": 1, "a": NaN}', '{"schema": 1, "a": 1e999}', "[" * 10**5, "1" * 5000, "[1]"]
    )
    def test_own_header_that_is_no_sound_json(self, tmp_path, text):
        save_file({"a": np.zeros(2)}, tmp_path / "x.safetensors", metadata={"pretext": text})
        _refused(read_header, tmp_path / "x.safetensors")

    @pytest.mark.parametrize(
        "encoder",
        [
            {"name": "cnn", "width": 1e9}, {"name": "cnn", "latent_dim": 10**12}, {"name": "cnn", "latent_dim": 10**30},
            {"name": "cnn", "image_size": 10**6}, {"name": "cnn", "width": "1"}, {"name": "cnn", "width": None},
            {"name": "cnn", "latent_dim": [4]}, {"name": "cnn", "latent_dim": -1}, {"name": "cnn", "__class__": "os.system"},
            {"name": "cnn", "stem": "3x3"}, {"name": "nonesuch"}, {"name": "__class__"}, {"name": ["cnn"]}, {"name": {}},
            {"name": "resnet18", "width": 1e300}, {"name": "resnet18", "stem": 7}, {}, [], "cnn", None,
        ],
    )  # fmt: skip
    def test_encoders_that_can_not_be_or_are_too_large_take_no_memory(self, tmp_path, encoder):
        path = tmp_path / "x.safetensors"
        text = json.dumps({"schema": 1, "kind": "encoder", "encoder": encoder})
        save_file({"encoder.a": np.zeros(2)}, path, metadata={"pretext": text})
        _refused(load_encoder, path, "describes|does not fit its own description")

    def test_weights_of_another_sort_of_number_are_refused(self, tmp_path):
        path = tmp_path / "x.safetensors"
        path.write_bytes(whole_files(tmp_path / "whole")["checkpoint"].read_bytes())
        header, tensors = read_header(path), read_tensors(path)
        integers = {name: np.zeros(tensor.shape, np.int32) for name, tensor in tensors.items()}
        save_file(integers, path, metadata={"pretext": json.dumps(header)})
        _refused(load_encoder, path, "is torch.int32")


class Runs:
    """Unpickled, it makes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


class TestPickles:
    @pytest.mark.parametrize("protocol", [0, 2, 4])
    @pytest.mark.parametrize("inside", [False, True])
    def test_no_code_of_a_weights_file_runs(self, tmp_path, protocol, inside):
        proof, path = tmp_path / "proof", tmp_path / "w.pth"
        if inside:
            torch.save({"a": Runs(proof)}, path)
        else:
            path.write_bytes(pickle.dumps(Runs(proof), protocol))
        _refused(_read, path)
        assert not proof.exists()

    def test_a_zip_bomb_is_refused_before_it_grows(self, tmp_path):
        path = tmp_path / "w.pth"
        torch.save({"a": torch.zeros(1 << 22)}, tmp_path / "plain.pth")
        with (
            zipfile.ZipFile(tmp_path / "plain.pth") as plain,
            zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive,
        ):
            for entry in plain.infolist():
                archive.writestr(entry.filename, plain.read(entry))
        assert path.stat().st_size < 1 << 20
        _refused(_read, path, "compressed")

    @pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"\x80\x02", b"not weights", bytes(1000)])
    def test_what_are_no_weights(self, tmp_path, content):
        (tmp_path / "w.pth").write_bytes(content)
        _refused(_read, tmp_path / "w.pth")

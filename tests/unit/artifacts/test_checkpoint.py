"""Weights in safetensors with a JSON header."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.numpy import save_file

from pretext.artifacts.checkpoint import check_keys, read_header, read_tensors, write_tensors
from pretext.errors import ArtifactError


def some_tensors():
    generator = torch.Generator().manual_seed(0)
    return {
        "encoder.conv.weight": torch.randn(4, 3, 3, 3, generator=generator),
        "encoder.bn.num_batches_tracked": torch.tensor(7),
        "encoder.half": torch.randn(5, generator=generator).bfloat16(),
        "decoder.double": torch.randn(2, 2, generator=generator).double(),
        "decoder.mask": torch.tensor([True, False]),
        "decoder.empty": torch.empty(0, 3),
    }


HEADER = {"kind": "pretrain", "encoder": {"name": "cnn", "latent_dim": 8}, "lr": 0.1, "seed": 0}


@pytest.fixture
def path(tmp_path):
    write_tensors(tmp_path / "x.safetensors", some_tensors(), HEADER)
    return tmp_path / "x.safetensors"


class TestRoundTrip:
    def test_tensors_of_every_type_and_shape(self, path):
        found = read_tensors(path)
        assert found.keys() == some_tensors().keys()
        for name, want in some_tensors().items():
            assert found[name].dtype == want.dtype, name
            torch.testing.assert_close(found[name], want, rtol=0, atol=0)

    def test_a_prefix_chooses_and_is_cut_off(self, path):
        assert set(read_tensors(path, "decoder.")) == {"double", "mask", "empty"}
        assert read_tensors(path, "nothing.") == {}

    def test_the_header(self, path):
        assert read_header(path) == {"schema": 1, **HEADER}

    def test_equal_content_gives_equal_bytes(self, path, tmp_path):
        tensors = dict(reversed(some_tensors().items()))
        header = dict(reversed(HEADER.items()))
        write_tensors(tmp_path / "y.safetensors", tensors, header)
        assert (tmp_path / "y.safetensors").read_bytes() == path.read_bytes()
        write_tensors(tmp_path / "z.safetensors", tensors, header | {"seed": 1})
        assert (tmp_path / "z.safetensors").read_bytes() != path.read_bytes()

    def test_tensors_that_lie_otherwise_in_memory_give_the_same_bytes(self, tmp_path):
        weight = torch.randn(4, 3, 5, 5, generator=torch.Generator().manual_seed(1))
        write_tensors(tmp_path / "plain.safetensors", {"w": weight, "t": weight[0, 0].t().contiguous()}, {})
        lying = weight.to(memory_format=torch.channels_last)
        assert not lying.is_contiguous()
        write_tensors(tmp_path / "lying.safetensors", {"w": lying, "t": weight[0, 0].t()}, {})
        assert (tmp_path / "lying.safetensors").read_bytes() == (tmp_path / "plain.safetensors").read_bytes()
        torch.testing.assert_close(read_tensors(tmp_path / "lying.safetensors")["w"], weight, rtol=0, atol=0)

    def test_parameters_are_detached(self, tmp_path):
        module = torch.nn.Linear(2, 2)
        write_tensors(tmp_path / "m.safetensors", dict(module.named_parameters()), {})
        assert not read_tensors(tmp_path / "m.safetensors")["weight"].requires_grad

    def test_other_programs_can_read_it(self, path):
        with safe_open(path, framework="numpy") as file:
            np.testing.assert_array_equal(file.get_tensor("decoder.mask"), [True, False])
            assert json.loads(file.metadata()["pretext"])["kind"] == "pretrain"

    def test_nan_in_the_header_is_refused(self, tmp_path):
        with pytest.raises(ValueError, match="not JSON compliant"):
            write_tensors(tmp_path / "x.safetensors", {}, {"loss": float("nan")})
        assert list(tmp_path.iterdir()) == []


def test_the_header_is_read_without_torch(path):
    code = ("import sys; from pathlib import Path; from pretext.artifacts.checkpoint import read_header; "
            "print(read_header(Path(sys.argv[1]))['kind'], 'torch' in sys.modules)")  # fmt: skip
    result = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=True)
    assert result.stdout.split() == ["pretrain", "False"]


class TestBrokenFiles:
    @pytest.mark.parametrize("read", [read_header, read_tensors])
    def test_missing(self, tmp_path, read):
        with pytest.raises(ArtifactError, match=r"none\.safetensors (does not exist|can't be read)"):
            read(tmp_path / "none.safetensors")

    @pytest.mark.parametrize("read", [read_header, read_tensors])
    def test_a_folder(self, tmp_path, read):
        with pytest.raises(ArtifactError, match=r"does not exist|can't be read as safetensors"):
            read(tmp_path)

    @pytest.mark.parametrize("read", [read_header, read_tensors])
    def test_truncated_anywhere(self, path, read):
        whole = path.read_bytes()
        for size in [*range(0, len(whole) - 1, 37), len(whole) - 1]:
            path.write_bytes(whole[:size])
            with pytest.raises(ArtifactError, match=r"x\.safetensors can't be read as safetensors: "):
                read(path)

    @pytest.mark.parametrize("content", [b"", b"garbage", b"\x80\x02}q\x00.", b"\xff" * 64])
    def test_garbage(self, tmp_path, content):
        (tmp_path / "x.safetensors").write_bytes(content)
        for read in (read_header, read_tensors):
            with pytest.raises(ArtifactError, match="can't be read as safetensors"):
                read(tmp_path / "x.safetensors")

    def test_another_programs_file_has_no_header_of_ours(self, tmp_path):
        for metadata in (None, {"format": "pt"}):
            save_file({"a": np.zeros(2)}, tmp_path / "x.safetensors", metadata=metadata)
            with pytest.raises(ArtifactError, match=r"was not written by this toolkit: its header has no 'pretext'"):
                read_header(tmp_path / "x.safetensors")

    @pytest.mark.parametrize("text", ["{", "1" * 5000, "[" * 100_000])
    def test_a_damaged_header(self, tmp_path, text):
        save_file({"a": np.zeros(2)}, tmp_path / "x.safetensors", metadata={"pretext": text})
        with pytest.raises(ArtifactError, match=r"x\.safetensors has a damaged header: "):
            read_header(tmp_path / "x.safetensors")

    @pytest.mark.parametrize("text", ["[]", '{"schema": 2}', "{}", "3"])
    def test_a_header_of_another_schema(self, tmp_path, text):
        save_file({"a": np.zeros(2)}, tmp_path / "x.safetensors", metadata={"pretext": text})
        with pytest.raises(ArtifactError, match="has a header of another schema; this version reads 1"):
            read_header(tmp_path / "x.safetensors")


class TestCheckKeys:
    EXPECTED = {"a": torch.zeros(2, 3), "b": torch.zeros(4), "c": torch.zeros(1)}

    def test_what_fits_passes(self, tmp_path):
        check_keys(tmp_path, self.EXPECTED, {name: tensor.clone() for name, tensor in self.EXPECTED.items()})

    def test_missing_unexpected_and_misshapen_are_named_together(self, tmp_path):
        found = {"a": torch.zeros(3, 2), "b": torch.zeros(4), "d": torch.zeros(1)}
        with pytest.raises(ArtifactError) as caught:
            check_keys(tmp_path / "x.safetensors", self.EXPECTED, found)
        assert caught.value.message.endswith(
            "x.safetensors does not fit its own description: 1 of 3 tensors match; missing: c; unexpected: d; "
            "wrong shape: a is (3, 2), not (2, 3)"
        )

    def test_only_what_is_wrong_is_named(self, tmp_path):
        with pytest.raises(ArtifactError, match=r"2 of 3 tensors match; missing: c$"):
            check_keys(tmp_path, self.EXPECTED, {name: self.EXPECTED[name] for name in "ab"})
        with pytest.raises(ArtifactError, match=r"3 of 3 tensors match; unexpected: z$"):
            check_keys(tmp_path, self.EXPECTED, self.EXPECTED | {"z": torch.zeros(1)})

    def test_a_long_list_is_cut(self, tmp_path):
        expected = {f"layer{i}": torch.zeros(1) for i in range(9)}
        with pytest.raises(
            ArtifactError, match=r"0 of 9 tensors match; missing: layer0, layer1, layer2, layer3, layer4$"
        ):
            check_keys(tmp_path, expected, {})

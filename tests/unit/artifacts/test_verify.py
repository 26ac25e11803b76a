"""A flipped bit is found wherever it lies, and named by file, place and content."""

import hashlib
import zlib

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pretext.artifacts import atomic, verify
from pretext.artifacts.atomic import damaged_block, file_sums
from pretext.artifacts.manifest import Record, read_manifest
from pretext.artifacts.verify import check_bytes
from pretext.errors import ArtifactError


@pytest.fixture(autouse=True)
def nothing_checked_yet(monkeypatch):
    monkeypatch.setattr(verify, "_checked", set())


def finished(folder, **files):
    """A done manifest with these outputs."""
    record = Record(folder / "manifest.json", "probe", {"k": 5})
    record.is_done(overwrite=False)
    record.begin({}, seed=None)
    for name, write in files.items():
        write(folder / name.replace("_", "."))
    record.finish([folder / name.replace("_", ".") for name in files], summary={})
    return read_manifest(record.path)


def flip(path, position, bit=0):
    content = bytearray(path.read_bytes())
    content[position] ^= 1 << bit
    path.write_bytes(content)


def test_sums_are_those_of_other_tools(tmp_path, monkeypatch):
    monkeypatch.setattr(atomic, "BLOCK_BYTES", 1000)
    content = np.random.default_rng(0).bytes(2500)
    (tmp_path / "file").write_bytes(content)
    sums = file_sums(tmp_path / "file")
    assert sums["sha256"] == "sha256:" + hashlib.sha256(content).hexdigest()
    assert sums["bytes"] == 2500
    assert sums["crc32"] == "".join(f"{zlib.crc32(content[start : start + 1000]):08x}" for start in (0, 1000, 2000))
    assert file_sums(tmp_path / "file") == sums


@settings(max_examples=60, deadline=None)
@given(data=st.data(), size=st.integers(1, 300))
def test_any_flipped_bit_lies_in_the_block_that_is_named(tmp_path_factory, data, size):
    path = tmp_path_factory.mktemp("rot") / "file"
    path.write_bytes(np.random.default_rng(size).bytes(size))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(atomic, "BLOCK_BYTES", 64)
        sums = file_sums(path)
        assert damaged_block(path, sums) is None
        position = data.draw(st.integers(0, size - 1))
        flip(path, position, data.draw(st.integers(0, 7)))
        start, stop = damaged_block(path, sums)
    assert start <= position < stop <= size
    assert stop - start <= 64


@pytest.mark.parametrize("change", [-1, 1, -200])
def test_a_file_of_another_length_is_damaged(tmp_path, monkeypatch, change):
    monkeypatch.setattr(atomic, "BLOCK_BYTES", 64)
    path = tmp_path / "file"
    path.write_bytes(bytes(256))
    sums = file_sums(path)
    path.write_bytes(bytes(256 + change))
    assert damaged_block(path, sums) is not None


def test_an_empty_file_is_whole(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    assert damaged_block(tmp_path / "file", file_sums(tmp_path / "file")) is None


def write_parquet(path):
    pq.write_table(pa.table({"id": pa.array(range(1000)), "feature": np.random.default_rng(0).random(1000)}), path,
                   compression="none", use_dictionary=False)  # fmt: skip


def test_the_column_of_a_table_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(atomic, "BLOCK_BYTES", 512)
    content = finished(tmp_path, table_parquet=write_parquet)
    check_bytes(tmp_path / "table.parquet", content)
    column = pq.read_metadata(tmp_path / "table.parquet").row_group(0).column(1)
    flip(tmp_path / "table.parquet", column.data_page_offset + 3000)
    with pytest.raises(
        ArtifactError, match=r"table.parquet is damaged: its bytes \d+ to \d+ \(column feature\) are not those"
    ):
        check_bytes(tmp_path / "table.parquet", content)


def test_the_tensor_of_a_checkpoint_is_named(tmp_path, monkeypatch):
    import torch

    from pretext.artifacts.checkpoint import write_tensors

    monkeypatch.setattr(atomic, "BLOCK_BYTES", 512)
    tensors = {"encoder.weight": torch.ones(1000), "head.bias": torch.ones(1000)}
    content = finished(tmp_path, checkpoint_safetensors=lambda path: write_tensors(path, tensors, {"kind": "test"}))
    flip(tmp_path / "checkpoint.safetensors", -100)
    with pytest.raises(ArtifactError, match=r"\(tensor head.bias\)"):
        check_bytes(tmp_path / "checkpoint.safetensors", content)


@pytest.mark.parametrize("name", ["table_parquet", "checkpoint_safetensors", "shard_arrow"])
def test_damage_in_what_says_what_is_where_is_told_by_its_place(tmp_path, name):
    content = finished(tmp_path, **{name: lambda path: path.write_bytes(b"\xff" * 100)})
    flip(tmp_path / name.replace("_", "."), 0)
    with pytest.raises(ArtifactError, match=r"its bytes 0 to 100 are not those that probe wrote$"):
        check_bytes(tmp_path / name.replace("_", "."), content)


def test_a_file_is_read_once_in_a_process_and_again_when_it_changed(tmp_path, monkeypatch):
    content = finished(tmp_path, result_json=lambda path: path.write_bytes(b"12345"))
    path, reads = tmp_path / "result.json", []
    monkeypatch.setattr(verify, "damaged_block", lambda *args: reads.append(1) or damaged_block(*args))
    check_bytes(path, content)
    check_bytes(path, content)
    assert len(reads) == 1
    path.write_bytes(b"12346")
    with pytest.raises(ArtifactError, match="is damaged"):
        check_bytes(path, content)


def test_all_that_a_folder_s_manifests_list_is_looked_at(tmp_path):
    finished(tmp_path, result_json=lambda path: path.write_bytes(b"12345"), table_parquet=write_parquet)
    facts = verify.verify(tmp_path)
    assert (facts["files"], facts["manifests"], facts["damaged"]) == (2, 1, [])
    (tmp_path / "result.json").unlink()
    flip(tmp_path / "table.parquet", 100)
    missing, damaged = verify.verify(tmp_path)["damaged"]
    assert "result.json can't be read: No such file" in missing
    assert "table.parquet is damaged" in damaged
    assert verify.verify(tmp_path / "table.parquet")["damaged"] == [damaged]
    with pytest.raises(ArtifactError, match="no manifest in .* tells of"):
        verify.verify(tmp_path / "manifest.json")
    with pytest.raises(ArtifactError, match="does not exist"):
        verify.verify(tmp_path / "nothing")

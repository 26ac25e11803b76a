"""Images through a network into a file: what a file holds, how a split is divided, and what a stop leaves."""

from __future__ import annotations

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from pretext.artifacts.features import assemble_features, read_split
from pretext.artifacts.shards import Shard, Split, write_shard
from pretext.tasks import extraction
from pretext.tasks.extraction import SplitReader

COUNTS, SIZE, WIDTH = (600, 30), 4, 6  # a shard has batches of 512 rows


@pytest.fixture(scope="module")
def split(tmp_path_factory):
    folder, start, shards = tmp_path_factory.mktemp("shards"), 0, []
    generator = np.random.default_rng(0)
    for number, count in enumerate(COUNTS):
        rows = [(f"train/{i}", generator.integers(0, 256, (SIZE, SIZE, 3), np.uint8), None if i % 7 == 0 else i % 5,
                 [i % 3, 3] if i % 2 else []) for i in range(start, start + count)]  # fmt: skip
        write_shard(folder / f"{number}.arrow", rows, image_size=SIZE)
        shards.append(Shard(folder / f"{number}.arrow"))
        start += count
    return Split(shards, SIZE)


def network(image01_BCHW: torch.Tensor) -> torch.Tensor:
    return torch.cat([image01_BCHW.mean((2, 3)), image01_BCHW.amax((2, 3))], dim=1)


def reader(split: Split, batch_size: int = 50, extract=network) -> SplitReader:
    return SplitReader("train", split, split.images, extract, WIDTH, batch_size, torch.device("cpu"))


def test_a_file_holds_every_images_features_and_facts_in_order(split, tmp_path):
    told: list[int] = []
    reader(split).write(tmp_path / "x.parquet", {}, 480, 620, told.append)
    assert told == [50, 50, 40]
    found = read_split(tmp_path / "x.parquet", "train")
    assert found.ids == split.ids()[480:620]
    assert found.folds == split.folds()[480:620]
    np.testing.assert_array_equal(found.label_N, split.labels()[480:620])
    image_NHWC = split.images.read(np.arange(480, 620)).astype(np.float64) / 255
    expected_ND = np.concatenate([image_NHWC.mean((1, 2)), image_NHWC.max((1, 2))], axis=1)
    np.testing.assert_allclose(found.feature_ND, expected_ND, rtol=0, atol=1e-6)
    assert [pq.ParquetFile(tmp_path / "x.parquet").metadata.row_group(i).num_rows for i in range(3)] == [50, 50, 40]


@pytest.mark.parametrize("part_rows", [1, 120, 333, 10_000])
def test_where_parts_end_does_not_show_in_the_whole(split, tmp_path, monkeypatch, part_rows):
    reader(split).write(tmp_path / "whole.parquet", {"seed": 1}, 0, 630, lambda done: None)
    monkeypatch.setattr(extraction, "PART_ROWS", part_rows)
    parts = reader(split).parts(tmp_path)
    assert sum(map(len, parts)) == 630
    assert len({part.path for part in parts}) == len(parts)
    for part in reversed(parts):
        part.write({}, lambda done: None)
    assemble_features(tmp_path / "joined.parquet", [part.path for part in parts], {"seed": 1}, WIDTH)
    assert (tmp_path / "joined.parquet").read_bytes() == (tmp_path / "whole.parquet").read_bytes()


def test_a_part_that_is_there_is_kept_and_one_of_another_division_is_not_taken_for_it(split, tmp_path, monkeypatch):
    monkeypatch.setattr(extraction, "PART_ROWS", 100)
    asked: list[int] = []

    def counting(image01_BCHW: torch.Tensor) -> torch.Tensor:
        asked.append(len(image01_BCHW))
        return network(image01_BCHW)

    first, second, *_ = reader(split, extract=counting).parts(tmp_path)
    told: list[int] = []
    for part in (first, first, second):
        part.write({}, told.append)
    assert asked == [50, 50, 50, 50]
    assert told == [50, 50, 100, 50, 50]
    monkeypatch.setattr(extraction, "PART_ROWS", 200)
    other, *_ = reader(split).parts(tmp_path)
    assert not other.path.exists()


def test_a_network_that_fails_leaves_no_file(split, tmp_path):
    def fails_later(image01_BCHW: torch.Tensor) -> torch.Tensor:
        if len(image01_BCHW) < 50:
            raise RuntimeError("encoder broke")
        return network(image01_BCHW)

    with pytest.raises(RuntimeError, match="encoder broke"):
        reader(split, extract=fails_later).write(tmp_path / "x.parquet", {}, 0, 120, lambda done: None)
    assert list(tmp_path.iterdir()) == []

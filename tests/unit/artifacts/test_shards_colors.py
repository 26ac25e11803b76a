"""Lab images and colour targets beside the images: row i of a file is row i of its shard of images."""

import json

import numpy as np
import pytest

from pretext.artifacts.atomic import file_sums
from pretext.artifacts.manifest import Parent, Record
from pretext.artifacts.rows import write_rows
from pretext.artifacts.shards import open_data
from pretext.errors import ArtifactError

SIZE = 8


@pytest.fixture
def colored(prepared):
    """Adds Lab images and targets that hold the number of their image."""

    def make(*, dtype="uint8", size=4):
        """Lab images and targets that hold the number of their image."""
        data = open_data(prepared())
        for stem, shape, kind, request in (("lab", (SIZE, SIZE, 3), dtype, {"lab_dtype": dtype}),
                                           (f"targets-lab-{size}", (2, size, size), "int16", {"target_size": size})):  # fmt: skip
            record = Record(data.layout.record(stem), f"prepare-data {stem}", request,
                            [Parent("data", "data/noise", data.fingerprint)])  # fmt: skip
            record.begin(request, seed=None)
            files, start = [], 0
            for split in data.num_images:
                for shard in data.shards(split):
                    files.append(data.layout.beside(shard["file"], stem))
                    with write_rows(files[-1], stem.partition("s-")[0], shape, np.dtype(kind), dims="abc", meaning="",
                                       metadata={}) as writer:  # fmt: skip
                        for number in range(start, start + shard["num_images"]):
                            writer.write(np.full((1, *shape), number, kind))
                    start += shard["num_images"]
            record.finish(files, summary={"of": stem})
        return data

    return make


@pytest.mark.parametrize("dtype", ["uint8", "float16"])
def test_rows_are_those_of_the_images_also_over_joined_splits(colored, dtype):
    data = colored(dtype=dtype)
    assert data.num_images == {"train": 7, "test": 2, "unlabeled": 5}
    lab, targets = data.lab("train+unlabeled"), data.targets("train+unlabeled", "targets-lab-4")
    assert (lab.row_shape, lab.dtype) == ((SIZE, SIZE, 3), dtype)
    assert (targets.row_shape, targets.dtype) == ((2, 4, 4), np.int16)
    for rows in (lab, targets):
        found = rows.read(np.arange(12)).reshape(12, -1)
        assert found.min(1).tolist() == found.max(1).tolist() == [*range(7), *range(9, 14)]
    assert data.lab("test").read(np.array([1]))[0, 0, 0, 0] == 8


def test_without_lab_images_there_are_none(prepared):
    data = open_data(prepared())
    assert data.lab("train") is None
    assert data.target_sets() == {}


def test_target_sets_are_those_that_are_done_whole_and_of_these_images(colored):
    data = colored()
    colored(size=6)
    found = data.target_sets()
    assert list(found) == ["targets-lab-4", "targets-lab-6"]
    assert found["targets-lab-4"]["summary"] == {"of": "targets-lab-4"}
    path = data.layout.record("targets-lab-6")
    path.write_text(path.read_text().replace('"done"', '"running"'))
    assert list(data.target_sets()) == ["targets-lab-4"]
    data.layout.beside("test-00000-of-00001.arrow", "targets-lab-4").unlink()
    assert data.target_sets() == {}


def test_a_set_that_is_not_there_is_told_with_those_there_are_and_the_command(prepared, colored):
    data = open_data(prepared())
    with pytest.raises(
        ArtifactError, match="data set noise has no targets-lab-313-12; it has no colour targets"
    ) as caught:
        data.targets("train", "targets-lab-313-12")
    assert caught.value.hint == "pretext prepare-data noise --color-space lab-313 --target-size 12"
    data = colored()
    with pytest.raises(ArtifactError, match="data set noise has no lab; it has targets-lab-4"):
        data.targets("train", "lab")


@pytest.mark.parametrize(("stem", "flags"), [("lab", "lab"), ("targets-lab-4", "lab --target-size 4")])
def test_unfinished_colors_are_refused_with_the_command(colored, stem, flags):
    data = colored()
    path = data.layout.record(stem)
    path.write_text(path.read_text().replace('"done"', '"running"'))
    with pytest.raises(
        ArtifactError, match=f"{stem}.manifest.json says the prepare-data {stem} is not finished"
    ) as caught:
        data.lab("train") if stem == "lab" else data.targets("train", stem)
    assert caught.value.hint == f"pretext prepare-data noise --color-space {flags}"


@pytest.mark.parametrize("stem", ["lab", "targets-lab-4"])
def test_colors_of_other_images_are_refused(prepared, colored, stem):
    colored()
    layout = prepared(fingerprint="sha256:other")
    data = open_data(layout)
    assert data.target_sets() == {}
    with pytest.raises(
        ArtifactError, match=rf"{stem}.manifest.json was made from other images than .* noise"
    ) as caught:
        data.lab("train") if stem == "lab" else data.targets("train", stem)
    assert caught.value.hint.endswith("--overwrite")


def test_a_split_that_is_not_there_has_no_colors(colored):
    data = colored()
    for read in (data.lab, lambda split: data.targets(split, "targets-lab-4")):
        with pytest.raises(ArtifactError, match="data set noise has no split 'val'"):
            read("val")


def test_a_file_with_other_rows_than_its_images_is_refused(colored):
    data = colored()
    first, second = (data.layout.beside(f"train-0000{i}-of-00002.arrow", "lab") for i in (0, 1))
    first.write_bytes(second.read_bytes())
    with pytest.raises(ArtifactError, match="is missing or not of the size"):
        data.lab("train")
    content = json.loads(data.layout.record("lab").read_text())
    content["outputs"][first.name] = file_sums(first)
    data.layout.record("lab").write_text(json.dumps(content))
    with pytest.raises(
        ArtifactError, match=r"train-00000-of-00002\.lab\.arrow does not hold 4 rows of lab .*: it has 3 rows"
    ):
        data.lab("train")

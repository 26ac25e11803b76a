"""Stored features as a training's targets: in the images' order, checked to be of these images."""

import numpy as np
import pytest

from pretext.artifacts.features import open_feature_targets, write_features
from pretext.artifacts.layout import RunLayout, features_stem
from pretext.artifacts.manifest import Record
from pretext.artifacts.shards import open_data
from pretext.errors import ArtifactError

WIDTH = 12


@pytest.fixture
def data(prepared):
    return open_data(prepared())


def feature_of(ids):
    """What stands for an image's features: its number, and which of them it is."""
    number_N = np.array([int(name.rpartition("/")[2]) for name in ids], np.float32)
    return number_N[:, None] + np.arange(WIDTH, dtype=np.float32) / 100


@pytest.fixture
def extracted(tmp_path, data):
    """Writes features of the data set's splits, in the order given, several chunks a split."""

    def make(splits=("test", "train", "unlabeled"), *, layer="conv3", done=True, spoil=lambda chunks: chunks, **header):
        layout = RunLayout(tmp_path / "run")
        record = Record(layout.record(features_stem(layer)), "extract-features", {}, [])
        record.begin({}, seed=0)
        facts = {"data": {"name": data.name, "fingerprint": data.fingerprint}, "encoder": {"name": "cnn"}, **header}
        chunks = []
        for split in splits:
            ids = data.split(split).ids()
            for part in (ids[:3], ids[3:]):
                chunks += (
                    [(split, part, np.zeros(len(part), np.int64), [[]] * len(part), feature_of(part))] if part else []
                )
        write_features(layout.features_of(layer), facts, WIDTH, spoil(chunks))
        if done:
            record.finish([layout.features_of(layer)], summary={})
        return layout.folder

    return make


@pytest.mark.parametrize("split", ["train", "unlabeled", "train+unlabeled", "unlabeled+train"])
def test_rows_come_in_the_order_of_the_split_s_images(data, extracted, split):
    rows, _ = open_feature_targets(extracted(), "conv3", data, split)
    ids = data.split(split).ids()
    assert (len(rows), rows.row_shape, rows.dtype) == (len(ids), (WIDTH,), np.float32)
    np.testing.assert_array_equal(rows.read(np.arange(len(ids))), feature_of(ids))


def test_a_map_keeps_its_shape(data, extracted):
    rows, _ = open_feature_targets(extracted(map_shape=[3, 2, 2]), "conv3", data, "train")
    assert rows.row_shape == (3, 2, 2)
    expected = feature_of(data.split("train").ids())
    np.testing.assert_array_equal(rows.read(np.arange(7)).reshape(7, -1), expected)


def test_the_facts_are_those_of_the_network_and_of_the_file(data, extracted):
    network = {"network": "vgg16", "fingerprint": "sha256:w"}
    folder = extracted(network=network)
    _, facts = open_feature_targets(folder, "conv3", data, "train")
    file = RunLayout(folder).features_of("conv3")
    assert facts.items() >= {**network, "features_file": str(file)}.items()
    assert facts["features_fingerprint"].startswith("sha256:")
    assert open_feature_targets(extracted(layer="latent"), "latent", data, "train")[1]["name"] == "cnn"


def test_features_that_are_not_there_or_not_finished(data, extracted, tmp_path):
    with pytest.raises(ArtifactError, match=r"nothing has no features-2\.manifest\.json") as caught:
        open_feature_targets(tmp_path / "nothing", "2", data, "train")
    for source in ("RUN", "--network NAME"):
        assert f"`pretext extract-features {source} --layer 2 --data noise`" in caught.value.hint
    with pytest.raises(ArtifactError, match="says the extract-features is not finished"):
        open_feature_targets(extracted(done=False), "conv3", data, "train")


def test_features_of_other_images(data, extracted):
    with pytest.raises(ArtifactError, match="is of data set cifar, and of other images than those of data set noise"):
        open_feature_targets(extracted(data={"name": "cifar", "fingerprint": "sha256:x"}), "conv3", data, "train")


@pytest.mark.parametrize(
    "spoil", [lambda chunks: chunks[1:], lambda chunks: chunks[::-1], lambda chunks: [*chunks, chunks[0]]]
)
def test_images_left_out_in_another_order_or_twice(data, extracted, spoil):
    with pytest.raises(ArtifactError, match="does not hold all 7 images of split train, each once and in order"):
        open_feature_targets(extracted(("train",), spoil=spoil), "conv3", data, "train")


def test_a_split_that_was_not_extracted(data, extracted):
    with pytest.raises(ArtifactError, match="does not hold all 5 images of split unlabeled"):
        open_feature_targets(extracted(("train", "test")), "conv3", data, "unlabeled")


def test_a_split_that_the_data_set_lacks(data, extracted):
    with pytest.raises(ArtifactError, match="data set noise has no split 'extra'"):
        open_feature_targets(extracted(), "conv3", data, "extra")


def test_features_that_are_not_finite(data, extracted):
    def spoil(chunks):
        chunks[-1][-1][0, 0] = np.inf
        return chunks

    folder = extracted(("unlabeled", "train"), spoil=spoil)
    with pytest.raises(ArtifactError, match="holds features that are not finite"):
        open_feature_targets(folder, "conv3", data, "train")
    assert len(open_feature_targets(folder, "conv3", data, "unlabeled")[0]) == 5

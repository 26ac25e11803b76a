"""Small images and files for the tests of artifacts."""

import numpy as np
import pytest

from pretext.artifacts.layout import DataLayout
from pretext.artifacts.manifest import Parent, Record
from pretext.artifacts.shards import write_shard


@pytest.fixture
def make_rows():
    """Rows of a shard: noise images, every third without label, official folds on the even ones."""

    def make(count, *, size=8, seed=0, start=0):
        generator = np.random.default_rng(seed)
        images = generator.integers(0, 256, (count, size, size, 3), dtype=np.uint8)
        return [(f"train/{i}", images[i - start], None if i % 3 == 2 else i % 5, (0, i % 7) if i % 2 == 0 else ())
                for i in range(start, start + count)]  # fmt: skip

    return make


@pytest.fixture
def prepared(tmp_path, make_rows):
    """Writes a data set of noise: 7 training images in two shards, 2 for testing, 5 without labels."""

    def make(*, stage="prepare-data", fingerprint="sha256:f"):
        layout = DataLayout(tmp_path / "noise")
        record = Record(layout.manifest, stage, {"seed": 0, "source": "noise"}, [Parent("source", "noise", "sha256:s")])
        record.begin({}, seed=0)
        outputs, splits, start = [], {}, 0
        for name, counts in {"train": (4, 3), "test": (2,), "unlabeled": (5,)}.items():
            shards = []
            for number, count in enumerate(counts):
                outputs.append(layout.shard(name, number, len(counts)))
                write_shard(outputs[-1], make_rows(count, start=start, seed=start), image_size=8)
                shards.append({"file": outputs[-1].name, "num_images": count, "sha256": "sha256:x"})
                start += count
            splits[name] = {"num_images": sum(counts), "labelled": name != "unlabeled", "shards": shards}
        record.finish(outputs, summary={"name": "noise", "fingerprint": fingerprint, "image_size": 8,
                                        "class_names": ["a", "b", "c", "d", "e"], "splits": splits})  # fmt: skip
        return layout

    return make

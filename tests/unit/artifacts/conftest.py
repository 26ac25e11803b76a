"""Small images and files for the tests of artifacts."""

import numpy as np
import pytest


@pytest.fixture
def make_rows():
    """Rows of a shard: noise images, every third without label, official folds on the even ones."""

    def make(count, *, size=8, seed=0, start=0):
        generator = np.random.default_rng(seed)
        images = generator.integers(0, 256, (count, size, size, 3), dtype=np.uint8)
        return [(f"train/{i}", images[i - start], None if i % 3 == 2 else i % 5, (0, i % 7) if i % 2 == 0 else ())
                for i in range(start, start + count)]  # fmt: skip

    return make

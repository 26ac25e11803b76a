"""Ten shapes drawn on the spot: a data set of any length that needs no download and no disk."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from pretext.datasets.base import Rejected, Sample, SplitInfo, check_image_size, check_request, fingerprint_parameters
from pretext.datasets.shapes_draw import DRAWING_VERSION, NUM_UNIFORMS, draw_scenes
from pretext.datasets.shapes_geometry import SHAPES

NATIVE_SIZE = 32
# the place in this row is part of the random key: never reorder
SPLITS = ("unlabeled", "train", "test")
CHUNK_PIXELS = 1 << 16  # arrays of this many pixels stay in a core's cache


def build_shapes(
    *, num_unlabeled: int, num_train: int, num_test: int, image_size: int | None = None, seed: int = 0
) -> ShapesSource:
    """Make a source of drawn shapes.

    Args:
        num_unlabeled: Images of the unlabelled split; a split of 0 images does not exist.
        num_train: Labelled images for training.
        num_test: Labelled images for testing.
        image_size: Side in pixels; None is 32.
        seed: Chooses another set of the same kind, 0 to 2**64 - 1.

    Raises:
        ValueError: If a number is negative, all are 0, or the seed or size is out of range.
    """
    return ShapesSource(
        num_images={"unlabeled": num_unlabeled, "train": num_train, "test": num_test},
        image_size=check_image_size(image_size, native=NATIVE_SIZE),
        seed=seed,
    )


class ShapesSource:
    """Scenes of one shape on a cluttered ground; what each is depends on (seed, split, index) alone.

    Every ten images in a row hold each class once, in an order of their own, so that the classes of a split differ by
    one image at most, whatever its length.

    Args:
        num_images: Length of each split.
        image_size: Side of the squares that `read` yields, in pixels; image i is the same scene at every size.
        seed: 0 to 2**64 - 1.

    Raises:
        ValueError: If a number is out of range.

    Cost: about 0.2 ms per image of 32 x 32 pixels on one core.
    """

    name = "shapes"
    class_names = tuple(SHAPES)
    missing: tuple[str, ...] = ()

    def __init__(self, *, num_images: dict[str, int], image_size: int, seed: int) -> None:
        for split, number in num_images.items():
            if number < 0:
                raise ValueError(f"num_{split} must not be negative, got {number}")
        if sum(num_images.values()) == 0:
            raise ValueError("at least one split must have images, got 0 in each")
        if not 0 <= seed < 2**64:
            raise ValueError(f"seed must be in 0..2**64 - 1, got {seed}")
        self.image_size = image_size
        self.seed = seed
        self.splits = tuple(
            SplitInfo(name=split, num_images=num_images[split], labelled=split != "unlabeled")
            for split in SPLITS
            if num_images[split] > 0
        )

    def read(self, split: str, indices: np.ndarray) -> Iterator[Sample | Rejected]:
        """Yield one sample per index, in order; how the indices are cut into calls changes no bit."""
        return self._read(split, check_request(self, split, indices))

    def fingerprint(self) -> str:
        """Return a sum over the parameters and the version of the drawing."""
        return fingerprint_parameters(
            {
                "source": self.name,
                "drawing_version": DRAWING_VERSION,
                "num_images": {split.name: split.num_images for split in self.splits},
                "image_size": self.image_size,
                "seed": self.seed,
            }
        )

    def _read(self, split: str, indices: np.ndarray) -> Iterator[Sample | Rejected]:
        labelled = split != "unlabeled"
        chunk = max(1, CHUNK_PIXELS // self.image_size**2)
        for start in range(0, len(indices), chunk):
            index_B = indices[start : start + chunk]
            label_B = np.array([self._label(split, index) for index in index_B.tolist()])
            uniform_BU = np.stack([self._uniform(split, index) for index in index_B.tolist()])
            image_BHWC = draw_scenes(label_B, uniform_BU, image_size=self.image_size)
            for index, label, image_HWC in zip(index_B.tolist(), label_B.tolist(), image_BHWC, strict=True):
                yield Sample(id=f"{split}/{index:06d}", image_HWC=image_HWC.copy(), label=label if labelled else None)

    def _label(self, split: str, index: int) -> int:
        """Place `index` in the shuffled classes of its block of ten."""
        block, place = divmod(index, len(SHAPES))
        order = self._raw(split, block, purpose=1, num_words=len(SHAPES)).argsort(kind="stable")
        return int(order[place])

    def _uniform(self, split: str, index: int) -> np.ndarray:
        return (self._raw(split, index, purpose=0, num_words=NUM_UNIFORMS) >> np.uint64(11)) * 2.0**-53

    def _raw(self, split: str, index: int, *, purpose: int, num_words: int) -> np.ndarray:
        """Return random words from a stream of their own; NumPy promises that these never change."""
        key = np.array([self.seed, SPLITS.index(split)], dtype=np.uint64)
        return np.random.Philox(key=key, counter=[0, 0, index, purpose]).random_raw(num_words)

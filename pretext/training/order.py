"""In which order a training sees its images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch

from pretext.training.seeds import make_generator


def epoch_order(num_images: int, batch_size: int, *, seed: int, epoch: int, first: int = 0,
                again: Sequence[tuple[int, int]] = ()) -> Iterator[np.ndarray]:  # fmt: skip
    """The epoch's batches, from number `first` on: a permutation of the images cut into whole batches; the rest waits
    for other epochs. Four bytes an image, eight from 2**31 images on.

    Each pair of `again` puts what comes from a batch on in another order: which rewind of the training it was, and the
    batch's number.
    """
    dtype = torch.int32 if num_images < 2**31 else torch.int64
    order_N = torch.randperm(num_images, generator=make_generator(seed, "order", epoch), dtype=dtype).numpy()
    for number, batch in again:
        rest = order_N[batch * batch_size :]
        rest[:] = rest[
            torch.randperm(len(rest), generator=make_generator(seed, "order", epoch, "rewind", number)).numpy()
        ]
    for start in range(first * batch_size, num_images // batch_size * batch_size, batch_size):
        yield order_N[start : start + batch_size].astype(np.int64)

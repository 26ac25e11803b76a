"""Compare many pairs of a folder's images, each image embedded once where the memory allows it.

Letters beside the package's alphabet: P pairs of images, I images of one block.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pretext.datasets.judgments import Judgments, Ratings, Triplets, load_images
from pretext.progress import Task

EMBEDDING_BYTES = 2**30  # of the embeddings held at a time

Embed = Callable[[Tensor], Sequence[Tensor]]
Compare = Callable[[Sequence[Tensor], Sequence[Tensor]], Tensor]


def index_pairs(judgments: Judgments) -> tuple[np.ndarray, list[np.ndarray]]:
    """The pairs of images that judgments are about.

    Returns:
        pair_P2: Every pair once, int64 indices of images, the smaller one first, in order.
        rows: For every pair that a judgment is about its rows in pair_P2, (N,) int64: of triplets those of (reference,
            a) and of (reference, b), else one.
    """
    if isinstance(judgments, Triplets):
        columns = [(judgments.reference_N, judgments.a_N), (judgments.reference_N, judgments.b_N)]
    elif isinstance(judgments, Ratings):
        columns = [(judgments.reference_N, judgments.distorted_N)]
    else:
        columns = [(judgments.first_N, judgments.second_N)]
    both = np.concatenate([np.stack(column, axis=1) for column in columns])
    pair_P2, row_N = np.unique(np.sort(both, axis=1), axis=0, return_inverse=True)
    return pair_P2, np.split(row_N.reshape(-1), len(columns))


def compare_pairs(
    paths: Sequence[Path],
    pair_P2: np.ndarray,
    *,
    embed: Embed,
    compare: Compare,
    image_size: int | None,
    batch_size: int,
    device: torch.device,
    task: Task,
    memory: int = EMBEDDING_BYTES,
) -> np.ndarray:
    """Embed images and compare them pair by pair.

    Args:
        paths: Image files.
        pair_P2: Pairs of their indices.
        embed: From image01_BCHW, float32 in 0..1, to tensors whose first dimension is B.
        compare: From two such embeddings to (B,) or (B, K).
        image_size: Side to which images are brought, px; None leaves them, and then all must be of one size.
        batch_size: Images embedded, and pairs compared, at a time.
        device: Where.
        task: Advanced by the pairs that are done.
        memory: Bytes of embeddings held at a time. Where they do not all fit, pairs are taken block by block, and an
            image whose partners lie in several blocks is embedded again for each.

    Returns:
        value_P or value_PK, float32, in the order of the pairs.

    Raises:
        DataError: If an image can't be read, or without `image_size` one is of another size.
        ValueError: What `embed` and `compare` refuse.
    """
    first = _embed(paths, [int(pair_P2[0, 0])], embed, image_size, device)
    image_bytes = max(1, sum(tensor.nbytes for tensor in first[int(pair_P2[0, 0])]))
    value_P: np.ndarray | None = None
    held = first
    for rows in _blocks(pair_P2, side=max(1, memory // image_bytes // 2)):
        needed = np.unique(pair_P2[rows]).tolist()
        held = {image: held[image] for image in needed if image in held}
        missing = [image for image in needed if image not in held]
        for start in range(0, len(missing), batch_size):
            held |= _embed(paths, missing[start : start + batch_size], embed, image_size, device, like=first)
        for start in range(0, len(rows), batch_size):
            some = rows[start : start + batch_size]
            left, right = (_stack([held[image] for image in pair_P2[some, side].tolist()]) for side in (0, 1))
            with torch.inference_mode():
                value_B = compare(left, right).float().cpu().numpy()
            if value_P is None:
                value_P = np.empty((len(pair_P2), *value_B.shape[1:]), np.float32)
            value_P[some] = value_B
            task.advance(len(some))
    assert value_P is not None
    return value_P


def _blocks(pair_P2: np.ndarray, side: int) -> list[np.ndarray]:
    """Rows of the pairs, cut so that no cut has more than 2 x `side` images."""
    tile_P2 = pair_P2 // side
    order_P = np.lexsort((pair_P2[:, 1], pair_P2[:, 0], tile_P2[:, 1], tile_P2[:, 0]))
    changes = np.flatnonzero(np.any(np.diff(tile_P2[order_P], axis=0) != 0, axis=1)) + 1
    return np.split(order_P, changes)


@torch.inference_mode()
def _embed(paths: Sequence[Path], images: Sequence[int], embed: Embed, image_size: int | None, device: torch.device,
           like: dict[int, list[Tensor]] | None = None) -> dict[int, list[Tensor]]:  # fmt: skip
    # Without a size to bring them to, each batch is read with one image of the first, so that their sizes must agree.
    known = [] if like is None or image_size else list(like)
    image_BHWC = load_images([paths[image] for image in [*known, *images]], image_size=image_size)[len(known) :]
    image01_BCHW = torch.from_numpy(image_BHWC).to(device).permute(0, 3, 1, 2).float() / 255
    parts = embed(image01_BCHW)
    # A row of its own, since a view would keep the whole batch.
    return {image: [part[row].clone() for part in parts] for row, image in enumerate(images)}


def _stack(embeddings: Sequence[list[Tensor]]) -> list[Tensor]:
    return [torch.stack(parts) for parts in zip(*embeddings, strict=True)]

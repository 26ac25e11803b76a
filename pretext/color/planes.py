"""Channel arithmetic on images of any size and memory layout, in blocks that stay in a cache.

Letters beyond the package's: in "3N" the three channels come first, and N stands for all the other dimensions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import torch
from torch import Tensor

BLOCK_PIXELS = {"cpu": 2**17}
"""On a CPU a few times what its caches next to the cores hold: smaller blocks pay more for calls than for memory."""

ELSEWHERE_PIXELS = 2**22
"""On a GPU, enough to outweigh the launches."""

_SPARE: list[Tensor] = []
"""A CPU's memory for blocks, as much as threads needed at once: new memory costs as much time as half of the arithmetic."""

Buffers = tuple[Tensor, Tensor, Tensor] | tuple[None, None, None]
Kernel = Callable[[Tensor, Buffers], Tensor]
"""(colour_3N, buffers) -> result_3N. The result lies in the first buffer; the others are for what is needed on the
way. While autograd records there are no buffers, and a kernel must not overwrite what it was given."""

NO_BUFFERS: Buffers = (None, None, None)


def places(buffers: Buffers) -> Sequence[Tensor | None]:
    """Where a kernel's three planes go."""
    return NO_BUFFERS if buffers[0] is None else buffers[0].unbind()


def joined(plane_N: Sequence[Tensor], buffers: Buffers) -> Tensor:
    """A kernel's result, of three planes that went to their `places`."""
    return torch.stack(tuple(plane_N)) if buffers[0] is None else buffers[0]


def check_kind(name: str, image: Tensor, *, stored: bool = False) -> None:
    """Refuse what is no colour image.

    Raises:
        ValueError: If dimension -3 is not of size 3, or the dtype is not float (or uint8, if `stored`).
    """
    if image.ndim < 3 or image.shape[-3] != 3:
        raise ValueError(f"{name} must have 3 channels at dimension -3, got shape {tuple(image.shape)}")
    if not (image.is_floating_point() or (stored and image.dtype == torch.uint8)):
        raise ValueError(f"{name} must be {'uint8 or float' if stored else 'float'}, got {image.dtype}")


def _blocks(source_BCHW: Tensor, target_BCHW: Tensor, threads: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Matching pieces, the first the largest: whole images, as many pieces for each thread, or some rows of a large one."""
    pixels = BLOCK_PIXELS.get(source_BCHW.device.type, ELSEWHERE_PIXELS)
    count, _, height, width = source_BCHW.shape
    images, rows = max(pixels // max(height * width, 1), 1), max(pixels // max(width, 1), 1)
    rounds = -(-count // (images * threads)) * threads
    images = -(-count // rounds) if rounds else 1
    for first in range(0, count, images):
        for top in range(0, height, rows):
            piece = slice(first, first + images), slice(None), slice(top, top + rows)
            yield source_BCHW[piece], target_BCHW[piece]


def run_kernels(
    kernels: Sequence[Kernel], image: Tensor, *, table_256: Tensor | None = None, dtype: torch.dtype | None = None,
    out: Tensor | None = None
) -> Tensor:  # fmt: skip
    """Pass an image through `kernels` one after the other.

    Each block becomes planar, whatever the image's layout is, and is written back in that layout. Kernels hand each
    other the same memory to and fro: new memory for every step would cost as much time as the arithmetic.

    Args:
        kernels: In order.
        image: Float or uint8, three channels at dimension -3 behind any leading dimensions.
        table_256: What the values of a uint8 image stand for; without it, themselves.
        dtype: Of the result; by default float64 for float64, else float32.
        out: Where the result goes, in any memory layout; then there is no gradient.

    Returns:
        `out`, or a new tensor of the shape and layout of `image`.

    Raises:
        ValueError: If `out` has not the shape of `image`, or not this dtype.
    """
    working = torch.float64 if image.dtype == torch.float64 else torch.float32
    dtype = dtype or working
    if out is not None and (out.shape != image.shape or out.dtype != dtype):
        raise ValueError(f"out must be {dtype} {tuple(image.shape)}, got {out.dtype} {tuple(out.shape)}")
    # An exported program must not have the number of blocks of its example written into it.
    if out is None and (torch.compiler.is_compiling() or (image.requires_grad and torch.is_grad_enabled())):
        colour_3N = image.to(working).movedim(-3, 0)
        for kernel in kernels:
            colour_3N = kernel(colour_3N, NO_BUFFERS)
        return torch.empty_like(image, dtype=dtype, requires_grad=False).copy_(colour_3N.movedim(0, -3))
    source_BCHW = image.detach().reshape(math.prod(image.shape[:-3]), *image.shape[-3:])
    target_BCHW = torch.empty_like(source_BCHW, dtype=dtype) if out is None else out.view(source_BCHW.shape)
    threads = torch.get_num_threads() if image.device.type == "cpu" else 1
    pieces = list(_blocks(source_BCHW, target_BCHW, threads))
    threads = min(threads, len(pieces))
    if threads > 1:
        mode = torch.is_inference_mode_enabled()  # a thread does not take it over from the one that starts it

        def run(own: Sequence[tuple[Tensor, Tensor]]) -> None:
            with torch.inference_mode(mode):
                _run_blocks(kernels, own, table_256, working)

        with one_thread_each(), ThreadPoolExecutor(threads) as pool:
            list(pool.map(run, [pieces[thread::threads] for thread in range(threads)]))
    else:
        _run_blocks(kernels, pieces, table_256, working)
    return target_BCHW.view(image.shape)


def _run_blocks(kernels: Sequence[Kernel], pieces: Sequence[tuple[Tensor, Tensor]], table_256: Tensor | None,
                working: torch.dtype) -> None:  # fmt: skip
    """Pass some blocks through the kernels, each into its place, by one thread with memory of its own."""
    if not pieces:
        return
    values, device = pieces[0][0].numel(), pieces[0][0].device
    with _block_memory(values, working, device) as memory:
        for source, target in pieces:
            planes = source.transpose(0, 1)
            here_3N, there_3N, *others = (row[: planes.numel()].view(planes.shape) for row in memory)
            if table_256 is None:
                here_3N.copy_(planes)
            else:
                index_3N = there_3N.view(torch.int32).copy_(planes)
                torch.index_select(table_256, 0, index_3N.view(-1), out=here_3N.view(-1))
            for kernel in kernels:
                kernel(here_3N, (there_3N, others[0], others[1]))
                here_3N, there_3N = there_3N, here_3N
            if (working, target.dtype) == (torch.float32, torch.uint8):  # by way of int32 vector instructions do it
                here_3N = there_3N.view(torch.int32).copy_(here_3N)
            for place, plane in zip(target.unbind(1), here_3N, strict=True):
                place.copy_(plane)


@contextmanager
def _block_memory(values: int, dtype: torch.dtype, device: torch.device) -> Iterator[Tensor]:
    """Four rows of as many values, with anything in them."""
    if device.type != "cpu":  # there PyTorch itself keeps what was freed
        yield torch.empty(4, values, dtype=dtype, device=device)
        return
    size = 4 * values * dtype.itemsize
    try:
        spare = _SPARE.pop()
    except IndexError:
        spare = torch.empty(0)
    if spare.numel() < size:
        with torch.inference_mode(False):  # memory made under inference mode could never serve a training step
            spare = torch.empty(size, dtype=torch.uint8)
    try:
        yield spare[:size].view(dtype).view(4, values)
    finally:
        _SPARE.append(spare)


@contextmanager
def one_thread_each() -> Iterator[None]:
    """Let every operation run on one thread: blocks side by side scale, operations cut in two do not."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)

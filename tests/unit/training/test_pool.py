"""Batches come in order, one ahead, and errors of the reader come out."""

import threading
import time

import numpy as np
import pytest
import torch

from pretext.training.pool import ImagePool, chunk_indices


@pytest.fixture
def position_N():
    return np.array([59, 3, 24, 25, 30, 29, 0, 3])


@pytest.fixture
def pool(split, position_N):
    return ImagePool(split, position_N, device=torch.device("cpu"))


def readers():
    return [thread for thread in threading.enumerate() if thread.name.startswith("ThreadPoolExecutor")]


class Recorded:
    """A split that tells when each read begins, and can fail in one."""

    def __init__(self, split, *, fails_at=None):
        self.split, self.image_size, self.reads, self.fails_at = split, split.image_size, [], fails_at

    def read_images(self, index_B):
        self.reads.append(index_B.tolist())
        if len(self.reads) == self.fails_at:
            raise OSError(5, "Input/output error")
        return self.split.read_images(index_B)


def test_batches_come_in_the_order_asked_for(pool, split, position_N):
    indices = [np.array([4, 0]), np.array([1]), np.array([7, 6, 5, 5]), np.array([2, 3])]
    found = list(pool.batches(indices))
    assert len(found) == 4
    for asked, (index_B, image_BHWC) in zip(indices, found, strict=True):
        np.testing.assert_array_equal(index_B, asked)
        assert image_BHWC.dtype == torch.uint8
        np.testing.assert_array_equal(image_BHWC.numpy(), split.read_images(position_N[asked]))


def test_its_length_is_that_of_its_positions(pool):
    assert len(pool) == 8


def test_no_batches(pool):
    assert list(pool.batches([])) == []
    assert list(pool.batches(iter(()))) == []


def test_one_batch_is_read_ahead_and_no_more(split, position_N):
    recorded = Recorded(split)
    pool = ImagePool(recorded, position_N, device=torch.device("cpu"))
    batches = pool.batches(np.array([i]) for i in range(5))
    next(batches)
    deadline = time.monotonic() + 5
    while len(recorded.reads) < 2 and time.monotonic() < deadline:
        time.sleep(0.001)
    time.sleep(0.02)
    assert recorded.reads == [[59], [3]], "the second is read while the first is used, the third is not"
    assert [int(index_B[0]) for index_B, _ in batches] == [1, 2, 3, 4]
    assert recorded.reads == [[59], [3], [24], [25], [30]]


def test_a_batch_stays_as_it_is_while_the_next_is_read(pool, split, position_N):
    batches = pool.batches([np.arange(4), np.arange(4, 8), np.arange(4)])
    _, first = next(batches)
    list(batches)
    np.testing.assert_array_equal(first.numpy(), split.read_images(position_N[:4]))


def test_an_error_of_the_reader_comes_out_at_its_batch(split, position_N):
    pool = ImagePool(Recorded(split, fails_at=3), position_N, device=torch.device("cpu"))
    got = []
    with pytest.raises(OSError, match="Input/output error"):  # noqa: PT012
        for index_B, _ in pool.batches(chunk_indices(8, 2)):
            got.append(index_B.tolist())
    assert got == [[0, 1], [2, 3]]
    assert readers() == []


def test_a_position_that_is_not_there_is_an_error(pool):
    with pytest.raises(IndexError):
        list(pool.batches([np.array([0]), np.array([8])]))


def test_an_error_of_the_order_comes_out(pool):
    def indices():
        yield np.array([0])
        raise RuntimeError("no more")

    with pytest.raises(RuntimeError, match="no more"):
        list(pool.batches(indices()))


def test_leaving_early_ends_the_reader(pool):
    for _ in pool.batches(chunk_indices(8, 1)):
        break
    deadline = time.monotonic() + 5
    while readers() and time.monotonic() < deadline:
        time.sleep(0.001)
    assert readers() == []


@pytest.mark.parametrize(("count", "size", "want"), [(7, 3, [3, 3, 1]), (6, 3, [3, 3]), (2, 5, [2]), (0, 4, [])])
def test_chunks_cover_everything_once_in_order(count, size, want):
    chunks = list(chunk_indices(count, size))
    assert [len(chunk) for chunk in chunks] == want
    assert np.concatenate([np.empty(0, int), *chunks]).tolist() == list(range(count))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_gpu_batches_are_equal_resident_or_not(split, position_N, monkeypatch):
    from pretext.training import pool as module

    resident = ImagePool(split, position_N, device=torch.device("cuda"))
    monkeypatch.setattr(module, "DEVICE_SHARE", 0.0)
    streamed = ImagePool(split, position_N, device=torch.device("cuda"))
    indices = [np.array([4, 0, 4]), np.array([1])]
    for (_, first), (_, second) in zip(resident.batches(indices), streamed.batches(indices), strict=True):
        assert first.device.type == second.device.type == "cuda"
        assert torch.equal(first, second)

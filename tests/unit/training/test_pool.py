"""Batches come in order, one ahead, and errors of the reader come out."""

import threading
import time

import numpy as np
import pytest
import torch

from pretext.artifacts.rows import Rows
from pretext.training.pool import ImagePool, chunk_indices


@pytest.fixture
def position_N():
    return np.array([59, 3, 24, 25, 30, 29, 0, 3])


@pytest.fixture
def pool(split, position_N):
    return ImagePool(split.images, position_N, device=torch.device("cpu"))


def readers():
    return [thread for thread in threading.enumerate() if thread.name.startswith("ThreadPoolExecutor")]


class Recorded:
    """Rows that tell when each read begins, and can fail in one."""

    def __init__(self, rows, *, fails_at=None):
        self.rows, self.reads, self.fails_at = rows, [], fails_at

    def read(self, index_B):
        self.reads.append(index_B.tolist())
        if len(self.reads) == self.fails_at:
            raise OSError(5, "Input/output error")
        return self.rows.read(index_B)


def test_batches_come_in_the_order_asked_for(pool, split, position_N):
    indices = [np.array([4, 0]), np.array([1]), np.array([7, 6, 5, 5]), np.array([2, 3])]
    found = list(pool.batches(indices))
    assert len(found) == 4
    for asked, batch in zip(indices, found, strict=True):
        np.testing.assert_array_equal(batch.index_B, asked)
        assert batch.image_BHWC.dtype == torch.uint8
        assert batch.target_BGHW is None
        np.testing.assert_array_equal(batch.image_BHWC.numpy(), split.images.read(position_N[asked]))


def test_its_length_is_that_of_its_positions(pool):
    assert len(pool) == 8


def test_no_batches(pool):
    assert list(pool.batches([])) == []
    assert list(pool.batches(iter(()))) == []


def test_one_batch_is_read_ahead_and_no_more(split, position_N):
    recorded = Recorded(split.images)
    pool = ImagePool(recorded, position_N, device=torch.device("cpu"))
    batches = pool.batches(np.array([i]) for i in range(5))
    next(batches)
    deadline = time.monotonic() + 5
    while len(recorded.reads) < 2 and time.monotonic() < deadline:
        time.sleep(0.001)
    time.sleep(0.02)
    assert recorded.reads == [[59], [3]], "the second is read while the first is used, the third is not"
    assert [int(batch.index_B[0]) for batch in batches] == [1, 2, 3, 4]
    assert recorded.reads == [[59], [3], [24], [25], [30]]


def test_a_batch_stays_as_it_is_while_the_next_is_read(pool, split, position_N):
    batches = pool.batches([np.arange(4), np.arange(4, 8), np.arange(4)])
    first = next(batches).image_BHWC
    list(batches)
    np.testing.assert_array_equal(first.numpy(), split.images.read(position_N[:4]))


def test_an_error_of_the_reader_comes_out_at_its_batch(split, position_N):
    pool = ImagePool(Recorded(split.images, fails_at=3), position_N, device=torch.device("cpu"))
    got = []
    with pytest.raises(OSError, match="Input/output error"):  # noqa: PT012
        for batch in pool.batches(chunk_indices(8, 2)):
            got.append(batch.index_B.tolist())
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


class TestTargets:
    """Each image comes with its own targets, whatever the order."""

    @pytest.fixture
    def lab_N(self, split):
        """Rows that name their position, in three shards: float16 images and int16 targets."""
        count = len(split)
        image_NHWC = np.broadcast_to(np.arange(count, dtype=np.float16)[:, None, None, None], (count, 8, 8, 3))
        target_NGHW = np.arange(count * 2 * 3 * 3, dtype=np.int16).reshape(count, 2, 3, 3)
        cuts = [slice(0, 10), slice(10, 11), slice(11, None)]
        return (Rows([image_NHWC[cut] for cut in cuts], (8, 8, 3), np.dtype(np.float16)),
                Rows([target_NGHW[cut] for cut in cuts], (2, 3, 3), np.dtype(np.int16)))  # fmt: skip

    def test_images_and_targets_belong_together(self, lab_N, position_N):
        images, targets = lab_N
        pool = ImagePool(images, position_N, device=torch.device("cpu"), targets=targets)
        (batch,) = pool.batches([np.array([4, 0, 4, 7])])
        assert len(batch) == 4
        assert batch.image_BHWC.dtype == torch.float16
        assert batch.image_BHWC[:, 0, 0, 0].tolist() == [30, 59, 30, 3]
        assert batch.target_BGHW.dtype == torch.int16
        assert batch.target_BGHW[:, 0, 0, 0].tolist() == [30 * 18, 59 * 18, 30 * 18, 3 * 18]

    def test_a_part_is_the_same_rows_of_everything(self, lab_N, position_N):
        images, targets = lab_N
        (batch,) = ImagePool(images, position_N, device=torch.device("cpu"), targets=targets).batches([np.arange(5)])
        part = batch.part(slice(1, 3))
        assert part.index_B.tolist() == [1, 2]
        assert torch.equal(part.image_BHWC, batch.image_BHWC[1:3])
        assert torch.equal(part.target_BGHW, batch.target_BGHW[1:3])
        assert part.target_BGHW.data_ptr() == batch.target_BGHW[1].data_ptr(), "a view"

    def test_a_part_without_targets_has_none(self, pool):
        (batch,) = pool.batches([np.arange(5)])
        assert batch.part(slice(0, 2)).target_BGHW is None

    def test_targets_of_another_number_of_images_are_refused(self, split, lab_N, position_N):
        few = Rows([np.zeros((7, 2, 3, 3), np.int16)], (2, 3, 3), np.dtype(np.int16))
        with pytest.raises(ValueError, match="targets must be as many as the images, 60; got 7"):
            ImagePool(split.images, position_N, device=torch.device("cpu"), targets=few)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_gpu_batches_are_equal_resident_or_not(split, position_N, monkeypatch):
    from pretext.training import pool as module

    targets = Rows([np.arange(len(split), dtype=np.int16)[:, None, None, None]], (1, 1, 1), np.dtype(np.int16))
    resident = ImagePool(split.images, position_N, device=torch.device("cuda"), targets=targets)
    monkeypatch.setattr(split.images, "read", None)  # all is on the GPU by now
    (batch,) = resident.batches([np.array([4, 0])])
    monkeypatch.undo()
    assert batch.target_BGHW.flatten().tolist() == [30, 59]
    monkeypatch.setattr(module, "DEVICE_SHARE", 0.0)
    streamed = ImagePool(split.images, position_N, device=torch.device("cuda"), targets=targets)
    indices = [np.array([4, 0, 4]), np.array([1])]
    for first, second in zip(resident.batches(indices), streamed.batches(indices), strict=True):
        assert first.image_BHWC.device.type == second.image_BHWC.device.type == "cuda"
        assert torch.equal(first.image_BHWC, second.image_BHWC)
        assert torch.equal(first.target_BGHW, second.target_BGHW)

"""What several processes do with a batch, as far as one process can tell; pipeline/test_torchrun_training.py has two."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch import nn

from pretext.augment import Span, augment_batch, corrupt
from pretext.errors import ConfigError
from pretext.training.device import Compute
from pretext.training.order import epoch_order
from pretext.training.parallel import Alone, check_batch, choose_team
from pretext.training.sync_norm import SyncNorm, shared_statistics

CPU = torch.device("cpu")


def team(rank, size):
    found = Alone()
    found.rank, found.size = rank, size
    return found


def seeded():
    return torch.Generator().manual_seed(5)


class TestSpans:
    @pytest.mark.parametrize("size", [1, 2, 3, 7])
    @pytest.mark.parametrize("accumulate", [1, 2, 4, 100])
    def test_every_row_is_of_one_process_and_each_process_has_rows_of_every_part(self, size, accumulate):
        spans = [team(rank, size).spans(7, accumulate) for rank in range(size)]
        rows = [row for own in spans for span in own for row in range(span.start, span.stop)]
        assert sorted(rows) == list(range(7))
        assert len({len(own) for own in spans}) == 1, "as many backward passes everywhere"
        assert all(len(span) > 0 and span.whole == 7 for own in spans for span in own)

    def test_parts_are_those_of_one_process_where_the_batch_is_large_enough(self):
        alone = team(0, 1).spans(11, 3)
        shared = [team(rank, 2).spans(11, 3) for rank in range(2)]
        assert [(first.start, last.stop) for first, last in zip(*shared, strict=True)] == [
            (span.start, span.stop) for span in alone
        ]

    def test_more_processes_than_rows_are_refused(self):
        with pytest.raises(ConfigError, match="3 processes can't divide a batch of 2 images"):
            check_batch(2, 3)


class TestDraws:
    IMAGE = torch.randint(256, (7, 16, 16, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    SPANS = (Span(0, 4, 7), Span(4, 7, 7))

    @pytest.mark.parametrize("preset", ["flip", "small", "strong"])
    def test_parts_of_a_batch_change_as_the_batch_does(self, preset):
        whole = augment_batch(self.IMAGE, preset, seeded())
        parts = [augment_batch(span.cut(self.IMAGE), preset, seeded(), span) for span in self.SPANS]
        # how a reduction is split over an image may depend on the batch's size
        torch.testing.assert_close(torch.cat(parts), whole, rtol=0, atol=1e-6)

    @pytest.mark.parametrize("noise", ["salt-pepper", "masking", "gaussian"])
    def test_parts_of_a_batch_get_its_noise(self, noise):
        image01 = self.IMAGE.permute(0, 3, 1, 2) / 255
        whole = corrupt(image01, noise, 0.3, seeded())
        parts = [corrupt(span.cut(image01), noise, 0.3, seeded(), span) for span in self.SPANS]
        assert torch.equal(torch.cat(parts), whole)


class TestOrder:
    def test_it_goes_on_from_any_batch_and_is_that_of_a_permutation(self):
        whole = list(epoch_order(23, 5, seed=3, epoch=2))
        assert [len(index_B) for index_B in whole] == [5] * 4
        assert len(set(np.concatenate(whole).tolist())) == 20
        for first in range(5):
            rest = list(epoch_order(23, 5, seed=3, epoch=2, first=first))
            assert [index_B.tolist() for index_B in rest] == [index_B.tolist() for index_B in whole[first:]]

    def test_the_numbers_of_narrow_integers_are_those_of_wide_ones(self):
        wide, narrow = (torch.randperm(1000, generator=seeded(), dtype=kind) for kind in (torch.int64, torch.int32))
        assert torch.equal(wide, narrow.long())


@pytest.fixture
def group():
    """This process as a group of one."""
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.usefixtures("group")
class TestSyncNorm:
    def test_it_agrees_with_batch_norm(self):
        torch.manual_seed(0)
        ours, theirs = SyncNorm(5), nn.BatchNorm2d(5)
        nn.init.uniform_(ours.weight)
        nn.init.normal_(ours.bias)
        theirs.load_state_dict(ours.state_dict())
        for train in (True, True, False):
            image = 50 + torch.randn(6, 5, 4, 3)
            mine, reference = image.clone().requires_grad_(), image.clone().requires_grad_()
            slope = torch.randn(6, 5, 4, 3)
            ours.train(train), theirs.train(train)
            got, want = ours(mine), theirs(reference)
            torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-5)
            (got * slope).sum().backward(), (want * slope).sum().backward()
            torch.testing.assert_close(mine.grad, reference.grad, rtol=1e-4, atol=1e-5)
            for name, value in theirs.state_dict().items():
                torch.testing.assert_close(ours.state_dict()[name], value, rtol=1e-5, atol=1e-6)
            for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
                torch.testing.assert_close(one.grad, other.grad, rtol=1e-4, atol=1e-4)

    def test_under_bf16_the_output_is_bf16_and_the_statistics_are_not(self):
        norm = SyncNorm(2)
        image = (100 + torch.randn(8, 2, 4, 4)).bfloat16()
        output = norm(image)
        assert output.dtype == torch.bfloat16
        assert norm.running_var.dtype == torch.float32
        assert output.float().mean().abs() < 0.02

    def test_it_stands_in_and_leaves_no_trace_but_the_statistics(self):
        module = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Sequential(nn.BatchNorm2d(4), nn.ReLU(inplace=True)))
        norm, names, parameters = module[1][0], list(module.state_dict()), list(module.parameters())
        with shared_statistics(module, CPU):
            assert type(module[1][0]) is SyncNorm
            assert list(module.state_dict()) == names
            assert all(one is other for one, other in zip(module.parameters(), parameters, strict=True))
            module(torch.rand(4, 3, 2, 2)).sum().backward()
            module.eval()
        assert module[1][0] is norm
        assert not norm.training
        assert norm.num_batches_tracked == 1
        assert norm.weight.grad is not None


def test_without_torchrun_and_for_models_of_their_own_there_is_no_exchange(monkeypatch):
    assert type(choose_team(True, CPU)) is Alone
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert type(choose_team(False, CPU)) is Alone
    assert not dist.is_initialized()


def test_each_process_of_a_machine_takes_its_own_gpu(monkeypatch):
    from pretext.errors import DeviceError
    from pretext.training import device

    chosen = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    assert device.resolve_compute("cuda") == Compute(torch.device("cuda"), "fp32")
    monkeypatch.setenv("WORLD_SIZE", "3")
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert device.resolve_compute("auto") == Compute(torch.device("cuda", 1), "fp32")
    assert chosen == [1]
    monkeypatch.setenv("LOCAL_RANK", "2")
    with pytest.raises(DeviceError, match="number 3 on its machine, but PyTorch finds 2"):
        device.resolve_compute("cuda")

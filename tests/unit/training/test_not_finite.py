"""A step that gives no number: kept for a replay, skipped, or gone back from; and never anything of it in the weights."""

from __future__ import annotations

import copy
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from pretext.artifacts.atomic import read_json
from pretext.artifacts.checkpoint import read_header, read_tensors, write_tensors
from pretext.errors import ArtifactError, PretextError
from pretext.training import loop
from pretext.training.guard import Guard
from pretext.training.loop import LoopConfig, fit
from pretext.training.order import epoch_order
from pretext.training.replay import replay_step
from pretext.training.seeds import derive_seed, make_generator
from pretext.training.state import load_state

from .conftest import CPU, CountingTask, StoppedError, TinyLearner, stop_after

TIMES = {"time/data_s", "time/step_s", "images_per_s"}
NEVER = 1e9
CONFIG = LoopConfig(
    epochs=3, batch_size=4, lr=0.01, schedule="cosine", warmup_epochs=0.5, log_every=2, save_every=NEVER
)
IMAGES = 17  # four steps an epoch


class Poisoned(TinyLearner):
    """Gives no number whenever all of some images are in one batch: the loss itself, or its gradient alone."""

    def __init__(self, split, *together, what="loss"):
        super().__init__()
        self.poison = [torch.from_numpy(split.images.read(np.array([number])))[0] for number in together]
        self.what = what

    def train_loss(self, batch, generator):
        loss = super().train_loss(batch, generator)
        there = [bool((batch.image_BHWC == image).flatten(1).all(1).any()) for image in self.poison]
        if not (there and all(there)):
            return loss
        bias = self.module[6].bias.sum()
        return (
            loss * math.inf if self.what == "loss" else loss + (bias - bias).sqrt()
        )  # of value 0, its slope inf - inf


def steps_with(config, *together):
    """The steps, from 1, whose batch holds all of these images."""
    batches = [index_B for epoch in range(config.epochs)
               for index_B in epoch_order(IMAGES, config.batch_size, seed=config.seed, epoch=epoch)]  # fmt: skip
    return [step for step, index_B in enumerate(batches, start=1) if set(together) <= set(index_B.tolist())]


@pytest.fixture
def begin(tmp_path, make_pool):
    def run(learner, task=None, *, folder="resume", config=CONFIG, **changes):
        return fit(learner, make_pool(IMAGES), make_pool(4, start=50), replace(config, **changes), CPU,
                   folder=tmp_path / folder / "resume", task=task or CountingTask())  # fmt: skip

    return run


def weights_of(learner):
    return {name: value.clone() for name, value in learner.module.state_dict().items()}


def assert_equal(found, want):
    assert found.keys() == want.keys()
    for name, value in want.items():
        torch.testing.assert_close(found[name], value, rtol=0, atol=0, equal_nan=True, msg=name)


def rows_of(result):
    return [{name: value for name, value in row.items() if name not in TIMES} for row in result.rows]


class TestStop:
    @pytest.mark.parametrize("what", ["loss", "gradient"])
    @pytest.mark.parametrize("image", [0, 5, 11])
    def test_the_step_is_kept_and_gives_the_same_when_it_is_replayed(self, begin, split, tmp_path, what, image):
        step = steps_with(CONFIG, image)[0]
        with pytest.raises(PretextError, match=f"in step {step}; "):
            begin(Poisoned(split, image, what=what))
        (path,) = (tmp_path / "resume").glob("failed-step-*.safetensors")
        assert path.name == f"failed-step-{step:09d}.safetensors"
        header, again = read_header(path), Poisoned(split, image, what=what)
        found = replay_step(path, again)
        assert (header["kind"], header["step"], header["epoch"]) == ("failed-step", step, (step - 1) // 4)
        assert found.step == step
        assert str(found.loss) == str(found.loss_in_training) == header["loss"]
        assert str(found.grad_norm) == str(found.grad_norm_in_training) == header["grad_norm"]
        assert math.isfinite(found.loss) == (what == "gradient")
        assert not math.isfinite(found.grad_norm)
        assert image in read_tensors(path)["batch.index"]

    def test_the_state_kept_is_that_before_the_step_with_statistics_and_moments(self, begin, split, tmp_path):
        step = next(number for number in range(2, 13) if number % 2 and number % 4 != 1)
        image = next(number for number in range(IMAGES) if steps_with(CONFIG, number)[:1] == [step])
        with pytest.raises(PretextError):
            begin(Poisoned(split, image), log_every=50)
        (path,) = (tmp_path / "resume").glob("failed-step-*.safetensors")
        with pytest.raises(StoppedError):
            begin(TinyLearner(), stop_after(step), folder="clean", log_every=50, save_every=0)
        want, facts = load_state(tmp_path / "clean" / "resume")
        assert facts["loop"]["step"] == step - 1
        kept = read_tensors(path)
        for name, value in want.items():
            if not name.startswith("best."):
                assert torch.equal(kept[name], value), name

    def test_its_bytes_are_summed_up_and_damage_is_found(self, begin, split, tmp_path):
        with pytest.raises(PretextError):
            begin(Poisoned(split, 3))
        (path,) = (tmp_path / "resume").glob("failed-step-*.safetensors")
        record = read_json(path.with_name(f"{path.stem}.manifest.json"))
        assert record["outputs"][path.name]["bytes"] == path.stat().st_size
        content = bytearray(path.read_bytes())
        content[-5] ^= 1
        path.write_bytes(content)
        with pytest.raises(ArtifactError, match="is damaged: its bytes"):
            replay_step(path, Poisoned(split, 3))

    def test_a_file_of_another_kind_is_refused(self, begin, tmp_path):
        with pytest.raises(StoppedError):
            begin(TinyLearner(), stop_after(2), save_every=0)
        (path,) = (tmp_path / "resume" / "resume").glob("*.safetensors")
        with pytest.raises(ArtifactError, match="is no failed step: its kind is 'resume'"):
            replay_step(path, TinyLearner())

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("step", 0),
            ("step", "5"),
            ("seed", None),
            ("accumulate", 0),
            ("precision", "fp8"),
            ("loss", "1_0"),
            ("loss", 3),
        ],
    )
    def test_a_file_with_a_header_that_lies_is_refused(self, begin, split, tmp_path, name, value):
        with pytest.raises(PretextError):
            begin(Poisoned(split, 3))
        (path,) = (tmp_path / "resume").glob("failed-step-*.safetensors")
        other = tmp_path / "other.safetensors"
        write_tensors(other, read_tensors(path), read_header(path) | {name: value})
        with pytest.raises(ArtifactError, match="is damaged: it lacks"):
            replay_step(other, Poisoned(split, 3))
        write_tensors(other, {"batch.index": torch.zeros(2)}, read_header(path))
        with pytest.raises(ArtifactError, match="is damaged: it lacks"):
            replay_step(other, Poisoned(split, 3))

    def test_a_rate_far_too_large_is_found_and_replayed(self, begin, tmp_path):
        with pytest.raises(PretextError, match="became (nan|inf) in step"):
            begin(TinyLearner(), lr=1e30, grad_clip=0.0, save_every=0)
        (path,) = (tmp_path / "resume").glob("failed-step-*.safetensors")
        found = replay_step(path, TinyLearner())
        assert str((found.loss, found.grad_norm)) == str((found.loss_in_training, found.grad_norm_in_training))
        saved = load_state(tmp_path / "resume" / "resume")
        assert saved is not None
        assert all(torch.isfinite(value).all() for value in saved[0].values())


def by_hand(learner, pool, config, leave_out):
    """The same training written out, with a plain `if` where the loop has none."""
    optimizer = torch.optim.Adam(learner.module.parameters(), lr=config.lr, fused=True)
    step = 0
    for epoch in range(config.epochs):
        learner.train_mode()
        for batch in pool.batches(epoch_order(IMAGES, config.batch_size, seed=config.seed, epoch=epoch)):
            before = copy.deepcopy(learner.module.state_dict())
            torch.manual_seed(derive_seed(config.seed, "dropout", step))
            optimizer.zero_grad(set_to_none=True)
            part = batch.part(slice(0, len(batch)))
            learner.train_loss(part, make_generator(config.seed, "augment", step)).backward()
            warm = round(config.warmup_epochs * 4)
            scale = (step + 1) / (warm + 1) if step < warm else 0.5 * (
                1 + math.cos(math.pi * (step - warm) / (config.epochs * 4 - warm)))  # fmt: skip
            nn.utils.clip_grad_norm_(learner.module.parameters(), math.inf)
            optimizer.param_groups[0]["lr"] = config.lr * scale
            step += 1
            if step in leave_out:
                learner.module.load_state_dict(before)
            else:
                optimizer.step()
    return weights_of(learner)


class TestSkip:
    @pytest.mark.parametrize("what", ["loss", "gradient"])
    def test_the_update_is_left_out_and_nothing_else(self, begin, split, make_pool, what):
        learner, bad = Poisoned(split, 3, what=what), steps_with(CONFIG, 3)
        result = begin(learner, on_nan="skip")
        assert len(bad) >= 2
        assert_equal(weights_of(learner), by_hand(TinyLearner(), make_pool(IMAGES), CONFIG, bad))
        epochs = [row for row in result.rows if row["kind"] == "epoch"]
        assert sum(row["train/skipped"] for row in epochs) == len(bad)
        assert all(math.isfinite(row["train/loss"]) for row in result.rows)
        assert result.images_seen == 12 * 4, "schedule and counters go on"

    def test_stopped_at_any_step_it_goes_on_to_the_same_bits(self, begin, split):
        learner = Poisoned(split, 3)
        want = begin(learner, on_nan="skip")
        for step in range(1, 13):
            with pytest.raises(StoppedError):
                begin(Poisoned(split, 3), stop_after(step), folder=f"stop-{step}", on_nan="skip", save_every=0)
            other = Poisoned(split, 3)
            found = begin(other, folder=f"stop-{step}", on_nan="skip")
            assert_equal(weights_of(other), weights_of(learner))
            assert rows_of(found) == rows_of(want)

    def test_a_row_without_a_single_number_has_no_loss(self, begin, split):
        learner = Poisoned(split)
        learner.train_loss = lambda batch, generator, plain=learner.train_loss: (
            plain(batch, generator) * (math.nan if len(learner.seen) < 4 else 1)
        )
        result = begin(learner, on_nan="skip")
        assert [row["train/loss"] is None for row in result.rows[:2]] == [True, False]

    @pytest.mark.parametrize("stop", [0, 3])
    def test_ten_in_a_row_end_it_even_over_a_restart(self, begin, split, tmp_path, stop):
        def always(first):
            learner = Poisoned(split)
            learner.train_loss = lambda batch, generator, plain=learner.train_loss: (
                plain(batch, generator) * (math.nan if len(learner.seen) >= first else 1)
            )
            return learner

        if stop:
            with pytest.raises(StoppedError):
                begin(always(2), stop_after(stop + 1), on_nan="skip", save_every=0)
        with pytest.raises(PretextError, match="the loss became nan in step 11, as in the 9 before; ") as caught:
            begin(always(0 if stop else 2), on_nan="skip", log_every=50)
        assert "--lr" in caught.value.hint


class TestRewind:
    PAIR = (2, 9)

    @pytest.fixture
    def seed(self):
        """One whose order puts the pair into one batch once."""
        return next(seed for seed in range(99) if len(steps_with(replace(CONFIG, seed=seed), *self.PAIR)) == 1)

    @pytest.mark.parametrize("save_every", [0, NEVER])
    def test_from_the_saved_state_on_images_come_in_another_order(self, begin, split, seed, save_every):
        learner, (step,) = Poisoned(split, *self.PAIR), steps_with(replace(CONFIG, seed=seed), *self.PAIR)
        result = begin(learner, on_nan="rewind", seed=seed, save_every=save_every)
        assert result.rewinds >= 1
        assert result.epochs_run == 3
        assert [row["step"] for row in result.rows if row["kind"] == "epoch"] == [4, 8, 12]
        assert all(math.isfinite(row["train/loss"]) for row in result.rows)
        last_epochs = np.array(learner.seen[-12:]).reshape(3, -1)
        whole = [epoch for number, epoch in enumerate(last_epochs) if number * 4 > step]
        assert all(len(set(epoch.tolist())) == 16 for epoch in whole), "each image once an epoch"

    def test_stopped_after_it_went_back_it_ends_in_the_same_bits(self, begin, split, seed):
        whole = Poisoned(split, *self.PAIR)
        want = begin(whole, on_nan="rewind", seed=seed, save_every=0)
        for step in (1, 5, 9, 11):
            with pytest.raises(StoppedError):
                begin(Poisoned(split, *self.PAIR), stop_after(step), folder=f"stop-{step}", on_nan="rewind", seed=seed,
                      save_every=0)  # fmt: skip
            other = Poisoned(split, *self.PAIR)
            found = begin(other, folder=f"stop-{step}", on_nan="rewind", seed=seed, save_every=0)
            assert_equal(weights_of(other), weights_of(whole))
            assert rows_of(found) == rows_of(want)

    def test_it_ends_when_it_never_gets_past_it(self, begin, split, tmp_path):
        with pytest.raises(PretextError, match=f"the loss became inf in step .*, after {loop.REWINDS} rewinds; "):
            begin(Poisoned(split, 3), on_nan="rewind", save_every=0)
        assert len(list((tmp_path / "resume").glob("failed-step-*.safetensors"))) == 1

    def test_orders_begun_anew_share_their_beginning_and_visit_each_image_once(self):
        plain = list(epoch_order(23, 5, seed=3, epoch=2))
        again = list(epoch_order(23, 5, seed=3, epoch=2, again=[(1, 2)]))
        twice = list(epoch_order(23, 5, seed=3, epoch=2, again=[(1, 2), (2, 2)]))
        for order in (again, twice):
            assert all(np.array_equal(a, b) for a, b in zip(order[:2], plain[:2], strict=True))
            assert len(set(np.concatenate(order).tolist())) == 20
        assert len({tuple(np.concatenate(order)) for order in (plain, again, twice)}) == 3


class TestGuard:
    def test_it_counts_steps_in_a_row_and_freezes_at_its_limit(self):
        guard = Guard(nn.BatchNorm2d(2), torch.device("cpu"), limit=3)
        verdicts = []
        for loss in (1.0, math.nan, math.inf, 2.0, math.nan, -math.inf):
            verdicts.append(bool(guard.judge(torch.tensor(loss), torch.tensor(1.0))))
        assert verdicts == [False, True, True, False, True, True]
        assert guard.read() == (2, None)
        assert bool(guard.judge(torch.tensor(1.0), torch.tensor(math.inf)))
        assert bool(guard.judge(torch.tensor(1.0), torch.tensor(1.0))), "frozen"
        in_a_row, failed = guard.read()
        assert in_a_row == 3
        assert (failed.step, failed.loss, failed.grad_norm) == (7, 1.0, math.inf)
        assert failed.what == "the gradient's norm became inf"

    def test_a_loss_and_a_norm_that_are_large_but_finite_pass(self):
        guard = Guard(nn.Identity(), torch.device("cpu"), limit=1)
        assert not bool(guard.judge(torch.tensor(3e38), torch.tensor(3e38)))

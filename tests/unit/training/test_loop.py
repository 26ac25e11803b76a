"""The training loop: what it counts, when it stops, and what it does with a loss that is no number."""

import math
import threading

import numpy as np
import pytest
import torch

from pretext.errors import PretextError
from pretext.training.device import Compute
from pretext.training.loop import LoopConfig, fit
from pretext.training.state import load_state

from .conftest import CPU, CountingTask, TinyLearner

TIMES = {"time/data_s", "time/step_s", "images_per_s"}


def config(**changes):
    return LoopConfig(**{"epochs": 3, "batch_size": 4, "lr": 0.01, "schedule": "constant", **changes})


@pytest.fixture
def trained(tmp_path, make_pool):
    """Train a learner; returns it, the result and the task."""

    def train(learner=None, *, images=12, val=5, compute=CPU, task=None, **changes):
        learner = learner or TinyLearner()
        task = task or CountingTask()
        pool = make_pool(val, start=40) if val else None
        result = fit(
            learner, make_pool(images), pool, config(**changes), compute, folder=tmp_path / "resume", task=task
        )
        return learner, result, task

    return train


def same_weights(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


class TestLearning:
    def test_the_loss_falls(self, trained):
        _, result, _ = trained(TinyLearner(dropout=0.0), epochs=30, batch_size=12, images=24)
        epochs = [row for row in result.rows if row["kind"] == "epoch"]
        assert len(epochs) == 30
        assert epochs[-1]["train/loss"] < 0.3 * epochs[0]["train/loss"]
        assert epochs[-1]["val/loss"] < 0.3 * epochs[0]["val/loss"]

    def test_two_runs_give_the_same_bits_and_another_seed_others(self, trained):
        first, one, _ = trained()
        second, two, _ = trained()
        assert same_weights(first.module.state_dict(), second.module.state_dict())
        assert same_weights(one.best, two.best)
        assert [{k: v for k, v in row.items() if k not in TIMES} for row in one.rows] == [
            {k: v for k, v in row.items() if k not in TIMES} for row in two.rows
        ]
        third, _, _ = trained(seed=1)
        assert not same_weights(first.module.state_dict(), third.module.state_dict())

    def test_what_was_drawn_before_does_not_matter(self, trained):
        first, _, _ = trained()
        learner = TinyLearner()
        torch.rand(17)
        second, _, _ = trained(learner)
        assert same_weights(first.module.state_dict(), second.module.state_dict())

    def test_every_step_has_its_own_draws_and_each_of_its_parts_all_of_them(self, trained):
        class Drawing(TinyLearner):
            drawn = []

            def train_loss(self, batch, generator):
                self.drawn.append(float(torch.rand((), generator=generator)))
                return super().train_loss(batch, generator)

        learner, _, _ = trained(Drawing(), accumulate=2)
        assert learner.drawn[::2] == learner.drawn[1::2]
        assert len(set(learner.drawn)) == 9

    def test_bf16_is_used_where_it_is_asked_for(self, trained):
        kinds = set()

        class Watching(TinyLearner):
            def loss(self, image_BHWC, noise):
                kinds.add((self.module.training, torch.is_autocast_enabled("cpu")))
                return super().loss(image_BHWC, noise)

        _, result, _ = trained(Watching(), epochs=1, compute=Compute(torch.device("cpu"), "bf16"))
        assert kinds == {(True, True), (False, True)}
        assert math.isfinite(result.best_val)


class TestBatches:
    def test_the_last_partial_batch_waits_for_other_epochs(self, trained):
        learner, result, task = trained(images=11, epochs=6)
        assert [len(index_B) for index_B in learner.seen] == [4] * 12
        assert result.images_seen == 48
        assert task.steps == 12
        epochs = [np.concatenate(learner.seen[i : i + 2]) for i in range(0, 12, 2)]
        assert all(len(set(epoch.tolist())) == 8 for epoch in epochs), "no image twice in an epoch"
        assert set(np.concatenate(epochs).tolist()) == set(range(11)), "in six epochs each was seen"
        assert len({tuple(epoch.tolist()) for epoch in epochs}) == 6, "each epoch has an order of its own"

    def test_a_batch_larger_than_the_set_is_the_set(self, trained):
        learner, result, _ = trained(images=6, batch_size=100, epochs=2)
        assert [sorted(index_B.tolist()) for index_B in learner.seen] == [list(range(6))] * 2
        assert result.images_seen == 12

    def test_images_belong_to_their_indices(self, trained, split):
        class Checking(TinyLearner):
            def train_loss(self, batch, generator):
                np.testing.assert_array_equal(batch.image_BHWC.numpy(), split.images.read(batch.index_B))
                return super().train_loss(batch, generator)

            def val_loss(self, batch):
                np.testing.assert_array_equal(batch.image_BHWC.numpy(), split.images.read(40 + batch.index_B))
                return super().val_loss(batch)

        learner, _, _ = trained(Checking(), accumulate=3)
        assert len(learner.seen) == 3 * 3 * 3

    def test_validation_counts_each_image_once(self, trained):
        class Means(TinyLearner):
            asked = []

            def val_loss(self, batch):
                self.asked.append(batch.index_B.tolist())
                return torch.tensor(float(batch.index_B.mean()))

        learner, result, _ = trained(Means(), epochs=1, val=7)
        assert learner.asked == [[0, 1, 2, 3], [4, 5, 6]]
        assert result.rows[-1]["val/loss"] == 3.0, "the mean over images, not over batches"

    def test_accumulation_equals_the_whole_batch(self, trained):
        gradients = {}
        for accumulate in (1, 3, 8, 100):
            learner, result, _ = trained(TinyLearner(dropout=0.0, noise=0.0, norm=False), images=8, batch_size=8,
                                         epochs=1, accumulate=accumulate)  # fmt: skip
            assert [len(index_B) for index_B in learner.seen] == {1: [8], 3: [3, 3, 2]}.get(accumulate, [1] * 8)
            gradients[accumulate] = [parameter.grad.clone() for parameter in learner.module.parameters()]
            row = result.rows[-1]
            gradients[accumulate].append(torch.tensor([row["train/loss"], row["train/grad_norm"]]))
        for accumulate in (3, 8, 100):
            for found, want in zip(gradients[accumulate], gradients[1], strict=True):
                torch.testing.assert_close(found, want, rtol=1e-5, atol=1e-6)


class TestGradient:
    @pytest.mark.parametrize("clip", [0.0, 1e-3, 1e3])
    def test_its_norm_is_clipped_and_told_as_it_was(self, trained, clip):
        learner, result, _ = trained(images=4, epochs=1, grad_clip=clip)
        norm = torch.cat([parameter.grad.flatten() for parameter in learner.module.parameters()]).norm().item()
        told = result.rows[-1]["train/grad_norm"]
        assert told > 0.01
        assert norm == pytest.approx(clip if clip == 1e-3 else told, rel=1e-3)

    def test_parameters_that_are_fixed_stay(self, trained):
        learner = TinyLearner()
        learner.module[0].weight.requires_grad_(False)
        before = learner.module[0].weight.clone()
        other = learner.module[3].weight.clone()
        trained(learner)
        assert torch.equal(learner.module[0].weight, before)
        assert not torch.equal(learner.module[3].weight, other)


class TestRows:
    def test_steps_and_epochs_have_the_mean_since_their_last_row(self, trained):
        class Scripted(TinyLearner):
            step = 0

            def train_loss(self, batch, generator):
                self.step += 1
                return super().train_loss(batch, generator) * 0 + self.step

        _, result, task = trained(Scripted(), epochs=2, log_every=2)
        rows = [(row["kind"], row["step"], row["epoch"], row["images_seen"], row["train/loss"]) for row in result.rows]
        assert rows == [
            ("step", 2, pytest.approx(2 / 3), 8, 1.5), ("epoch", 3, 1.0, 12, 2.0),
            ("step", 4, pytest.approx(4 / 3), 16, 3.5), ("step", 6, 2.0, 24, 5.5), ("epoch", 6, 2.0, 24, 5.0),
        ]  # fmt: skip
        assert all(("val/loss" in row) == (row["kind"] == "epoch") for row in result.rows)
        assert all(row[name] > 0 for row in result.rows for name in ("time/step_s", "images_per_s"))
        assert {"epoch": 2, "val_loss": result.rows[-1]["val/loss"]} in task.facts
        assert task.total == 6

    def test_the_rate_is_that_of_the_schedule(self, trained):
        _, result, _ = trained(schedule="cosine", lr=0.02, epochs=4, warmup_epochs=1.3, log_every=1)
        found = [row["lr"] for row in result.rows if row["kind"] == "step"]
        want = [0.02 * (step + 1) / 5 for step in range(4)]
        want += [0.02 * 0.5 * (1 + math.cos(math.pi * (step - 4) / 8)) for step in range(4, 12)]
        assert found == pytest.approx(want, rel=1e-12)

    def test_the_rate_falls_on_a_plateau(self, trained):
        class Flat(TinyLearner):
            def val_loss(self, batch):
                return torch.tensor(1.0)

        _, result, _ = trained(Flat(), schedule="plateau", lr=0.01, epochs=6, plateau_factor=0.5, plateau_patience=1)
        assert [row["lr"] for row in result.rows] == pytest.approx([0.01, 0.01, 0.01, 0.005, 0.005, 0.0025], rel=1e-12)


class ScriptedVal(TinyLearner):
    """A validation loss from a list; remembers the weights it judged."""

    def __init__(self, losses):
        super().__init__()
        self.losses, self.judged = losses, []

    def val_loss(self, batch):
        self.judged.append({name: value.clone() for name, value in self.module.state_dict().items()})
        return torch.tensor(self.losses[len(self.judged) - 1])


class TestBestAndStop:
    def test_the_best_weights_are_those_of_the_best_epoch(self, trained):
        learner, result, _ = trained(ScriptedVal([3.0, 1.0, 2.0, 1.0, 1.5]), epochs=5, val=2)
        assert (result.best_epoch, result.best_val, result.epochs_run) == (2, 1.0, 5)
        assert same_weights(result.best, learner.judged[1])
        assert same_weights(learner.module.state_dict(), learner.judged[4])

    def test_it_stops_after_patience_epochs_that_are_not_better(self, trained):
        _, result, _ = trained(ScriptedVal([3.0, 2.0, 2.0, 1.0, 1.0, 1.5, 0.1]), epochs=7, val=2, patience=2)
        assert (result.epochs_run, result.best_epoch) == (6, 4)
        assert result.images_seen == 6 * 12

    def test_without_patience_it_never_stops(self, trained):
        _, result, _ = trained(ScriptedVal([1.0, 2.0, 3.0, 4.0]), epochs=4, val=2)
        assert result.epochs_run == 4

    def test_without_validation_images_the_training_loss_is_watched(self, trained):
        _, result, _ = trained(val=0, epochs=4)
        losses = [row["train/loss"] for row in result.rows if row["kind"] == "epoch"]
        assert result.best_val == min(losses)
        assert result.best_epoch == losses.index(min(losses)) + 1
        assert [row["val/loss"] for row in result.rows if row["kind"] == "epoch"] == [None] * 4


class Breaking(TinyLearner):
    """Breaks in one step: the loss, the gradient alone, or the validation of that epoch."""

    def __init__(self, *, what, step):
        super().__init__()
        self.what, self.step, self.now = what, step, 0

    def train_loss(self, batch, generator):
        self.now += 1
        loss = super().train_loss(batch, generator)
        if self.now == self.step and self.what == "gradient":
            weight = self.module[6].bias.sum()
            return loss + (weight - weight).sqrt()  # the value is 0, its gradient inf - inf
        return loss * math.inf if self.now == self.step and self.what == "loss" else loss

    def val_loss(self, batch):
        loss = super().val_loss(batch)
        return loss * math.nan if self.now == self.step and self.what == "validation" else loss


class TestNotANumber:
    @pytest.mark.parametrize(
        ("what", "step", "match"),
        [
            ("loss", 5, "the loss became inf in step 5; .*failed-step-000000005.safetensors holds its batch"),
            ("gradient", 5, "the gradient's norm became nan in step 5"),
            ("gradient", 9, "the gradient's norm became nan in step 9"),
            ("validation", 6, "the validation loss became nan at step 6; the last saved state is kept"),
        ],
    )
    def test_it_is_an_error_at_the_next_row(self, trained, what, step, match):
        with pytest.raises(PretextError, match=match) as caught:
            trained(Breaking(what=what, step=step))
        assert "--lr" in caught.value.hint

    @pytest.mark.parametrize("what", ["loss", "gradient"])
    def test_a_state_that_is_saved_in_between_is_never_a_broken_one(self, trained, tmp_path, what):
        with pytest.raises(PretextError, match="in step 5; "):
            trained(Breaking(what=what, step=5), save_every=0)
        tensors, facts = load_state(tmp_path / "resume")
        assert facts["loop"]["step"] == 4
        assert all(torch.isfinite(value.float()).all() for value in tensors.values())


def test_it_runs_in_another_thread_too(trained):
    first, _, _ = trained()
    found = []
    thread = threading.Thread(target=lambda: found.append(trained()[0]))
    thread.start()
    thread.join()
    assert same_weights(found[0].module.state_dict(), first.module.state_dict())

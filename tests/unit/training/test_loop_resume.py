"""StoppedError at any step and gone on with, a training ends in the bits of one that was never stopped."""

import os
import signal
from dataclasses import replace

import numpy as np
import pytest
import torch

from pretext.training import state as state_module
from pretext.training.device import Compute
from pretext.training.loop import LoopConfig, fit
from pretext.training.state import load_state

from .conftest import CPU, CountingTask, StoppedError, TinyLearner, stop_after

TIMES = {"time/data_s", "time/step_s", "images_per_s"}
NEVER = 1e9
CONFIGS = {
    "adam, cosine, accumulation": LoopConfig(
        epochs=3, batch_size=5, lr=0.01, schedule="cosine", warmup_epochs=0.5, grad_clip=0.05, accumulate=2,
        log_every=3,
    ),
    "adamw, plateau, early stop": LoopConfig(
        epochs=9, batch_size=5, lr=0.3, optimizer="adamw", weight_decay=0.1, schedule="plateau", plateau_factor=0.5,
        plateau_patience=0, patience=2, log_every=4, seed=1,
    ),
}  # fmt: skip


def outcome(learner, result):
    """All that a training leaves, but for times."""
    rows = [{name: value for name, value in row.items() if name not in TIMES} for row in result.rows]
    facts = (result.best_epoch, result.best_val, result.epochs_run, result.images_seen, rows)
    weights = {name: value.clone() for name, value in learner.module.state_dict().items()}
    return facts, weights | {f"best.{name}": value for name, value in result.best.items()}


def assert_same(found, want):
    assert found[0] == want[0]
    assert found[1].keys() == want[1].keys()
    for name, value in want[1].items():
        assert torch.equal(found[1][name], value), name


@pytest.fixture
def begin(tmp_path, make_pool):
    """Begin or go on with a training in one folder, from a learner that is always new."""

    def run(config, task=None, *, save_every=NEVER, folder="resume", compute=CPU, val=4):
        learner, task = TinyLearner(), task or CountingTask()
        task.resumed = (tmp_path / folder / "state.json").exists()
        result = fit(learner, make_pool(17), make_pool(val, start=50) if val else None,
                     replace(config, save_every=save_every), compute, folder=tmp_path / folder, task=task)  # fmt: skip
        return outcome(learner, result)

    return run


@pytest.mark.parametrize("name", CONFIGS)
class TestStoppedAnywhere:
    def test_at_every_step_in_turn(self, begin, tmp_path, name):
        config = CONFIGS[name]
        whole = CountingTask()
        want = begin(config, whole)
        assert whole.steps >= 9
        if config.patience:
            assert 3 <= want[0][2] < config.epochs, "this training must end by early stop"
            assert len({row["lr"] for row in want[0][4]}) > 1, "and its rate must have fallen"
        for step in range(1, whole.steps + 1):
            with pytest.raises(StoppedError):
                begin(config, stop_after(step), save_every=0, folder=f"stop-{step}")
            rest = CountingTask()
            assert_same(begin(config, rest, folder=f"stop-{step}"), want)
            assert rest.steps == whole.steps - step + 1, "only the step that was not saved is made again"
            assert rest.total == whole.steps, "a bar shows what was done before too"

    def test_after_every_single_step(self, begin, name):
        config = CONFIGS[name]
        want = begin(config, folder="whole")
        stops = 0
        while True:
            try:
                found = begin(config, stop_after(2), save_every=0)
            except StoppedError:
                stops += 1
                assert stops < 100
                continue
            break
        assert stops >= 8
        assert_same(found, want)

    def test_once_more_after_the_end(self, begin, name):
        config = CONFIGS[name]
        want = begin(config, save_every=0)
        again = CountingTask()
        assert_same(begin(config, again), want)
        assert again.steps == 0


class TestSignals:
    CONFIG = CONFIGS["adam, cosine, accumulation"]

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    @pytest.mark.parametrize("step", [1, 2, 3, 4, 9])  # three steps an epoch: inside, at its end, and at the very end
    def test_the_state_is_saved_and_it_goes_on(self, begin, tmp_path, number, step):
        want = begin(self.CONFIG, folder="whole")

        def kill(now):
            if now == step:
                os.kill(os.getpid(), number)

        before = signal.getsignal(number)
        with pytest.raises(KeyboardInterrupt):
            begin(self.CONFIG, CountingTask(kill))
        assert signal.getsignal(number) is before
        assert load_state(tmp_path / "resume")[1]["loop"]["step"] == step
        rest = CountingTask()
        assert_same(begin(self.CONFIG, rest), want)
        assert rest.steps == 9 - step

    def test_a_second_signal_leaves_at_once(self, begin, tmp_path):
        def kill(now):
            if now == 2:
                os.kill(os.getpid(), signal.SIGINT)
                os.kill(os.getpid(), signal.SIGINT)

        before = signal.getsignal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            begin(self.CONFIG, CountingTask(kill))
        assert load_state(tmp_path / "resume") is None
        assert signal.getsignal(signal.SIGINT) is before

    def test_handlers_come_back_after_an_ordinary_end_and_after_an_error(self, begin):
        before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
        begin(self.CONFIG)
        with pytest.raises(StoppedError):
            begin(self.CONFIG, stop_after(2), folder="other")
        assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


class TestStates:
    CONFIG = CONFIGS["adam, cosine, accumulation"]

    @pytest.mark.parametrize("save", [1, 2, 5])
    def test_a_kill_between_tensors_and_facts_goes_on_from_the_older_state(self, begin, tmp_path, monkeypatch, save):
        want = begin(self.CONFIG, folder="whole")
        saves, write = [], state_module.write_json

        def killed(path, content):
            saves.append(path)
            if len(saves) == save:
                raise StoppedError
            write(path, content)

        with monkeypatch.context() as patch:
            patch.setattr(state_module, "write_json", killed)
            with pytest.raises(StoppedError):
                begin(self.CONFIG, save_every=0)
        rest = CountingTask()
        assert_same(begin(self.CONFIG, rest), want)
        assert rest.steps == 9 - (save - 1)

    def test_states_are_saved_by_the_clock(self, begin, monkeypatch):
        from pretext.training import loop

        now, saved, save = [0.0], [], loop.save_state
        monkeypatch.setattr(loop.time, "monotonic", lambda: now[0])
        monkeypatch.setattr(
            loop, "save_state", lambda *args, name, **more: (saved.append(name), save(*args, name=name, **more))
        )

        def tick(step):
            now[0] += 1.0

        begin(self.CONFIG, CountingTask(tick), save_every=2.5)
        assert saved == ["step-000000003", "step-000000006", "step-000000009"]

    def test_bf16_goes_on_to_the_same_bits_too(self, begin):
        compute = Compute(torch.device("cpu"), "bf16")
        want = begin(self.CONFIG, folder="whole", compute=compute)
        with pytest.raises(StoppedError):
            begin(self.CONFIG, stop_after(5), save_every=0, compute=compute)
        assert_same(begin(self.CONFIG, compute=compute), want)

    def test_without_validation_too(self, begin):
        want = begin(self.CONFIG, folder="whole", val=0)
        with pytest.raises(StoppedError):
            begin(self.CONFIG, stop_after(5), save_every=0, val=0)
        assert_same(begin(self.CONFIG, val=0), want)

    def test_each_epoch_has_its_order_whether_it_was_begun_anew_or_not(self, tmp_path, make_pool):
        def seen(folder, task, save_every):
            learner = TinyLearner()
            config = replace(self.CONFIG, accumulate=1, save_every=save_every)
            try:
                fit(learner, make_pool(17), None, config, CPU, folder=tmp_path / folder, task=task)
            except StoppedError:
                learner.seen.pop()  # this step is made again
            return learner.seen

        want = seen("whole", CountingTask(), NEVER)
        found = seen("parts", stop_after(5), 0) + seen("parts", CountingTask(), NEVER)
        assert len(want) == len(found) == 9
        assert all(np.array_equal(a, b) for a, b in zip(found, want, strict=True))

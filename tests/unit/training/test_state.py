"""What a stopped run needs to go on: tensors and facts that belong together."""

import json

import pytest
import torch
from torch import nn

from pretext.errors import ArtifactError
from pretext.training import state as module
from pretext.training.optim import build_optimizer
from pretext.training.state import (
    clear_state,
    copy_state,
    load_state,
    optimizer_tensors,
    restore_optimizer,
    save_state,
    with_prefix,
    without_prefix,
)


def tensors_of(value):
    return {"model.w": torch.full((2,), float(value)), "optimizer.0.step": torch.tensor(float(value))}


class TestSaveAndLoad:
    def test_nothing_saved_is_none(self, tmp_path):
        assert load_state(tmp_path) is None
        assert load_state(tmp_path / "not-there") is None

    def test_round_trip(self, tmp_path):
        save_state(tmp_path / "resume", tensors_of(3), {"loop": {"step": 3, "loss": 0.1 + 0.2}}, name="step-3")
        tensors, facts = load_state(tmp_path / "resume")
        assert facts["loop"] == {"step": 3, "loss": 0.1 + 0.2}
        assert tensors.keys() == tensors_of(3).keys()
        assert torch.equal(tensors["model.w"], tensors_of(3)["model.w"])

    def test_only_the_last_state_is_kept(self, tmp_path):
        for step in (1, 2, 3):
            save_state(tmp_path, tensors_of(step), {"step": step}, name=f"step-{step}")
        assert sorted(path.name for path in tmp_path.iterdir()) == ["state.json", "step-3.safetensors"]
        assert load_state(tmp_path)[1]["step"] == 3

    def test_a_kill_between_tensors_and_facts_leaves_the_older_pair_in_force(self, tmp_path, monkeypatch):
        save_state(tmp_path, tensors_of(1), {"step": 1}, name="step-1")

        def killed(path, content):
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(module, "write_json", killed)
            with pytest.raises(KeyboardInterrupt):
                save_state(tmp_path, tensors_of(2), {"step": 2}, name="step-2")
        assert (tmp_path / "step-2.safetensors").exists()
        tensors, facts = load_state(tmp_path)
        assert facts["step"] == 1
        assert torch.equal(tensors["model.w"], tensors_of(1)["model.w"])
        save_state(tmp_path, tensors_of(3), {"step": 3}, name="step-3")
        assert sorted(path.name for path in tmp_path.iterdir()) == ["state.json", "step-3.safetensors"]

    def test_a_kill_before_the_older_tensors_are_removed_is_no_harm(self, tmp_path):
        save_state(tmp_path, tensors_of(1), {"step": 1}, name="step-1")
        older = (tmp_path / "step-1.safetensors").read_bytes()
        save_state(tmp_path, tensors_of(2), {"step": 2}, name="step-2")
        (tmp_path / "step-1.safetensors").write_bytes(older)
        assert load_state(tmp_path)[1]["step"] == 2

    def test_lost_tensors_are_told(self, tmp_path):
        save_state(tmp_path, tensors_of(1), {}, name="step-1")
        (tmp_path / "step-1.safetensors").unlink()
        with pytest.raises(ArtifactError, match=r"step-1\.safetensors can't be read"):
            load_state(tmp_path)

    def test_damaged_facts_are_told(self, tmp_path):
        save_state(tmp_path, tensors_of(1), {}, name="step-1")
        (tmp_path / "state.json").write_text("{")
        with pytest.raises(ArtifactError, match=r"state\.json is not valid JSON"):
            load_state(tmp_path)

    def test_facts_with_nan_are_refused_and_the_older_state_stays(self, tmp_path):
        save_state(tmp_path, tensors_of(1), {"loss": 0.5}, name="step-1")
        with pytest.raises(ValueError, match="not JSON compliant"):
            save_state(tmp_path, tensors_of(2), {"loss": float("nan")}, name="step-2")
        assert load_state(tmp_path)[1]["loss"] == 0.5

    def test_clear_removes_all(self, tmp_path):
        save_state(tmp_path / "resume", tensors_of(1), {}, name="step-1")
        clear_state(tmp_path / "resume")
        assert list(tmp_path.iterdir()) == []
        clear_state(tmp_path / "resume")

    def test_a_kill_while_clearing_leaves_nothing_that_looks_whole(self, tmp_path, monkeypatch):
        save_state(tmp_path, tensors_of(1), {}, name="step-1")
        monkeypatch.setattr(module.shutil, "rmtree", lambda *args, **more: None)
        clear_state(tmp_path)
        assert load_state(tmp_path) is None

    def test_the_facts_are_json_and_name_their_tensors(self, tmp_path):
        save_state(tmp_path, tensors_of(1), {"step": 1}, name="step-1")
        assert json.loads((tmp_path / "state.json").read_text()) == {"tensors": "step-1.safetensors", "step": 1}


class TestOptimizer:
    def network(self):
        torch.manual_seed(0)
        return nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(16, 2)).to(memory_format=torch.channels_last)

    def train(self, network, optimizer, steps, start=0):
        for step in range(start, start + steps):
            generator = torch.Generator().manual_seed(step)
            optimizer.zero_grad(set_to_none=True)
            network(torch.randn(5, 3, 4, 4, generator=generator)).square().mean().backward()
            optimizer.step()

    @pytest.mark.parametrize("name", ["adam", "adamw"])
    def test_it_goes_on_to_the_same_bits_through_a_file(self, tmp_path, name):
        straight = self.network()
        self.train(straight, build_optimizer(name, straight.parameters(), lr=0.01, weight_decay=0.1), 7)

        first = self.network()
        optimizer = build_optimizer(name, first.parameters(), lr=0.01, weight_decay=0.1)
        self.train(first, optimizer, 3)
        save_state(tmp_path, copy_state(first) | with_prefix("optimizer.", optimizer_tensors(optimizer)), {}, name="s")

        second = self.network()
        optimizer = build_optimizer(name, second.parameters(), lr=0.01, weight_decay=0.1)
        tensors, _ = load_state(tmp_path)
        second.load_state_dict({key: value for key, value in tensors.items() if not key.startswith("optimizer.")})
        restore_optimizer(optimizer, without_prefix("optimizer.", tensors))
        self.train(second, optimizer, 4, start=3)
        for name, value in straight.state_dict().items():
            assert torch.equal(second.state_dict()[name], value), name

    def test_restored_state_lies_in_memory_as_its_parameter_does(self):
        network = self.network()
        weight = network[0].weight
        assert not weight.is_contiguous()
        optimizer = build_optimizer("adam", network.parameters(), lr=0.01, weight_decay=0)
        self.train(network, optimizer, 1)
        saved = {name: value.clone().contiguous() for name, value in optimizer_tensors(optimizer).items()}
        other = self.network()
        fresh = build_optimizer("adam", other.parameters(), lr=0.01, weight_decay=0)
        restore_optimizer(fresh, saved)
        assert fresh.state[other[0].weight]["exp_avg"].stride() == weight.stride()
        for parameter, twin in zip(network.parameters(), other.parameters(), strict=True):
            for key, value in optimizer.state[parameter].items():
                assert torch.equal(fresh.state[twin][key], value)

    def test_a_parameter_of_one_number_keeps_its_step(self):
        parameter = nn.Parameter(torch.tensor(2.0))
        optimizer = build_optimizer("adam", [parameter], lr=0.01, weight_decay=0)
        parameter.grad = torch.tensor(1.0)
        optimizer.step()
        other = nn.Parameter(torch.tensor(2.0))
        fresh = build_optimizer("adam", [other], lr=0.01, weight_decay=0)
        restore_optimizer(fresh, optimizer_tensors(optimizer))
        assert {key: float(value) for key, value in fresh.state[other].items()} == {
            key: float(value) for key, value in optimizer.state[parameter].items()
        }

    def test_an_optimiser_that_made_no_step_has_no_state(self):
        network = self.network()
        assert optimizer_tensors(build_optimizer("adam", network.parameters(), lr=0.01, weight_decay=0)) == {}


def test_a_copy_of_the_state_does_not_change_with_the_module():
    module = nn.BatchNorm1d(2)
    copy = copy_state(module)
    assert set(copy) == {"weight", "bias", "running_mean", "running_var", "num_batches_tracked"}
    with torch.no_grad():
        module.weight.fill_(5)
    module(torch.randn(4, 2))
    assert copy["weight"].tolist() == [1, 1]
    assert copy["num_batches_tracked"].item() == 0
    assert not copy["weight"].requires_grad


def test_prefixes():
    tensors = {"a": torch.zeros(1), "model.b": torch.ones(1)}
    assert set(with_prefix("model.", tensors)) == {"model.a", "model.model.b"}
    assert set(without_prefix("model.", with_prefix("model.", tensors) | {"best.c": torch.ones(1)})) == {"a", "model.b"}

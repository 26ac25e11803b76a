"""Everything a stopped run needs to go on to the same bits: tensors in safetensors, the rest in JSON.

The JSON names the tensor file it belongs to and is written last, so a kill between the two leaves the older pair in force.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pretext.artifacts.atomic import read_json, write_json
from pretext.artifacts.checkpoint import read_tensors, write_tensors
from pretext.errors import ArtifactError

STATE = "state.json"

State = dict[str, Tensor]
SUMS = ("loss", "gradient's norm", "steps left out")  # what is summed up between two rows


@dataclass(slots=True)
class LoopState:
    """Where a training stands; everything in it is plain numbers and survives a restart exactly.

    `in_a_row` counts the last steps that gave no number, `rewinds` has the step of every return to an earlier state.
    """

    step: int = 0
    best_val: float = math.inf
    best_epoch: int = 0
    bad_epochs: int = 0
    stopped: bool = False
    in_a_row: int = 0
    rewinds: list[int] = field(default_factory=list)
    plateau: dict[str, Any] = field(default_factory=dict)
    sums: dict[str, list[float]] = field(
        default_factory=lambda: {kind: [0.0] * len(SUMS) for kind in ("step", "epoch")}
    )
    rows: list[dict[str, Any]] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """JSON has no infinity: it is stored as null."""
        return {**asdict(self), "best_val": _finite(self.best_val),
                "plateau": self.plateau | {"best": _finite(self.plateau["best"])}}  # fmt: skip

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> LoopState:
        """What `as_json` said.

        Raises:
            ArtifactError: If it is something else.
        """
        try:
            state = cls(**content)
            state.best_val = _or_infinite(state.best_val)
            state.plateau["best"] = _or_infinite(state.plateau["best"])
        except (TypeError, KeyError) as error:
            raise ArtifactError(f"the saved state is damaged, or of another version: {error}",
                                hint="--overwrite begins anew") from error  # fmt: skip
        return state


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _or_infinite(value: float | None) -> float:
    return math.inf if value is None else value


def save_state(folder: Path, tensors: Mapping[str, Tensor], facts: Mapping[str, Any], *, name: str) -> None:
    """Save tensors and facts as one; the state before it is removed afterwards."""
    file = f"{name}.safetensors"
    write_tensors(folder / file, tensors, {"kind": "resume"})
    write_json(folder / STATE, {"tensors": file, **facts})
    for other in folder.glob("*.safetensors"):
        if other.name != file:
            other.unlink()


def load_state(folder: Path) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """The last saved state, None if there is none."""
    if not (folder / STATE).exists():
        return None
    facts = read_json(folder / STATE)
    return read_tensors(folder / facts["tensors"]), facts


def clear_state(folder: Path) -> None:
    """Remove the saved state of finished work: the facts first, so that no half of it is ever taken for whole."""
    (folder / STATE).unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimiser's state as plain named tensors."""
    state = optimizer.state_dict()["state"]
    return {f"{index}.{key}": torch.as_tensor(value) for index, entry in state.items() for key, value in entry.items()}


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Put back what `optimizer_tensors` gave, in each parameter's own memory layout.

    The layout matters: the fused update walks parameter and state side by side in memory.
    """
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for name, value in tensors.items():
        index, _, key = name.partition(".")
        parameter = parameters[int(index)]
        own = torch.empty_like(parameter) if value.shape == parameter.shape and key != "step" else value.clone()
        optimizer.state[parameter][key] = own.copy_(value)


def copy_state(module: nn.Module) -> dict[str, Tensor]:
    """A copy of a module's parameters and buffers, on the CPU."""
    return {name: value.detach().to("cpu", copy=True) for name, value in module.state_dict().items()}


def with_prefix(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {f"{prefix}{name}": value for name, value in tensors.items()}


def without_prefix(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}

"""A made-up study, written once, and small ones on demand."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from pretext.artifacts.atomic import file_sums, read_json, write_json
from pretext.artifacts.layout import MANIFEST, RunLayout, find_runs
from pretext.reports.compare import Study, compare
from pretext.reports.document import Document, build_document
from pretext.reports.gather import Run, gather


def _load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("fabricate", Path(__file__).with_name("fabricate.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def fab() -> ModuleType:
    """The module that writes made-up runs."""
    return _load()


@pytest.fixture(scope="session", autouse=True)
def _quick_writing() -> Any:
    """Hundreds of made-up files need not survive a power cut."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        yield


@pytest.fixture(scope="session")
def study_root(fab: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two losses x two seeds, all controls, one unfinished, one broken, one hostile run. To be read only."""
    root = tmp_path_factory.mktemp("study")
    fab.make_study(root, names=("mse", "pse4"))
    return root


@pytest.fixture(scope="session")
def study(study_root: Path) -> Study:
    return compare(gather(find_runs((study_root / "runs",))))


@pytest.fixture(scope="session")
def document(study: Study) -> Document:
    return build_document(study, title="Which <b>one</b>?")


# The groups of channels of a colour space, and the entropy of the first one's bins in a made-up data set, in nats.
SPACES = {"rgb": (("R", "GB"), 4.1), "lab": (("L", "ab"), 3.2), "lab-rescaled": (("L", "ab"), 4.4)}


class Workshop:
    """Makes small studies in a folder of its own."""

    def __init__(self, fab: ModuleType, root: Path) -> None:
        self.fab, self.root, self.runs = fab, root, root / "runs"
        self.data = fab.make_data(root / "data" / "shapes", num_test=60)

    def add(self, name: str, *results: tuple[str, float], seed: int = 0, data: Any = None, protocol: Any = None,
            **settings: Any) -> RunLayout:  # fmt: skip
        """One pretrained run with results (stem, quality)."""
        layout = self.fab.make_run(self.runs / name, self.data, seed=seed, **settings)
        self.fab.make_features(layout, data or self.data)
        for stem, quality in results:
            self.fab.make_result(layout, stem, data or self.data, quality=quality, seed=seed, protocol=protocol)
        return layout

    def add_color(self, name: str, *layers: tuple[str, float], space: str | None = "lab", seed: int = 0,
                  objective: str = "split-brain", loss: str = "cross-entropy", encoder: str = "simplenet5",
                  learned: float = 0.6, pool: str = "resize") -> RunLayout:  # fmt: skip
        """One run that predicts colours, `learned` nats below a constant's loss, probed at layers (layer, quality).

        `space` None is the random control of the network for lab.
        """
        groups, entropy = SPACES[space or "lab"]
        settings: dict[str, Any] = {"loss": None}
        if space is not None:
            task = {"name": objective, "loss": loss, "rebalance": 1.0, "color_space": space, "bins": [100, 100],
                    "target_size": 12, "border": "reflect"}  # fmt: skip
            constants = {f"{groups[0]} to {groups[1]}": entropy - 0.7, f"{groups[1]} to {groups[0]}": entropy}
            losses = {head: value - learned / 2 for head, value in constants.items()}
            settings = {"objective": task, "summary": {
                "best_val_loss": sum(losses.values()), "val_losses": losses,
                "constant_loss": sum(constants.values()), "constant_losses": constants,
            }}  # fmt: skip
        layout: RunLayout = self.fab.make_run(
            self.runs / name, self.data, seed=seed, encoder=encoder,
            network={"channels": list(groups), "outputs": [100, 100]}, **settings,
        )  # fmt: skip
        for layer, quality in layers:
            self.fab.make_features(layout, self.data, layer=layer, pool=pool)
            self.fab.make_result(layout, "probe-linear", self.data, quality=quality, seed=seed, layer=layer,
                                 pool=pool)  # fmt: skip
        return layout

    def add_pixels(self, quality: float) -> RunLayout:
        """The raw-pixel control with a linear probe."""
        layout = self.fab.make_pixels(self.runs / "pixels", self.data)
        self.fab.make_result(layout, "probe-linear", self.data, quality=quality, seed=None)
        return layout

    def gather(self) -> list[Run]:
        return gather(find_runs((self.runs,)))

    def compare(self) -> Study:
        return compare(self.gather())


@pytest.fixture(scope="module")
def shared_workshop(fab: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    """One for all tests of a file: to be filled by one fixture, and then only read."""
    return Workshop(fab, tmp_path_factory.mktemp("shared"))


@pytest.fixture
def workshop(fab: ModuleType, tmp_path: Path) -> Workshop:
    return Workshop(fab, tmp_path)


@pytest.fixture(scope="session")
def change_result() -> Any:
    """Alter a result file and keep its manifest true to it, as if a stage had written it so."""

    def change(layout: RunLayout, stem: str, alter: Any) -> None:
        path, record = layout.result(stem), layout.folder / f"{stem}.{MANIFEST}"
        content = read_json(path)
        alter(content)
        write_json(path, content)
        recorded = read_json(record)
        recorded["outputs"][path.name] = file_sums(path)
        write_json(record, recorded)

    return change

"""Imports point down: a room knows only lower floors and itself; stages never know each other."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import pretext

PACKAGE = Path(pretext.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))
FLOORS = [
    {"errors", "__init__"},
    {"registry", "config", "memory", "progress", "world"},
    {"catalog", "published"},
    {"stage_configs", "variants", "artifacts", "color"},
    {"datasets", "encoders", "losses", "augment", "statistics"},
    {"training", "perceptual"},
    {"objectives", "tasks", "reports"},
    {"bench"},
    {"stages"},
    {"cli"},
    {"__main__"},
]
FLOOR = {name: level for level, names in enumerate(FLOORS) for name in names}
HEAVY = {"torch", "torchvision", "matplotlib", "sklearn", "skimage"}
TABLES = {"catalog", "stage_configs"}  # a row or an option more is no second purpose
WEIGHTS = Path("perceptual/weights.py")  # published weights come as pickles of tensors, read as nothing else
LIGHT_ROOMS = {
    "errors",
    "registry",
    "config",
    "memory",
    "progress",
    "world",
    "catalog",
    "stage_configs",
    "variants",
    "published",
    "cli",
}


def own_room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports_of(path: Path) -> list[tuple[str, bool]]:
    """Every imported module with whether the import stands at the top of the file."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    top = set(map(id, tree.body))
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module] if node.module != "pretext" else [f"pretext.{alias.name}" for alias in node.names]
            found += [(name, id(node) in top) for name in names]
        elif isinstance(node, ast.Import):
            found += [(alias.name, id(node) in top) for alias in node.names]
    return found


def test_there_are_modules():
    assert len(MODULES) > 40
    assert {own_room(path) for path in MODULES} <= FLOOR.keys()


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_point_down(path):
    own = own_room(path)
    for module, _ in imports_of(path):
        parts = module.split(".")
        if parts[0] != "pretext" or len(parts) < 2 or parts[1] not in FLOOR:
            continue
        if own == "__init__":
            continue  # the package's face re-exports by name, lazily
        same_room = parts[1] == own and own != "stages"
        assert same_room or FLOOR[parts[1]] < FLOOR[own], f"{own} must not import {module}"


@pytest.mark.parametrize(
    "path", [p for p in MODULES if own_room(p) in LIGHT_ROOMS], ids=lambda p: str(p.relative_to(PACKAGE))
)
def test_light_rooms_import_nothing_heavy_at_the_top(path):
    heavy = [module for module, top in imports_of(path) if top and module.split(".")[0] in HEAVY | {"pyarrow"}]
    assert not heavy


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_no_pickle_and_no_unsafe_load(path):
    assert not [
        m for m, _ in imports_of(path) if m.split(".")[0] in {"pickle", "dill", "cloudpickle", "joblib", "marshal"}
    ]
    source = path.read_text(encoding="utf-8")
    if (loads := source.count("torch.load(")) and path.relative_to(PACKAGE) == WEIGHTS:
        assert loads == len(re.findall(r"torch\.load\([^()]*weights_only=True\)", source))  # the readers of .pth
    else:
        assert not loads
    assert "allow_pickle=True" not in source


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_files_stay_readable(path):
    text = path.read_text(encoding="utf-8")
    assert text.isascii(), "comments and code are ASCII"
    limit = 450 if path.stem in TABLES else 330
    assert len(text.splitlines()) <= limit, "a file this long has a second purpose"

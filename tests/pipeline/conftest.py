"""A tiny chain, made once a session, copied where a test writes."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from tiny_chain import extract, prepare, train


@pytest.fixture(scope="session")
def chain(tmp_path_factory) -> Path:
    """A folder with data/shapes and runs/run, pretrained and extracted. Not to be written to."""
    root = tmp_path_factory.mktemp("chain")
    prepare(root)
    train(root)
    extract(root)
    return root


@pytest.fixture
def root(chain, tmp_path) -> Path:
    """A copy of the chain that a test may change."""
    shutil.copytree(chain, tmp_path / "chain")
    return tmp_path / "chain"

"""A tiny chain, made once a session, of which every fault gets its own copy."""

from __future__ import annotations

import pytest
from stage_runs import Chains
from tiny_chain import extract, prepare, train


@pytest.fixture(scope="session")
def chains(tmp_path_factory) -> Chains:
    """Copies of a chain with data/shapes and runs/run, pretrained and extracted."""
    root = tmp_path_factory.mktemp("chain")
    prepare(root)
    train(root)
    extract(root)
    return Chains(root, tmp_path_factory.mktemp("faults"))

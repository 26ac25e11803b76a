"""What every test shares: one thread a process, one table of tolerances, and small prepared data."""

from __future__ import annotations

import os
from pathlib import Path

import fault_counts
import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")  # the suite runs one process a core
os.environ.setdefault("MPLBACKEND", "Agg")


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Write what the fault suites counted; each worker of a parallel run merges its own."""
    if path := os.environ.get("PRETEXT_FAULTS_JSON"):
        fault_counts.merge(Path(path))

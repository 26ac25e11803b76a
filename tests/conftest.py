"""What every test shares: one thread a process, one table of tolerances, and small prepared data."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # the suite runs one process a core
os.environ.setdefault("MPLBACKEND", "Agg")

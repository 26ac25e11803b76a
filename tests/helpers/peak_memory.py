"""The most memory that this process has held, on Linux; `ru_maxrss` would count what the process held that started it."""

from __future__ import annotations

from pathlib import Path


def reset_peak() -> int:
    """Start anew, so that what was freed before does not hide what comes; returns the bytes held now."""
    Path("/proc/self/clear_refs").write_text("5")
    return peak_bytes()


def peak_bytes() -> int:
    """The most bytes held since the start, or since `reset_peak`."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) << 10

"""Memory that is freed and needed again at every step stays with the process."""

from __future__ import annotations

import ctypes

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of glibc's malloc.h


def keep_memory() -> None:
    """Let glibc keep freed memory for what comes next, whatever its size.

    By default it hands every large tensor back to the system, which maps and clears the same memory anew at the next
    step: of a training step on a CPU that was measured to be a third. Elsewhere than on glibc nothing happens.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return
    mallopt(M_MMAP_MAX, 0)
    mallopt(M_TRIM_THRESHOLD, -1)

"""A signal to stop, turned into a request that the training loop answers between two steps."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

STOPS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def stopping_signals() -> Iterator[threading.Event]:
    """Turn the first SIGINT or SIGTERM into a request to stop at the next step; a second one leaves at once."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def request(number: int, frame: Any) -> None:
        stop.set()
        for either in STOPS:  # so that the second one may be of the other kind
            signal.signal(either, signal.default_int_handler)

    before = {number: signal.signal(number, request) for number in STOPS}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

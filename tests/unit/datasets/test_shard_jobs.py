"""Signals while worker processes are started."""

import signal
import threading
import time

import pytest

from pretext.datasets.shard_jobs import STOPS, _signals_wait


@pytest.mark.parametrize("stop", STOPS)
def test_a_signal_to_another_thread_waits_until_the_workers_are_begun(stop):
    """That thread has no mask, and Python's handlers run in the main thread all the same."""
    through, over = [], threading.Event()
    other = threading.Thread(target=over.wait)
    other.start()
    before = signal.signal(stop, signal.default_int_handler)

    def begin_workers():
        with _signals_wait():
            signal.pthread_kill(other.ident, stop)
            time.sleep(0.05)
            through.append(True)

    try:
        with pytest.raises(KeyboardInterrupt):
            begin_workers()
        assert through
        assert signal.getsignal(stop) is signal.default_int_handler
        assert not signal.pthread_sigmask(signal.SIG_BLOCK, ()) & set(STOPS)
    finally:
        over.set()
        other.join()
        signal.signal(stop, before)

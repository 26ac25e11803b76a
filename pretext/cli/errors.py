"""The one place that turns an error into text and an exit code."""

from __future__ import annotations

import io
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from typing import Any

from pretext import world
from pretext.errors import ArtifactError, ConfigError, DeviceError, PretextError

INTERRUPTED = 130
GRACE = 2.0  # seconds that a rank which failed leaves to others to say so first; torchrun ends it meanwhile if one does


@contextmanager
def one_voice() -> Iterator[None]:
    """Let the first of several processes speak for all: what another one prints is shown only if that one fails.

    An error that all meet, or that one of them causes for the others, is then told once, where it happened. A process
    leaves at once: the orderly end of what it shares with others would wait for them, or crash where they are gone.
    """
    if world.size() == 1:
        yield
        return
    said, code = io.StringIO(), None
    try:
        with ExitStack() as stack:
            if not world.is_first():
                stack.enter_context(redirect_stdout(said))
                stack.enter_context(redirect_stderr(said))
            yield
    except SystemExit as leaving:
        code = leaving.code
    except BaseException:  # with --debug
        traceback.print_exc()
        code = 1
    if code and code != INTERRUPTED and not world.is_first():
        time.sleep(GRACE)
        print(said.getvalue(), end="", file=sys.stderr)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit((code or 0) if isinstance(code, int | None) else 1)


def call(work: Callable[[], Any], *, debug: bool) -> None:
    """Run a command's work; on an error print what is wrong and what would help, and exit with its code."""
    try:
        with _terminable():
            work()
    except PretextError as error:
        if isinstance(error, world.OtherRankError):
            time.sleep(GRACE)
        if debug:
            traceback.print_exc()
        lines = error.problems if isinstance(error, ConfigError) else [error.message]
        for line in lines:
            print(f"{_who()}error: {one_line(line)}", file=sys.stderr)
        if error.hint:
            print(f"hint: {one_line(error.hint)}", file=sys.stderr)
        raise SystemExit(error.exit_code) from None
    except (KeyboardInterrupt, SystemExit) as leaving:  # typer makes an interrupt inside a command SystemExit(130)
        if isinstance(leaving, SystemExit) and leaving.code != INTERRUPTED:
            raise
        print("interrupted: run the same command again to go on from here", file=sys.stderr)
        raise SystemExit(INTERRUPTED) from None
    except BrokenPipeError:
        raise SystemExit(1) from None  # the reader of our output left
    except Exception as error:
        if debug:
            raise
        if _is_out_of_memory(error):
            print(f"{_who()}error: not enough memory\nhint: a smaller --batch-size", file=sys.stderr)
            raise SystemExit(DeviceError.exit_code) from None
        if isinstance(error, OSError):
            where = f": {one_line(str(error.filename))}" if error.filename else ""
            print(f"{_who()}error: {error.strerror or type(error).__name__}{where}", file=sys.stderr)
            raise SystemExit(ArtifactError.exit_code) from None
        print(f"{_who()}error: this is a bug: {type(error).__name__}: {one_line(str(error))}", file=sys.stderr)
        print("hint: --debug shows where; please report it", file=sys.stderr)
        raise SystemExit(1) from None


@contextmanager
def _terminable() -> Iterator[None]:
    """Let SIGTERM end a command as Ctrl-C does, tidily; of several processes torchrun ends the rest when one has failed."""
    if world.size() > 1 or threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _who() -> str:
    """Which of several processes speaks."""
    return f"rank {world.rank()}: " if world.size() > 1 else ""


def _is_out_of_memory(error: Exception) -> bool:
    """Python's own, CUDA's, or that of torch's CPU allocator; by name, since torch is not imported here."""
    return (isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
            or "can't allocate memory" in str(error))  # fmt: skip


def one_line(text: str) -> str:
    """No control characters: a file's name may hold any, and the terminal would obey them."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)

"""The one place that turns an error into text and an exit code."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable
from typing import Any

from pretext.errors import ArtifactError, ConfigError, DeviceError, PretextError

INTERRUPTED = 130


def call(work: Callable[[], Any], *, debug: bool) -> None:
    """Run a command's work; on an error print what is wrong and what would help, and exit with its code."""
    try:
        work()
    except PretextError as error:
        if debug:
            traceback.print_exc()
        lines = error.problems if isinstance(error, ConfigError) else [error.message]
        for line in lines:
            print(f"error: {one_line(line)}", file=sys.stderr)
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
            print("error: not enough memory\nhint: a smaller --batch-size", file=sys.stderr)
            raise SystemExit(DeviceError.exit_code) from None
        if isinstance(error, OSError):
            where = f": {one_line(str(error.filename))}" if error.filename else ""
            print(f"error: {error.strerror or type(error).__name__}{where}", file=sys.stderr)
            raise SystemExit(ArtifactError.exit_code) from None
        print(f"error: this is a bug: {type(error).__name__}: {one_line(str(error))}", file=sys.stderr)
        print("hint: --debug shows where; please report it", file=sys.stderr)
        raise SystemExit(1) from None


def _is_out_of_memory(error: Exception) -> bool:
    """Python's own, CUDA's, or that of torch's CPU allocator; by name, since torch is not imported here."""
    return (isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
            or "can't allocate memory" in str(error))  # fmt: skip


def one_line(text: str) -> str:
    """No control characters: a file's name may hold any, and the terminal would obey them."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)

"""Every error a user can cause, with the exit code that tells a program what kind it was.

Exit codes: 0 done, 1 bug, 2 usage, 3 config or unknown variant, 4 artifact missing or mismatched, 5 data, 6 device, 130 interrupted.
"""

from __future__ import annotations

import errno

# Of the disk or the system; any other, such as that of a missing permission, lies with the file.
SYSTEM_ERRORS = (errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.ENODEV, errno.EMFILE, errno.ENFILE, errno.ENOMEM)


class PretextError(Exception):
    """An error for people: one sentence on what is wrong, one on what would help.

    Args:
        message: What is wrong, with the file, row, flag or value that is.
        hint: The command or change that would help, if one is known.
    """

    exit_code = 1

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(PretextError):
    """The command line does not say enough, or says two things at once."""

    exit_code = 2


class ConfigError(PretextError):
    """An option has a value that can't be used; `problems` holds one line for each."""

    exit_code = 3

    def __init__(self, problems: str | list[str], *, hint: str | None = None) -> None:
        self.problems = [problems] if isinstance(problems, str) else list(problems)
        super().__init__("; ".join(self.problems), hint=hint)


class UnknownVariantError(ConfigError):
    """A name that no row of the catalogue has."""


class ArtifactError(PretextError):
    """A file of the chain is missing, unfinished, broken, or made from something else."""

    exit_code = 4


class DataError(PretextError):
    """The source's own files are missing, corrupt, or not what their name says."""

    exit_code = 5


class UnreadableError(DataError):
    """The system failed while it read a source's file, which says nothing of the file: nothing may be left out for it."""


class AbsentWeightsError(DataError):
    """Published weights are not on this machine, and may not be downloaded."""


class DeviceError(PretextError):
    """The device asked for is not there, or can't do what was asked."""

    exit_code = 6


def is_system_failure(error: BaseException) -> bool:
    """Whether an error, or what caused it, says nothing of the file that was read: the next try may go well."""
    cause = error if isinstance(error, OSError) else error.__cause__
    return isinstance(cause, OSError) and cause.errno in SYSTEM_ERRORS

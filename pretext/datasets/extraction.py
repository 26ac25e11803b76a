"""Extract a .tar.gz that may be hostile or broken, so that its folder appears whole or not at all."""

from __future__ import annotations

import gzip
import os
import shutil
import tarfile
from pathlib import Path

from pretext.errors import DataError

MAX_TAIL_BYTES = 1 << 20  # tar pads its end with zeros, by default up to 10 KiB
MAX_HEADER_BYTES = 4096  # a long name or a record of times; tarfile reads each whole, in time that grows as its square
MAX_MEMBERS = 1_000_000  # tarfile holds each in memory


def extract(archive: Path, into: Path, *, member_root: str, max_total_bytes: int = 64 * 1024**3) -> Path:
    """Extract the folder `member_root` of a .tar.gz to `into`/`member_root`.

    Only plain files and folders below `member_root` are taken; harmless members beside it are left out. One process at
    a time may extract to the same place.

    Args:
        archive: The .tar.gz file.
        into: An existing folder.
        member_root: The folder at the archive's root.
        max_total_bytes: Refuse an archive whose files are longer than this together.

    Returns:
        `into`/`member_root`, with the times the archive gives its files.

    Raises:
        DataError: If that folder exists already, the archive is broken or has no such folder, a member is a link or
            a device or has a name that leads out, or the files are too long together. Nothing is left behind then.
    """
    target = into / member_root
    if target.exists():
        raise DataError(f"{target} exists already", hint="remove it to extract the archive again")
    beside = into / f".{member_root}.part"
    try:
        shutil.rmtree(beside, ignore_errors=True)  # what a killed process left
        beside.mkdir()
        _extract_members(archive, beside, member_root, max_total_bytes)
        if not (beside / member_root).is_dir():
            raise DataError(f"{archive} has no folder {member_root}/")
        (beside / member_root).replace(target)
    except DataError:
        raise
    except Exception as error:  # besides its own errors tarfile raises ValueError, OverflowError, RecursionError
        told = ascii(str(error))[1:-1][:300] or type(error).__name__
        raise DataError(f"{archive} can't be extracted: {told}", hint="fetch the archive again") from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return target


def check_member(member: tarfile.TarInfo, *, archive: Path) -> tuple[str, ...]:
    """Return the parts of a member's name, once it is a plain file or folder whose name stays inside.

    Raises:
        DataError: If it is not.
    """
    name = member.name
    shown = repr(name) if len(name) <= 60 else f"{name[:60]!r}..."
    if member.size < 0:
        raise DataError(f"{archive} is refused: member {shown} says that it has {member.size} bytes")
    parts = tuple(part for part in name.split("/") if part not in ("", "."))
    # a backslash or a drive letter leads out on some systems only; no published set has either
    if name.startswith("/") or ".." in parts or "\\" in name or "\0" in name or (len(name) > 1 and name[1] == ":"):
        raise DataError(f"{archive} is refused: member {shown} leads out of its folder")
    if not (member.isdir() or member.type in (tarfile.REGTYPE, tarfile.AREGTYPE)) or member.issparse():
        raise DataError(f"{archive} is refused: member {shown} is neither a plain file nor a folder")
    return parts


class _Headers:
    """The unpacked stream, of which a header may take `MAX_HEADER_BYTES`; what `whole` members hold is not limited."""

    def __init__(self, stream: gzip.GzipFile) -> None:
        self._stream = stream
        self.whole = False
        self.last = b""  # what was read last
        self.seek, self.tell = stream.seek, stream.tell

    def read(self, size: int = -1) -> bytes:
        """Return the next bytes."""
        if not self.whole and not 0 <= size <= MAX_HEADER_BYTES:
            raise tarfile.ReadError(f"a header says that it has {size} bytes")
        self.last = self._stream.read(size)
        return self.last


def _extract_members(archive: Path, beside: Path, member_root: str, max_total_bytes: int) -> None:
    total_bytes = 0
    with gzip.open(archive) as stream:
        limited = _Headers(stream)
        with tarfile.open(fileobj=limited, mode="r:") as tar:  # type: ignore[call-overload]
            for number, member in enumerate(tar):
                parts = check_member(member, archive=archive)
                total_bytes += member.size
                if total_bytes > max_total_bytes:
                    raise DataError(f"{archive} is refused: it holds more than {max_total_bytes} bytes")
                if number == MAX_MEMBERS:
                    raise DataError(f"{archive} is refused: it has more than {MAX_MEMBERS} members")
                if parts[:1] == (member_root,):
                    limited.whole = True
                    _extract_one(tar, member, beside)
                    limited.whole = False
        if limited.last != bytes(tarfile.BLOCKSIZE):  # after the first, tarfile takes any broken header as the end
            raise DataError(
                f"{archive} is cut short or broken: its last header is none", hint="fetch the archive again"
            )
        # the sum over the whole stream stands at its end, which tarfile has no need to reach
        tail_bytes = 0
        while chunk := stream.read(MAX_TAIL_BYTES):
            tail_bytes += len(chunk)
            if tail_bytes > MAX_TAIL_BYTES:
                raise DataError(f"{archive} is refused: it goes on for more than {MAX_TAIL_BYTES} bytes after its end")


def _extract_one(tar: tarfile.TarFile, member: tarfile.TarInfo, beside: Path) -> None:
    tar.extract(member, beside, filter="data")
    if member.isfile():
        with (beside / member.name).open("rb") as handle:
            os.fsync(handle.fileno())

"""Fetch an archive with a verified checksum, and lay its files out; what is half done never bears a final name."""

from __future__ import annotations

import hashlib
import http.client
import os
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from pretext.datasets.extraction import extract
from pretext.errors import DataError
from pretext.progress import Progress as Shown
from pretext.progress import Task

Progress = Callable[[int, int | None], None]
CHUNK_BYTES = 1 << 20
DIGITS = {"md5": (32, 32), "sha256": (8, 64)}  # how many a checksum has, least and most
# a server asks to come back later (408, 429) or is in trouble itself (5xx); any other refusal is final
PASSING_STATUS = frozenset({408, 429, 500, 502, 503, 504})


@dataclass(frozen=True, slots=True, kw_only=True)
class Archive:
    """A published .tar.gz and the one folder it holds.

    Args:
        url: Where it is published.
        checksum: "md5:..." or "sha256:..." of the archive.
        folder: The folder at its root.
        max_total_bytes: No honest copy holds more than this when extracted.
    """

    url: str
    checksum: str
    folder: str
    max_total_bytes: int

    @property
    def file_name(self) -> str:
        """The archive's own name, the last part of its address."""
        return self.url.rpartition("/")[2]


class _BrokenConnectionError(Exception):
    """The connection failed in a way that trying again may mend."""


class _WebOnly(urllib.request.HTTPRedirectHandler):
    """Follow redirects to the web alone: urllib would go on to FTP."""

    def redirect_request(self, req, fp, code, msg, headers, newurl):  # type: ignore[no-untyped-def]
        if not newurl.startswith(("http://", "https://")):
            raise DataError(f"{req.full_url} can't be fetched: it leads to {_told(newurl)}")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


@contextmanager
def show_download(shown: Shown) -> Iterator[Progress]:
    """What a download tells its progress to, shown as a piece of work of its own once there is one."""
    with ExitStack() as stack:
        tasks: list[Task] = []
        told = 0

        def tell(done: int, total: int | None) -> None:
            nonlocal told
            if not tasks:
                tasks.append(stack.enter_context(shown.task("downloading", total, "bytes")))
            tasks[0].advance(done - told)
            told = done

        yield tell


def ensure_folder(archive: Archive, *, root: Path, offline: bool, progress: Progress | None = None) -> Path:
    """Return `root`/`archive.folder`, extracting it from the archive in `root`, fetched first where that is allowed.

    Several processes may call this at once: one works, the others wait for it.

    Raises:
        DataError: If neither folder nor archive is there and fetching is not allowed, or if either fails.
    """
    folder = root / archive.folder
    if folder.is_dir():
        return folder
    path = root / archive.file_name
    if not path.exists() and offline:
        raise DataError(
            f"{folder} is missing, and downloads are forbidden by --offline",
            hint=f"put {archive.file_name} from {archive.url} ({archive.checksum}) into {root}, "
            f"or its folder {archive.folder}/; the root is the folder that holds {archive.folder}/",
        )
    try:
        root.mkdir(parents=True, exist_ok=True)
        with _locked(root):
            if not folder.is_dir():
                fetch(archive.url, path, checksum=archive.checksum, offline=offline, progress=progress,
                      max_bytes=archive.max_total_bytes + CHUNK_BYTES)  # fmt: skip
                extract(path, root, member_root=archive.folder, max_total_bytes=archive.max_total_bytes)
    except OSError as error:
        raise DataError(f"{folder} can't be written: {error}") from error
    return folder


def fetch(
    url: str,
    to: Path,
    *,
    checksum: str,
    offline: bool,
    progress: Progress | None = None,
    retries: int = 3,
    backoff_seconds: float = 1.0,
    timeout_seconds: float = 30.0,
    max_bytes: int = 64 * 1024**3,
) -> Path:
    """Download `url` to `to`, going on from `to`.part if an earlier attempt left one.

    A file that is already there is only verified. The new file gets its name after its checksum was right and its
    bytes are on disk.

    Args:
        url: An http or https address.
        to: The file to write.
        checksum: "md5:..." or "sha256:...", in hexadecimal digits; of a SHA-256 the first 8 or more are enough.
        offline: Whether the network is forbidden.
        progress: Called with (bytes so far, bytes in all or None if the server does not say).
        retries: How often a broken connection is tried again before giving up; new bytes start the count afresh.
        backoff_seconds: Pause before the first new attempt, doubled before each further one.
        timeout_seconds: Silence after which a connection counts as broken.
        max_bytes: No honest file is longer; a server that sends more is not listened to.

    Returns:
        `to`.

    Raises:
        DataError: If the file is absent and `offline` is set, the server refuses or can't be reached, the disk
            can't be written, or the checksum differs (a bad partial file is then deleted).
        ValueError: If the url or the checksum is of another kind.
    """
    if not url.startswith(("http://", "https://")):
        raise ValueError(f"url must begin with http:// or https://, got {url}")
    _new_digest(checksum)
    if to.exists():
        if not (actual := _file_checksum(to, like=checksum)).startswith(checksum):
            raise DataError(f"{to} has {actual}, expected {checksum}", hint=f"remove it and fetch {url} again")
        return to
    if offline:
        raise DataError(f"{to} is missing, and --offline forbids to fetch it", hint=f"put {url} ({checksum}) there")
    part = to.with_name(to.name + ".part")
    _download(url, part, progress, retries, backoff_seconds, timeout_seconds, max_bytes)
    if not (actual := _file_checksum(part, like=checksum)).startswith(checksum):
        part.unlink()
        raise DataError(
            f"{url} arrived with {actual}, expected {checksum}; it was deleted",
            hint="run again to fetch it from the start; if it fails again, the file at that address has changed",
        )
    part.replace(to)
    _sync(to.parent)
    return to


def _download(
    url: str, part: Path, progress: Progress | None, retries: int, backoff_seconds: float, timeout_seconds: float,
    max_bytes: int,
) -> None:  # fmt: skip
    """Bring `part` to its full length, trying again after broken connections."""
    failures, longest = 0, _size(part)
    while True:
        try:
            _download_once(url, part, progress, timeout_seconds, max_bytes)
            return
        except _BrokenConnectionError as error:
            # only a length never reached before counts as new: a server that starts over each time must not loop
            failures = 1 if _size(part) > longest else failures + 1
            longest = max(longest, _size(part))
            if failures > retries:
                raise DataError(
                    f"{url} can't be fetched: {error} ({retries} retries, {_size(part)} bytes so far)",
                    hint=f"run again to go on from there, or put the file by hand beside {part}",
                ) from error
            time.sleep(backoff_seconds * 2 ** (failures - 1))
        except OSError as error:
            raise DataError(f"{part} can't be written: {error}") from error


def _download_once(url: str, part: Path, progress: Progress | None, timeout_seconds: float, max_bytes: int) -> None:
    start = _size(part)
    headers = {"User-Agent": "pretext", "Accept-Encoding": "identity"}
    if start > 0:
        headers["Range"] = f"bytes={start}-"
    try:
        opener = urllib.request.build_opener(_WebOnly)
        response = opener.open(urllib.request.Request(url, headers=headers), timeout=timeout_seconds)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 416 and start > 0:
            return  # nothing comes after what is here: the checksum tells whether it is the whole file
        answer = f"{error.code} {_told(error.reason)}".strip()
        if error.code in PASSING_STATUS:
            raise _BrokenConnectionError(f"the server answers {answer}") from error
        raise DataError(f"{url} can't be fetched: the server answers {answer}") from error
    except ValueError as error:  # an address to go on to that is none
        raise DataError(f"{url} can't be fetched: it leads on to no address: {_told(error)}") from error
    except (OSError, http.client.HTTPException) as error:
        raise _BrokenConnectionError(_told(getattr(error, "reason", "") or error) or type(error).__name__) from error
    with response:
        ranged = response.status == 206 and response.headers.get("Content-Range", "").startswith(f"bytes {start}-")
        if response.status == 206 and not ranged:
            raise DataError(f"{url} can't be resumed: asked for bytes from {start}, the server sent others")
        done = start if ranged else 0
        length = response.headers.get("Content-Length")
        total = done + int(length) if length is not None and length.isdecimal() and len(length) < 20 else None
        _check_length(url, part, total, max_bytes)
        with part.open("ab" if ranged else "wb") as handle:
            for chunk in _iter_chunks(response):
                handle.write(chunk)
                done += len(chunk)
                _check_length(url, part, done, max_bytes)
                if progress is not None:
                    progress(done, total)
            handle.flush()
            os.fsync(handle.fileno())
    if total is not None and done < total:
        raise _BrokenConnectionError(f"the connection ended after {done} of {total} bytes")


def _told(said: object) -> str:
    """The first line of what a server or the system said, as text that any terminal takes."""
    return ascii(str(said).strip().partition("\n")[0].strip())[1:-1][:200]


def _check_length(url: str, part: Path, length: int | None, max_bytes: int) -> None:
    if length is not None and length > max_bytes:
        part.unlink(missing_ok=True)
        raise DataError(
            f"{url} is refused: the server sends {length} bytes or more, {max_bytes} are the most it can have"
        )


def _iter_chunks(response: BinaryIO) -> Iterator[bytes]:
    """Yield what arrives; a network failure becomes `_BrokenConnectionError`, so that disk failures stay apart."""
    while True:
        try:
            # read1 hands on what has come, where read would lose up to a chunk when the line breaks
            chunk = response.read1(CHUNK_BYTES)  # type: ignore[attr-defined]
        except (OSError, http.client.HTTPException) as error:
            raise _BrokenConnectionError(_told(error) or type(error).__name__) from error
        if not chunk:
            return
        yield chunk


def _new_digest(checksum: str) -> hashlib._Hash:
    kind, _, digits = checksum.partition(":")
    if kind not in DIGITS or not DIGITS[kind][0] <= len(digits) <= DIGITS[kind][1]:
        raise ValueError(f"checksum must be md5:... or sha256:..., got {checksum}")
    return hashlib.new(kind, usedforsecurity=False)


def _file_checksum(path: Path, *, like: str) -> str:
    digest = _new_digest(like)
    with path.open("rb") as handle:
        while chunk := handle.read(CHUNK_BYTES):
            digest.update(chunk)
    return f"{like.partition(':')[0]}:{digest.hexdigest()}"


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _sync(folder: Path) -> None:
    """Put a folder's names on disk, where the system can."""
    if sys.platform != "win32":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the folder's lock, where the system has one; it goes with the process, so a kill leaves none behind."""
    if sys.platform == "win32":
        yield
        return
    import fcntl

    handle = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # some network file systems have no locks; one process at a time still works there
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)

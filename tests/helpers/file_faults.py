"""A file layer for one process: it logs what is done with files below a folder, and lets one operation go wrong.

All writing of this toolkit goes through Python's own files while the layer is installed, that of Arrow too, so that every
write is seen, and half of one can be done. So does all reading, but for what is mapped into memory: of that only the
mapping is seen.
"""

from __future__ import annotations

import builtins
import io
import os
import resource
import shutil
import signal
import threading
import time
from dataclasses import dataclass
from pathlib import Path

CHANGES = ("open", "write", "fsync", "replace", "rename", "unlink", "rmdir", "mkdir", "ftruncate", "pwrite")
READS = ("read",)  # what opens a file to read it, and what reads from it


@dataclass(frozen=True)
class Fault:
    """What goes wrong at the operation `number`, counted from 1 among those of the kinds `among`.

    Args:
        number: Which operation; 0 for none.
        what: "kill" ends the process; "error" raises `OSError(code)`; "vanish" renames `target`; "cut" cuts it
            to half of its length; "jump" sets all clocks
            back by three days; "pause" waits until `target` is there; "signal" sends the process the signal `code`. Of no
            operation, but from the start on: "limit" has the system itself refuse files of more than `code` bytes,
            "nobody" makes the process an ordinary user's, number `code`, and "outside" leaves all to the system and the
            libraries' own files, for what goes wrong outside of the process.
        when: For "kill" and "error": "before" the operation, "half" through what it writes, or "after" it.
        code: The number of the error, signal, bytes or user.
        lasting: Whether every later operation of the same kinds fails too, as on a full disk.
        among: The kinds that are counted.
        target: What vanishes, or is waited for.
    """

    number: int = 0
    what: str = "kill"
    when: str = "before"
    code: int = 0
    lasting: bool = False
    among: tuple[str, ...] = CHANGES
    target: Path | None = None


class FileLayer:
    """Install it in a process of its own; `log` has [kind, path below the folder] of every operation."""

    def __init__(self, root, fault):
        self.root, self.fault, self.log = os.path.realpath(root), fault, []
        self._own, self._saved, self._guard = os.getpid(), [], threading.Lock()
        self._struck = False

    def install(self):
        import pretext.datasets.shard_jobs

        self._patch(pretext.datasets.shard_jobs, "ProcessPoolExecutor", Inline)
        if self.fault.what == "limit":
            resource.setrlimit(resource.RLIMIT_FSIZE, (self.fault.code, resource.RLIM_INFINITY))
        elif self.fault.what == "nobody":
            os.setgroups([])
            os.setgid(self.fault.code)
            os.setuid(self.fault.code)
        elif self.fault.what != "outside":
            self._install_python_files()

    def _install_python_files(self):
        import pyarrow as pa
        import pyarrow.parquet as pq
        import safetensors

        for module, name, kind in ((os, "replace", "replace"), (os, "rename", "rename"), (os, "unlink", "unlink"),
                                   (os, "remove", "unlink"), (os, "rmdir", "rmdir"), (os, "mkdir", "mkdir")):  # fmt: skip
            self._patch(module, name, self._by_path(kind, getattr(os, name)))
        for name in ("fsync", "ftruncate", "pwrite"):
            self._patch(os, name, self._by_number(name, getattr(os, name)))
        opens = self._opening(io.open)
        self._patch(os, "open", self._creating(os.open))
        self._patch(io, "open", opens)
        self._patch(builtins, "open", opens)
        self._patch(pa, "OSFile", lambda path, mode: opens(path, mode))
        self._patch(pa, "memory_map", self._by_path("read", pa.memory_map))
        self._patch(safetensors, "safe_open", self._by_path("read", safetensors.safe_open))
        self._patch(pq, "ParquetFile", _reader_through(opens, pq.ParquetFile))
        writer = _writer_through(opens, pq.ParquetWriter)
        self._patch(pq, "ParquetWriter", writer)
        self._patch(pq.core, "ParquetWriter", writer)

    def remove(self):
        for module, name, before in reversed(self._saved):
            setattr(module, name, before)
        self._saved.clear()

    def _patch(self, module, name, new):
        self._saved.append((module, name, getattr(module, name)))
        setattr(module, name, new)

    def step(self, kind, path, do, half=None):
        """Do one operation, or what the fault makes of it."""
        path = os.path.abspath(os.fsdecode(path))
        if os.getpid() != self._own or not path.startswith(self.root + os.sep) or kind not in self.fault.among:
            return do()
        if kind == "mkdir" and os.path.isdir(path):
            return do()  # nothing is made
        with self._guard:
            self.log.append([kind, os.path.relpath(path, self.root)])
            strikes = len(self.log) == self.fault.number
            strikes |= self.fault.lasting and self._struck and kind not in ("unlink", "rmdir")
            self._struck |= strikes
        return self._strike(path, do, half) if strikes else do()

    def _strike(self, path, do, half):
        fault = self.fault
        if fault.what == "vanish":
            gone = fault.target.with_name(f"{fault.target.name}-gone")
            {name: before for _, name, before in self._saved}["rename"](fault.target, gone)
        elif fault.what == "cut":
            os.truncate(fault.target, fault.target.stat().st_size // 2)
        elif fault.what == "signal":
            os.kill(os.getpid(), fault.code)
        elif fault.what == "jump":
            set_clocks_back(3 * 86400)
        elif fault.what == "pause":
            fault.target.with_suffix(".paused").touch()
            while not fault.target.exists():
                time.sleep(0.01)
        else:
            if fault.when == "after":
                do()
            elif fault.when == "half" and half is not None:
                half()
            if fault.what == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            raise OSError(fault.code, os.strerror(fault.code), path)
        return do()

    def _by_path(self, kind, function):
        def wrapped(path, *more, **named):
            where = os.fspath(path)
            if (folder := named.get("dir_fd")) is not None:
                where = os.path.join(_name_of(folder), where)
            return self.step(kind, where, lambda: function(path, *more, **named))

        return wrapped

    def _by_number(self, kind, function):
        return lambda number, *more: self.step(kind, _name_of(number), lambda: function(number, *more))

    def _creating(self, function):
        def wrapped(path, flags, *more, **named):
            if not flags & (os.O_CREAT | os.O_WRONLY | os.O_RDWR):
                return function(path, flags, *more, **named)
            return self.step("open", path, lambda: function(path, flags, *more, **named))

        return wrapped

    def _opening(self, function):
        layer = self

        class Raw(io.FileIO):
            def readinto(self, buffer):
                return layer.step("read", self._path, lambda: io.FileIO.readinto(self, buffer))

            def readall(self):
                return layer.step("read", self._path, lambda: io.FileIO.readall(self))

            @property
            def _path(self):
                return _name_of(self.name) if isinstance(self.name, int) else self.name

            def write(self, content):
                content = bytes(content)
                return layer.step("write", self.name, lambda: io.FileIO.write(self, content),
                                  lambda: io.FileIO.write(self, content[: len(content) // 2]))  # fmt: skip

        def wrapped(file, mode="r", buffering=-1, encoding=None, errors=None, newline=None, closefd=True, opener=None):
            plain = lambda: function(file, mode, buffering, encoding, errors, newline, closefd, opener)  # noqa: E731
            writes = bool(set(mode) & set("wax+"))
            path = _name_of(file) if isinstance(file, int) else os.path.abspath(os.fsdecode(file))
            if not path.startswith(layer.root + os.sep) or (writes and isinstance(file, int)):
                return plain()
            raw = layer.step("open" if writes else "read", path,
                             lambda: Raw(file, mode.replace("b", "").replace("t", ""), closefd, opener))  # fmt: skip
            if buffering == 0:
                return raw
            kind = io.BufferedRandom if "+" in mode else io.BufferedWriter if writes else io.BufferedReader
            buffered = kind(raw)
            return buffered if "b" in mode else io.TextIOWrapper(buffered, encoding, errors, newline)

        return wrapped


def _name_of(number):
    return os.readlink(f"/proc/self/fd/{number}")


def _writer_through(opens, base):
    class Writer(base):
        """Arrow's writer of Parquet, its bytes through the layer."""

        def __init__(self, where, *more, **named):
            self._file = opens(where, "wb")
            super().__init__(self._file, *more, **named)

        def close(self):
            super().close()
            self._file.close()

    return Writer


def _reader_through(opens, base):
    class Reader(base):
        """Arrow's reader of Parquet, its bytes through the layer."""

        def __init__(self, where, *more, **named):
            super().__init__(opens(where, "rb"), *more, **named)

    return Reader


class Inline:
    """The interface of a process pool whose work happens here and now, where the layer sees it."""

    def __init__(self, workers, context, begin, arguments):
        begin(*arguments)

    def submit(self, function, *arguments):
        from concurrent.futures import Future

        future = Future()
        try:
            future.set_result(function(*arguments))
        except Exception as error:
            future.set_exception(error)
        return future

    def shutdown(self, wait=True, cancel_futures=False):
        pass


def set_clocks_back(seconds):
    """Set every clock of Python's back, as no clock should be."""
    for name in ("time", "monotonic", "perf_counter"):
        before = getattr(time, name)
        setattr(time, name, lambda before=before: before() - seconds)


def restore(target):
    """Bring back what a fault let vanish."""
    gone = target.with_name(f"{target.name}-gone")
    if gone.exists():
        shutil.rmtree(target, ignore_errors=True)
        gone.rename(target)

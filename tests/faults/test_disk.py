"""What a disk, a system or somebody else does to a stage: it ends in one clear sentence, or as if nothing had been.

PRETEXT_FAULTS multiplies how many operations of each stage are tried, up to all of them, and lets slow stages in.
"""

from __future__ import annotations

import errno
import os
import random
import shutil
import signal
import subprocess
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
from fault_counts import FACTOR, attempt
from file_faults import READS, Fault, restore
from stage_runs import (
    STAGES,
    check_whole,
    compare,
    contents,
    end_of,
    judge,
    leftovers,
    run_faulty,
    start_faulty,
)

CHOSEN = STAGES if FACTOR > 1 else ("train", "extract")
QUICK = STAGES if FACTOR > 1 else ("extract",)
NOBODY = 65534
pytestmark = pytest.mark.timeout(300 * FACTOR)

# The suite's row, the error, what it strikes, and whether it stays.
ERRORS = (
    ("full disk", errno.ENOSPC, ("open", "write", "fsync", "mkdir"), True),
    ("input/output error", errno.EIO, ("write", "fsync", "replace", "unlink", "rmdir", "ftruncate"), False),
    ("disk become read-only", errno.EROFS, ("open", "write", "replace", "unlink", "rmdir", "mkdir"), True),
    ("permission taken away", errno.EACCES, ("open", "replace", "unlink", "rmdir", "mkdir"), True),
)


def sample(points, suite, stage, most=1):
    chance = random.Random(f"{suite} {stage} {FACTOR}")
    return chance.sample(points, min(len(points), most * (1 if FACTOR == 1 else 3 * FACTOR)))


def check_told(ending, codes=(4,), where=""):
    """One sentence, perhaps with what would help, and the exit code of its kind."""
    assert ending.code in codes, f"{where}: {ending}"
    if ending.code:
        lines = ending.said.splitlines()
        assert [line.startswith("error: ") for line in lines][:1] == [True], f"{where}: {ending.said}"
        assert all(line.startswith("hint: ") for line in lines[1:]), f"{where}: {ending.said}"
        assert len(lines) <= 2, f"{where}: {ending.said}"
        assert "this is a bug" not in ending.said, f"{where}: {ending.said}"


def check_goes_on(stage, root, expected, told):
    """The same command, with nothing in its way any more, ends as if nothing had been."""
    ending = run_faulty(stage, root, None, told)
    assert ending.code == 0, ending.said
    compare(expected, contents(root))
    assert not leftovers(root)


@pytest.mark.parametrize("stage", CHOSEN)
@pytest.mark.parametrize(("suite", "code", "among", "lasting"), ERRORS, ids=[row[0] for row in ERRORS])
def test_a_failing_disk_costs_nothing_that_is_finished(suite, code, among, lasting, stage, chains, tmp_path):
    expected, log = chains.undisturbed(stage)
    points = [number for number, (kind, _) in enumerate((row for row in log if row[0] in among), start=1)]
    kinds = [row for row in log if row[0] in among]
    for number in sample(points, suite, stage):
        where = f"{suite} at operation {number}, {kinds[number - 1]}"
        with attempt(suite):
            root = chains.fresh()
            when = "half" if number % 2 else "before"
            failed = run_faulty(stage, root, Fault(number, "error", when, code, lasting, among), tmp_path / "told")
            check_told(failed, (0, 4), where)
            if kinds[number - 1][0] in ("open", "write", "replace"):
                assert failed.code == 4, f"{where} went unnoticed"
                assert os.strerror(code) in failed.said, f"{where}: {failed.said}"
            check_whole(root, expected, chains.before)
            check_goes_on(stage, root, expected, tmp_path / "told")


@pytest.mark.parametrize("stage", [*CHOSEN, "folder"])
def test_a_read_that_fails_is_told_and_costs_nothing(stage, chains, tmp_path):
    """An error of the disk while it is read: of the chain's own files 4, of a source's 5; or what was read was not needed."""
    expected, reads = chains.undisturbed(stage, READS)
    for number in sample(range(1, len(reads) + 1), "reads", stage, most=2):
        where = f"read {number}, {reads[number - 1]}"
        with attempt("input/output error while reading"):
            root = chains.fresh()
            fault = Fault(number, "error", code=errno.EIO, lasting=bool(number % 2), among=READS)
            ending = run_faulty(stage, root, fault, tmp_path / "told")
            source = reads[number - 1][1].split("/")[0] in ("pictures", "judged")
            check_told(ending, (0, 4, 5) if source and fault.lasting else (0, 5) if source else (0, 4), where)
            if ending.code:
                assert os.strerror(errno.EIO) in ending.said, f"{where}: {ending.said}"
            else:
                compare(expected, contents(root))
            check_whole(root, expected, chains.before)
            check_goes_on(stage, root, expected, tmp_path / "told")


@pytest.mark.parametrize("stage", CHOSEN)
def test_files_that_the_system_refuses_to_let_grow_end_in_a_sentence(stage, chains, tmp_path):
    """The system's own error, from the C++ writers too."""
    expected, _ = chains.undisturbed(stage)
    sizes = sorted({len(content) for name, content in expected.items()
                    if isinstance(content, bytes) and chains.before.get(name) != content})  # fmt: skip
    for size in sample(sizes, "limit", stage):
        with attempt("file too large for the system"):
            root = chains.fresh()
            ending = run_faulty(stage, root, Fault(what="limit", code=size * 2 // 3), tmp_path / "told")
            check_told(ending)
            assert os.strerror(errno.EFBIG) in ending.said
            check_whole(root, expected, chains.before)
            check_goes_on(stage, root, expected, tmp_path / "told")


@contextmanager
def small_disk(folder: Path, size: int):
    """A file system of its own, of so many bytes, at a folder."""
    mounting = [shutil.which("mount") or "mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    try:
        subprocess.run(mounting, check=True, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no file system can be mounted here: {getattr(error, 'stderr', None) or error}")
    try:
        yield
    finally:
        # at once, though maps of its files may still wait here for Python to let them go
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def sizes(files):
    return sum(len(content) for content in files.values() if isinstance(content, bytes))


@pytest.mark.parametrize("stage", CHOSEN)
def test_a_file_system_that_is_full_ends_in_a_sentence(stage, chains, tmp_path):
    """The system's own error at whatever write meets it, with nothing between the libraries and their files."""
    expected, _ = chains.undisturbed(stage)
    whole = sizes(chains.before)
    grown = max(sizes(expected) - whole, whole // 8)
    for share in sample([0, 0.02, 0.1, 0.2, 0.4, 0.6, 0.8], "really full", stage):
        with attempt("file system that is full"), small_disk(tmp_path, 4 * (whole + grown)):
            root, told = tmp_path / "chain", chains.fresh().with_name("told")
            shutil.copytree(chains.fresh(), root)
            if stage == "metric":
                judge(root)
            free = os.statvfs(root)
            with (tmp_path / "filler").open("wb") as filler:
                os.posix_fallocate(filler.fileno(), 0, free.f_bavail * free.f_frsize - int(share * grown))
            ending = run_faulty(stage, root, Fault(what="outside"), told)
            check_told(ending, (0, 4), f"{share} of {grown} bytes free")
            if ending.code or share == 0:
                assert os.strerror(errno.ENOSPC) in ending.said, f"{share} of {grown} bytes free: {ending}"
            check_whole(root, expected, chains.before)
            (tmp_path / "filler").unlink()
            check_goes_on(stage, root, expected, told)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become an ordinary user who owns nothing")
@pytest.mark.parametrize(("stage", "closed"), [
    ("extract", "runs/run"), ("probe-linear", "runs/run"), ("prepare", "data"), ("train", "runs"),
    ("train", "data/shapes/*.arrow"), ("extract", "runs/run/checkpoint.safetensors"), ("train", "data/shapes/manifest.json"),
    ("probe-linear", "runs/run/features.parquet"), ("extract", "runs/run/features.manifest.json"), ("report", "runs/run"),
][:: 1 if FACTOR > 1 else 3])  # fmt: skip
def test_what_one_may_not_read_or_write_is_told(stage, closed, chains):
    expected, _ = chains.undisturbed(stage)
    with tempfile.TemporaryDirectory() as folder, attempt("missing permission"):
        root = Path(folder, "chain")
        chains.fresh().rename(root)
        for path in (Path(folder), root, *root.rglob("*")):
            os.chown(path, NOBODY, NOBODY)
        found = list(root.glob(closed))
        modes = [path.stat().st_mode for path in found]
        for path in found:
            path.chmod(0o500 if path.is_dir() and stage != "report" else 0)
        ending = run_faulty(stage, root, Fault(what="nobody", code=NOBODY), Path(folder, "told"))
        check_told(ending, (4, 5))
        assert os.strerror(errno.EACCES) in ending.said
        for path, mode in zip(found, modes, strict=True):
            path.chmod(mode)
        check_whole(root, expected, chains.before)
        check_goes_on(stage, root, expected, Path(folder, "told"))


VANISHING = [("extract", "data/shapes"), ("extract", "runs/run/checkpoint.safetensors"), ("train", "data/shapes"),
             ("probe-linear", "runs/run/features.parquet"), ("fine-tune", "runs/run/checkpoint.safetensors"),
             ("fine-tune", "data/shapes"), ("one-layer", "runs/run"), ("metric", "judged"), ("report", "runs/run"),
             ("network", "data/shapes"), ("colors", "data/shapes")]  # fmt: skip


@pytest.mark.parametrize(("stage", "target"), [row for row in VANISHING if row[0] in CHOSEN])
def test_an_input_that_vanishes_between_the_look_and_the_use_is_told(stage, target, chains, tmp_path):
    among = (*READS, "fsync")
    expected, log = chains.undisturbed(stage, among)
    for share in sample([0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 0.95], target, stage):
        with attempt("vanished input"):
            root = chains.fresh()
            number = 1 + int(share * len(log))
            fault = Fault(number, "vanish", among=among, target=root / target)
            ending = run_faulty(stage, root, fault, tmp_path / "told")
            check_told(ending, (0, 4, 5), f"gone at {number}")
            restore(root / target)
            check_whole(root, expected, chains.before)
            check_goes_on(stage, root, expected, tmp_path / "told")


CUT = [
    ("train", "unlabeled"),
    ("extract", "test"),
    ("fine-tune", "train"),
    ("network", "unlabeled"),
    ("train-colors", "unlabeled"),
]


@pytest.mark.parametrize(("stage", "split"), [row for row in CUT if row[0] in CHOSEN])
def test_images_that_somebody_cuts_short_while_they_are_mapped_are_told(stage, split, chains, tmp_path):
    """The system would end the process, without a word, at the first image behind the file's new end."""
    among = (*READS, "fsync", "write")
    expected, log = chains.undisturbed(stage, among)
    shard = f"data/shapes/{split}-00000-of-00001.arrow"
    for number in sample(range(1, len(log) + 1), shard, stage):
        with attempt("mapped file cut short"):
            root = chains.fresh()
            whole = (root / shard).read_bytes()
            ending = run_faulty(stage, root, Fault(number, "cut", among=among, target=root / shard), tmp_path / "told")
            check_told(ending, (0, 4), f"cut at {number}, {log[number - 1]}")
            (root / shard).write_bytes(whole)
            check_whole(root, expected, chains.before)
            check_goes_on(stage, root, expected, tmp_path / "told")


@pytest.mark.parametrize("stage", CHOSEN)
def test_clocks_that_jump_back_days_change_nothing(stage, chains, tmp_path):
    expected, log = chains.undisturbed(stage)
    for number in sample(list(range(1, len(log) + 1)), "jump", stage):
        with attempt("clock set back"):
            root = chains.fresh()
            ending = run_faulty(stage, root, Fault(number, "jump"), tmp_path / "told")
            assert ending.code == 0, ending.said
            check_whole(root, expected, chains.before)
            compare(expected, contents(root))
            assert not leftovers(root)


@pytest.mark.parametrize("stage", QUICK)
def test_a_second_process_is_told_who_writes_and_since_when(stage, chains, tmp_path):
    expected, log = chains.undisturbed(stage)
    for number in sample(range(6, len(log)), "second", stage):
        with attempt("second process on one output"):
            root = chains.fresh()
            gate = tmp_path / "gate"
            first = start_faulty(stage, root, Fault(number, "pause", target=gate), tmp_path / "first")
            wait_for(gate.with_suffix(".paused"), first)
            second = run_faulty(stage, root, None, tmp_path / "second")
            if second.code:  # of two outputs of a stage the first may be done, and the second not begun
                check_told(second)
                assert f"is being written by another process, number {first.pid}, for " in second.said
            gate.touch()
            ending = end_of(first, tmp_path / "first")
            assert ending.code in ((0,) if second.code else (0, 4)), ending.said
            check_goes_on(stage, root, expected, tmp_path / "second")
            gate.unlink()
            gate.with_suffix(".paused").unlink()


@pytest.mark.parametrize("stage", QUICK)
def test_of_processes_that_start_together_one_does_the_work(stage, chains, tmp_path):
    expected, _ = chains.undisturbed(stage)
    for _ in range(1 if FACTOR == 1 else FACTOR):
        with attempt("processes that start together"):
            root = chains.fresh()
            told = [tmp_path / f"told-{number}" for number in range(3)]
            children = [start_faulty(stage, root, None, path) for path in told]
            endings = [end_of(child, path) for child, path in zip(children, told, strict=True)]
            for ending in endings:
                check_told(ending, (0, 4))
            assert any(ending.code == 0 for ending in endings)
            assert all("another process" in ending.said for ending in endings if ending.code)
            check_goes_on(stage, root, expected, tmp_path / "told")


def test_the_lock_of_a_killed_process_holds_nobody_up(chains, tmp_path):
    expected, log = chains.undisturbed("extract")
    with attempt("lock of a killed process"):
        root = chains.fresh()
        assert run_faulty("extract", root, Fault(len(log) // 2), tmp_path / "told").code == -signal.SIGKILL
        locks = list(root.rglob(".*.lock"))
        assert len(locks) == 1
        locks[0].write_text("[not what was written]")
        check_goes_on("extract", root, expected, tmp_path / "told")


def wait_for(path, child, seconds=60):
    end = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < end, "it never came to the operation at which it was to wait"
        assert child.exitcode is None, "it ended before the operation at which it was to wait"
        time.sleep(0.02)

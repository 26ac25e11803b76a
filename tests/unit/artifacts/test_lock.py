"""One writer an output: who holds it is told, and a holder that is gone holds nothing."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from pretext.artifacts import lock
from pretext.artifacts.lock import clear_lock, lock_path, release_lock, take_lock
from pretext.artifacts.manifest import Record
from pretext.errors import ArtifactError

HOLDER = """
import sys, time
from pathlib import Path
from pretext.artifacts.lock import take_lock
take_lock(Path(sys.argv[1]))
print("held", flush=True)
time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that holds the lock of manifest.json."""
    with subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path / "manifest.json")], stdout=subprocess.PIPE,
                          text=True) as process:  # fmt: skip
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_a_second_process_is_told_who_writes_and_since_when(tmp_path, holder):
    path = tmp_path / "manifest.json"
    told = json.loads(lock_path(path).read_text())
    lock_path(path).write_text(json.dumps(told | {"since": time.time() - 3 * 3600}))
    with pytest.raises(ArtifactError, match=rf"written by another process, number {holder.pid}, for 3 hours$"):
        take_lock(path)


@pytest.mark.parametrize("content", ["", "{", "[1]", '{"pid": "x"}', '{"pid": 1, "since": null}'])
def test_a_holder_that_has_not_written_down_who_it_is_holds_all_the_same(tmp_path, holder, content):
    path = tmp_path / "manifest.json"
    lock_path(path).write_text(content)
    with pytest.raises(ArtifactError, match="written by another process$"):
        take_lock(path)


def test_a_killed_holder_holds_nothing(tmp_path, holder):
    path = tmp_path / "manifest.json"
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert lock_path(path).exists()
    take_lock(path)
    assert json.loads(lock_path(path).read_text())["pid"] == os.getpid()
    release_lock(path)
    assert not list(tmp_path.iterdir())


def test_work_that_failed_in_this_process_does_not_bar_its_next_try(tmp_path):
    take_lock(tmp_path / "manifest.json")
    take_lock(tmp_path / "manifest.json")
    release_lock(tmp_path / "manifest.json")
    release_lock(tmp_path / "manifest.json")
    assert not list(tmp_path.iterdir())


def test_a_lock_removed_between_opening_and_locking_is_taken_anew(tmp_path, monkeypatch):
    path = tmp_path / "manifest.json"
    real, calls = lock.fcntl.flock, []

    def remove_first(number, how):
        if not calls:
            lock_path(path).unlink()
        calls.append(number)
        real(number, how)

    monkeypatch.setattr(lock.fcntl, "flock", remove_first)
    take_lock(path)
    assert len(calls) == 2
    assert lock_path(path).exists()
    release_lock(path)


def test_a_folder_that_can_not_be_made_is_an_error_for_people(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ArtifactError, match="can't be written"):
        take_lock(tmp_path / "file" / "manifest.json")


def record(path):
    return Record(path / "manifest.json", "probe", {"k": 5})


def test_a_record_is_begun_by_one_process_only(tmp_path, holder):
    one = record(tmp_path)
    assert not one.is_done(overwrite=False)
    with pytest.raises(ArtifactError, match="another process"):
        one.begin({}, seed=None)
    assert not (tmp_path / "manifest.json").exists()


def test_what_another_process_finished_after_the_look_is_not_overwritten(tmp_path):
    late, quick = record(tmp_path), record(tmp_path)
    assert not late.is_done(overwrite=False)
    assert not quick.is_done(overwrite=False)
    quick.begin({}, seed=None)
    quick.finish([], summary={})
    with pytest.raises(ArtifactError, match="written by another process just now"):
        late.begin({}, seed=None)
    assert record(tmp_path).is_done(overwrite=False)
    assert [path.name for path in tmp_path.iterdir()] == ["manifest.json"]


def test_what_a_killed_holder_left_is_cleared_and_what_is_held_is_not(tmp_path, holder):
    path = tmp_path / "manifest.json"
    clear_lock(path)
    assert lock_path(path).exists()
    holder.kill()
    holder.wait()
    clear_lock(path)
    assert not lock_path(path).exists()
    clear_lock(path)


def test_finished_work_whose_holder_was_killed_as_it_let_go_is_tidied_up(tmp_path):
    record = Record(tmp_path / "manifest.json", "stage", {})
    record.begin({}, seed=0)
    record.finish([], summary={})
    lock_path(record.path).touch()
    assert Record(record.path, "stage", {}).is_done(overwrite=False)
    assert not lock_path(record.path).exists()


def test_a_lock_whose_file_can_not_be_removed_is_let_go(tmp_path, monkeypatch):
    def refuse(self, missing_ok=False):
        raise PermissionError

    path = tmp_path / "manifest.json"
    take_lock(path)
    with monkeypatch.context() as patch:
        patch.setattr("pathlib.Path.unlink", refuse)
        release_lock(path)
    clear_lock(path)
    assert not lock_path(path).exists()


def test_clocks_that_go_back_make_no_time_negative(tmp_path, monkeypatch):
    record = Record(tmp_path / "manifest.json", "stage", {})
    record.begin({}, seed=0)
    monkeypatch.setattr(time, "monotonic", lambda: -1e6)
    assert record.finish([], summary={})["wall_seconds"] == 0
    assert Record(record.path, "stage", {}).is_done(overwrite=False)

"""A file under its final name is whole, whatever happens while it is written."""

import errno
import hashlib
import json
import os

import pytest

from pretext.artifacts import atomic
from pretext.artifacts.atomic import atomic_path, content_sha256, file_sha256, read_json, write_bytes, write_json
from pretext.errors import ArtifactError


def fail_with(number):
    def fail(*args, **kwargs):
        raise OSError(number, os.strerror(number))

    return fail


class TestAtomicPath:
    def test_the_file_appears_at_the_end_and_folders_are_made(self, tmp_path):
        path = tmp_path / "a" / "b" / "file.bin"
        with atomic_path(path) as temporary:
            temporary.write_bytes(b"new")
            assert temporary.parent == path.parent
            assert not path.exists()
        assert path.read_bytes() == b"new"
        assert list(path.parent.iterdir()) == [path]

    @pytest.mark.parametrize("error", [ValueError("own"), KeyboardInterrupt(), SystemExit(3)])
    def test_a_crash_leaves_neither_a_file_nor_a_temporary(self, tmp_path, error):
        path = tmp_path / "file.bin"
        with pytest.raises(type(error)), atomic_path(path) as temporary:  # noqa: PT012
            temporary.write_bytes(b"half")
            raise error
        assert list(tmp_path.iterdir()) == []

    def test_a_crash_leaves_the_file_that_was_there(self, tmp_path):
        path = tmp_path / "file.bin"
        path.write_bytes(b"old")
        with pytest.raises(RuntimeError), atomic_path(path) as temporary:  # noqa: PT012
            temporary.write_bytes(b"half")
            raise RuntimeError
        assert path.read_bytes() == b"old"
        assert list(tmp_path.iterdir()) == [path]

    def test_a_crash_before_anything_was_written_is_the_error_that_is_told(self, tmp_path):
        with pytest.raises(RuntimeError, match="own"), atomic_path(tmp_path / "file.bin"):
            raise RuntimeError("own")

    def test_what_a_killed_process_left_is_overwritten(self, tmp_path):
        path = tmp_path / "file.bin"
        with atomic_path(path) as temporary:
            name = temporary.name
            temporary.write_bytes(b"x")
        (tmp_path / name).write_bytes(b"left by a kill")
        write_bytes(path, b"new")
        assert path.read_bytes() == b"new"
        assert list(tmp_path.iterdir()) == [path]

    @pytest.mark.parametrize("step", ["fsync", "replace"])
    def test_a_full_disk_is_one_sentence(self, tmp_path, monkeypatch, step):
        path = tmp_path / "file.bin"
        path.write_bytes(b"old")
        monkeypatch.setattr(atomic.os, step, fail_with(errno.ENOSPC))
        with pytest.raises(ArtifactError, match=r"file\.bin can't be written: No space left on device$"):
            write_bytes(path, b"new")
        assert path.read_bytes() == b"old"
        assert list(tmp_path.iterdir()) == [path]

    def test_a_full_disk_while_writing_is_one_sentence(self, tmp_path):
        path = tmp_path / "file.bin"
        with pytest.raises(ArtifactError, match=r"file\.bin can't be written: No space left on device$"):  # noqa: PT012
            with atomic_path(path) as temporary:
                temporary.write_bytes(b"half")
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        assert list(tmp_path.iterdir()) == []

    def test_the_first_error_is_told_where_tidying_up_fails_too(self, tmp_path, monkeypatch):
        monkeypatch.setattr(atomic.os, "fsync", fail_with(errno.ENOSPC))
        monkeypatch.setattr(type(tmp_path), "unlink", fail_with(errno.EROFS))
        with pytest.raises(ArtifactError, match="No space left on device"):
            write_bytes(tmp_path / "file.bin", b"new")

    def test_a_folder_that_can_not_be_made_is_told(self, tmp_path):
        (tmp_path / "file").write_bytes(b"")
        with pytest.raises(ArtifactError, match=r"file/below can't be written: (File exists|Not a directory)$"):
            write_bytes(tmp_path / "file" / "below", b"")

    @pytest.mark.skipif(not os.path.exists("/proc/self/fd"), reason="asks Linux for the name of an open file")
    def test_data_and_folder_are_flushed(self, tmp_path, monkeypatch):
        flushed = []
        monkeypatch.setattr(atomic.os, "fsync", lambda number: flushed.append(os.readlink(f"/proc/self/fd/{number}")))
        write_bytes(tmp_path / "file.bin", b"x")
        assert [os.path.basename(name) for name in flushed] == [".file.bin.tmp", tmp_path.name]


class TestJson:
    def test_round_trip(self, tmp_path):
        content = {"a": [1, 2.5, None, True, "gr\u00fcn"], "b": {"c": 0.1 + 0.2}}
        write_json(tmp_path / "x.json", content)
        assert read_json(tmp_path / "x.json") == content
        text = (tmp_path / "x.json").read_text(encoding="utf-8")
        assert text.endswith("}\n")
        assert "gr\u00fcn" in text, "people read these files"

    @pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
    def test_what_is_not_json_is_refused_before_anything_is_written(self, tmp_path, value):
        with pytest.raises(ValueError, match="not JSON compliant"):
            write_json(tmp_path / "x.json", {"loss": value})
        assert list(tmp_path.iterdir()) == []

    def test_a_file_name_that_is_not_utf8_survives(self, tmp_path):
        name = os.fsdecode(b"caf\xe9/\xff.png")
        write_json(tmp_path / "x.json", {"path": name, name: 1})
        assert read_json(tmp_path / "x.json") == {"path": name, name: 1}
        assert json.loads((tmp_path / "x.json").read_bytes().decode("utf-8"))["path"] == name

    def test_a_missing_file(self, tmp_path):
        with pytest.raises(ArtifactError, match=r"none\.json does not exist"):
            read_json(tmp_path / "none.json")

    def test_a_folder(self, tmp_path):
        with pytest.raises(ArtifactError, match="can't be read: Is a directory"):
            read_json(tmp_path)

    @pytest.mark.parametrize(
        "content", [b"", b"{", b"\xff\xfe{}", b'{"a": 1} x', b"[" * 100_000, b"1" * 5000,
                    b'{"loss": NaN}'],
        ids=["empty", "half", "not utf-8", "more", "deep", "long number", "nan"],
    )  # fmt: skip
    def test_what_is_no_json_is_told(self, tmp_path, content):
        (tmp_path / "x.json").write_bytes(content)
        with pytest.raises(ArtifactError, match=r"x\.json is not valid JSON: "):
            read_json(tmp_path / "x.json")


class TestFingerprints:
    def test_of_a_file_is_that_of_sha256sum(self, tmp_path):
        (tmp_path / "x").write_bytes(b"abc")
        # FIPS 180-2, appendix B.1
        assert file_sha256(tmp_path / "x") == "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"

    def test_of_content_knows_no_order_of_keys(self):
        assert content_sha256({"a": 1, "b": [1, 2]}) == content_sha256({"b": [1, 2], "a": 1})
        assert content_sha256({"a": [1, 2]}) != content_sha256({"a": [2, 1]})
        assert content_sha256({"a": 1}) == "sha256:" + hashlib.sha256(b'{"a":1}').hexdigest()

    def test_of_content_refuses_nan(self):
        with pytest.raises(ValueError, match="not JSON compliant"):
            content_sha256({"a": float("nan")})

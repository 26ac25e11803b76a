"""The life of a manifest: running, done, asked again, changed."""

import errno
import json
import os
from pathlib import Path

import pytest

import pretext
from pretext.artifacts import manifest as module
from pretext.artifacts.atomic import file_sums
from pretext.artifacts.manifest import Parent, Record, missing_outputs, read_manifest, require_done
from pretext.errors import ArtifactError

DATA = Parent("data", "data/shapes", "sha256:d")
CHECKPOINT = Parent("checkpoint", "runs/x/checkpoint.safetensors", "sha256:c")


def names_in(folder):
    """The files that are not the record's own lock, which is there while work goes on."""
    return sorted(path.name for path in folder.iterdir() if not path.name.endswith(".lock"))


def a_record(folder, *, request=None, parents=(DATA, CHECKPOINT), stage="probe-linear"):
    return Record(folder / "manifest.json", stage, request or {"k": 5, "strengths": [0.1, 1.0]}, parents)


def finished(folder, **changes):
    record = a_record(folder, **changes)
    assert not record.is_done(overwrite=False)
    record.begin({"k": 5}, seed=3)
    (folder / "result.json").write_text("12345")
    (folder / "table.parquet").write_text("abc")
    record.finish([folder / "result.json", folder / "table.parquet"], summary={"top1": 0.5})
    return record


def times_of(folder):
    return {path: path.stat().st_mtime_ns for path in [folder, *folder.rglob("*")]}


class TestLife:
    def test_running_before_work_and_done_after_it(self, tmp_path):
        record = a_record(tmp_path / "run")
        assert not record.is_done(overwrite=False)
        assert not (tmp_path / "run").exists(), "asking makes nothing"

        record.begin({"k": 5, "device": "cpu"}, seed=3, device="cpu")
        content = read_manifest(record.path)
        assert content["status"] == "running"
        assert content["request"] == {"k": 5, "strengths": [0.1, 1.0]}
        assert content["config"] == {"k": 5, "device": "cpu"}
        assert (content["seed"], content["stage"], content["schema"]) == (3, "probe-linear", 1)
        assert content["parents"] == [DATA.as_json(), CHECKPOINT.as_json()]
        assert content["versions"]["pretext"] == pretext.__version__
        assert content["device"]["device"] == "cpu"
        assert content["outputs"] == {}

        (tmp_path / "run" / "out.bin").write_bytes(b"12345")
        returned = record.finish([tmp_path / "run" / "out.bin"], summary={"top1": 0.5})
        content = read_manifest(record.path)
        assert content["status"] == "done"
        assert content["summary"] == {"top1": 0.5}
        assert content["outputs"] == {"out.bin": file_sums(tmp_path / "run" / "out.bin")}
        assert content["wall_seconds"] >= 0
        assert content["finished"] >= content["started"]
        assert "progress" not in json.loads(record.path.read_text())
        assert returned["summary"] == content["summary"]

    def test_known_fingerprints_are_not_computed_again(self, tmp_path, monkeypatch):
        record = a_record(tmp_path)
        record.begin({}, seed=None)
        (tmp_path / "a").write_bytes(b"1")
        (tmp_path / "b").write_bytes(b"2")
        hashed = []
        monkeypatch.setattr(module, "file_sums", lambda path: hashed.append(path.name) or file_sums(path))
        known = {"a": {"sha256": "sha256:known", "bytes": 1, "crc32": "00000000", "num_images": 3}}
        content = record.finish([tmp_path / "a", tmp_path / "b"], summary={}, known=known)
        assert hashed == ["b"]
        assert content["outputs"]["a"] == {"sha256": "sha256:known", "bytes": 1, "crc32": "00000000"}

    def test_done_and_asked_again_touches_no_file(self, tmp_path):
        finished(tmp_path)
        before = times_of(tmp_path)
        again = a_record(tmp_path)
        assert again.is_done(overwrite=False)
        assert again.content["summary"] == {"top1": 0.5}
        assert times_of(tmp_path) == before

    def test_progress_is_kept_over_a_stop(self, tmp_path):
        record = a_record(tmp_path)
        record.begin({}, seed=None)
        started = record.content["started"]
        record.note({"shard-0": {"bytes": 3}})
        again = a_record(tmp_path)
        assert not again.is_done(overwrite=False)
        again.begin({}, seed=None)
        assert again.content["progress"] == {"shard-0": {"bytes": 3}}
        assert read_manifest(again.path)["progress"] == {"shard-0": {"bytes": 3}}
        assert again.content["started"] == started

    def test_wall_time_adds_up_over_restarts(self, tmp_path, monkeypatch):
        now = [100.0]
        monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
        record = a_record(tmp_path)
        record.begin({}, seed=None)
        now[0] += 7.25
        record.note({})
        now[0] += 1000  # nobody was there
        again = a_record(tmp_path)
        again.is_done(overwrite=False)
        again.begin({}, seed=None)
        now[0] += 2
        assert again.finish([], summary={})["wall_seconds"] == 9.25


class TestAskedOtherwise:
    def test_other_options_are_shown_and_overwrite_is_named(self, tmp_path):
        finished(tmp_path)
        before = times_of(tmp_path)
        with pytest.raises(ArtifactError) as caught:
            a_record(tmp_path, request={"k": 7, "seed": 1, "strengths": [0.1]}).is_done(overwrite=False)
        assert caught.value.message == (
            f"{tmp_path} already holds another probe-linear: k was 5, now 7; seed was None, now 1; "
            "strengths was [0.1, 1.0], now [0.1]"
        )
        assert "--overwrite" in caught.value.hint
        assert times_of(tmp_path) == before

    def test_another_stage_in_its_place(self, tmp_path):
        finished(tmp_path)
        with pytest.raises(ArtifactError, match="already holds another pretrain: it is the output of probe-linear"):
            a_record(tmp_path, stage="pretrain").is_done(overwrite=False)

    def test_half_finished_work_of_another_request_is_not_gone_on_with(self, tmp_path):
        a_record(tmp_path).begin({}, seed=None)
        with pytest.raises(ArtifactError, match="k was 5, now 7"):
            a_record(tmp_path, request={"k": 7, "strengths": [0.1, 1.0]}).is_done(overwrite=False)

    def test_a_changed_parent_is_named(self, tmp_path):
        finished(tmp_path)
        other = Parent("checkpoint", "runs/x/checkpoint.safetensors", "sha256:other")
        with pytest.raises(ArtifactError) as caught:
            a_record(tmp_path, parents=(DATA, other)).is_done(overwrite=False)
        assert caught.value.message.endswith("its checkpoint (runs/x/checkpoint.safetensors) has changed since")
        assert "its data" not in caught.value.message

    def test_a_new_and_a_lost_parent_are_named(self, tmp_path):
        finished(tmp_path, parents=(DATA,))
        with pytest.raises(ArtifactError, match=r"its checkpoint \(runs/x/checkpoint\.safetensors\) is new$"):
            a_record(tmp_path).is_done(overwrite=False)
        with pytest.raises(ArtifactError, match=r"it was made from data/shapes as well$"):
            a_record(tmp_path, parents=()).is_done(overwrite=False)

    def test_a_parent_that_moved_is_the_same(self, tmp_path):
        finished(tmp_path)
        assert a_record(tmp_path, parents=(Parent("data", "/elsewhere/shapes", "sha256:d"), CHECKPOINT)).is_done(
            overwrite=False
        )


class TestSeveralParentsOfOneKind:
    RUNS = tuple(Parent("run", f"runs/{name}", f"sha256:{name}") for name in "abc")

    def test_the_same_ones_are_done_in_any_order(self, tmp_path):
        finished(tmp_path, parents=self.RUNS)
        assert a_record(tmp_path, parents=self.RUNS).is_done(overwrite=False)
        assert a_record(tmp_path, parents=self.RUNS[::-1]).is_done(overwrite=False)

    def test_two_with_equal_content_are_two(self, tmp_path):
        twins = (Parent("run", "runs/a", "sha256:a"), Parent("run", "runs/copy", "sha256:a"))
        finished(tmp_path, parents=twins)
        assert a_record(tmp_path, parents=twins).is_done(overwrite=False)
        with pytest.raises(ArtifactError, match="it was made from runs/copy as well"):
            a_record(tmp_path, parents=twins[:1]).is_done(overwrite=False)

    def test_the_one_that_changed_is_named(self, tmp_path):
        finished(tmp_path, parents=self.RUNS)
        changed = (*self.RUNS[:1], Parent("run", "runs/b", "sha256:x"), *self.RUNS[2:])
        with pytest.raises(ArtifactError, match=r"probe-linear: its run \(runs/b\) has changed since$"):
            a_record(tmp_path, parents=changed).is_done(overwrite=False)

    def test_one_more_and_one_less_are_named(self, tmp_path):
        finished(tmp_path, parents=self.RUNS)
        with pytest.raises(ArtifactError, match=r"probe-linear: its run \(runs/d\) is new$"):
            a_record(tmp_path, parents=(*self.RUNS, Parent("run", "runs/d", "sha256:d"))).is_done(overwrite=False)
        with pytest.raises(ArtifactError, match=r"probe-linear: it was made from runs/b as well$"):
            a_record(tmp_path, parents=self.RUNS[::2]).is_done(overwrite=False)


class TestOverwrite:
    def test_what_is_finished_is_removed_with_all_it_wrote_when_work_begins(self, tmp_path):
        finished(tmp_path)
        stale = tmp_path / "resume"
        stale.mkdir()
        (stale / "state.json").write_text("{}")
        (tmp_path / "other.txt").write_text("not ours")
        again = a_record(tmp_path, request={"k": 7})
        before = times_of(tmp_path)
        assert not again.is_done(overwrite=True, stale=[stale, tmp_path / "not-there"])
        assert times_of(tmp_path) == before, "what goes wrong before work begins must cost nothing"
        again.begin({}, seed=None)
        assert names_in(tmp_path) == ["manifest.json", "other.txt"]
        assert read_manifest(again.path)["request"] == {"k": 7}

    def test_the_same_request_is_made_again_too(self, tmp_path):
        finished(tmp_path)
        again = a_record(tmp_path)
        assert not again.is_done(overwrite=True)
        again.begin({}, seed=None)
        assert names_in(tmp_path) == ["manifest.json"]

    def test_half_finished_work_of_the_same_request_is_gone_on_with(self, tmp_path):
        record = a_record(tmp_path)
        record.begin({}, seed=None)
        record.note({"done": 3})
        resume = tmp_path / "resume"
        resume.mkdir()
        again = a_record(tmp_path)
        assert not again.is_done(overwrite=True, stale=[resume])
        assert resume.exists(), "a second kill with --overwrite must not begin from nothing"
        again.begin({}, seed=None)
        assert again.content["progress"] == {"done": 3}

    def test_half_finished_work_of_another_request_is_removed(self, tmp_path):
        half = a_record(tmp_path)
        half.begin({}, seed=None)
        half.note({"done": 3})
        (tmp_path / "resume").mkdir()
        again = a_record(tmp_path, request={"k": 7})
        assert not again.is_done(overwrite=True, stale=[tmp_path / "resume"])
        again.begin({}, seed=None)
        assert names_in(tmp_path) == ["manifest.json"]
        assert again.content["progress"] == {}

    def test_a_kill_while_removing_leaves_no_manifest_that_says_done(self, tmp_path, monkeypatch):
        finished(tmp_path)
        seen = []
        unlink = Path.unlink

        def look(self, **more):
            seen.append((self.name, read_manifest(tmp_path / "manifest.json")["status"]))
            unlink(self, **more)

        monkeypatch.setattr(Path, "unlink", look)
        again = a_record(tmp_path, request={"k": 7})
        again.is_done(overwrite=True)
        again.begin({}, seed=None)
        assert seen == [("result.json", "running"), ("table.parquet", "running")]

    def test_what_can_not_be_removed_is_told(self, tmp_path, monkeypatch):
        finished(tmp_path)

        def fail(*args, **kwargs):
            raise OSError(errno.EACCES, os.strerror(errno.EACCES))

        again = a_record(tmp_path)
        again.is_done(overwrite=True)
        monkeypatch.setattr(Path, "unlink", fail)
        with pytest.raises(ArtifactError, match=r"result\.json can't be removed: Permission denied"):
            again.begin({}, seed=None)

    @pytest.mark.parametrize("name", ["", ".", "..", "../precious", "/precious", "a/../../precious", "x\0y", "a\\b"])
    def test_a_manifest_never_makes_it_remove_what_lies_elsewhere(self, tmp_path, name):
        folder = tmp_path / "run"
        folder.mkdir()
        precious = tmp_path / "precious"
        precious.write_text("x")
        record = finished(folder)
        content = json.loads(record.path.read_text())
        content["outputs"][name] = {"bytes": 1, "sha256": "sha256:x"}
        record.path.write_text(json.dumps(content))
        with pytest.raises(ArtifactError, match="is damaged: its section 'outputs'"):
            a_record(folder).is_done(overwrite=True)
        assert precious.exists()
        assert len(list(folder.iterdir())) == 3

    def test_what_depends_on_the_output_goes_before_it(self, tmp_path, monkeypatch):
        finished(tmp_path)
        gone = []
        monkeypatch.setattr(Path, "unlink", lambda path, missing_ok=False: gone.append(path.name))
        again = a_record(tmp_path, request={"k": 10})
        assert not again.is_done(overwrite=True, stale=[tmp_path / "later.manifest.json"])
        again.begin({}, seed=0)
        assert gone == ["later.manifest.json", "result.json", "table.parquet"]


class TestIsSame:
    def test_only_a_whole_output_of_the_same_request_and_parents(self, tmp_path):
        assert not a_record(tmp_path).is_same()
        finished(tmp_path)
        before = times_of(tmp_path)
        assert a_record(tmp_path).is_same()
        assert not a_record(tmp_path, request={"k": 10}).is_same()
        assert not a_record(tmp_path, parents=(DATA,)).is_same()
        assert not a_record(tmp_path, stage="other").is_same()
        assert times_of(tmp_path) == before, "asking touches nothing"

    def test_neither_half_finished_nor_broken_ones(self, tmp_path):
        finished(tmp_path)
        (tmp_path / "table.parquet").unlink()
        assert not a_record(tmp_path).is_same()
        a_record(tmp_path / "half").begin({}, seed=0)
        assert not a_record(tmp_path / "half").is_same()


class TestBrokenOutputs:
    @pytest.mark.parametrize("harm", ["missing", "truncated", "longer", "a folder"])
    def test_they_are_seen_and_made_again(self, tmp_path, harm):
        finished(tmp_path)
        path = tmp_path / "result.json"
        path.unlink()
        if harm == "a folder":
            path.mkdir()
        elif harm != "missing":
            path.write_text("1234" if harm == "truncated" else "123456")
        assert missing_outputs(tmp_path / "manifest.json", read_manifest(tmp_path / "manifest.json")) == ["result.json"]
        with pytest.raises(
            ArtifactError, match=r"result\.json is missing or not of the size that manifest\.json states"
        ):
            require_done(tmp_path / "manifest.json", hint="make it")
        again = a_record(tmp_path)
        assert not again.is_done(overwrite=False)
        again.begin({}, seed=None)
        assert read_manifest(again.path)["status"] == "running"
        assert not path.exists(), "a broken file must not be taken for a finished part"
        assert (tmp_path / "table.parquet").exists()

    def test_a_name_that_no_file_can_have_is_missing(self, tmp_path):
        name = "x" * 5000
        assert missing_outputs(tmp_path / "manifest.json", {"outputs": {name: {"bytes": 1}}}) == [name]


class TestRequireDone:
    def test_done(self, tmp_path):
        finished(tmp_path)
        assert require_done(tmp_path / "manifest.json", hint="")["summary"] == {"top1": 0.5}

    def test_missing(self, tmp_path):
        with pytest.raises(ArtifactError, match=r"has no manifest\.json") as caught:
            require_done(tmp_path / "manifest.json", hint="pretext pretrain")
        assert caught.value.hint == "pretext pretrain"

    def test_unfinished(self, tmp_path):
        a_record(tmp_path).begin({}, seed=None)
        with pytest.raises(ArtifactError, match=r"manifest\.json says the probe-linear is not finished") as caught:
            require_done(tmp_path / "manifest.json", hint="go on")
        assert caught.value.hint == "go on"

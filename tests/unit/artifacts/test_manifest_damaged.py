"""Manifests that something else wrote, or that something has eaten."""

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pretext.artifacts.manifest import Parent, Record, read_manifest, require_done
from pretext.errors import ArtifactError

DATA = Parent("data", "data/shapes", "sha256:d")

GOOD = {
    "schema": 1, "stage": "probe-linear", "status": "done", "request": {"k": 5}, "config": {}, "seed": 0,
    "parents": [DATA.as_json()], "wall_seconds": 1.5, "summary": {},
    "outputs": {"result.json": {"sha256": "sha256:x", "bytes": 5, "crc32": "00000000"}},
}  # fmt: skip
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**18), 10**18) | st.floats() | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"schema": 2}, "has schema 2, this version reads 1"),
        ({"schema": None}, "has schema None"),
        ({"status": "finished"}, "is not a manifest of this toolkit"),
        ({"status": ["done"]}, "is not a manifest of this toolkit"),
        ({"request": []}, "is damaged: its section 'request'"),
        ({"config": 3}, "is damaged: its section 'config'"),
        ({"summary": None}, "is damaged: its section 'summary'"),
        ({"progress": []}, "is damaged: its section 'progress'"),
        ({"outputs": []}, "is damaged: its section 'outputs'"),
        ({"outputs": {"a": 5}}, "is damaged: its section 'outputs'"),
        ({"outputs": {"a": {"sha256": "x"}}}, "is damaged: its section 'outputs'"),
        ({"outputs": {"a": {"sha256": "x", "bytes": "5"}}}, "is damaged: its section 'outputs'"),
        ({"outputs": {"a": {"bytes": 5}}}, "is damaged: its section 'outputs'"),
        ({"outputs": {"a": {"sha256": "x", "bytes": 5}}}, "is damaged: its section 'outputs'"),
        ({"parents": {}}, "is damaged: its section 'parents'"),
        ({"parents": ["data"]}, "is damaged: its section 'parents'"),
        ({"parents": [{"kind": "data", "path": "x"}]}, "is damaged: its section 'parents'"),
        ({"wall_seconds": None}, "is damaged: its section 'wall_seconds'"),
        ({"wall_seconds": -1}, "is damaged: its section 'wall_seconds'"),
        ({"wall_seconds": float("nan")}, "is not valid JSON: it has NaN"),
        ({"progress": {"loss": float("-inf")}}, "is not valid JSON: it has -Infinity"),
    ],
)
def test_each_section_is_checked(tmp_path, changes, match):
    (tmp_path / "manifest.json").write_text(json.dumps(GOOD))
    assert read_manifest(tmp_path / "manifest.json")["request"] == {"k": 5}
    (tmp_path / "manifest.json").write_text(json.dumps(GOOD | changes))
    with pytest.raises(ArtifactError, match=match):
        read_manifest(tmp_path / "manifest.json")


@pytest.mark.parametrize("text", ["", "null", "[]", "3", '{"status": "done"}', '{"stage": "probe"}', "{}", "nonsense"])
def test_what_is_no_manifest_is_told(tmp_path, text):
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(ArtifactError, match=r"manifest\.json is not "):
        read_manifest(tmp_path / "manifest.json")


def test_absent_sections_stand_empty(tmp_path):
    (tmp_path / "manifest.json").write_text('{"schema": 1, "stage": "x", "status": "done"}')
    content = read_manifest(tmp_path / "manifest.json")
    assert (content["outputs"], content["parents"], content["wall_seconds"]) == ({}, [], 0)
    (tmp_path / "manifest.json").write_text(json.dumps(GOOD | {"wall_seconds": 2}))
    assert read_manifest(tmp_path / "manifest.json")["wall_seconds"] == 2


@given(
    content=st.dictionaries(st.sampled_from([*GOOD, "progress", "started"]), JSON, max_size=4),
    overwrite=st.booleans(),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=80, deadline=None)
def test_any_json_in_its_place_is_refused_or_used_never_a_crash(tmp_path, content, overwrite):
    path = tmp_path / "manifest.json"
    for values in (content, GOOD | content):
        path.write_text(json.dumps(values))
        record = Record(path, "probe-linear", {"k": 5}, [DATA])
        try:
            if not record.is_done(overwrite=overwrite):
                record.begin({}, seed=None)
                record.finish([], summary={})
            require_done(path, hint="")
        except ArtifactError:
            continue
        assert read_manifest(path)["status"] == "done"

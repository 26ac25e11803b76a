"""Colours beside prepared images: computed when asked for, once, and without touching the images."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from tiny_chain import prepare

from pretext import stage_configs as configs
from pretext.artifacts.layout import DataLayout
from pretext.artifacts.manifest import read_manifest
from pretext.artifacts.shards import open_data
from pretext.color import LAB_LOW, LAB_SPAN
from pretext.datasets import color_sets
from pretext.datasets.color_blocks import Converter, Wanted
from pretext.errors import ArtifactError, ConfigError
from pretext.stages import prepare_data

FEW = {"num_unlabeled": 20, "num_train": 10, "num_test": 5, "shard_mb": 0.02}  # 6 images of 32 px a shard


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """A few images without colours. Not to be written to."""
    root = tmp_path_factory.mktemp("images")
    prepare(root, **FEW)
    return root / "data"


@pytest.fixture
def folder(images, tmp_path):
    """A copy that a test may change."""
    shutil.copytree(images, tmp_path / "data")
    return tmp_path / "data" / "shapes"


@pytest.fixture
def colors(tmp_path):
    """Prepares a few images with what is asked for."""
    return lambda *spaces, **changes: prepare(tmp_path, color_space=spaces, **(FEW | changes))


def is_color(path):
    return any(f".{stem}." in f".{path.name}" for stem in ("lab", *DataLayout(path.parent).target_stems()))


def files_of(folder):
    """Bytes and time of every file."""
    return {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in sorted(folder.iterdir())}


def contents(folder):
    """Every shard's bytes, and every set's summary."""
    shards = {path.name: path.read_bytes() for path in folder.glob("*.arrow")}
    return shards | {path.name: read_manifest(path)["summary"] for path in folder.glob("*.manifest.json")}


class TestFiles:
    def test_each_shard_of_images_has_its_colors_row_by_row(self, colors, folder):
        outcome = colors("rgb", "lab-rescaled")
        assert outcome["status"] == "done"
        assert outcome["colours"] == {"lab": "done", "targets-rgb-12": "done", "targets-lab-rescaled-12": "done"}
        shards = sorted(path.name for path in folder.glob("*-of-0000?.arrow"))
        assert len(shards) == 4 + 2 + 1
        for stem in outcome["colours"]:
            assert {folder / name.replace(".arrow", f".{stem}.arrow") for name in shards} == set(
                folder.glob(f"*.{stem}.arrow")
            )
        data = open_data(DataLayout(folder))
        image = data.split("train+unlabeled").images.read(np.arange(30))
        quantizers = {one.stem: one.quantizer for one in color_sets.plan_sets(("rgb", "lab-rescaled"), size=12, border="reflect",
                                                                              lab_dtype="uint8") if one.quantizer}  # fmt: skip
        want = Converter(Wanted("uint8", quantizers, 12, "reflect"))(image)
        np.testing.assert_array_equal(data.lab("train+unlabeled").read(np.arange(30)), want["lab"][0])
        for stem in quantizers:
            np.testing.assert_array_equal(data.targets("train+unlabeled", stem).read(np.arange(30)), want[stem][0])

    def test_a_record_says_what_the_targets_are(self, colors, folder):
        colors("lab", target_size=6, target_border="zero")
        data = open_data(DataLayout(folder))
        ((stem, content),) = data.target_sets().items()
        assert stem == "targets-lab-6"
        assert content["parents"] == [{"kind": "data", "path": str(folder), "fingerprint": data.fingerprint}]
        assert content["request"] == {
            "color_space": "lab",
            "target_size": 6,
            "target_border": "zero",
            "quantizer_version": 1,
        }
        summary = content["summary"]
        assert (summary["space"], summary["image_space"], summary["size"], summary["border"]) == (
            "lab",
            "lab",
            6,
            "zero",
        )
        assert summary["quantizer"]["groups"] == ["L", "ab"]
        assert summary["fingerprint"].startswith("sha256:")
        assert list(summary["round_trip_error"]) == ["L", "a", "b"]
        for letter, half_bin in zip("Lab", (1.01 / 2, 18.6 / 2, 20.3 / 2), strict=True):
            error = summary["round_trip_error"][letter]
            assert 0 < error["mean"] <= error["max"] <= half_bin + 1e-3
        for split, images in data.num_images.items():
            bins = data.targets(split, stem).read(np.arange(images))
            facts = summary["splits"][split]
            assert facts["counts"] == [np.bincount(bins[:, group].ravel(), minlength=100).tolist() for group in (0, 1)]
            assert facts["num_images"] == images
            assert facts["moments"]["n"] == images * 36

    def test_moments_are_those_of_the_small_images_on_the_networks_scale(self, colors, folder):
        colors("lab", target_size=32)
        data = open_data(DataLayout(folder))
        moments = data.target_sets()["targets-lab-32"]["summary"]["splits"]["train"]["moments"]
        code01 = data.lab("train").read(np.arange(10)).reshape(-1, 3) / 255.0
        np.testing.assert_allclose(moments["mean"], code01.mean(0), atol=2e-4)
        np.testing.assert_allclose(moments["variance"], code01.var(0), atol=2e-4)

    @pytest.mark.parametrize("dtype", ["uint8", "float16"])
    def test_a_record_says_what_the_lab_numbers_are(self, colors, folder, dtype):
        colors("lab", lab_dtype=dtype)
        summary = read_manifest(folder / "lab.manifest.json")["summary"]
        assert (summary["dtype"], summary["low"], summary["span"]) == (dtype, list(LAB_LOW), list(LAB_SPAN))
        half_step = 0.5 / 255 if dtype == "uint8" else 2.0**-11
        assert all(0 < summary["code_error"][letter]["max"] <= half_step * span + 1e-3
                   for letter, span in zip("Lab", LAB_SPAN, strict=True))  # fmt: skip
        assert open_data(DataLayout(folder)).lab("train").dtype == dtype
        schema = pa.ipc.open_file(str(next(folder.glob("*.lab.arrow")))).schema
        assert {name: json.loads(schema.metadata[name.encode()]) for name in ("dtype", "low", "span", "code")} == {
            name: summary[name] for name in ("dtype", "low", "span", "code")}  # fmt: skip

    def test_rgb_needs_no_lab(self, colors, folder):
        colors("rgb")
        assert not list(folder.glob("lab.*")) + list(folder.glob("*.lab.*"))
        assert open_data(DataLayout(folder)).lab("train") is None

    def test_the_images_manifest_does_not_know_of_colors(self, colors, tmp_path, folder):
        colors("lab", target_size=6, name="new", data_dir=tmp_path / "other")
        with_colors, plain = (read_manifest(path / "manifest.json") for path in (tmp_path / "other/new", folder))
        assert with_colors["request"] == plain["request"]
        assert with_colors["summary"] == plain["summary"] | {"name": "new"}
        assert with_colors["config"].keys() == plain["config"].keys()
        assert not {"color_space", "target_size", "target_border", "lab_dtype"} & plain["config"].keys()

    def test_any_number_of_threads_gives_the_same_bytes(self, colors, folder):
        colors("rgb", "lab-313")
        before = contents(folder)
        for path in [path for path in folder.iterdir() if is_color(path)]:
            path.unlink()
        colors("rgb", "lab-313", workers=3)
        assert contents(folder) == before


class TestLater:
    def test_a_second_time_touches_no_file(self, colors, folder):
        colors("rgb", "lab")
        before = files_of(folder)
        for spaces in (("rgb", "lab"), ("lab",), ("none",)):
            assert colors(*spaces)["status"] == "already done"
        assert files_of(folder) == before

    def test_a_space_or_size_is_added_beside_what_is_there(self, colors, folder):
        before = files_of(folder)
        for spaces, changes in (
            (("rgb",), {}),
            (("lab",), {}),
            (("lab", "rgb", "lab-313"), {}),
            (("lab",), {"target_size": 6}),
        ):
            outcome = colors(*spaces, **changes)
            assert outcome["status"] == "done"
            now = files_of(folder)
            assert {name: now[name] for name in before} == before, f"{spaces} touched what was there"
            assert now.keys() > before.keys()
            before = now
        assert set(open_data(DataLayout(folder)).target_sets()) == {"targets-rgb-12", "targets-lab-12", "targets-lab-313-12",
                                                                    "targets-lab-6"}  # fmt: skip

    def test_what_is_added_later_is_what_would_have_been_made_at_once(self, colors, folder, images, tmp_path):
        colors("rgb")
        colors("lab-rescaled", "rgb")
        one_by_one = contents(folder)
        shutil.copytree(images / "shapes", tmp_path / "data/at-once")
        colors("rgb", "lab-rescaled", name="at-once")
        at_once = contents(tmp_path / "data/at-once")
        assert one_by_one == at_once

    @pytest.mark.parametrize(
        ("changes", "told"),
        [({"target_border": "zero"}, "another prepare-data targets-lab-12: target_border was 'reflect', now 'zero'"),
         ({"lab_dtype": "float16"}, "another prepare-data lab: lab_dtype was 'uint8', now 'float16'")],
    )  # fmt: skip
    def test_another_border_or_dtype_is_an_error_that_shows_it(self, colors, folder, changes, told):
        colors("lab", "rgb")
        before = files_of(folder)
        with pytest.raises(ArtifactError, match=told) as caught:
            colors("lab", **changes)
        assert "--overwrite" in caught.value.hint
        assert files_of(folder) == before

    def test_overwriting_colors_keeps_the_images_and_other_colors(self, colors, folder):
        colors("lab", "rgb")
        before = files_of(folder)
        outcome = colors("lab", target_border="zero", overwrite=True)
        assert outcome["colours"] == {"lab": "already done", "targets-lab-12": "done"}
        now = files_of(folder)
        changed = {name for name in before if now[name] != before[name]}
        assert now.keys() == before.keys()
        assert changed == {name for name in before if ".targets-lab-12." in name or name.startswith("targets-lab-12.")}
        assert open_data(DataLayout(folder)).target_sets()["targets-lab-12"]["summary"]["border"] == "zero"

    def test_overwriting_with_a_space_that_is_not_there_yet_only_adds_it(self, colors, folder):
        colors("rgb")
        before = files_of(folder)
        colors("lab", overwrite=True)
        now = files_of(folder)
        assert {name: now[name] for name in before} == before

    @pytest.mark.parametrize("spaces", [("none",), ("lab",)])
    def test_overwriting_the_images_removes_all_that_was_made_of_them(self, colors, folder, spaces):
        colors("lab", "rgb")
        colors(*spaces, seed=7, overwrite=True)
        assert not list(folder.glob("*targets-rgb*"))
        if spaces == ("none",):
            assert {path.suffix for path in folder.iterdir() if len(path.suffixes) == 1} == {
                ".arrow",
                ".json",
                ".parquet",
            }
            assert not list(folder.glob("*.*.*"))
        else:
            assert list(open_data(DataLayout(folder)).target_sets()) == ["targets-lab-12"]

    def test_overwriting_when_all_is_the_same_makes_all_anew(self, colors, folder):
        colors("lab")
        before = files_of(folder)
        assert colors("lab", overwrite=True)["colours"] == {"lab": "done", "targets-lab-12": "done"}
        now = files_of(folder)
        assert {name: now[name][0] for name in now if name.endswith(".arrow")} == {
            name: before[name][0] for name in before if name.endswith(".arrow")}  # fmt: skip
        assert all(now[name][1] != before[name][1] for name in now)

    def test_a_lost_file_is_made_again_and_nothing_else(self, colors, folder):
        colors("lab")
        before = files_of(folder)
        lost = next(folder.glob("unlabeled-00001*.targets-lab-12.arrow"))
        lost.unlink()
        assert colors("lab")["colours"] == {"lab": "already done", "targets-lab-12": "done"}
        now = files_of(folder)
        assert now[lost.name][0] == before[lost.name][0]
        assert [name for name in now if now[name] != before[name] and "targets-lab-12" not in name] == []


class TestStopped:
    def test_finished_shards_are_kept_and_the_rest_gone_on_with(self, colors, folder, monkeypatch):
        colors("rgb", "lab")
        want = contents(folder)
        for path in [path for path in folder.iterdir() if is_color(path)]:
            path.unlink()
        real, calls = Converter.__call__, []

        def failing(*args):
            calls.append(args)
            if len(calls) == 4:
                raise KeyboardInterrupt
            return real(*args)

        monkeypatch.setattr(Converter, "__call__", failing)
        with pytest.raises(KeyboardInterrupt):
            colors("rgb", "lab")
        record = read_manifest(folder / "lab.manifest.json")
        assert record["status"] == "running"
        kept = {name: (folder / facts["file"]).stat().st_mtime_ns for name, facts in record["progress"].items()}
        assert 3 <= len(kept) < 7, "the other threads end the shard they are at"
        assert not list(folder.glob(".*.tmp"))
        calls.clear()
        monkeypatch.setattr(Converter, "__call__", lambda *args: calls.append(args) or real(*args))
        assert colors("rgb", "lab")["status"] == "done"
        assert len(calls) == 7 - len(kept)
        assert contents(folder) == want
        assert {name: (folder / name.replace(".arrow", ".lab.arrow")).stat().st_mtime_ns for name in kept} == kept

    def test_an_error_stops_the_other_threads(self, colors, folder, monkeypatch):
        real, calls = Converter.__call__, []

        def failing(*args):
            calls.append(args)
            if len(calls) == 2:
                raise ArtifactError("the disk is full")
            return real(*args)

        monkeypatch.setattr(Converter, "__call__", failing)
        with pytest.raises(ArtifactError, match="the disk is full"):
            colors("lab", workers=2)
        assert len(calls) < 7
        assert not list(folder.glob(".*.tmp"))


class TestOptions:
    @pytest.mark.parametrize(
        ("spaces", "changes", "told"),
        [(("none", "lab"), {}, "--color-space none stands alone, got none,lab"),
         (("lab",), {"target_size": 33}, "--target-size 33 must be at most the images' 32 px"),
         (("none",), {"target_size": 6}, "--target-size is read only with a --color-space; chosen is none"),
         (("none",), {"target_border": "zero"}, "--target-border is read only with a --color-space; chosen is none"),
         (("rgb",), {"lab_dtype": "float16"}, "--lab-dtype is read only with a --color-space of Lab; chosen is rgb")],
    )  # fmt: skip
    def test_what_can_not_be_meant_is_told_before_any_work(self, tmp_path, spaces, changes, told):
        with pytest.raises(ConfigError, match=told):
            prepare(tmp_path, color_space=spaces, **(FEW | changes))
        assert list(tmp_path.iterdir()) == []

    def test_a_dry_run_names_files_disk_and_time_and_writes_nothing(self, tmp_path):
        outcome = prepare(tmp_path, color_space=("rgb", "lab"), dry_run=True, **FEW)
        assert outcome["colours"] == [
            "SPLIT-*.lab.arrow",
            "SPLIT-*.targets-rgb-12.arrow",
            "SPLIT-*.targets-lab-12.arrow",
        ]
        assert outcome["disk for colours"] == "0.00 GB"
        assert outcome["expected seconds for colours"] >= 0
        assert list(tmp_path.iterdir()) == []

    def test_without_colors_nothing_heavy_is_loaded(self, tmp_path):
        code = ("import sys; from pathlib import Path; from pretext.stages import prepare_data; "
                "from pretext.stage_configs import PrepareDataConfig\n"
                "if __name__ == '__main__':\n"
                f"  prepare_data.run(PrepareDataConfig(data_dir=Path({str(tmp_path)!r}), num_unlabeled=2, num_train=2, num_test=0,"
                " workers=1))\n  print('torch' in sys.modules)")  # fmt: skip
        (tmp_path / "script.py").write_text(code)
        done = subprocess.run([sys.executable, str(tmp_path / "script.py")], capture_output=True, text=True, check=True)
        assert done.stdout.strip() == "False"


@pytest.mark.parametrize("kind", ["grey", "one colour", "constant channel"])
def test_a_folder_of_images_without_colors_or_spread(tmp_path, kind):
    generator = np.random.default_rng(0)
    (tmp_path / "pictures").mkdir()
    for number in range(4):
        noise = generator.integers(0, 256, (20, 20, 3), dtype=np.uint8)
        image = {"grey": Image.fromarray(noise[..., 0], "L") if number % 2 else Image.fromarray(noise[..., :1].repeat(3, -1)),
                 "one colour": Image.new("RGB", (20, 20), (30, 200, 90)),
                 "constant channel": Image.fromarray(np.where(np.arange(3) == 1, np.uint8(9), noise))}[kind]  # fmt: skip
        image.save(tmp_path / "pictures" / f"{number}.png")
    spaces = ("rgb", "lab", "lab-rescaled", "lab-rescaled-all", "lab-313", "lab-gamut")
    prepare_data.run(configs.PrepareDataConfig(source="folder", path=tmp_path / "pictures", data_dir=tmp_path / "data", workers=1,
                                               image_size=16, target_size=4, color_space=spaces))  # fmt: skip
    data = open_data(DataLayout(tmp_path / "data/pictures"))
    ((split, count),) = data.num_images.items()
    assert count == 4
    sets = data.target_sets()
    assert set(sets) == {f"targets-{space}-4" for space in spaces}
    for stem, content in sets.items():
        assert np.isfinite([error["max"] for error in content["summary"]["round_trip_error"].values()]).all()
        bins = data.targets(split, stem).read(np.arange(4))
        assert (bins >= 0).all()
        assert (bins.max((0, 2, 3)) < content["summary"]["quantizer"]["num_bins"]).all()
    if kind == "grey":
        lab = LAB_LOW + np.array(LAB_SPAN) * data.lab(split).read(np.arange(4)) / 255
        assert np.abs(lab[..., 1:]).max() < 0.6, "grey has no colour, to a step of the code"

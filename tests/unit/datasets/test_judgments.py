"""People's judgments: the five layouts, their splits, what is refused, and the images they speak of."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from PIL import Image

from pretext import stage_configs
from pretext.datasets.judgment_layouts import RATING_LAYOUTS, TRIPLET_LAYOUTS
from pretext.datasets.judgments import (
    Pairs,
    Ratings,
    Triplets,
    find_layout,
    fingerprint,
    image_ids,
    load_images,
    read_judgments,
)
from pretext.errors import DataError

HEADER = "reference,a,b,votes_a,votes_b\n"


def put(folder, *names, size=(6, 6), shade=10):
    """Write small images, each with its own shade."""
    for number, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", size, (shade + number, 0, 0)).save(path)


@pytest.fixture
def triplets(tmp_path):
    put(tmp_path, "images/x.png", "images/y.png", "images/deep/z.png")
    (tmp_path / "train.csv").write_text(HEADER + "y.png,x.png,deep/z.png,3,1\nx.png,y.png,deep/z.png,0,2.5\n")
    (tmp_path / "test.csv").write_text(HEADER + "x.png,y.png,deep/z.png,1,1\n")
    return tmp_path


@pytest.fixture
def bapps(tmp_path):
    """Two subsets of two triplets in val, one in train; p1's share differs everywhere."""
    share = 0.0
    for subset, num in (("val/cnn", 2), ("val/traditional", 2), ("train/mix", 1)):
        for number in range(num):
            put(tmp_path, *(f"2afc/{subset}/{part}/{number:06}.png" for part in ("ref", "p0", "p1")))
            put(tmp_path, *(f"jnd/{subset}/{part}/{number:06}.png" for part in ("p0", "p1")))
            for kind, answers in (("2afc", "judge"), ("jnd", "same")):
                path = tmp_path / kind / subset / answers / f"{number:06}.npy"
                path.parent.mkdir(parents=True, exist_ok=True)
                np.save(path, np.array([share], np.float32))
            share += 0.2
    return tmp_path


@pytest.fixture
def tid2013(tmp_path):
    """Ten references, two distorted copies each, with the archive's own mixture of cases."""
    lines = []
    for number in range(1, 11):
        put(tmp_path, f"reference_images/{'i' if number == 10 else 'I'}{number:02}.BMP")
        for level in (1, 2):
            put(tmp_path, f"distorted_images/{'i' if number == 3 else 'I'}{number:02}_01_{level}.bmp")
            lines.append(f"{number - level / 4:.5f} I{number:02}_01_{level}.bmp\n")
    (tmp_path / "mos_with_names.txt").write_text("".join(lines))
    return tmp_path


@pytest.fixture
def kadid(tmp_path):
    put(tmp_path, "images/I01.png", "images/I01_01_01.png", "images/I02.png", "images/I02_01_05.png")
    rows = "I01_01_01.png,I01.png,4.57,0.5\nI02_01_05.png,I02.png,1.2,0.4\n"
    (tmp_path / "dmos.csv").write_text("dist_img,ref_img,dmos,var\n" + rows)
    return tmp_path


def ids_of(judgments, index_N):
    ids = image_ids(judgments)
    return [ids[index] for index in index_N]


def test_own_triplets_keep_their_votes_and_are_grouped_by_reference(triplets):
    judgments = read_judgments(triplets, split="train")
    assert isinstance(judgments, Triplets)
    assert judgments.kind == "triplets"
    assert len(judgments) == 2
    assert ids_of(judgments, judgments.reference_N) == ["y.png", "x.png"]
    assert ids_of(judgments, judgments.a_N) == ["x.png", "y.png"]
    assert ids_of(judgments, judgments.b_N) == ["deep/z.png", "deep/z.png"]
    assert (judgments.votes_a_N.tolist(), judgments.votes_b_N.tolist()) == ([3, 0], [1, 2.5])
    assert judgments.group_N.tolist() == judgments.reference_N.tolist()
    assert judgments.reference_N.dtype == np.int64
    assert judgments.votes_a_N.dtype == np.float64
    assert len(judgments.image_paths) == 3
    assert all(path.is_file() for path in judgments.image_paths)


def test_columns_may_stand_in_any_order_behind_a_byte_order_mark(triplets):
    text = "votes_b,note,a,reference,b,votes_a\n2,hello,y.png,x.png,deep/z.png,1\n"
    (triplets / "other.csv").write_text(text, encoding="utf-8-sig")
    judgments = read_judgments(triplets, split="other")
    assert ids_of(judgments, judgments.a_N) == ["y.png"]
    assert (judgments.votes_a_N.tolist(), judgments.votes_b_N.tolist()) == ([1], [2])


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ("x.png,y.png,gone.png,1,0", "line 3: there is no image gone.png"),
        ("x.png,y.png,../train.csv,1,0", r"line 3: there is no image \.\./train.csv"),
        ("x.png,y.png,deep/z.png,1", "line 3: expected 5 fields"),
        ("x.png,y.png,deep/z.png,1,0,9", "line 3: expected 5 fields"),
        ("x.png,y.png,deep/z.png,one,0", "line 3: votes_a must be a number >= 0, got 'one'"),
        ("x.png,y.png,deep/z.png,1,-1", "line 3: votes_b must be a number >= 0, got '-1'"),
        ("x.png,y.png,deep/z.png,nan,1", "line 3: votes_a must be a number"),
        ("x.png,y.png,deep/z.png,0,0", "line 3: votes_a and votes_b are both 0"),
    ],
)
def test_a_wrong_row_is_told_with_file_and_line(triplets, row, told):
    (triplets / "bad.csv").write_text(HEADER + "x.png,y.png,deep/z.png,1,0\n" + row + "\n")
    with pytest.raises(DataError, match="bad.csv, " + told):
        read_judgments(triplets, split="bad")


def test_a_missing_column_an_empty_table_and_broken_text_are_told(triplets):
    (triplets / "short.csv").write_text("reference,a,b,votes_a\n")
    with pytest.raises(DataError, match="short.csv, line 1: no column votes_b"):
        read_judgments(triplets, split="short")
    (triplets / "none.csv").write_text(HEADER)
    with pytest.raises(DataError, match="holds no judgment in the split none"):
        read_judgments(triplets, split="none")
    (triplets / "latin.csv").write_bytes(HEADER.encode() + b"\xe9.png,x.png,y.png,1,1\n")
    with pytest.raises(DataError, match="can't be read"):
        read_judgments(triplets, split="latin")


@pytest.mark.parametrize("split", ["val", "../train", ""])
def test_an_absent_split_names_those_there_are(triplets, split):
    with pytest.raises(DataError, match="there are test, train"):
        read_judgments(triplets, split=split)


def test_forced_choices_of_bapps_are_shares_of_one_vote(bapps):
    judgments = read_judgments(bapps / "2afc", split="val")
    assert isinstance(judgments, Triplets)
    assert len(judgments) == 4
    np.testing.assert_allclose(judgments.votes_b_N, [0, 0.2, 0.4, 0.6], atol=1e-7)  # judge is the share for p1
    np.testing.assert_allclose(judgments.votes_a_N + judgments.votes_b_N, 1)
    assert ids_of(judgments, judgments.reference_N)[0] == "cnn/ref/000000.png"
    assert ids_of(judgments, judgments.a_N)[-1] == "traditional/p0/000001.png"
    assert ids_of(judgments, judgments.b_N)[-1] == "traditional/p1/000001.png"
    assert len(set(judgments.group_N.tolist())) == 4


def test_a_split_of_bapps_may_name_one_subset(bapps):
    judgments = read_judgments(bapps / "2afc", split="val/traditional")
    np.testing.assert_allclose(judgments.votes_b_N, [0.4, 0.6], atol=1e-7)
    with pytest.raises(DataError, match="there are train, train/mix, val, val/cnn, val/traditional"):
        read_judgments(bapps / "2afc", split="test")


def test_noticeable_differences_of_bapps_are_shares_of_same(bapps):
    judgments = read_judgments(bapps / "jnd", split="val/cnn")
    assert isinstance(judgments, Pairs)
    assert judgments.kind == "pairs"
    assert len(judgments) == 2
    np.testing.assert_allclose(judgments.same_share_N, [0, 0.2], atol=1e-7)
    assert ids_of(judgments, judgments.first_N) == ["p0/000000.png", "p0/000001.png"]
    assert ids_of(judgments, judgments.second_N) == ["p1/000000.png", "p1/000001.png"]


def test_an_image_or_an_answer_too_few_is_told(bapps):
    (bapps / "2afc/val/cnn/p1/000001.png").unlink()
    with pytest.raises(DataError, match="000001 is not in both p1/ and judge/"):
        read_judgments(bapps / "2afc", split="val")
    (bapps / "jnd/val/cnn/same/000000.npy").unlink()
    with pytest.raises(DataError, match="000000 is not in both p0/ and same/"):
        read_judgments(bapps / "jnd", split="val")


@pytest.mark.parametrize("answer", [np.array([1.5]), np.array([np.nan]), np.array([0.1, 0.2]), np.array(["x"])])
def test_an_answer_that_is_no_share_is_told_with_its_file(bapps, answer):
    np.save(bapps / "2afc/val/cnn/judge/000001.npy", answer)
    with pytest.raises(DataError, match="judge/000001.npy"):
        read_judgments(bapps / "2afc", split="val")


def test_an_answer_that_would_run_code_is_refused(bapps):
    np.save(bapps / "2afc/val/cnn/judge/000001.npy", np.array([{}], object), allow_pickle=True)
    with pytest.raises(DataError, match="judge/000001.npy is not an array of numbers"):
        read_judgments(bapps / "2afc", split="val")


def test_tid2013_is_read_without_regard_to_case(tid2013):
    judgments = read_judgments(tid2013, split="all")
    assert isinstance(judgments, Ratings)
    assert judgments.kind == "ratings"
    assert len(judgments) == 20
    assert len(judgments.image_paths) == 30
    assert len(set(judgments.group_N.tolist())) == 10
    names = [name.lower() for name in ids_of(judgments, judgments.distorted_N)]
    assert names[:2] == ["distorted_images/i01_01_1.bmp", "distorted_images/i01_01_2.bmp"]
    assert judgments.score_N[:2].tolist() == [0.75, 0.5]
    assert ids_of(judgments, judgments.reference_N)[-1] == "reference_images/i10.BMP"


def test_ratings_are_divided_by_reference_and_the_same_way_each_time(tid2013, tmp_path_factory):
    moved = tmp_path_factory.mktemp("elsewhere") / "tid"
    shutil.copytree(tid2013, moved)
    references = {}
    for split in ("train", "test"):
        judgments = read_judgments(tid2013, split=split)
        references[split] = {judgments.image_paths[index].name for index in judgments.reference_N}
        assert fingerprint(judgments) == fingerprint(read_judgments(moved, split=split))
    assert (len(references["train"]), len(references["test"])) == (8, 2)
    assert not references["train"] & references["test"]
    with pytest.raises(DataError, match="there are train, test, all"):
        read_judgments(tid2013, split="val")


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("high I01_01_1.bmp", "line 21: the score must be a number"),
        ("5.5", "line 21: expected a score and a name"),
        ("5.5 I99_01_1.bmp", "line 21: there is no image I99.bmp"),
        ("5.5 I01_09_9.bmp", "line 21: there is no image I01_09_9.bmp"),
    ],
)
def test_a_wrong_line_of_tid2013_is_told(tid2013, line, told):
    with (tid2013 / "mos_with_names.txt").open("a") as file:
        file.write(line + "\n")
    with pytest.raises(DataError, match=told):
        read_judgments(tid2013, split="all")


def test_kadid_scores_grow_with_quality_as_its_file_has_them(kadid):
    judgments = read_judgments(kadid, split="all")
    assert isinstance(judgments, Ratings)
    assert judgments.score_N.tolist() == [4.57, 1.2]
    assert ids_of(judgments, judgments.reference_N) == ["I01.png", "I02.png"]
    assert ids_of(judgments, judgments.distorted_N) == ["I01_01_01.png", "I02_01_05.png"]
    assert [len(read_judgments(kadid, split=split)) for split in ("train", "test")] == [1, 1]


@pytest.mark.parametrize("layout", ["triplets", "tid2013", "kadid"])
def test_auto_finds_the_layout_that_is_there(layout, request):
    folder = request.getfixturevalue(layout)
    assert find_layout(folder) == layout
    split = "train"
    assert fingerprint(read_judgments(folder, split=split)) == fingerprint(
        read_judgments(folder, layout=layout, split=split)
    )


def test_auto_tells_the_two_halves_of_bapps_apart(bapps):
    assert (find_layout(bapps / "2afc"), find_layout(bapps / "jnd")) == ("2afc", "jnd")
    with pytest.raises(DataError, match="none of the layouts 2afc") as told:
        find_layout(bapps)
    assert "2afc or jnd" in told.value.hint


def test_what_is_no_folder_or_no_layout_is_refused(tmp_path):
    with pytest.raises(DataError, match="is not a folder"):
        read_judgments(tmp_path / "gone", split="train")
    with pytest.raises(DataError, match="none of the layouts"):
        read_judgments(tmp_path, split="train")
    with pytest.raises(ValueError, match="layout must be auto or one of"):
        read_judgments(tmp_path, layout="bapps", split="train")


@pytest.mark.parametrize(
    ("layout", "absent"),
    [("2afc", "SPLIT/SUBSET/judge"), ("jnd", "SPLIT/SUBSET/same"), ("triplets", "images"),
     ("tid2013", "distorted_images"), ("kadid", "dmos.csv")],
)  # fmt: skip
def test_a_folder_of_another_layout_is_told_what_it_lacks(tmp_path, layout, absent):
    for name in {"tid2013": ["reference_images"], "kadid": ["images"]}.get(layout, []):
        (tmp_path / name).mkdir()
    with pytest.raises(DataError, match=f"{tmp_path} has no {absent}: it is not laid out as {layout}$"):
        read_judgments(tmp_path, layout=layout, split="train")


def test_the_options_offer_every_layout_that_is_read():
    assert sorted(stage_configs.LAYOUTS) == sorted(["jnd", *TRIPLET_LAYOUTS, *RATING_LAYOUTS])


def test_the_fingerprint_changes_with_a_vote_a_name_and_a_pixel(triplets):
    def now():
        return fingerprint(read_judgments(triplets, split="test"))

    seen = [now()]
    (triplets / "test.csv").write_text(HEADER + "x.png,y.png,deep/z.png,1,2\n")
    seen.append(now())
    (triplets / "images/y.png").rename(triplets / "images/w.png")
    (triplets / "test.csv").write_text(HEADER + "x.png,w.png,deep/z.png,1,2\n")
    seen.append(now())
    put(triplets, "images/w.png", shade=99)
    seen.append(now())
    assert len(set(seen)) == 4
    assert now() == seen[-1]


def test_images_keep_their_own_size_and_are_not_cropped(tmp_path):
    rng = np.random.default_rng(0)
    image_NHWC = rng.integers(0, 256, (2, 5, 9, 3), np.uint8)
    paths = [tmp_path / "a.png", tmp_path / "b.bmp"]
    for path, image_HWC in zip(paths, image_NHWC, strict=True):
        Image.fromarray(image_HWC).save(path)
    loaded_NHWC = load_images(paths, image_size=None)
    assert loaded_NHWC.dtype == np.uint8
    np.testing.assert_array_equal(loaded_NHWC, image_NHWC)
    assert load_images(paths, image_size=4).shape == (2, 4, 4, 3)


def test_an_image_of_its_own_size_is_laid_upright(tmp_path):
    image_HWC = np.random.default_rng(0).integers(0, 256, (4, 7, 3), np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise
    Image.fromarray(image_HWC).save(tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(load_images([tmp_path / "a.png"], image_size=None)[0], np.rot90(image_HWC, -1))


def test_images_of_two_sizes_need_one_to_be_chosen(tmp_path):
    put(tmp_path, "a.png")
    put(tmp_path, "b.png", size=(8, 6))
    paths = [tmp_path / "a.png", tmp_path / "b.png"]
    with pytest.raises(DataError, match=r"b.png has 8 x 6 pixels, .*a.png 6 x 6") as told:
        load_images(paths, image_size=None)
    assert "--image-size" in told.value.hint
    assert load_images(paths, image_size=16).shape == (2, 16, 16, 3)


@pytest.mark.parametrize("image_size", [None, 8])
def test_a_broken_image_is_told_with_its_path(tmp_path, image_size):
    put(tmp_path, "a.png")
    (tmp_path / "b.png").write_bytes((tmp_path / "a.png").read_bytes()[:40])
    with pytest.raises(DataError, match="b.png: "):
        load_images([tmp_path / "a.png", tmp_path / "b.png"], image_size=image_size)
    with pytest.raises(ValueError, match="at least one image"):
        load_images([], image_size=image_size)

"""Listing: what counts as an image, in which order, under which safe name."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pretext.datasets.listing import escape_name, list_level, list_tree


def touch(folder, *names):
    for name in names:
        path = Path(folder, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")


def test_a_level_is_sorted_by_kind(tmp_path):
    touch(
        tmp_path, "b.JPG", "a.png", "Z.TiFf", "notes.txt", ".hidden.png", "png", "sub/x.png", ".git/x", "__MACOSX/y.png"
    )
    (tmp_path / "folder.png").mkdir()
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "dangling.png").symlink_to(tmp_path / "nowhere")
    (tmp_path / "dangling.txt").symlink_to(tmp_path / "nowhere")
    (tmp_path / "linked").symlink_to(tmp_path / "sub")
    level = list_level(str(tmp_path))
    assert level.folders == ["folder.png", "sub"]
    assert level.images == ["Z.TiFf", "a.png", "b.JPG", "dangling.png"]
    assert level.linked_folders == ["linked"]
    assert level.num_ignored == 7


def test_a_tree_is_listed_at_any_depth_in_order_of_code_points(tmp_path):
    touch(tmp_path, "b.png", "B.png", "\u00e9.png", "a/z.png", "a-b.png", "a/b/c/d.gif", "a/b/readme")
    (tmp_path / "a" / "loop").symlink_to(tmp_path)
    listing = list_tree(str(tmp_path))
    assert listing.images == ["B.png", "a-b.png", "a/b/c/d.gif", "a/loop", "a/z.png", "b.png", "\u00e9.png"]
    assert listing.num_ignored == 1


def test_an_absent_folder_raises(tmp_path):
    with pytest.raises(OSError, match="nowhere"):
        list_tree(str(tmp_path / "nowhere"))


@pytest.mark.parametrize(
    ("name", "escaped"),
    [
        ("cats/Tom 1.png", "cats/Tom 1.png"),
        ("\u00e9t\u00e9/\u732b.png", "\u00e9t\u00e9/\u732b.png"),
        ("a\nb", r"a\x0ab"),
        ("\x7f\x85", r"\x7f\x85"),
        ("back\\slash", r"back\\slash"),
        (os.fsdecode(b"\xff\x85"), r"\udcff\udc85"),
        ("\u202etxt.gnp", r"\u202etxt.gnp"),
    ],
)
def test_names_are_escaped(name, escaped):
    assert escape_name(name) == escaped


NAMES = st.binary(min_size=1, max_size=8).map(os.fsdecode)
TRICKY = st.text(st.sampled_from("\\xuudc0a85f\n\x85\udc85\udcff\u2028"), min_size=1, max_size=8)


@given(first=NAMES | TRICKY, second=NAMES | TRICKY)
def test_escaped_names_are_unique_and_storable(first, second):
    assert (escape_name(first) == escape_name(second)) == (first == second)
    escaped = escape_name(first)
    assert escaped.encode("utf-8").decode() == escaped
    assert not any(ord(char) < 32 for char in escaped)

"""Rows, look-up, and targets that are imported late."""

import sys

import pytest

from pretext.errors import UnknownVariantError
from pretext.registry import Registry, Variant

FRUIT = Registry(
    "fruit",
    Variant(name="apple", target="json:loads", summary="round", reads={"size": 3, "peel": None}),
    Variant(name="banana", target="xml.dom.minidom:parseString", summary="long", reads={"size": 7}),
)


def test_it_is_an_ordered_read_only_mapping():
    assert list(FRUIT) == ["apple", "banana"]
    assert len(FRUIT) == 2
    assert FRUIT["banana"].summary == "long"
    assert [row.name for row in FRUIT.values()] == ["apple", "banana"]
    with pytest.raises(TypeError):
        FRUIT["cherry"] = FRUIT["apple"]
    with pytest.raises(AttributeError):
        FRUIT["apple"].name = "pear"


def test_membership_is_a_question_not_an_error():
    assert "apple" in FRUIT
    assert "appel" not in FRUIT
    assert 3 not in FRUIT


def test_an_unknown_name_is_told_with_the_nearest_one_and_the_list_command():
    with pytest.raises(UnknownVariantError, match=r"^fruit 'appel' is unknown; did you mean 'apple'\?$") as caught:
        FRUIT["appel"]
    assert caught.value.hint == "pretext list fruit shows them all"
    assert caught.value.exit_code == 3


def test_an_unknown_name_like_no_other_is_told_with_all_there_are():
    with pytest.raises(UnknownVariantError, match=r"fruit 'xyz' is unknown; there are: apple, banana\."):
        FRUIT["xyz"]


def test_two_rows_of_one_name_are_refused():
    with pytest.raises(ValueError, match="two rows of axis fruit have the same name"):
        Registry("fruit", FRUIT["apple"], FRUIT["apple"])


def test_targets_are_imported_on_load_and_not_before(monkeypatch):
    monkeypatch.delitem(sys.modules, "xml.dom.minidom", raising=False)
    assert FRUIT["banana"].reads == {"size": 7}
    assert "xml.dom.minidom" not in sys.modules
    build = FRUIT["banana"].load()
    assert build is sys.modules["xml.dom.minidom"].parseString


def test_a_target_that_is_not_there_says_so():
    with pytest.raises(AttributeError, match="no_such_thing"):
        Variant(name="x", target="json:no_such_thing", summary="").load()


def test_options_are_the_given_values_else_the_rows_defaults():
    row = FRUIT["apple"]
    assert row.options({}) == {"size": 3, "peel": None}
    assert row.options({"size": None, "peel": "thin", "colour": "red"}) == {"size": 3, "peel": "thin"}
    assert row.options({"size": 0}) == {"size": 0, "peel": None}, "a given 0 is not an absent one"


def test_readers_of_an_option():
    assert FRUIT.readers_of("size") == ["apple", "banana"]
    assert FRUIT.readers_of("peel") == ["apple"]
    assert FRUIT.readers_of("stone") == []

"""Defaults, study file and flags become one checked config, or one error that names every problem."""

from dataclasses import dataclass, fields
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pretext.config import flag_name, identity, option, plain, read_study, resolve
from pretext.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """A config with a field of every kind."""

    dish: str = option("soup", "What.", panel="Food", choices=("soup", "salad", "stew"), positional=True)
    salt: float = option(0.5, "Salt, g.", panel="Food", minimum=0, maximum=0.9)
    litres: int = option(2, "Water, l.", panel="Food", minimum=1, maximum=2**31 - 1)
    heat: float = option(1.0, "Heat.", panel="Food", above=0)
    spices: tuple[str, ...] = option((), "Spices.", panel="Food", choices=("mint", "dill", "sage"))
    minutes: tuple[int, ...] | None = option(None, "Minutes.", panel="Food", minimum=1)
    weights: tuple[float, ...] | None = option(None, "Grams.", panel="Food", above=0)
    name: str | None = option(None, "Name.", panel="Out", flag="--called")
    vegan: bool = option(False, "No animals.", panel="Food")
    spicy: bool | None = option(None, "Hot.", panel="Food")
    out_dir: Path = option(Path("out"), "Folder.", panel="Out", identity=False)
    croutons: int = option(3, "Croutons.", panel="Food", only_with=("dish", "salad"))
    chili: int = option(1, "Chilis.", panel="Food", only_with=("spicy", True))
    cream: float = option(0.0, "Cream, l.", panel="Food", only_with=("vegan", False))
    stir: bool = option(False, "Stir.", panel="Food", only_with=("minutes", "given"))
    cook: str = option(None, "Who.", panel="Food", required=True)


def problems_of(given, study=None):
    with pytest.raises(ConfigError) as caught:
        resolve(Recipe, given, study)
    return caught.value.problems


def cooked(**given):
    return resolve(Recipe, {"cook": "me", **given})[0]


class TestMerging:
    def test_defaults_then_study_then_flags(self):
        study = {"cook": "Ann", "litres": 3, "salt": 0.1}
        config, explicit = resolve(Recipe, {"salt": 0.2, "dish": None, "litres": None}, study)
        assert (config.dish, config.litres, config.salt, config.cook) == ("soup", 3, 0.2, "Ann")
        assert explicit == {"cook", "litres", "salt"}

    def test_a_flag_wins_over_a_study_value_that_is_wrong(self):
        config, _ = resolve(Recipe, {"cook": "me", "litres": 4}, {"litres": "many"})
        assert config.litres == 4

    def test_given_as_the_default_is_still_given(self):
        assert resolve(Recipe, {"cook": "me", "litres": 2})[1] == {"cook", "litres"}

    def test_what_is_required_is_missed_by_its_flag(self):
        assert problems_of({}) == ["--cook is missing"]

    def test_what_is_required_and_wrong_is_one_problem(self):
        assert problems_of({"cook": 7}) == ["--cook must be text, got 7"]

    def test_a_false_or_zero_flag_is_given(self):
        config, explicit = resolve(Recipe, {"cook": "me", "vegan": False, "salt": 0}, {"vegan": True, "salt": 0.3})
        assert (config.vegan, config.salt) == (False, 0.0)
        assert explicit == {"cook", "vegan", "salt"}


class TestProblems:
    def test_every_problem_is_told_at_once(self):
        found = problems_of(
            {"litres": 0, "salt": 2.0, "dish": "stw", "name": 5}, {"heat": 0, "sprices": [], "minutes": [3, 0]}
        )
        assert found == [
            "unknown key 'sprices'; did you mean 'spices'?",
            "--heat must be greater than 0, got 0.0",
            "--minutes must be at least 1, got 0",
            "--litres must be at least 1, got 0",
            "--salt must be at most 0.9, got 2.0",
            "DISH must be one of soup, salad, stew, got 'stw'; did you mean 'stew'?",
            "--called must be text, got 5",
            "--cook is missing",
        ]

    def test_the_error_reads_as_one_line_and_has_the_exit_code_of_its_kind(self):
        with pytest.raises(ConfigError, match="--litres must be at least 1, got 0; --cook is missing") as caught:
            resolve(Recipe, {"litres": 0})
        assert caught.value.exit_code == 3

    def test_an_unknown_key_like_no_other_gets_no_guess(self):
        assert problems_of({"cook": "me"}, {"zzz": 1}) == ["unknown key 'zzz'"]

    @pytest.mark.parametrize(
        ("given", "line"),
        [
            ({"litres": 2**31}, "--litres must be at most 2147483647, got 2147483648"),
            ({"salt": 0.9000001}, "--salt must be at most 0.9, got 0.9000001"),
            ({"salt": -1e-9}, "--salt must be at least 0, got -1e-09"),
            ({"litres": 10**400}, f"--litres must be at most 2147483647, got {10**400}"),
        ],
    )
    def test_bounds_are_told_in_full_so_that_near_misses_do_not_look_equal(self, given, line):
        assert problems_of({"cook": "me", **given}) == [line]

    def test_every_item_of_a_list_is_checked(self):
        assert problems_of({"cook": "me", "spices": "mint,dil"}) == [
            "--spices must be one of mint, dill, sage, got 'dil'; did you mean 'dill'?"
        ]
        assert problems_of({"cook": "me", "weights": "1,0.0"}) == ["--weights must be greater than 0, got 0.0"]


class TestOnlyWith:
    @pytest.mark.parametrize(
        ("given", "line"),
        [
            ({"croutons": 2}, "--croutons is read only with DISH salad"),
            ({"croutons": 3, "dish": "stew"}, "--croutons is read only with DISH salad"),
            ({"chili": 2}, "--chili is read only with --spicy"),
            ({"chili": 2, "spicy": False}, "--chili is read only with --spicy"),
            ({"cream": 0.1, "vegan": True}, "--cream is read only without --vegan"),
            ({"stir": True}, "--stir is read only with --minutes"),
        ],
    )
    def test_an_option_that_the_others_leave_unread_is_an_error(self, given, line):
        assert problems_of({"cook": "me", **given}) == [line]
        name, value = next(iter(given.items()))
        assert problems_of({"cook": "me", **given, name: None}, {name: value}) == [line], "from a study file too"

    def test_all_of_them_are_told(self):
        found = problems_of({"cook": "me", "stir": True, "croutons": 1})
        assert found == ["--croutons is read only with DISH salad", "--stir is read only with --minutes"]

    def test_read_they_are_taken(self):
        config = cooked(croutons=2, dish="salad", chili=2, spicy=True, cream=0.1, stir=True, minutes="5")
        assert (config.croutons, config.chili, config.cream, config.stir) == (2, 2, 0.1, True)

    def test_what_was_not_given_is_no_error(self):
        assert cooked(dish="stew", vegan=True).croutons == 3


class TestCoercion:
    @pytest.mark.parametrize(
        ("name", "value", "want"),
        [
            ("litres", "7", 7), ("litres", 7.0, 7), ("litres", " 7 ", 7),
            ("salt", "1e-3", 1e-3), ("salt", 0, 0.0),
            ("spices", "mint, dill", ("mint", "dill")), ("spices", ["sage"], ("sage",)), ("spices", "sage", ("sage",)),
            ("minutes", "1,2,4", (1, 2, 4)), ("minutes", [1, 2.0], (1, 2)), ("minutes", 5, (5,)),
            ("weights", "0.5,2", (0.5, 2.0)), ("weights", (1, 2), (1.0, 2.0)),
            ("vegan", True, True), ("spicy", False, False),
            ("out_dir", "a/b", Path("a/b")), ("out_dir", Path("c"), Path("c")),
            ("name", "x", "x"),
        ],
    )  # fmt: skip
    def test_values_become_the_fields_type(self, name, value, want):
        found = getattr(cooked(**{name: value}), name)
        assert found == want
        assert type(found) is type(want)
        if isinstance(want, tuple):
            assert [type(item) for item in found] == [type(item) for item in want]

    @pytest.mark.parametrize(
        ("given", "line"),
        [
            ({"litres": 1.5}, "--litres must be a whole number, got 1.5"),
            ({"litres": "1.0"}, "--litres must be a whole number, got '1.0'"),
            ({"litres": True}, "--litres must be a whole number, got True"),
            ({"litres": float("nan")}, "--litres must be a whole number, got nan"),
            ({"litres": float("inf")}, "--litres must be a whole number, got inf"),
            ({"litres": [3]}, "--litres must be a whole number, got [3]"),
            ({"salt": "nan"}, "--salt must be a finite number, got 'nan'"),
            ({"salt": float("inf")}, "--salt must be a finite number, got inf"),
            ({"salt": "-inf"}, "--salt must be a finite number, got '-inf'"),
            ({"salt": False}, "--salt must be a finite number, got False"),
            ({"salt": "salty"}, "--salt must be a finite number, got 'salty'"),
            ({"salt": 10**400}, f"--salt must be a finite number, got {10**400}"),
            ({"vegan": "true"}, "--vegan must be true or false, got 'true'"),
            ({"vegan": 1}, "--vegan must be true or false, got 1"),
            ({"spicy": "no"}, "--spicy must be true or false, got 'no'"),
            ({"minutes": "1,,2"}, "--minutes must be a list such as 1,2,4, each a whole number, got '1,,2'"),
            ({"minutes": [1, "b"]}, "--minutes must be a list such as 1,2,4, each a whole number, got [1, 'b']"),
            ({"weights": {"a": 1}}, "--weights must be a list such as 1,2,4, each a finite number, got {'a': 1}"),
            ({"out_dir": 5}, "--out-dir must be a path, got 5"),
            ({"out_dir": "~no-such-user-here/x"}, "--out-dir must be a path, got '~no-such-user-here/x'"),
            ({"dish": 3}, "DISH must be text, got 3"),
        ],
    )
    def test_what_does_not_fit_is_refused_with_the_value_and_the_flag(self, given, line):
        assert problems_of({"cook": "me", **given}) == [line]

    def test_a_home_folder_is_expanded(self, monkeypatch):
        monkeypatch.setenv("HOME", "/home/someone")
        assert cooked(out_dir="~/runs").out_dir == Path("/home/someone/runs")

    @given(
        value=st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
        | st.lists(st.integers(), max_size=3) | st.dictionaries(st.text(max_size=2), st.integers(), max_size=2)
    )  # fmt: skip
    @settings(deadline=None)
    def test_any_value_is_taken_or_refused_in_words(self, value):
        for field in fields(Recipe):
            problems = []
            try:
                config, _ = resolve(Recipe, {"cook": "me"}, {field.name: value} if value is not None else None)
            except ConfigError as error:
                problems = error.problems
            assert all(line.startswith(flag_name(field)) for line in problems)
            assert problems or (0 <= config.salt <= 0.9 and config.heat > 0 and 1 <= config.litres < 2**31)


class TestStudyFile:
    SECTIONS = ("pretrain", "fine-tune")

    def read(self, tmp_path, text, section="pretrain"):
        path = tmp_path / "study.toml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return read_study(path, section, self.SECTIONS)

    def test_one_table_is_read_and_hyphens_are_underscores(self, tmp_path):
        text = "[pretrain]\nlatent-dim = 8\nbatch_size = 4\n[fine-tune]\nlr = 0.1\n"
        assert self.read(tmp_path, text) == {"latent_dim": 8, "batch_size": 4}
        assert self.read(tmp_path, text, "fine-tune") == {"lr": 0.1}

    def test_a_table_that_is_not_there_gives_nothing(self, tmp_path):
        assert self.read(tmp_path, "[fine-tune]\nlr = 0.1\n") == {}
        assert self.read(tmp_path, "") == {}

    def test_one_key_in_both_spellings_is_refused_not_dropped(self, tmp_path):
        with pytest.raises(ConfigError, match=r"study\.toml: table \[pretrain\] gives 'latent-dim' twice"):
            self.read(tmp_path, "[pretrain]\nlatent-dim = 8\nlatent_dim = 9\n")

    def test_an_unknown_table_is_told_with_the_nearest(self, tmp_path):
        with pytest.raises(ConfigError, match=r"unknown table \[pretrian\]; did you mean \[pretrain\]\?"):
            self.read(tmp_path, "[pretrian]\nlr = 1\n")

    def test_an_unknown_table_like_no_other_is_told_with_all_there_are(self, tmp_path):
        with pytest.raises(ConfigError, match=r"unknown table \[xyz\]; tables are pretrain, fine-tune"):
            self.read(tmp_path, "[xyz]\n")

    def test_a_key_outside_of_a_table_is_refused(self, tmp_path):
        with pytest.raises(ConfigError, match=r"unknown table \[epochs\]"):
            self.read(tmp_path, "epochs = 3\n")

    def test_a_table_that_is_a_value_is_refused(self, tmp_path):
        with pytest.raises(ConfigError, match=r"'pretrain' must be a table, got 3"):
            self.read(tmp_path, "pretrain = 3\n")

    @pytest.mark.parametrize("text", ["[pretrain\n", "[pretrain]\na = \n", "[pretrain]\na = 1\na = 2\n", b"\xff\xfe"])
    def test_broken_toml_is_told_with_the_file(self, tmp_path, text):
        with pytest.raises(ConfigError, match=r"study file .*study\.toml is not valid TOML: "):
            self.read(tmp_path, text)

    def test_a_missing_file_is_told(self, tmp_path):
        with pytest.raises(ConfigError, match=r"study file .*none\.toml can't be read: No such file"):
            read_study(tmp_path / "none.toml", "pretrain", self.SECTIONS)

    def test_a_folder_is_told(self, tmp_path):
        with pytest.raises(ConfigError, match="can't be read: Is a directory"):
            read_study(tmp_path, "pretrain", self.SECTIONS)


def test_flag_names():
    names = {field.name: flag_name(field) for field in fields(Recipe)}
    assert names["dish"] == "DISH"
    assert names["out_dir"] == "--out-dir"
    assert names["name"] == "--called"


def test_identity_leaves_out_what_does_not_change_the_output():
    facts = identity(cooked(spices="mint,sage", out_dir="elsewhere"))
    assert "out_dir" not in facts
    assert facts["spices"] == ["mint", "sage"]
    assert facts == identity(cooked(spices="mint,sage", out_dir="here"))
    assert set(facts) == {field.name for field in fields(Recipe)} - {"out_dir"}


def test_plain_values_are_those_json_knows():
    assert plain((Path("a/b"), (1, 2.5), "x", None, True)) == ["a/b", [1, 2.5], "x", None, True]

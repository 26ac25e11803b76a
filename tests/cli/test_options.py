"""From typed words to the exact call of one stage."""

import dataclasses
import types
import typing
from pathlib import Path

import pytest
import typer

from pretext.cli.app import STAGES, app
from pretext.cli.progress import PlainLines
from pretext.progress import Silent
from pretext.stage_configs import (
    BenchConfig,
    ExportConfig,
    ExtractFeaturesConfig,
    FineTuneConfig,
    PrepareDataConfig,
    PretrainConfig,
    ProbeConfig,
    ReportConfig,
)

SHARED = ("--overwrite", "--dry-run", "--study", "--json", "--quiet", "--debug")
# The command line is an interface: a change here is a decision, and breaks somebody's Makefile.
JUDGMENTS = (
    "JUDGMENTS", "--layout", "--image-size", "--split", "--network", "--network-weights", "--layer", "--normalize",
    "--seed", "--weights-dir", "--offline", "--batch-size", "--device", "--runs-dir", "--out", *SHARED,
)  # fmt: skip
OPTIONS = {
    "prepare-data": (
        "SOURCE", "PATH", "--root", "--name", "--image-size", "--limit", "--num-unlabeled", "--num-train", "--num-test",
        "--max-rejected", "--seed", "--color-space", "--target-size", "--target-border", "--lab-dtype", "--offline", "--workers", "--shard-mb", "--data-dir", *SHARED,
    ),
    "pretrain": (
        "--data", "--data-dir", "--split", "--val-fraction", "--objective", "--loss", "--sigma", "--truncate",
        "--padding", "--residual", "--rebalance", "--loss-network", "--loss-network-weights", "--layer", "--layer-weights",
        "--normalize", "--channel-weights", "--quality", "--quality-weight", "--pixel-loss", "--pixel-weight", "--features",
        "--weights-dir", "--offline", "--color-space", "--target-size", "--noise", "--noise-level",
        "--encoder", "--width", "--latent-dim", "--stem", "--init-from",
        "--epochs", "--batch-size", "--accumulate", "--optimizer", "--lr", "--weight-decay", "--schedule",
        "--gamma", "--warmup-epochs", "--grad-clip", "--patience", "--on-nan", "--augment", "--seed", "--device", "--precision",
        "--runs-dir", "--out", "--keep", "--save-every", "--log-every", *SHARED,
    ),
    "extract-features": (
        "RUN", "--data", "--data-dir", "--splits", "--network", "--network-weights", "--normalize", "--seed",
        "--weights-dir", "--offline", "--raw-pixels", "--pixel-size", "--layer", "--pool", "--max-features",
        "--batch-size",
        "--device", "--precision", "--runs-dir", *SHARED,
    ),
    "probe": (
        "RUN", "--layer", "--kind", "--folds", "--k", "--fold-seed", "--strengths", "--neighbours", "--epochs", "--lr",
        "--patience", "--labels-per-class", "--draws", "--unstratified", "--seed", "--device", *SHARED,
    ),
    "fine-tune": (
        "RUN", "--data", "--data-dir", "--protocol", "--folds", "--k", "--fold-seed", "--head", "--labels-per-class",
        "--draws", "--unstratified", "--augment", "--epochs", "--batch-size", "--lr", "--weight-decay", "--schedule",
        "--warmup-epochs", "--grad-clip", "--patience", "--seed", "--device", "--precision", "--save-every", *SHARED,
    ),
    "fit-metric": (*JUDGMENTS, "--strengths", "--k"),
    "score-metric": (*JUDGMENTS, "--metric", "--sigma", "--layer-weights", "--channel-weights"),
    "report": ("RUNS", "--title", "--out", *SHARED),
    "export": ("RUN", "--format", "--out", *SHARED),
    "bench": ("PARTS", "--device", "--out", *SHARED),
    "list": ("AXIS", "--json"),
    "inspect": ("PATH", "--json", "--verify"),
}  # fmt: skip
CONFIGS = {name: config_class for name, config_class, *_ in STAGES}


def options_of(command):
    names = []
    for parameter in command.params:
        names += parameter.opts if parameter.param_type_name == "option" else [parameter.name.upper()]
    return tuple(names)


def test_the_options_of_every_command_are_these():
    commands = typer.main.get_command(app).commands
    found = {name: sorted(options_of(command)) for name, command in commands.items()}
    assert found == {name: sorted(options) for name, options in OPTIONS.items()}


def a_value(field, hint):
    """A legal value of a field, other than its default, and the words that give it."""
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        hint = next(argument for argument in typing.get_args(hint) if argument is not type(None))
    if hint is bool:
        return True, None
    if typing.get_origin(hint) is tuple:
        item, _ = a_value(field, typing.get_args(hint)[0])
        return (item, item), ([str(item)] * 2 if field.metadata["positional"] else [f"{item},{item}"])
    if field.metadata["choices"]:
        value = next(choice for choice in reversed(field.metadata["choices"]) if choice != field.default)
    elif hint is str:
        value = f"some {field.name}"
    elif hint is Path:
        value = Path(f"some/{field.name}")
    else:
        least = field.metadata["minimum"] if field.metadata["minimum"] is not None else field.metadata["above"]
        value = hint((least or 0) + (hint(0.25) or 7))
    return value, [str(value)]


def typed(field, value, words):
    """The words that give a field its value."""
    return words if field.metadata["positional"] else ["--" + field.name.replace("_", "-"), *(words or [])]


@pytest.mark.parametrize("command", CONFIGS)
def test_every_option_reaches_its_field(run_cli, stages, command):
    config_class = CONFIGS[command]
    hints = typing.get_type_hints(config_class)
    fields = {field.name: field for field in dataclasses.fields(config_class)}
    for field in fields.values():
        chosen = {field.name: a_value(field, hints[field.name])}
        other, needed = field.metadata["only_with"] or (None, None)
        if needed == "given":
            chosen[other] = a_value(fields[other], hints[other])
        elif other is not None and needed != fields[other].default:
            chosen[other] = (needed, None if needed is True else [str(needed)])
        for name in [name for name in fields if fields[name].metadata["positional"]]:
            # An argument can't be given without those before it; one that is required must be.
            if fields[name].metadata["required"] or (field.metadata["positional"] and name != field.name):
                chosen.setdefault(name, a_value(fields[name], hints[name]))
        in_order = sorted(chosen.items(), key=lambda item: list(fields).index(item[0]))
        words = [word for name, (value, words) in in_order for word in typed(fields[name], value, words)]
        outcome = run_cli(command, *words, "--quiet")
        assert (outcome.code, outcome.err) == (0, ""), words
        ((config,), keywords) = stages[command].calls.pop()
        wanted = {name: value for name, (value, _) in chosen.items()}
        assert config == config_class(**wanted), words
        assert keywords["explicit"] == set(wanted)
        assert wanted[field.name] != field.default
    assert not any(stage.calls for stage in stages.values())


@pytest.mark.parametrize(
    ("words", "want"),
    [
        ("prepare-data", PrepareDataConfig()),
        ("prepare-data stl10 --root downloads", PrepareDataConfig(source="stl10", root=Path("downloads"))),
        ("prepare-data folder my/images --offline",
         PrepareDataConfig(source="folder", path=Path("my/images"), offline=True)),
        ("pretrain --loss pse --sigma 4", PretrainConfig(loss="pse", sigma=4.0)),
        ("pretrain --lr=1e-2 --epochs 3", PretrainConfig(lr=0.01, epochs=3)),
        ("extract-features runs/x --splits train,test",
         ExtractFeaturesConfig(run=Path("runs/x"), splits=("train", "test"))),
        ("extract-features --raw-pixels", ExtractFeaturesConfig(raw_pixels=True)),
        ("probe runs/x --labels-per-class 1,4,16 --kind knn",
         ProbeConfig(run=Path("runs/x"), labels_per_class=(1, 4, 16), kind="knn")),
        ("probe runs/x --strengths 0.1,1", ProbeConfig(run=Path("runs/x"), strengths=(0.1, 1.0))),
        ("fine-tune runs/x --protocol frozen --device cpu",
         FineTuneConfig(run=Path("runs/x"), protocol="frozen", device="cpu")),
        ("report runs", ReportConfig(runs=(Path("runs"),))),
        ("report runs/a runs/b --title Mine", ReportConfig(runs=(Path("runs/a"), Path("runs/b")), title="Mine")),
        ("bench loss train --device cpu", BenchConfig(parts=("loss", "train"), device="cpu")),
        ("export runs/x --format torch-export", ExportConfig(run=Path("runs/x"), format="torch-export")),
    ],
)  # fmt: skip
def test_words_become_one_call(run_cli, stages, words, want):
    command, *rest = words.split()
    outcome = run_cli(command, *rest)
    assert outcome.code == 0, outcome.err
    (((config,), keywords),) = stages[command].calls
    assert config == want
    given = {field.name for field in dataclasses.fields(want) if getattr(config, field.name) != field.default}
    assert keywords.keys() == {"explicit", "progress"}
    assert keywords["explicit"] == given


def test_an_option_given_as_its_default_is_given(run_cli, stages):
    run_cli("pretrain", "--sigma", "4", "--epochs", "50")
    (((config,), keywords),) = stages["pretrain"].calls
    assert keywords["explicit"] == {"sigma", "epochs"}
    assert config == PretrainConfig(sigma=4.0)


class TestStudyFile:
    TEXT = "[pretrain]\nlatent-dim = 8\nepochs = 3\nloss = 'pse'\n[report]\nruns = ['a', 'b']\n[fine-tune]\nrun = 'r'\n"

    def test_its_table_is_read_and_flags_win(self, run_cli, stages, tmp_path):
        (tmp_path / "study.toml").write_text(self.TEXT)
        assert run_cli("pretrain", "--study", "study.toml", "--epochs", "5").code == 0
        (((config,), keywords),) = stages["pretrain"].calls
        assert config == PretrainConfig(latent_dim=8, epochs=5, loss="pse")
        assert keywords["explicit"] == {"latent_dim", "epochs", "loss"}

    def test_it_may_give_what_is_positional(self, run_cli, stages, tmp_path):
        (tmp_path / "study.toml").write_text(self.TEXT)
        assert run_cli("report", "--study", "study.toml").code == 0
        assert stages["report"].calls[0][0][0].runs == (Path("a"), Path("b"))
        assert run_cli("fine-tune", "--study", "study.toml").code == 0
        assert run_cli("probe", "--study", "study.toml").err == "error: RUN is missing\n"

    def test_all_its_problems_are_told_with_those_of_the_flags(self, run_cli, stages, tmp_path):
        (tmp_path / "study.toml").write_text("[pretrain]\nepoch = 3\nlatent-dim = 'many'\n")
        outcome = run_cli("pretrain", "--study", "study.toml", "--lr", "nan", "--encoder", "cn")
        assert (outcome.code, outcome.out) == (3, "")
        assert outcome.err.splitlines() == [
            "error: unknown key 'epoch'; did you mean 'epochs'?",
            "error: --latent-dim must be a whole number, got 'many'",
            "error: --encoder must be one of cnn, resnet18, conv-k4, conv4, simplenet5, simplenet13, alexnet-fcn, resnet18-fcn, "
            "got 'cn'; did you mean 'cnn'?",
            "error: --lr must be a finite number, got nan",
        ]
        assert stages["pretrain"].calls == []

    def test_a_missing_file(self, run_cli, stages):
        outcome = run_cli("pretrain", "--study", "none.toml")
        assert (outcome.code, outcome.err) == (
            3,
            "error: study file none.toml can't be read: No such file or directory\n",
        )


class TestProgress:
    def test_lines_where_stderr_is_no_terminal(self, run_cli, stages):
        run_cli("report", "runs")
        assert isinstance(stages["report"].calls[0][1]["progress"], PlainLines)

    def test_quiet_is_silent(self, run_cli, stages):
        run_cli("report", "runs", "--quiet")
        assert isinstance(stages["report"].calls[0][1]["progress"], Silent)

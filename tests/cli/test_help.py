"""`--help`: light, complete, with the real defaults."""

import dataclasses
import subprocess
import sys

import pytest

import pretext
from pretext.cli.app import STAGES

HEAVY = ("torch", "torchvision", "pyarrow", "matplotlib", "sklearn", "skimage", "scipy", "numpy", "PIL", "safetensors")
COMMANDS = {name: config_class for name, config_class, *_ in STAGES}
PANELS = {
    "prepare-data": ["Arguments", "Data", "Output", "Colour", "Machine"],
    "pretrain": ["Data", "Objective and loss", "Encoder", "Optimisation", "Machine", "Output"],
    "extract-features": ["Arguments", "Data", "Encoder", "Machine", "Output"],
    "probe": ["Arguments", "Evaluation", "Optimisation", "Machine", "Output"],
    "fine-tune": ["Arguments", "Data", "Evaluation", "Optimisation", "Machine", "Output"],
    "fit-metric": ["Arguments", "Data", "Metric", "Machine", "Output"],
    "score-metric": ["Arguments", "Data", "Metric", "Machine", "Output"],
    "report": ["Arguments", "Output", "Machine"],
    "export": ["Arguments", "Output", "Machine"],
    "bench": ["Arguments", "Machine", "Output"],
}

LIGHT_CODE = """
import sys
from pretext.cli.app import main
commands = [["--help"], ["--version"], ["list"], ["list", "losses", "--json"], ["nonsense"],
            ["pretrain", "--epochs", "0"], ["inspect", "nowhere"],
            *([name, "--help"] for name in sys.argv[1].split(","))]
codes = []
for command in commands:
    sys.argv = ["pretext", *command]
    try:
        main()
    except SystemExit as leaving:
        codes.append(leaving.code or 0)
print(*codes)
print("loaded:", *[name for name in HEAVY if name in sys.modules])
"""


def test_help_lists_and_wrong_options_load_nothing_heavy():
    code = LIGHT_CODE.replace("HEAVY", repr(list(HEAVY)))
    result = subprocess.run([sys.executable, "-c", code, ",".join([*COMMANDS, "list", "inspect"])],
                            capture_output=True, text=True, check=True, timeout=60)  # fmt: skip
    *_, codes, loaded = result.stdout.strip().splitlines()
    assert codes.split() == ["0", "0", "0", "0", "2", "3", "4", *["0"] * (len(COMMANDS) + 2)]
    assert loaded.strip() == "loaded:"


def test_python_dash_m_is_the_command():
    result = subprocess.run([sys.executable, "-m", "pretext", "--version"], capture_output=True, text=True, timeout=60)
    assert (result.returncode, result.stdout.strip(), result.stderr) == (0, pretext.__version__, "")


def test_the_overview_names_every_command(run_cli):
    outcome = run_cli("--help")
    assert outcome.code == 0
    for name, config_class in COMMANDS.items():
        assert f" {name} {config_class.__doc__}" in outcome.words
    assert " list Show the variants of an axis." in outcome.words
    assert " inspect Say what a file is" in outcome.words


def test_no_command_at_all_shows_the_overview(run_cli):
    outcome = run_cli()
    assert outcome.code == 2
    assert "prepare-data" in outcome.out + outcome.err


def test_version(run_cli):
    assert run_cli("--version").out == f"{pretext.__version__}\n"


def shown_default(field):
    if field.default is None or field.default is False:
        return None
    values = field.default if isinstance(field.default, tuple) else (field.default,)
    return ",".join(f"{value:g}" if isinstance(value, float) else str(value) for value in values)


@pytest.mark.parametrize("name", COMMANDS)
class TestCommandHelp:
    def test_it_has_its_sentence_an_example_and_its_panels(self, run_cli, name):
        outcome = run_cli(name, "--help")
        assert (outcome.code, outcome.err) == (0, "")
        assert COMMANDS[name].__doc__ in outcome.words
        assert f"Example: pretext {name}" in outcome.words
        example = next(example for command, _, _, example in STAGES if command == name)
        assert f"Example: {example} " in outcome.words
        titles = [line.split("\u2500 ")[1].split(" \u2500")[0] for line in outcome.out.splitlines() if "\u256d" in line]
        assert [title for title in titles if title != "Options"] == PANELS[name]

    def test_every_option_stands_there_with_its_help_choices_and_default(self, run_cli, name):
        words = run_cli(name, "--help").words
        checked = 0
        for field in dataclasses.fields(COMMANDS[name]):
            facts = field.metadata
            flag = field.name.upper() if facts["positional"] else "--" + field.name.replace("_", "-")
            start = words.index(f" {flag} ")
            text = " ".join(facts["help"].split()) + (
                f" One of: {', '.join(facts['choices'])}." if facts["choices"] else ""
            )
            assert text in words[start:], flag
            shown = words[words.index(text, start) + len(text) :].lstrip()
            default = shown_default(field)
            if default is not None:
                assert shown.startswith(f"[default: {default}]"), flag
                checked += 1
            elif field.default is False:
                assert not shown.startswith("["), flag
        assert checked >= {"report": 2, "export": 1, "bench": 2}.get(name, 4)

    def test_the_shared_options_are_there(self, run_cli, name):
        words = run_cli(name, "--help").words
        for flag in ("--study", "--json", "--quiet", "--debug", "--overwrite", "--dry-run", "--help"):
            assert f" {flag} " in words


@pytest.mark.parametrize(
    ("command", "text"),
    [
        ("pretrain", "--sigma FLOAT Width of the Gaussian, px. [default: 4.0 (pse); 3.0 (pse-slides)]"),
        ("pretrain", "--latent-dim INT Size of the encoder's output vector. [default: 256 (cnn); 1024 (resnet18); 64 (conv-k4)]"),
        ("pretrain", "--epochs INT Passes over the images. [default: 50]"),
        ("pretrain", "--lr FLOAT Learning rate. [default: 0.001]"),
        ("pretrain", "[default: RUNS_DIR/DATA-ENCODER-LOSS-sSEED]"),
        ("prepare-data", "--image-size INT Side of the square images, px. "
                         "[default: 32 (shapes, cifar10, cifar100); 96 (stl10, folder)]"),
        ("prepare-data", "--offline <bool> Download nothing; name what is missing. "),
        ("probe", "[default: 1e-05,0.0001,0.001,0.01,0.1,1 (linear)]"),
        ("probe", "--epochs INT Most epochs of the head. [default: 500 (mlp, mlp-seven)]"),
        ("extract-features", "--splits TEXT Splits to extract, separated by commas. [default: all]"),
        ("fine-tune", "[default: strong (full, scratch, as-coded-ft, as-coded-frozen); none (frozen, student, student-dae)]"),
    ],
)  # fmt: skip
def test_defaults_that_rows_decide_are_shown_with_their_rows(run_cli, command, text):
    assert text in run_cli(command, "--help").words


@pytest.mark.parametrize("command", ["list", "inspect"])
def test_the_other_commands_have_an_example_too(run_cli, command):
    outcome = run_cli(command, "--help")
    assert outcome.code == 0
    assert f"Example: pretext {command} " in outcome.words

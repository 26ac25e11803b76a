"""What the README says is so: its commands parse, its lists are the code's, its files exist."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import fault_counts
import pytest

from pretext.bench.document import to_table
from pretext.cli import app as cli
from pretext.cli.listing import list_axis
from pretext.config import read_study
from pretext.stage_configs import BENCH_PARTS

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "tests" / "bench" / "results"
FAULTS = ROOT / "tests" / "faults"
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(\w*)\n(.*?)```", README, flags=re.S)
COMMANDS = [line.split("#")[0].strip() for kind, text in BLOCKS if kind == "sh" for line in text.splitlines()]
COMMANDS += re.findall(r"`(pretext (?:extract-features|pretrain|fine-tune) [^`]+)`", README)


EXAMPLES = sorted((ROOT / "examples").glob("*.mk"))


def pretext_commands():
    found = [command for command in COMMANDS if command.startswith("pretext ")]
    assert len(found) >= 9
    return found


def commands_of(makefile):
    """One of each kind of command that a study would run, from Make's own dry run."""
    dry_run = subprocess.run(["make", "-n", "-B", "-f", makefile], capture_output=True, text=True, check=True, cwd=ROOT)
    lines = dry_run.stdout.replace("\\\n", " ").splitlines()
    kinds = {re.sub(r"\S*/\S*|\d+", "_", line): line.strip() for line in lines if line.strip().startswith("pretext ")}
    return sorted(kinds.values())


@pytest.mark.parametrize("makefile", EXAMPLES, ids=lambda path: path.name)
def test_examples_chain_all_six_stages(makefile):
    beside = {"export", "fit-metric", "score-metric", "bench"}
    assert {command.split()[1] for command in commands_of(makefile)} - beside == set(cli.SECTIONS) - beside


@pytest.mark.parametrize("command", [*pretext_commands(), *(c for path in EXAMPLES for c in commands_of(path))])
def test_commands_parse(command, monkeypatch, tmp_path):
    """Every option exists and has a value it may have: the stage itself is replaced."""
    called = []

    class Stage:
        @staticmethod
        def run(config, **_):
            called.append(config)
            return {"output": "x", "status": "done"}

    for _, _, module, _ in cli.STAGES:
        monkeypatch.setitem(sys.modules, f"pretext.stages.{module}", Stage)
    monkeypatch.setattr("sys.argv", shlex.split(command.replace("RUN", "runs/x")))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as left:
        cli.main()
    assert left.value.code in (0, None)
    assert len(called) == 1


def test_the_variants_are_those_of_the_catalogue():
    shown = re.search(r"<!-- variants.*?-->\n```\n(.*?)```\n<!-- /variants -->", README, flags=re.S).group(1)
    assert shown.strip() == list_axis(None, as_json=False).strip(), "put the output of `pretext list` there"


def test_the_study_file_is_valid(tmp_path):
    (study,) = [text for kind, text in BLOCKS if kind == "toml"]
    path = tmp_path / "study.toml"
    path.write_text(study)
    assert read_study(path, "pretrain", cli.SECTIONS) == {"loss": "pse", "sigma": 5, "epochs": 100}


def test_the_python_is_valid(tmp_path, monkeypatch):
    (code,) = [text for kind, text in BLOCKS if kind == "python"]
    monkeypatch.setattr("pretext.load_encoder", lambda path: path, raising=False)
    names: dict = {}
    exec(compile(code, "README.md", "exec"), names)
    assert names["loss"].sigma == 4


def test_linked_files_exist():
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", README) if not link.startswith("http")]
    assert len(links) >= 5
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_every_room_is_drawn():
    (drawing,) = [text for kind, text in BLOCKS if "what everything stands on" in text]
    rooms = {
        path.name.removesuffix(".py") for path in (ROOT / "pretext").iterdir() if not path.name.startswith(("_", "py."))
    }
    assert rooms - set(re.findall(r"\w+", drawing)) == set()


def test_make_targets_named_here_exist():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    named = set(re.findall(r"\bmake ([a-z][a-z-]+)", README))
    assert named <= set(re.findall(r"^([a-z-]+):", makefile, flags=re.M)), named


@pytest.mark.parametrize("study", ["stl10-pse", "split-brain", "loss-networks"])
def test_the_studies_are_those_that_were_measured(study):
    from study_table import study_table

    assert study_table(ROOT / "examples" / study) in README, f"python tests/helpers/study_table.py examples/{study}"


def test_the_agreement_with_people_is_the_one_that_was_measured():
    from study_table import agreement_table

    assert agreement_table(ROOT / "examples" / "loss-networks") in README


def test_what_is_said_of_the_loss_networks_is_what_was_measured():
    from study_table import read

    folder, text = ROOT / "examples" / "loss-networks", " ".join(README.split())
    top1 = {(row["evaluation"], row["method"]): float(row["ensemble_top1"]) for row in read(folder / "results.csv")}
    linear = {method: 100 * value for (evaluation, method), value in top1.items() if evaluation == "Linear probe"}
    layers = [linear[f"conv-k4-perceptual-squeezenet1_1-{layer}"] for layer in (1, 2, 3, 4)]
    assert "{:.1f}, {:.1f}, {:.1f} and {:.1f} for layers 1 to 4".format(*layers) in text
    assert f"where MSE gives {linear['conv-k4-mse']:.1f} and PSE {linear['conv-k4-pse4']:.1f}" in text
    untaught = max(linear[f"conv-k4-perceptual-squeezenet1_1-{layer}-random"] for layer in (1, 2, 3, 4))
    assert untaught - linear["conv-k4-mse"] < 0.2
    published = 100 * top1["Linear probe, 4", "squeezenet1_1-supervised ImageNet-1K"]
    assert f"the network itself scores {published:.1f} by" in text
    predicted = "conv-k4-predict-features-mse-squeezenet1_1-4"
    assert f"of a random network gives {linear[predicted + '-random']:.1f}" in text
    (row,) = [row for row in read(folder / "seeds.csv") if row["evaluation"] == "Linear probe"
              and (row["a"], row["b"]) == (predicted, "conv-k4-perceptual-squeezenet1_1-4")]  # fmt: skip
    ahead = {name: 100 * float(value) for name, value in row.items() if "difference" in name}
    assert ("{difference:.1f} points ahead (95 % {difference_low:.1f} to {difference_high:.1f} over two seeds, "
            "{image_difference_low:.1f} to {image_difference_high:.1f} over test images)").format(**ahead) in text  # fmt: skip
    fit = json.loads((folder / "fit.json").read_text())
    assert f"of {fit['weights']['num']:,} channels to the {fit['judgments']['num']:,} triplets" in text
    assert f"({fit['weights']['num_nonzero']} stay above 0)" in text
    (row,) = [row for row in read(folder / "agreement.csv") if row["metric"] == "lpips-squeezenet1_1-unit"]
    gain, low, high = (-100 * float(row[name]) for name in ("points", "points_high", "points_low"))
    assert f"gains {gain:.1f} points over unit weights on the test part (95 % {low:.1f} to {high:.1f})" in text


def test_the_table_of_the_benchmark_is_the_one_that_was_measured():
    document = json.loads((RESULTS / "bench-cpu.json").read_text())
    assert document["parts"] == list(BENCH_PARTS), "the whole of it"
    block = README.split("<!-- bench: pretext bench all -->\n")[1].split("<!-- /bench -->")[0]
    assert block == to_table(document) + "\n"
    assert document["seconds"] < 300, "the issue of a benchmark that nobody waits for"


def test_memory_and_time_of_many_images_are_those_that_were_measured():
    rows = json.loads((RESULTS / "scale-cpu.json").read_text())["rows"]
    words = " ".join(README.split())
    for row in rows:
        assert f"{row['peak_mb']:,.0f} MB" in words, row
        assert f"{row['us_an_image']:.0f} us" in words, row


def test_the_table_of_faults_is_the_one_that_was_counted():
    content = json.loads((FAULTS / "results.json").read_text())
    block = README.split("<!-- faults: make faults -->\n")[1].split("<!-- /faults -->")[0]
    assert block == fault_counts.to_table(content)
    assert all(row["lost"] == 0 and row["survived"] == row["tried"] for row in content["rows"])


def test_what_was_fuzzed_is_what_was_counted():
    rows = json.loads((FAULTS / "fuzz.json").read_text())["rows"]
    words = " ".join(README.split())
    assert f"{sum(row['executions'] for row in rows):,} inputs for {len(rows)} readers" in words
    assert f"{sum(row['finds'] for row in rows)} finds, mended" in words

"""The commands that are there, and what each calls."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

import pretext
from pretext import stage_configs, world
from pretext.cli.errors import call, one_voice
from pretext.cli.options import stage_command
from pretext.cli.progress import choose_progress
from pretext.errors import ArtifactError

app = typer.Typer(
    name="pretext", no_args_is_help=True, rich_markup_mode="rich", pretty_exceptions_enable=False,
    help="Unsupervised pretraining of image encoders: which pretext task gives the best one, and is the difference real?",
)  # fmt: skip

# Command, config, module of the stage, example.
STAGES = (
    ("prepare-data", stage_configs.PrepareDataConfig, "prepare_data", "pretext prepare-data stl10 --root downloads"),
    ("pretrain", stage_configs.PretrainConfig, "pretrain", "pretext pretrain --loss pse --sigma 4"),
    ("extract-features", stage_configs.ExtractFeaturesConfig, "extract_features",
     "pretext extract-features runs/stl10-cnn-pse4-s0"),
    ("probe", stage_configs.ProbeConfig, "probe", "pretext probe runs/stl10-cnn-pse4-s0 --labels-per-class 1,4,16"),
    ("fine-tune", stage_configs.FineTuneConfig, "fine_tune", "pretext fine-tune runs/stl10-cnn-pse4-s0 --protocol frozen"),
    ("fit-metric", stage_configs.FitMetricConfig, "fit_metric", "pretext fit-metric JUDGMENTS --network vgg16"),
    ("score-metric", stage_configs.ScoreMetricConfig, "score_metric",
     "pretext score-metric JUDGMENTS --metric lpips --network vgg16"),
    ("report", stage_configs.ReportConfig, "report", "pretext report runs"),
    ("export", stage_configs.ExportConfig, "export", "pretext export runs/stl10-cnn-pse4-s0"),
    ("bench", stage_configs.BenchConfig, "bench", "pretext bench loss train"),
)  # fmt: skip
# Stages whose work several processes share; the others' is the first one's alone.
DIVIDED = ("prepare_data", "pretrain", "extract_features", "fine_tune")
SECTIONS = tuple(name for name, *_ in STAGES)


def _add(name: str, config_class: type[Any], module: str, example: str) -> None:
    def run(config: Any, explicit: frozenset[str], shared: dict[str, Any]) -> None:
        stage = importlib.import_module(f"pretext.stages.{module}")  # torch loads here, not for --help
        progress = choose_progress(quiet=shared["quiet"] or not world.is_first())

        def work() -> None:
            outcome = stage.run(config, explicit=explicit, progress=progress)
            if world.is_first():
                emit(outcome, shared)

        work() if module in DIVIDED else world.from_first(work)

    command = stage_command(name, config_class, run, SECTIONS)
    app.command(name, help=f"{config_class.__doc__}\n\nExample: [bold]{example}[/bold]")(command)


for _stage in STAGES:
    _add(*_stage)


@app.command("list", help="Show the variants of an axis.\n\nExample: [bold]pretext list losses[/bold]")
def list_command(
    axis: Annotated[str | None, typer.Argument(help="An axis; without one, all are shown.", metavar="AXIS")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
) -> None:
    """Show the variants of an axis."""
    from pretext.cli.listing import list_axis

    print(list_axis(axis, as_json=as_json))


@app.command("inspect", help="Say what a file is and from what it was made.\n\n"
             "Example: [bold]pretext inspect runs/stl10-cnn-pse4-s0/checkpoint.safetensors[/bold]")  # fmt: skip
def inspect_command(
    path: Annotated[Path, typer.Argument(help="An artifact, or the folder of a run or data set.", metavar="FILE")],
    as_json: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
    verify: Annotated[bool, typer.Option("--verify", help="Compare every byte with what was recorded.")] = False,
) -> None:
    """Say what a file is and from what it was made."""
    from pretext.cli.listing import describe, tell_verified

    if not verify:
        print(describe(path, as_json=as_json))
        return
    text, num_damaged = tell_verified(path, as_json=as_json)
    print(text)
    if num_damaged:
        raise ArtifactError(
            f"{path}: {num_damaged} damaged", hint="restore from a copy, or make it again with --overwrite"
        )


def _version(wanted: bool) -> None:
    if wanted:
        print(pretext.__version__)
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


def emit(outcome: dict[str, Any], shared: dict[str, Any]) -> None:
    """Print a stage's outcome on stdout: JSON for programs, one path for Make, a few facts for people."""
    text, document = outcome.pop("text", None), outcome.pop("document", None)
    if shared["as_json"]:
        print(json.dumps(document or outcome, allow_nan=False))
    elif shared["quiet"]:
        print(outcome["output"])
    else:
        print(f"{outcome.pop('output')}: {outcome.pop('status')}")
        for name, value in outcome.items():
            if value not in (None, [], {}, ""):
                print(f"  {name}: {_fact(value)}")
        if text:
            print(text)


def _fact(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_fact(item)}" for key, item in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(_fact(item) for item in value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:,.4g}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)


def main() -> None:
    """Entry point of the command `pretext`."""
    with one_voice():
        call(app, debug="--debug" in sys.argv)

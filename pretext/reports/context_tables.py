"""What was compared, on what, at what cost, and what is missing: as tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pretext.artifacts.layout import LATENT, SCORE
from pretext.reports.compare import Evaluation, Study
from pretext.reports.gather import BROKEN, DONE, MISMATCHED, UNFINISHED, Run, look
from pretext.reports.grouping import Method
from pretext.reports.naming import EXTRACTION, PIXELS, PUBLISHED, RANDOM, SCRATCH, short
from pretext.reports.tables import Column, Table, duration

SORTS = {RANDOM: "control: weights as initialised", PIXELS: "control: no encoder, the pixels themselves",
         PUBLISHED: "reference: a published network, not trained here",
         SCRATCH: "control: supervised, from new weights"}  # fmt: skip
NOT_SETTINGS = ("name", "k", "fold_seed", "test", *EXTRACTION)  # they have columns of their own
SHOWN_OPTIONS = (
    *((name, name + " {}") for name in ("sigma", "truncate", "padding", "residual", "scale")), ("bins", "{} bins"),
    ("loss_network_weights", "{} weights in the loss network"), ("layer", "its layer {}"),
    ("layer_weights", "layers weighted {}"), ("normalize", "images normalized: {}"),
    ("channel_weights", "{} channel weights"), ("pixel_loss", "with {}"), ("pixel_weight", "weighted {}"),
    ("quality", "quality by {}"), ("quality_weight", "quality weighted {}"),
    ("target_size", "{} px targets"), ("border", "{} border"), ("rebalance", "rebalance {}"), ("noise", "{} noise"),
    ("noise_level", "noise level {}"), ("encoder.channels", "channels {}"), ("encoder.width", "width {}"),
    ("encoder.latent_dim", "{} features"), ("encoder.stem", "{} stem"), ("encoder.image_size", "{} px"),
    ("epochs", "{} epochs"), ("batch_size", "batch {}"), ("optimizer", "{}"), ("lr", "lr {}"),
    ("schedule", "{} schedule"), ("gamma", "gamma {}"), ("augment", "augmentation {}"), ("precision", "{}"),
    ("keep", "{} weights kept"),
)  # fmt: skip


def methods_table(study: Study) -> Table:
    """What was compared, one row per method; what all pretrained ones share is said once, below."""
    columns = [
        Column("method", "Method"), Column("what", "What it is"), Column("pretrained_on", "Pretrained on"),
        Column("training", "How"), Column("parameters", "Encoder parameters", "count"), Column("seeds", "Seeds"),
    ]  # fmt: skip
    words = {id(method): _how(method) for method in study.methods if not method.is_control}
    shared = [word for word in next(iter(words.values()), []) if all(word in other for other in words.values())]
    shared = shared if len(words) > 1 else []
    own = {key: ", ".join(word for word in found if word not in shared) for key, found in words.items()}
    rows = [(method.label, _what(method), _pretrained_on(method), own.get(id(method), ""), _parameters(method),
             _seeds(method)) for method in study.methods]  # fmt: skip
    note = f"Of all pretrained ones: {', '.join(shared)}." if shared else ""
    return Table("methods", "Methods", columns, rows, note).compact()


def _what(method: Method) -> str:
    options = method.identity.options
    encoder = options.get("encoder.name")
    if method.is_control:
        size = options.get("encoder.pixel_size")
        return SORTS[method.identity.sort] + (f", {size} px" if size else f" ({encoder})" if encoder else "")
    loss = f", loss {options['loss']}" if options.get("loss") else ""
    loss += f" in {options['loss_network']}" if options.get("loss_network") else ""
    space = f", colours {options['color_space']}" if options.get("color_space") else ""
    return f"{encoder}; {options.get('name')}{space}{loss}"


def _pretrained_on(method: Method) -> str:
    manifest = method.runs[0].manifest if method.runs else None
    if method.is_control or manifest is None:
        return ""
    num_images = look(manifest, "summary", "num_images")
    images = f", {num_images:,} images" if isinstance(num_images, int) else ""
    return f"{method.identity.options['pretrained on']} {look(manifest, 'config', 'split', default='')}{images}"


def _how(method: Method) -> list[str]:
    """The settings of a pretrained method, each as a few words."""
    options = method.identity.options
    return [text.format(short(options[name])) for name, text in SHOWN_OPTIONS if options.get(name) is not None]


def _parameters(method: Method) -> int | None:
    for run in method.runs:
        found = look(run.manifest, "summary", "parameters", "encoder")
        if method.identity.sort != PIXELS and isinstance(found, int):
            return found
    return None


def _seeds(method: Method) -> str:
    seeds = {result.seed for run in method.runs for result in run.results} | {
        look(run.manifest, "seed") for run in method.runs}  # fmt: skip
    return ", ".join(str(seed) for seed in sorted(seed for seed in seeds if seed is not None))


def evaluations_table(study: Study) -> Table:
    """How it was measured, one row per evaluation."""
    columns = [
        Column("evaluation", "Evaluation"), Column("data", "Data"), Column("train_images", "Labelled images", "count"),
        Column("test_images", "Test images", "count"), Column("folds", "Training sets"),
        Column("settings", "Settings"), Column("layers", "Layers"), Column("chosen_on", "Chosen on"),
        Column("notes", "Notes"),
    ]  # fmt: skip
    rows = []
    for evaluation in study.primary:
        settings = [f"{name.replace('_', ' ')} {_value(value)}" for name, value in evaluation.options.items()
                    if name not in NOT_SETTINGS and value is not None]  # fmt: skip
        contents = [result.content for result in evaluation.results]
        chosen = dict.fromkeys(str(content["selected_on"]) for content in contents)
        notes = dict.fromkeys(str(note) for content in contents for note in content.get("notes") or [])
        rows.append(
            (
                evaluation.label,
                evaluation.data,
                contents[0]["data"].get("num_train"),
                evaluation.num_test,
                _folds(evaluation.options),
                ", ".join(settings),
                _layers(study.layers_of(evaluation.family)),
                "; ".join(chosen),
                " ".join(notes),
            )
        )
    return Table("evaluations", "Evaluations", columns, rows).compact()


def _layers(evaluations: Sequence[Evaluation]) -> str:
    """The layers that were probed, with what became of their maps; nothing where only output vectors were."""
    words: dict[str, list[str]] = {}
    for evaluation in evaluations:
        words.setdefault(evaluation.pool, []).append(evaluation.layer)
    if [found for found in words.values() if found not in ([""], [LATENT])]:
        return "; ".join(", ".join(found) + (f" ({pool})" if pool else "") for pool, found in words.items())
    return ""


def _folds(options: Mapping[str, Any]) -> str:
    sets = {"kfold": f"{options.get('k')} folds (seed {options.get('fold_seed')})",
            "official": "the data set's official folds"}  # fmt: skip
    words = sets.get(str(options.get("name")), str(options.get("name")))
    return words + (f"; tested on the {options['test']}" if isinstance(options.get("test"), str) else "")


def cost_table(study: Study) -> Table:
    """What each run cost: time, images, and energy where it was measured."""
    columns = [
        Column("run", "Run"), Column("pretraining_seconds", "Pretraining", "duration"),
        Column("images_seen", "Images seen", "count"), Column("images_per_second", "Images/s", "number"),
        Column("evaluation_seconds", "Features, probes, fine-tuning", "duration"),
        Column("parameters", "Parameters", "count"), Column("device", "Device"),
    ]  # fmt: skip
    rows: list[tuple[Any, ...]] = []
    for run in study.runs:
        later = [seconds for part, seconds in run.stage_seconds.items() if part != "pretrain"]
        parameters = look(run.manifest, "summary", "parameters", default={})
        counts = [value for value in parameters.values() if isinstance(value, int)]
        images_seen = _integer(look(run.manifest, "summary", "images_seen"))
        rows.append((run.name, run.stage_seconds.get("pretrain"), images_seen, _speed(run),
                     sum(later) if later else None, sum(counts) if counts else None, _device(run)))  # fmt: skip
    rows = [row for row in rows if any(cell is not None for cell in row[1:-1])]
    joules = {run.name: look(run.manifest, "summary", "energy_joules") for run in study.runs}
    if any(isinstance(value, (int, float)) for value in joules.values()):
        columns.append(Column("energy_kj", "Energy, kJ", "number"))
        rows = [(*row, None if joules[row[0]] is None else joules[row[0]] / 1000) for row in rows]
        note = "Energy of pretraining, where it was measured."
    else:
        note = "Energy was not measured."
    total = sum(seconds for run in study.runs for seconds in run.stage_seconds.values())
    note = f"Wall time of all finished stages together: {duration(total)}. {note}"
    return Table("cost", "Cost", columns, rows, note).compact()


def _speed(run: Run) -> float | None:
    speeds = [row["images_per_s"] for row in run.curve if row.get("images_per_s")]
    return float(np.median(speeds)) if speeds else None


def _device(run: Run) -> str:
    facts = look(run.manifest or next(iter(run.features.values()), None), "device", default={})
    name = str(look(facts, "device", default=""))
    return str(look(facts, "processor", default=name)) if name in ("cpu", "") else name


def runs_table(study: Study) -> Table:
    """Every run that was given, used or not, and what is wrong with it."""
    methods = [method for method in study.methods if method.identity.sort != SCRATCH]
    labels = {run.name: method.label for method in methods for run in method.runs}
    order = {BROKEN: 0, MISMATCHED: 1, UNFINISHED: 2, DONE: 3}
    columns = [
        Column("run", "Run"), Column("state", "State"), Column("method", "Method"), Column("seed", "Seed", "count"),
        Column("results", "Results used"), Column("problems", "What is wrong"),
    ]  # fmt: skip
    rows = []
    for run in study.runs:
        own = [issue for issue in study.issues if issue.run == run.name]
        state = min((issue.state for issue in own if issue.state in order), key=order.__getitem__, default=DONE)
        if run.state == DONE and state != DONE:
            state = f"partly {state}"
        unused = {issue.part for issue in own}
        rows.append((run.name, state, labels.get(run.name, ""), _integer(look(run.manifest, "seed")),
                     ", ".join([*(result.stem for result in run.results if result.stem not in unused),
                                *([SCORE] if run.score else [])]),
                     "; ".join(f"{issue.part}: {issue.reason}" for issue in own)))  # fmt: skip
    return Table("runs", "Runs", columns, rows).compact()


def _integer(value: Any) -> int | None:
    return value if isinstance(value, int) else None


def _value(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)

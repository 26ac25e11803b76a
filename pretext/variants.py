"""From a stage's flat options to the rows that are meant and what each of them reads."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from typing import Any

from pretext.catalog import (
    COLOR_SPACES,
    DEFAULT_TARGET_SIZE,
    ENCODERS,
    LOSSES,
    METRICS,
    OBJECTIVES,
    PROBES,
    PROTOCOLS,
    SOURCES,
    SPLIT_ENCODERS,
)
from pretext.config import flag_name
from pretext.errors import ConfigError
from pretext.registry import Registry, Variant

# The rows that a pretraining config means, by the option that chose them, each with the options it reads.
Parts = dict[str, tuple[Variant, dict[str, Any]]]

# Which option of a stage chooses a row of which table.
CHOOSERS: dict[str, Registry] = {
    "source": SOURCES, "color_space": COLOR_SPACES, "objective": OBJECTIVES, "loss": LOSSES, "encoder": ENCODERS,
    "kind": PROBES, "protocol": PROTOCOLS, "metric": METRICS,
}  # fmt: skip


def unread_options(config: Any, explicit: Collection[str], chosen: Mapping[str, Variant]) -> list[str]:
    """One line for every option that was given though no chosen row reads it.

    Args:
        config: A stage's config.
        explicit: The options the user gave.
        chosen: Row by the name of the option that chose it, such as {"loss": LOSSES["mse"]}.
    """
    fields = {field.name: field for field in dataclasses.fields(config)}
    read = {name for row in chosen.values() for name in row.reads}
    lines = []
    for name in sorted(explicit):
        readers = {option: table.readers_of(name) for option, table in CHOOSERS.items() if option in fields}
        readers = {option: rows for option, rows in readers.items() if rows}
        if not readers or name in read or name in chosen:
            continue
        wanted = "; ".join(f"{flag_name(fields[option])} {' or '.join(rows)}" for option, rows in readers.items())
        now = ", ".join(f"{flag_name(fields[option])} {chosen[option].name}" for option in chosen)
        lines.append(f"{flag_name(fields[name])} is read only with {wanted}; chosen is {now}")
    return lines


def choose_row(config: Any, chooser: str, explicit: Collection[str]) -> tuple[Variant, dict[str, Any]]:
    """The one row that a stage's option chooses, with the options it reads.

    Raises:
        ConfigError: If an option was given that the row does not read.
    """
    row = CHOOSERS[chooser][getattr(config, chooser)]
    if problems := unread_options(config, explicit, {chooser: row}):
        raise ConfigError(problems)
    return row, row.options({name: getattr(config, name) for name in row.reads})


def choose_pretraining(config: Any, explicit: Collection[str]) -> Parts:
    """The objective, loss and encoder that a pretraining config means, each with the options it reads.

    Raises:
        ConfigError: If an option was given that none of them reads.
    """
    objective = OBJECTIVES[config.objective]
    chosen = {"objective": objective, "encoder": ENCODERS[config.encoder or objective.reads["encoder"]]}
    if "loss" in objective.reads:
        chosen["loss"] = LOSSES[config.loss or objective.reads["loss"]]
    fields = {field.name: field for field in dataclasses.fields(config)}
    idle = [name for name in sorted(explicit) if not objective.trains and _is_of_training(fields[name])]
    problems = unread_options(config, set(explicit) - set(idle), chosen) + _misfits(config, objective, chosen)
    problems += [f"{flag_name(fields[name])} means nothing to --objective {objective.name}, which trains nothing"
                 for name in idle]  # fmt: skip
    if problems:
        raise ConfigError(problems)
    values = {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}
    return {option: (row, row.options(values)) for option, row in chosen.items()}


def _misfits(config: Any, objective: Variant, chosen: Mapping[str, Variant]) -> list[str]:
    """One line for every option that has a value with which the objective can't work."""
    fields = {field.name: field for field in dataclasses.fields(config)}
    lines = []
    for name, allowed in objective.fits.items():
        value = chosen[name].name if name in chosen else getattr(config, name) or objective.reads[name]
        if value not in allowed:
            lines.append(f"--objective {objective.name} works with {flag_name(fields[name])} {' or '.join(allowed)}; "
                         f"chosen is {value}")  # fmt: skip
    if config.color_space and "encoder" not in objective.fits and chosen["encoder"].name not in SPLIT_ENCODERS:
        lines.append(f"--color-space works with --encoder {' or '.join(SPLIT_ENCODERS)}; chosen is "
                     f"{chosen['encoder'].name}")  # fmt: skip
    return lines


def _is_of_training(field: dataclasses.Field[Any]) -> bool:
    """Whether only a training reads an option; the seed decides the first weights too."""
    others = ("val_fraction", "precision", "keep", "save_every", "log_every")
    return field.name in others or (field.metadata["panel"] == "Optimisation" and field.name != "seed")


def default_run_name(data: str, parts: Parts, seed: int) -> str:
    """Such as `stl10-cnn-pse4-s0`: what differs from the defaults is in the name."""
    objective = parts["objective"][0]
    words = [data, _word(*parts["encoder"])]
    if objective.name != "autoencode":
        words.append(_word(*parts["objective"]))
    if "loss" in parts and (objective.name == "autoencode" or parts["loss"][0].name != objective.reads["loss"]):
        words.append(_word(*parts["loss"]))
    return "-".join([*words, f"s{seed}"])


# Options whose values stand in a run's name even where they are the row's defaults, and options that never do.
ALWAYS_NAMED = ("sigma", "color_space", "noise", "noise_level", "loss_network", "layer", "quality", "features")
NEVER_NAMED = ("loss", "encoder", "augment")


def _word(row: Variant, options: Mapping[str, Any]) -> str:
    """A variant's name and the values of its options; of most only where they are not the row's defaults."""
    word = row.name + (f"{options['sigma']:g}" if "sigma" in options else "")
    for name, value in options.items():
        if value is None or name in (*NEVER_NAMED, "sigma"):
            continue
        default = DEFAULT_TARGET_SIZE if name == "target_size" else row.reads[name]
        if name in ALWAYS_NAMED:
            word += f"-{_in_a_name(value)}"
        elif value != default:
            short = name.replace("_dim", "").replace("_size", "").replace("_", "-")
            word += f"-{short}{value:g}" if isinstance(value, (int, float)) else f"-{_in_a_name(value)}"
    return word


def _in_a_name(value: Any) -> str:
    """A value as part of a folder's name: of a path its last part, and no character that a path would mind."""
    if isinstance(value, tuple):
        return "+".join(map(_in_a_name, value))
    text = f"{value:g}" if isinstance(value, float) else str(value).rstrip("/").rpartition("/")[2]
    return "".join(character if character.isalnum() or character in "-_.+" else "-" for character in text)


def default_text(name: str, options: Collection[str]) -> str | None:
    """The defaults of an option that catalogue rows decide, as `--help` shows them: "4.0 (pse); 3.0 (pse-slides)"."""
    found: dict[Any, list[str]] = {}
    for option, table in CHOOSERS.items():
        if option in options:
            for row in table.values():
                if row.reads.get(name) is not None and row.reads[name] is not False:
                    found.setdefault(row.reads[name], []).append(row.name)
    return "; ".join(f"{_show(value)} ({', '.join(rows)})" for value, rows in found.items()) or None


def _show(value: Any) -> str:
    return (
        ",".join(f"{item:g}" if isinstance(item, float) else str(item) for item in value)
        if isinstance(value, tuple)
        else str(value)
    )

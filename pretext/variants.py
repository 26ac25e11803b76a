"""From a stage's flat options to the rows that are meant and what each of them reads."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from typing import Any

from pretext.catalog import ENCODERS, LOSSES, OBJECTIVES, PROBES, PROTOCOLS, SOURCES
from pretext.config import flag_name
from pretext.errors import ConfigError
from pretext.registry import Registry, Variant

# Which option of a stage chooses a row of which table.
CHOOSERS: dict[str, Registry] = {
    "source": SOURCES, "objective": OBJECTIVES, "loss": LOSSES, "encoder": ENCODERS, "kind": PROBES, "protocol": PROTOCOLS,
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


def choose_pretraining(config: Any, explicit: Collection[str]) -> dict[str, tuple[Variant, dict[str, Any]]]:
    """The objective, loss and encoder that a pretraining config means, each with the options it reads.

    Raises:
        ConfigError: If an option was given that none of them reads.
    """
    objective, encoder = OBJECTIVES[config.objective], ENCODERS[config.encoder]
    chosen = {"objective": objective, "encoder": encoder}
    if "loss" in objective.reads:
        chosen["loss"] = LOSSES[config.loss or objective.reads["loss"]]
    problems = unread_options(config, explicit, chosen)
    if not objective.trains:
        fields = {field.name: field for field in dataclasses.fields(config)}
        problems += [f"{flag_name(fields[name])} means nothing to --objective {objective.name}, which trains nothing"
                     for name in sorted(explicit) if _is_of_training(fields[name])]  # fmt: skip
    if problems:
        raise ConfigError(problems)
    values = {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}
    return {option: (row, row.options(values)) for option, row in chosen.items()}


def _is_of_training(field: dataclasses.Field[Any]) -> bool:
    """Whether only a training reads an option; the seed decides the first weights too."""
    others = ("val_fraction", "precision", "keep", "save_every", "log_every")
    return field.name in others or (field.metadata["panel"] == "Optimisation" and field.name != "seed")


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
    return ",".join(f"{item:g}" for item in value) if isinstance(value, tuple) else str(value)

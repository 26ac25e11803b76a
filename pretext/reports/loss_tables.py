"""How well each run learned its pretext task, beside what one constant answer would have scored."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from pretext.reports.compare import Study
from pretext.reports.gather import Run, look
from pretext.reports.grouping import Method
from pretext.reports.tables import Column, Table

ALL_HEADS = "all"
COLUMNS = (
    Column("method", "Method"), Column("run", "Run"), Column("seed", "Seed", "count"), Column("prediction", "Prediction"),
    Column("val_loss", "Validation loss", "decimal"), Column("constant_loss", "A constant's loss", "decimal"),
    Column("difference", "Difference", "signed"), Column("share", "Difference, % of the constant's", "points"),
)  # fmt: skip
NOTE = ("Losses of the weights that are kept, summed over what is predicted: cross-entropies in nats, regressions in "
        "halves of squared distances. A constant answers every place with how often each bin occurs, or with the mean "
        "colour; its loss, an entropy or a variance, is another one in every colour space. Only the difference from it "
        "compares them: below 0 means that something was learned.")  # fmt: skip


def pretext_losses_table(study: Study) -> Table:
    """One row per trained run, and below it one for each group of channels where it predicts several."""
    rows = [row for method in study.methods if not method.is_control for run in _by_seed(method)
            for row in _rows(method, run)]  # fmt: skip
    has_constants = any(row[5] is not None for row in rows)
    return Table("pretext-losses", "Pretext losses by what is predicted", COLUMNS, rows, NOTE if has_constants else "")


def whole_losses(table: Table) -> Table:
    """The rows of whole runs alone, without the columns that are empty then."""
    position = [column.key for column in table.columns].index("prediction")
    rows = [(*row[:position], *row[position + 1 :]) for row in table.rows if row[position] == ALL_HEADS]
    columns = [column for column in table.columns if column.key != "prediction"]
    return Table("pretext-losses", "Pretext losses", columns, rows, table.note).compact()


def _by_seed(method: Method) -> list[Run]:
    return sorted(method.runs, key=lambda run: (look(run.manifest, "seed") or 0, run.name))


def _rows(method: Method, run: Run) -> Iterator[tuple[Any, ...]]:
    summary = look(run.manifest, "summary", default={})
    losses, constants = _numbers(look(summary, "val_losses")), _numbers(look(summary, "constant_losses"))
    # The sum of the parts: the loss that training chose by may count rare bins for more.
    whole = sum(losses.values()) if losses else _numbers({"": look(summary, "best_val_loss")}).get("")
    rows = [(ALL_HEADS, whole, _numbers({"": look(summary, "constant_loss")}).get(""))]
    rows += [(name, loss, constants.get(name)) for name, loss in losses.items()] if len(losses) > 1 else []
    for name, loss, constant in rows:
        if loss is not None:
            difference = None if constant is None else loss - constant
            share = difference / constant if difference is not None and constant else None
            yield method.label, run.name, look(run.manifest, "seed"), name, loss, constant, difference, share


def _numbers(values: Any) -> dict[str, float]:
    """The finite numbers among named values; nothing where it is none of that."""
    found = values.items() if isinstance(values, dict) else ()
    return {str(name): float(value) for name, value in found
            if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)}  # fmt: skip

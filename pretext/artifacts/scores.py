"""How well a metric agrees with people: `score.json`, and `score-judgments.parquet` with a row per judgment.

The first holds, with shares and correlations as numbers:

    schema      1
    kind        "score-metric"
    judgments   {name, layout, kind: "triplets" | "ratings" | "pairs", split, num, num_images, fingerprint, image_size}
    metric      {name, word, ...facts}; the word differs where settings do, such as "lpips-vgg16-published"
    scores      for triplets {two_afc}, for ratings {srcc, plcc, krcc}, for pairs {jnd_map}, each {value, ci95}; the
                interval is [low, high] over references, null where there is only one
    human       of triplets {ceiling, majority}: how often one judge agrees with another, and at most a metric with a judge
    saw         what its network was trained on, or null
    seed        of random weights and of the bootstrap
    parents     list of {kind, path, fingerprint}
    notes       sentences a reader must know
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
from numpy.typing import NDArray

from pretext.artifacts.atomic import read_json
from pretext.artifacts.layout import SCORE, RunLayout
from pretext.artifacts.tables import check_no_nulls, read_table
from pretext.errors import ArtifactError

SCHEMA, KIND = 1, "score-metric"
JUDGMENTS_FILE = "score-judgments.parquet"
# By the kind of judgments: the score that stands for a metric, and what there is of each judgment.
JUDGED: dict[str, tuple[str, tuple[str, ...]]] = {
    "triplets": ("two_afc", ("group", "agreement")), "ratings": ("srcc", ("group", "distance", "score")),
    "pairs": ("jnd_map", ("group", "distance", "same_share")),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Score:
    """One metric's score: the file's content, and the columns of `JUDGED`, a value per judgment."""

    content: Mapping[str, Any]
    columns: Mapping[str, NDArray[Any]]

    @property
    def kind(self) -> str:
        """What was judged: triplets, ratings or pairs."""
        return str(self.content["judgments"]["kind"])

    @property
    def main(self) -> Mapping[str, Any]:
        """The value and interval of the score that stands for the metric."""
        found: Mapping[str, Any] = self.content["scores"][JUDGED[self.kind][0]]
        return found


def read_score(folder: Path) -> Score:
    """Read a metric's score.

    Raises:
        ArtifactError: If a file is missing, broken, or not what the schema says.
    """
    path = RunLayout(folder).result(SCORE)
    content = read_json(path)
    if not isinstance(content, dict) or (content.get("schema"), content.get("kind")) != (SCHEMA, KIND):
        raise ArtifactError(f"{path} is no score of schema {SCHEMA}")
    try:
        judgments, scores = content["judgments"], content["scores"]
        main, columns = JUDGED[judgments["kind"]]
        parts = [judgments[name] for name in ("name", "fingerprint", "split", "layout")] + [content["metric"]["word"]]
        numbers = [judgments["num"], scores[main]["value"], *(scores[main]["ci95"] or ())]
    except (KeyError, TypeError, ValueError) as error:
        raise ArtifactError(f"{path} is no score of schema {SCHEMA}: {error!r}") from error
    if not all(isinstance(part, str) for part in parts) or not all(isinstance(part, (int, float)) for part in numbers):
        raise ArtifactError(f"{path} is no score of schema {SCHEMA}: a part has the wrong type")
    table = read_table(folder / JUDGMENTS_FILE, columns)
    check_no_nulls(folder / JUDGMENTS_FILE, table, columns)
    if not all(pa.types.is_integer(field.type) or pa.types.is_floating(field.type) for field in table.schema):
        raise ArtifactError(f"{folder / JUDGMENTS_FILE} has columns that are no numbers")
    if table.num_rows != judgments["num"]:
        raise ArtifactError(f"{path} tells of {judgments['num']} judgments, {JUDGMENTS_FILE} of {table.num_rows}")
    return Score(content, {column: table[column].to_numpy() for column in columns})

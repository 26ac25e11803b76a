"""Where things lie: the names of every file and folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pretext.catalog import SOURCES
from pretext.errors import ArtifactError, UsageError

MANIFEST = "manifest.json"
LAB, TARGETS = "lab", "targets"
SCORE = "score"  # the stem of what score-metric writes
FAILED_STEP = "failed-step"  # the stem of a step that gave no number
LATENT = "latent"  # the layer of an encoder's output vector, which files need not name


@dataclass(frozen=True, slots=True)
class DataLayout:
    """A prepared data set: `manifest.json`, `SPLIT-00000-of-00012.arrow`, `rejected.parquet`.

    Beside the images lie what was computed from them, each with a record `STEM.manifest.json` and, for every shard, a
    file `SPLIT-00000-of-00012.STEM.arrow`; its stem is `lab` or `targets-SPACE-SIZE`.
    """

    folder: Path

    @property
    def manifest(self) -> Path:
        return self.folder / MANIFEST

    @property
    def rejected(self) -> Path:
        return self.folder / "rejected.parquet"

    def shard(self, split: str, index: int, count: int) -> Path:
        return self.folder / f"{split}-{index:05d}-of-{count:05d}.arrow"

    def record(self, stem: str) -> Path:
        """The manifest of what was computed from the images."""
        return self.folder / f"{stem}.{MANIFEST}"

    def beside(self, shard: str, stem: str) -> Path:
        """The file of what was computed from one shard of images, given by its name."""
        return self.folder / f"{shard.removesuffix('.arrow')}.{stem}.arrow"

    def target_stems(self) -> list[str]:
        """The stems of all target sets that were begun, finished or not, in order."""
        names = (path.name.removesuffix(f".{MANIFEST}") for path in self.folder.glob(f"{TARGETS}-*.{MANIFEST}"))
        return sorted(names)

    def computed(self) -> list[Path]:
        """Every record and file that depends on the images: the records first, then all shards and what a kill left."""
        records = [self.record(stem) for stem in (LAB, *self.target_stems())]
        return records + sorted(self.folder.glob("*.arrow")) + sorted(self.folder.glob(".*.tmp"))


@dataclass(frozen=True, slots=True)
class RunLayout:
    """A run: what `pretrain` writes, and beside it what the later stages make from it."""

    folder: Path

    @property
    def manifest(self) -> Path:
        return self.folder / MANIFEST

    @property
    def checkpoint(self) -> Path:
        return self.folder / "checkpoint.safetensors"

    @property
    def last_checkpoint(self) -> Path:
        return self.folder / "checkpoint-last.safetensors"

    @property
    def metrics(self) -> Path:
        return self.folder / "metrics.parquet"

    def picture(self, name: str) -> Path:
        """A picture of what was learned: `reconstructions` or `colorizations`."""
        return self.folder / f"{name}.png"

    @property
    def resume(self) -> Path:
        return self.folder / "resume"

    def failed_steps(self) -> list[Path]:
        """What is left of steps that gave no number, and their manifests."""
        return sorted(self.folder.glob(f"{FAILED_STEP}-*"))

    @property
    def features(self) -> Path:
        """The encoder's vectors, or the pixels of the control."""
        return self.features_of(LATENT)

    def features_of(self, layer: str) -> Path:
        """One layer's features; those of several layers lie beside each other."""
        return self.folder / f"{features_stem(layer)}.parquet"

    def record(self, stem: str) -> Path:
        """The manifest of a later stage's output, such as `features-conv3` or `probe-linear`."""
        return self.folder / f"{stem}.{MANIFEST}"

    def result(self, stem: str) -> Path:
        return self.folder / f"{stem}.json"

    def predictions(self, stem: str) -> Path:
        return self.folder / f"{stem}-predictions.parquet"

    def few_label_sets(self, stem: str) -> Path:
        return self.folder / f"{stem}-few-label-sets.parquet"

    def fold(self, stem: str, fold: int) -> Path:
        return self.folder / f"{stem}-fold-{fold}.safetensors"

    def stage_resume(self, stem: str) -> Path:
        return self.folder / f"{stem}-resume"


def features_stem(layer: str = LATENT) -> str:
    return "features" if layer == LATENT else f"features-{layer}"


def targets_stem(color_space: str, size: int) -> str:
    """The stem of one set of colour targets."""
    return f"{TARGETS}-{color_space}-{size}"


def probe_stem(kind: str, layer: str = LATENT) -> str:
    return f"probe-{kind}" if layer == LATENT else f"probe-{kind}-{layer}"


def fine_tune_stem(protocol: str) -> str:
    return f"fine-tune-{protocol}"


def result_stems(folder: Path) -> list[str]:
    """The stems of the results that were begun in a run's folder, finished or not, in order."""
    return [name for name in _stems(folder) if name.startswith(("probe-", "fine-tune-"))]


def features_stems(folder: Path) -> list[str]:
    """The stems of the features that were begun in a run's folder, finished or not, in order."""
    return [name for name in _stems(folder) if name == "features" or name.startswith("features-")]


def _stems(folder: Path) -> list[str]:
    suffix = f".{MANIFEST}"
    return sorted(path.name.removesuffix(suffix) for path in folder.glob(f"*{suffix}"))


def find_data(data_dir: Path, name: str | None) -> DataLayout:
    """The prepared data set of that name or folder; without a name, the only one there is.

    Raises:
        UsageError: If there are several and none was named.
        ArtifactError: If there is none.
    """
    prepared = sorted(path.parent.name for path in data_dir.glob(f"*/{MANIFEST}"))
    if name is None:
        if len(prepared) == 1:
            return DataLayout(data_dir / prepared[0])
        if prepared:
            raise UsageError(f"{data_dir} holds {len(prepared)} data sets: {', '.join(prepared)}",
                             hint=f"choose one, for example --data {prepared[0]}")  # fmt: skip
        raise ArtifactError(f"no prepared data set in {data_dir}", hint="pretext prepare-data shapes")
    for folder in (data_dir / name, Path(name)):
        if (folder / MANIFEST).is_file():
            return DataLayout(folder)
    there = f"there are: {', '.join(prepared)}" if prepared else "there is none"
    hint = f"pretext prepare-data {name if name in SOURCES else 'makes one'}"
    raise ArtifactError(f"no prepared data set '{name}' in {data_dir}; {there}", hint=hint)


def find_run(folder: Path) -> RunLayout:
    """A run's folder, checked to exist, so that a mistyped path never stands for another run.

    Raises:
        ArtifactError: If there is no such folder or it is not a run.
    """
    layout = RunLayout(folder)
    if not folder.is_dir():
        near = sorted(path.name for path in folder.parent.glob("*") if (path / MANIFEST).exists())
        there = f"; {folder.parent} holds: {', '.join(near)}" if near else ""
        raise ArtifactError(f"no run at {folder}{there}", hint="pretext pretrain makes one")
    if not (layout.manifest.exists() or features_stems(folder)):
        raise ArtifactError(f"{folder} is not a run: it has no {MANIFEST}", hint="pretext pretrain makes one")
    return layout


def find_runs(paths: tuple[Path, ...]) -> list[RunLayout]:
    """Every run at or directly below the given folders, in order, each once.

    Raises:
        ArtifactError: If a path does not exist or holds no run.
    """
    found: dict[Path, RunLayout] = {}
    for path in paths:
        if not path.is_dir():
            raise ArtifactError(f"no such folder: {path}")
        here = [path] if _is_run(path) else sorted(folder for folder in path.iterdir() if _is_run(folder))
        if not here:
            raise ArtifactError(f"{path} holds no run", hint="pretext pretrain makes one")
        found |= {folder.resolve(): RunLayout(folder) for folder in here}
    return list(found.values())


def _is_run(folder: Path) -> bool:
    """Whether a report has something to say of it: a run, features without one, or a metric's score."""
    return bool(features_stems(folder)) or any((folder / name).exists() for name in (MANIFEST, f"{SCORE}.{MANIFEST}"))

"""`report`: any number of runs become one comparison, as HTML, Markdown, tables and figures."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from pretext import __version__
from pretext.artifacts.atomic import file_sha256, temporary_path, write_bytes
from pretext.artifacts.layout import MANIFEST, SCORE, RunLayout, find_runs
from pretext.artifacts.lock import clear_lock, lock_path
from pretext.artifacts.manifest import Parent, Record, read_manifest
from pretext.artifacts.scores import JUDGMENTS_FILE
from pretext.config import identity
from pretext.errors import ArtifactError
from pretext.progress import Progress, Silent
from pretext.reports.compare import Study, compare
from pretext.reports.document import Document, build_document
from pretext.reports.gather import gather, look
from pretext.reports.html import to_html
from pretext.reports.markdown import to_markdown_report
from pretext.reports.pictures import KINDS
from pretext.reports.score_tables import headline_table
from pretext.reports.tables import printable, to_csv, to_latex, to_terminal
from pretext.stage_configs import ReportConfig

HTML, MARKDOWN = "report.html", "report.md"
REPORT_FILE = re.compile(r"report\.(html|md)|(tables|figures)/[A-Za-z0-9_-]+\.(csv|tex|png|svg)")
# Everything in a run's folder that a report shows; features and weights are behind the manifests that name them.
READ = (MANIFEST, f"*.{MANIFEST}", "probe-*.json", "fine-tune-*.json", "*-predictions.parquet", "metrics.parquet",
        f"{SCORE}.json", JUDGMENTS_FILE,
        *(f"{kind}.png" for kind in KINDS))  # fmt: skip


def run(config: ReportConfig, *, explicit: Collection[str] = (), progress: Progress | None = None) -> dict[str, Any]:
    """Compare runs and write the report; see `ReportConfig` for the options.

    Broken or unfinished runs are shown as such. A report that is there already is made anew when its runs have
    changed; with another title or other runs only with `overwrite`.

    Args:
        config: The options.
        explicit: Which of them the user gave; the report reads every one.
        progress: Where progress goes.

    Returns:
        The HTML file, status, the answer in a sentence, the number of warnings, and under "text" the results as a
        table and the warnings in sentences.

    Raises:
        ArtifactError: If a path is no run, the folder holds something else, or a run changes meanwhile.
    """
    progress = progress or Silent()
    # a report kept among the runs is no run
    layouts = [found for found in find_runs(config.runs) if found.folder.resolve() != config.out.resolve()]
    record = Record(config.out / MANIFEST, "report", identity(config), _parents(layouts))
    earlier = _earlier(record, overwrite=config.overwrite)
    if config.dry_run:
        return _dry_run(config, layouts)
    study = compare(gather(layouts))
    if not config.overwrite and _is_current(record, earlier):
        clear_lock(record.path)
        return _outcome(config, study, earlier, "already done")

    record.begin(identity(config), seed=None)
    record.note({"earlier": _names(earlier)})
    document = build_document(study, title=config.title)
    files = _render(document)
    if _parents(layouts) != record.parents:
        raise ArtifactError("a run changed while its report was made; nothing of it was written",
                            hint="run the same command again")  # fmt: skip
    _write(config.out, files, stale=set(_names(earlier)) - files.keys(), progress=progress)
    content = record.finish([config.out / HTML, config.out / MARKDOWN], summary=_summary(document, files))
    return _outcome(config, study, content, "done")


def _parents(layouts: Sequence[RunLayout]) -> list[Parent]:
    paths = [path for layout in layouts for pattern in READ for path in sorted(layout.folder.glob(pattern))]
    return [Parent("run", str(path), file_sha256(path)) for path in dict.fromkeys(paths)]


def _earlier(record: Record, *, overwrite: bool) -> dict[str, Any]:
    """The manifest of the report that is there, empty if there is none.

    Raises:
        ArtifactError: If the folder holds files without one, or a report that was asked for otherwise.
    """
    folder = record.path.parent
    if not record.path.exists():
        if folder.exists() and (not folder.is_dir() or not _is_begun(record.path)):
            raise ArtifactError(f"{folder} is there already and is no report of this toolkit; nothing was touched",
                                hint="choose another place with --out")  # fmt: skip
        return {}
    found = read_manifest(record.path)
    if found["stage"] != "report":
        raise ArtifactError(f"{folder} is the output of {found['stage']}, not a report",
                            hint="choose another place with --out")  # fmt: skip
    before, after = found.get("request", {}), dict(record.request)
    differing = [f"{name} was {before.get(name)!r}, now {after.get(name)!r}"
                 for name in sorted(before.keys() | after.keys()) if before.get(name) != after.get(name)]  # fmt: skip
    if differing and not overwrite:
        raise ArtifactError(f"{folder} already holds another report: {'; '.join(differing)}",
                            hint="--overwrite replaces it, or choose another place with --out")  # fmt: skip
    return found


def _is_begun(manifest: Path) -> bool:
    """Whether its folder holds nothing but what a kill leaves that comes before the manifest is there."""
    names = {lock_path(manifest).name, temporary_path(manifest).name}
    return all(path.name in names for path in manifest.parent.iterdir())


def _is_current(record: Record, earlier: Mapping[str, Any]) -> bool:
    """Whether the report that is there is whole, made of just these files by this version."""
    if earlier.get("status") != "done" or look(earlier, "versions", "pretext") != __version__:
        return False
    if earlier["parents"] != [parent.as_json() for parent in record.parents]:
        return False
    files = earlier["summary"].get("files")
    if not isinstance(files, dict) or set(files) != set(_names(earlier)):
        return False
    sizes = {record.path.parent / name: size for name, size in files.items()}
    return all(path.is_file() and path.stat().st_size == size for path, size in sizes.items())


def _names(earlier: Mapping[str, Any]) -> list[str]:
    """The files of the report that was here before, finished or begun; only such as a report has are ever removed."""
    names = earlier.get("summary", {}).get("files") or earlier.get("progress", {}).get("earlier", [])
    return [name for name in names if isinstance(name, str) and REPORT_FILE.fullmatch(name)]


def _render(document: Document) -> dict[str, bytes]:
    """Every file of the report by its place in the folder."""
    files = {HTML: to_html(document).encode(), MARKDOWN: to_markdown_report(document).encode()}
    for table in document.tables:
        if table.rows:
            files[f"tables/{table.name}.csv"] = to_csv(table).encode()
            files[f"tables/{table.name}.tex"] = to_latex(table).encode()
    for picture in document.pictures:
        files[f"figures/{picture.name}.png"] = picture.png
        if picture.svg:
            files[f"figures/{picture.name}.svg"] = picture.svg
    return files


def _write(folder: Path, files: Mapping[str, bytes], *, stale: Collection[str], progress: Progress) -> None:
    with progress.task("writing", len(files), "files") as task:
        for name, content in files.items():
            write_bytes(folder / name, content)
            task.advance()
    for name in stale:
        (folder / name).unlink(missing_ok=True)


def _summary(document: Document, files: Mapping[str, bytes]) -> dict[str, Any]:
    return {"answer": document.answer.headline, "warnings": document.warnings,
            "files": {name: len(content) for name, content in files.items()}}  # fmt: skip


def _outcome(config: ReportConfig, study: Study, content: Mapping[str, Any], status: str) -> dict[str, Any]:
    summary = content["summary"]
    table = headline_table(study.primary)
    lines = [to_terminal(table), ""] if table.rows else []
    lines += [f"Warning: {printable(sentence)}" for sentence in summary["warnings"]]
    return {"output": str(config.out / HTML), "status": status, "runs": len(study.runs), "answer": summary["answer"],
            "warnings": len(summary["warnings"]), "text": "\n".join(lines)}  # fmt: skip


def _dry_run(config: ReportConfig, layouts: Sequence[RunLayout]) -> dict[str, Any]:
    return {"output": str(config.out / HTML), "status": "dry run", "reads": [str(layout.folder) for layout in layouts],
            "writes": [str(config.out / name) for name in (HTML, MARKDOWN, "tables", "figures", MANIFEST)]}  # fmt: skip

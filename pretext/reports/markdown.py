"""The report as Markdown, with its figures as files beside it."""

from __future__ import annotations

from pretext.reports.document import Block, Details, Document, Gallery, Heading, Text
from pretext.reports.score_tables import Matrix
from pretext.reports.style import Picture
from pretext.reports.tables import Column, Table, escape_markdown, to_markdown


def to_markdown_report(document: Document) -> str:
    """Render a document; figures are linked as figures/NAME.png."""
    lines = [f"# {escape_markdown(document.title)}", ""]
    if document.finished:
        lines += [f"Newest result: {escape_markdown(document.finished)}", ""]
    lines += ["## Answer", "", escape_markdown(document.answer.headline), ""]
    for label, sentences in document.answer.parts:
        lines.append(f"- **{escape_markdown(label)}**")
        lines += [f"  - {escape_markdown(sentence)}" for sentence in sentences]
    lines += ["", *(f"> {escape_markdown(text)}\n>" for text in document.warnings)]
    for section in document.sections:
        lines += ["", f"## {escape_markdown(section.title)}", ""]
        for block in section.blocks:
            lines += [_block(block), ""]
    return "\n".join(lines).rstrip() + "\n"


def _block(block: Block) -> str:
    if isinstance(block, Text):
        return escape_markdown(block.text)
    if isinstance(block, Heading):
        return f"### {escape_markdown(block.text)}"
    if isinstance(block, Table):
        return to_markdown(block)
    if isinstance(block, Details):
        return to_markdown(block.table)
    if isinstance(block, Gallery):
        return "\n\n".join(map(_picture, block.pictures))
    if isinstance(block, Picture):
        return _picture(block)
    return to_markdown(matrix_as_table(block))


def _picture(picture: Picture) -> str:
    return f"![{escape_markdown(picture.alt)}](figures/{picture.name}.png)\n\n{escape_markdown(picture.caption)}"


def matrix_as_table(matrix: Matrix) -> Table:
    """The matrix of differences as a plain table."""
    columns = [Column("method", "")]
    columns += [Column(str(index), str(index)) for index in range(1, len(matrix.labels) + 1)]
    rows = [(f"{index} {label}", *(" ".join(filter(None, cell[:2])) for cell in cells))
            for index, (label, cells) in enumerate(zip(matrix.labels, matrix.cells, strict=True), 1)]  # fmt: skip
    return Table("matrix", "All pairs: row minus column, points", columns, rows, matrix.note)

"""The report as a page: HTML in one file without any other, and Markdown."""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import jinja2
import markupsafe

from hpc_heatmap.runs.report.collecting import Report
from hpc_heatmap.runs.report.drawing import png, svg
from hpc_heatmap.runs.report.rows import (
    TITLES,
    Column,
    CombinedRow,
    DataRow,
    Kind,
    StageRow,
    columns,
)
from hpc_heatmap.runs.report.stains import embedded_picture
from hpc_heatmap.runs.report.timeline import draw_timeline
from hpc_heatmap.runs.report.values import shown

__all__ = ["Layout", "Line", "html_page", "layouts", "markdown_page", "timeline_png"]

SOURCE = (
    "Definitions after Tables I to III of Li, Mikailov and Chen, IEEE Transactions on Artificial "
    "Intelligence, 2023."
)


#: Pictures of stains in one page; all of them are in the run directory.
MOST_STAIN_PICTURES = 12


@dataclass(frozen=True)
class Line:
    """One measure of a table and its values, one for each row of the data."""

    column: Column
    values: tuple[str, ...]


@dataclass(frozen=True)
class Layout:
    """A table as people read it: a line a measure, a column a subset (and stage).

    Attributes
    ----------
    title
        Name of the table.
    headings
        One for each column of values.
    lines
        Measures.
    """

    title: str
    headings: tuple[str, ...]
    lines: tuple[Line, ...]


def layouts(report: Report) -> Iterator[Layout]:
    """Tables I to III, with several subsets a Table II for each; planned against actual."""
    one = len(report.data) == 1
    yield _layout(TITLES["I"], DataRow, report.data, "subset")
    for row in report.data:
        rows = [r for r in report.stages if r.subset == row.subset]
        title = TITLES["II"] if one else f"{TITLES['II']}, {row.subset}"
        yield _layout(title, StageRow, rows, "stage")
    yield _layout(TITLES["III"], CombinedRow, report.combined, "subset")
    if report.planned:
        lines = [
            Line(
                Column(row.name, row.title, row.kind, ""),
                (
                    shown(row.planned, row.kind),
                    shown(row.actual, row.kind),
                    shown(row.ratio, Kind.NUMBER),
                ),
            )
            for row in report.planned
        ]
        headings = ("planned", "actual", "actual / planned")
        yield Layout("Planned against actual", headings, tuple(lines))


def _layout(title: str, kind: type, rows: Sequence[Any], heading: str) -> Layout:
    measures = [c for c in columns(kind) if c.name not in {"subset", "stage"}]
    return Layout(
        title,
        tuple(getattr(row, heading) for row in rows),
        tuple(
            Line(c, tuple(shown(getattr(row, c.name), c.kind) for row in rows)) for c in measures
        ),
    )


def html_page(report: Report) -> str:
    """One HTML file: tables, timeline, failures, provenance; nothing is fetched from anywhere."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("hpc_heatmap.runs.report", ""),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    scene = draw_timeline(report.records, report.pauses, report.root.name)
    whole = report.combined[-1]
    key = {c.name: shown(getattr(whole, c.name), c.kind) for c in columns(CombinedRow)}
    # Markup: svg() has escaped all that came from files.
    picture = markupsafe.Markup(svg(scene)) if scene else ""
    return environment.get_template("page.html.j2").render(
        report=report,
        key=key,
        layouts=list(layouts(report)),
        picture=picture,
        source=SOURCE,
        facts=list(_facts(report)),
        stain_pictures=[
            (row.slide, embedded_picture(row.picture)) for row in report.stains if row.picture
        ][:MOST_STAIN_PICTURES],
        made=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    )


def _facts(report: Report) -> Iterator[tuple[str, str]]:
    """Where the run came from, by name."""
    values = report.as_dict()
    for title, part in (
        ("model", values["model"]),
        ("setting", values["settings"]),
        ("plan", values["provenance"]),
    ):
        for name, value in part.items():
            if isinstance(value, dict):
                value = ", ".join(f"{k} {v}" for k, v in value.items())
            elif isinstance(value, list):
                value = " ".join(map(str, value))
            text = "-" if value is None or value == "" else str(value)
            yield f"{title}: {name.replace('_', ' ')}", text
    yield "clusters", ", ".join(values["clusters"]) or "-"
    hosts = [f"{host} ({tasks} tasks)" for host, tasks in report.hosts.items()]
    yield "hosts", ", ".join(hosts[:50] + ([f"and {len(hosts) - 50} more"] if hosts[50:] else []))


def timeline_png(report: Report) -> bytes | None:
    """The timeline as PNG; None where no task has a record."""
    scene = draw_timeline(report.records, report.pauses, report.root.name)
    return png(scene) if scene else None


def markdown_page(report: Report, picture: str | None = None) -> str:
    """The report as Markdown.

    Parameters
    ----------
    report
        What to write.
    picture
        Path of the timeline, relative to the page.
    """
    parts = [f"# Run time of {_cell(report.root.name)}", f"State: {report.state.value}. {SOURCE}"]
    if report.notes:
        parts.append("\n".join(f"- {_cell(note)}" for note in report.notes))
    for layout in layouts(report):
        lines = [
            f"| | {' | '.join(map(_cell, layout.headings))} |",
            f"|---|{'---:|' * len(layout.headings)}",
            *(f"| {line.column.title} | {' | '.join(line.values)} |" for line in layout.lines),
        ]
        parts += [f"## {_cell(layout.title)}", "\n".join(lines)]
    if picture:
        parts += ["## Timeline", f"![Which core did what when]({quote(picture)})"]
    if report.stains:
        rows = [
            f"| {_cell(r.slide)} | {r.method} | {r.per} | {_cell(r.described())} "
            f"| {'-' if r.raw_patches is None else r.raw_patches} | {r.patches} "
            f"| {_cell(r.problem or '-')} | {_cell(r.picture or '-')} |"
            for r in report.stains
        ]
        head = "| slide | method | per | estimate | raw patches | patches | problem | picture |\n"
        parts += ["## Stain normalization", head + "|---" * 8 + "|\n" + "\n".join(rows)]
    if report.failures:
        failures = [
            f"| {_cell(f.slide)} | {f.stage} | {'-' if f.group is None else f.group} "
            f"| {_cell(f.reason)} |"
            for f in report.failures
        ]
        head = "| slide | stage | group | reason |\n|---|---|---|---|\n"
        parts += ["## Failures", head + "\n".join(failures)]
    facts = [f"| {_cell(name)} | {_cell(text)} |" for name, text in _facts(report)]
    parts += ["## Provenance", "| | |\n|---|---|\n" + "\n".join(facts)]
    return "\n\n".join(parts) + "\n"


def _cell(text: str) -> str:
    """Text that neither ends a cell nor becomes HTML, a link or emphasis."""
    text = " ".join(text.split())
    for mark in "\\`*_[]<>|#":
        text = text.replace(mark, f"\\{mark}")
    return text

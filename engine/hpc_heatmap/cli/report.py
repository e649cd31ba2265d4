"""The command ``report``: tables in the terminal, JSON, and pages as files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter
from rich.console import Console
from rich.table import Table
from rich.text import Text

from hpc_heatmap.cli.app import RunDirectory, console
from hpc_heatmap.errors import SettingsError
from hpc_heatmap.formats.atomic import writing

if TYPE_CHECKING:
    from hpc_heatmap.runs.report import Report

__all__ = ["print_report", "report", "write_pages"]


def report(
    directory: RunDirectory,
    /,
    *,
    subset: Annotated[
        list[str] | None,
        Parameter(
            negative="",
            consume_multiple=True,
            help="NAME=GLOB: slides that get rows of their own, such as tumor='tumor_*'.",
        ),
    ] = None,
    plan: Annotated[
        Path | None, Parameter(help="What `plan --json` printed, to compare with.")
    ] = None,
    html: Annotated[
        Path | None, Parameter(help="Write a page with tables and timeline to this file.")
    ] = None,
    markdown: Annotated[
        Path | None, Parameter(help="Write Markdown to this file and a picture beside it.")
    ] = None,
    as_json: Annotated[
        bool,
        Parameter(name="--json", negative="", show_default=False, help="Print JSON for scripts."),
    ] = False,
) -> int:
    """Show the run time: serial and parallel time, speed-up, cores, efficiency, bytes.

    These are the paper's Tables I to III for this run, made from its files alone; docs/report.md
    defines every line.
    """
    from hpc_heatmap.runs.report import parse_subsets, report_run
    from hpc_heatmap.runs.report.planned import read_plan

    planned = None if plan is None else read_plan(plan)
    made = report_run(directory, parse_subsets(subset or []), planned)
    written = write_pages(made, html, markdown)
    if as_json:
        print(json.dumps(made.as_dict(), indent=2, allow_nan=False))
        return 0
    print_report(console, made)
    for path in written:
        console.print(f"Written: {path}", markup=False)
    return 0


def print_report(console: Console, report: Report) -> None:
    """Tables I to III, then what a reader has to know."""
    from hpc_heatmap.runs.report.pages import layouts

    for layout in layouts(report):
        table = Table(title=Text(layout.title), title_justify="left", title_style="bold")
        table.add_column("")
        for heading in layout.headings:
            table.add_column(Text(heading), justify="right")
        for line in layout.lines:
            table.add_row(line.column.title, *line.values)
        console.print(table)
    for note in report.notes:
        console.print(note, markup=False)
    for failure in report.failures:
        console.print(f"{failure.slide}, {failure.stage}: {failure.reason}", markup=False)


def write_pages(report: Report, html: Path | None, markdown: Path | None) -> list[Path]:
    """Write the pages that are asked for, and a picture beside the Markdown.

    Raises
    ------
    SettingsError
        A page would replace a folder.
    StorageError
        A page cannot be written.
    """
    from hpc_heatmap.runs.report import html_page, markdown_page
    from hpc_heatmap.runs.report.pages import timeline_png

    for path in (html, markdown):
        if path is not None and path.is_dir():
            raise SettingsError(f"{path} is a folder: give the name of a file.")
    written = []
    if html is not None:
        _write(html, html_page(report).encode())
        written.append(html)
    if markdown is not None:
        picture = markdown.with_name(f"{markdown.stem}-timeline.png")
        drawn = timeline_png(report)
        if drawn is not None:
            _write(picture, drawn)
            written.append(picture)
        _write(markdown, markdown_page(report, picture.name if drawn else None).encode())
        written.append(markdown)
    return written


def _write(path: Path, content: bytes) -> None:
    with writing(path) as partial:
        partial.write_bytes(content)

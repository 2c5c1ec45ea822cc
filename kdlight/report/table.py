"""The table that a run prints at its end: ``summary.json`` for a terminal."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from kdlight.report.columns import FLOOR, columns_of, number_text
from kdlight.report.figures.column import Column
from kdlight.report.runs import Row, parse_rows

ARROWS = {"lower": "↓", "higher": "↑", "one": "→1", None: ""}


def summary_table(rows: Sequence[Mapping[str, Any]], title: str | None = None) -> Table:
    """The rows of ``summary.json`` as a rich table that fits 80 columns.

    Columns that no row fills are left out. The last line holds the floors: the same figures for as
    many real images.

    Args:
        rows: What ``summary.json`` holds; keys may be missing, None or NaN.
        title: Heading of the table.

    Returns:
        A table for ``rich.console.Console().print``.
    """
    parsed = parse_rows(rows)
    shown = columns_of(key for row in parsed for key in row.values)
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=0, pad_edge=False)
    table.add_column("Model", no_wrap=True, vertical="bottom")
    counted = "Levels" if any("n_q" in row for row in rows) else "Steps"
    table.add_column(counted, justify="right", vertical="bottom")
    for item in shown:
        sign = f"{item.unit if item.unit == '%' else ''} {ARROWS[item.better]}".strip()
        heading = "\n".join(filter(None, [item.narrow or item.label, sign]))
        table.add_column(heading, justify="right", vertical="bottom")
    for row in parsed:
        cells = [_value_text(row.values.get(item.key), item) for item in shown]
        steps = "-" if row.steps is None else str(row.steps)
        table.add_row(
            Text(row.model), steps, *cells, style="bold" if row.model == "student" else ""
        )
    floors = [_floor_text(parsed, item) for item in shown]
    if any(floors):
        table.add_row("floor", "", *floors, style="dim")
    return table


def _value_text(value: float | None, column: Column) -> str:
    if value is None:
        return "-"
    return number_text(value, column) + ("x" if column.unit == "x" else "")


def _floor_text(rows: Sequence[Row], column: Column) -> str:
    """The floor of a column; the lowest and the highest where rows were measured apart."""
    values = [row.values[column.key + FLOOR] for row in rows if column.key + FLOOR in row.values]
    texts = [number_text(value, column) for value in sorted(values)]
    return "-".join(dict.fromkeys([texts[0], texts[-1]])) if texts else ""

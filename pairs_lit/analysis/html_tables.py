"""Results as HTML, which notebooks display: tables and paragraphs of escaped text."""

from collections.abc import Iterable, Sequence
from html import escape

from pairs_lit.analysis.tables import Table

_IGNORED_BY_MATHJAX = "tex2jax_ignore mathjax_ignore"
"""CSS classes of text in which dollar signs do not begin a formula."""


def format_html(blocks: Iterable[Table | str]) -> str:
    """Return tables and paragraphs as HTML; empty texts and tables without rows are left out.

    The columns ``mean`` and ``std`` of a table become one column, ``mean ± std``.
    """
    parts = [_format_table(block) if isinstance(block, Table) else _format_paragraph(block) for block in blocks]
    return f'<div class="{_IGNORED_BY_MATHJAX}">{"".join(parts)}</div>'


def _format_paragraph(text: str) -> str:
    lines = map(escape, text.splitlines())
    return f"<p>{'<br>'.join(lines)}</p>" if text else ""


def _format_table(table: Table) -> str:
    if not table.rows:
        return ""
    header, *rows = _merge_mean_and_std([table.header, *table.rows])
    head = "".join(f"<th>{escape(str(cell))}</th>" for cell in header)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(map(_format_row, rows))}</tbody></table>"


def _format_row(row: Sequence[object]) -> str:
    name, *cells = (escape(str(cell)) for cell in row)
    return f'<tr><th style="text-align: left">{name}</th>{"".join(f"<td>{cell}</td>" for cell in cells)}</tr>'


def _merge_mean_and_std(rows: Sequence[Sequence[object]]) -> list[Sequence[object]]:
    """Return the rows, of which the first is the header, with mean and std in one column if both are there."""
    header = list(rows[0])
    if "std" not in header:
        return list(rows)
    mean = header.index("std") - 1
    return [[*row[:mean], _join_mean_and_std(*row[mean : mean + 2]), *row[mean + 2 :]] for row in rows]


def _join_mean_and_std(mean: object, std: object) -> str:
    return str(mean) if std == "–" else f"{mean} ± {std}"

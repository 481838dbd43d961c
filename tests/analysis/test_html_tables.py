import pytest

from pairs_lit.analysis.html_tables import format_html
from pairs_lit.analysis.tables import Table
from tests.support.notebooks import read_html

NASTY = "<script>alert(1)</script> & \"quoted\" 'names' $x$"


def test_all_texts_are_escaped() -> None:
    html = format_html([NASTY, Table([NASTY, "n"], [[NASTY, NASTY]])])
    assert read_html(html) == [NASTY, NASTY, "n", NASTY, NASTY]
    assert '"quoted"' not in html


def test_formulas_are_not_typeset() -> None:
    assert format_html(["$x$"]).startswith('<div class="tex2jax_ignore mathjax_ignore">')


def test_mean_and_std_are_one_column() -> None:
    table = Table(["run", "n", "mean", "std", "min"], [["a", 3, "0.5", "0.1", "0.4"], ["b", 1, "0.6", "–", "0.6"]])
    assert read_html(format_html([table])) == [
        "run", "n", "mean ± std", "min", "a", "3", "0.5 ± 0.1", "0.4", "b", "1", "0.6", "0.6"
    ]  # fmt: skip


def test_a_table_without_these_columns_is_unchanged() -> None:
    assert read_html(format_html([Table(["pair", "p"], [["a − b", "0.02"]])])) == ["pair", "p", "a − b", "0.02"]


def test_the_lines_of_a_paragraph_stay_lines() -> None:
    assert "<p>first<br>second</p>" in format_html(["first\nsecond"])


@pytest.mark.parametrize("block", ["", Table(["run", "n"], [])])
def test_empty_blocks_are_left_out(block: Table | str) -> None:
    assert format_html([block, "text"]) == format_html(["text"])

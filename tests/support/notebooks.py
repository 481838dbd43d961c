"""Notebooks that are executed in a kernel, and checks of what they display."""

import json
import re
from collections.abc import Iterator, Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from tutorial import execute_notebook

WIDGET = "application/vnd.jupyter.widget-view+json"


def execute_cells(cells: Sequence[str], folder: Path) -> list[list[dict[str, Any]]]:
    """Execute the cells in a new kernel, in an empty folder, and return the outputs of each cell."""
    code = {"cell_type": "code", "execution_count": None, "metadata": {}, "outputs": []}
    content = [{**code, "id": f"cell-{place}", "source": cell} for place, cell in enumerate(cells)]
    path = folder / "source" / "notebook.ipynb"
    path.parent.mkdir()
    path.write_text(json.dumps({"cells": content, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}))
    return [cell["outputs"] for cell in execute_notebook(path, folder, timeout=300)["cells"]]


def join_stream(outputs: Sequence[dict[str, Any]], name: str) -> str:
    return "".join(text for output in outputs if output.get("name") == name for text in output["text"])


def list_displayed(outputs: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the data of each displayed object, by type of content."""
    return [output["data"] for output in outputs if "data" in output]


def count_bars(outputs: Sequence[dict[str, Any]]) -> int:
    """Count progress bars: widgets, and lines of text that end with a full bar."""
    lines = join_stream(outputs, "stderr").split("\n")
    return sum(WIDGET in data for data in list_displayed(outputs)) + sum("100%" in line for line in lines)


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.texts: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.tags.add(tag)

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


PLAIN_TAGS = {"div", "p", "br", "table", "thead", "tbody", "tr", "th", "td"}


def read_html(html: str) -> list[str]:
    """Return the texts between the tags; fail if a tag is not one of a plain table or paragraph."""
    reader = _Reader()
    reader.feed(html)
    reader.close()
    assert reader.tags <= PLAIN_TAGS
    return reader.texts


def iterate_texts(value: object) -> Iterator[str]:
    """Yield every text within JSON data, except images."""
    match value:
        case str():
            yield value
        case list():
            for item in value:
                yield from iterate_texts(item)
        case dict():
            for key, item in value.items():
                yield from () if re.fullmatch("image/.*", str(key)) else iterate_texts(item)

"""Screenshot of the demo page, for the documentation: ``python benchmarks/demo_figure.py RUN``.

Opens the page of a finished run in the system's Chromium, draws two digits with the mouse and writes ``docs/demo.png``.
The page is shown in its dark colours, so that the image does not glare on a dark page.
"""

import argparse
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from playwright.sync_api import Page, ViewportSize, sync_playwright

from pairs_lit.commands.demo import HOST, find_free_port, serve_page
from pairs_lit.inference.run import Run
from pairs_lit.runs.atomic_write import write_atomically

OUTPUT = Path(__file__).parent.parent / "docs" / "demo.png"

VIEWPORT: ViewportSize = {"width": 620, "height": 1240}

_BROWSER_FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]

Stroke = Sequence[tuple[float, float]]
"""Points of a stroke, from (0, 0) at the top left to (1, 1) at the bottom right."""

SEVEN: Stroke = [(0.3, 0.22), (0.7, 0.2), (0.6, 0.42), (0.45, 0.8)]
FOUR: Stroke = [(0.42, 0.2), (0.34, 0.52), (0.68, 0.5), (0.62, 0.34), (0.62, 0.82)]


@contextmanager
def open_page(port: int, browser: str, scheme: Literal["dark", "light"] = "light") -> Iterator[tuple[Page, list[str]]]:
    """Open the page in the browser. Yields the page and the list of addresses that it requests."""
    asked: list[str] = []
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=browser, args=_BROWSER_FLAGS)
        page = chromium.new_page(viewport=VIEWPORT, color_scheme=scheme)
        page.on("request", lambda request: asked.append(request.url))
        page.goto(f"http://{HOST}:{port}/")
        page.wait_for_selector("#right canvas", timeout=60_000)
        yield page, asked
        chromium.close()


def draw_stroke(page: Page, side: str, stroke: Stroke) -> None:
    """Draw a stroke on a canvas with the mouse."""
    box = page.locator(f"#{side} canvas").bounding_box()
    assert box is not None
    points = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in stroke]
    page.mouse.move(*points[0])
    page.mouse.down()
    for x, y in points[1:]:
        page.mouse.move(x, y, steps=8)
    page.mouse.up()


def main(args: Sequence[str] | None = None) -> None:
    """Draw two digits and write the screenshot."""
    parser = argparse.ArgumentParser(description="Write a screenshot of a run's demo page.")
    parser.add_argument("run", type=Path, help="folder of a finished run")
    parser.add_argument(
        "--browser", default=shutil.which("chromium"), help="executable of Chromium (default: chromium)"
    )
    parser.add_argument("--output", type=Path, default=OUTPUT, help="file to write (default: docs/demo.png)")
    options = parser.parse_args(args)
    port = find_free_port(0)
    served = serve_page(Run.load(options.run), port)
    with open_page(port, options.browser, "dark") as (page, _):
        draw_stroke(page, "left", FOUR)
        draw_stroke(page, "right", SEVEN)
        page.wait_for_selector("#answer svg", timeout=30_000)
        image = page.screenshot()
    served.close(verbose=False)
    write_atomically(options.output, lambda file: file.write(image))
    print(options.output)


if __name__ == "__main__":
    main()

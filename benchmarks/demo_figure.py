"""The demo's page, for the docs: ``python benchmarks/demo_figure.py RUN``.

Draws two digits with the mouse on the page of a finished run, in the system's Chromium, and writes ``docs/demo.png``.
"""

import argparse
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Page, ViewportSize, sync_playwright

from pairs_lit.commands.demo import HOST, free_port, serve
from pairs_lit.inference.run import Run
from pairs_lit.runs.atomic_write import write_durably

OUTPUT = Path(__file__).parent.parent / "docs" / "demo.png"

VIEW: ViewportSize = {"width": 760, "height": 1220}

_OFFLINE = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]

Stroke = Sequence[tuple[float, float]]
"""Points from (0, 0), above on the left, to (1, 1)."""

SEVEN: Stroke = [(0.3, 0.22), (0.7, 0.2), (0.6, 0.42), (0.45, 0.8)]
FOUR: Stroke = [(0.42, 0.2), (0.34, 0.52), (0.68, 0.5), (0.62, 0.34), (0.62, 0.82)]


@contextmanager
def opened(port: int, browser: str) -> Iterator[tuple[Page, list[str]]]:
    """Open the page in a browser of this machine; yields it, and the addresses that it asks for."""
    asked: list[str] = []
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=browser, args=_OFFLINE)
        page = chromium.new_page(viewport=VIEW)
        page.on("request", lambda request: asked.append(request.url))
        page.goto(f"http://{HOST}:{port}/")
        page.wait_for_selector("#right canvas", timeout=60_000)
        yield page, asked
        chromium.close()


def draw(page: Page, side: str, stroke: Stroke) -> None:
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
    """Draw and write."""
    parser = argparse.ArgumentParser(description="Show the demo's page of a run.")
    parser.add_argument("run", type=Path, help="a run folder")
    parser.add_argument("--browser", default=shutil.which("chromium"), help="Chromium's executable")
    parser.add_argument("--output", type=Path, default=OUTPUT, help="the file")
    options = parser.parse_args(args)
    port = free_port(0)
    served = serve(Run.load(options.run), port)
    with opened(port, options.browser) as (page, _):
        draw(page, "left", FOUR)
        draw(page, "right", SEVEN)
        page.wait_for_selector("#answer svg", timeout=30_000)
        image = page.screenshot()
    served.close(verbose=False)
    write_durably(options.output, lambda file: file.write(image))
    print(options.output)


if __name__ == "__main__":
    main()

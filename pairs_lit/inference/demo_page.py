"""The demo page: draw or upload two digits in the browser, and see the prediction of each round at once."""

import base64
import io
from collections.abc import Sequence
from html import escape

import gradio as gr
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pairs_lit.errors import PairsLitError
from pairs_lit.inference.apply import apply_to_converted_images, describe_format, predict_images
from pairs_lit.inference.canvas import CanvasValue, build_canvas, is_upload, read_asset, read_canvas_value
from pairs_lit.inference.conversion import Converter, get_placement, get_training_bits
from pairs_lit.inference.predictions import ApplyResult
from pairs_lit.inference.run import Run
from pairs_lit.relation import get_sign
from pairs_lit.statistics import format_mean_and_std
from pairs_lit.text import format_count, format_sentence, replace_control_characters

FONTS = ["system-ui", "sans-serif"]
"""System fonts, since gradio's default fonts would be downloaded."""

STYLE = read_asset("canvas.css") + read_asset("demo_page.css")


def build_page(run: Run) -> gr.Blocks:
    """Return the page: two canvases, and below them the predictions of the rounds."""
    _warm_up(run)

    def answer(left: CanvasValue, right: CanvasValue) -> str:
        try:
            return answer_canvases(run, left, right)
        except PairsLitError as error:
            return (
                "<div class='answer'><p class='error' "
                f"role='alert'>{escape(replace_control_characters(str(error)))}</p></div>"
            )

    page: gr.Blocks
    with gr.Blocks(title="pairs-lit demo", analytics_enabled=False) as page:
        gr.HTML(render_introduction(run), elem_id="introduction")
        with gr.Row(elem_id="canvases"):
            canvases = [build_canvas(side) for side in ("left", "right")]
        prediction = gr.HTML(_HINT, elem_id="answer")
        gr.on(
            [canvas.change for canvas in canvases],
            answer,
            canvases,
            prediction,
            trigger_mode="always_last",
            show_progress="hidden",
            api_name="answer",
        )
    return page


def _warm_up(run: Run) -> None:
    """Run the networks once, so that they are built in this thread, and the first drawing need not wait."""
    size = get_placement(run, run.trained).size
    predict_images(run, run.trained, [("left", "right")], np.zeros((1, 2, size, size), np.float32))


def render_introduction(run: Run) -> str:
    """Return the head of the page as HTML: the question, instructions, and the test accuracy of the run."""
    n, sign = len(run.rounds) - len(run.failed), escape(get_sign(str(run.data["relation"])))
    failed = f" ({len(run.failed)} more failed)" if run.failed else ""
    test = run.summary.get("test_accuracy")
    accuracy = (
        f"test accuracy {format_mean_and_std(test)}" if test is not None and test.n else "no test accuracy was measured"
    )
    parts = [
        f"<h2>Is left {sign} right?</h2>",
        "<p>Draw a digit on each canvas, or upload an image for each side.</p>",
        f"<p>{format_count(n, 'round')}{failed} of {_escape_text(run.label)}, trained on "
        f"{_escape_text(str(run.data['source']))}: "
        f"{accuracy}.</p>",
    ]
    if run.class_names:
        names = ", ".join(name[:40] for name in run.class_names)
        parts.append(f"<p>The classes in their order: {_escape_text(names)}.</p>")
    warnings = [*describe_format(run, run.trained, as_is=False), *filter(None, [format_sentence(run.trained.note)])]
    parts += [f"<p class='warning'>{_escape_text(line)}</p>" for line in warnings]
    return f"<div class='answer'>{''.join(parts)}</div>"


def _escape_text(text: str) -> str:
    return escape(replace_control_characters(text))


_HINT = (
    "<div class='answer' aria-live='polite'><p>Draw a digit on each canvas, or upload an image for each side.</p></div>"
)


def answer_canvases(run: Run, left: CanvasValue, right: CanvasValue) -> str:
    """Return the predictions for two drawings or uploaded files as HTML, or instructions while one is missing.

    Raises:
        PairsLitError: A side is not a drawing or a readable image file, or it is blank.
    """
    if not left or not right:
        return _HINT
    bits, converter = get_training_bits(run.trained), Converter.for_run(run, run.trained)
    named = [read_canvas_value(left, "left", bits), read_canvas_value(right, "right", bits)]
    images = [converter.convert(grey, name) for name, grey in named]
    applied = apply_to_converted_images(run, run.trained, [(named[0][0], named[1][0])], [images])
    (pair,) = applied.pairs
    sides = zip(pair.names, pair.differences, (left, right), strict=True)
    return render_result(applied, [f"{name}: {text}." for name, text, sent in sides if text and is_upload(sent)])


def render_result(applied: ApplyResult, notices: Sequence[str] = ()) -> str:
    """Return the predictions for the first pair as self-contained HTML."""
    pair, sign, n = applied.pairs[0], escape(get_sign(applied.relation)), len(applied.seeds)
    warnings = "".join(
        f"<p class='warning' role='alert'>{_escape_text(line)}</p>" for line in (*pair.warnings, *notices)
    )
    readings, images = pair.readings or (None, None), ""
    for image, side, reading in zip(applied.seen[0], ("left", "right"), readings, strict=True):
        caption = (
            ""
            if reading is None
            else f": {_escape_text(reading.label)} ({reading.agreeing} of {format_count(n, 'round')})"
        )
        images += _render_image(image, side, caption)
    size = "×".join(map(str, applied.seen.shape[-2:]))
    return (
        f"<div class='answer' aria-live='polite'><p>Is left {sign} right? <b>{pair.answer}</b><br>"
        f"P(left {sign} right) = {format_mean_and_std(pair.probability)}</p>{warnings}{_render_dots(applied)}"
        f"<p>What the networks see ({size} pixels), and the digits that they recognise:</p>{images}</div>"
    )


def _render_image(image: NDArray[np.float32], side: str, caption: str) -> str:
    file = io.BytesIO()
    Image.fromarray(image.round().clip(0, 255).astype(np.uint8)).save(file, "PNG")
    content = base64.b64encode(file.getvalue()).decode()
    tag = f"<img alt='{side}, as the networks see it' src='data:image/png;base64,{content}'>"
    return f"<figure>{tag}<figcaption>{side}{caption}</figcaption></figure>"


_MAX_DOT_ROWS = 40
_PLOT_LEFT, _PLOT_WIDTH, _ROW_HEIGHT = 72, 216, 20


def _render_dots(applied: ApplyResult) -> str:
    """Return an SVG with P(relation) of each round as a dot in its own row, and the mean as a line.

    Above 40 rounds, the dots share five rows, and show their seeds as tooltips instead of labels.
    """
    pair, n = applied.pairs[0], len(applied.seeds)
    has_rows = n <= _MAX_DOT_ROWS
    rows = n if has_rows else 5
    dots = "".join(
        _render_dot(seed, p, _ROW_HEIGHT * (place % rows), has_row=has_rows)
        for place, (seed, p) in enumerate(zip(applied.seeds, pair.rounds, strict=True))
    )
    bottom = _ROW_HEIGHT * rows + 4
    mean = _PLOT_LEFT + _PLOT_WIDTH * pair.probability.mean
    ends = ((0, "0"), (0.5, f"P(left {escape(get_sign(applied.relation))} right)"), (1, "1"))
    words = "".join(
        f"<text x='{_PLOT_LEFT + _PLOT_WIDTH * place}' y='{bottom + 17}' text-anchor='middle'>{text}</text>"
        for place, text in ends
    )
    legend = "line: mean" if has_rows else "line: mean; point at a dot for its seed"
    return (
        f"<svg viewBox='0 0 336 {bottom + 40}' role='img' aria-label='P of each round'>"
        f"<path d='M{_PLOT_LEFT} {bottom} h{_PLOT_WIDTH} M{_PLOT_LEFT + _PLOT_WIDTH / 2} 0 v{bottom}' fill='none'/>"
        f"<path class='mean' d='M{mean:.1f} 0 v{bottom}'/>{dots}{words}"
        f"<text x='{_PLOT_LEFT + _PLOT_WIDTH / 2}' y='{bottom + 34}' text-anchor='middle'>{legend}</text></svg>"
    )


def _render_dot(seed: int, p: float, top: int, *, has_row: bool) -> str:
    middle = top + _ROW_HEIGHT / 2
    words = (
        f"<text x='{_PLOT_LEFT - 12}' y='{middle + 4}' text-anchor='end'>seed {seed}</text>"
        f"<text x='{_PLOT_LEFT + _PLOT_WIDTH + 12}' y='{middle + 4}'>{p:.2f}</text>"
    )
    dot = (
        f"<circle cx='{_PLOT_LEFT + _PLOT_WIDTH * p:.1f}' cy='{middle}' r='5'><title>seed {seed}: "
        f"{p:.4f}</title></circle>"
    )
    return dot + (words if has_row else "")

"""Drawing: a page in the browser on which two digits are drawn, and each round answers at once."""

import base64
import io
from html import escape

import gradio as gr
import numpy as np
from PIL import Image

from pairs_lit.analysis.figures import COLOURS
from pairs_lit.analysis.tables import mean_and_std
from pairs_lit.errors import PairsLitError, counted, reason_of, sentence
from pairs_lit.runs.run import Run
from pairs_lit.trained.applying import Applied, answered, apply, form_of, sign_of

Drawn = str | None
"""A canvas as the page sends it: a PNG file as a data URL; empty or None: nothing is drawn on it."""

FONTS = ["system-ui", "sans-serif"]
"""Of the system: gradio's own would be fetched from elsewhere."""

STYLE = """
.canvas canvas { background: #fff; border: 1px solid #888; cursor: crosshair; touch-action: none; max-width: 100% }
.canvas button { border: 1px solid #8888; border-radius: 4px; padding: 0 0.5rem; margin: 0 0 0.3rem 0.5rem }
.answer { font-size: 1.05rem } .answer figure { display: inline-block; margin: 0 1.2rem 0.6rem 0 }
.answer img { width: 140px; height: 140px; image-rendering: pixelated; border: 1px solid #8888 }
.answer svg { display: block; width: 100%; max-width: 560px; height: auto }
"""


def page_of(run: Run) -> gr.Blocks:
    """Return the page: two canvases, and below them what the rounds say."""
    sign, n = sign_of(str(run.data["relation"])), len(run.rounds) - len(run.failed)

    _warm_up(run)

    def answer(left: Drawn, right: Drawn) -> str:
        return answer_to(run, left, right)

    page: gr.Blocks
    with gr.Blocks(title="pairs-lit demo", analytics_enabled=False) as page:
        gr.Markdown(
            f"## left {sign} right?\nDraw a digit on each canvas. {counted(n, 'round')} trained on "
            f"{run.data['source']} will answer. {sentence(run.trained.note)}"
        )
        with gr.Row():
            canvases = [_canvas(side) for side in ("left", "right")]
        said = gr.HTML(_HINT, elem_id="answer")
        gr.on(
            [canvas.change for canvas in canvases],
            answer,
            canvases,
            said,
            trigger_mode="always_last",
            show_progress="hidden",
            api_name="answer",
        )
    return page


def _warm_up(run: Run) -> None:
    """Let the networks answer once, so that they are built, in the thread that may build them, and kernels compiled."""
    form = form_of(run)
    answered(run, [("left", "right")], np.zeros((1, 2, form.size, form.size), np.float32))


_HINT = "<p class='answer'>Draw a digit on each canvas.</p>"


_CANVAS = """
<div class='canvas'><b>${label}</b> <button type='button'>clear</button><br>
<canvas width='280' height='280' aria-label='draw the ${label} digit'></canvas></div>
"""

_PEN = """
const canvas = element.querySelector('canvas'), pen = canvas.getContext('2d');
Object.assign(pen, {lineWidth: 22, lineCap: 'round', lineJoin: 'round', strokeStyle: '#000'});
const place = event => [event.offsetX * 280 / canvas.clientWidth, event.offsetY * 280 / canvas.clientHeight];
const send = value => { props.value = value; trigger('change'); };
let isDown = false;
canvas.addEventListener('pointerdown', event => {
  event.preventDefault();
  canvas.setPointerCapture(event.pointerId);
  isDown = true;
  pen.beginPath();
  pen.moveTo(...place(event));
  pen.lineTo(...place(event));
  pen.stroke();
});
canvas.addEventListener('pointermove', event => {
  if (!isDown) return;
  pen.lineTo(...place(event));
  pen.stroke();
});
for (const end of ['pointerup', 'pointercancel']) canvas.addEventListener(end, () => {
  if (!isDown) return;
  isDown = false;
  send(canvas.toDataURL('image/png'));
});
element.querySelector('button').addEventListener('click', () => {
  pen.clearRect(0, 0, 280, 280);
  send('');
});
"""
"""Draws on a canvas, with a pen as thick as MNIST's strokes are for their box, and sends it after each stroke."""


def _canvas(side: str) -> gr.HTML:
    return gr.HTML(
        "", label=side, html_template=_CANVAS.replace("${label}", side), js_on_load=_PEN, elem_id=side, min_width=300
    )


def answer_to(run: Run, left: Drawn, right: Drawn) -> str:
    """Return what the rounds say of two drawings, as HTML; while one is missing, what to do.

    Raises:
        PairsLitError: What was sent is no drawing.
    """
    if not left or not right:
        return _HINT
    return answer_html(apply(run, [(_drawing(left), _drawing(right))]))


def _drawing(sent: str) -> Image.Image:
    """Read a PNG file from a data URL."""
    head, _, code = sent.partition(",")
    try:
        if head != "data:image/png;base64":
            raise ValueError(head[:40])
        image = Image.open(io.BytesIO(base64.b64decode(code, validate=True)), formats=["PNG"])
        image.load()
        return image
    except (ValueError, OSError, SyntaxError) as error:
        raise PairsLitError(f"what the page sent is no drawing ({reason_of(error)}): reload the page.") from error


def answer_html(applied: Applied) -> str:
    """Return what the rounds say of the first pair, as HTML that needs nothing from elsewhere."""
    pair, n, sign = applied.pairs[0], len(applied.seeds), escape(sign_of(applied.relation))
    says = "yes" if pair.probability.mean > 0.5 else "no"
    readings, pictures = pair.readings or (None, None), ""
    for image, side, reading in zip(applied.images[0], ("left", "right"), readings, strict=True):
        file = io.BytesIO()
        Image.fromarray(image.round().astype(np.uint8)).save(file, "PNG")
        code = base64.b64encode(file.getvalue()).decode()
        said = "" if reading is None else f": {reading.read} ({reading.agreeing} of {counted(n, 'round')})"
        shown = f"<img alt='{side}' src='data:image/png;base64,{code}'>"
        pictures += f"<figure>{shown}<figcaption>{side}{said}</figcaption></figure>"
    return (
        f"<div class='answer'><p><b>{says}</b> ({pair.agreeing} of {counted(n, 'round')}): P(left {sign} right) = "
        f"{mean_and_std(pair.probability)}</p>{_strip(applied)}<p>What the networks saw, and read:</p>{pictures}</div>"
    )


def _strip(applied: Applied) -> str:
    """Draw P(relation) of each round as a point on a line from 0 to 1, with the mean as a stroke."""
    pair, width, margin = applied.pairs[0], 500, 30
    sign = escape(sign_of(applied.relation))
    points = "".join(
        f"<circle cx='{margin + width * p:.1f}' cy='{20 + 8 * (place % 3)}' r='5' fill='{COLOURS[0]}' "
        f"fill-opacity='0.6'><title>seed {seed}: {p:.4f}</title></circle>"
        for place, (seed, p) in enumerate(zip(applied.seeds, pair.rounds, strict=True))
    )
    mean = margin + width * pair.probability.mean
    line = "stroke='currentColor' stroke-opacity='0.4'"
    return (
        f"<svg viewBox='0 0 {width + 2 * margin} 72'>"
        f"<path d='M{margin} 48 h{width} M{margin + width / 2} 8 v40' fill='none' {line}/>"
        f"{points}<path d='M{mean:.1f} 8 v40' stroke='{COLOURS[3]}' stroke-width='2.5'/>"
        + "".join(
            f"<text x='{margin + width * place}' y='66' font-size='13' text-anchor='middle' fill='currentColor'>"
            f"{text}</text>"
            for place, text in (
                (0, "0"),
                (0.5, f"P(left {sign} right)"),
                (1, "1"),
            )
        )
        + "</svg>"
    )

"""Canvas of the demo's page: drawing with mouse, finger or keyboard, uploading a file, and reading what was sent."""

import base64
import binascii
import io
import tempfile
from pathlib import Path
from urllib.parse import unquote

import gradio as gr
from PIL import Image

from pairs_lit.errors import PairsLitError
from pairs_lit.inference.user_images import Grey, grey_of
from pairs_lit.system.tracebacks import reason_of
from pairs_lit.text import printable

Sent = str | None
"""What a canvas sends: a drawing as a PNG file in a data URL, an uploaded file, or nothing."""

_DRAWN = "data:image/png;base64"
_UPLOADED = "file;name="
"""What an uploaded file begins with; its percent-encoded name, a comma and its bytes in base64 follow."""

_MOST_MEGABYTES, _TOO_LARGE = 50, "too large"

STYLE = """
.canvas canvas { background: #fff; border: 1px solid #888; cursor: crosshair; touch-action: none; display: block;
  width: 280px; max-width: 100%; height: auto; aspect-ratio: 1 }
.canvas .tools { display: flex; flex-wrap: wrap; gap: 0.4rem 0.8rem; align-items: center; margin: 0.3rem 0 }
.canvas button { border: 1px solid #8888; border-radius: 4px; padding: 0.15rem 0.6rem; font-size: 0.9rem;
  font-weight: normal }
.canvas input { max-width: 100%; font-size: 0.9rem }
.canvas input::file-selector-button { border: 1px solid #8888; border-radius: 4px; padding: 0.15rem 0.6rem;
  background: transparent; color: inherit; font: inherit }
.canvas .sheet { position: relative; width: 280px; max-width: 100% }
.canvas .pen { position: absolute; width: 22px; height: 22px; margin: -11px 0 0 -11px; border-radius: 50%;
  border: 2px solid #D55E00; pointer-events: none; display: none }
.canvas canvas:focus-visible + .pen { display: block } .canvas .pen.down { background: #D55E0099 }
.canvas .help { font-size: 0.85rem; opacity: 0.85; margin: 0.2rem 0; max-width: 280px }
.canvas :focus-visible { outline: 3px solid #E69F00; outline-offset: 2px }
"""

_TEMPLATE = """
<div class='canvas'><b>${label}</b>
<div class='sheet'><canvas width='280' height='280' tabindex='0' role='img' aria-label='${label}: draw here'
  aria-describedby='${label}-help'></canvas><div class='pen'></div></div>
<div class='tools'><button type='button' aria-label='clear ${label}'>clear</button>
<label>or upload <input type='file' accept='image/*' aria-label='upload an image for ${label}'></label></div>
<p class='help' id='${label}-help'>Keyboard: arrows move the pen (two at once: diagonally), space puts it down or lifts
it, Delete clears.</p></div>
"""

_SCRIPT = """
const canvas = element.querySelector('canvas'), pen = canvas.getContext('2d'), mark = element.querySelector('.pen');
const input = element.querySelector('input');
Object.assign(pen, {lineWidth: 22, lineCap: 'round', lineJoin: 'round', strokeStyle: '#000'});
const place = event => [event.offsetX * 280 / canvas.clientWidth, event.offsetY * 280 / canvas.clientHeight];
const send = value => { props.value = value; trigger('change'); };
const sendDrawing = () => send(canvas.toDataURL('image/png'));
let isUploaded = false;
const wipe = () => { pen.clearRect(0, 0, 280, 280); isUploaded = false; input.value = ''; };
const begin = () => { if (isUploaded) wipe(); };
const line = (from, to) => { pen.beginPath(); pen.moveTo(...from); pen.lineTo(...to); pen.stroke(); };
const clear = () => { wipe(); lift(); send(''); };

let isDown = false, last = null;
canvas.addEventListener('pointerdown', event => {
  event.preventDefault();
  canvas.focus({focusVisible: false});
  canvas.setPointerCapture(event.pointerId);
  begin();
  isDown = true;
  last = place(event);
  line(last, last);
});
canvas.addEventListener('pointermove', event => {
  if (!isDown) return;
  line(last, place(event));
  last = place(event);
});
for (const end of ['pointerup', 'pointercancel']) canvas.addEventListener(end, () => {
  if (!isDown) return;
  isDown = false;
  sendDrawing();
});

let at = [140, 140], isPenDown = false, later = null;
const held = new Set();
const steps = {ArrowLeft: [-10, 0], ArrowRight: [10, 0], ArrowUp: [0, -10], ArrowDown: [0, 10]};
const show = () => {
  mark.style.left = `${at[0] / 2.8}%`;
  mark.style.top = `${at[1] / 2.8}%`;
  mark.classList.toggle('down', isPenDown);
};
const soon = () => { clearTimeout(later); later = setTimeout(sendDrawing, 400); };
const lift = () => { isPenDown = false; clearTimeout(later); show(); };
const step = () => {
  const moves = [...held].map(key => steps[key]);
  const inside = value => Math.min(274, Math.max(6, value));
  const next = [0, 1].map(axis => inside(at[axis] + moves.reduce((sum, move) => sum + move[axis], 0)));
  if (isPenDown) { line(at, next); soon(); }
  at = next;
  show();
};
canvas.addEventListener('keydown', event => {
  if (event.ctrlKey || event.altKey || event.metaKey) return;
  if (event.key in steps) { held.add(event.key); step(); }
  else if (event.key === ' ') {
    if (isPenDown) { lift(); sendDrawing(); }
    else { begin(); isPenDown = true; line(at, at); show(); }
  }
  else if (event.key === 'Delete' || event.key === 'Backspace') clear();
  else return;
  event.preventDefault();
});
canvas.addEventListener('keyup', event => held.delete(event.key));
canvas.addEventListener('blur', () => {
  held.clear();
  if (isPenDown) { lift(); sendDrawing(); }
});
show();

const showUpload = file => {
  const image = new Image(), url = URL.createObjectURL(file);
  image.onload = () => {
    const scale = 280 / Math.max(image.naturalWidth, image.naturalHeight);
    const [width, height] = [image.naturalWidth * scale, image.naturalHeight * scale];
    pen.drawImage(image, (280 - width) / 2, (280 - height) / 2, width, height);
    URL.revokeObjectURL(url);
  };
  image.onerror = () => URL.revokeObjectURL(url);
  image.src = url;
};
input.addEventListener('change', () => {
  const file = input.files[0];
  if (!file) return;
  lift();
  pen.clearRect(0, 0, 280, 280);
  isUploaded = true;
  showUpload(file);
  if (file.size > MOST_BYTES) { send(`file;name=${encodeURIComponent(file.name)},TOO_LARGE`); return; }
  const reader = new FileReader();
  reader.onload = () => send(`file;name=${encodeURIComponent(file.name)},${reader.result.split(',')[1] || ''}`);
  reader.onerror = () => send(`file;name=${encodeURIComponent(file.name)},`);
  reader.readAsDataURL(file);
});
element.querySelector('button').addEventListener('click', clear);
"""
"""Draws on a canvas, with a pen as thick as MNIST's strokes are for their box, and sends it after each stroke."""


def build_canvas(side: str) -> gr.HTML:
    """Return the canvas of one side, with its buttons."""
    template = _TEMPLATE.replace("${label}", side)
    script = _SCRIPT.replace("MOST_BYTES", str(_MOST_MEGABYTES * 10**6)).replace("TOO_LARGE", _TOO_LARGE)
    return gr.HTML("", label=side, html_template=template, js_on_load=script, elem_id=side, min_width=240)


def is_upload(sent: str) -> bool:
    """Return whether a canvas sent a file of the user's."""
    return sent.startswith(_UPLOADED)


def read_sent(sent: str, side: str, bits: int | None = None) -> tuple[str, Grey]:
    """Return the name and the grey values of what a canvas sent; of 16-bit files, this many bits are in use.

    Raises:
        PairsLitError: It sent something else, or the uploaded file is no image that can be read.
    """
    if is_upload(sent):
        return _read_upload(sent, bits)
    name = f"the {side} drawing"
    return name, grey_of(_read_drawing(sent), name)


def _read_drawing(sent: str) -> Image.Image:
    head, _, code = sent.partition(",")
    try:
        if head != _DRAWN:
            raise ValueError(head[:40])
        image = Image.open(io.BytesIO(base64.b64decode(code, validate=True)), formats=["PNG"])
        image.load()
        return image
    except (ValueError, OSError, SyntaxError) as error:
        raise PairsLitError(f"what the page sent is no drawing ({reason_of(error)}): reload the page.") from error


def _read_upload(sent: str, bits: int | None) -> tuple[str, Grey]:
    """Read an uploaded file as any file of the user's is read."""
    head, _, code = sent.partition(",")
    name = printable(unquote(head.removeprefix(_UPLOADED)))[-80:] or "the file"
    if code == _TOO_LARGE:
        raise PairsLitError(f"{name} has more than {_MOST_MEGABYTES} MB: upload a smaller image.")
    try:
        content = base64.b64decode(code, validate=True)
    except binascii.Error as error:
        raise PairsLitError(f"{name} did not arrive whole: upload it once more.") from error
    with tempfile.TemporaryDirectory(prefix="pairs_lit-") as folder:
        file = Path(folder) / f"upload{Path(name).suffix}"
        file.write_bytes(content)
        return name, grey_of(file, name, bits=bits)

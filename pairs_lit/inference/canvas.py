"""Canvas of the demo page: drawing with mouse, finger or keyboard, uploading a file, and decoding both."""

import base64
import binascii
import io
import tempfile
from pathlib import Path
from urllib.parse import unquote

import gradio as gr
from PIL import Image

from pairs_lit.errors import PairsLitError
from pairs_lit.inference.user_images import GreyImage, read_grey
from pairs_lit.system.tracebacks import format_reason
from pairs_lit.text import replace_control_characters

CanvasValue = str | None
"""Value of a canvas: a drawing as a PNG file in a data URL, an uploaded file, or None."""

_DRAWING_PREFIX = "data:image/png;base64"
_UPLOAD_PREFIX = "file;name="
"""Prefix of an uploaded file; its percent-encoded name, a comma and its bytes in base64 follow."""

_MAX_MEGABYTES, _TOO_LARGE = 50, "too large"


def read_asset(name: str) -> str:
    """Return the text of one of the page's files in this folder."""
    return Path(__file__).with_name(name).read_text(encoding="utf-8")


def build_canvas(side: str) -> gr.HTML:
    """Return the canvas of one side, left or right, with its buttons."""
    template = read_asset("canvas.html").replace("${label}", side)
    script = read_asset("canvas.js").replace("TOO_LARGE", _TOO_LARGE)
    script = script.replace("MOST_BYTES", str(_MAX_MEGABYTES * 10**6))
    return gr.HTML("", label=side, html_template=template, js_on_load=script, elem_id=side, min_width=240)


def is_upload(sent: str) -> bool:
    """Return whether a canvas sent an uploaded file."""
    return sent.startswith(_UPLOAD_PREFIX)


def read_canvas_value(sent: str, side: str, bits: int | None = None) -> tuple[str, GreyImage]:
    """Return the name and the grey values of what a canvas sent.

    Args:
        sent: The value of the canvas.
        side: Left or right.
        bits: How many bits of 16-bit files are in use.

    Raises:
        PairsLitError: It is neither a drawing nor a readable image file.
    """
    if is_upload(sent):
        return _read_upload(sent, bits)
    name = f"the {side} drawing"
    return name, read_grey(_read_drawing(sent), name)


def _read_drawing(sent: str) -> Image.Image:
    head, _, code = sent.partition(",")
    try:
        if head != _DRAWING_PREFIX:
            raise ValueError(head[:40])
        image = Image.open(io.BytesIO(base64.b64decode(code, validate=True)), formats=["PNG"])
        image.load()
        return image
    except (ValueError, OSError, SyntaxError) as error:
        raise PairsLitError(
            f"the page did not send a valid drawing ({format_reason(error)}). Reload the page."
        ) from error


def _read_upload(sent: str, bits: int | None) -> tuple[str, GreyImage]:
    """Read an uploaded file with the reader of user images."""
    head, _, code = sent.partition(",")
    name = replace_control_characters(unquote(head.removeprefix(_UPLOAD_PREFIX)))[-80:] or "the file"
    if code == _TOO_LARGE:
        raise PairsLitError(f"{name} must have at most {_MAX_MEGABYTES} MB. Upload a smaller image.")
    try:
        content = base64.b64decode(code, validate=True)
    except binascii.Error as error:
        raise PairsLitError(f"{name} did not arrive completely. Upload it again.") from error
    with tempfile.TemporaryDirectory(prefix="pairs_lit-") as folder:
        file = Path(folder) / "upload"
        file.write_bytes(content)
        return name, read_grey(file, name, bits=bits)

"""``pairs-lit demo``: a page in the browser on which each round says what it reads in drawn digits."""

import os
import socket
import threading
from collections.abc import Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING

from pairs_lit.commands.option_parser import OptionParser, add_run
from pairs_lit.errors import PairsLitError
from pairs_lit.runs.run import FinishedRun
from pairs_lit.system.console import notice

if TYPE_CHECKING:
    import gradio as gr

    from pairs_lit.inference.run import Run

HOST = "127.0.0.1"
"""Only this machine can open the page."""


def parser() -> OptionParser:
    """Return the parser of the command line."""
    found = OptionParser(
        prog="pairs-lit demo",
        description="Draw two digits in the browser and see at once what each round of a finished run says. The page "
        f"is for this machine only ({HOST}) and needs no network. Ctrl-C ends it. Needs the extra demo (gradio).",
    )
    add_run(found)
    found.add_argument("--port", type=int, default=0, help="where the page is served; 0, the default: a free one")
    found.add_argument("--no-browser", action="store_true", help="only say where the page is")
    return found


def run(args: Sequence[str]) -> None:
    """Run the command; it lasts until it is stopped."""
    options = parser().parse_args(args)
    FinishedRun.load(options.run)  # its errors come before the seconds that the networks' libraries take
    if find_spec("gradio") is None:
        raise PairsLitError("pairs-lit demo needs gradio: pip install 'pairs-lit[demo]'.")
    port = free_port(options.port)
    notice("loading PyTorch, Lightning and gradio …")
    from pairs_lit.inference.run import Run

    found = Run.load(options.run, allow_changed_code=options.allow_changed_code)
    page = serve(found, port, open_browser=not options.no_browser)
    try:
        print(f"http://{HOST}:{port} (Ctrl-C ends it)", flush=True)
        threading.Event().wait()
    finally:
        page.close(verbose=False)


def free_port(wanted: int) -> int:
    """Return a port that nothing listens to: the wanted one, or any for 0.

    Raises:
        PairsLitError: Something does, or it cannot be used.
    """
    if not 0 <= wanted <= 65535:
        raise PairsLitError(f"--port is {wanted}: it must be 1 to 65535, or 0 for a free one.")
    with socket.socket() as tried:
        tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            tried.bind((HOST, wanted))
        except OSError as error:
            raise PairsLitError(
                f"port {wanted} cannot be used ({error.strerror}): leave out --port for a free one."
            ) from error
        port: int = tried.getsockname()[1]
        return port


def serve(run: "Run", port: int, *, open_browser: bool = False) -> "gr.Blocks":
    """Serve the page of a run to this machine, without telling anyone else, and return it."""
    os.environ |= {"GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_DISABLE_TELEMETRY": "1"}  # before gradio is loaded
    import gradio as gr

    from pairs_lit.inference.demo_page import FONTS, STYLE, page_of

    page = page_of(run)
    page.launch(
        server_name=HOST,
        server_port=port,
        inbrowser=open_browser,
        share=False,
        quiet=True,
        prevent_thread_lock=True,
        ssr_mode=False,
        footer_links=[],
        css=STYLE,
        theme=gr.themes.Default(font=FONTS, font_mono=["monospace"]),
    )
    return page

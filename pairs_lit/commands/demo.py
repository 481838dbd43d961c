"""``pairs-lit demo``: a web page that shows the predictions of each round for drawn digits."""

import os
import socket
import threading
from collections.abc import Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING

from pairs_lit.commands.option_parser import OptionParser, add_run_argument
from pairs_lit.errors import PairsLitError
from pairs_lit.runs.run import FinishedRun
from pairs_lit.system.console import print_notice
from pairs_lit.system.imports import load_libraries

if TYPE_CHECKING:
    import gradio as gr

    from pairs_lit.inference.run import Run

HOST = "127.0.0.1"
"""The address of the server; only this machine can open the page."""


def build_parser() -> OptionParser:
    """Build the argument parser of the command."""
    parser = OptionParser(
        prog="pairs-lit demo",
        description="Draw two digits in the browser and see the predictions of each round of a finished run at once. "
        f"The page is served to this machine only ({HOST}) and works offline. Press Ctrl-C to stop the server. "
        "Requires gradio: pip install 'pairs-lit[demo]'.",
    )
    add_run_argument(parser)
    parser.add_argument("--port", type=int, default=0, help="port to serve on (default: any free port)")
    parser.add_argument("--no-browser", action="store_true", help="print the URL, open no browser")
    return parser


def run(args: Sequence[str]) -> None:
    """Run the command until a signal stops it."""
    options = build_parser().parse_args(args)
    FinishedRun.load(options.run)  # reports a wrong folder at once, before PyTorch is loaded
    if find_spec("gradio") is None:
        raise PairsLitError("pairs-lit demo needs gradio: pip install 'pairs-lit[demo]'.")
    port = find_free_port(options.port)
    print_notice("loading PyTorch, Lightning and gradio …")
    with load_libraries():
        from pairs_lit.inference.run import Run

    run = Run.load(options.run, allow_changed_code=options.allow_changed_code)
    page = serve_page(run, port, open_browser=not options.no_browser)
    try:
        print(f"http://{HOST}:{port} (press Ctrl-C to stop)", flush=True)
        threading.Event().wait()
    finally:
        page.close(verbose=False)


def find_free_port(requested: int) -> int:
    """Return the requested port if it is free, or any free port for 0.

    Raises:
        PairsLitError: The port is out of range, in use, or not allowed.
    """
    if not 0 <= requested <= 65535:
        raise PairsLitError(f"--port must be 1 to 65535, or 0 for any free port, got {requested}.")
    with socket.socket() as test_socket:
        test_socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            test_socket.bind((HOST, requested))
        except OSError as error:
            raise PairsLitError(
                f"--port {requested} cannot be used ({error.strerror}). Leave it out to use any free port."
            ) from error
        port: int = test_socket.getsockname()[1]
        return port


def serve_page(run: "Run", port: int, *, open_browser: bool = False) -> "gr.Blocks":
    """Serve the demo page of a run to this machine only, without telemetry, and return the page."""
    os.environ |= {
        "GRADIO_ANALYTICS_ENABLED": "False",
        "HF_HUB_DISABLE_TELEMETRY": "1",
    }  # gradio reads these when it is imported
    import gradio as gr

    from pairs_lit.inference.demo_page import FONTS, STYLE, build_page

    page = build_page(run)
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

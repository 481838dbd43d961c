"""The demo: a page for this machine only, on which each round answers what is drawn."""

import base64
import io
import json
import re
import shutil
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator

import numpy as np
import pytest
from PIL import Image

import pairs_lit
from pairs_lit.cli import main
from pairs_lit.errors import PairsLitError
from tests.test_apply import drawn
from tests.test_trained import fitted


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> pairs_lit.Run:
    return fitted("parts", tmp_path_factory.mktemp("run"))


def started(run: pairs_lit.Run) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "pairs_lit", "demo", str(run.folder), "--no-browser"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def port_of(process: subprocess.Popen[str]) -> int:
    assert process.stdout is not None
    found = re.match(r"http://127\.0\.0\.1:(\d+) \(Ctrl-C ends it\)", process.stdout.readline())
    assert found is not None
    return int(found[1])


@pytest.fixture(scope="module")
def port(run: pairs_lit.Run) -> Iterator[int]:
    with started(run) as process:
        yield port_of(process)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)


def sent(image: Image.Image) -> str:
    """Return an image as the page sends a canvas."""
    file = io.BytesIO()
    image.save(file, "PNG")
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"


def canvas() -> Image.Image:
    mask = drawn(ink=255, paper=0)
    return Image.merge("RGBA", (*[Image.new("L", mask.size, 0)] * 3, mask))


def asked(port: int, *data: str) -> str:
    """Ask the page's server as the page does."""
    url = f"http://127.0.0.1:{port}/gradio_api/call/answer"
    body = json.dumps({"data": data}).encode()
    with urllib.request.urlopen(urllib.request.Request(url, body, {"Content-Type": "application/json"})) as reply:
        event = json.load(reply)["event_id"]
    with urllib.request.urlopen(f"{url}/{event}") as reply:
        kind, _, answer = reply.read().decode().partition("\n")
    assert kind == "event: complete"
    return str(json.loads(answer.strip().removeprefix("data: "))[0])


@pytest.mark.slow
def test_the_page_says_what_apply_says(run: pairs_lit.Run, port: int) -> None:
    html = asked(port, sent(canvas()), sent(canvas()))
    pair = run.apply([(canvas(), canvas())]).pairs[0]
    assert f"{pair.probability.mean:.4f} ± {pair.probability.std:.4f} (n = 3)" in html
    assert html.count("<circle") == 3
    assert pair.readings is not None
    assert f"left: {pair.readings[0].read} ({pair.readings[0].agreeing} of 3 rounds)" in html


@pytest.mark.slow
def test_the_page_shows_what_the_networks_saw(run: pairs_lit.Run) -> None:
    from pairs_lit.trained.drawing import answer_to

    html = answer_to(run, sent(canvas()), sent(canvas()))
    codes = re.findall(r"base64,([^']+)'", html)
    images = [np.asarray(Image.open(io.BytesIO(base64.b64decode(code)))) for code in codes]
    np.testing.assert_allclose(images, run.apply([(canvas(), canvas())]).images[0], atol=0.51)
    assert "http" not in html


@pytest.mark.parametrize("missing", ["", None])
def test_a_canvas_that_is_empty_asks_for_a_digit(run: pairs_lit.Run, missing: str | None) -> None:
    from pairs_lit.trained.drawing import answer_to

    assert "Draw a digit on each canvas" in answer_to(run, sent(canvas()), missing)
    assert "Draw a digit on each canvas" in answer_to(run, missing, sent(canvas()))


@pytest.mark.parametrize("text", ["nothing", "data:image/png;base64,!", "data:image/png;base64,AAAA", "/etc/passwd"])
def test_what_is_no_drawing_is_refused(run: pairs_lit.Run, text: str) -> None:
    from pairs_lit.trained.drawing import answer_to

    with pytest.raises(PairsLitError, match=r"what the page sent is no drawing"):
        answer_to(run, text, text)


@pytest.mark.slow
def test_only_this_machine_is_served_and_nothing_is_reported(port: int) -> None:
    with socket.socket() as other:
        other.settimeout(1)
        assert other.connect_ex((_own_address(), port)) != 0
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/config") as reply:
        assert json.load(reply)["analytics_enabled"] is False


def _own_address() -> str:
    """Return an address of this machine that others would use, or one of the loopback net but ours."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # for documentation only; nothing is sent
            return str(probe.getsockname()[0])
        except OSError:
            return "127.0.0.2"


def test_a_port_in_use_is_named(run: pairs_lit.Run, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        number = taken.getsockname()[1]
        assert main(["demo", str(run.folder), "--port", str(number), "--no-browser"]) == 2
    err = capsys.readouterr().err
    assert f"port {number} cannot be used (Address already in use): leave out --port for a free one." in err
    assert len(err.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--port", "70000"], "--port is 70000: it must be 1 to 65535, or 0 for a free one"),
        (["--port", "x"], "argument --port: invalid int value: 'x'"),
    ],
)
def test_mistakes_are_named(
    arguments: list[str], message: str, run: pairs_lit.Run, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["demo", str(run.folder), *arguments]) == 2
    assert message in capsys.readouterr().err


def test_what_is_no_run_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", "nowhere"]) == 2
    assert "nowhere is not a finished run" in capsys.readouterr().err


@pytest.mark.slow
def test_without_gradio_the_extra_is_named(
    run: pairs_lit.Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("pairs_lit.commands.demo.find_spec", lambda name: None)
    assert main(["demo", str(run.folder)]) == 2
    assert "pairs-lit demo needs gradio: pip install 'pairs-lit[demo]'." in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_it_in_a_line(run: pairs_lit.Run, number: signal.Signals, code: int) -> None:
    with started(run) as process:
        assert port_of(process) > 0
        process.send_signal(number)
        _, err = process.communicate(timeout=60)
    assert process.returncode == code
    assert err.splitlines()[1:] == [f"pairs-lit: stopped by {number.name}."]


CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on this machine")
def test_strokes_on_both_canvases_are_answered(port: int) -> None:
    from demo_figure import SEVEN, draw, opened

    with opened(port, str(CHROMIUM)) as (page, urls):
        answer = page.locator("#answer")
        assert "Draw a digit on each canvas" in answer.inner_text()
        draw(page, "left", SEVEN)
        draw(page, "right", SEVEN)
        page.wait_for_selector("#answer svg", timeout=30_000)
        assert re.search(r"P\(left ≤ right\) = \d\.\d{4} ± \d\.\d{4} \(n = 3\)", answer.inner_text())
        assert page.locator("#answer img").count() == 2
        page.locator("#left button").click()
        page.wait_for_selector("#answer svg", state="detached", timeout=30_000)
        assert all(f"127.0.0.1:{port}" in url or url.startswith(("data:", "blob:")) for url in urls)

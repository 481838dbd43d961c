"""The demo: a local page that shows the prediction of each round for drawings."""

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
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pytest
from PIL import Image

import pairs_lit
from pairs_lit.cli import main
from pairs_lit.errors import PairsLitError
from pairs_lit.statistics import format_mean_and_std
from tests.support.images import draw_seven
from tests.support.small_runs import fit_case


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> pairs_lit.Run:
    return fit_case("parts", tmp_path_factory.mktemp("run"))


def started(run: pairs_lit.Run) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "pairs_lit", "demo", str(run.folder), "--no-browser"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def port_of(process: subprocess.Popen[str]) -> int:
    assert process.stdout is not None
    match = re.match(r"http://127\.0\.0\.1:(\d+) \(press Ctrl-C to stop\)", process.stdout.readline())
    assert match is not None
    return int(match[1])


@pytest.fixture(scope="module")
def port(run: pairs_lit.Run) -> Iterator[int]:
    with started(run) as process:
        yield port_of(process)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)


def sent(image: Image.Image) -> str:
    """Return an image as the page sends the drawing of a canvas."""
    file = io.BytesIO()
    image.save(file, "PNG")
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"


def canvas() -> Image.Image:
    mask = draw_seven(ink=255, paper=0)
    return Image.merge("RGBA", (*[Image.new("L", mask.size, 0)] * 3, mask))


def request_prediction(port: int, *data: str) -> str:
    """Send a request to the server like the page, and return the answer."""
    url = f"http://127.0.0.1:{port}/gradio_api/call/answer"
    body = json.dumps({"data": data}).encode()
    with urllib.request.urlopen(urllib.request.Request(url, body, {"Content-Type": "application/json"})) as reply:
        event = json.load(reply)["event_id"]
    with urllib.request.urlopen(f"{url}/{event}") as reply:
        kind, _, answer = reply.read().decode().partition("\n")
    assert kind == "event: complete"
    return str(json.loads(answer.strip().removeprefix("data: "))[0])


@pytest.mark.slow
def test_the_page_and_apply_give_the_same_predictions(run: pairs_lit.Run, port: int) -> None:
    html = request_prediction(port, sent(canvas()), sent(canvas()))
    pair = run.apply([(canvas(), canvas())]).pairs[0]
    assert f"{pair.probability.mean:.4f} ± {pair.probability.std:.4f} (n = 3)" in html
    assert html.count("<circle") == 3
    assert pair.readings is not None
    assert f"left: {pair.readings[0].read} ({pair.readings[0].agreeing} of 3 rounds)" in html


@pytest.mark.slow
def test_the_page_shows_what_the_networks_saw(run: pairs_lit.Run) -> None:
    from pairs_lit.inference.demo_page import answer_canvases

    html = answer_canvases(run, sent(canvas()), sent(canvas()))
    codes = re.findall(r"base64,([^']+)'", html)
    images = [np.asarray(Image.open(io.BytesIO(base64.b64decode(code)))) for code in codes]
    np.testing.assert_allclose(images, run.apply([(canvas(), canvas())]).seen[0], atol=0.51)
    assert images[0].shape == (14, 14)
    assert "http" not in html


@pytest.mark.parametrize("missing", ["", None])
def test_an_empty_canvas_asks_for_a_digit(run: pairs_lit.Run, missing: str | None) -> None:
    from pairs_lit.inference.demo_page import answer_canvases

    assert "Draw a digit on each canvas" in answer_canvases(run, sent(canvas()), missing)
    assert "Draw a digit on each canvas" in answer_canvases(run, missing, sent(canvas()))


@pytest.mark.parametrize("text", ["nothing", "data:image/png;base64,!", "data:image/png;base64,AAAA", "/etc/passwd"])
def test_invalid_drawings_are_rejected(run: pairs_lit.Run, text: str) -> None:
    from pairs_lit.inference.demo_page import answer_canvases

    with pytest.raises(PairsLitError, match=r"the page did not send a valid drawing"):
        answer_canvases(run, text, text)


@pytest.mark.slow
def test_only_this_machine_is_served_and_no_usage_is_reported(port: int) -> None:
    with socket.socket() as other:
        other.settimeout(1)
        assert other.connect_ex((_own_address(), port)) != 0
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/config") as reply:
        assert json.load(reply)["analytics_enabled"] is False


def _own_address() -> str:
    """Return an address of this machine in its network, or another loopback address."""
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
    assert f"--port {number} cannot be used (Address already in use). Leave it out to use any free port." in err
    assert len(err.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--port", "70000"], "--port must be 1 to 65535, or 0 for any free port, got 70000"),
        (["--port", "x"], "argument --port: invalid int value: 'x'"),
    ],
)
def test_wrong_arguments_are_reported(
    arguments: list[str], message: str, run: pairs_lit.Run, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["demo", str(run.folder), *arguments]) == 2
    assert message in capsys.readouterr().err


def test_a_folder_that_is_not_a_run_is_named(capsys: pytest.CaptureFixture[str]) -> None:
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
def test_a_signal_stops_it_with_one_line(run: pairs_lit.Run, number: signal.Signals, code: int) -> None:
    with started(run) as process:
        assert port_of(process) > 0
        process.send_signal(number)
        _, err = process.communicate(timeout=60)
    assert process.returncode == code
    assert err.splitlines()[1:] == [f"pairs-lit: stopped by {number.name}."]


CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


# what the page shows


def uploaded(content: bytes, name: str = "my 7.png") -> str:
    """Return a file as the page sends it."""
    return f"file;name={quote(name)},{base64.b64encode(content).decode()}"


def png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def test_the_question_is_repeated_with_the_answer_and_dots_name_their_seeds(run: pairs_lit.Run) -> None:
    from pairs_lit.inference.demo_page import answer_canvases

    html = answer_canvases(run, sent(canvas()), sent(canvas()))
    pair = run.apply([(canvas(), canvas())]).pairs[0]
    assert f"Is left ≤ right? <b>{pair.answer}</b>" in html
    assert [f">seed {seed}</text>" in html for seed in run.trained.seeds] == [True] * 3
    places = [float(each) for each in re.findall(r"<text x='[\d.]+' y='([\d.]+)' text-anchor='end'>seed", html)]
    assert min(np.diff(places)) >= 15  # letters are 14 high


def test_many_rounds_share_rows_and_show_their_seeds_as_tooltips(run: pairs_lit.Run) -> None:
    from pairs_lit.inference.demo_page import render_result

    applied = run.apply([(canvas(), canvas())])
    (pair,) = applied.pairs
    many = replace(applied, seeds=range(60), pairs=[replace(pair, rounds=[0.25] * 60)])
    html = render_result(many)
    assert html.count("<circle") == html.count("<title>seed") == 60
    assert "point at a dot for its seed" in html


def test_the_introduction_has_test_accuracy_and_source(run: pairs_lit.Run) -> None:
    from pairs_lit.inference.demo_page import render_introduction

    html = render_introduction(run)
    assert "<h2>Is left ≤ right?</h2>" in html
    assert f"trained on digits: test accuracy {format_mean_and_std(run.summary['test_accuracy'])}" in html
    failed = [replace(each, status="failed" if each.seed == 4 else "ok") for each in run.rounds]
    unwatched = [replace(each, test_accuracy=None) for each in failed]
    assert "2 rounds (1 more failed) of" in render_introduction(replace(run, rounds=failed))
    assert "no test accuracy was measured" in render_introduction(replace(run, rounds=unwatched))


def test_names_in_files_are_escaped(run: pairs_lit.Run) -> None:
    from pairs_lit.inference.demo_page import render_introduction, render_result

    named = replace(run, label="<b>x</b>")
    vars(named)["class_names"] = ["<script>", *"123456789"]
    assert "<b>x" not in render_introduction(named)
    assert "&lt;script&gt;, 1, 2" in render_introduction(named)
    applied = named.apply([(canvas(), canvas())])
    assert "<script" not in render_result(applied)


def test_an_uploaded_file_is_read_like_a_file_of_apply(run: pairs_lit.Run, tmp_path: Path) -> None:
    from pairs_lit.inference.demo_page import answer_canvases

    exif = Image.Exif()
    exif[0x0112] = 6
    draw_seven().transpose(Image.Transpose.ROTATE_90).save(tmp_path / "turned.jpg", exif=exif, quality=95)
    content = (tmp_path / "turned.jpg").read_bytes()
    html = answer_canvases(run, uploaded(content, "turned.jpg"), sent(canvas()))
    pair = run.apply([(tmp_path / "turned.jpg", canvas())]).pairs[0]
    assert format_mean_and_std(pair.probability) in html
    assert "turned.jpg: dark on light (training images: light on dark)" in html


@pytest.mark.parametrize(
    ("upload", "message"),
    [
        (uploaded(b"no image", "a&b.txt"), r"^a&b\.txt is not a readable image"),
        (uploaded(b"", "empty.png"), r"^empty\.png is not a readable image"),
        ("file;name=large.png,too large", r"^large\.png must have at most 50 MB\. Upload a smaller image\.$"),
        ("file;name=half.png,AAA", r"^half\.png did not arrive completely\. Upload it again\.$"),
        (uploaded(png(Image.new("L", (50, 50), 255)), "white.png"), r"^white\.png is blank"),
    ],
)
def test_a_bad_upload_is_named(run: pairs_lit.Run, upload: str, message: str) -> None:
    from pairs_lit.inference.demo_page import answer_canvases

    with pytest.raises(PairsLitError, match=message):
        answer_canvases(run, upload, sent(canvas()))


@pytest.mark.slow
def test_errors_are_shown_on_the_page(port: int) -> None:
    html = request_prediction(port, uploaded(b"<i>", "<i>.txt"), sent(canvas()))
    assert "role='alert'>&lt;i&gt;.txt is not a readable image" in html


def test_two_digits_give_a_warning(run: pairs_lit.Run) -> None:
    from pairs_lit.inference.demo_page import answer_canvases

    both = Image.new("L", (560, 280), 255)
    for left in (0, 280):
        both.paste(draw_seven(), (left, 0))
    html = answer_canvases(run, uploaded(png(both), "77.png"), sent(canvas()))
    assert "77.png shows two separate shapes side by side" in html


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on this machine")
def test_drawings_on_both_canvases_give_a_prediction(port: int) -> None:
    from demo_figure import SEVEN, draw_stroke, open_page

    with open_page(port, str(CHROMIUM)) as (page, urls):
        answer = page.locator("#answer")
        assert "Draw a digit on each canvas" in answer.inner_text()
        draw_stroke(page, "left", SEVEN)
        draw_stroke(page, "right", SEVEN)
        page.wait_for_selector("#answer svg", timeout=30_000)
        assert re.search(r"P\(left ≤ right\) = \d\.\d{4} ± \d\.\d{4} \(n = 3\)", answer.inner_text())
        assert page.locator("#answer img").count() == 2
        page.locator("#left button").click()
        page.wait_for_selector("#answer svg", state="detached", timeout=30_000)
        assert all(f"127.0.0.1:{port}" in url or url.startswith(("data:", "blob:")) for url in urls)


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on this machine")
def test_the_keyboard_alone_suffices(port: int) -> None:
    from demo_figure import open_page

    with open_page(port, str(CHROMIUM)) as (page, _):
        seen = []
        page.locator("#left canvas").focus()
        for side in ("left", "right"):
            for place in range(3):
                seen.append(page.evaluate("document.activeElement.ariaLabel"))
                if place == 0:
                    page.keyboard.press("Space")
                    for key in ("ArrowUp", "ArrowRight"):
                        for _ in range(6):
                            page.keyboard.press(key)
                    page.keyboard.press("Space")
                page.keyboard.press("Tab")
            assert page.evaluate(f"document.querySelector('#{side} canvas').toDataURL().length") > 1000
        assert seen == [
            "left: draw here", "clear left", "upload an image for left",
            "right: draw here", "clear right", "upload an image for right",
        ]  # fmt: skip
        page.wait_for_selector("#answer svg", timeout=30_000)
        page.locator("#right canvas").focus()
        page.keyboard.press("Delete")
        page.wait_for_selector("#answer svg", state="detached", timeout=30_000)


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on this machine")
def test_files_can_be_uploaded_and_replaced_by_drawings(port: int, tmp_path: Path) -> None:
    from demo_figure import SEVEN, draw_stroke, open_page

    draw_seven().save(tmp_path / "seven.png")
    (tmp_path / "bad.png").write_text("no image")
    with open_page(port, str(CHROMIUM)) as (page, _):
        page.locator("#left input").set_input_files(tmp_path / "seven.png")
        page.locator("#right input").set_input_files(tmp_path / "bad.png")
        page.get_by_text("bad.png is not a readable image").wait_for(timeout=30_000)
        draw_stroke(page, "right", SEVEN)
        page.wait_for_selector("#answer svg", timeout=30_000)
        assert page.locator("#right input").input_value() == ""
        page.locator("#left button").click()
        page.wait_for_selector("#answer svg", state="detached", timeout=30_000)
        page.locator("#left input").set_input_files(tmp_path / "seven.png")  # the same file once more
        page.wait_for_selector("#answer svg", timeout=30_000)


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on this machine")
def test_nothing_overlaps_or_leaves_the_page_on_a_telephone(port: int) -> None:
    from demo_figure import open_page

    with open_page(port, str(CHROMIUM)) as (page, _):
        page.set_viewport_size({"width": 390, "height": 800})
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        boxes = [page.locator(each).bounding_box() for each in ("#left input", "#right input")]
        assert all(box is not None and box["x"] + box["width"] <= 390 for box in boxes)
        first, second = boxes
        assert first is not None
        assert second is not None
        assert first["y"] + first["height"] <= second["y"]
